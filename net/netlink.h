/* The kernel's links, addresses, routes, neighbours and forwarding entries over
 * rtnetlink.
 *
 * Shapes: an opaque socket; requests that change something are acknowledged before they
 * return; lists are given to a function, one item each. Only what tenant networks need.
 * Units: interface indices as the kernel's; IPv4 host order; MACs in a u64;
 * NETWORK_PORT_* flags. Threads: one at a time. A call takes microseconds (lists: about a
 * microsecond per item); none waits for anything but the kernel. Ownership: netlink_open
 * / netlink_close. Errors: the kernel's -errno, with the operation and link as text.
 */
#pragma once

#include "base/err.h"
#include "net/network_plan.h"

#include <stdbool.h>
#include <stdint.h>

struct netlink;

/* Opens a socket in the caller's network namespace. */
int netlink_open(struct netlink **ret_netlink, struct err *err);
/* Accepts NULL; returns NULL. */
struct netlink *netlink_close(struct netlink *netlink);

struct netlink_link {
    int index;
    int master; /* index or 0 */
    char name[NETWORK_IFNAME_SIZE];
    char kind[16]; /* "bridge", "vxlan", "tun", ... or "" */
    bool up;
    uint32_t mtu;
    uint64_t mac;
    uint32_t port_flags; /* of a bridge port */
    uint32_t vxlan_vni;
    uint32_t vxlan_local;
    uint16_t vxlan_port;
    bool vxlan_learning;
};

struct netlink_address {
    int link;
    uint32_t ipv4;
    uint32_t prefix_bits;
};

/* Of the main table; one that shares its packets among several ways is told once for
 * each. */
struct netlink_route {
    int link;
    uint32_t gateway; /* 0: directly */
    uint32_t ipv4;
    uint32_t prefix_bits;
    uint32_t source;
};

struct netlink_neighbour {
    int link;
    bool permanent;
    uint32_t ipv4;
    uint64_t mac;
};

struct netlink_fdb {
    int link;   /* the port, or the VXLAN device itself */
    bool self;  /* of the VXLAN device, not of the bridge above it */
    bool fixed; /* static, not learned and not a port's own address */
    uint64_t mac;
    uint32_t destination; /* self: the tunnel's other end */
};

int netlink_links(struct netlink *netlink,
                  void (*item)(void *context, const struct netlink_link *link),
                  void *context,
                  struct err *err);
int netlink_addresses(struct netlink *netlink,
                      void (*item)(void *context, const struct netlink_address *address),
                      void *context,
                      struct err *err);
int netlink_routes(struct netlink *netlink,
                   void (*item)(void *context, const struct netlink_route *route),
                   void *context,
                   struct err *err);
/* Ends after max entries of any of the kernel's tables, and says whether there were more.
 */
int netlink_routes_some(struct netlink *netlink,
                        uint64_t max,
                        void (*item)(void *context, const struct netlink_route *route),
                        void *context,
                        bool *ret_cut,
                        struct err *err);
int netlink_neighbours(struct netlink *netlink,
                       void (*item)(void *context,
                                    const struct netlink_neighbour *neighbour),
                       void *context,
                       struct err *err);
int netlink_fdbs(struct netlink *netlink,
                 void (*item)(void *context, const struct netlink_fdb *fdb),
                 void *context,
                 struct err *err);

/* The index of the link with that name, or -ENODEV with text. */
int netlink_index(const char *name, struct err *err);

int netlink_bridge_create(struct netlink *netlink,
                          const char *name,
                          uint64_t mac,
                          uint32_t mtu,
                          struct err *err);
/* No learning, no default destination. */
int netlink_vxlan_create(struct netlink *netlink,
                         const char *name,
                         uint32_t vni,
                         uint32_t local,
                         uint16_t port,
                         uint32_t mtu,
                         struct err *err);
int netlink_link_remove(struct netlink *netlink, const char *name, struct err *err);
int netlink_link_up(struct netlink *netlink, const char *name, bool up, struct err *err);
int netlink_link_mtu(struct netlink *netlink,
                     const char *name,
                     uint32_t mtu,
                     struct err *err);
int netlink_link_mac(struct netlink *netlink,
                     const char *name,
                     uint64_t mac,
                     struct err *err);
/* master NULL: detaches. */
int netlink_link_attach(struct netlink *netlink,
                        const char *name,
                        const char *master,
                        struct err *err);
/* Sets all NETWORK_PORT_* settings of a bridge port, on or off. */
int netlink_port_flags(struct netlink *netlink,
                       const char *name,
                       uint32_t flags,
                       struct err *err);

/* The following set (replacing what has the same key) or remove; removing what is not
 * there succeeds. A route is never replaced: -EEXIST says that one with that destination
 * is there already. */
int netlink_address_set(struct netlink *netlink,
                        const char *link,
                        uint32_t ipv4,
                        uint32_t prefix_bits,
                        bool present,
                        struct err *err);
int netlink_route_set(struct netlink *netlink,
                      const char *link,
                      uint32_t ipv4,
                      uint32_t prefix_bits,
                      uint32_t source,
                      bool present,
                      struct err *err);
int netlink_neighbour_set(struct netlink *netlink,
                          const char *link,
                          uint32_t ipv4,
                          uint64_t mac,
                          bool present,
                          struct err *err);
/* In the bridge above `port`. */
int netlink_bridge_fdb_set(struct netlink *netlink,
                           const char *port,
                           uint64_t mac,
                           bool present,
                           struct err *err);
int netlink_vxlan_fdb_set(struct netlink *netlink,
                          const char *vxlan,
                          uint64_t mac,
                          uint32_t destination,
                          bool present,
                          struct err *err);
