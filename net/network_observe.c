#include "net/network_observe.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "net/dhcp_dns.h"
#include "net/forwarding.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Folders of networks that are looked at; more than a host carries, so that none is
 * forgotten. */
#define SERVICES_MAX (UINT32_C(4) * NETWORK_WANTS_MAX)

/* One of our links by its index, for what the lists say by index. */
struct known_link {
    int index;
    int master;
    struct network_link link;
};

struct observer {
    struct known_link *links;
    size_t link_count;
    size_t link_capacity;
    struct network_entry *entries;
    size_t entry_count;
    size_t entry_capacity;
    bool failed; /* out of memory, sticky */
};

/* Room for one more item; false when out of memory. */
static bool array_grow(void **items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) {
        return true;
    }
    size_t more = *capacity == 0 ? 32 : 2 * *capacity;
    void *grown = reallocarray(*items, more, size);
    if (grown == NULL) {
        return false;
    }
    *items = grown;
    *capacity = more;
    return true;
}

/* ---- links ---- */

static bool kind_matches(enum network_link_kind kind, const char *kernel_kind)
{
    static const char *const kinds[] = {[NETWORK_LINK_BRIDGE] = "bridge",
                                        [NETWORK_LINK_VXLAN] = "vxlan",
                                        [NETWORK_LINK_TAP] = "tun"};

    return strcmp(kinds[kind], kernel_kind) == 0;
}

static void see_link(void *context, const struct netlink_link *seen)
{
    struct observer *observer = context;
    struct known_link known = {.index = seen->index, .master = seen->master};
    struct network_link *link = &known.link;
    void *links = observer->links;

    if (!network_name_parse(seen->name, &link->kind, &link->vni) ||
        !kind_matches(link->kind, seen->kind)) {
        return;
    }
    memcpy(link->name, seen->name, sizeof(link->name));
    link->up = seen->up;
    link->mtu = seen->mtu;
    link->port_flags = seen->master != 0 ? seen->port_flags : 0;
    if (link->kind == NETWORK_LINK_BRIDGE) {
        link->mac = seen->mac;
    }
    if (link->kind == NETWORK_LINK_VXLAN && seen->vxlan_vni == link->vni &&
        seen->vxlan_port == NETWORK_VXLAN_PORT && !seen->vxlan_learning) {
        link->underlay = seen->vxlan_local;
    }
    if (!array_grow(&links, observer->link_count, &observer->link_capacity,
                    sizeof(known))) {
        observer->failed = true;
        return;
    }
    observer->links = links;
    observer->links[observer->link_count++] = known;
}

static int compare_indices(const void *a, const void *b)
{
    return ((const struct known_link *)a)->index - ((const struct known_link *)b)->index;
}

static const struct known_link *find_link(const struct observer *observer, int index)
{
    struct known_link key = {.index = index};

    return observer->link_count == 0
               ? NULL
               : bsearch(&key, observer->links, observer->link_count, sizeof(key),
                         compare_indices);
}

static void resolve_masters(struct observer *observer)
{
    if (observer->link_count == 0) {
        return;
    }
    qsort(observer->links, observer->link_count, sizeof(*observer->links),
          compare_indices);
    for (size_t i = 0; i < observer->link_count; i++) {
        struct known_link *known = &observer->links[i];
        const struct known_link *master = find_link(observer, known->master);
        if (master != NULL) {
            memcpy(known->link.master, master->link.name, sizeof(known->link.master));
        } else if (known->master != 0) {
            /* Someone put it under a foreign master: not where we want it, wherever that
             * is. */
            (void)snprintf(known->link.master, sizeof(known->link.master), "?");
        }
    }
}

/* ---- entries ---- */

static void see_entry(struct observer *observer, const struct network_entry *entry)
{
    void *entries = observer->entries;

    if (!array_grow(&entries, observer->entry_count, &observer->entry_capacity,
                    sizeof(*entry))) {
        observer->failed = true;
        return;
    }
    observer->entries = entries;
    observer->entries[observer->entry_count++] = *entry;
}

/* The bridge with that index, or NULL. */
static const struct network_link *find_bridge(const struct observer *observer, int index)
{
    const struct known_link *known = find_link(observer, index);

    return known != NULL && known->link.kind == NETWORK_LINK_BRIDGE ? &known->link : NULL;
}

static void see_address(void *context, const struct netlink_address *address)
{
    const struct network_link *bridge = find_bridge(context, address->link);

    if (bridge != NULL) {
        see_entry(context, &(struct network_entry){.kind = NETWORK_ENTRY_ADDRESS,
                                                   .vni = bridge->vni,
                                                   .key = address->ipv4,
                                                   .value = address->prefix_bits});
    }
}

static void see_route(void *context, const struct netlink_route *route)
{
    const struct network_link *bridge = find_bridge(context, route->link);

    if (bridge != NULL && route->gateway == 0) {
        see_entry(context, &(struct network_entry){.kind = NETWORK_ENTRY_ROUTE,
                                                   .vni = bridge->vni,
                                                   .key = (uint64_t)route->ipv4 << 8 |
                                                          route->prefix_bits,
                                                   .value = route->source});
    }
}

static void see_neighbour(void *context, const struct netlink_neighbour *neighbour)
{
    const struct network_link *bridge = find_bridge(context, neighbour->link);

    /* What the kernel found out by itself (about local VMs) is its own business. */
    if (bridge != NULL && neighbour->permanent) {
        see_entry(context, &(struct network_entry){.kind = NETWORK_ENTRY_NEIGHBOUR,
                                                   .vni = bridge->vni,
                                                   .key = neighbour->ipv4,
                                                   .value = neighbour->mac});
    }
}

static void see_fdb(void *context, const struct netlink_fdb *fdb)
{
    const struct known_link *known = find_link(context, fdb->link);

    if (known == NULL || !fdb->fixed) {
        return;
    }
    if (fdb->self && known->link.kind == NETWORK_LINK_VXLAN) {
        see_entry(context, &(struct network_entry){.kind = NETWORK_ENTRY_VXLAN_FDB,
                                                   .vni = known->link.vni,
                                                   .key = fdb->mac,
                                                   .value = fdb->destination});
        return;
    }
    const struct network_link *bridge = find_bridge(context, known->master);
    if (!fdb->self && bridge != NULL) {
        struct network_entry entry = {
            .kind = NETWORK_ENTRY_BRIDGE_FDB, .vni = bridge->vni, .key = fdb->mac};
        memcpy(entry.port, known->link.name, sizeof(entry.port));
        see_entry(context, &entry);
    }
}

/* ---- services ---- */

static int see_services(const struct network_host *host,
                        struct network_observed *observed,
                        struct err *err)
{
    CLEANUP_FREE uint32_t *vnis = calloc(SERVICES_MAX, sizeof(*vnis));

    if (vnis == NULL) {
        return err_set(err, -ENOMEM, "look at network services: out of memory");
    }
    int count = dhcp_dns_list(host, vnis, SERVICES_MAX, err);
    if (count <= 0) {
        return count;
    }
    observed->services = calloc((size_t)count, sizeof(*observed->services));
    if (observed->services == NULL) {
        return err_set(err, -ENOMEM, "look at network services: out of memory");
    }
    for (int i = 0; i < count; i++) {
        struct dhcp_dns_instance instance;
        dhcp_dns_find(host, vnis[i], &instance);
        observed->services[observed->service_count++] =
            (struct network_service){.vni = vnis[i],
                                     .running = instance.pid != 0,
                                     .config_hash = instance.config_hash,
                                     .hosts_hash = instance.hosts_hash};
    }
    return 0;
}

static int see_kernel(struct netlink *netlink, struct observer *observer, struct err *err)
{
    int r = netlink_links(netlink, see_link, observer, err);

    if (r != 0) {
        return r;
    }
    resolve_masters(observer);
    if (observer->link_count > 0) {
        r = netlink_addresses(netlink, see_address, observer, err);
        r = r != 0 ? r : netlink_routes(netlink, see_route, observer, err);
        r = r != 0 ? r : netlink_neighbours(netlink, see_neighbour, observer, err);
        r = r != 0 ? r : netlink_fdbs(netlink, see_fdb, observer, err);
    }
    return r == 0 && observer->failed
               ? err_set(err, -ENOMEM, "look at networks: out of memory")
               : r;
}

int network_observe(struct netlink *netlink,
                    const struct network_host *host,
                    struct network_observed *ret_observed,
                    struct err *err)
{
    struct observer observer = {0};
    struct network_observed observed = {.forwarding = forwarding_is_on(),
                                        .forwarding_ours =
                                            forwarding_is_ours(host->state_folder)};

    int r = see_kernel(netlink, &observer, err);
    observed.entries = observer.entries;
    observed.entry_count = observer.entry_count;
    if (r == 0 && observer.link_count > 0) {
        observed.links = calloc(observer.link_count, sizeof(*observed.links));
        if (observed.links == NULL) {
            r = err_set(err, -ENOMEM, "look at networks: out of memory");
        }
    }
    for (size_t i = 0; r == 0 && i < observer.link_count; i++) {
        observed.links[observed.link_count++] = observer.links[i].link;
    }
    free(observer.links);
    if (r == 0) {
        r = see_services(host, &observed, err);
    }
    if (r != 0) {
        network_observed_fini(&observed);
        return r;
    }
    *ret_observed = observed;
    return 0;
}
