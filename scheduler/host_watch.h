/* Which hosts are alive: the leader's half of the lease rules (model.md rule 3). Pure.
 *
 * Shapes: per host the time of its last heartbeat under this leader. A host is suspect
 * after SUSPECT_NS of silence; lost only when its lease is provably over: L*(1+d) +
 * margin after its last heartbeat, or after this leadership began when it has not been
 * heard since; a new leader does not know what its predecessor renewed. Heard again, it
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
/* Whether it was heard under this leadership, when, and what it said. */
bool host_watch_seen(const struct host_watch *watch,
                     uint64_t host,
                     uint64_t *ret_wall_ms,
                     struct host_load *ret_load);
/* The phase that this host should have now, and why (reason of 256 bytes); its present
 * one when nothing is to change. */
enum host_phase host_watch_judge(const struct host_watch *watch,
                                 const struct host *host,
                                 uint64_t now_ns,
                                 char *ret_reason);
/* L*(1+d) + margin. */
uint64_t host_watch_lease_over_ns(void);
