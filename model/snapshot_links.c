#include "base/require.h"
#include "model/state_internal.h"

static void link_host(struct entry *snapshot, struct entry *host)
{
    struct snapshot_links *links = &snapshot->snapshot;
    links->host = host;
    if (host != NULL) {
        links->host_slot = host->owner.snapshots.count;
        links->bytes = snapshot_of(snapshot)->status.bytes;
        entry_set_add(&host->owner.snapshots, snapshot);
        host->owner.disk_bytes += links->bytes;
    }
}

/* The last one takes its place. */
static void unlink_host(struct entry *snapshot)
{
    struct snapshot_links *links = &snapshot->snapshot;
    struct entry *host = links->host;
    if (host == NULL) {
        return;
    }
    struct entry_set *set = &host->owner.snapshots;
    REQUIRE(links->host_slot < set->count);
    struct entry *last = set->items[--set->count];
    set->items[links->host_slot] = last;
    last->snapshot.host_slot = links->host_slot;
    host->owner.disk_bytes -= links->bytes;
    *links = (struct snapshot_links){0};
}

void snapshot_entry_set_host(struct entry *snapshot, struct entry *host, uint64_t bytes)
{
    unlink_host(snapshot);
    snapshot_of(snapshot)->status.host = host != NULL ? meta_of(host)->uid : 0;
    snapshot_of(snapshot)->status.bytes = bytes;
    link_host(snapshot, host);
}

void snapshot_index(struct state *state, struct entry *snapshot)
{
    struct entry *vm = state_entry(state, KIND_VM, snapshot_of(snapshot)->spec.vm_uid);
    link_host(snapshot,
              state_entry(state, KIND_HOST, snapshot_of(snapshot)->status.host));
    if (vm != NULL) {
        vm->vm.snapshots++;
    }
}

void snapshot_unindex(struct state *state, struct entry *snapshot)
{
    struct entry *vm = state_entry(state, KIND_VM, snapshot_of(snapshot)->spec.vm_uid);
    unlink_host(snapshot);
    if (vm != NULL) {
        vm->vm.snapshots--;
    }
}

const struct snapshot *state_snapshot(const struct state *state, uint64_t uid)
{
    const struct entry *entry = state_entry(state, KIND_SNAPSHOT, uid);
    return entry != NULL ? entry->object : NULL;
}

const struct snapshot *
state_snapshot_on_host(const struct state *state, uint64_t host, size_t *cursor)
{
    const struct entry *entry = state_entry(state, KIND_HOST, host);
    if (entry == NULL || *cursor >= entry->owner.snapshots.count) {
        return NULL;
    }
    return entry->owner.snapshots.items[(*cursor)++]->object;
}

const struct host *state_restore_host(const struct state *state, const struct vm *vm)
{
    const struct snapshot *snapshot = state_snapshot(state, vm->status.restore);
    return snapshot != NULL ? state_host(state, snapshot->status.host) : NULL;
}
