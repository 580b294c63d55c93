#include "consensus/raft_guard.h"

#include "base/log.h"
#include "base/require.h"
#include "base/where.h"
#include "consensus/raft_acks.h"
#include "consensus/raft_appends.h"
#include "consensus/raft_discards.h"
#include "consensus/raft_library.h"
#include "consensus/raft_matched.h"
#include "consensus/raft_members.h"
#include "consensus/raft_prefix.h"
#include "consensus/raft_refusals.h"
#include "consensus/raft_resends.h"
#include "consensus/raft_votes.h"

#include <raft.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM                "consensus"
#define APPEND_SPACE_MIN    (UINT64_C(16) << 20) /* two segments; libraft crashes below */
#define SNAPSHOT_LOST_TIMES 2 /* election timeouts; a rejection is older before that */
#define TEXT_SIZE           (RAFT_ERRMSG_BUF_SIZE + 128)

struct raft_guard {
    struct raft_io outer;
    struct raft_io *inner;
    struct raft *raft;
    struct log_seal *seal;
    struct raft_guard_hooks hooks;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    raft_io_close_cb close;
    struct raft_appends appends;
    struct raft_io_snapshot_put put;        /* libraft has one at a time */
    struct raft_io_snapshot_put *put_outer; /* NULL: none under way */
    bool put_received;                      /* from the leader; else taken here */
    bool put_withheld;                      /* it has failed, libraft must not know */
    bool halted;
    bool closing;
    bool held_back;              /* G21: its time is up, and it waits for its disk */
    bool applying_early;         /* G16: what libraft answers meanwhile is not sent */
    uint64_t barrier_term;       /* of the last election barrier */
    uint64_t ready_term;         /* its barrier is applied */
    struct raft_acks early;      /* G1: heard when the barrier is stored */
    struct raft_resends resends; /* G20 */
    struct raft_refusals refusals;
    struct raft_matched matched;       /* G3 */
    struct raft_members members;       /* G6 */
    struct raft_snapshot put_snapshot; /* what is put: libraft's, with its members */
};

static struct raft_guard *guard_of(struct raft_io *io)
{
    return io->impl;
}

static int result_of(struct raft_guard *guard, int r)
{
    if (r != 0) {
        memcpy(guard->outer.errmsg, guard->inner->errmsg, sizeof(guard->outer.errmsg));
    }
    return r;
}

/* ---- the log, read ---- */

uint64_t raft_guard_term_of(const struct raft_guard *guard, uint64_t index)
{
    return raft_library_term_of(guard->raft, index);
}

unsigned raft_guard_tail_count(const struct raft_guard *guard, size_t bytes_max)
{
    const struct raft *raft = guard->raft;
    uint64_t index = raft_last_index(guard->raft);
    size_t bytes = 0;
    unsigned count = 0;
    for (const struct raft_entry *entry = raft_library_entry(raft, index); entry != NULL;
         entry = raft_library_entry(raft, --index)) {
        bytes += entry->buf.len;
        if (bytes > bytes_max) {
            break;
        }
        count++;
    }
    return count;
}

/* ---- halting ---- */

void raft_guard_halt(struct raft_guard *guard, int code, const char *text)
{
    if (guard->halted || guard->closing) {
        return;
    }
    guard->halted = guard->resends.ended = true;
    log_error(ROOM, "raft halted", KV_STR("error", err_name(code)), KV_STR("why", text));
    guard->hooks.fatal(guard->hooks.context, code, text);
}

static int code_of(int status)
{
    return status == RAFT_NOSPACE ? BERTH_EDISKFULL
                                  : (status == RAFT_NOMEM ? -ENOMEM : -EIO);
}

static void halt_io(struct raft_guard *guard, const char *what, int status)
{
    char text[TEXT_SIZE];
    (void)snprintf(text, sizeof(text), "%s: %s: %s", what, raft_strerror(status),
                   guard->inner->errmsg);
    raft_guard_halt(guard, code_of(status), text);
}

bool raft_guard_halted(const struct raft_guard *guard)
{
    return guard->halted;
}

static bool is_silent(const struct raft_guard *guard)
{
    return guard->halted || guard->closing;
}

/* ---- G1: the barrier of each new leader ---- */

static void on_election_barrier(struct raft_barrier *barrier, int status)
{
    struct raft_guard *guard = barrier->data;
    if (status == 0 && guard->raft->state == RAFT_LEADER) {
        guard->ready_term = guard->raft->current_term;
    }
    free(barrier);
}

static void bar_old_terms(struct raft_guard *guard)
{
    struct raft *raft = guard->raft;
    if (raft->state != RAFT_LEADER || guard->barrier_term == raft->current_term) {
        return;
    }
    struct raft_barrier *barrier = calloc(1, sizeof(*barrier));
    if (barrier == NULL) {
        raft_guard_halt(guard, -ENOMEM, "no memory for the election's barrier");
        return;
    }
    barrier->data = guard;
    guard->barrier_term = raft->current_term;
    int r = raft_barrier(raft, barrier, on_election_barrier);
    if (r != 0) {
        free(barrier);
        raft_guard_halt(guard, code_of(r), "the election's barrier cannot be appended");
    }
}

bool raft_guard_ready(const struct raft_guard *guard)
{
    return !guard->halted && guard->raft->state == RAFT_LEADER &&
           guard->ready_term == guard->raft->current_term;
}

/* Whether counting acknowledgements could commit an old term's entry. */
static bool is_early(const struct raft_guard *guard)
{
    const struct raft *raft = guard->raft;
    return raft_guard_term_of(guard, raft->last_stored) != raft->current_term;
}

/* Hides acknowledgements, and keeps them, as long as they come too early. */
static void hide_early_acks(struct raft_guard *guard, struct raft_message *message)
{
    struct raft *raft = guard->raft;
    struct raft_append_entries_result *result = &message->append_entries_result;
    if (raft->state == RAFT_LEADER && result->rejected == 0 &&
        result->term == raft->current_term && is_early(guard)) {
        raft_acks_keep(&guard->early,
                       (struct raft_ack){.from = message->server_id,
                                         .term = result->term,
                                         .last_index = result->last_log_index});
        result->last_log_index = 0;
    }
}

/* The barrier is stored: what came before it is heard now. The first message to each
 * follower, which it answers, is one without entries, and libraft sends the next one only
 * when it knows the answer, or a heartbeat is due. */
static void hear_early_acks(struct raft_guard *guard)
{
    struct raft *raft = guard->raft;
    struct raft_ack ack;
    while (raft->state == RAFT_LEADER && !guard->halted && !is_early(guard) &&
           raft_acks_take(&guard->early, raft->current_term, &ack)) {
        struct raft_message message = {
            .type = RAFT_IO_APPEND_ENTRIES_RESULT,
            .server_id = ack.from,
            .server_address = "",
            .append_entries_result = {.term = ack.term,
                                      .last_log_index = ack.last_index}};
        guard->recv(&guard->outer, &message);
    }
}

/* ---- G10: snapshots that were lost on the way ---- */

/* A follower that gets a snapshot hears heartbeats behind it on the same channel, so a
 * rejection that comes well after it was sent says that it, or its answer, is gone.
 * libraft would wait 30 seconds; a rejection of the snapshot's own index makes it look
 * anew where the follower stands. */
static void notice_lost_snapshot(struct raft_guard *guard, struct raft_message *message)
{
    struct raft *raft = guard->raft;
    struct raft_append_entries_result *result = &message->append_entries_result;
    if (raft->state != RAFT_LEADER || result->rejected == 0 ||
        result->term != raft->current_term) {
        return;
    }
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const raft_library_progress *progress = raft_library_progress_of(raft, i);
        if (raft->configuration.servers[i].id == message->server_id && progress != NULL &&
            progress->state == RAFT_LIBRARY_PROGRESS_SNAPSHOT &&
            raft->io->time(raft->io) - progress->snapshot_last_send >=
                (raft_time)raft->election_timeout * SNAPSHOT_LOST_TIMES) {
            result->rejected = progress->snapshot_index;
        }
    }
}

/* ---- G3: what has been matched ---- */

static bool is_matched(const struct raft_guard *guard,
                       const struct raft_append_entries *args)
{
    return args->prev_log_index == 0 ||
           (args->prev_log_term != 0 &&
            raft_guard_term_of(guard, args->prev_log_index) == args->prev_log_term);
}

/* ---- G6: members ---- */

static void roll_back_members(struct raft_guard *guard,
                              const struct raft_append_entries *args)
{
    const int r = raft_members_roll_back(&guard->members, guard->raft,
                                         raft_members_conflict(guard->raft, args));
    if (r < 0) {
        raft_guard_halt(guard, r, "a change of members cannot be rolled back");
    } else if (r > 0) {
        log_warn(ROOM, "change of members rolled back",
                 KV_U64("index", raft_library_members_index(guard->raft)));
    }
}

/* ---- G21: who stands for election knows its members ---- */

static bool awaits_members(const struct raft_guard *guard)
{
    return RAFT_LIBRARY_IGNORES_WRITES && guard->raft->state == RAFT_FOLLOWER &&
           ((guard->put_outer != NULL && guard->put_received) ||
            raft_members_are_awaited(guard->raft));
}

/* The clock is set forward for the tick alone: by it others get this vote (G17). */
static void tick_without_election(struct raft_guard *guard, raft_time now)
{
    const raft_time heard = guard->raft->election_timer_start;
    guard->raft->election_timer_start = now;
    guard->tick(&guard->outer);
    guard->raft->election_timer_start = heard;
    if (!guard->held_back) {
        log_warn(ROOM,
                 guard->put_outer != NULL && guard->put_received
                     ? "no leader is heard: a received snapshot is not on the disk yet"
                     : "no leader is heard: a change of members is not on the disk yet",
                 KV_U64("stored", guard->raft->last_stored),
                 KV_U64("silent_ms", now - heard));
    }
    guard->held_back = true;
}

/* ---- messages ---- */

static void check_entries(struct raft_guard *guard,
                          const struct raft_append_entries *args)
{
    struct raft *raft = guard->raft;
    if (args->term < raft->current_term || !is_matched(guard, args)) {
        return;
    }
    raft_matched_note(&guard->matched, args->term,
                      args->prev_log_index + args->n_entries);
    roll_back_members(guard, args);
}

static bool is_dropped(struct raft_guard *guard, struct raft_message *message)
{
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES:
        if (!raft_prefix_skip(guard->raft, &message->append_entries)) {
            return true;
        }
        check_entries(guard, &message->append_entries);
        return guard->halted;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        hide_early_acks(guard, message);
        notice_lost_snapshot(guard, message);
        return false;
    case RAFT_IO_TIMEOUT_NOW:
        return awaits_members(guard);
    case RAFT_IO_REQUEST_VOTE:
        return raft_votes_is_second(guard->raft, &message->request_vote);
    case RAFT_IO_REQUEST_VOTE_RESULT:
        return raft_votes_is_stale(guard->raft, &message->request_vote_result);
    case RAFT_IO_INSTALL_SNAPSHOT:
        if (message->install_snapshot.term >= guard->raft->current_term) {
            raft_matched_note(&guard->matched, message->install_snapshot.term,
                              message->install_snapshot.last_index);
        }
        return false;
    default:
        return false;
    }
}

static void after_event(struct raft_guard *guard)
{
    if (!is_silent(guard)) {
        bar_old_terms(guard);
        raft_members_settle(guard->raft);
    }
    if (!guard->closing) {
        guard->hooks.changed(guard->hooks.context);
    }
}

/* G16. The commit index that came with entries, for those before them: as a heartbeat of
 * its own, which the leader might have sent as well. */
static void apply_early(struct raft_guard *guard, const struct raft_message *message)
{
    const struct raft *raft = guard->raft;
    struct raft_message beat = *message;
    struct raft_append_entries *args = &beat.append_entries;
    args->entries = NULL;
    args->n_entries = 0;
    if (args->leader_commit > args->prev_log_index) {
        args->leader_commit = args->prev_log_index;
    }
    if (is_silent(guard) || raft->state != RAFT_FOLLOWER ||
        args->term != raft->current_term || args->leader_commit <= raft->commit_index) {
        return;
    }
    /* A snapshot's barrier must not wait for the write: libraft has room for one. */
    if (args->leader_commit - raft_library_log_of(raft)->snapshot.last_index >=
        raft->snapshot.threshold) {
        return;
    }
    guard->applying_early = true;
    guard->recv(&guard->outer, &beat);
    guard->applying_early = false;
}

static int guard_set_term(struct raft_io *io, raft_term term);
static int guard_set_vote(struct raft_io *io, raft_id id);

/* G19. */
static void begin_term_alone(struct raft_guard *guard)
{
    struct raft *raft = guard->raft;
    if (!raft_votes_is_alone(raft)) {
        return;
    }
    (void)guard_set_term(&guard->outer, raft->current_term + 1);
    (void)guard_set_vote(&guard->outer, raft->id); /* both tell by halting */
    if (!guard->halted) {
        raft->current_term++;
        raft->voted_for = raft->id;
    }
}

static void pass_on(void *context, struct raft_message *message)
{
    struct raft_guard *guard = context;
    guard->recv(&guard->outer, message);
}

static void on_recv(struct raft_io *inner, struct raft_message *message)
{
    struct raft_guard *guard = inner->data;
    if (is_silent(guard) || is_dropped(guard, message)) {
        raft_discards_message(message);
        return;
    }
    const struct raft_message head =
        *message; /* its entries are libraft's from here on */
    if (head.type == RAFT_IO_REQUEST_VOTE) {
        raft_votes_answer(guard->raft, guard->inner->time(guard->inner), pass_on, guard,
                          message);
    } else {
        pass_on(guard, message);
    }
    if (head.type == RAFT_IO_APPEND_ENTRIES && head.append_entries.n_entries > 0) {
        apply_early(guard, &head);
    }
    after_event(guard);
}

static void tick_with_election(struct raft_guard *guard, bool due)
{
    const struct raft *raft = guard->raft;
    const bool followed = raft->state == RAFT_FOLLOWER;
    const raft_time heard = raft->election_timer_start;
    guard->held_back = false;
    if (due) {
        begin_term_alone(guard);
    }
    if (!guard->halted) {
        guard->tick(&guard->outer);
    }
    if (followed && raft->state == RAFT_CANDIDATE) {
        log_info(ROOM, "no leader is heard: standing for election",
                 KV_U64("term", raft->current_term),
                 KV_U64("silent_ms", guard->inner->time(guard->inner) - heard));
    }
}

static void on_tick(struct raft_io *inner)
{
    struct raft_guard *guard = inner->data;
    struct raft *raft = guard->raft;
    const raft_time now = inner->time(inner);
    const bool due =
        raft->state == RAFT_FOLLOWER && now >= raft_library_election_due(raft);
    raft_votes_ask_again(raft, now);
    if (!is_silent(guard) && due && awaits_members(guard)) {
        tick_without_election(guard, now);
    } else if (!is_silent(guard)) {
        tick_with_election(guard, due);
    }
    after_event(guard);
}

/* G12. libraft (seen in 0.15 to 0.18) frees the entries before it sends its answer, and
 * once more where io->send fails there and then. */
static int answer_lost(struct raft_io_send *request, raft_io_send_cb done)
{
    if (done != NULL) {
        done(request, RAFT_CANCELED);
    }
    return 0;
}

static void note_refusal(struct raft_guard *guard,
                         const struct raft_append_entries_result *result)
{
    uint64_t ms = 0;
    if (raft_refusals_note(&guard->refusals, result->rejected != 0,
                           guard->inner->time(guard->inner), &ms)) {
        log_warn(ROOM, "this log takes nothing of what its leader sends",
                 KV_U64("term", guard->raft->current_term), KV_U64("ms", ms),
                 KV_U64("refused", guard->refusals.count),
                 KV_U64("asked_for", result->rejected),
                 KV_U64("last", raft_last_index(guard->raft)));
    }
}

static int guard_send(struct raft_io *io,
                      struct raft_io_send *request,
                      const struct raft_message *message,
                      raft_io_send_cb done)
{
    struct raft_guard *guard = guard_of(io);
    struct raft_message copy = *message;
    struct raft_append_entries_result *result = &copy.append_entries_result;
    bool answer = copy.type == RAFT_IO_APPEND_ENTRIES_RESULT;
    const bool to_nobody = copy.server_address == NULL || copy.server_id == 0; /* G13 */
    if (is_silent(guard) || to_nobody) {
        return answer ? answer_lost(request, done) : RAFT_CANCELED;
    }
    if (answer && guard->applying_early) {
        return answer_lost(request, done); /* nobody has asked */
    }
    if (answer) {
        note_refusal(guard, result);
    }
    if (answer && result->rejected == 0) {
        result->last_log_index =
            raft_matched_last(&guard->matched, result->term, result->last_log_index);
    }
    if (copy.type == RAFT_IO_REQUEST_VOTE_RESULT) {
        raft_votes_name_term(guard->raft, &copy.request_vote_result);
    }
    if (copy.type == RAFT_IO_REQUEST_VOTE || copy.type == RAFT_IO_REQUEST_VOTE_RESULT) {
        return result_of(guard, raft_resends_send(&guard->resends, request, &copy, done));
    }
    int r = guard->inner->send(guard->inner, request, &copy, done);
    return r != 0 && answer ? answer_lost(request, done) : result_of(guard, r);
}

/* ---- the disk (G2) ---- */

static bool goes_on(void *context)
{
    return !is_silent(context);
}

static void append_failed(void *context, int status)
{
    struct raft_guard *guard = context;
    if (!guard->closing) {
        halt_io(guard, "append to the log", status);
    }
}

static void append_answered(void *context)
{
    hear_early_acks(context);
    after_event(context);
}

/* With no room for the next segment libraft's own handling crashes: stop before. */
static bool has_space(struct raft_guard *guard)
{
    if (guard->hooks.free_bytes(guard->hooks.space_context) < APPEND_SPACE_MIN) {
        raft_guard_halt(guard, BERTH_EDISKFULL, "less than 16MiB left for the log");
        return false;
    }
    return true;
}

static int guard_append(struct raft_io *io,
                        struct raft_io_append *request,
                        const struct raft_entry entries[],
                        unsigned count,
                        raft_io_append_cb done)
{
    struct raft_guard *guard = guard_of(io);
    int r = raft_appends_add(&guard->appends, request, entries, count, done);
    if (r != 0) {
        raft_guard_halt(guard, -ENOMEM, "no memory to append to the log");
        return r;
    }
    if (!is_silent(guard) && has_space(guard)) {
        raft_appends_begin(&guard->appends);
    }
    return 0;
}

/* From here on a failure is not told to libraft: some of its ways to give up crash (an
 * election that a transfer began), and nothing it does has an effect any more. */

static int guard_truncate(struct raft_io *io, raft_index index)
{
    struct raft_guard *guard = guard_of(io);
    struct err err;
    uint64_t kept_term = index > 1 ? raft_guard_term_of(guard, index - 1) : 0;
    int r = log_seal_lower(guard->seal, kept_term != 0 ? index - 1 : 0, kept_term, &err);
    if (r < 0) {
        raft_guard_halt(guard, r, err.text);
        return 0;
    }
    raft_appends_flush(&guard->appends);
    WHERE("cut the log");
    r = guard->inner->truncate(guard->inner, index);
    if (r != 0) {
        halt_io(guard, "truncate the log", r);
    }
    return 0;
}

static bool intend(struct raft_guard *guard, uint64_t term, uint64_t vote)
{
    struct err err;
    int r = log_seal_intend(guard->seal, term, vote, &err);
    if (r < 0) {
        raft_guard_halt(guard, r, err.text);
    }
    return r == 0;
}

static int guard_set_term(struct raft_io *io, raft_term term)
{
    struct raft_guard *guard = guard_of(io);
    if (is_silent(guard) || !intend(guard, term, 0)) {
        return 0;
    }
    WHERE("write the log's term");
    int r = guard->inner->set_term(guard->inner, term);
    if (r != 0) {
        halt_io(guard, "store the term", r);
    }
    return 0;
}

static int guard_set_vote(struct raft_io *io, raft_id id)
{
    struct raft_guard *guard = guard_of(io);
    if (is_silent(guard) || !intend(guard, guard->seal->state.term, id)) {
        return 0;
    }
    WHERE("write the log's vote");
    int r = guard->inner->set_vote(guard->inner, id);
    if (r != 0) {
        halt_io(guard, "store the vote", r);
    }
    return 0;
}

static int guard_bootstrap(struct raft_io *io, const struct raft_configuration *members)
{
    struct raft_guard *guard = guard_of(io);
    if (guard->seal->present) {
        (void)snprintf(guard->outer.errmsg, sizeof(guard->outer.errmsg),
                       "the folder has a seal");
        return RAFT_CANTBOOTSTRAP;
    }
    if (!intend(guard, 1, 0)) {
        return RAFT_IOERR;
    }
    return result_of(guard, guard->inner->bootstrap(guard->inner, members));
}

static int guard_recover(struct raft_io *io, const struct raft_configuration *members)
{
    struct raft_guard *guard = guard_of(io);
    return result_of(guard, guard->inner->recover(guard->inner, members));
}

/* libraft has forgotten its log when it stores a received snapshot: if that fails it must
 * not go on. A snapshot of its own may fail; the log is still there, and it tries again.
 */
static void on_snapshot_put(struct raft_io_snapshot_put *put, int status)
{
    struct raft_guard *guard = put->data;
    struct raft_io_snapshot_put *outer = guard->put_outer;
    if (!guard->closing && guard->put_received && status != 0) {
        guard->put_withheld = true;
        halt_io(guard, "store a received snapshot", status);
        return;
    }
    if (!guard->closing && status != 0) {
        log_error(ROOM, "snapshot not stored", KV_STR("why", raft_strerror(status)),
                  KV_STR("detail", guard->inner->errmsg));
    }
    guard->put_outer = NULL;
    outer->cb(outer, status);
    after_event(guard);
}

/* A snapshot that was received replaces the log: nothing of the old one is promised any
 * more. */
static int guard_snapshot_put(struct raft_io *io,
                              unsigned trailing,
                              struct raft_io_snapshot_put *request,
                              const struct raft_snapshot *snapshot,
                              raft_io_snapshot_put_cb done)
{
    struct raft_guard *guard = guard_of(io);
    struct err err;
    REQUIRE(guard->put_outer == NULL);
    guard->put_received = trailing == 0;
    if (guard->put_received && log_seal_lower(guard->seal, 0, 0, &err) < 0) {
        raft_guard_halt(guard, err.code, err.text);
        return RAFT_IOERR;
    }
    int r = raft_members_snapshot(&guard->members, guard->raft, snapshot,
                                  guard->put_received);
    if (r < 0) {
        raft_guard_halt(guard, r, "a snapshot's members are not known");
        return RAFT_IOERR;
    }
    guard->put_snapshot = *snapshot;
    guard->put_snapshot.configuration = guard->members.base;
    raft_appends_flush(&guard->appends);
    log_info(ROOM, guard->put_received ? "snapshot received" : "snapshot taken",
             KV_U64("index", snapshot->index));
    guard->put.data = guard;
    guard->put_outer = request;
    request->cb = done;
    r = guard->inner->snapshot_put(guard->inner, trailing, &guard->put,
                                   &guard->put_snapshot, on_snapshot_put);
    if (r != 0) {
        guard->put_outer = NULL;
    }
    return result_of(guard, r);
}

static int guard_snapshot_get(struct raft_io *io,
                              struct raft_io_snapshot_get *request,
                              raft_io_snapshot_get_cb done)
{
    struct raft_guard *guard = guard_of(io);
    return result_of(guard, guard->inner->snapshot_get(guard->inner, request, done));
}

/* ---- start and end ---- */

static int guard_load(struct raft_io *io,
                      raft_term *ret_term,
                      raft_id *ret_vote,
                      struct raft_snapshot **ret_snapshot,
                      raft_index *ret_start,
                      struct raft_entry **ret_entries,
                      size_t *ret_count)
{
    struct raft_guard *guard = guard_of(io);
    WHERE("read the log");
    int r = guard->inner->load(guard->inner, ret_term, ret_vote, ret_snapshot, ret_start,
                               ret_entries, ret_count);
    if (r != 0) {
        return result_of(guard, r);
    }
    uint64_t sealed = guard->seal->state.index;
    uint64_t last = *ret_start + *ret_count - 1;
    uint64_t sealed_term = 0;
    if (sealed >= *ret_start && sealed <= last) {
        sealed_term = (*ret_entries)[sealed - *ret_start].term;
    }
    struct err err;
    r = log_seal_check(guard->seal, *ret_term, *ret_vote, last, sealed_term, &err) < 0
            ? RAFT_CORRUPT
            : 0;
    if (r == 0 && !guard->seal->present && log_seal_settle(guard->seal, 0, 0, &err) < 0) {
        r = RAFT_IOERR;
    }
    if (r == 0 && raft_members_load(&guard->members, *ret_snapshot, *ret_start,
                                    *ret_entries, *ret_count) < 0) {
        (void)err_sys(&err, -ENOMEM, "read the log");
        r = RAFT_NOMEM;
    }
    if (r != 0) {
        (void)snprintf(guard->outer.errmsg, sizeof(guard->outer.errmsg), "%.*s",
                       RAFT_ERRMSG_BUF_SIZE - 1, err.text);
        raft_discards_loaded(*ret_snapshot, *ret_entries, *ret_count);
    }
    return r;
}

/* Once libraft has loaded, and before it leads. */
static int guard_start(struct raft_io *io,
                       unsigned interval_ms,
                       raft_io_tick_cb tick,
                       raft_io_recv_cb recv)
{
    struct raft_guard *guard = guard_of(io);
    guard->tick = tick;
    guard->recv = recv;
    raft_members_start(&guard->members, guard->raft);
    begin_term_alone(guard);
    if (guard->halted) {
        return RAFT_IOERR;
    }
    return result_of(guard,
                     guard->inner->start(guard->inner, interval_ms, on_tick, on_recv));
}

static int guard_init(struct raft_io *io, raft_id id, const char *address)
{
    struct raft_guard *guard = guard_of(io);
    return result_of(guard, guard->inner->init(guard->inner, id, address));
}

/* libraft is unavailable by now, so that the answers change nothing and only free what it
 * holds. */
static void answer_withheld(struct raft_guard *guard)
{
    raft_appends_cancel(&guard->appends);
    if (guard->put_withheld) {
        struct raft_io_snapshot_put *outer = guard->put_outer;
        guard->put_outer = NULL;
        outer->cb(outer, RAFT_CANCELED);
    }
}

static void on_closed(struct raft_io *inner)
{
    struct raft_guard *guard = inner->data;
    answer_withheld(guard);
    guard->close(&guard->outer);
}

static void seal_failed(void *context, const struct err *err)
{
    raft_guard_halt(context, err->code, err->text);
}

/* disk NULL: it is written when the call returns. */
static void write_seal(struct raft_guard *guard, struct work_pool *disk)
{
    struct raft *raft = guard->raft;
    struct err err;
    if (is_silent(guard) || !guard->seal->present || raft->snapshot.put.data != NULL) {
        return;
    }
    uint64_t term = raft_guard_term_of(guard, raft->last_stored);
    if (term == 0) {
        return; /* nothing stored yet */
    }
    if (disk != NULL) {
        log_seal_settle_later(guard->seal, disk, raft->last_stored, term, seal_failed,
                              guard);
        return;
    }
    int r = log_seal_settle(guard->seal, raft->last_stored, term, &err);
    if (r < 0) {
        raft_guard_halt(guard, r, err.text);
    }
}

static void guard_close(struct raft_io *io, raft_io_close_cb done)
{
    struct raft_guard *guard = guard_of(io);
    write_seal(guard, NULL);
    guard->closing = guard->resends.ended = true;
    guard->close = done;
    guard->inner->close(guard->inner, on_closed);
}

static raft_time guard_time(struct raft_io *io)
{
    struct raft_guard *guard = guard_of(io);
    return guard->inner->time(guard->inner);
}

static int guard_random(struct raft_io *io, int min, int max)
{
    struct raft_guard *guard = guard_of(io);
    return guard->inner->random(guard->inner, min, max);
}

void raft_guard_seal(struct raft_guard *guard)
{
    write_seal(guard, guard->hooks.disk);
}

void raft_guard_started(struct raft_guard *guard)
{
    after_event(guard);
}

struct raft_guard *raft_guard_new(struct raft *raft,
                                  struct raft_io *inner,
                                  struct log_seal *seal,
                                  const struct raft_guard_hooks *hooks)
{
    struct raft_guard *guard = calloc(1, sizeof(*guard));
    if (guard == NULL) {
        return NULL;
    }
    guard->inner = inner;
    guard->raft = raft;
    guard->seal = seal;
    guard->hooks = *hooks;
    raft_appends_init(&guard->appends, inner, guard, goes_on, append_failed,
                      append_answered);
    guard->resends.io = inner;
    raft_members_init(&guard->members);
    inner->data = guard;
    guard->outer = (struct raft_io){
        .version = 1,
        .impl = guard,
        .init = guard_init,
        .close = guard_close,
        .load = guard_load,
        .start = guard_start,
        .bootstrap = guard_bootstrap,
        .recover = guard_recover,
        .set_term = guard_set_term,
        .set_vote = guard_set_vote,
        .send = guard_send,
        .append = guard_append,
        .truncate = guard_truncate,
        .snapshot_put = guard_snapshot_put,
        .snapshot_get = guard_snapshot_get,
        .time = guard_time,
        .random = guard_random,
    };
    return guard;
}

struct raft_guard *raft_guard_free(struct raft_guard *guard)
{
    if (guard == NULL) {
        return NULL;
    }
    raft_members_fini(&guard->members);
    free(guard);
    return NULL;
}

struct raft_io *raft_guard_io(struct raft_guard *guard)
{
    return &guard->outer;
}
