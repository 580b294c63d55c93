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

/* All of them; the caller frees *ret_taken, which is NULL when there are none. */
int network_taken_find(struct netlink *netlink,
                       struct network_taken **ret_taken,
                       size_t *ret_count,
                       struct err *err);

/* At most one per want, in their order; the caller frees *ret_clashes, which is NULL when
 * there are none. */
int network_clash_find(struct netlink *netlink,
                       const struct network_host *host,
                       const struct network_want *wants,
                       size_t count,
                       struct network_clash **ret_clashes,
                       size_t *ret_count,
                       struct err *err);
