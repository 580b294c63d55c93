#include "net/network_plan.h"

#include "base/cleanup.h"
#include "base/parse_number.h"
#include "base/require.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAP_PORT_FLAGS   NETWORK_PORT_BCAST_FLOOD
#define VXLAN_PORT_FLAGS NETWORK_PORT_NEIGH_SUPPRESS

/* ---- what is wanted, in the shape of what is seen ---- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static int compare_links(const void *a, const void *b)
{
    const struct network_link *x = a;
    const struct network_link *y = b;

    /* Bridges before what attaches to them. */
    return x->kind != y->kind ? (int)x->kind - (int)y->kind : strcmp(x->name, y->name);
}

static int compare_entry_keys(const struct network_entry *x,
                              const struct network_entry *y)
{
    if (x->kind != y->kind) {
        return (int)x->kind - (int)y->kind;
    }
    if (x->vni != y->vni) {
        return x->vni < y->vni ? -1 : 1;
    }
    return x->key < y->key ? -1 : x->key > y->key;
}

static int compare_entries(const void *a, const void *b)
{
    const struct network_entry *x = a;
    const struct network_entry *y = b;
    int r = compare_entry_keys(x, y);

    if (r == 0 && x->value != y->value) {
        r = x->value < y->value ? -1 : 1;
    }
    return r != 0 ? r : strcmp(x->port, y->port);
}

struct goal {
    struct network_link *links;
    size_t link_count;
    struct network_entry *entries;
    size_t entry_count;
};

static void goal_fini(struct goal *goal)
{
    free(goal->links);
    free(goal->entries);
}

static void goal_add_entry(struct goal *goal,
                           enum network_entry_kind kind,
                           uint32_t vni,
                           uint64_t key,
                           uint64_t value,
                           const char *port)
{
    struct network_entry *entry = &goal->entries[goal->entry_count++];

    *entry = (struct network_entry){.kind = kind, .vni = vni, .key = key, .value = value};
    (void)snprintf(entry->port, sizeof(entry->port), "%s", port);
}

static void goal_add_links(struct goal *goal,
                           const struct network_host *host,
                           const struct network_want *want)
{
    struct network_link link = {.kind = NETWORK_LINK_BRIDGE,
                                .vni = want->vni,
                                .up = true,
                                .mtu = want->mtu,
                                .mac = network_bridge_mac(host->host_id, want->vni)};

    network_bridge_name(want->vni, link.name);
    goal->links[goal->link_count++] = link;

    memcpy(link.master, link.name, sizeof(link.master));
    network_vxlan_name(want->vni, link.name);
    link.kind = NETWORK_LINK_VXLAN;
    link.mac = 0;
    link.underlay = host->underlay;
    link.port_flags = VXLAN_PORT_FLAGS;
    goal->links[goal->link_count++] = link;

    link.kind = NETWORK_LINK_TAP;
    link.underlay = 0;
    link.port_flags = TAP_PORT_FLAGS;
    for (size_t i = 0; i < want->port_count; i++) {
        memcpy(link.name, want->ports[i].tap, sizeof(link.name));
        goal->links[goal->link_count++] = link;
    }
}

static int goal_add_entries(struct goal *goal, const struct network_want *want)
{
    CLEANUP_FREE uint64_t *elsewhere = calloc(want->remote_count + 1, sizeof(*elsewhere));
    char vxlan[NETWORK_IFNAME_SIZE];

    if (elsewhere == NULL) {
        return -ENOMEM;
    }
    network_vxlan_name(want->vni, vxlan);
    goal_add_entry(goal, NETWORK_ENTRY_ADDRESS, want->vni, want->gateway,
                   want->cidr.prefix_bits, "");
    goal_add_entry(goal, NETWORK_ENTRY_ADDRESS, want->vni, want->host_address,
                   want->cidr.prefix_bits, "");
    goal_add_entry(goal, NETWORK_ENTRY_ROUTE, want->vni,
                   (uint64_t)want->cidr.address << 8 | want->cidr.prefix_bits,
                   want->host_address, "");
    for (size_t i = 0; i < want->remote_count; i++) {
        const struct network_remote *remote = &want->remotes[i];
        goal_add_entry(goal, NETWORK_ENTRY_NEIGHBOUR, want->vni, remote->ipv4,
                       remote->mac, "");
        goal_add_entry(goal, NETWORK_ENTRY_BRIDGE_FDB, want->vni, remote->mac, 0, vxlan);
        goal_add_entry(goal, NETWORK_ENTRY_VXLAN_FDB, want->vni, remote->mac,
                       remote->underlay, "");
        elsewhere[i] = remote->mac;
    }
    qsort(elsewhere, want->remote_count, sizeof(*elsewhere), compare_u64);
    for (size_t i = 0; i < want->port_count; i++) {
        const struct network_port *port = &want->ports[i];
        bool standby = bsearch(&port->mac, elsewhere, want->remote_count,
                               sizeof(*elsewhere), compare_u64) != NULL;
        if (!standby) {
            goal_add_entry(goal, NETWORK_ENTRY_BRIDGE_FDB, want->vni, port->mac, 0,
                           port->tap);
        }
    }
    return 0;
}

static int goal_make(struct goal *goal,
                     const struct network_host *host,
                     const struct network_want *wants,
                     size_t count)
{
    size_t links = 1;
    size_t entries = 1;

    for (size_t i = 0; i < count; i++) {
        links += 2 + wants[i].port_count;
        entries += 3 + 3 * wants[i].remote_count + wants[i].port_count;
    }
    *goal = (struct goal){.links = calloc(links, sizeof(*goal->links)),
                          .entries = calloc(entries, sizeof(*goal->entries))};
    int r = goal->links == NULL || goal->entries == NULL ? -ENOMEM : 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        goal_add_links(goal, host, &wants[i]);
        r = goal_add_entries(goal, &wants[i]);
    }
    if (r != 0) {
        goal_fini(goal);
        return r;
    }
    qsort(goal->links, goal->link_count, sizeof(*goal->links), compare_links);
    qsort(goal->entries, goal->entry_count, sizeof(*goal->entries), compare_entries);
    return 0;
}

static bool goal_has_vni(const struct network_want *wants, size_t count, uint32_t vni)
{
    for (size_t i = 0; i < count; i++) {
        if (wants[i].vni == vni) {
            return true;
        }
    }
    return false;
}

/* ---- differences ---- */

/* The plan under construction; steps are collected in phases that are walked in order. */
struct planner {
    const struct network_want *wants;
    size_t count;
    struct goal goal;
    struct network_observed *observed;
    struct network_plan plan;
    bool failed; /* out of memory, sticky */
};

static void plan_add(struct planner *planner, const struct network_step *step)
{
    struct network_plan *plan = &planner->plan;

    if (planner->failed) {
        return;
    }
    if (plan->count == plan->capacity) {
        size_t capacity = plan->capacity == 0 ? 64 : 2 * plan->capacity;
        struct network_step *steps = reallocarray(plan->steps, capacity, sizeof(*steps));
        if (steps == NULL) {
            planner->failed = true;
            return;
        }
        plan->steps = steps;
        plan->capacity = capacity;
    }
    plan->steps[plan->count++] = *step;
}

static void plan_add_link(struct planner *planner,
                          enum network_step_kind kind,
                          const struct network_link *link)
{
    plan_add(planner,
             &(struct network_step){.kind = kind, .vni = link->vni, .link = *link});
}

static void plan_add_entry(struct planner *planner,
                           enum network_step_kind kind,
                           const struct network_entry *entry)
{
    plan_add(planner,
             &(struct network_step){.kind = kind, .vni = entry->vni, .entry = *entry});
}

static void
plan_add_plain(struct planner *planner, enum network_step_kind kind, uint32_t vni)
{
    plan_add(planner, &(struct network_step){.kind = kind, .vni = vni});
}

static const struct network_link *
link_find(const struct network_link *links, size_t count, const struct network_link *key)
{
    return count == 0 ? NULL : bsearch(key, links, count, sizeof(*links), compare_links);
}

/* A VXLAN device cannot change its tunnel's end; it has to be made anew. */
static bool link_is_kept(const struct network_link *seen,
                         const struct network_link *wanted)
{
    return wanted != NULL &&
           (wanted->kind != NETWORK_LINK_VXLAN || seen->underlay == wanted->underlay);
}

static const struct network_link *link_seen(const struct planner *planner,
                                            const struct network_link *wanted)
{
    const struct network_link *seen =
        link_find(planner->observed->links, planner->observed->link_count, wanted);

    return seen != NULL && link_is_kept(seen, wanted) ? seen : NULL;
}

static void plan_stale_services(struct planner *planner,
                                const struct network_rendered *rendered)
{
    for (size_t i = 0; i < planner->observed->service_count; i++) {
        uint32_t vni = planner->observed->services[i].vni;
        bool wanted = false;
        for (size_t w = 0; w < planner->count; w++) {
            wanted |= planner->wants[w].vni == vni && rendered->services[w].running;
        }
        if (!wanted) {
            plan_add_plain(planner, NETWORK_STEP_SERVICE_STOP, vni);
        }
    }
}

static bool entry_same(const struct network_entry *a, const struct network_entry *b)
{
    return a->value == b->value && strcmp(a->port, b->port) == 0;
}

/* An address cannot be replaced in place, and a route must not be (the one replaced could
 * be another's); the others change without a gap. */
static bool entry_must_go(const struct network_entry *seen,
                          const struct network_entry *wanted)
{
    bool in_place =
        seen->kind != NETWORK_ENTRY_ADDRESS && seen->kind != NETWORK_ENTRY_ROUTE;

    return wanted == NULL || (!in_place && !entry_same(seen, wanted));
}

static const struct network_entry *entry_find(const struct network_entry *entries,
                                              size_t count,
                                              const struct network_entry *key)
{
    size_t low = 0;
    size_t high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_entry_keys(&entries[middle], key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && compare_entry_keys(&entries[low], key) == 0 ? &entries[low]
                                                                      : NULL;
}

static void plan_stale_entries(struct planner *planner)
{
    const struct network_observed *observed = planner->observed;

    for (size_t i = 0; i < observed->entry_count; i++) {
        const struct network_entry *seen = &observed->entries[i];
        const struct network_entry *wanted =
            entry_find(planner->goal.entries, planner->goal.entry_count, seen);
        /* Those of a network that goes altogether go with its links. */
        if (entry_must_go(seen, wanted) &&
            goal_has_vni(planner->wants, planner->count, seen->vni)) {
            plan_add_entry(planner, NETWORK_STEP_ENTRY_UNSET, seen);
        }
    }
}

/* Taps and VXLAN devices before their bridges: the list is sorted by kind, so it is
 * walked backwards. */
static void plan_stale_links(struct planner *planner)
{
    const struct network_observed *observed = planner->observed;

    for (size_t i = observed->link_count; i-- > 0;) {
        const struct network_link *seen = &observed->links[i];
        const struct network_link *wanted =
            link_find(planner->goal.links, planner->goal.link_count, seen);
        if (!link_is_kept(seen, wanted)) {
            plan_add_link(planner, NETWORK_STEP_LINK_REMOVE, seen);
        } else if (seen->up && seen->master[0] != '\0' &&
                   strcmp(seen->master, wanted->master) != 0) {
            /* It must not carry its old rules' trust into another network. */
            plan_add_link(planner, NETWORK_STEP_LINK_DOWN, wanted);
        }
    }
}

static void plan_new_links(struct planner *planner)
{
    for (size_t i = 0; i < planner->goal.link_count; i++) {
        const struct network_link *wanted = &planner->goal.links[i];
        const struct network_link *seen = link_seen(planner, wanted);
        if (seen == NULL) {
            plan_add_link(planner, NETWORK_STEP_LINK_CREATE, wanted);
        } else {
            if (seen->mtu != wanted->mtu) {
                plan_add_link(planner, NETWORK_STEP_LINK_MTU, wanted);
            }
            if (seen->mac != wanted->mac) {
                plan_add_link(planner, NETWORK_STEP_LINK_MAC, wanted);
            }
        }
        if (wanted->master[0] == '\0') {
            continue;
        }
        bool attached = seen != NULL && strcmp(seen->master, wanted->master) == 0;
        if (!attached) {
            plan_add_link(planner, NETWORK_STEP_LINK_ATTACH, wanted);
        }
        if (!attached || seen->port_flags != wanted->port_flags) {
            plan_add_link(planner, NETWORK_STEP_PORT_FLAGS, wanted);
        }
    }
}

static void plan_links_up(struct planner *planner, bool taps)
{
    for (size_t i = 0; i < planner->goal.link_count; i++) {
        const struct network_link *wanted = &planner->goal.links[i];
        const struct network_link *seen = link_seen(planner, wanted);
        bool moved = seen != NULL && strcmp(seen->master, wanted->master) != 0;
        if ((wanted->kind == NETWORK_LINK_TAP) == taps &&
            (seen == NULL || !seen->up || moved)) {
            plan_add_link(planner, NETWORK_STEP_LINK_UP, wanted);
        }
    }
}

/* An entry that is seen is there only if nothing that this plan does takes it along:
 * making a link anew loses what it held, and so does moving a port to another bridge. */
static bool entry_survives(const struct planner *planner,
                           const struct network_entry *entry)
{
    struct network_link key = {.kind = NETWORK_LINK_BRIDGE};
    enum network_link_kind kind = NETWORK_LINK_BRIDGE;
    uint32_t vni = 0;

    if (entry->kind == NETWORK_ENTRY_VXLAN_FDB) {
        key.kind = NETWORK_LINK_VXLAN;
        network_vxlan_name(entry->vni, key.name);
    } else if (entry->kind == NETWORK_ENTRY_BRIDGE_FDB) {
        (void)network_name_parse(entry->port, &kind, &vni);
        key.kind = kind;
        memcpy(key.name, entry->port, sizeof(key.name));
    } else {
        network_bridge_name(entry->vni, key.name);
    }
    const struct network_link *wanted =
        link_find(planner->goal.links, planner->goal.link_count, &key);
    const struct network_link *seen = wanted != NULL ? link_seen(planner, wanted) : NULL;
    return seen != NULL && strcmp(seen->master, wanted->master) == 0;
}

static void plan_new_entries(struct planner *planner)
{
    const struct network_observed *observed = planner->observed;

    for (size_t i = 0; i < planner->goal.entry_count; i++) {
        const struct network_entry *wanted = &planner->goal.entries[i];
        const struct network_entry *seen =
            entry_find(observed->entries, observed->entry_count, wanted);
        if (seen == NULL || !entry_same(seen, wanted) ||
            !entry_survives(planner, wanted)) {
            plan_add_entry(planner, NETWORK_STEP_ENTRY_SET, wanted);
        }
    }
}

static void plan_rules(struct planner *planner, uint64_t wanted_hash)
{
    uint64_t seen_hash = planner->observed->rules_hash;

    if (planner->count == 0) {
        if (seen_hash != NETWORK_RULES_NONE) {
            plan_add_plain(planner, NETWORK_STEP_RULES_REMOVE, 0);
        }
    } else if (seen_hash != wanted_hash) {
        plan_add_plain(planner, NETWORK_STEP_RULES_INSTALL, 0);
    }
}

static void plan_forwarding(struct planner *planner)
{
    bool needed = false;

    for (size_t i = 0; i < planner->count; i++) {
        needed |= planner->wants[i].nat;
    }
    if (needed && !planner->observed->forwarding) {
        plan_add_plain(planner, NETWORK_STEP_FORWARDING_ON, 0);
    } else if (!needed && planner->observed->forwarding_ours) {
        plan_add_plain(planner, NETWORK_STEP_FORWARDING_BACK, 0);
    }
}

static void plan_services(struct planner *planner,
                          const struct network_rendered *rendered)
{
    for (size_t w = 0; w < planner->count; w++) {
        const struct network_service *wanted = &rendered->services[w];
        const struct network_service *seen = NULL;
        struct network_link bridge = {.kind = NETWORK_LINK_BRIDGE};
        for (size_t i = 0; i < planner->observed->service_count; i++) {
            if (planner->observed->services[i].vni == planner->wants[w].vni) {
                seen = &planner->observed->services[i];
            }
        }
        if (!wanted->running) {
            continue;
        }
        /* An instance that outlived its bridge listens on nothing. */
        network_bridge_name(planner->wants[w].vni, bridge.name);
        bool bound = link_find(planner->observed->links, planner->observed->link_count,
                               &bridge) != NULL;
        if (seen == NULL || !seen->running || !bound ||
            seen->config_hash != wanted->config_hash) {
            plan_add_plain(planner, NETWORK_STEP_SERVICE_START, planner->wants[w].vni);
        } else if (seen->hosts_hash != wanted->hosts_hash) {
            plan_add_plain(planner, NETWORK_STEP_SERVICE_RELOAD, planner->wants[w].vni);
        }
    }
}

int network_plan_make(const struct network_host *host,
                      const struct network_want *wants,
                      size_t count,
                      const struct network_rendered *rendered,
                      struct network_observed *observed,
                      struct network_plan *ret_plan,
                      struct err *err)
{
    REQUIRE(host != NULL && rendered != NULL && observed != NULL && ret_plan != NULL);
    struct planner planner = {.wants = wants, .count = count, .observed = observed};

    if (goal_make(&planner.goal, host, wants, count) != 0) {
        return err_set(err, -ENOMEM, "plan networks: out of memory");
    }
    if (observed->link_count > 0) {
        qsort(observed->links, observed->link_count, sizeof(*observed->links),
              compare_links);
    }
    if (observed->entry_count > 0) {
        qsort(observed->entries, observed->entry_count, sizeof(*observed->entries),
              compare_entries);
    }

    plan_stale_services(&planner, rendered);
    plan_stale_entries(&planner);
    plan_stale_links(&planner);
    plan_new_links(&planner);
    plan_rules(&planner, rendered->rules_hash);
    plan_forwarding(&planner);
    plan_links_up(&planner, false);
    plan_new_entries(&planner);
    plan_links_up(&planner, true);
    plan_services(&planner, rendered);

    goal_fini(&planner.goal);
    if (planner.failed) {
        network_plan_fini(&planner.plan);
        return err_set(err, -ENOMEM, "plan networks: out of memory");
    }
    *ret_plan = planner.plan;
    return 0;
}

void network_plan_fini(struct network_plan *plan)
{
    free(plan->steps);
    *plan = (struct network_plan){0};
}

/* ---- texts ---- */

static void entry_format(const struct network_entry *entry, const char *verb, char *text)
{
    char first[CIDR_TEXT_SIZE];
    char second[MAC_TEXT_SIZE];

    switch (entry->kind) {
    case NETWORK_ENTRY_ADDRESS:
        format_cidr((uint32_t)entry->key, (uint32_t)entry->value, first);
        (void)snprintf(text, NETWORK_TEXT_SIZE, "%s address %s on bb%u", verb, first,
                       entry->vni);
        break;
    case NETWORK_ENTRY_ROUTE:
        format_cidr((uint32_t)(entry->key >> 8), (uint32_t)(entry->key & 0xff), first);
        format_ipv4((uint32_t)entry->value, second);
        (void)snprintf(text, NETWORK_TEXT_SIZE, "%s route %s on bb%u from %s", verb,
                       first, entry->vni, second);
        break;
    case NETWORK_ENTRY_NEIGHBOUR:
        format_ipv4((uint32_t)entry->key, first);
        format_mac(entry->value, second);
        (void)snprintf(text, NETWORK_TEXT_SIZE, "%s neighbour %s is %s on bb%u", verb,
                       first, second, entry->vni);
        break;
    case NETWORK_ENTRY_BRIDGE_FDB:
        format_mac(entry->key, second);
        (void)snprintf(text, NETWORK_TEXT_SIZE, "%s %s behind %s of bb%u", verb, second,
                       entry->port, entry->vni);
        break;
    case NETWORK_ENTRY_VXLAN_FDB:
        format_mac(entry->key, second);
        format_ipv4((uint32_t)entry->value, first);
        (void)snprintf(text, NETWORK_TEXT_SIZE, "%s %s through bx%u at %s", verb, second,
                       entry->vni, first);
        break;
    }
}

void network_step_format(const struct network_step *step, char text[NETWORK_TEXT_SIZE])
{
    static const char *const kinds[] = {[NETWORK_LINK_BRIDGE] = "bridge",
                                        [NETWORK_LINK_VXLAN] = "vxlan",
                                        [NETWORK_LINK_TAP] = "tap"};
    const struct network_link *link = &step->link;
    const char *kind = link->kind != 0 ? kinds[link->kind] : "link";
    char mac[MAC_TEXT_SIZE];

    switch (step->kind) {
    case NETWORK_STEP_SERVICE_STOP:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "stop dnsmasq of network %u", step->vni);
        break;
    case NETWORK_STEP_ENTRY_UNSET:
        entry_format(&step->entry, "unset", text);
        break;
    case NETWORK_STEP_LINK_DOWN:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "set %s %s down", kind, link->name);
        break;
    case NETWORK_STEP_LINK_REMOVE:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "remove %s %s", kind, link->name);
        break;
    case NETWORK_STEP_FORWARDING_ON:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "turn IPv4 forwarding on");
        break;
    case NETWORK_STEP_FORWARDING_BACK:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "turn IPv4 forwarding off again");
        break;
    case NETWORK_STEP_LINK_CREATE:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "create %s %s mtu %u", kind, link->name,
                       link->mtu);
        break;
    case NETWORK_STEP_LINK_MTU:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "set %s %s to mtu %u", kind, link->name,
                       link->mtu);
        break;
    case NETWORK_STEP_LINK_MAC:
        format_mac(link->mac, mac);
        (void)snprintf(text, NETWORK_TEXT_SIZE, "set %s %s to mac %s", kind, link->name,
                       mac);
        break;
    case NETWORK_STEP_LINK_ATTACH:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "attach %s %s to %s", kind, link->name,
                       link->master);
        break;
    case NETWORK_STEP_PORT_FLAGS:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "set port flags of %s %s to %u", kind,
                       link->name, link->port_flags);
        break;
    case NETWORK_STEP_RULES_INSTALL:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "install rules");
        break;
    case NETWORK_STEP_RULES_REMOVE:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "remove rules");
        break;
    case NETWORK_STEP_LINK_UP:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "set %s %s up", kind, link->name);
        break;
    case NETWORK_STEP_ENTRY_SET:
        entry_format(&step->entry, "set", text);
        break;
    case NETWORK_STEP_SERVICE_START:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "start dnsmasq of network %u", step->vni);
        break;
    case NETWORK_STEP_SERVICE_RELOAD:
        (void)snprintf(text, NETWORK_TEXT_SIZE, "reload dnsmasq of network %u",
                       step->vni);
        break;
    }
}

void network_observed_fini(struct network_observed *observed)
{
    free(observed->links);
    free(observed->entries);
    free(observed->services);
    *observed = (struct network_observed){0};
}
