/* Orders: what each host should be doing, derived from the replicated state. Pure.
 *
 * Shapes: the pieces that a host's msg_orders is made of, each from the state alone;
 * which pieces make whose orders, and whom a change concerns, is agent/orders_book.h.
 * Orders are complete: what is not in them must not run on the host. Their lists are
 * sorted by uid, and their hash leaves term and revision out, so that a host with the
 * same orders is not told again, whoever leads. Threads: the loop's. Errors: -ENOMEM.
 * Limits: those of the message's lists.
 */
#pragma once

#include "agent/messages.h"
#include "model/state.h"

#include <stdbool.h>
#include <stdint.h>

/* The host whose orders name the VM, or 0: where it is (a lost one that waits for its
 * host may still be running there), or who keeps its disks. */
uint64_t orders_host_of(const struct vm *vm);
/* Another host whose orders name it, too: it keeps the disks of a VM that is placed at
 * its snapshot and has not begun from that yet. 0: none. */
uint64_t orders_keeper_of(const struct vm *vm);
/* The order for one VM to one of those, but for its image; into uninitialised memory,
 * released with record_fini. 0 or -ENOMEM. */
int orders_vm(const struct state *state,
              const struct vm *vm,
              uint64_t host,
              struct msg_vm *ret_order);
/* Adds what it boots from. 0 or -ENOMEM. */
int orders_vm_image(const struct state *state, const struct vm *vm, struct msg_vm *order);
/* The order for one snapshot, to the host that has it. */
struct msg_snapshot orders_snapshot(const struct snapshot *snapshot);
/* The host as others know it. */
struct msg_member orders_member(const struct host *host);
/* All hosts that are not removed, as members; items freed with free(). 0 or -ENOMEM. */
int orders_members(const struct state *state, struct msg_member_list *ret_list);
/* What a host that comes in has to know of them to be led, in one small message: those
 * with a part in the log, who lets it in, and itself. The others come with its orders. */
int orders_members_for_guest(const struct state *state,
                             uint64_t guest,
                             uint64_t host,
                             struct msg_member_list *ret_list);
/* 0: not known, for they are larger than what can be sent (agent/link_parts.h) or memory
 * is out. Such orders are like no others, nor like themselves: nobody has taken them. */
uint64_t orders_hash(const struct msg_orders *orders);
/* The same, and how large they are as they are sent; at most LINK_PARTS_MAX. */
uint64_t orders_hash_and_size(const struct msg_orders *orders, size_t *ret_size);
