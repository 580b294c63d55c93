/* Goal: a VM learns its address, and the names of the others, from its gateway. Method:
 * real networks of two hosts and their dnsmasq (guest_fixture.h). */
#include "guest_fixture.h"

#include <unistd.h>

/* ---- DHCP and DNS ---- */

/* The option's bytes in a DHCP frame, or NULL. */
static const uint8_t *dhcp_option(const struct frame *frame, uint8_t code)
{
    for (size_t at = 42 + 240; at + 2 < frame->size && frame->bytes[at] != 255;
         at += 2U + frame->bytes[at + 1]) {
        if (frame->bytes[at] == code) {
            return frame->bytes + at + 2;
        }
    }
    return NULL;
}

static bool frame_is_dhcp_reply(const struct frame *frame)
{
    return frame_type(frame) == TYPE_IPV4 && frame->bytes[23] == IPPROTO_UDP &&
           frame->bytes[34] == 0 && frame->bytes[35] == 67;
}

static void vm_take_dhcp(const struct vm *vm, uint8_t type, struct frame *ret_frame)
{
    do {
        ck_assert_msg(vm_take(vm, ret_frame, REPLY_MS), "no DHCP answer");
    } while (!frame_is_dhcp_reply(ret_frame));
    const uint8_t *said = dhcp_option(ret_frame, 53);
    ck_assert_ptr_nonnull(said);
    ck_assert_uint_eq(said[0], type);
}

START_TEST(a_vm_gets_its_own_address_and_everything_it_needs_by_dhcp)
{
    bool broadcast = _i == 1;
    struct vm neighbour = vm_open(&hosts[1], 7, VM_SECOND);
    struct vm vm = vm_open(&hosts[1], 7, VM_FRONT);
    struct frame frame = frame_dhcp(&vm, 1, vm.mac, 0, broadcast);

    vm_send(&vm, &frame);
    vm_take_dhcp(&vm, 2, &frame);
    ck_assert_uint_eq(get_u32(frame.bytes + 42 + 16), vm.ipv4);
    frame = frame_dhcp(&vm, 3, vm.mac, vm.ipv4, broadcast);
    vm_send(&vm, &frame);
    vm_take_dhcp(&vm, 5, &frame);
    ck_assert_uint_eq(get_u32(frame.bytes + 42 + 16), vm.ipv4);
    ck_assert_uint_eq(get_u32(dhcp_option(&frame, 1)), IPV4(255, 255, 255, 0));
    ck_assert_uint_eq(get_u32(dhcp_option(&frame, 3)), IPV4(10, 7, 0, 1));
    ck_assert_uint_eq(get_u32(dhcp_option(&frame, 6)), IPV4(10, 7, 0, 1));
    ck_assert_mem_eq(dhcp_option(&frame, 12), "web-10", 6);
    ck_assert_mem_eq(dhcp_option(&frame, 15), "tenant7.berth", 13);
    ck_assert_uint_eq(get_u16(dhcp_option(&frame, 26)), 1450);

    /* Neither the call nor the answer, broadcast as it is, was for the neighbour. */
    frame = frame_token(&vm, &neighbour, 1);
    vm_send(&vm, &frame);
    struct frame first = {.size = 0};
    (void)vm_take_until(&neighbour, 1, &first);
    ck_assert_msg(first.size == 0 || !frame_is_dhcp_reply(&first),
                  "the neighbour heard it");
}
END_TEST

START_TEST(a_new_owner_of_an_address_gets_it_at_once)
{
    struct vm old = vm_open(&hosts[1], 7, VM_FRONT);
    struct frame frame = frame_dhcp(&old, 3, old.mac, old.ipv4, false);

    vm_send(&old, &frame);
    vm_take_dhcp(&old, 5, &frame);
    (void)close(old.fd);

    struct network_port heir_port = fixture_port(7, 12);
    heir_port.ipv4 = old.ipv4;
    hosts[1].ports[0][0] = heir_port;
    host_set(&hosts[1]);
    struct vm heir = vm_open_port(&hosts[1], 7, &heir_port);
    frame = frame_dhcp(&heir, 1, heir.mac, 0, false);
    vm_send(&heir, &frame);
    vm_take_dhcp(&heir, 2, &frame);
    ck_assert_uint_eq(get_u32(frame.bytes + 42 + 16), old.ipv4);
}
END_TEST

START_TEST(names_of_the_whole_network_resolve_at_the_gateway)
{
    struct stack_vm vm = stack_vm_start(&hosts[1], 7, VM_FRONT);
    uint32_t ipv4 = 0;

    ck_assert_uint_eq(dns_ask(vm.ns, "db.tenant7.berth", &ipv4), 0);
    ck_assert_uint_eq(ipv4, IPV4(10, 7, 0, VM_REMOTE));
    ck_assert_uint_eq(dns_ask(vm.ns, "nobody.tenant7.berth", &ipv4), 3);
    ck_assert_uint_eq(dns_ask(vm.ns, "www.example.com", &ipv4),
                      5); /* no forwarder: refused */

    hosts[1].names[1].ipv4 = IPV4(10, 7, 0, 21);
    host_set(&hosts[1]);
    struct network_apply_stats stats;
    network_apply_stats(hosts[1].apply, &stats);
    ck_assert_uint_eq(stats.service_reloads, 1);
    ck_assert_uint_eq(stats.service_starts, 2);
    /* A reload is a signal: the answer changes soon, and each question is a bounded wait.
     */
    for (int i = 0; i < 1000 && ipv4 != IPV4(10, 7, 0, 21); i++) {
        ck_assert_uint_eq(dns_ask(vm.ns, "db.tenant7.berth", &ipv4), 0);
    }
    ck_assert_uint_eq(ipv4, IPV4(10, 7, 0, 21));
    stack_vm_stop(&vm);
}
END_TEST

START_TEST(an_ordinary_dhcp_client_gets_a_lease)
{
    struct stack_vm vm = stack_vm_start(&hosts[1], 7, VM_FRONT);

    ns_enter(vm.ns);
    run("ip addr flush dev eth0; "
        "! command -v busybox > /dev/null || "
        "busybox udhcpc -i eth0 -n -q -f -t 5 -s /bin/true > /dev/null 2>&1");
    stack_vm_stop(&vm);
}
END_TEST

/* ---- the suite ---- */

/* What packets do, on both kinds of machines. */
static TCase *traffic_case(const char *name, void (*set_up)(void))
{
    TCase *c = tcase_create(name);

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, set_up, teardown);
    tcase_add_loop_test(c, a_vm_gets_its_own_address_and_everything_it_needs_by_dhcp, 0,
                        2);
    tcase_add_test(c, names_of_the_whole_network_resolve_at_the_gateway);
    return c;
}

static Suite *suite(void)
{
    Suite *s = suite_create("network_names");
    TCase *c = tcase_create("life");

    suite_add_tcase(s, traffic_case("traffic", setup));
    suite_add_tcase(
        s, traffic_case("traffic with bridge netfilter", setup_bridge_netfilter));
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_new_owner_of_an_address_gets_it_at_once);
    tcase_add_test(c, an_ordinary_dhcp_client_gets_a_lease);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return run_in_namespaces(suite);
}
