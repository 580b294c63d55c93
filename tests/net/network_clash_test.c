/* Goal: a network whose range this host needs for itself is found, with what it clashes
 * with; others are not. Method: the kernel's own tables in a network namespace of each
 * test's own (root). */
#include "base/cleanup.h"
#include "net/network_clash.h"
#include "network_fixture.h"
#include "support/test_main.h"

#include <check.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct netlink *netlink;
static struct network_host host;
static struct network_clash *clashes;
static size_t count;

static void run(const char *command)
{
    ck_assert_msg(system(command) == 0, "%s", command);
}

/* 10.99.0.0/16 is on eth0 (a bridge as good as any), the way out by 10.99.0.1. */
static void setup(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    ck_assert_int_eq(netlink_open(&netlink, NULL), 0);
    host = fixture_host(1, "/nowhere");
    clashes = NULL;
    run("ip link set lo up && ip link add eth0 type bridge && ip link set eth0 up && "
        "ip addr add 10.99.0.7/16 dev eth0 && ip route add default via 10.99.0.1 && "
        "ip route add 10.0.0.0/8 via 10.99.0.2 && ip route add 128.0.0.0/1 dev eth0");
}

static void teardown(void)
{
    free(clashes);
    netlink = netlink_close(netlink);
}

static void look(const struct network_want *wants, size_t want_count)
{
    struct err err = {0};
    free(clashes);
    clashes = NULL;
    count = 0;
    ck_assert_msg(network_clash_find(netlink, &host, wants, want_count, &clashes, &count,
                                     &err) == 0,
                  "%s", err.text);
}

/* NULL: it may be here. */
static void expect(uint32_t address, uint32_t prefix_bits, const char *text)
{
    struct network_want want = fixture_want(7, 1);
    want.cidr = (struct network_cidr){address, prefix_bits};
    look(&want, 1);
    if (text == NULL) {
        ck_assert_msg(count == 0, "%s", count > 0 ? clashes[0].text : "");
        ck_assert_ptr_null(clashes);
        return;
    }
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(clashes[0].vni, 7);
    ck_assert_str_eq(clashes[0].text, text);
}

START_TEST(what_the_host_reaches_directly_is_its_own)
{
    expect(IPV4(10, 99, 64, 0), 24,
           "its range 10.99.64.0/24 overlaps 10.99.0.0/16, which this host reaches "
           "directly (link eth0)");
    expect(IPV4(10, 0, 0, 0), 8,
           "its range 10.0.0.0/8 overlaps 10.99.0.0/16, which this host reaches directly "
           "(link eth0)");
    expect(IPV4(10, 98, 0, 0), 16, NULL);
    expect(IPV4(10, 100, 0, 0), 16, NULL);
    expect(IPV4(203, 0, 113, 0), 24, NULL); /* where half a default route leads */
}
END_TEST

START_TEST(gateways_are_the_hosts_own_whatever_way_they_are_reached)
{
    run("ip route add 172.20.0.0/16 via 172.16.0.1 dev eth0 onlink");
    expect(IPV4(172, 20, 1, 0), 24, NULL);
    expect(IPV4(172, 16, 0, 0), 29,
           "its range 172.16.0.0/29 overlaps 172.16.0.1, a gateway of this host (link "
           "eth0)");
}
END_TEST

START_TEST(each_of_several_ways_counts)
{
    run("ip link add eth1 type bridge && ip link set eth1 up && "
        "ip route add 192.168.0.0/16 nexthop via 10.99.0.3 dev eth0 "
        "nexthop via 172.18.0.2 dev eth1 onlink");
    expect(IPV4(172, 18, 0, 0), 24,
           "its range 172.18.0.0/24 overlaps 172.18.0.2, a gateway of this host (link "
           "eth1)");
    expect(IPV4(192, 168, 1, 0), 24, NULL);
}
END_TEST

START_TEST(addresses_of_hosts_are_found_without_a_route)
{
    struct network_want want = fixture_want(7, 1);
    struct network_remote remote = fixture_remote(7, 20, 2);

    expect(IPV4(192, 0, 2, 0), 30, "its range 192.0.2.0/30 covers this host's address");
    remote.underlay = IPV4(10, 7, 0, 99);
    want.remotes = &remote;
    want.remote_count = 1;
    look(&want, 1);
    ck_assert_uint_eq(count, 1);
    ck_assert_str_eq(clashes[0].text,
                     "its range 10.7.0.0/24 covers another host's address");
}
END_TEST

START_TEST(networks_that_are_here_are_neither_judged_nor_in_the_way)
{
    struct network_want wants[] = {fixture_want(7, 1), fixture_want(8, 1),
                                   fixture_want(9, 1)};

    wants[0].cidr = (struct network_cidr){IPV4(10, 99, 7, 0), 24};
    wants[1].cidr = (struct network_cidr){IPV4(10, 99, 8, 0), 24};
    run("ip link add bb7 type bridge && ip link set bb7 up && "
        "ip addr add 10.99.7.1/24 dev bb7 && ip route add 10.9.0.0/24 dev bb7");
    look(wants, 3);

    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(clashes[0].vni, 8);
}
END_TEST

static struct network_taken_look look_at_taken(void)
{
    struct network_taken_look taken = {0};
    struct err err = {0};
    ck_assert_msg(network_taken_find(netlink, &taken, &err) == 0, "%s", err.text);
    return taken;
}

START_TEST(what_is_taken_is_told_before_there_is_a_network)
{
    run("ip link add bb7 type bridge && ip link set bb7 up && "
        "ip addr add 10.50.0.1/24 dev bb7 && ip addr add 192.0.2.9/32 dev eth0 && "
        "ip route add 172.20.0.0/16 via 172.16.0.1 dev eth0 onlink");
    struct network_taken_look taken = look_at_taken();
    ck_assert(taken.complete);
    ck_assert_uint_eq(taken.count, 4); /* the network is here: it is none of them */
    ck_assert_str_eq(taken.ranges[0].text,
                     "10.99.0.0/16, which this host reaches directly (link eth0)");
    ck_assert_uint_eq(taken.ranges[0].range.address, IPV4(10, 99, 0, 0));
    ck_assert_uint_eq(taken.ranges[0].range.prefix_bits, 16);
    ck_assert_str_eq(taken.ranges[1].text,
                     "127.0.0.1, an address of this host (link lo)");
    ck_assert_str_eq(taken.ranges[2].text,
                     "172.16.0.1, a gateway of this host (link eth0)");
    ck_assert_str_eq(taken.ranges[3].text,
                     "192.0.2.9, an address of this host (link eth0)");
    network_taken_fini(&taken);
}
END_TEST

START_TEST(networks_that_are_here_all_the_same_are_told)
{
    run("for i in 1 7 9 200; do ip link add bb$i type bridge; ip link set bb$i up; done "
        "&& "
        "ip addr add 10.50.0.1/24 dev bb1 && ip addr add 10.99.7.1/24 dev bb7 && "
        "ip addr add 10.99.8.1/24 dev bb9 && ip addr add 192.0.2.1/24 dev bb200 && "
        "ip addr add 192.0.2.200/32 dev eth0 && ip addr add 192.0.2.201/32 dev eth0");
    struct network_taken_look taken = look_at_taken();
    ck_assert_uint_eq(taken.carried_count, 3);
    ck_assert_uint_eq(taken.carried[0], 7);
    ck_assert_uint_eq(taken.carried[1], 9);
    ck_assert_uint_eq(taken.carried[2], 200);
    network_taken_fini(&taken);
}
END_TEST

/* The kernel lists addresses first, and of routes the lower ones. */
START_TEST(of_many_ranges_the_widest_are_told)
{
    run("ip link add eth1 type bridge && ip link set eth1 up && "
        "ip addr add 172.18.0.1/24 dev eth1 && "
        "for i in $(seq 0 255); do "
        "echo addr add 10.98.$i.1/32 dev eth0; echo addr add 10.99.$i.9/32 dev eth0; "
        "echo route add 10.97.$i.0/30 dev eth0; done | ip -batch -");
    struct network_taken_look taken = look_at_taken();
    ck_assert(!taken.complete);
    ck_assert_uint_eq(taken.count, NETWORK_TAKEN_MAX);
    ck_assert_str_eq(taken.ranges[0].text,
                     "10.99.0.0/16, which this host reaches directly (link eth0)");
    ck_assert_str_eq(taken.ranges[1].text,
                     "172.18.0.0/24, which this host reaches directly (link eth1)");
    ck_assert_str_eq(taken.ranges[2].text,
                     "10.97.0.0/30, which this host reaches directly (link eth0)");
    network_taken_fini(&taken);
    expect(IPV4(10, 98, 255, 0), 24,
           "its range 10.98.255.0/24 overlaps 10.98.255.1, an address of this host (link "
           "eth0)");
    expect(IPV4(10, 97, 1, 8), 29, NULL);
}
END_TEST

/* A router's table: more routes than are read on a loop that keeps leases. */
START_TEST(a_look_at_what_is_taken_ends_and_a_network_is_judged_by_all)
{
    run("seq 0 40000 | awk '{ printf \"route add 11.%d.%d.%d/32 via 10.99.0.2\\n\", "
        "$1 / 65536, $1 / 256 % 256, $1 % 256 }' | ip -batch - && "
        "ip link add eth1 type bridge && ip link set eth1 up && "
        "ip addr add 172.18.0.1/24 dev eth1 noprefixroute && "
        "ip route add 172.19.0.0/24 dev eth1");
    struct network_taken_look taken = look_at_taken();
    ck_assert(!taken.complete);
    ck_assert_uint_lt(taken.count, 8); /* those routes share a gateway */
    network_taken_fini(&taken);
    expect(IPV4(172, 19, 0, 0), 24,
           "its range 172.19.0.0/24 overlaps 172.19.0.0/24, which this host reaches "
           "directly (link eth1)");
}
END_TEST

int main(void)
{
    if (geteuid() != 0) {
        return test_main_skip("it takes root");
    }
    Suite *suite = suite_create("network_clash");
    TCase *tests = tcase_create("network_clash");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_the_host_reaches_directly_is_its_own);
    tcase_add_test(tests, gateways_are_the_hosts_own_whatever_way_they_are_reached);
    tcase_add_test(tests, each_of_several_ways_counts);
    tcase_add_test(tests, addresses_of_hosts_are_found_without_a_route);
    tcase_add_test(tests, networks_that_are_here_are_neither_judged_nor_in_the_way);
    tcase_add_test(tests, networks_that_are_here_all_the_same_are_told);
    tcase_add_test(tests, of_many_ranges_the_widest_are_told);
    tcase_add_test(tests, a_look_at_what_is_taken_ends_and_a_network_is_judged_by_all);
    tcase_add_test(tests, what_is_taken_is_told_before_there_is_a_network);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
