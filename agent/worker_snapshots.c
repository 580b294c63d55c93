/* Snapshots of this host, as ordered and as told. */
#include "agent/worker_parts.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"

#include <stdio.h>
#include <string.h>

/* ---- from orders ---- */

static void make(struct worker *worker, const struct msg_snapshot *order)
{
    struct snapshot_wish wish = {.uid = order->snapshot,
                                 .vm = order->vm,
                                 .epoch = order->epoch,
                                 .bytes = order->bytes};
    (void)snprintf(wish.name, sizeof(wish.name), "%s", order->name);
    (void)snprintf(wish.tenant, sizeof(wish.tenant), "%s", order->tenant);
    /* Another one is made, or its VM is not up: reconciled again. */
    (void)vm_supervisor_snapshot_make(worker->supervisor, &wish, NULL);
}

static const struct msg_snapshot *order_of(const struct worker *worker, uint64_t uid)
{
    const struct msg_snapshot_list *orders = &worker->orders.snapshots;
    for (uint32_t i = 0; i < orders->count; i++) {
        if (orders->items[i].snapshot == uid) {
            return &orders->items[i];
        }
    }
    return NULL;
}

struct strays {
    const struct worker *worker;
    uint64_t uids[HOST_SNAPSHOTS_MAX];
    unsigned count;
};

static void stray_visit(void *context, const struct snapshot_report *report)
{
    struct strays *strays = context;
    const struct msg_snapshot *order = order_of(strays->worker, report->uid);
    if ((order == NULL || order->order == SNAPSHOT_ORDER_DELETE) &&
        strays->count < ARRAY_COUNT(strays->uids)) {
        strays->uids[strays->count++] = report->uid;
    }
}

void worker_snapshots_reconcile(struct worker *worker)
{
    const struct msg_snapshot_list *orders = &worker->orders.snapshots;
    struct strays strays = {.worker = worker};
    vm_supervisor_snapshots_each(worker->supervisor, stray_visit, &strays);
    for (unsigned i = 0; i < strays.count; i++) {
        vm_supervisor_snapshot_remove(worker->supervisor, strays.uids[i]);
    }
    for (uint32_t i = 0; i < orders->count; i++) {
        if (orders->items[i].order == SNAPSHOT_ORDER_MAKE) {
            make(worker, &orders->items[i]);
        }
    }
}

void worker_snapshots_changed(void *context)
{
    struct worker *worker = context;
    loop_post_send(worker->reconcile_post);
    loop_post_send(worker->heartbeat_post);
}

/* ---- upwards ---- */

struct seen {
    const struct worker *worker;
    struct record_list list;
};

static struct msg_snapshot_seen *seen_add(struct seen *seen)
{
    return seen->list.count < HOST_SNAPSHOTS_MAX
               ? record_list_add(&msg_snapshot_seen_record, &seen->list)
               : NULL;
}

/* What cannot be read does not say whose it is: as ordered, or its loss is no news of the
 * snapshot that the leader knows. */
static void seen_visit(void *context, const struct snapshot_report *report)
{
    const struct seen *seen = context;
    const struct msg_snapshot *order =
        report->epoch == 0 ? order_of(seen->worker, report->uid) : NULL;
    struct msg_snapshot_seen *item = seen_add(context);
    char reason[256];
    if (item == NULL) {
        return;
    }
    item->snapshot = report->uid;
    item->vm = order != NULL ? order->vm : report->vm;
    item->epoch = order != NULL ? order->epoch : report->epoch;
    item->phase = report->phase;
    item->bytes = report->bytes;
    item->permille = report->permille;
    item->at_wall_ms = report->at_wall_ms;
    (void)snprintf(reason, sizeof(reason), "%.255s", report->reason);
    (void)record_set_text(&item->reason, reason[0] != '\0' ? reason : NULL);
}

/* What was ordered and is not here: not yet, or not any more. What there was no room to
 * tell of is here all the same. */
static void seen_missing(struct seen *seen, const struct msg_snapshot *order)
{
    struct msg_snapshot_seen *item =
        vm_supervisor_snapshot_is_here(seen->worker->supervisor, order->snapshot)
            ? NULL
            : seen_add(seen);
    if (item == NULL) {
        return;
    }
    item->snapshot = order->snapshot;
    item->vm = order->vm;
    item->epoch = order->epoch;
    item->phase = SNAPSHOT_MAKING;
    if (order->order != SNAPSHOT_ORDER_MAKE) {
        item->phase = SNAPSHOT_LOST;
        (void)record_set_text(&item->reason, "it is not on this host");
    }
}

void worker_snapshots_fill(const struct worker *worker,
                           struct msg_snapshot_seen_list *ret_list)
{
    struct seen seen = {.worker = worker};
    vm_supervisor_snapshots_each(worker->supervisor, seen_visit, &seen);
    for (uint32_t i = 0; i < worker->orders.snapshots.count; i++) {
        seen_missing(&seen, &worker->orders.snapshots.items[i]);
    }
    ret_list->items = seen.list.items;
    ret_list->count = seen.list.count;
}

/* ---- images ---- */

struct bases {
    const struct worker *worker;
    struct digest *digests;
    unsigned count, room;
};

static void base_visit(void *context, const struct snapshot_report *report)
{
    struct bases *bases = context;
    char path[ENGINE_PATH_SIZE];
    if (bases->count < bases->room &&
        vm_supervisor_snapshot_base(bases->worker->supervisor, report->uid, path) &&
        worker_base_digest(path, &bases->digests[bases->count])) {
        bases->count++;
    }
}

unsigned
worker_snapshots_bases(const struct worker *worker, struct digest *digests, unsigned room)
{
    struct bases bases = {.worker = worker, .digests = digests, .room = room};
    vm_supervisor_snapshots_each(worker->supervisor, base_visit, &bases);
    return bases.count;
}
