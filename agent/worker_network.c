#include "agent/worker_network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void worker_network_port(const struct msg_vm *vm,
                         unsigned nic,
                         struct network_port *ret_port)
{
    *ret_port = (struct network_port){.vm_uid = vm->vm,
                                      .mac = vm->nics.items[nic].mac,
                                      .ipv4 = vm->nics.items[nic].ipv4};
    (void)snprintf(ret_port->vm_name, sizeof(ret_port->vm_name), "%s", vm->name);
    network_tap_name(vm->vm, nic, ret_port->tap);
}

/* NICs have the order of the template's. */
static void limit_fill(struct network_port *port, const struct msg_vm *vm, unsigned nic)
{
    if (nic < vm->machine.nics.count) {
        const struct nic_limit *limit = &vm->machine.nics.items[nic].limit;
        port->limit = (struct network_limit){limit->operations, limit->operations_burst,
                                             limit->bytes, limit->bytes_burst};
    }
}

static int ports_fill(struct network_want *want,
                      const struct msg_orders *orders,
                      const struct worker_network_asker *asker,
                      uint64_t network)
{
    struct network_port *ports = calloc(orders->vms.count * NICS_MAX + 1, sizeof(*ports));
    if (ports == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < orders->vms.count; i++) {
        const struct msg_vm *vm = &orders->vms.items[i];
        for (uint32_t nic = 0; nic < vm->nics.count; nic++) {
            if (vm->nics.items[nic].network == network) {
                struct network_port *port = &ports[want->port_count++];
                worker_network_port(vm, nic, port);
                if (asker->limits_nics(asker->context, vm->vm)) {
                    limit_fill(port, vm, nic);
                }
            }
        }
    }
    want->ports = ports;
    return 0;
}

static int neighbours_fill(struct network_want *want,
                           const struct msg_network *network,
                           uint64_t self)
{
    struct network_remote *remotes =
        calloc(network->neighbours.count + 1, sizeof(*remotes));
    struct network_name *names = calloc(network->neighbours.count + 1, sizeof(*names));
    want->remotes = remotes;
    want->names = names;
    if (remotes == NULL || names == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < network->neighbours.count; i++) {
        const struct msg_neighbour *neighbour = &network->neighbours.items[i];
        bool is_host = neighbour->mac == 0;
        if (!is_host) {
            struct network_name *name = &names[want->name_count++];
            (void)snprintf(name->name, sizeof(name->name), "%s", neighbour->name);
            name->ipv4 = neighbour->ipv4;
        }
        if (neighbour->host != self && neighbour->host != 0 && neighbour->underlay != 0) {
            remotes[want->remote_count++] = (struct network_remote){
                .mac = is_host ? network_bridge_mac(neighbour->host, network->vni)
                               : neighbour->mac,
                .ipv4 = neighbour->ipv4,
                .underlay = neighbour->underlay,
                .is_host = is_host,
            };
        }
    }
    return 0;
}

static int want_fill(struct network_want *want,
                     const struct msg_orders *orders,
                     const struct worker_network_asker *asker,
                     const struct msg_network *network,
                     uint64_t self,
                     uint32_t underlay_mtu)
{
    want->vni = network->vni;
    (void)snprintf(want->name, sizeof(want->name), "%s", network->name);
    (void)snprintf(want->tenant, sizeof(want->tenant), "%s", network->tenant);
    want->cidr.address = cidr_address(network->cidr);
    want->cidr.prefix_bits = cidr_prefix(network->cidr);
    want->gateway = network->gateway;
    want->host_address = network->host_address;
    want->mtu = network->mtu != 0 ? network->mtu : underlay_mtu - WORKER_VXLAN_OVERHEAD;
    want->nat = network->nat;
    (void)snprintf(want->zone, sizeof(want->zone), "%s.berth", network->tenant);
    int r = ports_fill(want, orders, asker, network->uid);
    return r < 0 ? r : neighbours_fill(want, network, self);
}

int worker_network_wants(const struct msg_orders *orders,
                         const struct worker_network_asker *asker,
                         uint64_t self,
                         uint32_t underlay_mtu,
                         struct network_want **ret_wants,
                         size_t *ret_count)
{
    struct network_want *wants = calloc(orders->networks.count + 1, sizeof(*wants));
    if (wants == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < orders->networks.count; i++) {
        int r = want_fill(&wants[i], orders, asker, &orders->networks.items[i], self,
                          underlay_mtu);
        if (r < 0) {
            network_wants_free(wants, orders->networks.count);
            return r;
        }
    }
    *ret_wants = wants;
    *ret_count = orders->networks.count;
    return 0;
}
