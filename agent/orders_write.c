/* The orders of one host, out of the book (agent/orders_book.h). */
#include "agent/orders.h"
#include "agent/orders_book.h"
#include "agent/orders_parts.h"
#include "base/cleanup.h"
#include "base/require.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct msg_neighbour neighbour_at(const struct orders_book *book,
                                         uint64_t host_uid)
{
    const struct host *host = host_uid != 0 ? state_host(book->state, host_uid) : NULL;
    return (struct msg_neighbour){.underlay = host != NULL ? host->status.address : 0,
                                  .host = host_uid};
}

static int by_address(const void *a, const void *b)
{
    const struct msg_neighbour *one = a;
    const struct msg_neighbour *two = b;
    return one->ipv4 < two->ipv4 ? -1 : one->ipv4 > two->ipv4;
}

static int neighbour_add(struct network_part *part, const struct msg_neighbour *neighbour)
{
    struct msg_neighbour_list *list = &part->neighbours;
    if (list->count == NETWORK_ADDRESSES_MAX) {
        return BERTH_EFULL; /* apply gives no more away */
    }
    list->items[list->count++] = *neighbour;
    return 0;
}

/* All VMs and hosts in the network; made once for all its hosts. */
static int neighbours_make(struct orders_book *book,
                           struct network_part *part,
                           const struct network *network)
{
    size_t most = network->status.hosts.count;
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(part->vms, &cursor, &uid, &value)) {
        most += ((const struct vm_part *)value)->nic_count;
    }
    struct msg_neighbour *grown =
        reallocarray(part->neighbours.items, most + 1, sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    part->neighbours = (struct msg_neighbour_list){.items = grown};
    int r = 0;
    cursor = 0;
    while (r == 0 && u64_map_next(part->vms, &cursor, &uid, &value)) {
        const struct vm_part *vm = value;
        struct msg_neighbour neighbour = neighbour_at(book, vm->host);
        memcpy(neighbour.name, state_vm(book->state, uid)->meta.name, NAME_SIZE);
        for (uint32_t i = 0; r == 0 && i < vm->nic_count; i++) {
            if (vm->nics[i].network == part->uid) {
                neighbour.mac = vm->nics[i].mac;
                neighbour.ipv4 = vm->nics[i].ipv4;
                r = neighbour_add(part, &neighbour);
            }
        }
    }
    for (uint32_t i = 0; r == 0 && i < network->status.hosts.count; i++) {
        struct msg_neighbour neighbour =
            neighbour_at(book, network->status.hosts.items[i].host);
        neighbour.ipv4 = network->status.hosts.items[i].ipv4;
        r = neighbour_add(part, &neighbour);
    }
    qsort(part->neighbours.items, part->neighbours.count, sizeof(*grown), by_address);
    part->stale = r < 0;
    return r;
}

static int list_copy(const void *items, uint32_t count, size_t size, void **ret_items)
{
    *ret_items = count > 0 ? malloc(count * size) : NULL;
    if (count > 0 && *ret_items == NULL) {
        return -ENOMEM;
    }
    if (count > 0) {
        memcpy(*ret_items, items, count * size);
    }
    return 0;
}

static int members_write(const struct orders_book *book, struct msg_orders *orders)
{
    void *items = NULL;
    int r = list_copy(book->members.items, book->members.count,
                      sizeof(*book->members.items), &items);
    if (r == 0) {
        orders->members.items = items;
        orders->members.count = book->members.count;
    }
    return r;
}

static const struct vm *
next_named(const struct state *state, uint64_t host, bool kept, size_t *cursor)
{
    return kept ? state_vm_kept(state, host, cursor)
                : state_vm_on_host(state, host, cursor);
}

static int vms_write(const struct orders_book *book, struct msg_orders *orders)
{
    CLEANUP_FREE const void **vms = orders_pointers(ORDERS_VMS_MAX);
    size_t count = 0;
    if (vms == NULL) {
        return -ENOMEM;
    }
    for (unsigned kept = 0; kept < 2; kept++) {
        size_t cursor = 0;
        const struct vm *vm;
        while ((vm = next_named(book->state, orders->host, kept == 1, &cursor)) != NULL) {
            if (count == ORDERS_VMS_MAX) {
                return BERTH_EFULL; /* placement keeps a host far below */
            }
            vms[count++] = vm;
        }
    }
    orders_sort_by_uid(vms, count);
    orders->vms.items = count > 0 ? calloc(count, sizeof(*orders->vms.items)) : NULL;
    int r = count > 0 && orders->vms.items == NULL ? -ENOMEM : 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct msg_vm *order = &orders->vms.items[i];
        r = orders_vm(book->state, vms[i], orders->host, order);
        orders->vms.count += r == 0;
        r = r == 0 ? orders_vm_image(book->state, vms[i], order) : r;
    }
    return r;
}

static int snapshots_write(const struct orders_book *book, struct msg_orders *orders)
{
    CLEANUP_FREE const void **snapshots = orders_pointers(HOST_SNAPSHOTS_MAX);
    size_t count = 0;
    size_t cursor = 0;
    const struct snapshot *snapshot;
    if (snapshots == NULL) {
        return -ENOMEM;
    }
    while ((snapshot = state_snapshot_on_host(book->state, orders->host, &cursor)) !=
           NULL) {
        if (count == HOST_SNAPSHOTS_MAX) {
            return BERTH_EFULL; /* apply makes no more */
        }
        snapshots[count++] = snapshot;
    }
    orders_sort_by_uid(snapshots, count);
    orders->snapshots.items =
        count > 0 ? calloc(count, sizeof(*orders->snapshots.items)) : NULL;
    if (count > 0 && orders->snapshots.items == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        orders->snapshots.items[i] = orders_snapshot(snapshots[i]);
    }
    orders->snapshots.count = (uint32_t)count;
    return 0;
}

static uint32_t address_in(const struct network *network, uint64_t host)
{
    for (uint32_t i = 0; i < network->status.hosts.count; i++) {
        if (network->status.hosts.items[i].host == host) {
            return network->status.hosts.items[i].ipv4;
        }
    }
    return 0;
}

static int network_write(struct orders_book *book,
                         const struct network *network,
                         uint64_t host,
                         struct msg_network *ret_network)
{
    struct network_part *part = u64_map_get(book->networks, network->meta.uid);
    int r = part->stale ? neighbours_make(book, part, network) : 0;
    if (r < 0) {
        return r;
    }
    struct msg_network item;
    record_init(&msg_network_record, &item);
    item.uid = network->meta.uid;
    memcpy(item.name, network->meta.name, sizeof(item.name));
    memcpy(item.tenant, network->meta.tenant, sizeof(item.tenant));
    item.vni = network->status.vni;
    item.cidr = network->spec.ipv4.cidr;
    item.gateway = cidr_gateway(network);
    item.host_address = address_in(network, host);
    item.mtu = network->spec.mtu;
    item.nat = network->spec.egress == EGRESS_NAT;
    void *items = NULL;
    r = list_copy(part->neighbours.items, part->neighbours.count,
                  sizeof(*part->neighbours.items), &items);
    if (r == 0) {
        item.neighbours.items = items;
        item.neighbours.count = part->neighbours.count;
        *ret_network = item;
    }
    return r;
}

static int networks_write(struct orders_book *book,
                          const struct host_part *host,
                          struct msg_orders *orders)
{
    size_t count = u64_map_count(host->networks);
    CLEANUP_FREE const void **networks = orders_pointers(count);
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    if (networks == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; u64_map_next(host->networks, &cursor, &uid, &value); i++) {
        networks[i] = state_network(book->state, uid);
    }
    orders_sort_by_uid(networks, count);
    orders->networks.items =
        count > 0 ? calloc(count, sizeof(*orders->networks.items)) : NULL;
    int r = count > 0 && orders->networks.items == NULL ? -ENOMEM : 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = network_write(book, networks[i], host->uid, &orders->networks.items[i]);
        orders->networks.count += r == 0;
    }
    return r;
}

static bool blob_is_listed(const struct msg_blob_list *list, const struct digest *sha256)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (digest_equal(&list->items[i].sha256, sha256)) {
            return true;
        }
    }
    return false;
}

static void blob_write(struct msg_orders *orders,
                       const struct msg_blob *blob,
                       struct blob_holder_pair holders)
{
    if (orders->blobs.count < ORDERS_BOOK_BLOBS) {
        struct msg_blob *item = &orders->blobs.items[orders->blobs.count++];
        *item = *blob;
        item->holder = blob_holder_for(holders, orders->host);
    }
}

/* What the host's own VMs boot from comes first, then every other image: a host that has
 * them all can take any VM without waiting. */
static int blobs_write(struct orders_book *book, struct msg_orders *orders)
{
    orders->blobs.items = calloc(ORDERS_BOOK_BLOBS, sizeof(*orders->blobs.items));
    if (orders->blobs.items == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; orders->vms.items != NULL && i < orders->vms.count; i++) {
        const struct artifact_list *artifacts = &orders->vms.items[i].image.artifacts;
        for (uint32_t k = 0; k < artifacts->count; k++) {
            const struct artifact *artifact = &artifacts->items[k];
            if (!digest_is_zero(&artifact->sha256) &&
                !blob_is_listed(&orders->blobs, &artifact->sha256)) {
                const struct offer *offer = orders_offer_find(book, &artifact->sha256);
                const struct msg_blob blob = {.sha256 = artifact->sha256,
                                              .size_bytes = artifact->size_bytes};
                blob_write(orders, &blob,
                           offer != NULL ? offer->holders
                                         : orders_holders_of(book, &artifact->sha256));
            }
        }
    }
    const struct msg_blob_list own = orders->blobs; /* no offer is there twice */
    for (uint32_t i = 0; i < book->offer_count; i++) {
        const struct offer *offer = &book->offers[i];
        if (!blob_is_listed(&own, &offer->blob.sha256)) {
            blob_write(orders, &offer->blob, offer->holders);
        }
    }
    return 0;
}

int orders_book_write(struct orders_book *book,
                      uint64_t host,
                      struct msg_orders *ret_orders)
{
    const struct host_part *part =
        book->rebuild || host == 0 ? NULL : u64_map_get(book->hosts, host);
    if (part == NULL || state_host(book->state, host) == NULL) {
        return BERTH_ENOTFOUND;
    }
    REQUIRE(book->note_count == 0); /* what was looked at is what is there */
    struct msg_orders orders;
    record_init(&msg_orders_record, &orders);
    orders.host = host;
    orders.revision = state_revision(book->state);
    int r = members_write(book, &orders);
    r = r == 0 ? vms_write(book, &orders) : r;
    r = r == 0 ? snapshots_write(book, &orders) : r;
    r = r == 0 ? networks_write(book, part, &orders) : r;
    r = r == 0 ? blobs_write(book, &orders) : r;
    if (r < 0) {
        record_fini(&msg_orders_record, &orders);
        return r;
    }
    *ret_orders = orders;
    return 0;
}
