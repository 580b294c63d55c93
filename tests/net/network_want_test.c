/* Goal: a value that must not reach the kernel is refused, by name; names and copies
 * hold. */
#include "base/cleanup.h"
#include "net/network_want.h"
#include "network_fixture.h"
#include "support/test_main.h"

#include <check.h>

#include <stdlib.h>

static void break_vni(struct scene *s)
{
    s->wants[0].vni = NETWORK_VNI_MAX + 1;
}
static void break_prefix(struct scene *s)
{
    s->wants[0].cidr.prefix_bits = 31;
}
static void break_gateway(struct scene *s)
{
    s->wants[0].gateway = IPV4(10, 8, 0, 1);
}
static void break_broadcast(struct scene *s)
{
    s->wants[0].gateway = IPV4(10, 7, 0, 255);
}
static void break_host_address(struct scene *s)
{
    s->wants[0].host_address = s->wants[0].gateway;
}
static void break_mtu(struct scene *s)
{
    s->wants[0].mtu = 100;
}
static void break_name(struct scene *s)
{
    strcpy(s->ports[0][0].vm_name, "a\nserver=1");
}
static void break_zone(struct scene *s)
{
    strcpy(s->wants[0].zone, "acme..berth");
}
static void break_zone_newline(struct scene *s)
{
    strcpy(s->wants[0].zone, "acme.berth\nuser=root");
}
static void break_tap(struct scene *s)
{
    strcpy(s->ports[0][0].tap, "eth0");
}
static void break_tap_quote(struct scene *s)
{
    strcpy(s->ports[0][0].tap, "bt\"");
}
static void break_multicast(struct scene *s)
{
    s->ports[0][0].mac |= UINT64_C(1) << 40;
}
static void break_port_is_gateway(struct scene *s)
{
    s->ports[0][0].ipv4 = s->wants[0].gateway;
}
static void break_overlap(struct scene *s)
{
    scene_add(s, 8);
    s->wants[1].cidr.address = s->wants[0].cidr.address;
    s->wants[1].gateway = s->wants[0].gateway;
    s->wants[1].host_address = s->wants[0].host_address;
}
static void break_twice(struct scene *s)
{
    scene_add_port(s, 0, 11);
    s->ports[0][1].mac = s->ports[0][0].mac;
}
static void break_tap_twice(struct scene *s)
{
    scene_add(s, 8);
    scene_add_port(s, 1, 10);
}
static void break_remote_here(struct scene *s)
{
    scene_add_remote(s, 0, fixture_remote(7, 20, 1));
}
static void break_remote_takes_address(struct scene *s)
{
    scene_add_remote(s, 0, fixture_remote(7, 20, 2));
    s->remotes[0][0].ipv4 = s->ports[0][0].ipv4;
}
static void break_folder(struct scene *s)
{
    s->host.state_folder = "/var/lib/be\nrth";
}

static const struct {
    void (*break_it)(struct scene *scene);
    const char *text; /* part of the error */
} refusals[] = {
    {break_vni, "VNI 16777216"},
    {break_prefix, "prefix"},
    {break_gateway, "the gateway 10.8.0.1 is not a host address of 10.7.0.0/24"},
    {break_broadcast, "the gateway 10.7.0.255"},
    {break_host_address, "own address"},
    {break_mtu, "MTU 100"},
    {break_name, "no valid name"},
    {break_zone, "zone"},
    {break_zone_newline, "zone"},
    {break_tap, "tap"},
    {break_tap_quote, "tap"},
    {break_multicast, "unicast MAC"},
    {break_port_is_gateway, "a port's address 10.7.0.1"},
    {break_overlap, "overlap"},
    {break_twice, "two ports have the MAC"},
    {break_tap_twice, "two ports have the tap bt2i"},
    {break_remote_here, "not on another host"},
    {break_remote_takes_address, "shares its MAC or address"},
    {break_folder, "state folder"},
};

START_TEST(a_bad_value_is_refused_by_name)
{
    struct scene scene;
    struct err err = {0};

    scene_init(&scene);
    scene_add(&scene, 7);
    scene_add_port(&scene, 0, 10);
    ck_assert_int_eq(network_wants_check(&scene.host, scene.wants, scene.count, &err), 0);
    refusals[_i].break_it(&scene);
    ck_assert_int_eq(network_wants_check(&scene.host, scene.wants, scene.count, &err),
                     BERTH_EINVALID);
    ck_assert_msg(strstr(err.text, refusals[_i].text) != NULL, "%s", err.text);
}
END_TEST

START_TEST(every_nic_has_a_tap_name_of_its_own_that_fits)
{
    static const struct {
        uint64_t uid;
        unsigned nic;
        const char *name;
    } rows[] = {{0, 0, "bt0"},
                {1, 0, "bt9"},
                {10, 0, "bt2i"},
                {10, 8, "bt2q"},
                {11, 0, "bt2r"},
                {UINT64_MAX, 8, "btz1ci99jj7473z"},
                {UINT64_MAX, 7, "btz1ci99jj7473y"}};
    char previous[NETWORK_IFNAME_SIZE] = "";

    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char name[NETWORK_IFNAME_SIZE];
        enum network_link_kind kind = NETWORK_LINK_BRIDGE;
        uint32_t vni = 1;
        network_tap_name(rows[i].uid, rows[i].nic, name);
        ck_assert_str_eq(name, rows[i].name);
        ck_assert_uint_lt(strlen(name), NETWORK_IFNAME_SIZE);
        ck_assert_str_ne(name, previous);
        memcpy(previous, name, sizeof(previous));
        ck_assert(network_name_parse(name, &kind, &vni));
        ck_assert_int_eq(kind, NETWORK_LINK_TAP);
        ck_assert_uint_eq(vni, 0);
    }
}
END_TEST

START_TEST(names_of_others_are_not_taken_for_ours)
{
    static const char *const others[] = {"bb0",  "bb01", "bb16777216", "bbx", "bx",   "b",
                                         "eth0", "bt",   "bt-1",       "lo",  "bbr0", ""};
    enum network_link_kind kind = NETWORK_LINK_TAP;
    uint32_t vni = 0;

    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        ck_assert_msg(!network_name_parse(others[i], &kind, &vni), "%s", others[i]);
    }
    ck_assert(network_name_parse("bb16777215", &kind, &vni));
    ck_assert_int_eq(kind, NETWORK_LINK_BRIDGE);
    ck_assert_uint_eq(vni, 16777215);
}
END_TEST

START_TEST(bridges_differ_by_host_and_network_and_stay_the_same)
{
    uint64_t mac = network_bridge_mac(1, 7);

    ck_assert_uint_eq(mac, network_bridge_mac(1, 7));
    ck_assert_uint_ne(mac, network_bridge_mac(2, 7));
    ck_assert_uint_ne(mac, network_bridge_mac(1, 8));
    ck_assert_uint_eq(mac >> 40, 6); /* unicast, locally administered */
}
END_TEST

START_TEST(a_copy_lives_on_without_the_original)
{
    struct scene scene;
    struct network_want *copy = NULL;

    scene_init(&scene);
    scene_add(&scene, 7);
    scene_add_port(&scene, 0, 10);
    ck_assert_int_eq(network_wants_copy(scene.wants, 1, &copy, NULL), 0);
    memset(scene.ports, 0, sizeof(scene.ports));
    ck_assert_str_eq(copy[0].ports[0].vm_name, "web-10");
    ck_assert_ptr_null(network_wants_free(copy, 1));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("network_want");
    TCase *c = tcase_create("network_want");
    tcase_add_loop_test(c, a_bad_value_is_refused_by_name, 0, (int)ARRAY_COUNT(refusals));
    tcase_add_test(c, every_nic_has_a_tap_name_of_its_own_that_fits);
    tcase_add_test(c, names_of_others_are_not_taken_for_ours);
    tcase_add_test(c, bridges_differ_by_host_and_network_and_stay_the_same);
    tcase_add_test(c, a_copy_lives_on_without_the_original);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main_run(suite());
}
