/* Which hosts are alive: the leader's half of the lease rules (model.md rule 3). Pure.
 *
 * Shapes: per host the time of its last heartbeat under this leader. A host is suspect
 * after SUSPECT_NS of silence; lost only when its lease is provably over: L*(1+d) +
 * margin after its last heartbeat, or after this leadership began (or the host joined)
 * when it has not been heard since; a new leader does not know what its predecessor
 * renewed. Heard again, it
 * is ready again. Threads: one. Errors: -ENOMEM: the heartbeat counts for nothing, and
 * may not renew a lease.
 */
#pragma once

#include "scheduler/scheduler.h"

struct host_watch;

struct host_watch *host_watch_new(void);
struct host_watch *host_watch_free(struct host_watch *watch);
void host_watch_lead(struct host_watch *watch, uint64_t now_ns);
int host_watch_heard(struct host_watch *watch,
                     uint64_t host,
                     const struct host_load *load,
                     uint64_t now_ns,
                     uint64_t wall_ms);
/* What it needs for itself: copied. -ENOMEM: what it said before stands. */
int host_watch_set_ranges(struct host_watch *watch,
                          uint64_t host,
                          const struct host_range *ranges,
                          uint32_t count);
/* Borrowed until the host is heard again; NULL and 0: it has said nothing. */
const struct host_range *
host_watch_ranges(const struct host_watch *watch, uint64_t host, uint32_t *ret_count);
/* The networks (VNIs) that it carries although they overlap one of its ranges: at most
 * HOST_CARRIED_MAX count. Copied. -ENOMEM: likewise. */
int host_watch_set_carried(struct host_watch *watch,
                           uint64_t host,
                           const uint32_t *vnis,
                           uint32_t count);
bool host_watch_carries(const struct host_watch *watch, uint64_t host, uint32_t vni);
/* It is decided that the host is lost; whatever it says from now on, its lease is not
 * renewed: it may hold orders for VMs that now start elsewhere. -ENOMEM: then it must not
 * be decided. */
int host_watch_give_up(struct host_watch *watch, uint64_t host);
/* It was, and has no lease since: nothing that is placed there could start. */
bool host_watch_given_up(const struct host_watch *watch, uint64_t host);
/* Whether a heartbeat of the host may renew its lease. A host that was given up, by this
 * leader or in the log, is renewed again once it is ready in the log and has taken the
 * orders that follow from it (orders_taken: and no decision may still take effect). NULL:
 * a host that was removed. */
bool host_watch_may_renew(struct host_watch *watch,
                          const struct host *host,
                          bool orders_taken);
/* Whether it was heard under this leadership, when, and what it said. */
bool host_watch_seen(const struct host_watch *watch,
                     uint64_t host,
                     uint64_t *ret_wall_ms,
                     struct host_load *ret_load);
/* The phase that this host should have now, and why (reason of 256 bytes); its present
 * one when nothing is to change. */
enum host_phase host_watch_judge(struct host_watch *watch,
                                 const struct host *host,
                                 uint64_t now_ns,
                                 char *ret_reason);
/* L*(1+d) + margin. */
uint64_t host_watch_lease_over_ns(void);
