/* Networks that this host cannot carry, because it reaches their range somewhere else
 * than among their VMs: its own addresses, what its links reach directly, its gateways,
 * the other hosts. Carrying one would take that away from the host itself.
 *
 * A route that leads to such a range by way of a gateway is no clash: racks route all
 * private ranges to somewhere. Nor is a default route, also one in halves.
 * Only networks that are not here yet are judged: a range that turns up later does not
 * take the network from VMs that run.
 * Threads: the socket's. Errors: -errno with text, -ENOMEM.
 */
#pragma once

#include "base/err.h"
#include "net/netlink.h"
#include "net/network_want.h"

#define NETWORK_CLASH_SIZE 192
#define NETWORK_TAKEN_SIZE 96
#define NETWORK_TAKEN_MAX  64 /* that a look tells: a host of a rack has some ten */
#define NETWORK_TAKEN_ROUTES_MAX                                                         \
    32768 /* that a look reads, some 1 us each: it is made on the loop that keeps leases \
           */

struct network_clash {
    uint32_t vni;
    char text[NETWORK_CLASH_SIZE]; /* which range, and what it clashes with */
};

/* A range that this host has a use of its own for, and which: "10.99.0.0/16, which this
 * host reaches directly (link eth0)". */
struct network_taken {
    struct network_cidr range;
    char text[NETWORK_TAKEN_SIZE];
};

#define NETWORK_CARRIED_MAX 64 /* that a look tells: there is none, mostly */
struct network_taken_look {
    struct network_taken *ranges; /* the widest first, none within another */
    size_t count;
    bool complete; /* there are no more ranges, and no route was left unread */
    uint32_t
        carried[NETWORK_CARRIED_MAX]; /* VNIs of networks that are here all the same */
    size_t carried_count;
};

/* The caller's: network_taken_fini. What it does not tell is found out when a network is
 * made (network_clash_find), which reads all. */
int network_taken_find(struct netlink *netlink,
                       struct network_taken_look *ret_look,
                       struct err *err);
void network_taken_fini(struct network_taken_look *look);

/* At most one per want, in their order; the caller frees *ret_clashes, which is NULL when
 * there are none. */
int network_clash_find(struct netlink *netlink,
                       const struct network_host *host,
                       const struct network_want *wants,
                       size_t count,
                       struct network_clash **ret_clashes,
                       size_t *ret_count,
                       struct err *err);
