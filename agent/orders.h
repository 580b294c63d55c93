/* Orders: what each host should be doing, derived from the replicated state. Pure.
 *
 * Shapes: an orders_round looks at the state once and then gives the msg_orders of any
 * number of hosts; so a round over all hosts walks the VMs once. Orders are complete:
 * what is not in them must not run on the host. Their hash leaves term and revision out,
 * so that a host with the same orders is not told again. Where a blob can be had is the
 * caller's knowledge (orders_holder). Threads: the loop's; the state must not change
 * during a round. Errors: -ENOMEM. Limits: those of the message's lists; blobs that do
 * not fit are left to later rounds, VMs never are: placement keeps a host below them.
 */
#pragma once

#include "agent/messages.h"
#include "model/state.h"

#include <stdint.h>

/* A host that holds the blob, preferably another than `asker`; 0: none known. */
typedef uint64_t
orders_holder(void *context, const struct digest *sha256, uint64_t asker);

struct orders_round;

/* Borrows the state until orders_round_free. NULL when out of memory. */
struct orders_round *
orders_round_new(const struct state *state, orders_holder *holder, void *context);
struct orders_round *orders_round_free(struct orders_round *round);
/* Fills *ret_orders (record_fini afterwards; term is the caller's to set). 0,
 * BERTH_ENOTFOUND, -ENOMEM. */
int orders_for(struct orders_round *round, uint64_t host, struct msg_orders *ret_orders);
/* Never 0. */
uint64_t orders_hash(const struct msg_orders *orders);
/* All hosts that are not removed, as members; items freed with free(). 0 or -ENOMEM. */
int orders_members(const struct state *state, struct msg_member_list *ret_list);
