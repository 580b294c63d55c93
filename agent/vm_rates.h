/* What VMs do a second: totals that their hosts tell, and rates that the leader makes of
 * the two latest.
 *
 * Shapes: totals are the `counted` fields of struct msg_vm_seen, told once for each round
 * of questions to a VM's program (vm_stats.h); opaque `struct vm_rates` is the leader's
 * book of them. Totals of another run, host or daemon's time, or smaller ones, begin
 * anew: then there are no rates until the next. Units: the host's monotonic ms between
 * two of its totals; ns of the caller's clock for how old they are. Threads: none of its
 * own, no clock. Errors: without memory nothing is known of a VM. Limits: what was not
 * heard of for VM_RATES_KEPT_MS is not told, and forgotten.
 */
#pragma once

#include "agent/messages.h"
#include "agent/vm_stats.h"
#include "base/json.h"
#include "base/u64_map.h"

#include <stdbool.h>
#include <stdint.h>

#define VM_RATES_KEPT_MS 60000u
/* Totals that go with a heartbeat, which is to stay small; the rest with the next ones.
 */
#define VM_RATES_TOLD_MAX 128u

/* The host's part: sums of what its program has told, if that is news. told: by uid of a
 * VM, what was filled in last; room: how many more may be filled in. stats NULL: nothing
 * is known of it any more. */
void vm_rates_fill_news(struct u64_map *told,
                        unsigned *room,
                        const struct vm_stats *stats,
                        struct msg_vm_seen *seen);

struct vm_rates;

struct vm_rates *vm_rates_new(void); /* NULL: out of memory */
/* Accepts NULL; returns NULL. */
struct vm_rates *vm_rates_free(struct vm_rates *rates);
/* What a host says of a VM; without totals nothing happens. */
void vm_rates_take(struct vm_rates *rates,
                   uint64_t host,
                   const struct msg_vm_seen *seen,
                   uint64_t now_ns);
/* Adds what is known of this run of the VM to an object: `disk` and `nics` with rates,
 * `boot`. True: there was something. */
bool vm_rates_tell(const struct vm_rates *rates,
                   uint64_t vm,
                   uint64_t epoch,
                   uint64_t now_ns,
                   json_t *live);
