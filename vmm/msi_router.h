/* How a message of MSI-X reaches the guest: by an irqfd, whose route in KVM says the same
 * as the guest's table, or by KVM_SIGNAL_MSI.
 *
 *     unsettled --the same message, MSI_SETTLED times--> routed --another message--> ...
 *                                                         \--hold--> unsettled
 *
 * Shapes: opaque `struct msi_router`, one for a VM: it owns KVM's table of routes, in
 * which the I/O APIC's and the PICs' lines are as KVM itself has them at first. A message
 * is right in either way, so a guest loses nothing whatever it does to its tables: a
 * vector that is masked is not sent at all (msix.h keeps it), one with a new message is
 * signalled until it has settled. What a new route costs (KVM waits until nobody looks at
 * the old table) is bounded: MSI_ROUTES_PER_S, for the whole machine. A KVM without
 * irqfds, or without room for a route, has every message signalled.
 *
 * While it is held nothing is on its way when msi_router_send returns, and what an irqfd
 * had left to a worker of the kernel is in: so a machine can be saved. It begins held.
 * Routes are no part of a saved machine: they come from its tables, as they settle.
 *
 * Threads: send of one vector under its device's lock, of several from any; hold while no
 * vCPU runs and no device works. Ownership: borrows the VM's descriptor and the clock.
 * Errors: -errno of add. Limits: MSI_VECTORS_MAX.
 */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "vmm/msix.h"

#include <stdbool.h>
#include <stdint.h>

#define MSI_VECTORS_MAX 1024u /* each of 31 slots with MSIX_VECTORS_MAX */
/* A driver writes address, data and mask one by one, and may take a few interrupts
 * before its CPUs are balanced; less than a moment of work for a device that matters. */
#define MSI_SETTLED 16u
/* Far above what a guest that balances its interrupts needs. */
#define MSI_ROUTES_PER_S 50u
#define MSI_ROUTES_BURST 1024u

struct msi_router;

/* -ENOMEM. */
int msi_router_new(int vm_fd, const struct clock *clock, struct msi_router **ret_router);
/* NULL is fine; returns NULL. What KVM still watches goes with the VM. */
struct msi_router *msi_router_free(struct msi_router *router);
/* Room for these vectors: the number of the first. BERTH_EFULL, -errno. */
int msi_router_add(struct msi_router *router, unsigned count, struct err *err);
/* These are no more: their room is for others. Whose they were sends none, and no vCPU
 * runs. */
void msi_router_drop(struct msi_router *router, unsigned first, unsigned count);
/* The vector is due, with this message. */
void msi_router_send(struct msi_router *router,
                     unsigned vector,
                     const struct msix_message *message);
/* The eventfd whose rings are this message as long as the vector keeps it, is not masked,
 * and nothing is held; -1 while it has no route, which it gets by being sent. */
int msi_router_event(const struct msi_router *router,
                     unsigned vector,
                     const struct msix_message *message);
void msi_router_hold(struct msi_router *router);
void msi_router_go(struct msi_router *router);
