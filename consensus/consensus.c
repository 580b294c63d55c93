#include "consensus/consensus.h"

#include "base/list.h"
#include "base/log.h"
#include "base/require.h"
#include "consensus/entry_frame.h"
#include "consensus/loop_turn.h"
#include "consensus/member_change.h"
#include "consensus/raft_node.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM               "consensus"
#define ELECTION_MS        300
#define HEARTBEAT_MS       30
#define SNAPSHOT_THRESHOLD 4096
#define SNAPSHOT_TRAILING  2048
#define RESERVE_BYTES      (UINT64_C(40) << 20) /* five segments */
#define MEMBER_STABLE_MS   30000
#define MEMBER_WAIT_MS     10000
#define SEAL_INTERVAL_MS   1000
#define EXPIRE_INTERVAL_MS 10
#define TRANSFER_DRAIN_TIMES \
    2 /* election timeouts that work under way may take before a transfer */

_Static_assert(CONSENSUS_COMMAND_MAX == ENTRY_FRAME_COMMAND_MAX,
               "header and frame agree");

/* A proposal: in `queue`, then in a batch, then in `answered`. */
struct proposal {
    struct list link;
    void (*done)(void *context, int status, const struct consensus_result *result);
    void *context;
    uint64_t deadline_ms;
    int status;
    struct consensus_result result;
    size_t size;
    uint8_t data[];
};

/* One log entry under way. */
struct batch {
    struct list link;
    struct consensus *consensus;
    struct list proposals;
    uint64_t index;
};

/* Anything with a status alone: reads, transfers, changes of members. */
struct waiter {
    struct list link;
    void (*done)(void *context, int status);
    void *context;
    uint64_t deadline_ms;
    int status;
    bool is_read; /* counted in reads_count */
};

struct consensus {
    struct loop_turn *turn; /* all work is done in turns, never inside the library */
    struct raft_node *node; /* NULL once closed */
    struct consensus_fsm fsm;
    struct consensus_events events;
    uint64_t id;
    unsigned election_ms;
    unsigned in_flight_max;
    unsigned in_flight;
    uint64_t reserve_bytes;
    uint64_t member_stable_ms;
    uint64_t member_wait_ms;

    struct raft_node_view view;
    uint64_t ready_since_ms;
    uint64_t told_term;
    uint64_t told_leader_id;

    struct list queue;   /* struct proposal */
    size_t queued_count; /* waiting or under way */
    size_t queued_bytes;
    struct list batches;  /* struct batch, under way */
    struct list answered; /* struct proposal */

    struct list reads; /* struct waiter, next barrier */
    struct list reads_under_way;
    size_t reads_count;
    struct list waiters_answered;

    struct member_change change;
    struct waiter *change_waiter;
    struct waiter *transfer;
    uint64_t transfer_id;

    uint64_t expired_ms;
    uint64_t sealed_ms;
    struct err fatal; /* code 0: none */
    void (*closed)(void *context);
    void *closed_context;
    struct consensus_counters counters;
    bool started;
    bool told_leader; /* what on_leadership has heard, with told_term */
    bool barrier_under_way;
    bool transfer_submitted;
    bool fatal_told;
    bool closing;
    bool hand_over;
    bool handing_over; /* the transfer under way is our last */
    bool node_closing;
};

static uint64_t now_of(const struct consensus *c)
{
    return loop_turn_now_ms(c->turn);
}

static bool is_stopped(const struct consensus *c)
{
    return c->closing || c->fatal.code != 0 || !c->started;
}

static bool may_lead(const struct consensus *c)
{
    return c->node != NULL && c->fatal.code == 0 && c->view.ready;
}

/* ---- answers ---- */

static void answer(struct consensus *c, struct proposal *proposal, int status)
{
    proposal->status = status;
    list_remove(&proposal->link);
    list_push_back(&c->answered, &proposal->link);
}

static void answer_all(struct consensus *c, struct list *proposals, int status)
{
    LIST_EACH_SAFE (link, proposals) {
        answer(c, LIST_ITEM(link, struct proposal, link), status);
    }
}

static void answer_waiter(struct consensus *c, struct waiter *waiter, int status)
{
    waiter->status = status;
    list_remove(&waiter->link);
    list_push_back(&c->waiters_answered, &waiter->link);
}

static void answer_waiters(struct consensus *c, struct list *waiters, int status)
{
    LIST_EACH_SAFE (link, waiters) {
        answer_waiter(c, LIST_ITEM(link, struct waiter, link), status);
    }
}

static void tell_proposals(struct consensus *c)
{
    struct list answered;
    list_init(&answered);
    list_move_all(&answered, &c->answered);
    while (!list_empty(&answered)) {
        struct proposal *proposal = LIST_ITEM(answered.next, struct proposal, link);
        list_remove(&proposal->link);
        c->queued_count--;
        c->queued_bytes -= proposal->size;
        if (proposal->done != NULL) {
            proposal->done(proposal->context, proposal->status,
                           proposal->status == 0 ? &proposal->result : NULL);
        }
        free(proposal);
    }
}

static void tell_waiters(struct consensus *c)
{
    struct list answered;
    list_init(&answered);
    list_move_all(&answered, &c->waiters_answered);
    while (!list_empty(&answered)) {
        struct waiter *waiter = LIST_ITEM(answered.next, struct waiter, link);
        list_remove(&waiter->link);
        c->reads_count -= waiter->is_read;
        if (waiter->done != NULL) {
            waiter->done(waiter->context, waiter->status);
        }
        free(waiter);
    }
}

static struct waiter *waiter_new(struct consensus *c,
                                 uint64_t timeout_ms,
                                 void (*done)(void *context, int status),
                                 void *context)
{
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    if (waiter != NULL) {
        list_init(&waiter->link);
        waiter->done = done;
        waiter->context = context;
        waiter->deadline_ms = now_of(c) + timeout_ms;
    }
    return waiter;
}

/* ---- what the node calls: notes only ---- */

static struct batch *batch_at(struct consensus *c, uint64_t index)
{
    LIST_EACH (link, &c->batches) {
        struct batch *batch = LIST_ITEM(link, struct batch, link);
        if (batch->index == index) {
            return batch;
        }
    }
    return NULL;
}

static bool
on_apply(void *context, uint64_t index, const uint8_t *data, size_t size, struct err *err)
{
    struct consensus *c = context;
    struct entry_frame_reader reader;
    const uint8_t *command = NULL;
    size_t command_size = 0;
    int r = entry_frame_open(&reader, data, size, err);
    if (r < 0) {
        (void)err_wrap(err, r, "apply index %llu", (unsigned long long)index);
        return false;
    }
    /* An entry at the index of a batch of ours is that batch: losing the leadership in
     * between would have answered and removed it. */
    struct batch *batch = batch_at(c, index);
    struct list *link = batch != NULL ? batch->proposals.next : NULL;
    while (entry_frame_next(&reader, &command, &command_size)) {
        struct consensus_result *result = NULL;
        if (batch != NULL) {
            REQUIRE(link != &batch->proposals);
            result = &LIST_ITEM(link, struct proposal, link)->result;
            result->index = index;
            link = link->next;
        }
        c->fsm.apply(c->fsm.context, index, command, command_size, result);
    }
    return true;
}

static int on_snapshot(void *context, uint8_t **ret_data, size_t *ret_size)
{
    struct consensus *c = context;
    c->counters.snapshots++;
    return c->fsm.snapshot(c->fsm.context, ret_data, ret_size);
}

static int on_restore(void *context, const uint8_t *data, size_t size)
{
    struct consensus *c = context;
    return c->fsm.restore(c->fsm.context, data, size);
}

static void on_changed(void *context)
{
    (void)context; /* this turn of the loop looks anyway */
}

static void on_fatal(void *context, int code, const char *text)
{
    struct consensus *c = context;
    if (c->fatal.code == 0) {
        (void)err_set(&c->fatal, code, "%s", text);
    }
}

static void on_batch_done(void *context, int status)
{
    struct batch *batch = context;
    struct consensus *c = batch->consensus;
    answer_all(c, &batch->proposals, status < 0 ? BERTH_EUNKNOWN : 0);
    list_remove(&batch->link);
    c->in_flight--;
    free(batch);
}

static void on_barrier_done(void *context, int status)
{
    struct consensus *c = context;
    c->barrier_under_way = false;
    answer_waiters(c, &c->reads_under_way, status < 0 ? BERTH_ENOTLEADER : 0);
}

static void on_transfer_done(void *context, int status)
{
    struct consensus *c = context;
    struct waiter *waiter = c->transfer;
    c->transfer = NULL;
    c->transfer_submitted = false;
    answer_waiter(c, waiter, status);
}

/* ---- flushing ---- */

static bool has_room_on_disk(const struct consensus *c)
{
    return raft_node_free_bytes(c->node) >= c->reserve_bytes;
}

/* Moves as many waiting proposals into the batch as one entry holds; the entry's size. */
static size_t fill_batch(struct consensus *c, struct batch *batch)
{
    size_t count = 0;
    size_t payload = 0;
    LIST_EACH_SAFE (link, &c->queue) {
        struct proposal *proposal = LIST_ITEM(link, struct proposal, link);
        if (entry_frame_size(count + 1, payload + proposal->size) == 0) {
            break;
        }
        count++;
        payload += proposal->size;
        list_remove(link);
        list_push_back(&batch->proposals, link);
    }
    return entry_frame_size(count, payload);
}

static int send_batch(struct consensus *c, struct batch *batch, size_t size)
{
    uint8_t *data = raft_node_alloc(size);
    if (data == NULL) {
        return BERTH_EFULL;
    }
    struct entry_frame_builder builder;
    entry_frame_begin(&builder, data, size);
    LIST_EACH (link, &batch->proposals) {
        const struct proposal *proposal = LIST_ITEM(link, struct proposal, link);
        entry_frame_add(&builder, proposal->data, proposal->size);
    }
    entry_frame_finish(&builder);
    int r = raft_node_append(c->node, data, size, &batch->index, on_batch_done, batch);
    if (r < 0) {
        raft_node_release(data);
        return r == BERTH_ENOTLEADER ? r : BERTH_EFULL;
    }
    c->counters.entries++;
    return 0;
}

static void flush_one_batch(struct consensus *c)
{
    struct batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL) {
        answer_all(c, &c->queue, BERTH_EFULL);
        return;
    }
    batch->consensus = c;
    list_init(&batch->proposals);
    size_t size = fill_batch(c, batch);
    REQUIRE(size > 0); /* each command alone fits */
    int r = send_batch(c, batch, size);
    if (r < 0) {
        answer_all(c, &batch->proposals, r);
        free(batch);
        return;
    }
    list_push_back(&c->batches, &batch->link);
    c->in_flight++;
}

static void flush_batches(struct consensus *c)
{
    if (list_empty(&c->queue) || c->transfer != NULL ||
        c->in_flight >= c->in_flight_max) {
        return;
    }
    if (!has_room_on_disk(c)) {
        answer_all(c, &c->queue, BERTH_EDISKFULL);
        return;
    }
    while (c->in_flight < c->in_flight_max && !list_empty(&c->queue)) {
        flush_one_batch(c);
    }
}

static void flush_reads(struct consensus *c)
{
    if (list_empty(&c->reads) || c->barrier_under_way || c->transfer != NULL) {
        return;
    }
    int r = raft_node_barrier(c->node, on_barrier_done, c);
    if (r < 0) {
        answer_waiters(c, &c->reads, r);
        return;
    }
    c->barrier_under_way = true;
    c->counters.barriers++;
    list_move_all(&c->reads_under_way, &c->reads);
}

/* ---- time ---- */

/* What waits is surely not done and can be dropped; what is under way only loses its
 * listener. */
static void expire_proposals(struct consensus *c, uint64_t now_ms)
{
    LIST_EACH_SAFE (link, &c->queue) {
        struct proposal *proposal = LIST_ITEM(link, struct proposal, link);
        if (now_ms >= proposal->deadline_ms) {
            answer(c, proposal, BERTH_ETIMEOUT);
        }
    }
}

/* Callbacks of proposals under way whose time is up: told at once, their entry goes on.
 */
static void expire_batches(struct consensus *c, uint64_t now_ms)
{
    LIST_EACH_SAFE (batch_link, &c->batches) {
        struct batch *batch = LIST_ITEM(batch_link, struct batch, link);
        LIST_EACH_SAFE (link, &batch->proposals) {
            struct proposal *proposal = LIST_ITEM(link, struct proposal, link);
            if (proposal->done == NULL || now_ms < proposal->deadline_ms) {
                continue;
            }
            struct proposal *notice = calloc(1, sizeof(*notice));
            if (notice == NULL) {
                return; /* told on a later turn */
            }
            list_init(&notice->link);
            notice->done = proposal->done;
            notice->context = proposal->context;
            proposal->done = NULL;
            c->queued_count++;
            answer(c, notice, BERTH_EUNKNOWN);
        }
    }
}

static void expire_reads(struct consensus *c, struct list *reads, uint64_t now_ms)
{
    LIST_EACH_SAFE (link, reads) {
        struct waiter *waiter = LIST_ITEM(link, struct waiter, link);
        if (now_ms >= waiter->deadline_ms) {
            answer_waiter(c, waiter, BERTH_ETIMEOUT);
        }
    }
}

static void keep_time(struct consensus *c)
{
    uint64_t now_ms = now_of(c);
    if (now_ms - c->expired_ms >= EXPIRE_INTERVAL_MS) {
        c->expired_ms = now_ms;
        expire_proposals(c, now_ms);
        expire_batches(c, now_ms);
        expire_reads(c, &c->reads, now_ms);
        expire_reads(c, &c->reads_under_way, now_ms);
    }
    if (now_ms - c->sealed_ms >= SEAL_INTERVAL_MS && c->started && !c->node_closing) {
        c->sealed_ms = now_ms;
        raft_node_seal(c->node);
    }
}

/* ---- leadership ---- */

static void look(struct consensus *c)
{
    bool was_ready = c->view.ready;
    raft_node_view(c->node, &c->view);
    if (c->view.ready && !was_ready) {
        c->ready_since_ms = now_of(c);
    }
    if (c->started && !c->node_closing && c->view.state == RAFT_NODE_DOWN &&
        c->fatal.code == 0) {
        on_fatal(c, BERTH_EBUG, raft_node_trouble(c->node));
    }
    if (!may_lead(c)) {
        int status = c->fatal.code != 0 ? BERTH_ECLOSED : BERTH_ENOTLEADER;
        answer_all(c, &c->queue, status);
        answer_waiters(c, &c->reads, status);
    }
}

static void tell_leadership(struct consensus *c)
{
    bool leads = may_lead(c);
    uint64_t term = c->view.term;
    if (c->told_leader && (!leads || term != c->told_term)) {
        c->told_leader = false;
        if (c->events.on_leadership != NULL) {
            c->events.on_leadership(c->events.context, false, c->told_term);
        }
    }
    if (leads && !c->told_leader) {
        c->told_leader = true;
        c->told_term = term;
        log_info(ROOM, "leading", KV_U64("term", term),
                 KV_U64("applied", c->view.applied_index));
        if (c->events.on_leadership != NULL) {
            c->events.on_leadership(c->events.context, true, term);
        }
    }
}

static void tell_leader_change(struct consensus *c)
{
    if (c->view.leader_id == c->told_leader_id) {
        return;
    }
    char address[CONSENSUS_ADDRESS_SIZE];
    (void)snprintf(address, sizeof(address), "%s",
                   c->view.leader_address != NULL ? c->view.leader_address : "");
    c->told_leader_id = c->view.leader_id;
    if (c->events.on_leader_changed != NULL) {
        c->events.on_leader_changed(c->events.context, c->told_leader_id, address);
    }
}

static void tell_fatal(struct consensus *c)
{
    if (c->fatal.code != 0 && !c->fatal_told) {
        c->fatal_told = true;
        c->events.on_fatal(c->events.context, &c->fatal);
    }
}

/* ---- transfer, change of members, closing ---- */

/* What is under way should not end in "unknown": it is finished first, nothing new is
 * sent meanwhile. */
static void drive_transfer(struct consensus *c)
{
    if (c->transfer == NULL || c->transfer_submitted) {
        return;
    }
    if (!may_lead(c)) {
        on_transfer_done(c, c->fatal.code != 0 ? BERTH_ECLOSED : BERTH_ENOTLEADER);
        return;
    }
    if (c->in_flight > 0 || c->barrier_under_way) {
        if (now_of(c) >= c->transfer->deadline_ms) {
            on_transfer_done(c, BERTH_EBUSY);
        }
        return;
    }
    c->transfer_submitted = true;
    int r = raft_node_transfer(c->node, c->transfer_id, on_transfer_done, c);
    if (r < 0) {
        on_transfer_done(c, r);
    }
}

static void drive_change(struct consensus *c)
{
    int status = 0;
    member_change_turn(&c->change, now_of(c));
    if (member_change_take(&c->change, &status)) {
        struct waiter *waiter = c->change_waiter;
        c->change_waiter = NULL;
        answer_waiter(c, waiter, status);
    }
}

static void on_turn_closed(void *context)
{
    struct consensus *c = context;
    void (*closed)(void *context) = c->closed;
    void *closed_context = c->closed_context;
    free(c);
    if (closed != NULL) {
        closed(closed_context);
    }
}

static void on_node_closed(void *context)
{
    struct consensus *c = context;
    c->node = NULL;
    answer_all(c, &c->queue, BERTH_ECLOSED);
    answer_waiters(c, &c->reads, BERTH_ECLOSED);
    answer_waiters(c, &c->reads_under_way, BERTH_ECLOSED);
    if (c->transfer != NULL) {
        on_transfer_done(c, BERTH_ECLOSED);
    }
    if (c->change_waiter != NULL) {
        answer_waiter(c, c->change_waiter, BERTH_EUNKNOWN);
        c->change_waiter = NULL;
    }
    REQUIRE(list_empty(&c->batches));
    tell_proposals(c);
    tell_waiters(c);
    loop_turn_close(c->turn, on_turn_closed, c);
}

static void drive_closing(struct consensus *c)
{
    bool hands_over = c->hand_over || c->handing_over;
    if (!c->closing || c->node_closing || (hands_over && c->transfer != NULL)) {
        return;
    }
    if (c->hand_over && may_lead(c) && c->view.voters > 1) {
        c->hand_over = false;
        c->handing_over = true;
        c->transfer_id = 0;
        c->transfer =
            waiter_new(c, (uint64_t)c->election_ms * TRANSFER_DRAIN_TIMES, NULL, NULL);
        if (c->transfer != NULL) {
            drive_transfer(c);
            return;
        }
    }
    c->node_closing = true;
    raft_node_close(c->node, on_node_closed, c);
}

/* ---- the turn ---- */

static void turn(void *context)
{
    struct consensus *c = context;
    if (c->node == NULL || c->node_closing) {
        return;
    }
    look(c);
    keep_time(c);
    drive_transfer(c);
    drive_change(c);
    if (may_lead(c)) {
        flush_reads(c);
        flush_batches(c);
    }
    tell_fatal(c);
    tell_leader_change(c);
    tell_leadership(c);
    tell_proposals(c);
    tell_waiters(c);
    drive_closing(c);
}

/* ---- life ---- */

static int check_config(const struct consensus_config *config, struct err *err)
{
    if (config->id == 0) {
        return err_set(err, BERTH_EINVALID, "raft: id 0 is nobody's");
    }
    if (config->address == NULL || strlen(config->address) >= CONSENSUS_ADDRESS_SIZE ||
        (config->bind_address != NULL &&
         strlen(config->bind_address) >= CONSENSUS_ADDRESS_SIZE)) {
        return err_set(err, BERTH_EINVALID, "raft: no address, or one over %d characters",
                       CONSENSUS_ADDRESS_SIZE - 1);
    }
    if (config->heartbeat_ms * 3 > config->election_ms) {
        return err_set(
            err, BERTH_EINVALID,
            "raft: an election timeout of %u ms is less than three heartbeats of %u ms",
            config->election_ms, config->heartbeat_ms);
    }
    if (config->in_flight > CONSENSUS_IN_FLIGHT_MAX) {
        return err_set(err, BERTH_EINVALID, "raft: %u entries under way, at most %d",
                       config->in_flight, CONSENSUS_IN_FLIGHT_MAX);
    }
    return 0;
}

static void set_default(unsigned *value, unsigned fallback)
{
    *value = *value != 0 ? *value : fallback;
}

static struct consensus_config with_defaults(const struct consensus_config *config)
{
    struct consensus_config full = *config;
    set_default(&full.election_ms, ELECTION_MS);
    set_default(&full.heartbeat_ms, HEARTBEAT_MS);
    set_default(&full.snapshot_threshold, SNAPSHOT_THRESHOLD);
    set_default(&full.snapshot_trailing, SNAPSHOT_TRAILING);
    set_default(&full.in_flight, 1);
    full.reserve_bytes = full.reserve_bytes != 0 ? full.reserve_bytes : RESERVE_BYTES;
    full.member_wait_ms = full.member_wait_ms != 0 ? full.member_wait_ms : MEMBER_WAIT_MS;
    full.member_stable_ms =
        full.member_stable_ms != 0 ? full.member_stable_ms : MEMBER_STABLE_MS;
    return full;
}

static void init_lists(struct consensus *c)
{
    list_init(&c->queue);
    list_init(&c->batches);
    list_init(&c->answered);
    list_init(&c->reads);
    list_init(&c->reads_under_way);
    list_init(&c->waiters_answered);
}

int consensus_open(uv_loop_t *loop,
                   const struct consensus_config *config,
                   const struct consensus_fsm *fsm,
                   const struct consensus_events *events,
                   struct consensus **ret_consensus,
                   struct err *err)
{
    REQUIRE(events->on_fatal != NULL);
    REQUIRE(fsm->apply != NULL && fsm->snapshot != NULL && fsm->restore != NULL);
    struct consensus_config full = with_defaults(config);
    int r = check_config(&full, err);
    if (r < 0) {
        return r;
    }
    struct consensus *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return err_sys(err, -ENOMEM, "open raft");
    }
    (void)signal(SIGPIPE,
                 SIG_IGN); /* a peer that goes away is an error code, not a death */
    c->fsm = *fsm;
    c->events = *events;
    c->id = full.id;
    c->election_ms = full.election_ms;
    c->in_flight_max = full.in_flight;
    c->reserve_bytes = full.reserve_bytes;
    c->member_stable_ms = full.member_stable_ms;
    c->member_wait_ms = full.member_wait_ms;
    init_lists(c);
    struct raft_node_hooks hooks = {.context = c,
                                    .apply = on_apply,
                                    .snapshot = on_snapshot,
                                    .restore = on_restore,
                                    .changed = on_changed,
                                    .fatal = on_fatal};
    r = raft_node_open(&full, loop, &hooks, &c->node, err);
    if (r < 0) {
        free(c);
        return r;
    }
    c->turn = loop_turn_open(loop, turn, c);
    *ret_consensus = c;
    return 0;
}

int consensus_bootstrap(struct consensus *consensus, struct err *err)
{
    REQUIRE(!consensus->started && !consensus->closing);
    return raft_node_bootstrap(consensus->node, err);
}

int consensus_start(struct consensus *consensus, struct err *err)
{
    REQUIRE(!consensus->started && !consensus->closing);
    int r = raft_node_start(consensus->node, err);
    if (r < 0) {
        if (consensus->fatal.code != 0) {
            (void)err_set(err, consensus->fatal.code, "start raft: %s",
                          consensus->fatal.text);
        }
        consensus->fatal_told = true; /* the caller knows */
        return err != NULL ? err->code : r;
    }
    consensus->started = true;
    return 0;
}

void consensus_close(struct consensus *consensus,
                     bool hand_over,
                     void (*done)(void *context),
                     void *context)
{
    struct consensus *c = consensus;
    REQUIRE(!c->closing);
    c->closing = true;
    c->hand_over = hand_over;
    c->closed = done;
    c->closed_context = context;
    answer_all(c, &c->queue, BERTH_ECLOSED);
    answer_waiters(c, &c->reads, BERTH_ECLOSED);
    if (!c->started) { /* nothing wakes the loop for a turn */
        c->node_closing = true;
        raft_node_close(c->node, on_node_closed, c);
    }
}

/* ---- requests ---- */

static int check_leads(struct consensus *c)
{
    if (is_stopped(c)) {
        return BERTH_ECLOSED;
    }
    raft_node_view(c->node, &c->view);
    return may_lead(c) ? 0 : BERTH_ENOTLEADER;
}

int consensus_propose(struct consensus *consensus,
                      const void *data,
                      size_t size,
                      uint64_t timeout_ms,
                      void (*done)(void *context,
                                   int status,
                                   const struct consensus_result *result),
                      void *context)
{
    struct consensus *c = consensus;
    if (size > CONSENSUS_COMMAND_MAX) {
        return BERTH_ETOOLARGE;
    }
    int r = check_leads(c);
    if (r < 0) {
        return r;
    }
    if (c->queued_count >= CONSENSUS_QUEUE_MAX ||
        c->queued_bytes + size > CONSENSUS_QUEUE_BYTES) {
        return BERTH_EFULL;
    }
    struct proposal *proposal = calloc(1, sizeof(*proposal) + size);
    if (proposal == NULL) {
        return -ENOMEM;
    }
    proposal->done = done;
    proposal->context = context;
    proposal->deadline_ms = now_of(c) + timeout_ms;
    proposal->size = size;
    if (size > 0) {
        memcpy(proposal->data, data, size);
    }
    list_push_back(&c->queue, &proposal->link);
    c->queued_count++;
    c->queued_bytes += size;
    c->counters.proposals++;
    return 0;
}

int consensus_read_barrier(struct consensus *consensus,
                           uint64_t timeout_ms,
                           void (*done)(void *context, int status),
                           void *context)
{
    struct consensus *c = consensus;
    int r = check_leads(c);
    if (r < 0) {
        return r;
    }
    if (c->reads_count >= CONSENSUS_READS_MAX) {
        return BERTH_EFULL;
    }
    struct waiter *waiter = waiter_new(c, timeout_ms, done, context);
    if (waiter == NULL) {
        return -ENOMEM;
    }
    waiter->is_read = true;
    list_push_back(&c->reads, &waiter->link);
    c->reads_count++;
    c->counters.reads++;
    return 0;
}

static int change_members(struct consensus *c,
                          uint64_t id,
                          const char *address,
                          enum consensus_role wanted,
                          void (*done)(void *context, int status),
                          void *context)
{
    int r = check_leads(c);
    if (r < 0) {
        return r;
    }
    if (c->change_waiter != NULL || c->transfer != NULL ||
        (c->view.voters > 1 && now_of(c) - c->ready_since_ms < c->member_stable_ms)) {
        return BERTH_EBUSY;
    }
    struct waiter *waiter = waiter_new(c, 0, done, context);
    if (waiter == NULL) {
        return -ENOMEM;
    }
    r = member_change_start(&c->change, c->node, now_of(c) + c->member_wait_ms, id,
                            address, wanted);
    if (r < 0) {
        free(waiter);
        return r;
    }
    c->change_waiter = waiter;
    return 0;
}

int consensus_add_standby(struct consensus *consensus,
                          uint64_t id,
                          const char *address,
                          void (*done)(void *context, int status),
                          void *context)
{
    struct sockaddr_storage parsed;
    int r = channel_parse_address(address, &parsed, NULL);
    if (r < 0 || id == 0) {
        return BERTH_EINVALID;
    }
    return change_members(consensus, id, address, CONSENSUS_ROLE_STANDBY, done, context);
}

int consensus_promote(struct consensus *consensus,
                      uint64_t id,
                      void (*done)(void *context, int status),
                      void *context)
{
    return change_members(consensus, id, "", CONSENSUS_ROLE_VOTER, done, context);
}

int consensus_remove(struct consensus *consensus,
                     uint64_t id,
                     void (*done)(void *context, int status),
                     void *context)
{
    return change_members(consensus, id, "", CONSENSUS_ROLE_NONE, done, context);
}

int consensus_transfer(struct consensus *consensus,
                       uint64_t id,
                       void (*done)(void *context, int status),
                       void *context)
{
    struct consensus *c = consensus;
    int r = check_leads(c);
    if (r < 0) {
        return r;
    }
    if (c->transfer != NULL || c->change_waiter != NULL) {
        return BERTH_EBUSY;
    }
    c->transfer =
        waiter_new(c, (uint64_t)c->election_ms * TRANSFER_DRAIN_TIMES, done, context);
    if (c->transfer == NULL) {
        return -ENOMEM;
    }
    c->transfer_id = id;
    return 0;
}

/* ---- asking ---- */

size_t consensus_members(const struct consensus *consensus,
                         struct consensus_member *ret_members,
                         size_t max)
{
    return consensus->node != NULL ? raft_node_members(consensus->node, ret_members, max)
                                   : 0;
}

static struct raft_node_view view_of(const struct consensus *c)
{
    struct raft_node_view view = {.state = RAFT_NODE_DOWN};
    if (c->node != NULL && c->started && c->fatal.code == 0) {
        raft_node_view(c->node, &view);
    }
    return view;
}

bool consensus_is_leader(const struct consensus *consensus)
{
    return view_of(consensus).ready;
}

bool consensus_leader(const struct consensus *consensus,
                      uint64_t *ret_id,
                      char ret_address[CONSENSUS_ADDRESS_SIZE])
{
    struct raft_node_view view = view_of(consensus);
    if (view.leader_id == 0) {
        return false;
    }
    *ret_id = view.leader_id;
    if (ret_address != NULL) {
        (void)snprintf(ret_address, CONSENSUS_ADDRESS_SIZE, "%s",
                       view.leader_address != NULL ? view.leader_address : "");
    }
    return true;
}

uint64_t consensus_term(const struct consensus *consensus)
{
    return view_of(consensus).term;
}

uint64_t consensus_applied_index(const struct consensus *consensus)
{
    return view_of(consensus).applied_index;
}

void consensus_drop_peer(struct consensus *consensus, uint64_t id)
{
    if (consensus->node != NULL) {
        raft_node_drop_peer(consensus->node, id);
    }
}

void consensus_counters(const struct consensus *consensus,
                        struct consensus_counters *ret_counters)
{
    *ret_counters = consensus->counters;
    if (consensus->node != NULL) {
        const struct channel_counters *channels = raft_node_channels(consensus->node);
        ret_counters->channels_refused = channels->refused_key + channels->refused_text +
                                         channels->timed_out + channels->evicted;
        ret_counters->channels_open = channels->called + channels->accepted;
    }
}
