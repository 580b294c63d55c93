/* Carries out the steps of a plan that are done at once: links, addresses, entries,
 * kernel switches.
 *
 * A link's switches are written before it goes up: IPv6 off, no answers or redirects
 * beyond its own addresses. Rules and services take child processes and belong to
 * network_apply.c. Threads: the socket's; microseconds each. Errors: -errno with the
 * operation and link as text; a step of another kind is BERTH_EBUG.
 */
#pragma once

#include "base/err.h"
#include "net/netlink.h"
#include "net/network_plan.h"

int network_step_run(struct netlink *netlink,
                     const struct network_host *host,
                     const struct network_step *step,
                     struct err *err);
