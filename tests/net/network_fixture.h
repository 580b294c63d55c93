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

/* What the tests vary; services and rules follow from it. */
struct scene {
    struct network_host host;
    struct network_want wants[4];
    size_t count;
    struct network_port ports[4][4];
    struct network_remote remotes[4][4];
    struct network_service services[4];
    struct network_rendered rendered;
};

static inline void scene_init(struct scene *scene)
{
    memset(scene, 0, sizeof(*scene));
    scene->host = fixture_host(1, "/var/lib/berth");
    scene->rendered =
        (struct network_rendered){.rules_hash = 100, .services = scene->services};
}

static inline struct network_want *scene_add(struct scene *scene, uint32_t vni)
{
    size_t i = scene->count++;
    struct network_want *want = &scene->wants[i];

    *want = fixture_want(vni, 1);
    want->ports = scene->ports[i];
    want->remotes = scene->remotes[i];
    return want;
}

static inline void scene_add_port(struct scene *scene, size_t want, uint64_t vm_uid)
{
    struct network_want *w = &scene->wants[want];

    scene->ports[want][w->port_count++] = fixture_port(w->vni, vm_uid);
}

static inline void
scene_add_remote(struct scene *scene, size_t want, struct network_remote remote)
{
    struct network_want *w = &scene->wants[want];

    scene->remotes[want][w->remote_count++] = remote;
}
