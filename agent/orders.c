#include "agent/orders.h"

#include "agent/link_parts.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t orders_host_of(const struct vm *vm)
{
    return vm->status.host != 0 ? vm->status.host : vm->status.disk_host;
}

static int nics_fill(const struct state *state, const struct vm *vm, struct msg_vm *order)
{
    struct record_list list = {0};
    for (uint32_t i = 0; i < vm->status.nics.count; i++) {
        const struct vm_nic *nic = &vm->status.nics.items[i];
        const struct network *network =
            state_get(state, KIND_NETWORK, vm->meta.tenant, nic->network);
        struct msg_nic *item = record_list_add(&msg_nic_record, &list);
        if (item == NULL) {
            return -ENOMEM;
        }
        *item = (struct msg_nic){.network = network != NULL ? network->meta.uid : 0,
                                 .mac = nic->mac,
                                 .ipv4 = nic->ipv4};
        order->nics.items = list.items;
        order->nics.count = list.count;
    }
    return 0;
}

uint64_t orders_keeper_of(const struct vm *vm)
{
    return vm->status.host != 0 ? vm->status.disk_host : 0;
}

int orders_vm(const struct state *state,
              const struct vm *vm,
              uint64_t host,
              struct msg_vm *ret_order)
{
    struct msg_vm order;
    record_init(&msg_vm_record, &order);
    order.vm = vm->meta.uid;
    order.epoch = vm->status.epoch;
    /* Those that another host keeps are none that this one could begin with. */
    order.disk_epoch = vm->status.disk_host == 0 || vm->status.disk_host == host
                           ? vm->status.disk_epoch
                           : 0;
    /* Called off before its host was heard: there is nothing that it could begin with. */
    bool called_off = orders_keeper_of(vm) != 0 && vm->status.restore == 0;
    order.order = vm->status.host != host                            ? ORDER_KEEP
                  : vm->status.phase == PHASE_STOPPING || called_off ? ORDER_STOP
                                                                     : ORDER_RUN;
    order.paused = order.order == ORDER_RUN && vm->spec.paused;
    order.restore = order.order == ORDER_RUN ? vm->status.restore : 0;
    order.restore_lazy = order.restore != 0 && vm->status.restore_lazy;
    memcpy(order.name, vm->meta.name, sizeof(order.name));
    memcpy(order.tenant, vm->meta.tenant, sizeof(order.tenant));
    record_fini(&machine_spec_record, &order.machine);
    int r = record_copy(&machine_spec_record, &vm->spec.machine, &order.machine);
    if (r == 0 && order.order != ORDER_KEEP) { /* nothing here needs its networks */
        r = nics_fill(state, vm, &order);
    }
    if (r < 0) {
        record_fini(&msg_vm_record, &order);
        return r;
    }
    *ret_order = order;
    return 0;
}

int orders_vm_image(const struct state *state, const struct vm *vm, struct msg_vm *order)
{
    const struct image *image =
        state_image_for(state, vm->meta.tenant, vm->spec.machine.image);
    if (image == NULL) {
        return 0;
    }
    record_fini(&image_spec_record, &order->image);
    return record_copy(&image_spec_record, &image->spec, &order->image);
}

struct msg_snapshot orders_snapshot(const struct snapshot *snapshot)
{
    enum snapshot_phase phase = snapshot->status.phase;
    struct msg_snapshot order = {
        .snapshot = snapshot->meta.uid,
        .vm = snapshot->spec.vm_uid,
        .epoch = snapshot->status.epoch,
        .order = phase == SNAPSHOT_MAKING     ? SNAPSHOT_ORDER_MAKE
                 : phase == SNAPSHOT_DELETING ? SNAPSHOT_ORDER_DELETE
                                              : SNAPSHOT_ORDER_KEEP,
        .bytes = phase == SNAPSHOT_MAKING ? snapshot->status.bytes : 0,
    };
    memcpy(order.name, snapshot->meta.name, sizeof(order.name));
    memcpy(order.tenant, snapshot->meta.tenant, sizeof(order.tenant));
    return order;
}

struct msg_member orders_member(const struct host *host)
{
    struct msg_member member = {.uid = host->meta.uid,
                                .key = host->status.public_key,
                                .address = host->status.address,
                                .mesh_port = host->status.mesh_port,
                                .raft_port = host->status.raft_port,
                                .voter = host->status.voter};
    memcpy(member.name, host->meta.name, sizeof(member.name));
    return member;
}

static int by_uid(const void *a, const void *b)
{
    const struct msg_member *one = a;
    const struct msg_member *two = b;
    return one->uid < two->uid ? -1 : one->uid > two->uid;
}

/* NULL: everybody. Else who has a part in the log, and those two. */
struct knows {
    uint64_t guest;
    uint64_t host;
};

static bool is_wanted(const struct host *host, const struct knows *knows)
{
    return knows == NULL || host->status.voter != VOTER_NONE ||
           host->meta.uid == knows->guest || host->meta.uid == knows->host;
}

static int members_list(const struct state *state,
                        const struct knows *knows,
                        struct msg_member_list *ret_list)
{
    size_t count = state_count(state, KIND_HOST);
    struct msg_member_list list = {.items = calloc(count + 1, sizeof(*list.items))};
    size_t cursor = 0;
    const struct host *host;
    if (list.items == NULL) {
        return -ENOMEM;
    }
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        if (host->status.phase != HOST_PHASE_REMOVED && is_wanted(host, knows)) {
            list.items[list.count++] = orders_member(host);
        }
    }
    qsort(list.items, list.count, sizeof(*list.items), by_uid);
    *ret_list = list;
    return 0;
}

int orders_members(const struct state *state, struct msg_member_list *ret_list)
{
    return members_list(state, NULL, ret_list);
}

int orders_members_for_guest(const struct state *state,
                             uint64_t guest,
                             uint64_t host,
                             struct msg_member_list *ret_list)
{
    const struct knows knows = {.guest = guest, .host = host};
    return members_list(state, &knows, ret_list);
}

uint64_t orders_hash(const struct msg_orders *orders)
{
    size_t size;
    return orders_hash_and_size(orders, &size);
}

uint64_t orders_hash_and_size(const struct msg_orders *orders, size_t *ret_size)
{
    struct msg_orders plain = *orders; /* shallow: encoded, never freed */
    plain.term = 0;
    plain.revision = 0;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    uint64_t hash = 0;
    int r =
        message_encode_within(&msg_orders_record, &plain, LINK_PARTS_MAX, &data, &size);
    *ret_size = r < 0 ? LINK_PARTS_MAX : size;
    if (r < 0) {
        return 0;
    }
    struct digest digest;
    digest_of(data, size, &digest);
    memcpy(&hash, digest.bytes, sizeof(hash));
    return hash != 0 ? hash : 1;
}
