/* Goal: what is set over netlink is what the kernel lists afterwards, and refusals say
 * what and where. Method: in a network namespace of each test's own (root). */
#include "base/cleanup.h"
#include "net/netlink.h"
#include "network_fixture.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <sched.h>
#include <unistd.h>

static struct netlink *netlink;

static void setup(void)
{
    struct err err = {0};

    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    ck_assert_msg(netlink_open(&netlink, &err) == 0, "%s", err.text);
    ck_assert_msg(netlink_bridge_create(netlink, "bb7", 0x060000000001, 1450, &err) == 0,
                  "%s", err.text);
    ck_assert_msg(netlink_vxlan_create(netlink, "bx7", 7, IPV4(192, 0, 2, 1), 4789, 1450,
                                       &err) == 0,
                  "%s", err.text);
}

static void teardown(void)
{
    netlink = netlink_close(netlink);
}

struct search {
    const char *name;
    size_t found;
    struct netlink_link link;
};

static void on_link(void *context, const struct netlink_link *link)
{
    struct search *search = context;

    if (strcmp(link->name, search->name) == 0) {
        search->link = *link;
        search->found++;
    }
}

static struct netlink_link find(const char *name)
{
    struct search search = {.name = name};

    ck_assert_int_eq(netlink_links(netlink, on_link, &search, NULL), 0);
    ck_assert_uint_eq(search.found, 1);
    return search.link;
}

START_TEST(links_are_listed_as_they_were_made)
{
    struct netlink_link bridge = find("bb7");
    struct netlink_link vxlan = find("bx7");

    ck_assert_str_eq(bridge.kind, "bridge");
    ck_assert_uint_eq(bridge.mac, 0x060000000001);
    ck_assert_uint_eq(bridge.mtu, 1450);
    ck_assert(!bridge.up);
    ck_assert_str_eq(vxlan.kind, "vxlan");
    ck_assert_uint_eq(vxlan.vxlan_vni, 7);
    ck_assert_uint_eq(vxlan.vxlan_local, IPV4(192, 0, 2, 1));
    ck_assert_uint_eq(vxlan.vxlan_port, 4789);
    ck_assert(!vxlan.vxlan_learning);
    ck_assert_int_eq(vxlan.master, 0);
}
END_TEST

START_TEST(links_change_as_they_are_told)
{
    ck_assert_int_eq(netlink_link_up(netlink, "bb7", true, NULL), 0);
    ck_assert_int_eq(netlink_link_mtu(netlink, "bb7", 1400, NULL), 0);
    ck_assert_int_eq(netlink_link_mac(netlink, "bb7", 0x060000000002, NULL), 0);
    ck_assert_int_eq(netlink_link_attach(netlink, "bx7", "bb7", NULL), 0);
    ck_assert_int_eq(
        netlink_port_flags(netlink, "bx7", NETWORK_PORT_NEIGH_SUPPRESS, NULL), 0);
    struct netlink_link bridge = find("bb7");
    struct netlink_link vxlan = find("bx7");
    ck_assert(bridge.up);
    ck_assert_uint_eq(bridge.mtu, 1400);
    ck_assert_uint_eq(bridge.mac, 0x060000000002);
    ck_assert_int_eq(vxlan.master, bridge.index);
    ck_assert_uint_eq(vxlan.port_flags, NETWORK_PORT_NEIGH_SUPPRESS);
    ck_assert_int_eq(netlink_port_flags(netlink, "bx7", 63, NULL), 0);
    ck_assert_uint_eq(find("bx7").port_flags, 63);
    ck_assert_int_eq(netlink_link_attach(netlink, "bx7", NULL, NULL), 0);
    ck_assert_int_eq(find("bx7").master, 0);
}
END_TEST

/* What the entry lists gave, in one word each; enough for one entry of each. */
struct seen {
    size_t count;
    uint64_t key;
    uint64_t value;
};

static void on_address(void *context, const struct netlink_address *address)
{
    *(struct seen *)context = (struct seen){((struct seen *)context)->count + 1,
                                            address->ipv4, address->prefix_bits};
}

static void on_route(void *context, const struct netlink_route *route)
{
    *(struct seen *)context =
        (struct seen){((struct seen *)context)->count + 1, route->ipv4, route->source};
}

static void on_neighbour(void *context, const struct netlink_neighbour *neighbour)
{
    if (neighbour->permanent) {
        *(struct seen *)context = (struct seen){((struct seen *)context)->count + 1,
                                                neighbour->ipv4, neighbour->mac};
    }
}

static void on_bridge_fdb(void *context, const struct netlink_fdb *fdb)
{
    if (fdb->fixed && !fdb->self) {
        *(struct seen *)context = (struct seen){((struct seen *)context)->count + 1,
                                                fdb->mac, (uint64_t)fdb->link};
    }
}

static void on_vxlan_fdb(void *context, const struct netlink_fdb *fdb)
{
    if (fdb->fixed && fdb->self && fdb->destination != 0) {
        *(struct seen *)context = (struct seen){((struct seen *)context)->count + 1,
                                                fdb->mac, fdb->destination};
    }
}

#define EXPECT(list, item, expected_count, expected_key, expected_value) \
    do {                                                                 \
        struct seen seen = {0};                                          \
        ck_assert_int_eq(list(netlink, item, &seen, NULL), 0);           \
        ck_assert_uint_eq(seen.count, expected_count);                   \
        ck_assert_uint_eq(seen.key, expected_key);                       \
        ck_assert_uint_eq(seen.value, expected_value);                   \
    } while (0)

START_TEST(entries_are_set_replaced_and_removed)
{
    uint64_t mac = 0x525400000014;
    uint32_t vm = IPV4(10, 7, 0, 20);

    ck_assert_int_eq(netlink_link_attach(netlink, "bx7", "bb7", NULL), 0);
    ck_assert_int_eq(netlink_link_up(netlink, "bb7", true, NULL), 0);
    ck_assert_int_eq(netlink_link_up(netlink, "bx7", true, NULL), 0);
    for (int round = 0; round < 2; round++) { /* setting the same again is fine */
        ck_assert_int_eq(
            netlink_address_set(netlink, "bb7", IPV4(10, 7, 0, 2), 24, true, NULL), 0);
        ck_assert_int_eq(
            netlink_neighbour_set(netlink, "bb7", vm, mac - (round == 0), true, NULL), 0);
        ck_assert_int_eq(netlink_bridge_fdb_set(netlink, "bx7", mac, true, NULL), 0);
        ck_assert_int_eq(netlink_vxlan_fdb_set(netlink, "bx7", mac,
                                               IPV4(192, 0, 2, 3 - (unsigned)round), true,
                                               NULL),
                         0);
    }
    ck_assert_int_eq(netlink_route_set(netlink, "bb7", IPV4(10, 7, 0, 0), 24,
                                       IPV4(10, 7, 0, 2), true, NULL),
                     0);
    EXPECT(netlink_addresses, on_address, 1, IPV4(10, 7, 0, 2), 24);
    EXPECT(netlink_routes, on_route, 1, IPV4(10, 7, 0, 0), IPV4(10, 7, 0, 2));
    EXPECT(netlink_neighbours, on_neighbour, 1, vm, mac);
    EXPECT(netlink_fdbs, on_bridge_fdb, 1, mac, (uint64_t)netlink_index("bx7", NULL));
    EXPECT(netlink_fdbs, on_vxlan_fdb, 1, mac, IPV4(192, 0, 2, 2));

    for (int round = 0; round < 2; round++) { /* so is removing what is gone */
        ck_assert_int_eq(
            netlink_route_set(netlink, "bb7", IPV4(10, 7, 0, 0), 24, 0, false, NULL), 0);
        ck_assert_int_eq(
            netlink_address_set(netlink, "bb7", IPV4(10, 7, 0, 2), 24, false, NULL), 0);
        ck_assert_int_eq(netlink_neighbour_set(netlink, "bb7", vm, mac, false, NULL), 0);
        ck_assert_int_eq(netlink_bridge_fdb_set(netlink, "bx7", mac, false, NULL), 0);
        ck_assert_int_eq(
            netlink_vxlan_fdb_set(netlink, "bx7", mac, IPV4(192, 0, 2, 2), false, NULL),
            0);
    }
    EXPECT(netlink_addresses, on_address, 0, 0, 0);
    EXPECT(netlink_routes, on_route, 0, 0, 0);
    EXPECT(netlink_neighbours, on_neighbour, 0, 0, 0);
    EXPECT(netlink_fdbs, on_bridge_fdb, 0, 0, 0);
    EXPECT(netlink_fdbs, on_vxlan_fdb, 0, 0, 0);
}
END_TEST

START_TEST(a_route_of_someone_else_is_not_taken_over)
{
    struct err err = {0};

    ck_assert_int_eq(netlink_bridge_create(netlink, "other", 0x060000000009, 1500, NULL),
                     0);
    ck_assert_int_eq(netlink_link_up(netlink, "other", true, NULL), 0);
    ck_assert_int_eq(netlink_link_up(netlink, "bb7", true, NULL), 0);
    ck_assert_int_eq(
        netlink_address_set(netlink, "other", IPV4(10, 7, 0, 9), 24, true, NULL), 0);
    ck_assert_int_eq(
        netlink_address_set(netlink, "bb7", IPV4(10, 7, 0, 2), 24, true, NULL), 0);
    ck_assert_int_eq(netlink_route_set(netlink, "other", IPV4(10, 7, 0, 0), 24,
                                       IPV4(10, 7, 0, 9), true, NULL),
                     0);
    ck_assert_int_eq(netlink_route_set(netlink, "bb7", IPV4(10, 7, 0, 0), 24,
                                       IPV4(10, 7, 0, 2), true, &err),
                     -EEXIST);
    ck_assert_str_eq(err.text, "set route on bb7: File exists");
    EXPECT(netlink_routes, on_route, 1, IPV4(10, 7, 0, 0), IPV4(10, 7, 0, 9));
}
END_TEST

static void count_route(void *context, const struct netlink_route *route)
{
    (void)route;
    ++*(unsigned *)context;
}

/* More than the kernel puts into one answer. */
START_TEST(a_list_that_is_cut_leaves_nothing_for_the_next)
{
    const unsigned all = 1500;
    unsigned count = 0;
    bool cut = false;
    ck_assert_int_eq(netlink_link_up(netlink, "bb7", true, NULL), 0);
    for (unsigned i = 0; i < all; i++) {
        ck_assert_int_eq(
            netlink_route_set(netlink, "bb7", IPV4(10, 8, 0, 0) + i, 32, 0, true, NULL),
            0);
    }
    for (int round = 0; round < 2; round++) {
        count = 0;
        ck_assert_int_eq(
            netlink_routes_some(netlink, 10, count_route, &count, &cut, NULL), 0);
        ck_assert(cut);
        ck_assert_uint_le(count, 10);
        EXPECT(netlink_addresses, on_address, 0, 0, 0);
    }
    count = 0;
    ck_assert_int_eq(
        netlink_routes_some(netlink, UINT64_MAX, count_route, &count, &cut, NULL), 0);
    ck_assert(!cut);
    ck_assert_uint_eq(count, all);
}
END_TEST

START_TEST(refusals_name_the_link)
{
    struct err err = {0};

    ck_assert_int_eq(netlink_bridge_create(netlink, "bb7", 0x060000000001, 1450, &err),
                     -EEXIST);
    ck_assert_str_eq(err.text, "create bridge bb7: File exists");
    ck_assert_int_eq(netlink_link_up(netlink, "bb9", true, &err), -ENODEV);
    ck_assert_ptr_nonnull(strstr(err.text, "bb9"));
    ck_assert_int_eq(netlink_link_attach(netlink, "bx7", "bb9", &err), -ENODEV);
    ck_assert_int_eq(netlink_link_remove(netlink, "bb9", &err),
                     0); /* gone is what was asked */
    ck_assert_int_eq(netlink_link_remove(netlink, "bb7", &err), 0);
    ck_assert_int_eq(netlink_index("bb7", NULL), -ENODEV);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("netlink");
    TCase *c = tcase_create("netlink");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, links_are_listed_as_they_were_made);
    tcase_add_test(c, links_change_as_they_are_told);
    tcase_add_test(c, entries_are_set_replaced_and_removed);
    tcase_add_test(c, a_route_of_someone_else_is_not_taken_over);
    tcase_add_test(c, a_list_that_is_cut_leaves_nothing_for_the_next);
    tcase_add_test(c, refusals_name_the_link);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    if (geteuid() != 0) {
        return test_main_skip("it takes root to make network namespaces");
    }
    return test_main_run(suite());
}
