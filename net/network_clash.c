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
    struct network_cidr range; /* begins where it says */
    int link;
};

struct own_link {
    int index;
    bool bridge; /* of a tenant network: */
    uint32_t vni;
    char name[NETWORK_IFNAME_SIZE];
};

/* By address and none within another, once all are seen. */
struct taken_set {
    struct taken *items;
    size_t count;
    size_t capacity;
};

struct search {
    struct own_link *links; /* by index, once all are seen */
    size_t link_count;
    size_t link_capacity;
    struct taken_set taken;    /* for the host itself */
    struct taken_set networks; /* by tenant networks that are here */
    bool failed;               /* out of memory, sticky */
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

    link.bridge = network_name_parse(seen->name, &kind, &link.vni) &&
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

static int by_index(const void *left, const void *right)
{
    const struct own_link *a = left;
    const struct own_link *b = right;

    return (a->index > b->index) - (a->index < b->index);
}

static const struct own_link *link_of(const struct search *search, int index)
{
    const struct own_link key = {.index = index};

    return search->link_count > 0 ? bsearch(&key, search->links, search->link_count,
                                            sizeof(*search->links), by_index)
                                  : NULL;
}

static bool overlaps(const struct network_cidr *a, const struct network_cidr *b)
{
    return ipv4_ranges_overlap(a->address, a->prefix_bits, b->address, b->prefix_bits);
}

static int compare_u32(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

/* A range comes before those within it. */
static int by_address(const void *left, const void *right)
{
    const struct taken *a = left;
    const struct taken *b = right;
    int r = compare_u32(a->range.address, b->range.address);

    r = r != 0 ? r : compare_u32(a->range.prefix_bits, b->range.prefix_bits);
    r = r != 0 ? r : compare_u32(a->kind, b->kind);
    return r != 0 ? r : (a->link > b->link) - (a->link < b->link);
}

/* Each range once, and none within another: what overlaps the one overlaps the other. */
static void condense(struct taken_set *set)
{
    size_t kept = 0;

    if (set->count > 0) {
        qsort(set->items, set->count, sizeof(*set->items), by_address);
    }
    for (size_t i = 0; i < set->count; i++) {
        if (kept == 0 || !overlaps(&set->items[kept - 1].range, &set->items[i].range)) {
            set->items[kept++] = set->items[i];
        }
    }
    set->count = kept;
}

/* Many routes share few gateways and links: before more memory is taken, what is there
 * twice goes. */
static bool has_room(struct taken_set *set)
{
    if (set->count < set->capacity) {
        return true;
    }
    condense(set);
    if (set->capacity > 0 && set->count < set->capacity / 2) {
        return true; /* for as many as that cost the sorting of */
    }
    void *items = grown(set->items, set->capacity, &set->capacity, sizeof(*set->items));
    set->items = items != NULL ? items : set->items;
    return items != NULL;
}

static void keep(struct search *search, struct taken taken)
{
    const struct own_link *link = link_of(search, taken.link);
    struct taken_set *set =
        link != NULL && link->bridge ? &search->networks : &search->taken;

    if (has_room(set)) {
        set->items[set->count++] = taken;
    } else {
        search->failed = true;
    }
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
    for (size_t i = 0; i < search->taken.count; i++) {
        if (overlaps(&want->cidr, &search->taken.items[i].range)) {
            char what[NETWORK_TAKEN_SIZE];
            say_taken(search, &search->taken.items[i], what);
            (void)snprintf(text, NETWORK_CLASH_SIZE, "its range %s overlaps %s", range,
                           what);
            return true;
        }
    }
    return false;
}

static bool is_here(const struct search *search, uint32_t vni)
{
    bool here = false;

    for (size_t i = 0; i < search->link_count && !here; i++) {
        here = search->links[i].bridge && search->links[i].vni == vni;
    }
    return here;
}

static int search_links(struct search *search, struct netlink *netlink, struct err *err)
{
    int r = netlink_links(netlink, see_link, search, err);

    if (search->link_count > 0) {
        qsort(search->links, search->link_count, sizeof(*search->links), by_index);
    }
    return r;
}

/* Once the links are known; search_fini in any case. */
static int search_taken(struct search *search,
                        struct netlink *netlink,
                        uint64_t routes_max,
                        bool *ret_cut,
                        struct err *err)
{
    int r = netlink_addresses(netlink, see_address, search, err);
    r = r != 0
            ? r
            : netlink_routes_some(netlink, routes_max, see_route, search, ret_cut, err);
    condense(&search->taken);
    condense(&search->networks);
    return r == 0 && search->failed ? err_sys(err, -ENOMEM, "look at what is taken") : r;
}

static void search_fini(struct search *search)
{
    free(search->links);
    free(search->taken.items);
    free(search->networks.items);
}

static int by_width(const void *left, const void *right)
{
    const struct taken *a = left;
    const struct taken *b = right;
    int r = compare_u32(a->range.prefix_bits, b->range.prefix_bits);

    return r != 0 ? r : by_address(left, right);
}

/* Networks that are here although their range is taken: both sets are in order. */
static void tell_carried(const struct search *search, struct network_taken_look *ret_look)
{
    size_t at = 0;

    for (size_t i = 0; i < search->networks.count && at < search->taken.count;) {
        const struct taken *network = &search->networks.items[i];
        const struct taken *taken = &search->taken.items[at];
        if (!overlaps(&network->range, &taken->range)) {
            bool before = network->range.address < taken->range.address;
            i += before ? 1U : 0U;
            at += before ? 0U : 1U;
            continue;
        }
        const struct own_link *link = link_of(search, network->link);
        if (link != NULL && ret_look->carried_count < NETWORK_CARRIED_MAX) {
            ret_look->carried[ret_look->carried_count++] = link->vni;
        }
        i++;
    }
}

/* The widest of them, in words. */
static int
tell_taken(struct search *search, struct network_taken_look *ret_look, struct err *err)
{
    struct taken_set *set = &search->taken;
    size_t count = set->count < NETWORK_TAKEN_MAX ? set->count : NETWORK_TAKEN_MAX;
    struct network_taken *ranges = calloc(count + 1, sizeof(*ranges));

    if (ranges == NULL) {
        return err_sys(err, -ENOMEM, "look at what is taken");
    }
    if (count > 0) {
        qsort(set->items, set->count, sizeof(*set->items), by_width);
    }
    for (size_t i = 0; i < count; i++) {
        ranges[i].range = set->items[i].range;
        say_taken(search, &set->items[i], ranges[i].text);
    }
    ret_look->ranges = ranges;
    ret_look->count = count;
    ret_look->complete = ret_look->complete && count == set->count;
    return 0;
}

int network_taken_find(struct netlink *netlink,
                       struct network_taken_look *ret_look,
                       struct err *err)
{
    struct search search = {0};
    struct network_taken_look look = {0};
    bool cut = false;

    int r = search_links(&search, netlink, err);
    r = r != 0 ? r : search_taken(&search, netlink, NETWORK_TAKEN_ROUTES_MAX, &cut, err);
    look.complete = !cut;
    tell_carried(&search, &look);
    r = r != 0 ? r : tell_taken(&search, &look, err);
    search_fini(&search);
    if (r == 0) {
        *ret_look = look;
    }
    return r;
}

void network_taken_fini(struct network_taken_look *look)
{
    free(look->ranges);
    *look = (struct network_taken_look){0};
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
    size_t here = 0;
    bool cut;

    int r = clashes == NULL ? err_sys(err, -ENOMEM, "look for what networks clash with")
                            : search_links(&search, netlink, err);
    while (r == 0 && here < count && is_here(&search, wants[here].vni)) {
        here++;
    }
    if (r == 0 && here < count) { /* there is one to judge */
        r = search_taken(&search, netlink, UINT64_MAX, &cut, err);
    }
    for (size_t i = here; r == 0 && i < count; i++) {
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
