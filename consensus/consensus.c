#include "consensus/consensus.h"

#include "base/log.h"
#include "base/require.h"
#include "base/where.h"
#include "consensus/channel_address.h"
#include "consensus/consensus_parts.h"
#include "consensus/entry_frame.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM               "consensus"
#define ELECTION_MS        300
#define HEARTBEAT_MS       100 /* three in an election timeout; each wakes every voter */
#define SNAPSHOT_THRESHOLD 4096
#define SNAPSHOT_TRAILING  2048
#define RESERVE_BYTES      (UINT64_C(40) << 20) /* five segments */
#define MEMBER_STABLE_MS   30000
#define MEMBER_WAIT_MS     10000
#define TRANSFER_DRAIN_TIMES \
    2 /* election timeouts that work under way may take before a transfer */

_Static_assert(CONSENSUS_COMMAND_MAX == ENTRY_FRAME_COMMAND_MAX,
               "header and frame agree");

static bool is_stopped(const struct consensus *c)
{
    return c->closing || c->fatal.code != 0 || !c->started;
}

static bool may_lead(const struct consensus *c)
{
    return c->node != NULL && c->fatal.code == 0 && c->view.ready;
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
    WHERE("apply an entry of the log");
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
    WHERE("encode the state for a snapshot");
    return c->fsm.snapshot(c->fsm.context, ret_data, ret_size);
}

static int on_restore(void *context, const uint8_t *data, size_t size)
{
    struct consensus *c = context;
    WHERE("take a snapshot in");
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

static void on_transfer_done(void *context, int status)
{
    struct consensus *c = context;
    struct waiter *waiter = c->transfer;
    c->transfer = NULL;
    c->transfer_submitted = false;
    consensus_answer_waiter(c, waiter, status);
}

/* ---- leadership ---- */

static void look(struct consensus *c)
{
    bool was_ready = c->view.ready;
    raft_node_view(c->node, &c->view);
    if (c->view.ready && !was_ready) {
        c->ready_since_ms = consensus_now(c);
    }
    if (c->started && !c->node_closing && c->view.state == RAFT_NODE_DOWN &&
        c->fatal.code == 0) {
        on_fatal(c, BERTH_EBUG, raft_node_trouble(c->node));
    }
    if (!may_lead(c)) {
        int status = c->fatal.code != 0 ? BERTH_ECLOSED : BERTH_ENOTLEADER;
        consensus_answer_all(c, &c->queue, status);
        consensus_answer_waiters(c, &c->reads, status);
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
        if (consensus_now(c) >= c->transfer->deadline_ms) {
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
    member_change_turn(&c->change, consensus_now(c));
    if (member_change_take(&c->change, &status)) {
        struct waiter *waiter = c->change_waiter;
        c->change_waiter = NULL;
        consensus_answer_waiter(c, waiter, status);
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
    consensus_answer_all(c, &c->queue, BERTH_ECLOSED);
    consensus_answer_waiters(c, &c->reads, BERTH_ECLOSED);
    consensus_answer_waiters(c, &c->reads_under_way, BERTH_ECLOSED);
    if (c->transfer != NULL) {
        on_transfer_done(c, BERTH_ECLOSED);
    }
    if (c->change_waiter != NULL) {
        consensus_answer_waiter(c, c->change_waiter, BERTH_EUNKNOWN);
        c->change_waiter = NULL;
    }
    REQUIRE(list_empty(&c->batches));
    consensus_tell_proposals(c);
    consensus_tell_waiters(c);
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
        c->transfer = consensus_waiter_new(
            c, (uint64_t)c->election_ms * TRANSFER_DRAIN_TIMES, NULL, NULL);
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
    consensus_keep_time(c);
    drive_transfer(c);
    drive_change(c);
    if (may_lead(c)) {
        consensus_flush_reads(c);
        consensus_flush_batches(c);
    }
    tell_fatal(c);
    tell_leader_change(c);
    tell_leadership(c);
    consensus_tell_proposals(c);
    consensus_tell_waiters(c);
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
    consensus_answer_all(c, &c->queue, BERTH_ECLOSED);
    consensus_answer_waiters(c, &c->reads, BERTH_ECLOSED);
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
    proposal->deadline_ms = consensus_now(c) + timeout_ms;
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
    struct waiter *waiter = consensus_waiter_new(c, timeout_ms, done, context);
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
        (c->view.voters > 1 &&
         consensus_now(c) - c->ready_since_ms < c->member_stable_ms)) {
        return BERTH_EBUSY;
    }
    struct waiter *waiter = consensus_waiter_new(c, 0, done, context);
    if (waiter == NULL) {
        return -ENOMEM;
    }
    r = member_change_start(&c->change, c->node, consensus_now(c) + c->member_wait_ms, id,
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
    c->transfer = consensus_waiter_new(c, (uint64_t)c->election_ms * TRANSFER_DRAIN_TIMES,
                                       done, context);
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

void consensus_snapshot_soon(struct consensus *consensus)
{
    if (consensus->node != NULL) {
        raft_node_snapshot_soon(consensus->node);
    }
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
