/* The guard between libraft and a disk and network of the test's own: each known defect
 * of the library is provoked twice, without the guard (row 0, where it shows) and with it
 * (row 1, where it does not).
 *
 * `struct fake_io` is a raft_io whose writes complete when the test says so and whose
 * messages are only recorded; time is a number. Where a test's row 0 stops failing, the
 * library has been repaired and the guard's part can go.
 */
#include "consensus/raft_guard.h"
#include "consensus/raft_library.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <raft.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SENT_MAX   256
#define WRITES_MAX 64

struct fake_io {
    struct raft_io io;
    raft_time now;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    struct raft_message sent[SENT_MAX];
    unsigned sent_count;
    struct raft_io_append *writes[WRITES_MAX];
    unsigned write_entries[WRITES_MAX]; /* so many in each */
    unsigned writes_count;
    unsigned writes_at_cut;           /* under way when the log was cut */
    struct raft_io_snapshot_put *put; /* likewise; NULL: none */
    unsigned loaded;                  /* entries in the log at start */
    const raft_term *terms;           /* their terms */
    unsigned voters;
    raft_term term;
    raft_id vote;
    int set_vote_status;
    int send_status;
    raft_id
        broken_id; /* the channel to it has ended, and is made anew for what follows */
};

static struct fake_io fake;
static struct raft raft;
static struct raft_fsm fsm;
static struct raft_guard *guard;
static struct log_seal seal;
static struct work_pool *disk; /* of the seal; NULL: it waits */
static struct temp_dir dir;
static bool standby; /* this one, in the members */
static unsigned applied;
static int fatal;

static int fake_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static void complete_writes(int status)
{
    unsigned count = fake.writes_count;
    fake.writes_count = 0;
    for (unsigned i = 0; i < count; i++) {
        fake.writes[i]->cb(fake.writes[i], status);
    }
}

/* And what is written behind them: a write is under way at a time. */
static void complete_all_writes(void)
{
    while (fake.writes_count > 0) {
        complete_writes(0);
    }
}

/* As the real one: what has not been written is cancelled. */
static void fake_close(struct raft_io *io, raft_io_close_cb done)
{
    complete_writes(RAFT_CANCELED);
    done(io);
}

/* Entry 1 holds the members (ids 1..voters), the others eight bytes each. */
static int fake_load(struct raft_io *io,
                     raft_term *ret_term,
                     raft_id *ret_vote,
                     struct raft_snapshot **ret_snapshot,
                     raft_index *ret_start,
                     struct raft_entry **ret_entries,
                     size_t *ret_count)
{
    (void)io;
    struct raft_configuration members;
    raft_configuration_init(&members);
    for (unsigned id = 1; id <= fake.voters; id++) {
        char address[8] = {(char)('0' + id)};
        int role = id == 1 && standby ? RAFT_STANDBY : RAFT_VOTER;
        ck_assert_int_eq(raft_configuration_add(&members, id, address, role), 0);
    }
    struct raft_entry *entries = raft_calloc(fake.loaded, sizeof(*entries));
    for (unsigned i = 0; i < fake.loaded; i++) {
        entries[i].term = fake.terms[i];
        entries[i].type = i == 0 ? RAFT_CHANGE : RAFT_COMMAND;
        if (i == 0) {
            ck_assert_int_eq(raft_configuration_encode(&members, &entries[i].buf), 0);
        } else {
            entries[i].buf.len = 8;
            entries[i].buf.base = raft_calloc(1, 8);
        }
        entries[i].batch = entries[i].buf.base;
    }
    raft_configuration_close(&members);
    *ret_term = fake.term;
    *ret_vote = fake.vote;
    *ret_snapshot = NULL;
    *ret_start = 1;
    *ret_entries = entries;
    *ret_count = fake.loaded;
    return 0;
}

static int
fake_start(struct raft_io *io, unsigned ms, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    (void)io;
    (void)ms;
    fake.tick = tick;
    fake.recv = recv;
    return 0;
}

static int fake_set_term(struct raft_io *io, raft_term term)
{
    (void)io;
    fake.term = term;
    fake.vote = 0;
    return 0;
}

static int fake_set_vote(struct raft_io *io, raft_id id)
{
    (void)io;
    fake.vote = id;
    return fake.set_vote_status;
}

static int fake_send(struct raft_io *io,
                     struct raft_io_send *request,
                     const struct raft_message *message,
                     raft_io_send_cb done)
{
    (void)io;
    if (fake.send_status != 0) {
        return fake.send_status;
    }
    if (message->server_id == fake.broken_id) {
        fake.broken_id = 0;
        done(request, RAFT_IOERR);
        return 0;
    }
    ck_assert_uint_lt(fake.sent_count, SENT_MAX);
    fake.sent[fake.sent_count++] = *message;
    if (done != NULL) {
        done(request, 0);
    }
    return 0;
}

static int fake_append(struct raft_io *io,
                       struct raft_io_append *request,
                       const struct raft_entry entries[],
                       unsigned count,
                       raft_io_append_cb done)
{
    (void)io;
    (void)entries;
    ck_assert_uint_lt(fake.writes_count, WRITES_MAX);
    request->cb = done;
    fake.write_entries[fake.writes_count] = count;
    fake.writes[fake.writes_count++] = request;
    return 0;
}

static int fake_truncate(struct raft_io *io, raft_index index)
{
    (void)io;
    (void)index;
    fake.writes_at_cut = fake.writes_count;
    return 0;
}

static int fake_snapshot_put(struct raft_io *io,
                             unsigned trailing,
                             struct raft_io_snapshot_put *request,
                             const struct raft_snapshot *snapshot,
                             raft_io_snapshot_put_cb done)
{
    (void)io;
    (void)trailing;
    (void)snapshot;
    ck_assert_ptr_null(fake.put);
    request->cb = done;
    fake.put = request;
    return 0;
}

static void complete_put(void)
{
    struct raft_io_snapshot_put *put = fake.put;
    fake.put = NULL;
    put->cb(put, 0);
}

static raft_time fake_time(struct raft_io *io)
{
    (void)io;
    return fake.now;
}

static int fake_random(struct raft_io *io, int min, int max)
{
    (void)io;
    (void)max;
    return min;
}

static int
fsm_apply(struct raft_fsm *machine, const struct raft_buffer *buf, void **ret_result)
{
    (void)machine;
    (void)buf;
    *ret_result = NULL;
    applied++;
    return 0;
}

static int fsm_restore(struct raft_fsm *machine, struct raft_buffer *buf)
{
    (void)machine;
    raft_free(buf->base);
    return 0;
}

static void on_fatal(void *context, int code, const char *text)
{
    (void)context;
    ck_assert_int_eq(fatal, 0);
    ck_assert_str_ne(text, "");
    fatal = code;
}

static uint64_t free_bytes(void *context)
{
    (void)context;
    return UINT64_MAX;
}

static void on_changed(void *context)
{
    (void)context;
}

/* A voter with that many voters in its membership and a log of these terms. */
static void start(bool guarded, unsigned voters, const raft_term *terms, unsigned count)
{
    fake = (struct fake_io){.voters = voters, .terms = terms, .loaded = count};
    fake.term = terms[count - 1];
    fake.io = (struct raft_io){.version = 1,
                               .init = fake_init,
                               .close = fake_close,
                               .load = fake_load,
                               .start = fake_start,
                               .set_term = fake_set_term,
                               .set_vote = fake_set_vote,
                               .send = fake_send,
                               .append = fake_append,
                               .truncate = fake_truncate,
                               .snapshot_put = fake_snapshot_put,
                               .time = fake_time,
                               .random = fake_random};
    fsm = (struct raft_fsm){.version = 1, .apply = fsm_apply, .restore = fsm_restore};
    struct raft_guard_hooks hooks = {
        .fatal = on_fatal, .changed = on_changed, .free_bytes = free_bytes, .disk = disk};
    ck_assert_int_eq(log_seal_open(&seal, dir.path, 1, 0, NULL), 0);
    ck_assert_int_eq(log_seal_intend(&seal, fake.term, 0, NULL), 0);
    struct raft_io *io = &fake.io;
    if (guarded) {
        guard = raft_guard_new(&raft, &fake.io, &seal, &hooks);
        ck_assert_ptr_nonnull(guard);
        io = raft_guard_io(guard);
    }
    ck_assert_int_eq(raft_init(&raft, io, &fsm, 1, "1"), 0);
    raft_set_election_timeout(&raft, 300);
    raft_set_heartbeat_timeout(&raft, 30);
    ck_assert_int_eq(raft_start(&raft), 0);
}

static void setup(void)
{
    temp_dir_init(&dir);
    guard = NULL;
    standby = false;
    applied = 0;
    fatal = 0;
}

static void teardown(void)
{
    raft_close(&raft, NULL);
    guard = raft_guard_free(guard);
    log_seal_close(&seal);
    temp_dir_fini(&dir);
}

static void deliver(raft_id from, struct raft_message message)
{
    char address[8] = {(char)('0' + from)};
    message.server_id = from;
    message.server_address = address;
    fake.recv(&fake.io, &message);
}

static void tick_after(raft_time ms)
{
    fake.now += ms;
    fake.tick(&fake.io);
}

/* Elected by the first other voter, or by so many as are needed. */
static void elect(void)
{
    tick_after(601);
    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    for (raft_id id = 2; id <= fake.voters / 2 + 1; id++) {
        struct raft_message vote = {.type = RAFT_IO_REQUEST_VOTE_RESULT};
        vote.request_vote_result.term = raft.current_term;
        vote.request_vote_result.vote_granted = true;
        vote.request_vote_result.pre_vote = RAFT_LIBRARY_REAL_VOTE;
        deliver(id, vote);
    }
    ck_assert_int_eq(raft_state(&raft), RAFT_LEADER);
}

static void acknowledge(raft_id from, raft_index last)
{
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES_RESULT};
    message.append_entries_result.term = raft.current_term;
    message.append_entries_result.last_log_index = last;
    deliver(from, message);
}

/* Entries of `term` from prev on, as a leader sends them; each eight bytes in one batch.
 */
static void append_committed(raft_id leader,
                             raft_term term,
                             raft_index prev,
                             raft_term prev_term,
                             unsigned count,
                             raft_index commit)
{
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES};
    struct raft_append_entries *args = &message.append_entries;
    args->term = term;
    args->leader_commit = commit;
    args->prev_log_index = prev;
    args->prev_log_term = prev_term;
    args->n_entries = count;
    if (count > 0) {
        uint8_t *batch = raft_calloc(count, 8);
        args->entries = raft_calloc(count, sizeof(*args->entries));
        for (unsigned i = 0; i < count; i++) {
            args->entries[i] =
                (struct raft_entry){.term = term,
                                    .type = RAFT_COMMAND,
                                    .buf = {.base = batch + 8 * i, .len = 8},
                                    .batch = batch};
        }
    }
    deliver(leader, message);
}

static void append_from(raft_id leader,
                        raft_term term,
                        raft_index prev,
                        raft_term prev_term,
                        unsigned count)
{
    append_committed(leader, term, prev, prev_term, count, 0);
}

static unsigned count_sent(unsigned short type)
{
    unsigned count = 0;
    for (unsigned i = 0; i < fake.sent_count; i++) {
        count += fake.sent[i].type == type;
    }
    return count;
}

static const struct raft_message *last_sent(unsigned short type)
{
    for (unsigned i = fake.sent_count; i > 0; i--) {
        if (fake.sent[i - 1].type == type) {
            return &fake.sent[i - 1];
        }
    }
    return NULL;
}

/* ---- G1 ---- */

static const raft_term OLD_TAIL[] = {1, 2};

START_TEST(an_entry_of_an_old_term_is_not_committed_by_counting)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    elect(); /* term 3; entry 2 is of term 2 and on two disks of three as soon as 2 says
                so */

    if (guarded) {
        ck_assert_uint_eq(fake.writes_count, 1); /* the term's first goes out at once */
    }
    acknowledge(2, 2);

    const bool counted = !guarded && RAFT_LIBRARY_OPENING == 0;
    ck_assert_uint_eq(raft.commit_index >= 2, counted);
    ck_assert_uint_eq(applied, counted ? 1 : 0);
}
END_TEST

START_TEST(with_the_barrier_of_its_own_term_everything_before_is_committed)
{
    start(true, 3, OLD_TAIL, 2);
    elect();
    ck_assert(!raft_guard_ready(guard));
    complete_all_writes();
    acknowledge(2, 3 + RAFT_LIBRARY_OPENING);

    ck_assert_uint_eq(raft.commit_index, 3 + RAFT_LIBRARY_OPENING);
    ck_assert_uint_eq(applied, 1);
    ck_assert(raft_guard_ready(guard));
}
END_TEST

/* It may not count the answer to its first message, which says that nothing lies between
 * it and the barrier: without it the barrier waited for a heartbeat that is due. */
START_TEST(a_follower_that_answered_early_gets_the_barrier_as_soon_as_it_is_stored)
{
    start(true, 3, OLD_TAIL, 2);
    elect();
    acknowledge(2, 2);
    ck_assert_uint_eq(raft.commit_index, 1);
    const unsigned sent = count_sent(RAFT_IO_APPEND_ENTRIES);

    complete_all_writes();

    const struct raft_message *message = last_sent(RAFT_IO_APPEND_ENTRIES);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES), sent + 1);
    ck_assert_uint_eq(message->server_id, 2);
    ck_assert_uint_eq(message->append_entries.prev_log_index, 2);
    ck_assert_uint_eq(message->append_entries.n_entries, 1 + RAFT_LIBRARY_OPENING);
    ck_assert_uint_eq(raft.commit_index, 1); /* what it has of old terms is not counted */
    ck_assert_uint_eq(applied, 0);
    acknowledge(2, 3 + RAFT_LIBRARY_OPENING);
    ck_assert(raft_guard_ready(guard));
}
END_TEST

/* Who is deposed before its barrier is stored hears nothing of its own time. */
START_TEST(what_was_said_to_a_leader_of_before_is_not_heard)
{
    start(true, 3, OLD_TAIL, 2);
    elect();
    acknowledge(2, 2);
    append_from(3, 9, 1, 1, 0);
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    const unsigned sent = count_sent(RAFT_IO_APPEND_ENTRIES);

    complete_writes(0);

    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES), sent);
    ck_assert_int_eq(fatal, 0);
}
END_TEST

/* ---- G2 ---- */

START_TEST(after_a_failed_write_of_the_leader_no_index_is_used_twice)
{
    bool guarded = _i == 1;
    static struct raft_apply requests[2]; /* in the library until the end */
    start(guarded, 3, OLD_TAIL, 2);
    elect();
    complete_all_writes();
    acknowledge(2, raft_last_index(&raft));
    struct raft_buffer x = {.base = raft_calloc(1, 8), .len = 8};
    ck_assert_int_eq(raft_apply(&raft, &requests[0], &x, 1, NULL), 0);
    raft_index sent_as = raft_last_index(&raft);

    complete_writes(RAFT_IOERR);

    if (guarded) {
        ck_assert_int_eq(fatal, -EIO);
        ck_assert_uint_eq(raft_last_index(&raft),
                          sent_as); /* the library has heard nothing */
        unsigned sent = fake.sent_count;
        tick_after(30);
        acknowledge(2, sent_as);
        ck_assert_uint_eq(fake.sent_count, sent); /* and says nothing more */
        ck_assert_uint_eq(applied, 1);
    } else if (!RAFT_LIBRARY_IGNORES_WRITES) {
        ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    } else {
        struct raft_buffer y = {.base = raft_calloc(1, 8), .len = 8};
        ck_assert_int_eq(raft_apply(&raft, &requests[1], &y, 1, NULL), 0);
        ck_assert_uint_eq(raft_last_index(&raft),
                          sent_as); /* another entry under the same index */
    }
}
END_TEST

START_TEST(a_follower_whose_write_fails_acknowledges_nothing_and_stops)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 2);
    unsigned sent = fake.sent_count;
    complete_writes(RAFT_NOSPACE);

    ck_assert_int_eq(fatal, BERTH_EDISKFULL);
    ck_assert_uint_eq(fake.sent_count, sent);
    append_from(2, 3, 2, 2, 2);
    ck_assert_uint_eq(fake.sent_count, sent);
    ck_assert_uint_eq(fake.writes_count, 0);
}
END_TEST

/* Without the guard the library frees the entries twice here. */
START_TEST(an_answer_that_cannot_be_sent_is_a_lost_one)
{
    start(true, 3, OLD_TAIL, 2);
    fake.send_status = RAFT_NOMEM;
    append_from(2, 3, 9, 3, 2); /* does not join its log: refused without a write */
    ck_assert_uint_eq(fake.sent_count, 0);

    fake.send_status = 0;
    append_from(2, 3, 9, 3, 2);
    ck_assert_uint_ne(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.rejected, 0);
    ck_assert_int_eq(fatal, 0);
}
END_TEST

/* Without the guard the real network crashes over the address. */
START_TEST(a_write_that_outlasts_the_leader_is_answered_to_nobody)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 2);
    tick_after(601);
    if (!RAFT_LIBRARY_IGNORES_WRITES) {
        ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER); /* it waits for the write */
        return;
    }
    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 9;
    ask.request_vote.candidate_id = 3;
    ask.request_vote.last_log_index = 9;
    ask.request_vote.last_log_term = 4;
    deliver(3, ask);
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    unsigned sent = fake.sent_count;

    complete_writes(0);

    ck_assert_uint_eq(fake.sent_count, sent);
    ck_assert_int_eq(fatal, 0);
    append_from(3, 9, 4, 3, 0); /* and it goes on */
    ck_assert_uint_eq(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.last_log_index,
        4);
}
END_TEST

START_TEST(a_vote_that_cannot_be_stored_is_not_given)
{
    start(true, 3, OLD_TAIL, 2);
    fake.set_vote_status = RAFT_IOERR;
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 5;
    ask.request_vote.candidate_id = 2;
    ask.request_vote.last_log_index = 9;
    ask.request_vote.last_log_term = 4;
    deliver(2, ask);

    ck_assert_int_eq(fatal, -EIO);
    ck_assert_ptr_null(last_sent(RAFT_IO_REQUEST_VOTE_RESULT));
}
END_TEST

START_TEST(
    a_vote_for_itself_that_cannot_be_stored_ends_the_election_that_a_transfer_began)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 0); /* 2 leads in term 3 */
    fake.set_vote_status = RAFT_IOERR;
    struct raft_message now = {.type = RAFT_IO_TIMEOUT_NOW};
    now.timeout_now.term = 3;
    now.timeout_now.last_log_index = 2;
    now.timeout_now.last_log_term = 2;
    deliver(2, now);

    ck_assert_int_eq(fatal, -EIO);
    ck_assert_ptr_null(last_sent(RAFT_IO_REQUEST_VOTE));
}
END_TEST

/* ---- G3 ---- */

static const raft_term STALE_TAIL[] = {1, 2, 2, 2};

START_TEST(a_tail_that_the_leader_did_not_send_is_not_acknowledged)
{
    bool guarded = _i == 1;
    start(guarded, 3, STALE_TAIL, 4); /* entries 3 and 4 were never committed */
    append_from(2, 3, 2, 2, 0);       /* the new leader shares only 1 and 2 */

    const struct raft_message *message = last_sent(RAFT_IO_APPEND_ENTRIES_RESULT);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(message->append_entries_result.rejected, 0);
    ck_assert_uint_eq(message->append_entries_result.last_log_index, guarded ? 2 : 4);
}
END_TEST

START_TEST(what_the_leader_sent_and_the_disk_has_is_acknowledged)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 2);
    ck_assert_ptr_null(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)); /* not before it is stored */
    complete_writes(0);

    const struct raft_message *message = last_sent(RAFT_IO_APPEND_ENTRIES_RESULT);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(message->append_entries_result.last_log_index, 4);
}
END_TEST

/* ---- G16 ---- */

START_TEST(what_was_committed_before_is_applied_while_the_disk_writes)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 1);
    complete_writes(0);
    unsigned answers = count_sent(RAFT_IO_APPEND_ENTRIES_RESULT);

    append_committed(2, 3, 3, 3, 1, 3); /* the leader has committed entry 3 */
    ck_assert_uint_eq(raft.last_applied, guarded ? 3 : 1);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), answers);

    complete_writes(0);
    ck_assert_uint_eq(raft.last_applied, 3);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), answers + 1);
    ck_assert_uint_eq(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.last_log_index,
        4);
}
END_TEST

/* Taking it waits for the write under way, and libraft has room for one such wait. */
START_TEST(what_makes_a_snapshot_due_is_applied_when_the_disk_has_written)
{
    start(true, 3, OLD_TAIL, 2);
    raft_set_snapshot_threshold(&raft, 3);
    append_from(2, 3, 2, 2, 1);
    complete_writes(0);

    append_committed(2, 3, 3, 3, 1, 3);
    ck_assert_uint_eq(raft.last_applied, 1);
}
END_TEST

START_TEST(nothing_is_applied_that_the_leader_has_not_shown_to_match)
{
    start(true, 3, STALE_TAIL, 4);      /* entries 3 and 4 were never committed */
    append_committed(2, 3, 2, 2, 2, 4); /* others are, in their place */
    ck_assert_uint_eq(raft.last_applied, 2);

    complete_writes(0);
    ck_assert_uint_eq(raft.last_applied, 4);
    ck_assert_uint_eq(raft_guard_term_of(guard, 4), 3);
}
END_TEST

START_TEST(a_leader_that_does_not_match_has_nothing_applied)
{
    start(true, 3, STALE_TAIL, 4);
    append_committed(2, 3, 4, 3, 1, 4); /* its entry 4 is of term 3 */

    ck_assert_uint_eq(raft.last_applied, 1);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), 1);
    ck_assert_uint_eq(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.rejected, 4);
}
END_TEST

/* ---- G4 ---- */

START_TEST(the_target_of_a_transfer_gets_no_second_vote_in_one_term)
{
    bool guarded = _i == 1;
    static struct raft_transfer transfer; /* in the library until the end */
    start(guarded, 3, OLD_TAIL, 2);
    elect();
    complete_writes(0);
    acknowledge(3, raft_last_index(&raft));
    ck_assert_int_eq(raft_transfer(&raft, &transfer, 3, NULL), 0);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = raft.current_term + 1;
    ask.request_vote.candidate_id = 2;
    ask.request_vote.last_log_index = 9;
    ask.request_vote.last_log_term = raft.current_term;
    ask.request_vote.disrupt_leader = true;
    deliver(2, ask);
    ck_assert_uint_eq(raft.voted_for, 2);

    ask.request_vote.candidate_id = 3;
    deliver(3, ask);

    ck_assert_uint_eq(raft.voted_for, guarded ? 2 : 3);
}
END_TEST

/* ---- G19 ---- */

START_TEST(the_only_voter_begins_a_term_of_its_own_at_each_start)
{
    bool guarded = _i == 1;
    static const raft_term terms[] = {1, 4};
    start(guarded, 1, terms, 2);
    ck_assert_int_eq(raft_state(&raft), RAFT_LEADER);
    ck_assert_uint_eq(raft.current_term, guarded ? 5 : 4);
    ck_assert_uint_eq(fake.term, guarded ? 5 : 4);
    ck_assert_uint_eq(fake.vote, guarded ? 1 : 0);
}
END_TEST

START_TEST(the_only_voter_leads_in_no_term_that_another_may_lead_in)
{
    bool guarded = _i == 1;
    static const raft_term terms[] = {1, 4};
    start(guarded, 1, terms, 2);
    append_from(2, 9, 2, 4, 0); /* somebody of a later term */
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    tick_after(601);
    ck_assert_int_eq(raft_state(&raft), RAFT_LEADER);
    ck_assert_uint_eq(raft.current_term, guarded ? 10 : 9);
    ck_assert_uint_eq(fake.vote, guarded ? 1 : 0);
}
END_TEST

/* ---- G14 ---- */

/* As when 2 has promoted this one and could not tell. */
START_TEST(a_standby_that_hears_no_leader_any_more_votes_when_it_is_asked)
{
    bool guarded = _i == 1;
    standby = true;
    start(guarded, 2, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 0);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 4;
    ask.request_vote.candidate_id = 2;
    ask.request_vote.last_log_index = 3;
    ask.request_vote.last_log_term = 3;
    tick_after(299);
    deliver(2, ask);
    ck_assert_uint_eq(fake.vote, 0); /* it has a leader */

    tick_after(1);
    deliver(2, ask);

    ck_assert_uint_eq(fake.vote, guarded ? 2 : 0);
    ck_assert_uint_eq(raft.voted_for, fake.vote);
    ck_assert_int_eq(raft.configuration.servers[0].role, RAFT_STANDBY);
    tick_after(1000);
    ck_assert_int_eq(raft_state(&raft),
                     RAFT_FOLLOWER); /* and stands for nothing itself */
}
END_TEST

/* ---- G17 ---- */

START_TEST(a_voter_that_heard_no_leader_for_an_election_timeout_gives_its_vote)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 0);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 4;
    ask.request_vote.candidate_id = 3;
    ask.request_vote.last_log_index = 3;
    ask.request_vote.last_log_term = 3;
    tick_after(299);
    deliver(3, ask);
    ck_assert_uint_eq(fake.vote, 0); /* it has a leader */

    raft.follower_state.randomized_election_timeout = 600;
    tick_after(1);
    deliver(3, ask);

    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    ck_assert_uint_eq(fake.vote, guarded ? 3 : 0);
}
END_TEST

/* ---- G18 ---- */

/* The peer's process is another one than the channel led to. */
START_TEST(a_request_for_a_vote_whose_channel_has_ended_is_sent_once_more)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    fake.broken_id = 2;
    raft_set_pre_vote(&raft, true);

    tick_after(601);

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(count_sent(RAFT_IO_REQUEST_VOTE), guarded ? 2 : 1);
    ck_assert_uint_eq(fake.broken_id, 0);
}
END_TEST

/* ---- G15 ---- */

START_TEST(who_is_refused_a_pre_vote_for_its_term_learns_of_the_higher_one)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 9;
    ask.request_vote.candidate_id = 3; /* whose log is short */
    ask.request_vote.last_log_index = 1;
    ask.request_vote.last_log_term = 1;
    deliver(3, ask);
    ck_assert_uint_eq(raft.current_term, 9);

    ask.request_vote.term = 5;
    ask.request_vote.candidate_id = 2;
    ask.request_vote.last_log_index = 7;
    ask.request_vote.last_log_term = 4;
    ask.request_vote.pre_vote = true;
    deliver(2, ask);

    const struct raft_request_vote_result *result =
        &last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result;
    ck_assert(!result->vote_granted);
    ck_assert_uint_eq(result->term, guarded ? 9 : 5);
}
END_TEST

/* ---- G22 ---- */

static void give_vote(raft_id id, bool is_ahead)
{
    struct raft_message vote = {.type = RAFT_IO_REQUEST_VOTE_RESULT};
    vote.request_vote_result.term = raft.current_term + (is_ahead ? 1 : 0);
    vote.request_vote_result.vote_granted = true;
    vote.request_vote_result.pre_vote =
        is_ahead ? RAFT_LIBRARY_PRE_VOTE : RAFT_LIBRARY_REAL_VOTE;
#ifdef RAFT_VERSION_NUMBER
    vote.request_vote_result.version = 2; /* one that says which of the two it is */
#endif
    deliver(id, vote);
}

START_TEST(a_candidate_without_votes_asks_before_it_raises_its_term_again)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    raft_set_pre_vote(&raft, true);
    tick_after(601);
    const raft_term term = raft.current_term;
    give_vote(2, true);
    ck_assert_uint_eq(raft.current_term, term + 1);
    ck_assert(!last_sent(RAFT_IO_REQUEST_VOTE)->request_vote.pre_vote);

    for (unsigned i = 0; i < 5; i++) { /* it is cut off */
        tick_after(1201);
    }

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(raft.current_term, term + (guarded ? 1 : 6));
    ck_assert(last_sent(RAFT_IO_REQUEST_VOTE)->request_vote.pre_vote == guarded);
    if (guarded) {
        give_vote(3, true);
        ck_assert_uint_eq(raft.current_term, term + 2);
    }
    give_vote(3, false);
    ck_assert_int_eq(raft_state(&raft), RAFT_LEADER);
}
END_TEST

/* A leader that has named it is not there any more, or has thought better of it. */
START_TEST(who_did_not_take_over_asks_as_anybody_does)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    raft_set_pre_vote(&raft, true);
    struct raft_message take = {.type = RAFT_IO_TIMEOUT_NOW};
    take.timeout_now.term = 3;
    take.timeout_now.last_log_index = take.timeout_now.last_log_term = 2;
    append_from(2, 3, 2, 2, 0); /* whose term is 3 */
    deliver(2, take);
    ck_assert(last_sent(RAFT_IO_REQUEST_VOTE)->request_vote.disrupt_leader);
    const raft_term term = raft.current_term;

    tick_after(1201);

    const struct raft_request_vote *ask = &last_sent(RAFT_IO_REQUEST_VOTE)->request_vote;
    ck_assert(ask->disrupt_leader != guarded && ask->pre_vote == guarded);
    ck_assert_uint_eq(raft.current_term, term + (guarded ? 0 : 1));
}
END_TEST

/* ---- G18 ---- */

START_TEST(what_is_appended_during_a_write_goes_with_the_next_in_one_batch)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 1);
    append_from(2, 3, 3, 3, 2);
    append_from(2, 3, 5, 3, 1);
    ck_assert_uint_eq(fake.writes_count, guarded ? 1 : 3);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), 0);

    complete_writes(0);

    ck_assert_uint_eq(fake.writes_count, guarded ? 1 : 0);
    ck_assert_uint_eq(fake.write_entries[0], guarded ? 3 : 1);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), guarded ? 1 : 3);
    complete_writes(0);
    ck_assert_uint_eq(fake.writes_count, 0);
    ck_assert_uint_eq(raft.last_stored, 6);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), 3);
}
END_TEST

/* What waits stands in front of what cuts it off. */
START_TEST(the_log_is_cut_behind_what_was_to_be_written_before)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 1);
    append_from(2, 3, 3, 3, 1);
    append_from(2, 3, 4, 3, 1);
    ck_assert_uint_eq(fake.writes_count, 1);

    append_from(3, 4, 3, 3, 1); /* a later leader has another entry 4 */

    ck_assert_uint_eq(fake.writes_at_cut, 2);
    ck_assert_uint_eq(fake.write_entries[1], 2);
    ck_assert_uint_eq(fake.writes_count, 2); /* its own waits for both */
    complete_writes(0);
    ck_assert_uint_eq(fake.writes_count, 1);
    complete_writes(0);
    ck_assert_uint_eq(raft_guard_term_of(guard, 4), 4);
    ck_assert_uint_eq(raft.last_stored, 4);
}
END_TEST

START_TEST(what_waits_is_not_written_after_a_write_that_failed)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 1);
    append_from(2, 3, 3, 3, 1);

    complete_writes(RAFT_IOERR);

    ck_assert_int_eq(fatal, -EIO);
    ck_assert_uint_eq(fake.writes_count, 0);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), 0);
}
END_TEST

/* ---- G21 ---- */

/* Those with ids up to that. */
static void make_members(unsigned voters, struct raft_configuration *ret)
{
    raft_configuration_init(ret);
    for (unsigned id = 1; id <= voters; id++) {
        char address[8] = {(char)('0' + id)};
        ck_assert_int_eq(raft_configuration_add(ret, id, address, RAFT_VOTER), 0);
    }
}

/* Entry 3, of term 3, by leader 2. */
static void append_change(unsigned voters)
{
    struct raft_configuration members;
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES};
    struct raft_append_entries *args = &message.append_entries;
    args->term = 3;
    args->prev_log_index = args->prev_log_term = 2;
    args->n_entries = 1;
    args->entries = raft_calloc(1, sizeof(*args->entries));
    args->entries[0].term = 3;
    args->entries[0].type = RAFT_CHANGE;
    make_members(voters, &members);
    ck_assert_int_eq(raft_configuration_encode(&members, &args->entries[0].buf), 0);
    args->entries[0].batch = args->entries[0].buf.base;
    raft_configuration_close(&members);
    deliver(2, message);
}

/* Time is up for a follower; what is said of it. */
static const char *tick_and_listen(void)
{
    static char said[512];
    FILE *heard = tmpfile();
    const int own = dup(STDERR_FILENO);
    ck_assert(heard != NULL && own >= 0);
    ck_assert_int_ge(dup2(fileno(heard), STDERR_FILENO), 0);
    tick_after(601);
    ck_assert_int_ge(dup2(own, STDERR_FILENO), 0);
    (void)close(own);
    rewind(heard);
    said[fread(said, 1, sizeof(said) - 1, heard)] = '\0';
    (void)fclose(heard);
    return said;
}

START_TEST(who_stands_for_election_counts_the_newest_members_of_its_log)
{
    bool waits = _i == 1 || !RAFT_LIBRARY_IGNORES_WRITES;
    start(_i == 1, 4, OLD_TAIL, 2);
    append_change(3);
    append_from(2, 3, 3, 3, 1); /* behind it, in a write of its own */
    const char *said = tick_and_listen();
    ck_assert(!RAFT_LIBRARY_IGNORES_WRITES || _i != 1 ||
              strstr(said, "a change of members is not on the disk") != NULL);
    ck_assert_int_eq(raft_state(&raft), waits ? RAFT_FOLLOWER : RAFT_CANDIDATE);
    ck_assert_uint_eq(raft.configuration.n, 4);

    complete_all_writes();

    ck_assert_uint_eq(raft.last_stored, 4);
    ck_assert_uint_eq(raft.configuration.n, waits ? 3 : 4);
    tick_after(RAFT_LIBRARY_IGNORES_WRITES ? 1 : 601); /* its time is up long since */
    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
}
END_TEST

START_TEST(who_is_to_take_over_counts_the_newest_members_of_its_log)
{
    bool waits = _i == 1 || !RAFT_LIBRARY_IGNORES_WRITES;
    start(_i == 1, 4, OLD_TAIL, 2);
    append_change(3);
    struct raft_message now = {.type = RAFT_IO_TIMEOUT_NOW};
    now.timeout_now.term = now.timeout_now.last_log_index =
        now.timeout_now.last_log_term = 3;
    deliver(2, now);
    ck_assert_int_eq(raft_state(&raft), waits ? RAFT_FOLLOWER : RAFT_CANDIDATE);

    complete_all_writes();
    deliver(2, now);

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(raft.configuration.n, waits ? 3 : 4);
}
END_TEST

START_TEST(who_waits_for_a_change_on_its_way_to_the_disk_gives_its_vote)
{
    start(true, 3, OLD_TAIL, 2);
    append_change(3);
    if (!RAFT_LIBRARY_IGNORES_WRITES) {
        return; /* that one believes in its leader while it waits */
    }
    for (unsigned i = 0; i < 3; i++) {
        tick_after(601);
    }
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 4;
    ask.request_vote.candidate_id = 3;
    ask.request_vote.last_log_index = ask.request_vote.last_log_term = 3;

    deliver(3, ask);

    ck_assert_uint_eq(fake.vote, 3);
    ck_assert_uint_eq(raft.last_stored, 2);
}
END_TEST

START_TEST(a_change_that_is_cut_off_keeps_nobody_from_an_election)
{
    start(true, 4, OLD_TAIL, 2);
    append_change(3);
    tick_after(601);
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);

    append_from(3, 4, 2, 2, 1); /* a later leader has another entry 3 */
    if (!RAFT_LIBRARY_IGNORES_WRITES) {
        complete_all_writes(); /* for which that one waits */
    }
    tick_after(601);

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    complete_all_writes();
    ck_assert_uint_eq(raft.configuration.n, 4);
}
END_TEST

START_TEST(who_could_not_write_a_change_stops)
{
    start(true, 4, OLD_TAIL, 2);
    append_change(3);
    tick_after(601);

    complete_writes(RAFT_IOERR);

    ck_assert_int_eq(fatal, -EIO);
    tick_after(601);
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
}
END_TEST

START_TEST(who_gets_a_snapshot_stands_for_election_when_its_disk_has_it)
{
    bool waits = _i == 1 || !RAFT_LIBRARY_IGNORES_WRITES;
    start(_i == 1, 4, OLD_TAIL, 2);
    struct raft_message message = {.type = RAFT_IO_INSTALL_SNAPSHOT};
    struct raft_install_snapshot *args = &message.install_snapshot;
    args->term = args->last_term = 3;
    args->last_index = args->conf_index = 9;
    args->data = (struct raft_buffer){.base = raft_calloc(1, 8), .len = 8};
    make_members(3, &args->conf);
    deliver(2, message);
    const char *said = tick_and_listen();
    ck_assert(!RAFT_LIBRARY_IGNORES_WRITES || _i != 1 ||
              strstr(said, "a received snapshot is not on the disk") != NULL);
    ck_assert_int_eq(raft_state(&raft), waits ? RAFT_FOLLOWER : RAFT_CANDIDATE);

    complete_put();
    tick_after(601);

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(raft.configuration.n, 3);
}
END_TEST

/* ---- the end ---- */

START_TEST(a_leader_closes_unharmed_with_several_appends_under_way)
{
    static struct raft_apply requests[2]; /* in the library until the end */
    start(true, 3, OLD_TAIL, 2);
    elect(); /* the barrier */
    for (unsigned i = 0; i < 2; i++) {
        struct raft_buffer buf = {.base = raft_calloc(1, 8), .len = 8};
        ck_assert_int_eq(raft_apply(&raft, &requests[i], &buf, 1, NULL), 0);
    }
    ck_assert_uint_eq(fake.writes_count, 1); /* the others wait for it */

    raft_close(&raft, NULL);

    ck_assert_uint_eq(fake.writes_count, 0);
    guard = raft_guard_free(guard);
    log_seal_close(&seal);
    start(true, 3, OLD_TAIL, 2); /* for the teardown */
}
END_TEST

/* ---- G9 ---- */

START_TEST(a_log_shorter_than_the_seal_does_not_start)
{
    static const raft_term terms[] = {1, 1, 1};
    start(true, 3, terms, 3);
    raft_guard_seal(guard);
    ck_assert_uint_eq(seal.state.index, 3);
    raft_close(&raft, NULL);
    guard = raft_guard_free(guard);
    struct raft_guard_hooks hooks = {
        .fatal = on_fatal, .changed = on_changed, .free_bytes = free_bytes};
    guard = raft_guard_new(&raft, &fake.io, &seal, &hooks);
    fake.loaded = 2;
    ck_assert_int_eq(raft_init(&raft, raft_guard_io(guard), &fsm, 1, "1"), 0);

    ck_assert_int_eq(raft_start(&raft), RAFT_CORRUPT);
    ck_assert_ptr_nonnull(strstr(raft_guard_io(guard)->errmsg, "ends at index 2"));
}
END_TEST

START_TEST(cutting_the_log_lowers_the_seal_first)
{
    start(true, 3, STALE_TAIL, 4);
    raft_guard_seal(guard);
    ck_assert_uint_eq(seal.state.index, 4);
    append_from(2, 3, 2, 2, 1); /* replaces 3 and 4 */

    ck_assert_uint_eq(seal.state.index, 2);
    ck_assert_uint_eq(seal.state.index_term, 2);
    complete_writes(0);
    raft_guard_seal(guard);
    ck_assert_uint_eq(seal.state.index, 3);
    ck_assert_uint_eq(seal.state.index_term, 3);
}
END_TEST

START_TEST(a_seal_that_is_written_off_the_loop_halts_when_it_cannot_be)
{
    static const raft_term terms[] = {1, 1, 1};
    uv_loop_t loop;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    disk = work_pool_new(&loop, 1, 1);
    start(true, 3, terms, 3);
    char *path = temp_dir_path(&dir, LOG_SEAL_FILE);
    ck_assert_int_eq(unlink(path), 0);

    raft_guard_seal(guard);
    ck_assert_int_eq(fatal, 0); /* under way */
    while (fatal == 0) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }

    ck_assert_int_eq(fatal, -ENOENT);
    ck_assert(raft_guard_halted(guard));
    ck_assert_uint_eq(seal.state.index, 0);
    work_pool_close(disk);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    free(path);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_guard");
    TCase *tcase = tcase_create("raft_guard");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, an_entry_of_an_old_term_is_not_committed_by_counting, 0,
                        2);
    tcase_add_test(tcase,
                   with_the_barrier_of_its_own_term_everything_before_is_committed);
    tcase_add_test(
        tcase, a_follower_that_answered_early_gets_the_barrier_as_soon_as_it_is_stored);
    tcase_add_test(tcase, what_was_said_to_a_leader_of_before_is_not_heard);
    tcase_add_loop_test(
        tcase, a_request_for_a_vote_whose_channel_has_ended_is_sent_once_more, 0, 2);
    tcase_add_loop_test(
        tcase, a_candidate_without_votes_asks_before_it_raises_its_term_again, 0, 2);
    tcase_add_loop_test(tcase, who_did_not_take_over_asks_as_anybody_does, 0, 2);
    tcase_add_loop_test(tcase, after_a_failed_write_of_the_leader_no_index_is_used_twice,
                        0, 2);
    tcase_add_test(tcase, a_follower_whose_write_fails_acknowledges_nothing_and_stops);
    tcase_add_test(tcase, an_answer_that_cannot_be_sent_is_a_lost_one);
    tcase_add_test(tcase, a_write_that_outlasts_the_leader_is_answered_to_nobody);
    tcase_add_test(tcase, a_vote_that_cannot_be_stored_is_not_given);
    tcase_add_test(
        tcase,
        a_vote_for_itself_that_cannot_be_stored_ends_the_election_that_a_transfer_began);
    tcase_add_loop_test(tcase, a_tail_that_the_leader_did_not_send_is_not_acknowledged, 0,
                        2);
    tcase_add_test(tcase, what_the_leader_sent_and_the_disk_has_is_acknowledged);
    tcase_add_loop_test(tcase, what_was_committed_before_is_applied_while_the_disk_writes,
                        0, 2);
    tcase_add_test(tcase, what_makes_a_snapshot_due_is_applied_when_the_disk_has_written);
    tcase_add_test(tcase, nothing_is_applied_that_the_leader_has_not_shown_to_match);
    tcase_add_test(tcase, a_leader_that_does_not_match_has_nothing_applied);
    tcase_add_loop_test(tcase, the_target_of_a_transfer_gets_no_second_vote_in_one_term,
                        0, 2);
    tcase_add_loop_test(
        tcase, a_standby_that_hears_no_leader_any_more_votes_when_it_is_asked, 0, 2);
    tcase_add_loop_test(
        tcase, a_voter_that_heard_no_leader_for_an_election_timeout_gives_its_vote, 0, 2);
    tcase_add_loop_test(
        tcase, who_is_refused_a_pre_vote_for_its_term_learns_of_the_higher_one, 0, 2);
    tcase_add_loop_test(tcase, the_only_voter_begins_a_term_of_its_own_at_each_start, 0,
                        2);
    tcase_add_loop_test(tcase, the_only_voter_leads_in_no_term_that_another_may_lead_in,
                        0, 2);
    tcase_add_loop_test(
        tcase, what_is_appended_during_a_write_goes_with_the_next_in_one_batch, 0, 2);
    tcase_add_test(tcase, the_log_is_cut_behind_what_was_to_be_written_before);
    tcase_add_test(tcase, what_waits_is_not_written_after_a_write_that_failed);
    tcase_add_loop_test(
        tcase, who_stands_for_election_counts_the_newest_members_of_its_log, 0, 2);
    tcase_add_loop_test(tcase, who_is_to_take_over_counts_the_newest_members_of_its_log,
                        0, 2);
    tcase_add_test(tcase, who_waits_for_a_change_on_its_way_to_the_disk_gives_its_vote);
    tcase_add_test(tcase, a_change_that_is_cut_off_keeps_nobody_from_an_election);
    tcase_add_test(tcase, who_could_not_write_a_change_stops);
    tcase_add_loop_test(
        tcase, who_gets_a_snapshot_stands_for_election_when_its_disk_has_it, 0, 2);
    tcase_add_test(tcase, a_leader_closes_unharmed_with_several_appends_under_way);
    tcase_add_test(tcase, a_log_shorter_than_the_seal_does_not_start);
    tcase_add_test(tcase, cutting_the_log_lowers_the_seal_first);
    tcase_add_test(tcase, a_seal_that_is_written_off_the_loop_halts_when_it_cannot_be);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
