/* Values that the tests of tenant networks start from: two hosts, one network, two VMs.
 */
#pragma once

#include "net/network_plan.h"

#include <stdio.h>
#include <string.h>

#define IPV4(a, b, c, d) \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

static inline struct network_host fixture_host(unsigned number, const char *state_folder)
{
    return (struct network_host){.host_id = number,
                                 .underlay = IPV4(192, 0, 2, number),
                                 .state_folder = state_folder};
}

/* 10.<vni>.0.0/24, gateway .1, this host's own address .<number + 1>. */
static inline struct network_want fixture_want(uint32_t vni, unsigned number)
{
    struct network_want want = {.vni = vni,
                                .cidr = {IPV4(10, vni, 0, 0), 24},
                                .gateway = IPV4(10, vni, 0, 1),
                                .host_address = IPV4(10, vni, 0, 1 + number),
                                .mtu = 1450};

    (void)snprintf(want.name, sizeof(want.name), "front%u", vni);
    (void)snprintf(want.tenant, sizeof(want.tenant), "tenant%u", vni);
    (void)snprintf(want.zone, sizeof(want.zone), "tenant%u.berth", vni);
    return want;
}

static inline uint64_t fixture_mac(uint64_t vm_uid)
{
    return UINT64_C(0x525400000000) | vm_uid;
}

/* VM <uid> has the address 10.<vni>.0.<uid>. */
static inline struct network_port fixture_port(uint32_t vni, uint64_t vm_uid)
{
    struct network_port port = {
        .vm_uid = vm_uid, .mac = fixture_mac(vm_uid), .ipv4 = IPV4(10, vni, 0, vm_uid)};

    (void)snprintf(port.vm_name, sizeof(port.vm_name), "web-%u", (unsigned)vm_uid);
    network_tap_name(vm_uid, 0, port.tap);
    return port;
}

static inline struct network_remote
fixture_remote(uint32_t vni, uint64_t vm_uid, unsigned host)
{
    return (struct network_remote){.mac = fixture_mac(vm_uid),
                                   .ipv4 = IPV4(10, vni, 0, vm_uid),
                                   .underlay = IPV4(192, 0, 2, host)};
}

/* The other host's bridge in the network. */
static inline struct network_remote fixture_router(uint32_t vni, unsigned host)
{
    return (struct network_remote){.mac = network_bridge_mac(host, vni),
                                   .ipv4 = IPV4(10, vni, 0, 1 + host),
                                   .underlay = IPV4(192, 0, 2, host),
                                   .is_host = true};
}
