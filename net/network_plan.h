/* Tenant networks on one host: what is wanted against what is there, as ordered steps.
 * Pure.
 *
 * Shapes: `struct network_want` is one tenant network as this host must carry it; `struct
 * network_observed` is what the kernel holds now (links, forwarding entries, helper
 * services); `struct network_plan` is the list of steps from the second to the first. On
 * every host a network is
 *
 *     bb<vni>  a bridge with the gateway's address (the same on each host) and this
 * host's own address; bx<vni>  a VXLAN device (port 4789, no learning, no default
 * destination), a port of the bridge; bt<id>   one tap per local VM port.
 *
 * Nothing is learned and nothing floods between hosts: MAC and IP addresses of VMs
 * elsewhere come from the cluster's state as static forwarding and neighbour entries, so
 * ARP is answered on the spot. A port whose MAC is also in `remotes` is on standby for an
 * incoming migration: its tap is ready, traffic still goes to the other host, and
 * dropping the remote entry switches it in one replace. Tap ports are not isolated from
 * each other: VMs of one network may talk wherever they run, and the firewall
 * (net/firewall_rules.h) holds every frame to its port's own addresses. Order: stale
 * things go first; new links are made and attached while down; rules come before any link
 * goes up; services last. A plan against its own result is empty.
 * Units: addresses are host-order u32, MACs the low 48 bits of a u64, MTUs bytes.
 * Threads: any; no I/O, no globals. Ownership: wants borrow their arrays; a copy and a
 * plan own theirs. Errors: BERTH_EINVALID (which network, which value), BERTH_EFULL (a
 * limit below), -ENOMEM.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETWORK_VNI_MAX        16777215u /* 24 bits on the wire */
#define NETWORK_NAME_SIZE      64
#define NETWORK_ZONE_SIZE      80 /* a tenant's name and ".berth" */
#define NETWORK_IFNAME_SIZE    16 /* the kernel's IFNAMSIZ */
#define NETWORK_TEXT_SIZE      128
#define NETWORK_NICS_MAX       9 /* per VM: what fits a tap's name beside any 64-bit id */
#define NETWORK_MTU_MIN        576  /* DHCP needs it */
#define NETWORK_MTU_MAX        9166 /* jumbo frames of 9216 less VXLAN's 50 */
#define NETWORK_VXLAN_PORT     4789
#define NETWORK_FORWARDERS_MAX 3   /* resolvers give up on more anyway */
#define NETWORK_GUARDS_MAX     16  /* one rule each */
#define NETWORK_WANTS_MAX      512 /* networks on one host */
#define NETWORK_PORTS_MAX \
    1024 /* local ports on one host, all networks; a chain of rules each */
#define NETWORK_REMOTES_MAX 16384 /* per network */
#define NETWORK_NAMES_MAX   16384 /* per network */

struct network_cidr {
    uint32_t address;
    uint32_t prefix_bits;
};

/* A NIC of a VM that runs (or is about to run) on this host. */
struct network_port {
    uint64_t vm_uid;
    char vm_name[NETWORK_NAME_SIZE];
    uint64_t mac;
    uint32_t ipv4;
    char tap[NETWORK_IFNAME_SIZE]; /* by network_tap_name */
};

/* A NIC of a VM on another host, or (is_host) that host's own bridge address in the
 * network. */
struct network_remote {
    uint64_t mac;
    uint32_t ipv4;
    uint32_t underlay; /* the other host's address */
    bool is_host;
};

struct network_name {
    char name[NETWORK_NAME_SIZE]; /* answered as <name>.<zone> */
    uint32_t ipv4;
};

struct network_want {
    uint32_t vni;
    char name[NETWORK_NAME_SIZE];
    char tenant[NETWORK_NAME_SIZE];
    struct network_cidr
        cidr; /* prefix 8 to 29; may overlap no other network on the host */
    uint32_t gateway;
    uint32_t
        host_address; /* this host's own in the network, source of its traffic to VMs */
    uint32_t mtu;
    bool nat;                     /* egress by masquerading; false: no way out at all */
    char zone[NETWORK_ZONE_SIZE]; /* "<tenant>.berth" */
    uint32_t forwarders[NETWORK_FORWARDERS_MAX]; /* DNS servers for other names; none:
                                                    refused */
    size_t forwarder_count;
    const struct network_port *ports;
    size_t port_count;
    const struct network_remote *remotes;
    size_t remote_count;
    const struct network_name *names;
    size_t name_count;
};

struct network_host {
    uint64_t host_id;                 /* makes this host's bridge MACs its own */
    uint32_t underlay;                /* address that carries VXLAN */
    char ifname[NETWORK_IFNAME_SIZE]; /* accept VXLAN from this interface only; "" for any
                                       */
    const char *state_folder; /* absolute; files go to <state_folder>/networks/<vni>/ */
    struct network_cidr
        guards[NETWORK_GUARDS_MAX]; /* guests' egress never reaches these */
    size_t guard_count;
};

enum network_link_kind {
    NETWORK_LINK_BRIDGE = 1,
    NETWORK_LINK_VXLAN,
    NETWORK_LINK_TAP,
};

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
    bool forwarding; /* net.ipv4.ip_forward */
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

/* Checks wants and host: names, ranges, addresses inside the network, nothing twice,
 * limits. */
int network_wants_check(const struct network_host *host,
                        const struct network_want *wants,
                        size_t count,
                        struct err *err);

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

/* A copy of count wants with its own arrays; free with network_wants_free. -ENOMEM. */
int network_wants_copy(const struct network_want *wants,
                       size_t count,
                       struct network_want **ret_copy,
                       struct err *err);
/* Accepts NULL; returns NULL. */
struct network_want *network_wants_free(struct network_want *wants, size_t count);

void network_observed_fini(struct network_observed *observed);

/* "bb<vni>", "bx<vni>". */
void network_bridge_name(uint32_t vni, char name[NETWORK_IFNAME_SIZE]);
void network_vxlan_name(uint32_t vni, char name[NETWORK_IFNAME_SIZE]);
/* "bt" and the VM's id with the NIC's index (below NETWORK_NICS_MAX) in base 36: one name
 * per NIC, for ever. */
void network_tap_name(uint64_t vm_uid,
                      unsigned nic_index,
                      char name[NETWORK_IFNAME_SIZE]);
/* Whether the name is one of the three kinds above, and of which kind and network (taps:
 * 0). */
bool network_name_parse(const char *name,
                        enum network_link_kind *ret_kind,
                        uint32_t *ret_vni);
/* The MAC of a host's bridge in a network: locally administered, the same whenever and
 * wherever asked; the cluster lists it as `is_host` remote on the other hosts. */
uint64_t network_bridge_mac(uint64_t host_id, uint32_t vni);
