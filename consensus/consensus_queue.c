/* The way of a request: waiting, under way in the log, answered, told; or out of time. */
#include "base/require.h"
#include "consensus/consensus_parts.h"
#include "consensus/entry_frame.h"

#include <stdlib.h>

#define SEAL_INTERVAL_MS   1000
#define EXPIRE_INTERVAL_MS 10

/* ---- answers ---- */

static void answer(struct consensus *c, struct proposal *proposal, int status)
{
    proposal->status = status;
    list_remove(&proposal->link);
    list_push_back(&c->answered, &proposal->link);
}

void consensus_answer_all(struct consensus *c, struct list *proposals, int status)
{
    LIST_EACH_SAFE (link, proposals) {
        answer(c, LIST_ITEM(link, struct proposal, link), status);
    }
}

void consensus_answer_waiter(struct consensus *c, struct waiter *waiter, int status)
{
    waiter->status = status;
    list_remove(&waiter->link);
    list_push_back(&c->waiters_answered, &waiter->link);
}

void consensus_answer_waiters(struct consensus *c, struct list *waiters, int status)
{
    LIST_EACH_SAFE (link, waiters) {
        consensus_answer_waiter(c, LIST_ITEM(link, struct waiter, link), status);
    }
}

void consensus_tell_proposals(struct consensus *c)
{
    struct list answered;
    list_init(&answered);
    list_move_all(&answered, &c->answered);
    for (struct list *link; (link = list_pop_front(&answered)) != NULL;) {
        struct proposal *proposal = LIST_ITEM(link, struct proposal, link);
        c->queued_count--;
        c->queued_bytes -= proposal->size;
        if (proposal->done != NULL) {
            proposal->done(proposal->context, proposal->status,
                           proposal->status == 0 ? &proposal->result : NULL);
        }
        free(proposal);
    }
}

void consensus_tell_waiters(struct consensus *c)
{
    struct list answered;
    list_init(&answered);
    list_move_all(&answered, &c->waiters_answered);
    for (struct list *link; (link = list_pop_front(&answered)) != NULL;) {
        struct waiter *waiter = LIST_ITEM(link, struct waiter, link);
        c->reads_count -= waiter->is_read;
        if (waiter->done != NULL) {
            waiter->done(waiter->context, waiter->status);
        }
        free(waiter);
    }
}

struct waiter *consensus_waiter_new(struct consensus *c,
                                    uint64_t timeout_ms,
                                    void (*done)(void *context, int status),
                                    void *context)
{
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    if (waiter != NULL) {
        list_init(&waiter->link);
        waiter->done = done;
        waiter->context = context;
        waiter->deadline_ms = consensus_now(c) + timeout_ms;
    }
    return waiter;
}

/* ---- flushing ---- */

static void on_batch_done(void *context, int status)
{
    struct batch *batch = context;
    struct consensus *c = batch->consensus;
    consensus_answer_all(c, &batch->proposals, status < 0 ? BERTH_EUNKNOWN : 0);
    list_remove(&batch->link);
    c->in_flight--;
    free(batch);
}

static void on_barrier_done(void *context, int status)
{
    struct consensus *c = context;
    c->barrier_under_way = false;
    consensus_answer_waiters(c, &c->reads_under_way, status < 0 ? BERTH_ENOTLEADER : 0);
}

/* Two snapshots are kept, and the next is written beside them: without room for it the
 * log grows until nothing is left for anything. */
static bool has_room_on_disk(const struct consensus *c)
{
    uint64_t free_bytes = raft_node_free_bytes(c->node);
    uint64_t snapshot = raft_node_snapshot_bytes(c->node);
    return free_bytes >= snapshot && free_bytes - snapshot >= c->reserve_bytes;
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

static int flush_one_batch(struct consensus *c)
{
    struct batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL) {
        return BERTH_EFULL;
    }
    batch->consensus = c;
    list_init(&batch->proposals);
    size_t size = fill_batch(c, batch);
    REQUIRE(size > 0); /* each command alone fits */
    int r = send_batch(c, batch, size);
    if (r < 0) {
        consensus_answer_all(c, &batch->proposals, r);
        free(batch);
        return r;
    }
    list_push_back(&c->batches, &batch->link);
    c->in_flight++;
    return 0;
}

void consensus_flush_batches(struct consensus *c)
{
    if (list_empty(&c->queue) || c->transfer != NULL ||
        c->in_flight >= c->in_flight_max) {
        return;
    }
    if (!has_room_on_disk(c)) {
        consensus_answer_all(c, &c->queue, BERTH_EDISKFULL);
        return;
    }
    int r = 0;
    while (r == 0 && c->in_flight < c->in_flight_max && !list_empty(&c->queue)) {
        r = flush_one_batch(c);
    }
    if (r < 0) { /* what was proposed behind it may count on it */
        consensus_answer_all(c, &c->queue, r);
    }
}

void consensus_flush_reads(struct consensus *c)
{
    if (list_empty(&c->reads) || c->barrier_under_way || c->transfer != NULL) {
        return;
    }
    int r = raft_node_barrier(c->node, on_barrier_done, c);
    if (r < 0) {
        consensus_answer_waiters(c, &c->reads, r);
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
            consensus_answer_waiter(c, waiter, BERTH_ETIMEOUT);
        }
    }
}

void consensus_keep_time(struct consensus *c)
{
    uint64_t now_ms = consensus_now(c);
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
