/* Goal: every step that is done at once does to the kernel what the plan meant by it:
 * after a plan's steps a new look finds nothing more to do. Method: in a network
 * namespace of each test's own (root); rules and services are taken as done. */
#include "base/cleanup.h"
#include "net/network_observe.h"
#include "net/network_step.h"
#include "network_fixture.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

static struct netlink *netlink;
static struct temp_dir dir;
static struct scene scene;

static void setup(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    ck_assert_int_eq(netlink_open(&netlink, NULL), 0);
    temp_dir_init(&dir);
    scene_init(&scene);
    scene.host.state_folder = dir.path;
    scene_add(&scene, 7)->nat = true;
    scene_add_port(&scene, 0, 10);
    scene_add_port(&scene, 0, 11);
    scene_add_remote(&scene, 0, fixture_remote(7, 20, 2));
    scene_add_remote(&scene, 0, fixture_router(7, 2));
}

static void teardown(void)
{
    netlink = netlink_close(netlink);
    temp_dir_fini(&dir);
}

/* Looks, plans and carries out; the count of steps done at once. */
static size_t play(void)
{
    struct network_observed observed = {0};
    struct network_plan plan = {0};
    struct err err = {0};
    size_t count = 0;

    ck_assert_msg(network_observe(netlink, &scene.host, &observed, &err) == 0, "%s",
                  err.text);
    observed.rules_hash = scene.rendered.rules_hash;
    ck_assert_int_eq(network_plan_make(&scene.host, scene.wants, scene.count,
                                       &scene.rendered, &observed, &plan, NULL),
                     0);
    for (size_t i = 0; i < plan.count; i++) {
        char text[NETWORK_TEXT_SIZE];
        if (plan.steps[i].kind == NETWORK_STEP_RULES_REMOVE) {
            continue;
        }
        network_step_format(&plan.steps[i], text);
        ck_assert_msg(network_step_run(netlink, &scene.host, &plan.steps[i], &err) == 0,
                      "%s: %s", text, err.text);
        count++;
    }
    network_plan_fini(&plan);
    network_observed_fini(&observed);
    return count;
}

static char first_of(const char *path)
{
    char byte = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_msg(fd >= 0, "%s is missing", path);
    ck_assert_int_eq(read(fd, &byte, 1), 1);
    (void)close(fd);
    return byte;
}

START_TEST(a_network_is_complete_after_one_plan)
{
    ck_assert_uint_gt(play(), 20);
    ck_assert_uint_eq(play(), 0);
    ck_assert_int_eq(first_of("/proc/sys/net/ipv4/ip_forward"), '1');
    ck_assert_int_eq(first_of("/proc/sys/net/ipv4/conf/bb7/rp_filter"), '1');
    ck_assert_int_eq(first_of("/proc/sys/net/ipv4/conf/bb7/send_redirects"), '0');
    if (access("/proc/sys/net/ipv6", F_OK) == 0) {
        ck_assert_int_eq(first_of("/proc/sys/net/ipv6/conf/bb7/disable_ipv6"), '1');
        ck_assert_int_eq(first_of("/proc/sys/net/ipv6/conf/bt2i/disable_ipv6"), '1');
    }
}
END_TEST

static void damage_flags(void)
{
    ck_assert_int_eq(netlink_port_flags(netlink, "bt2i", NETWORK_PORT_LEARNING, NULL), 0);
}
static void damage_up(void)
{
    ck_assert_int_eq(netlink_link_up(netlink, "bb7", false, NULL), 0);
}
static void damage_mac(void)
{
    ck_assert_int_eq(netlink_link_mac(netlink, "bb7", 0x060000000005, NULL), 0);
}
static void damage_master(void)
{
    ck_assert_int_eq(netlink_link_attach(netlink, "bt2i", NULL, NULL), 0);
}
static void damage_vxlan(void)
{
    ck_assert_int_eq(netlink_link_remove(netlink, "bx7", NULL), 0);
}
static void damage_vxlan_end(void)
{
    ck_assert_int_eq(netlink_link_remove(netlink, "bx7", NULL), 0);
    ck_assert_int_eq(
        netlink_vxlan_create(netlink, "bx7", 7, IPV4(192, 0, 2, 9), 4789, 1450, NULL), 0);
}
static void damage_bridge(void)
{
    ck_assert_int_eq(netlink_link_remove(netlink, "bb7", NULL), 0);
}
static void damage_tap(void)
{
    ck_assert_int_eq(netlink_link_remove(netlink, "bt2i", NULL), 0);
}
static void damage_fdb(void)
{
    ck_assert_int_eq(netlink_bridge_fdb_set(netlink, "bt2r", fixture_mac(20), true, NULL),
                     0);
}
static void damage_tunnel(void)
{
    ck_assert_int_eq(netlink_vxlan_fdb_set(netlink, "bx7", fixture_mac(66),
                                           IPV4(192, 0, 2, 66), true, NULL),
                     0);
}
static void damage_neighbour(void)
{
    ck_assert_int_eq(netlink_neighbour_set(netlink, "bb7", IPV4(10, 7, 0, 20),
                                           fixture_mac(66), true, NULL),
                     0);
}
static void damage_address(void)
{
    ck_assert_int_eq(
        netlink_address_set(netlink, "bb7", IPV4(10, 7, 0, 1), 24, false, NULL), 0);
    ck_assert_int_eq(
        netlink_address_set(netlink, "bb7", IPV4(10, 7, 0, 1), 25, true, NULL), 0);
}
static void damage_route(void)
{
    ck_assert_int_eq(
        netlink_route_set(netlink, "bb7", IPV4(10, 7, 0, 0), 24, 0, false, NULL), 0);
    ck_assert_int_eq(netlink_route_set(netlink, "bb7", IPV4(10, 7, 0, 0), 24,
                                       IPV4(10, 7, 0, 1), true, NULL),
                     0);
}

static void (*const damages[])(void) = {
    damage_flags,     damage_up,      damage_mac,   damage_master, damage_vxlan,
    damage_vxlan_end, damage_bridge,  damage_tap,   damage_fdb,    damage_tunnel,
    damage_neighbour, damage_address, damage_route,
};

START_TEST(any_damage_is_repaired_by_one_plan)
{
    (void)play();
    damages[_i]();
    ck_assert_uint_gt(play(), 0);
    ck_assert_uint_eq(play(), 0);
}
END_TEST

START_TEST(nothing_stays_of_what_is_not_wanted)
{
    struct network_observed observed = {0};

    (void)play();
    scene.count = 0;
    (void)play();
    ck_assert_int_eq(network_observe(netlink, &scene.host, &observed, NULL), 0);
    ck_assert_uint_eq(observed.link_count, 0);
    ck_assert_uint_eq(observed.entry_count, 0);
    network_observed_fini(&observed);
}
END_TEST

START_TEST(a_step_of_another_kind_is_refused)
{
    struct network_step step = {.kind = NETWORK_STEP_RULES_INSTALL};

    ck_assert_int_eq(network_step_run(netlink, &scene.host, &step, NULL), BERTH_EBUG);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("network_step");
    TCase *c = tcase_create("network_step");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_network_is_complete_after_one_plan);
    tcase_add_loop_test(c, any_damage_is_repaired_by_one_plan, 0,
                        (int)ARRAY_COUNT(damages));
    tcase_add_test(c, nothing_stays_of_what_is_not_wanted);
    tcase_add_test(c, a_step_of_another_kind_is_refused);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
        return test_main_skip("it takes root and /dev/net/tun");
    }
    return test_main_run(suite());
}
