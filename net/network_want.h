/* What a host is told about its tenant networks: values, their limits and checks, and the
 * names of what is made of them. Pure.
 *
 * Shapes: `struct network_want` is one tenant network as this host must carry it, with
 * its local ports, what runs elsewhere, and the names to answer; `struct network_host` is
 * what is the host's own. Units: addresses are host-order u32, MACs the low 48 bits of a
 * u64, MTUs bytes. Threads: any; no I/O, no globals. Ownership: a want borrows its
 * arrays; a copy owns them. Errors: BERTH_EINVALID (which network, which value),
 * BERTH_EFULL (a limit below), -ENOMEM.
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

/* What may pass a port each way: a second, and at once (0: as much as a second gives).
 * Rate 0: no limit. */
struct network_limit {
    uint64_t packets;
    uint64_t packets_burst;
    uint64_t bytes;
    uint64_t bytes_burst;
};

/* A NIC of a VM that runs (or is about to run) on this host. */
struct network_port {
    uint64_t vm_uid;
    char vm_name[NETWORK_NAME_SIZE];
    uint64_t mac;
    uint32_t ipv4;
    char tap[NETWORK_IFNAME_SIZE]; /* by network_tap_name */
    struct network_limit limit;    /* that the firewall holds it to */
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

/* Checks wants and host: names, ranges, addresses inside the network, nothing twice,
 * limits. */
int network_wants_check(const struct network_host *host,
                        const struct network_want *wants,
                        size_t count,
                        struct err *err);

/* A copy of count wants with its own arrays; free with network_wants_free. -ENOMEM. */
int network_wants_copy(const struct network_want *wants,
                       size_t count,
                       struct network_want **ret_copy,
                       struct err *err);
/* Takes one out of a copy. */
void network_wants_drop(struct network_want *wants, size_t *count, size_t index);
/* Accepts NULL; returns NULL. */
struct network_want *network_wants_free(struct network_want *wants, size_t count);

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
