/* From the networks in a host's orders to the wants of net/network_plan.h. Pure. */
#pragma once

#include "agent/messages.h"
#include "net/network_plan.h"

#include <stdbool.h>
#include <stdint.h>

/* Room in the rack's MTU that VXLAN over IPv4 takes. */
#define WORKER_VXLAN_OVERHEAD 50

/* Who knows of a VM here whether its engine leaves its NICs' limits to the host. */
struct worker_network_asker {
    bool (*limits_nics)(void *context, uint64_t vm);
    void *context;
};

/* Fresh wants (network_wants_free) for the orders of host `self`; underlay_mtu is the
 * rack interface's. A VM that is to stop keeps its port until it is gone. 0 or -ENOMEM.
 */
int worker_network_wants(const struct msg_orders *orders,
                         const struct worker_network_asker *asker,
                         uint64_t self,
                         uint32_t underlay_mtu,
                         struct network_want **ret_wants,
                         size_t *ret_count);
/* The port of one NIC of an ordered VM, as it stands in the wants, but for its limit. */
void worker_network_port(const struct msg_vm *vm,
                         unsigned nic,
                         struct network_port *ret_port);
