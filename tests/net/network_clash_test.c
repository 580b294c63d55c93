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
    expect(
        IPV4(10, 0, 0, 0), 8,
        "its range 10.0.0.0/8 overlaps 10.99.0.7, an address of this host (link eth0)");
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

static bool
is_taken(const struct network_taken *taken, size_t taken_count, const char *text)
{
    bool found = false;
    for (size_t i = 0; i < taken_count && !found; i++) {
        found = strcmp(taken[i].text, text) == 0;
    }
    return found;
}

START_TEST(what_is_taken_is_told_before_there_is_a_network)
{
    struct network_taken *taken = NULL;
    size_t taken_count = 0;
    struct err err = {0};
    run("ip link add berth-br-7 type bridge && ip link set berth-br-7 up && "
        "ip addr add 10.50.0.1/24 dev berth-br-7");
    ck_assert_msg(network_taken_find(netlink, &taken, &taken_count, &err) == 0, "%s",
                  err.text);
    ck_assert(is_taken(taken, taken_count,
                       "10.99.0.0/16, which this host reaches directly (link eth0)"));
    ck_assert(
        is_taken(taken, taken_count, "10.99.0.7, an address of this host (link eth0)"));
    ck_assert(
        is_taken(taken, taken_count, "10.99.0.1, a gateway of this host (link eth0)"));
    for (size_t i = 0; i < taken_count; i++) {
        ck_assert_uint_gt(taken[i].range.prefix_bits, 0);
    }
    free(taken);
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
    tcase_add_test(tests, what_is_taken_is_told_before_there_is_a_network);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
