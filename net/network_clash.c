#include "net/network_clash.h"

#include "base/parse_number.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Shorter prefixes are halves and quarters of a default route; no network is so large. */
#define ON_LINK_PREFIX_MIN 8

enum taken_kind { TAKEN_ADDRESS = 0, TAKEN_GATEWAY, TAKEN_ON_LINK };

/* A range that is somewhere else already. */
struct taken {
    enum taken_kind kind;
    struct network_cidr range;
    int link;
};

struct own_link {
    int index;
    bool bridge; /* of a tenant network */
    char name[NETWORK_IFNAME_SIZE];
};

struct search {
    struct own_link *links;
    size_t link_count;
    size_t link_capacity;
    struct taken *taken;
    size_t taken_count;
    size_t taken_capacity;
    bool failed; /* out of memory, sticky */
};

static void *grown(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) {
        return items;
    }
    size_t more = *capacity == 0 ? 32 : 2 * *capacity;
    void *larger = reallocarray(items, more, size);
    *capacity = larger != NULL ? more : *capacity;
    return larger;
}

static void see_link(void *context, const struct netlink_link *seen)
{
    struct search *search = context;
    struct own_link link = {.index = seen->index};
    enum network_link_kind kind;
    uint32_t vni;

    link.bridge = network_name_parse(seen->name, &kind, &vni) &&
                  kind == NETWORK_LINK_BRIDGE && strcmp(seen->kind, "bridge") == 0;
    memcpy(link.name, seen->name, sizeof(link.name));
    void *links = grown(search->links, search->link_count, &search->link_capacity,
                        sizeof(*search->links));
    if (links == NULL) {
        search->failed = true;
        return;
    }
    search->links = links;
    search->links[search->link_count++] = link;
}

static const struct own_link *link_of(const struct search *search, int index)
{
    for (size_t i = 0; i < search->link_count; i++) {
        if (search->links[i].index == index) {
            return &search->links[i];
        }
    }
    return NULL;
}

/* Many routes share few gateways and links: each is kept once. */
static bool is_kept(const struct search *search, const struct taken *taken)
{
    for (size_t i = 0; i < search->taken_count; i++) {
        const struct taken *kept = &search->taken[i];
        if (kept->kind == taken->kind && kept->link == taken->link &&
            kept->range.address == taken->range.address &&
            kept->range.prefix_bits == taken->range.prefix_bits) {
            return true;
        }
    }
    return false;
}

static void keep(struct search *search, struct taken taken)
{
    const struct own_link *link = link_of(search, taken.link);
    if ((link != NULL && link->bridge) || is_kept(search, &taken)) {
        return;
    }
    void *items = grown(search->taken, search->taken_count, &search->taken_capacity,
                        sizeof(*search->taken));
    if (items == NULL) {
        search->failed = true;
        return;
    }
    search->taken = items;
    search->taken[search->taken_count++] = taken;
}

static void see_address(void *context, const struct netlink_address *address)
{
    keep(context, (struct taken){.kind = TAKEN_ADDRESS,
                                 .range = {address->ipv4, 32},
                                 .link = address->link});
}

static void see_route(void *context, const struct netlink_route *route)
{
    if (route->gateway != 0) {
        keep(context, (struct taken){.kind = TAKEN_GATEWAY,
                                     .range = {route->gateway, 32},
                                     .link = route->link});
    } else if (route->prefix_bits >= ON_LINK_PREFIX_MIN) {
        keep(context, (struct taken){.kind = TAKEN_ON_LINK,
                                     .range = {route->ipv4, route->prefix_bits},
                                     .link = route->link});
    }
}

static bool overlaps(const struct network_cidr *a, const struct network_cidr *b)
{
    uint32_t bits = a->prefix_bits < b->prefix_bits ? a->prefix_bits : b->prefix_bits;
    return bits == 0 || (a->address ^ b->address) >> (32 - bits) == 0;
}

static bool covers(const struct network_want *want, uint32_t address)
{
    return overlaps(&want->cidr, &(struct network_cidr){address, 32});
}

static void say_taken(const struct search *search,
                      const struct taken *taken,
                      char text[NETWORK_TAKEN_SIZE])
{
    static const char *const words[] = {[TAKEN_ADDRESS] = "an address of this host",
                                        [TAKEN_GATEWAY] = "a gateway of this host",
                                        [TAKEN_ON_LINK] =
                                            "which this host reaches directly"};
    const struct own_link *link = link_of(search, taken->link);
    char what[CIDR_TEXT_SIZE];

    if (taken->range.prefix_bits == 32) {
        format_ipv4(taken->range.address, what);
    } else {
        format_cidr(taken->range.address, taken->range.prefix_bits, what);
    }
    (void)snprintf(text, NETWORK_TAKEN_SIZE, "%s, %s (link %s)", what, words[taken->kind],
                   link != NULL ? link->name : "?");
}

/* True when there is something to say against the network. */
static bool judge(const struct search *search,
                  const struct network_host *host,
                  const struct network_want *want,
                  char text[NETWORK_CLASH_SIZE])
{
    char range[CIDR_TEXT_SIZE];

    format_cidr(want->cidr.address, want->cidr.prefix_bits, range);
    if (covers(want, host->underlay)) {
        (void)snprintf(text, NETWORK_CLASH_SIZE,
                       "its range %s covers this host's address", range);
        return true;
    }
    for (size_t i = 0; i < want->remote_count; i++) {
        if (covers(want, want->remotes[i].underlay)) {
            (void)snprintf(text, NETWORK_CLASH_SIZE,
                           "its range %s covers another host's address", range);
            return true;
        }
    }
    for (size_t i = 0; i < search->taken_count; i++) {
        if (overlaps(&want->cidr, &search->taken[i].range)) {
            char what[NETWORK_TAKEN_SIZE];
            say_taken(search, &search->taken[i], what);
            (void)snprintf(text, NETWORK_CLASH_SIZE, "its range %s overlaps %s", range,
                           what);
            return true;
        }
    }
    return false;
}

static bool is_here(const struct search *search, uint32_t vni)
{
    char name[NETWORK_IFNAME_SIZE];

    network_bridge_name(vni, name);
    for (size_t i = 0; i < search->link_count; i++) {
        if (search->links[i].bridge && strcmp(search->links[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* search_fini in any case. */
static int search_all(struct search *search, struct netlink *netlink, struct err *err)
{
    int r = netlink_links(netlink, see_link, search, err);
    r = r != 0 ? r : netlink_addresses(netlink, see_address, search, err);
    r = r != 0 ? r : netlink_routes(netlink, see_route, search, err);
    return r == 0 && search->failed ? err_sys(err, -ENOMEM, "look at what is taken") : r;
}

static void search_fini(struct search *search)
{
    free(search->links);
    free(search->taken);
}

int network_taken_find(struct netlink *netlink,
                       struct network_taken **ret_taken,
                       size_t *ret_count,
                       struct err *err)
{
    struct search search = {0};
    struct network_taken *taken = NULL;

    int r = search_all(&search, netlink, err);
    if (r == 0 && search.taken_count > 0) {
        taken = calloc(search.taken_count, sizeof(*taken));
        r = taken == NULL ? err_sys(err, -ENOMEM, "look at what is taken") : 0;
    }
    for (size_t i = 0; taken != NULL && i < search.taken_count; i++) {
        taken[i].range = search.taken[i].range;
        say_taken(&search, &search.taken[i], taken[i].text);
    }
    if (r == 0) {
        *ret_taken = taken;
        *ret_count = search.taken_count;
    }
    search_fini(&search);
    return r;
}

int network_clash_find(struct netlink *netlink,
                       const struct network_host *host,
                       const struct network_want *wants,
                       size_t count,
                       struct network_clash **ret_clashes,
                       size_t *ret_count,
                       struct err *err)
{
    struct search search = {0};
    struct network_clash *clashes = calloc(count + 1, sizeof(*clashes));
    size_t found = 0;

    int r = clashes == NULL ? err_sys(err, -ENOMEM, "look for what networks clash with")
                            : search_all(&search, netlink, err);
    for (size_t i = 0; r == 0 && i < count; i++) {
        clashes[found].vni = wants[i].vni;
        if (!is_here(&search, wants[i].vni) &&
            judge(&search, host, &wants[i], clashes[found].text)) {
            found++;
        }
    }
    search_fini(&search);
    if (r != 0 || found == 0) {
        free(clashes);
        clashes = NULL;
    }
    if (r == 0) {
        *ret_clashes = clashes;
        *ret_count = found;
    }
    return r;
}
