#include "agent/orders.h"

#include "base/cleanup.h"
#include "base/u64_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOBS_MAX 256 /* of msg_orders.blobs */

/* Neighbours of one network, gathered in one walk over all VMs. */
struct segment {
    struct msg_neighbour_list neighbours;
    uint32_t capacity;
};

struct orders_round {
    const struct state *state;
    orders_holder *holder;
    void *context;
    struct msg_member_list members;
    struct u64_map *segments; /* network uid -> struct segment */
};

/* ---- one walk: members and neighbours
 * ------------------------------------------------------------- */

int orders_members(const struct state *state, struct msg_member_list *ret_list)
{
    struct record_list list = {0};
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        if (host->status.phase == HOST_PHASE_REMOVED) {
            continue;
        }
        struct msg_member *member = record_list_add(&msg_member_record, &list);
        if (member == NULL) {
            free(list.items);
            return -ENOMEM;
        }
        member->uid = host->meta.uid;
        memcpy(member->name, host->meta.name, sizeof(member->name));
        member->key = host->status.public_key;
        member->address = host->status.address;
        member->mesh_port = host->status.mesh_port;
        member->raft_port = host->status.raft_port;
        member->voter = host->status.voter;
    }
    ret_list->items = list.items;
    ret_list->count = list.count;
    return 0;
}

static struct segment *segment_of(struct orders_round *round, uint64_t network)
{
    struct segment *segment = u64_map_get(round->segments, network);
    if (segment == NULL) {
        segment = calloc(1, sizeof(*segment));
        if (segment != NULL && u64_map_put(round->segments, network, segment) < 0) {
            free(segment);
            segment = NULL;
        }
    }
    return segment;
}

static int neighbour_add(struct orders_round *round,
                         uint64_t network,
                         const struct msg_neighbour *neighbour)
{
    struct segment *segment = segment_of(round, network);
    if (segment == NULL) {
        return -ENOMEM;
    }
    struct msg_neighbour_list *list = &segment->neighbours;
    if (list->count == NETWORK_ADDRESSES_MAX) {
        return BERTH_EFULL; /* apply gives no more away */
    }
    if (list->count == segment->capacity) {
        uint32_t capacity = segment->capacity == 0 ? 16 : 2 * segment->capacity;
        struct msg_neighbour *grown = reallocarray(list->items, capacity, sizeof(*grown));
        if (grown == NULL) {
            return -ENOMEM;
        }
        list->items = grown;
        segment->capacity = capacity;
    }
    list->items[list->count++] = *neighbour;
    return 0;
}

static uint32_t underlay_of(const struct state *state, uint64_t host_uid)
{
    const struct host *host = host_uid != 0 ? state_host(state, host_uid) : NULL;
    return host != NULL ? host->status.address : 0;
}

static int walk_vms(struct orders_round *round)
{
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_next(round->state, KIND_VM, &cursor)) != NULL) {
        for (uint32_t i = 0; i < vm->status.nics.count; i++) {
            const struct vm_nic *nic = &vm->status.nics.items[i];
            const struct network *network =
                state_get(round->state, KIND_NETWORK, vm->meta.tenant, nic->network);
            if (network == NULL || nic->ipv4 == 0) {
                continue;
            }
            struct msg_neighbour neighbour = {
                .mac = nic->mac,
                .ipv4 = nic->ipv4,
                .underlay = underlay_of(round->state, vm->status.host),
                .host = vm->status.host,
            };
            memcpy(neighbour.name, vm->meta.name, sizeof(neighbour.name));
            int r = neighbour_add(round, network->meta.uid, &neighbour);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

static int walk_network_hosts(struct orders_round *round)
{
    size_t cursor = 0;
    const struct network *network;
    while ((network = state_next(round->state, KIND_NETWORK, &cursor)) != NULL) {
        for (uint32_t i = 0; i < network->status.hosts.count; i++) {
            const struct network_site *at = &network->status.hosts.items[i];
            const struct msg_neighbour neighbour = {
                .ipv4 = at->ipv4,
                .underlay = underlay_of(round->state, at->host),
                .host = at->host,
            };
            int r = neighbour_add(round, network->meta.uid, &neighbour);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

struct orders_round *
orders_round_new(const struct state *state, orders_holder *holder, void *context)
{
    struct orders_round *round = calloc(1, sizeof(*round));
    if (round == NULL) {
        return NULL;
    }
    round->state = state;
    round->holder = holder;
    round->context = context;
    round->segments = u64_map_new();
    if (round->segments == NULL || orders_members(state, &round->members) < 0 ||
        walk_vms(round) < 0 || walk_network_hosts(round) < 0) {
        return orders_round_free(round);
    }
    return round;
}

struct orders_round *orders_round_free(struct orders_round *round)
{
    if (round == NULL) {
        return NULL;
    }
    size_t cursor = 0;
    uint64_t key;
    void *value;
    while (round->segments != NULL &&
           u64_map_next(round->segments, &cursor, &key, &value)) {
        struct segment *segment = value;
        free(segment->neighbours.items); /* neighbours own no further memory */
        free(segment);
    }
    u64_map_free(round->segments);
    free(round->members.items);
    free(round);
    return NULL;
}

/* ---- one host
 * --------------------------------------------------------------------------------------
 */

static int
vm_add(struct orders_round *round, struct msg_orders *orders, const struct vm *vm)
{
    const struct image *image =
        state_image_for(round->state, vm->meta.tenant, vm->spec.machine.image);
    struct msg_vm order;
    record_init(&msg_vm_record, &order);
    order.vm = vm->meta.uid;
    order.epoch = vm->status.epoch;
    order.order = vm->status.phase == PHASE_STOPPING ? ORDER_STOP : ORDER_RUN;
    memcpy(order.name, vm->meta.name, sizeof(order.name));
    memcpy(order.tenant, vm->meta.tenant, sizeof(order.tenant));
    record_fini(&machine_spec_record, &order.machine);
    int r = record_copy(&machine_spec_record, &vm->spec.machine, &order.machine);
    if (r == 0 && image != NULL) {
        record_fini(&image_spec_record, &order.image);
        r = record_copy(&image_spec_record, &image->spec, &order.image);
    }
    for (uint32_t i = 0; r == 0 && i < vm->status.nics.count; i++) {
        const struct vm_nic *nic = &vm->status.nics.items[i];
        const struct network *network =
            state_get(round->state, KIND_NETWORK, vm->meta.tenant, nic->network);
        struct record_list list = {.items = order.nics.items, .count = order.nics.count};
        struct msg_nic *item = record_list_add(&msg_nic_record, &list);
        if (item == NULL) {
            r = -ENOMEM;
            break;
        }
        *item = (struct msg_nic){.network = network != NULL ? network->meta.uid : 0,
                                 .mac = nic->mac,
                                 .ipv4 = nic->ipv4};
        order.nics.items = list.items;
        order.nics.count = list.count;
    }
    if (r < 0) {
        record_fini(&msg_vm_record, &order);
        return r;
    }
    orders->vms.items[orders->vms.count++] = order;
    return 0;
}

/* A lost VM that waits for its host may still be running there. */
static bool vm_is_ordered(const struct vm *vm)
{
    return vm_phase_on_host(vm->status.phase) || vm->status.phase == PHASE_LOST;
}

static int vms_add(struct orders_round *round, struct msg_orders *orders, uint64_t host)
{
    size_t count = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_on_host(round->state, host, &cursor)) != NULL) {
        count += vm_is_ordered(vm) ? 1 : 0;
    }
    if (count > ORDERS_VMS_MAX) {
        return BERTH_EFULL; /* placement keeps a host far below */
    }
    orders->vms.items = count > 0 ? calloc(count, sizeof(*orders->vms.items)) : NULL;
    int r = count > 0 && orders->vms.items == NULL ? -ENOMEM : 0;
    cursor = 0;
    while (r == 0 && (vm = state_vm_on_host(round->state, host, &cursor)) != NULL) {
        r = vm_is_ordered(vm) ? vm_add(round, orders, vm) : 0;
    }
    return r;
}

static int network_add(struct orders_round *round,
                       struct msg_orders *orders,
                       const struct network *network,
                       uint32_t host_address)
{
    struct record_list list = {.items = orders->networks.items,
                               .count = orders->networks.count};
    struct msg_network *item = record_list_add(&msg_network_record, &list);
    if (item == NULL) {
        return -ENOMEM;
    }
    orders->networks.items = list.items;
    orders->networks.count = list.count;
    item->uid = network->meta.uid;
    memcpy(item->name, network->meta.name, sizeof(item->name));
    memcpy(item->tenant, network->meta.tenant, sizeof(item->tenant));
    item->vni = network->status.vni;
    item->cidr = network->spec.ipv4.cidr;
    item->gateway = cidr_gateway(network);
    item->host_address = host_address;
    item->mtu = network->spec.mtu;
    item->nat = network->spec.egress == EGRESS_NAT;
    const struct segment *segment = u64_map_get(round->segments, network->meta.uid);
    if (segment == NULL || segment->neighbours.count == 0) {
        return 0;
    }
    size_t size = segment->neighbours.count * sizeof(struct msg_neighbour);
    item->neighbours.items = malloc(size);
    if (item->neighbours.items == NULL) {
        return -ENOMEM;
    }
    memcpy(item->neighbours.items, segment->neighbours.items, size);
    item->neighbours.count = segment->neighbours.count;
    return 0;
}

static int blob_add(struct orders_round *round,
                    struct msg_orders *orders,
                    const struct artifact *artifact)
{
    for (uint32_t i = 0; i < orders->blobs.count; i++) {
        if (digest_equal(&orders->blobs.items[i].sha256, &artifact->sha256)) {
            return 0;
        }
    }
    if (digest_is_zero(&artifact->sha256) || orders->blobs.count >= BLOBS_MAX) {
        return 0;
    }
    struct record_list list = {.items = orders->blobs.items,
                               .count = orders->blobs.count};
    struct msg_blob *item = record_list_add(&msg_blob_record, &list);
    if (item == NULL) {
        return -ENOMEM;
    }
    item->sha256 = artifact->sha256;
    item->size_bytes = artifact->size_bytes;
    item->holder = round->holder != NULL
                       ? round->holder(round->context, &artifact->sha256, orders->host)
                       : 0;
    orders->blobs.items = list.items;
    orders->blobs.count = list.count;
    return 0;
}

/* What the host's own VMs boot from comes first, then every other image: a host that has
 * them all can take any VM without waiting. */
static int blobs_add(struct orders_round *round, struct msg_orders *orders)
{
    int r = 0;
    for (uint32_t i = 0; i < orders->vms.count && r == 0; i++) {
        const struct artifact_list *artifacts = &orders->vms.items[i].image.artifacts;
        for (uint32_t k = 0; k < artifacts->count && r == 0; k++) {
            r = blob_add(round, orders, &artifacts->items[k]);
        }
    }
    size_t cursor = 0;
    const struct image *image;
    while (r == 0 && (image = state_next(round->state, KIND_IMAGE, &cursor)) != NULL) {
        for (uint32_t k = 0; k < image->spec.artifacts.count && r == 0; k++) {
            r = blob_add(round, orders, &image->spec.artifacts.items[k]);
        }
    }
    return r;
}

int orders_for(struct orders_round *round, uint64_t host, struct msg_orders *ret_orders)
{
    struct msg_orders orders;
    record_init(&msg_orders_record, &orders);
    if (state_host(round->state, host) == NULL) {
        return BERTH_ENOTFOUND;
    }
    orders.host = host;
    orders.revision = state_revision(round->state);
    int r = 0;
    size_t size = round->members.count * sizeof(struct msg_member);
    orders.members.items = size > 0 ? malloc(size) : NULL;
    if (size > 0 && orders.members.items == NULL) {
        r = -ENOMEM;
    } else if (size > 0) {
        memcpy(orders.members.items, round->members.items, size);
        orders.members.count = round->members.count;
    }
    r = r == 0 ? vms_add(round, &orders, host) : r;
    size_t cursor = 0;
    const struct network *network;
    while (r == 0 &&
           (network = state_next(round->state, KIND_NETWORK, &cursor)) != NULL) {
        for (uint32_t i = 0; r == 0 && i < network->status.hosts.count; i++) {
            if (network->status.hosts.items[i].host == host) {
                r = network_add(round, &orders, network,
                                network->status.hosts.items[i].ipv4);
            }
        }
    }
    r = r == 0 ? blobs_add(round, &orders) : r;
    if (r < 0) {
        record_fini(&msg_orders_record, &orders);
        return r;
    }
    *ret_orders = orders;
    return 0;
}

uint64_t orders_hash(const struct msg_orders *orders)
{
    struct msg_orders plain = *orders; /* shallow: encoded, never freed */
    plain.term = 0;
    plain.revision = 0;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    uint64_t hash = 0;
    if (message_encode(&msg_orders_record, &plain, &data, &size) == 0) {
        struct digest digest;
        digest_of(data, size, &digest);
        memcpy(&hash, digest.bytes, sizeof(hash));
    }
    return hash != 0 ? hash : 1;
}
