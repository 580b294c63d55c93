/* Goal: the networks of a host's orders become the wants of the network planner. Method:
 * orders written by hand; every fact of a want is looked up again. */
#include "agent/worker_network.h"
#include "support/test_main.h"

#include <check.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SELF         11
#define OTHER        12
#define NETWORK      40
#define UNDERLAY_MTU 1500
#define ADDRESS(n)   (0x0a000000u + (n))
#define UNDERLAY(n)  (0xc0a80000u + (n))

static struct msg_nic nics_one[] = {{.network = NETWORK, .mac = 0x52, .ipv4 = ADDRESS(5)},
                                    {.network = 99, .mac = 0x53, .ipv4 = 7}};
static struct msg_nic nics_two[] = {
    {.network = 99, .mac = 0x54, .ipv4 = 8},
    {.network = NETWORK, .mac = 0x55, .ipv4 = ADDRESS(6)}};
static struct msg_vm vms[] = {
    {.vm = 1, .epoch = 1, .name = "one", .nics = {nics_one, 2}},
    {.vm = 2, .epoch = 1, .order = ORDER_STOP, .name = "two", .nics = {nics_two, 2}},
};
static struct msg_neighbour neighbours[] = {
    {.mac = 0x52,
     .ipv4 = ADDRESS(5),
     .underlay = UNDERLAY(1),
     .host = SELF,
     .name = "one"},
    {.mac = 0x99,
     .ipv4 = ADDRESS(9),
     .underlay = UNDERLAY(2),
     .host = OTHER,
     .name = "far"},
    {.mac = 0x98, .ipv4 = ADDRESS(8), .name = "nowhere"},
    {.ipv4 = ADDRESS(2), .underlay = UNDERLAY(1), .host = SELF},
    {.ipv4 = ADDRESS(3), .underlay = UNDERLAY(2), .host = OTHER},
    {.ipv4 = ADDRESS(4), .host = 13}, /* a host without an address yet */
};
static struct msg_network networks[] = {
    {.uid = NETWORK,
     .name = "front",
     .tenant = "acme",
     .vni = 1234,
     .cidr = ((uint64_t)ADDRESS(0) << 8) | 24,
     .gateway = ADDRESS(1),
     .host_address = ADDRESS(2),
     .nat = true,
     .neighbours = {neighbours, 6}},
    {.uid = 99, .name = "back", .tenant = "other", .vni = 1235, .mtu = 1280},
};
static const struct msg_orders all = {.host = SELF,
                                      .vms = {vms, 2},
                                      .networks = {networks, 2}};

static struct network_want *wants;
static size_t want_count;

static uint64_t limited_by_host; /* a VM */

static bool limits_nics(void *context, uint64_t vm)
{
    (void)context;
    return vm == limited_by_host;
}

static const struct worker_network_asker asker = {.limits_nics = limits_nics};

static void wants_make(void)
{
    ck_assert_int_eq(
        worker_network_wants(&all, &asker, SELF, UNDERLAY_MTU, &wants, &want_count), 0);
    ck_assert_uint_eq(want_count, 2);
}

static void wants_drop(void)
{
    wants = network_wants_free(wants, want_count);
}

START_TEST(a_want_has_the_facts_of_its_network)
{
    const struct network_want *want = &wants[0];

    ck_assert_uint_eq(want->vni, 1234);
    ck_assert_str_eq(want->name, "front");
    ck_assert_str_eq(want->tenant, "acme");
    ck_assert_str_eq(want->zone, "acme.berth");
    ck_assert_uint_eq(want->cidr.address, ADDRESS(0));
    ck_assert_uint_eq(want->cidr.prefix_bits, 24);
    ck_assert_uint_eq(want->gateway, ADDRESS(1));
    ck_assert_uint_eq(want->host_address, ADDRESS(2));
    ck_assert(want->nat);
    ck_assert(!wants[1].nat);
}
END_TEST

START_TEST(frames_leave_room_for_the_tunnel_unless_the_network_says_its_mtu)
{
    ck_assert_uint_eq(wants[0].mtu, UNDERLAY_MTU - WORKER_VXLAN_OVERHEAD);
    ck_assert_uint_eq(wants[1].mtu, 1280);
}
END_TEST

START_TEST(every_nic_in_the_network_has_its_port_also_of_a_vm_that_stops)
{
    const struct network_want *want = &wants[0];
    char tap[NETWORK_IFNAME_SIZE];

    ck_assert_uint_eq(want->port_count, 2);
    ck_assert_uint_eq(want->ports[0].vm_uid, 1);
    ck_assert_str_eq(want->ports[0].vm_name, "one");
    ck_assert_uint_eq(want->ports[0].mac, 0x52);
    ck_assert_uint_eq(want->ports[0].ipv4, ADDRESS(5));
    network_tap_name(1, 0, tap);
    ck_assert_str_eq(want->ports[0].tap, tap);
    ck_assert_uint_eq(want->ports[1].vm_uid, 2);
    ck_assert_uint_eq(want->ports[1].mac, 0x55);
    network_tap_name(2, 1, tap); /* its second NIC */
    ck_assert_str_eq(want->ports[1].tap, tap);
    ck_assert_uint_eq(wants[1].port_count, 2);
    ck_assert_uint_eq(wants[1].ports[0].mac, 0x53);
    ck_assert_uint_eq(wants[1].ports[1].mac, 0x54);
}
END_TEST

START_TEST(what_is_on_other_hosts_is_remote_and_only_that)
{
    const struct network_want *want = &wants[0];

    ck_assert_uint_eq(want->remote_count, 2);
    ck_assert(!want->remotes[0].is_host);
    ck_assert_uint_eq(want->remotes[0].mac, 0x99);
    ck_assert_uint_eq(want->remotes[0].ipv4, ADDRESS(9));
    ck_assert_uint_eq(want->remotes[0].underlay, UNDERLAY(2));
    ck_assert(want->remotes[1].is_host);
    ck_assert_uint_eq(want->remotes[1].mac, network_bridge_mac(OTHER, 1234));
    ck_assert_uint_eq(want->remotes[1].ipv4, ADDRESS(3));
    ck_assert_uint_eq(wants[1].remote_count, 0);
}
END_TEST

START_TEST(vms_have_names_wherever_they_are_and_hosts_have_none)
{
    const struct network_want *want = &wants[0];

    ck_assert_uint_eq(want->name_count, 3);
    ck_assert_str_eq(want->names[0].name, "one");
    ck_assert_uint_eq(want->names[0].ipv4, ADDRESS(5));
    ck_assert_str_eq(want->names[1].name, "far");
    ck_assert_str_eq(want->names[2].name, "nowhere");
}
END_TEST

START_TEST(the_same_orders_read_by_the_other_host_are_mirrored)
{
    struct network_want *theirs;
    size_t count;

    ck_assert_int_eq(
        worker_network_wants(&all, &asker, OTHER, UNDERLAY_MTU, &theirs, &count), 0);

    ck_assert_uint_eq(theirs[0].remote_count, 2);
    ck_assert_uint_eq(theirs[0].remotes[0].mac, 0x52);
    ck_assert_uint_eq(theirs[0].remotes[0].underlay, UNDERLAY(1));
    ck_assert_uint_eq(theirs[0].remotes[1].mac, network_bridge_mac(SELF, 1234));
    network_wants_free(theirs, count);
}
END_TEST

START_TEST(orders_without_networks_want_nothing)
{
    const struct msg_orders none = {.host = SELF};
    struct network_want *empty = NULL;
    size_t count = 7;

    ck_assert_int_eq(
        worker_network_wants(&none, &asker, SELF, UNDERLAY_MTU, &empty, &count), 0);

    ck_assert_uint_eq(count, 0);
    network_wants_free(empty, count);
}
END_TEST

START_TEST(a_port_has_the_limit_that_no_engine_holds)
{
    struct nic_spec nics[2] = {{.name = "eth0", .limit = {.operations = 70}},
                               {.name = "eth1", .limit = {500, 600, 125000, 250000}}};
    struct msg_vm one = vms[0];
    struct msg_vm two = vms[1];
    vms[0].machine.nics = vms[1].machine.nics = (struct nic_spec_list){nics, 2};
    limited_by_host = 2;
    wants_drop();
    wants_make();

    const struct network_port *other = &wants[0].ports[0];
    const struct network_port *port = &wants[0].ports[1];
    ck_assert_uint_eq(other->vm_uid, 1);
    ck_assert_uint_eq(other->limit.packets + other->limit.bytes, 0);
    ck_assert_uint_eq(port->vm_uid, 2); /* whose second NIC it is */
    ck_assert_uint_eq(port->limit.packets, 500);
    ck_assert_uint_eq(port->limit.packets_burst, 600);
    ck_assert_uint_eq(port->limit.bytes, 125000);
    ck_assert_uint_eq(port->limit.bytes_burst, 250000);
    limited_by_host = 0;
    vms[0] = one;
    vms[1] = two;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("worker_network");
    TCase *tests = tcase_create("worker_network");
    tcase_add_checked_fixture(tests, wants_make, wants_drop);
    tcase_add_test(tests, a_want_has_the_facts_of_its_network);
    tcase_add_test(tests,
                   frames_leave_room_for_the_tunnel_unless_the_network_says_its_mtu);
    tcase_add_test(tests, every_nic_in_the_network_has_its_port_also_of_a_vm_that_stops);
    tcase_add_test(tests, what_is_on_other_hosts_is_remote_and_only_that);
    tcase_add_test(tests, vms_have_names_wherever_they_are_and_hosts_have_none);
    tcase_add_test(tests, the_same_orders_read_by_the_other_host_are_mirrored);
    tcase_add_test(tests, a_port_has_the_limit_that_no_engine_holds);
    tcase_add_test(tests, orders_without_networks_want_nothing);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
