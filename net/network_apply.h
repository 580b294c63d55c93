/* Brings tenant networks on this host to the wanted state, and keeps a record of what is
 * ready.
 *
 * Shapes: one opaque object per daemon. network_apply_set hands over the whole wanted
 * state; the object looks at the kernel, plans (net/network_plan.h) and carries out the
 * steps one after another. Newest state wins: sets that come while a run is under way are
 * folded into the next run. Setting the same state again looks again, and so repairs what
 * someone else has changed; with nothing to repair it takes no step. Nothing is removed
 * when the object closes: VMs go on, and the next daemon adopts everything. A network
 * that this host cannot carry (net/network_clash.h) is left out, and looked at again at
 * the next set. A failing step stops its own network only; failing rules stop everything
 * that is not up yet. Threads: the loop's. Netlink requests are made on it (microseconds
 * each, in batches); nft and dnsmasq run as children. Callbacks never run inside
 * network_apply_set. Ownership: wants are copied. Errors: see network_wants_check; in
 * done: the first step's failure, with the network and step as text. Needs CAP_NET_ADMIN
 * in its network namespace, and nft and dnsmasq in PATH.
 */
#pragma once

#include "base/err.h"
#include "net/network_clash.h"
#include "net/network_plan.h"

#include <uv.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETWORK_APPLY_WAITERS_MAX \
    4096 /* callers waiting for one state; more is a loop gone wild */

struct network_apply;

struct network_apply_stats {
    uint64_t sets;
    uint64_t runs;
    uint64_t steps;    /* carried out */
    uint64_t failures; /* steps that failed */
    uint64_t rules_installs;
    uint64_t service_starts;
    uint64_t service_reloads;
    size_t networks; /* in the kernel by the last run */
    size_t ports;
    size_t steps_last_run; /* 0: nothing differed */
};

/* err is NULL or holds what went wrong; the state handed over (or a newer one) is in the
 * kernel if code is 0. */
typedef void network_apply_done(void *context, int code, const struct err *err);

/* The host is copied. NULL with *err when the kernel gives no netlink socket or a value
 * is not valid. */
struct network_apply *
network_apply_new(uv_loop_t *loop, const struct network_host *host, struct err *err);

/* Wants this state from now on. 0, and done (may be NULL) runs once, later; or an error
 * and no call. */
int network_apply_set(struct network_apply *apply,
                      const struct network_want *wants,
                      size_t count,
                      network_apply_done *done,
                      void *context,
                      struct err *err);

/* Whether the last finished run left exactly this port ready for its VM (rules in place,
 * tap up), and one that is under way does not take it away again. */
bool network_apply_port_ready(const struct network_apply *apply,
                              uint32_t vni,
                              const struct network_port *port);

/* Why the last finished run left this network out, or NULL: until the next callback. */
const char *network_apply_refusal(const struct network_apply *apply, uint32_t vni);

/* What this host needs for itself now (net/network_clash.h): no network that is not here
 * yet may overlap it. The caller's: network_taken_fini. */
int network_apply_taken(struct network_apply *apply,
                        struct network_taken_look *ret_look,
                        struct err *err);

void network_apply_stats(const struct network_apply *apply,
                         struct network_apply_stats *ret_stats);

/* Stops where it is, between two steps; no callback afterwards. Accepts NULL; returns
 * NULL. */
struct network_apply *network_apply_close(struct network_apply *apply);

/* Removes every link, rule, service and file of tenant networks in this network
 * namespace, whoever made them: for the host's shutdown. Blocks until done (about a
 * second at worst per helper that will not end). Goes on after a failure and returns the
 * first. */
int network_apply_teardown_all(const struct network_host *host, struct err *err);
