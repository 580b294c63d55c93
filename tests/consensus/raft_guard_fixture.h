/* A voter of libraft, with the guard or without, on a disk and network of the test's own.
 *
 * `struct fake_io` is a raft_io whose writes complete when the test says so and whose
 * messages are only recorded; time is a number. `setup` and `teardown` are a test's
 * checked fixture; `start` makes the voter. Each known defect of the library is provoked
 * twice, without the guard (row 0, where it shows) and with it (row 1, where it does
 * not). Where a test's row 0 stops failing, the library has been repaired and the guard's
 * part can go. All functions are inline so that no test has to use all of them.
 */
#pragma once

#include "consensus/raft_guard.h"
#include "consensus/raft_library.h"
#include "support/temp_dir.h"

#include <check.h>
#include <raft.h>

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
    raft_index snapshot_index;        /* the log begins behind it; 0: no snapshot */
    raft_term snapshot_term;
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

static inline int fake_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static inline void complete_writes(int status)
{
    unsigned count = fake.writes_count;
    fake.writes_count = 0;
    for (unsigned i = 0; i < count; i++) {
        fake.writes[i]->cb(fake.writes[i], status);
    }
}

/* And what is written behind them: a write is under way at a time. */
static inline void complete_all_writes(void)
{
    while (fake.writes_count > 0) {
        complete_writes(0);
    }
}

/* As the real one: what has not been written is cancelled. */
static inline void fake_close(struct raft_io *io, raft_io_close_cb done)
{
    complete_writes(RAFT_CANCELED);
    done(io);
}

static inline struct raft_snapshot *
fake_snapshot(const struct raft_configuration *members)
{
    struct raft_snapshot *snapshot = raft_calloc(1, sizeof(*snapshot));
    snapshot->index = fake.snapshot_index;
    snapshot->term = fake.snapshot_term;
    snapshot->configuration = *members;
    snapshot->configuration_index = 1;
    snapshot->bufs = raft_calloc(1, sizeof(*snapshot->bufs));
    snapshot->bufs[0] = (struct raft_buffer){.base = raft_calloc(1, 8), .len = 8};
    snapshot->n_bufs = 1;
    return snapshot;
}

/* Entry 1, or the snapshot, holds the members (ids 1..voters), the others eight bytes
 * each. */
static inline int fake_load(struct raft_io *io,
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
        bool first = i == 0 && fake.snapshot_index == 0;
        entries[i].type = first ? RAFT_CHANGE : RAFT_COMMAND;
        if (first) {
            ck_assert_int_eq(raft_configuration_encode(&members, &entries[i].buf), 0);
        } else {
            entries[i].buf.len = 8;
            entries[i].buf.base = raft_calloc(1, 8);
        }
        entries[i].batch = entries[i].buf.base;
    }
    *ret_term = fake.term;
    *ret_vote = fake.vote;
    *ret_snapshot = NULL;
    *ret_start = fake.snapshot_index + 1;
    if (fake.snapshot_index != 0) {
        *ret_snapshot = fake_snapshot(&members);
    } else {
        raft_configuration_close(&members);
    }
    *ret_entries = entries;
    *ret_count = fake.loaded;
    return 0;
}

static inline int
fake_start(struct raft_io *io, unsigned ms, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    (void)io;
    (void)ms;
    fake.tick = tick;
    fake.recv = recv;
    return 0;
}

static inline int fake_set_term(struct raft_io *io, raft_term term)
{
    (void)io;
    fake.term = term;
    fake.vote = 0;
    return 0;
}

static inline int fake_set_vote(struct raft_io *io, raft_id id)
{
    (void)io;
    fake.vote = id;
    return fake.set_vote_status;
}

static inline int fake_send(struct raft_io *io,
                            struct raft_io_send *request,
                            const struct raft_message *message,
                            raft_io_send_cb done)
{
    (void)io;
    if (fake.send_status != 0) {
        return fake.send_status;
    }
    if (fake.broken_id != 0 && message->server_id == fake.broken_id) {
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

static inline int fake_append(struct raft_io *io,
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

static inline int fake_truncate(struct raft_io *io, raft_index index)
{
    (void)io;
    (void)index;
    fake.writes_at_cut = fake.writes_count;
    return 0;
}

static inline int fake_snapshot_put(struct raft_io *io,
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

static inline void complete_put(void)
{
    struct raft_io_snapshot_put *put = fake.put;
    fake.put = NULL;
    put->cb(put, 0);
}

static inline raft_time fake_time(struct raft_io *io)
{
    (void)io;
    return fake.now;
}

static inline int fake_random(struct raft_io *io, int min, int max)
{
    (void)io;
    (void)max;
    return min;
}

static inline int
fsm_apply(struct raft_fsm *machine, const struct raft_buffer *buf, void **ret_result)
{
    (void)machine;
    (void)buf;
    *ret_result = NULL;
    applied++;
    return 0;
}

static inline int fsm_restore(struct raft_fsm *machine, struct raft_buffer *buf)
{
    (void)machine;
    raft_free(buf->base);
    return 0;
}

static inline void on_fatal(void *context, int code, const char *text)
{
    (void)context;
    ck_assert_int_eq(fatal, 0);
    ck_assert_str_ne(text, "");
    fatal = code;
}

static inline uint64_t free_bytes(void *context)
{
    (void)context;
    return UINT64_MAX;
}

static inline void on_changed(void *context)
{
    (void)context;
}

/* A voter with that many voters in its membership and a log of these terms, behind a
 * snapshot. */
static inline void start_behind(bool guarded,
                                unsigned voters,
                                raft_index snapshot_index,
                                raft_term snapshot_term,
                                const raft_term *terms,
                                unsigned count)
{
    fake = (struct fake_io){.voters = voters,
                            .terms = terms,
                            .loaded = count,
                            .snapshot_index = snapshot_index,
                            .snapshot_term = snapshot_term};
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

/* Likewise, without a snapshot. */
static inline void
start(bool guarded, unsigned voters, const raft_term *terms, unsigned count)
{
    start_behind(guarded, voters, 0, 0, terms, count);
}

static inline void setup(void)
{
    temp_dir_init(&dir);
    guard = NULL;
    standby = false;
    applied = 0;
    fatal = 0;
}

static inline void teardown(void)
{
    raft_close(&raft, NULL);
    guard = raft_guard_free(guard);
    log_seal_close(&seal);
    temp_dir_fini(&dir);
}

static inline void deliver(raft_id from, struct raft_message message)
{
    char address[8] = {(char)('0' + from)};
    message.server_id = from;
    message.server_address = address;
    fake.recv(&fake.io, &message);
}

static inline void tick_after(raft_time ms)
{
    fake.now += ms;
    fake.tick(&fake.io);
}

/* Elected by the first other voter, or by so many as are needed. */
static inline void elect(void)
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

static inline void acknowledge(raft_id from, raft_index last)
{
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES_RESULT};
    message.append_entries_result.term = raft.current_term;
    message.append_entries_result.last_log_index = last;
    deliver(from, message);
}

/* Entries of `term` from prev on, as a leader sends them; each eight bytes in one batch.
 */
static inline void append_committed(raft_id leader,
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

static inline void append_from(raft_id leader,
                               raft_term term,
                               raft_index prev,
                               raft_term prev_term,
                               unsigned count)
{
    append_committed(leader, term, prev, prev_term, count, 0);
}

static inline unsigned count_sent(unsigned short type)
{
    unsigned count = 0;
    for (unsigned i = 0; i < fake.sent_count; i++) {
        count += fake.sent[i].type == type;
    }
    return count;
}

static inline const struct raft_message *last_sent(unsigned short type)
{
    for (unsigned i = fake.sent_count; i > 0; i--) {
        if (fake.sent[i - 1].type == type) {
            return &fake.sent[i - 1];
        }
    }
    return NULL;
}

static const raft_term OLD_TAIL[] = {1, 2};
