/* Goal: VMs of a network reach each other, their gateway and the world, over hosts, too.
 * Method: real networks of two hosts (guest_fixture.h). */
#include "guest_fixture.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- reaching each other ---- */

START_TEST(vms_of_one_host_reach_each_other)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    struct frame frame;

    frame = frame_arp(BROADCAST, front.mac, 1, front.mac, front.ipv4, second.ipv4);
    vm_send(&front, &frame);
    ck_assert(vm_take(&second, &frame, REPLY_MS));
    ck_assert_uint_eq(frame_type(&frame), TYPE_ARP);
    frame = frame_token(&front, &second, 1);
    vm_send(&front, &frame);
    ck_assert_uint_eq(vm_take_until(&second, 1, NULL), 0);
}
END_TEST

START_TEST(vms_of_two_hosts_reach_each_other_and_arp_stays_at_home)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm remote = vm_open(&hosts[2], 7, VM_REMOTE);
    struct frame frame;

    frame = frame_arp(BROADCAST, front.mac, 1, front.mac, front.ipv4, remote.ipv4);
    vm_send(&front, &frame);
    ck_assert(vm_take(&front, &frame, REPLY_MS)); /* the bridge answers */
    ck_assert_uint_eq(frame_type(&frame), TYPE_ARP);
    ck_assert_uint_eq(get_mac(frame.bytes + 22), remote.mac);
    ck_assert_uint_eq(get_u32(frame.bytes + 28), remote.ipv4);

    frame = frame_token(&front, &remote, 1);
    vm_send(&front, &frame);
    ck_assert_uint_eq(vm_take_until(&remote, 1, NULL),
                      0); /* nothing else came, no broadcast */
    frame = frame_token(&remote, &front, 2);
    vm_send(&remote, &frame);
    ck_assert_uint_eq(vm_take_until(&front, 2, NULL), 0);
}
END_TEST

START_TEST(each_host_answers_for_the_gateway_itself)
{
    for (unsigned number = 1; number <= 2; number++) {
        struct vm vm = vm_open(&hosts[number], 7, number == 1 ? VM_FRONT : VM_REMOTE);
        struct frame frame =
            frame_arp(BROADCAST, vm.mac, 1, vm.mac, vm.ipv4, IPV4(10, 7, 0, 1));
        vm.gateway = 0; /* what it says is wanted here */
        vm_send(&vm, &frame);
        ck_assert(vm_take(&vm, &frame, REPLY_MS));
        ck_assert_uint_eq(get_mac(frame.bytes + 22), network_bridge_mac(number, 7));
    }
}
END_TEST

START_TEST(a_host_reaches_a_vm_on_another_host_over_tcp)
{
    struct stack_vm vm = stack_vm_start(&hosts[2], 7, VM_REMOTE);
    int server = socket_in(vm.ns, SOCK_STREAM, INADDR_ANY, 80);
    struct sockaddr_in target = address_of(IPV4(10, 7, 0, VM_REMOTE), 80);
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);

    ns_enter(hosts[1].ns);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&target, sizeof(target)), 0);
    int accepted = accept4(server, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
    ck_assert_int_ge(accepted, 0);
    /* From this host's own address, not from the gateway's, which host 2 would take for
     * itself. */
    ck_assert_uint_eq(ntohl(peer.sin_addr.s_addr), IPV4(10, 7, 0, 2));
    char text[5] = "";
    ck_assert_int_eq(write(accepted, "ready", 5), 5);
    wait_readable(client);
    ck_assert_int_eq(read(client, text, 5), 5);
    ck_assert_mem_eq(text, "ready", 5);
    stack_vm_stop(&vm);
}
END_TEST

START_TEST(egress_is_masqueraded_and_only_where_it_is_wanted)
{
    int server = socket_in(internet, SOCK_DGRAM, INADDR_ANY, 5000);
    uint8_t byte = 0;
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    struct vm shut = vm_open(&hosts[1], 8, VM_ELSE);
    struct vm open = vm_open(&hosts[1], 7, VM_FRONT);

    struct frame frame = frame_udp(network_bridge_mac(1, 8), shut.mac,
                                   IPV4(198, 51, 100, 2), shut.ipv4, 5000, 4000, "8", 1);
    vm_send(&shut, &frame);
    frame = frame_udp(network_bridge_mac(1, 7), open.mac, IPV4(198, 51, 100, 2),
                      open.ipv4, 5000, 4000, "7", 1);
    vm_send(&open, &frame);
    wait_readable(server);
    ck_assert_int_eq(recvfrom(server, &byte, 1, 0, (struct sockaddr *)&peer, &size), 1);
    ck_assert_int_eq(byte, '7'); /* the other tenant's came first, if it came */
    ck_assert_uint_eq(ntohl(peer.sin_addr.s_addr), IPV4(198, 51, 100, 1));

    ck_assert_int_eq(sendto(server, "a", 1, 0, (struct sockaddr *)&peer, size), 1);
    for (;;) {
        ck_assert(vm_take(&open, &frame, REPLY_MS));
        if (frame_type(&frame) == TYPE_IPV4) {
            break;
        }
        /* The host asks for the VM's MAC before it hands the answer over. */
        frame = frame_arp(network_bridge_mac(1, 7), open.mac, 2, open.mac, open.ipv4,
                          get_u32(frame.bytes + 28));
        put_mac(frame.bytes + 32, network_bridge_mac(1, 7));
        vm_send(&open, &frame);
    }
    ck_assert_int_eq(frame.bytes[42], 'a');
    ck_assert_uint_eq(get_u32(frame.bytes + 26), IPV4(198, 51, 100, 2));
}
END_TEST

/* ---- the suite ---- */

/* What packets do, on both kinds of machines. */
static TCase *traffic_case(const char *name, void (*set_up)(void))
{
    TCase *c = tcase_create(name);

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, set_up, teardown);
    tcase_add_test(c, vms_of_one_host_reach_each_other);
    tcase_add_test(c, vms_of_two_hosts_reach_each_other_and_arp_stays_at_home);
    tcase_add_test(c, each_host_answers_for_the_gateway_itself);
    tcase_add_test(c, a_host_reaches_a_vm_on_another_host_over_tcp);
    tcase_add_test(c, egress_is_masqueraded_and_only_where_it_is_wanted);
    return c;
}

static Suite *suite(void)
{
    Suite *s = suite_create("network_reach");

    suite_add_tcase(s, traffic_case("traffic", setup));
    suite_add_tcase(
        s, traffic_case("traffic with bridge netfilter", setup_bridge_netfilter));
    return s;
}

int main(void)
{
    return run_in_namespaces(suite);
}
