/* Goal: the observer sees what is ours, whole, and nothing of anyone else's.
 * Method: links and entries made by hand in a network namespace of each test's own
 * (root). */
#include "base/cleanup.h"
#include "net/network_observe.h"
#include "net/tap.h"
#include "network_fixture.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct netlink *netlink;
static struct temp_dir dir;
static struct network_host host;
static struct network_observed observed;

static void setup(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    ck_assert_int_eq(netlink_open(&netlink, NULL), 0);
    temp_dir_init(&dir);
    host = fixture_host(1, dir.path);
}

static void teardown(void)
{
    network_observed_fini(&observed);
    netlink = netlink_close(netlink);
    temp_dir_fini(&dir);
}

static void look(void)
{
    struct err err = {0};

    ck_assert_msg(network_observe(netlink, &host, &observed, &err) == 0, "%s", err.text);
}

static const struct network_link *seen(const char *name)
{
    for (size_t i = 0; i < observed.link_count; i++) {
        if (strcmp(observed.links[i].name, name) == 0) {
            return &observed.links[i];
        }
    }
    return NULL;
}

START_TEST(an_empty_host_has_nothing)
{
    look();
    ck_assert_uint_eq(observed.link_count, 0);
    ck_assert_uint_eq(observed.entry_count, 0);
    ck_assert_uint_eq(observed.service_count, 0);
    ck_assert(!observed.forwarding);
}
END_TEST

START_TEST(links_of_others_are_not_seen)
{
    ck_assert_int_eq(netlink_bridge_create(netlink, "br0", 0x060000000001, 1500, NULL),
                     0);
    ck_assert_int_eq(netlink_bridge_create(netlink, "bx7", 0x060000000002, 1500, NULL),
                     0);
    ck_assert_int_eq(netlink_bridge_create(netlink, "bt1", 0x060000000003, 1500, NULL),
                     0);
    ck_assert_int_eq(tap_create("tap0", NULL), 0);
    ck_assert_int_eq(
        netlink_address_set(netlink, "br0", IPV4(10, 7, 0, 1), 24, true, NULL), 0);
    look();
    ck_assert_uint_eq(observed.link_count, 0);
    ck_assert_uint_eq(observed.entry_count, 0);
}
END_TEST

START_TEST(links_and_their_entries_are_seen_as_the_plan_words_them)
{
    ck_assert_int_eq(netlink_bridge_create(netlink, "bb7", 0x060000000001, 1450, NULL),
                     0);
    ck_assert_int_eq(netlink_vxlan_create(netlink, "bx7", 7, host.underlay,
                                          NETWORK_VXLAN_PORT, 1450, NULL),
                     0);
    ck_assert_int_eq(tap_create("bt1", NULL), 0);
    ck_assert_int_eq(netlink_link_attach(netlink, "bt1", "bb7", NULL), 0);
    ck_assert_int_eq(netlink_bridge_fdb_set(netlink, "bt1", fixture_mac(10), true, NULL),
                     0);
    ck_assert_int_eq(netlink_vxlan_fdb_set(netlink, "bx7", fixture_mac(20),
                                           IPV4(192, 0, 2, 2), true, NULL),
                     0);
    look();
    ck_assert_uint_eq(observed.link_count, 3);
    ck_assert_uint_eq(seen("bb7")->mac, 0x060000000001);
    ck_assert_uint_eq(seen("bx7")->underlay, host.underlay);
    ck_assert_str_eq(seen("bx7")->master, "");
    ck_assert_str_eq(seen("bt1")->master, "bb7");
    ck_assert_uint_ne(seen("bt1")->port_flags & NETWORK_PORT_LEARNING,
                      0); /* a port as it is born */
    ck_assert_uint_eq(observed.entry_count, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct network_entry *entry = &observed.entries[i];
        bool in_bridge = entry->kind == NETWORK_ENTRY_BRIDGE_FDB;
        ck_assert_uint_eq(entry->vni, 7);
        ck_assert_uint_eq(entry->key, fixture_mac(in_bridge ? 10 : 20));
        ck_assert_str_eq(entry->port, in_bridge ? "bt1" : "");
        ck_assert_uint_eq(entry->value, in_bridge ? 0 : IPV4(192, 0, 2, 2));
    }
}
END_TEST

START_TEST(a_foreign_set_up_under_our_name_does_not_count_as_right)
{
    ck_assert_int_eq(
        netlink_vxlan_create(netlink, "bx7", 8, host.underlay, 4789, 1450, NULL), 0);
    ck_assert_int_eq(
        netlink_vxlan_create(netlink, "bx9", 9, host.underlay, 8472, 1450, NULL), 0);
    ck_assert_int_eq(netlink_bridge_create(netlink, "br0", 0x060000000001, 1500, NULL),
                     0);
    ck_assert_int_eq(netlink_link_attach(netlink, "bx9", "br0", NULL), 0);
    look();
    ck_assert_uint_eq(seen("bx7")->underlay, 0);
    ck_assert_uint_eq(seen("bx9")->underlay, 0);
    ck_assert_str_eq(seen("bx9")->master, "?");
}
END_TEST

START_TEST(a_folder_left_behind_is_a_service_that_does_not_run)
{
    char *path = temp_dir_path(&dir, "networks");
    ck_assert_int_eq(mkdir(path, 0755), 0);
    free(path);
    path = temp_dir_path(&dir, "networks/7");
    ck_assert_int_eq(mkdir(path, 0755), 0);
    free(path);
    look();
    ck_assert_uint_eq(observed.service_count, 1);
    ck_assert_uint_eq(observed.services[0].vni, 7);
    ck_assert(!observed.services[0].running);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("network_observe");
    TCase *c = tcase_create("network_observe");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, an_empty_host_has_nothing);
    tcase_add_test(c, links_of_others_are_not_seen);
    tcase_add_test(c, links_and_their_entries_are_seen_as_the_plan_words_them);
    tcase_add_test(c, a_foreign_set_up_under_our_name_does_not_count_as_right);
    tcase_add_test(c, a_folder_left_behind_is_a_service_that_does_not_run);
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
