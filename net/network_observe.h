/* What the kernel and the helper services hold of tenant networks now, as values for
 * network_plan.
 *
 * Only links with our names and kinds (bb<vni> bridges, bx<vni> VXLAN devices, bt<id>
 * taps) and what hangs on them are seen. The rules' hash is not: it takes a child
 * process, so the caller fills it in. Threads: the socket's. Ownership: the caller ends
 * *ret_observed with network_observed_fini. Errors: -errno with text, -ENOMEM.
 */
#pragma once

#include "base/err.h"
#include "net/netlink.h"
#include "net/network_plan.h"

int network_observe(struct netlink *netlink,
                    const struct network_host *host,
                    struct network_observed *ret_observed,
                    struct err *err);
