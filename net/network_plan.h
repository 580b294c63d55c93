/* Tenant networks on one host: what is wanted against what is there, as ordered steps.
 * Pure.
 *
 * Shapes: `struct network_want` (net/network_want.h) is what is wanted; `struct
 * network_observed` is what the kernel holds now (links, forwarding entries, helper
 * services); `struct network_plan` is the list of steps from the second to the first. On
 * every host a network is
 *
 *     bb<vni>   a bridge with the gateway's address (the same on each host) and this
 *               host's own address;
 *     bx<vni>   a VXLAN device (port 4789, no learning, no default destination), a port
 *               of the bridge;
 *     bt<id>    one tap per local VM port.
 *
 * Nothing is learned and nothing floods between hosts: MAC and IP addresses of VMs
 * elsewhere come from the cluster's state as static forwarding and neighbour entries, so
 * ARP is answered on the spot. A port whose MAC is also in `remotes` is on standby for an
 * incoming migration: its tap is ready, traffic still goes to the other host, and
 * dropping the remote entry switches it in one replace.
 * Tap ports are not isolated from each other: VMs of one network may talk wherever they
 * run, and the firewall (net/firewall_rules.h) holds every frame to its port's own
 * addresses.
 * Order: stale things go first; new links are made and attached while down; rules come
 * before any link goes up; services last. A plan against its own result is empty.
 * Units: as in network_want.h. Threads: any; no I/O, no globals. Ownership: a plan owns
 * its steps. Errors: -ENOMEM only.
 */
#pragma once

#include "base/err.h"
#include "net/network_want.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETWORK_TEXT_SIZE 128

/* Bridge port settings that matter; anything else in the kernel stays at its default. */
#define NETWORK_PORT_LEARNING       1u
#define NETWORK_PORT_FLOOD          2u
#define NETWORK_PORT_MCAST_FLOOD    4u
#define NETWORK_PORT_BCAST_FLOOD    8u
#define NETWORK_PORT_NEIGH_SUPPRESS 16u
#define NETWORK_PORT_ISOLATED       32u

/* A link as wanted or as seen; both sides fill the same fields, so they compare. */
struct network_link {
    enum network_link_kind kind;
    uint32_t vni; /* seen taps: 0 */
    char name[NETWORK_IFNAME_SIZE];
    char master[NETWORK_IFNAME_SIZE]; /* "" none */
    bool up;
    uint32_t mtu;
    uint64_t mac;      /* bridges only, else 0 */
    uint32_t underlay; /* VXLAN only: local address; 0 when seen with a foreign set-up */
    uint32_t port_flags; /* NETWORK_PORT_* when it has a master */
};

enum network_entry_kind {
    NETWORK_ENTRY_ADDRESS = 1, /* key: address, value: prefix bits */
    NETWORK_ENTRY_ROUTE,      /* key: address << 8 | prefix bits, value: source address */
    NETWORK_ENTRY_NEIGHBOUR,  /* key: address, value: MAC; static, on the bridge */
    NETWORK_ENTRY_BRIDGE_FDB, /* key: MAC, port: where; static */
    NETWORK_ENTRY_VXLAN_FDB,  /* key: MAC, value: the other host's underlay address */
};

struct network_entry {
    enum network_entry_kind kind;
    uint32_t vni;
    uint64_t key;
    uint64_t value;
    char port[NETWORK_IFNAME_SIZE];
};

/* The DHCP and DNS helper of a network, by what its files and process say. */
struct network_service {
    uint32_t vni;
    bool running;
    uint64_t config_hash; /* of the running instance; seen only */
    uint64_t hosts_hash;
};

#define NETWORK_RULES_NONE    UINT64_C(0) /* no table of ours in the kernel */
#define NETWORK_RULES_UNKNOWN UINT64_C(1) /* a table, but not the wanted one */

struct network_observed {
    bool forwarding; /* net/forwarding.h */
    bool forwarding_ours;
    uint64_t rules_hash;
    struct network_link *links;
    size_t link_count;
    struct network_entry *entries;
    size_t entry_count;
    struct network_service *services;
    size_t service_count;
};

/* Hashes of what was rendered for the wants; one service per want, in their order
 * (running is wanted). */
struct network_rendered {
    uint64_t rules_hash;
    const struct network_service *services;
};

enum network_step_kind {
    NETWORK_STEP_SERVICE_STOP = 1,
    NETWORK_STEP_ENTRY_UNSET,
    NETWORK_STEP_LINK_DOWN,
    NETWORK_STEP_LINK_REMOVE,
    NETWORK_STEP_FORWARDING_ON,
    NETWORK_STEP_FORWARDING_BACK, /* as it was before */
    NETWORK_STEP_LINK_CREATE,
    NETWORK_STEP_LINK_MTU,
    NETWORK_STEP_LINK_MAC,
    NETWORK_STEP_LINK_ATTACH,
    NETWORK_STEP_PORT_FLAGS,
    NETWORK_STEP_RULES_INSTALL,
    NETWORK_STEP_RULES_REMOVE,
    NETWORK_STEP_LINK_UP, /* kernel settings of the link first */
    NETWORK_STEP_ENTRY_SET,
    NETWORK_STEP_SERVICE_START, /* also when another configuration runs */
    NETWORK_STEP_SERVICE_RELOAD,
};

struct network_step {
    enum network_step_kind kind;
    uint32_t vni;               /* whose step it is; 0: the whole host's */
    struct network_link link;   /* LINK_* and PORT_FLAGS */
    struct network_entry entry; /* ENTRY_* */
};

struct network_plan {
    struct network_step *steps;
    size_t count;
    size_t capacity;
};

/* Steps from observed to wants. The wants must have passed network_wants_check. Sorts the
 * observed lists in place. The caller ends *ret_plan with network_plan_fini. -ENOMEM
 * only. */
int network_plan_make(const struct network_host *host,
                      const struct network_want *wants,
                      size_t count,
                      const struct network_rendered *rendered,
                      struct network_observed *observed,
                      struct network_plan *ret_plan,
                      struct err *err);
void network_plan_fini(struct network_plan *plan);

/* One line for logs, errors and tests: "attach tap bt1 to bb7". */
void network_step_format(const struct network_step *step, char text[NETWORK_TEXT_SIZE]);

void network_observed_fini(struct network_observed *observed);
