/* Goal: what a guest must not say, or not to those, is heard by nobody. Method: real
 * networks of two hosts, every frame by hand (guest_fixture.h). */
#include "base/cleanup.h"
#include "guest_fixture.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- what must not pass ---- */

static struct frame spoof_source_mac(const struct vm *a, const struct vm *b)
{
    return frame_udp(b->mac, a->mac + 1, b->ipv4, a->ipv4, 1, 2, NULL, 0);
}
static struct frame spoof_source_ip(const struct vm *a, const struct vm *b)
{
    return frame_udp(b->mac, a->mac, b->ipv4, a->ipv4 + 5, 1, 2, NULL, 0);
}
static struct frame spoof_gateway_ip(const struct vm *a, const struct vm *b)
{
    return frame_udp(b->mac, a->mac, b->ipv4, IPV4(10, 7, 0, 1), 1, 2, NULL, 0);
}
static struct frame spoof_arp_sender_ip(const struct vm *a, const struct vm *b)
{
    return frame_arp(b->mac, a->mac, 2, a->mac, IPV4(10, 7, 0, 1), b->ipv4);
}
static struct frame spoof_arp_sender_mac(const struct vm *a, const struct vm *b)
{
    return frame_arp(b->mac, a->mac, 2, a->mac + 1, a->ipv4, b->ipv4);
}
static struct frame spoof_arp_gratuitous(const struct vm *a, const struct vm *b)
{
    return frame_arp(BROADCAST, a->mac, 1, a->mac, b->ipv4, b->ipv4);
}
static struct frame spoof_arp_probe(const struct vm *a, const struct vm *b)
{
    return frame_arp(BROADCAST, a->mac, 1, a->mac, 0, b->ipv4);
}
static struct frame spoof_arp_hardware(const struct vm *a, const struct vm *b)
{
    struct frame frame = frame_arp(b->mac, a->mac, 2, a->mac, a->ipv4, b->ipv4);

    put_u16(frame.bytes + 14, 6);
    return frame;
}
static struct frame spoof_rarp(const struct vm *a, const struct vm *b)
{
    struct frame frame = frame_arp(b->mac, a->mac, 3, a->mac, a->ipv4, b->ipv4);

    put_u16(frame.bytes + 12, 0x8035);
    return frame;
}
static struct frame spoof_dhcp_server(const struct vm *a, const struct vm *b)
{
    return frame_udp(b->mac, a->mac, b->ipv4, a->ipv4, 68, 67, NULL, 0);
}
static struct frame spoof_dhcp_server_odd_port(const struct vm *a, const struct vm *b)
{
    return frame_udp(b->mac, a->mac, b->ipv4, a->ipv4, 68, 1067, NULL, 0);
}
static struct frame spoof_dhcp_to_vm(const struct vm *a, const struct vm *b)
{
    return frame_udp(b->mac, a->mac, b->ipv4, a->ipv4, 67, 68, NULL, 0);
}
static struct frame spoof_dhcp_hardware(const struct vm *a, const struct vm *b)
{
    return frame_dhcp(a, 1, b->mac, 0, true);
}
/* Allowed, but for the host alone. */
static struct frame spoof_dhcp_own(const struct vm *a, const struct vm *b)
{
    (void)b;
    return frame_dhcp(a, 1, a->mac, 0, true);
}
static struct frame spoof_broadcast(const struct vm *a, const struct vm *b)
{
    (void)b;
    return frame_udp(BROADCAST, a->mac, UINT32_MAX, a->ipv4, 1, 2, NULL, 0);
}
static struct frame spoof_multicast(const struct vm *a, const struct vm *b)
{
    (void)b;
    return frame_udp(UINT64_C(0x01005e0000fb), a->mac, IPV4(224, 0, 0, 251), a->ipv4, 1,
                     2, NULL, 0);
}
static struct frame spoof_ipv6(const struct vm *a, const struct vm *b)
{
    struct frame frame = frame_new(b->mac, a->mac, 0x86dd);

    frame.bytes[14] = 0x60;
    return frame;
}
/* The tag comes between the addresses and an otherwise good frame. */
static struct frame
tagged(const struct vm *a, const struct vm *b, unsigned outer, unsigned inner)
{
    struct frame good = frame_token(a, b, 99);
    struct frame frame = frame_new(b->mac, a->mac, outer);
    size_t at = 14;

    put_u16(frame.bytes + at, 7);
    at += 2;
    if (inner != 0) {
        put_u16(frame.bytes + at, inner);
        put_u16(frame.bytes + at + 2, 8);
        at += 4;
    }
    memcpy(frame.bytes + at, good.bytes + 12, good.size - 12);
    frame.size = at + good.size - 12;
    return frame;
}
static struct frame spoof_vlan(const struct vm *a, const struct vm *b)
{
    return tagged(a, b, 0x8100, 0);
}
static struct frame spoof_priority_tag(const struct vm *a, const struct vm *b)
{
    struct frame frame = tagged(a, b, 0x8100, 0);

    put_u16(frame.bytes + 14, 0);
    return frame;
}
static struct frame spoof_qinq(const struct vm *a, const struct vm *b)
{
    return tagged(a, b, 0x88a8, 0x8100);
}
static struct frame spoof_service_tag(const struct vm *a, const struct vm *b)
{
    return tagged(a, b, 0x88a8, 0);
}
static struct frame spoof_lldp(const struct vm *a, const struct vm *b)
{
    (void)b;
    return frame_new(UINT64_C(0x0180c200000e), a->mac, 0x88cc);
}
static struct frame spoof_bpdu(const struct vm *a, const struct vm *b)
{
    (void)b;
    return frame_new(UINT64_C(0x0180c2000000), a->mac, 38);
}
static struct frame spoof_short_ip(const struct vm *a, const struct vm *b)
{
    struct frame frame = frame_new(b->mac, a->mac, TYPE_IPV4);

    frame.bytes[14] = 0x45;
    frame.size = 24;
    return frame;
}
static struct frame spoof_ip_length(const struct vm *a, const struct vm *b)
{
    struct frame frame = frame_udp(b->mac, a->mac, b->ipv4, a->ipv4, 68, 67, NULL, 0);

    put_u16(frame.bytes + 16,
            1400); /* says more than there is, so that ports are not read */
    return frame;
}
static struct frame spoof_ip_version(const struct vm *a, const struct vm *b)
{
    struct frame frame = frame_udp(b->mac, a->mac, b->ipv4, a->ipv4, 68, 67, NULL, 0);

    frame.bytes[14] = 0x65;
    return frame;
}
static struct frame spoof_unknown_type(const struct vm *a, const struct vm *b)
{
    return frame_new(b->mac, a->mac, 0x88b5);
}

static const struct {
    const char *name;
    struct frame (*make)(const struct vm *from, const struct vm *victim);
} spoofs[] = {
    {"foreign source MAC", spoof_source_mac},
    {"foreign source address", spoof_source_ip},
    {"the gateway's address", spoof_gateway_ip},
    {"ARP for the gateway", spoof_arp_sender_ip},
    {"ARP with a foreign sender MAC", spoof_arp_sender_mac},
    {"gratuitous ARP for another", spoof_arp_gratuitous},
    {"ARP probe for another", spoof_arp_probe},
    {"ARP of another hardware", spoof_arp_hardware},
    {"RARP", spoof_rarp},
    {"DHCP server's answer", spoof_dhcp_server},
    {"DHCP server's answer from an odd port", spoof_dhcp_server_odd_port},
    {"DHCP request to a VM", spoof_dhcp_to_vm},
    {"DHCP with another's hardware address", spoof_dhcp_hardware},
    {"DHCP of one's own", spoof_dhcp_own},
    {"broadcast", spoof_broadcast},
    {"multicast", spoof_multicast},
    {"IPv6", spoof_ipv6},
    {"VLAN tag", spoof_vlan},
    {"priority tag", spoof_priority_tag},
    {"QinQ", spoof_qinq},
    {"service tag", spoof_service_tag},
    {"LLDP", spoof_lldp},
    {"BPDU", spoof_bpdu},
    {"cut IPv4 header", spoof_short_ip},
    {"wrong IPv4 length", spoof_ip_length},
    {"wrong IP version", spoof_ip_version},
    {"unknown type", spoof_unknown_type},
};

START_TEST(what_a_vm_must_not_say_is_not_heard)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    struct vm remote = vm_open(&hosts[2], 7, VM_REMOTE);
    struct frame frame;
    uint32_t token = 100;

    for (size_t i = 0; i < ARRAY_COUNT(spoofs); i++) {
        const struct vm *victims[] = {&second, &remote};
        for (size_t v = 0; v < 2; v++) {
            frame = spoofs[i].make(&front, victims[v]);
            vm_send(&front, &frame);
            frame = frame_token(&front, victims[v], ++token);
            vm_send(&front, &frame);
            size_t others = vm_take_until(victims[v], token, NULL);
            ck_assert_msg(others == 0, "%s reached VM %u", spoofs[i].name,
                          (unsigned)victims[v]->uid);
        }
    }
    /* None of them taught a bridge anything: answers still find the true owner. */
    frame = frame_token(&second, &front, 1);
    vm_send(&second, &frame);
    (void)vm_take_until(&front, 1, NULL);
    frame = frame_token(&front, &second, 2);
    vm_send(&front, &frame);
    ck_assert_uint_eq(vm_take_until(&second, 2, NULL), 0);
}
END_TEST

/* Own probe and own broadcast ARP pass: the filter is not simply shut. */
START_TEST(what_a_vm_may_say_is_heard)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    const struct frame good[] = {
        frame_arp(BROADCAST, front.mac, 1, front.mac, front.ipv4, second.ipv4),
        frame_arp(BROADCAST, front.mac, 1, front.mac, front.ipv4, front.ipv4),
        frame_arp(second.mac, front.mac, 2, front.mac, front.ipv4, second.ipv4),
        frame_udp(second.mac, front.mac, second.ipv4, front.ipv4, 1, 2, NULL, 0),
        frame_udp(second.mac, front.mac, second.ipv4, front.ipv4, 69, 66, NULL, 0),
    };

    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        struct frame frame;
        vm_send(&front, &good[i]);
        ck_assert_msg(vm_take(&second, &frame, REPLY_MS), "frame %zu did not come", i);
        ck_assert_mem_eq(frame.bytes, good[i].bytes, 42);
    }
}
END_TEST

#define MUTATIONS 20000

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* Whatever arrives must carry the sender's own addresses. */
static void
check_leak(const struct frame *frame, const struct vm *from, unsigned long number)
{
    ck_assert_msg(get_mac(frame->bytes + 6) == from->mac, "frame %lu: foreign MAC leaked",
                  number);
    if (frame_type(frame) == TYPE_ARP) {
        uint32_t sender = get_u32(frame->bytes + 28);
        ck_assert_msg(get_mac(frame->bytes + 22) == from->mac &&
                          (sender == from->ipv4 ||
                           (sender == 0 && get_u32(frame->bytes + 38) == from->ipv4)),
                      "frame %lu: foreign ARP sender leaked", number);
        return;
    }
    ck_assert_msg(frame_type(frame) == TYPE_IPV4, "frame %lu: type %04x leaked", number,
                  frame_type(frame));
    ck_assert_msg(get_u32(frame->bytes + 26) == from->ipv4,
                  "frame %lu: foreign address leaked", number);
    ck_assert_msg((frame->bytes[0] & 1) == 0, "frame %lu: a broadcast leaked", number);
}

START_TEST(twenty_thousand_mutated_frames_leak_nothing)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    uint64_t state = 7;
    unsigned long arrived = 0;
    struct frame frame;

    for (unsigned long i = 0; i < MUTATIONS; i++) {
        if (i % 3 == 2) {
            frame = frame_arp(i % 2 ? BROADCAST : second.mac, front.mac, 1 + i % 2,
                              front.mac, front.ipv4, second.ipv4);
        } else if (i % 31 == 0) {
            frame = frame_dhcp(&front, 1, front.mac, 0, true);
        } else {
            frame =
                frame_udp(second.mac, front.mac, second.ipv4, front.ipv4, 9, 9, NULL, 0);
        }
        for (uint64_t n = next_random(&state) % 4; n > 0; n--) {
            frame.bytes[next_random(&state) % 46] = (uint8_t)next_random(&state);
        }
        uint8_t bytes[VNET_HEADER + FRAME_MAX] = {0};
        memcpy(bytes + VNET_HEADER, frame.bytes, frame.size);
        /* The kernel may refuse a frame by itself; that is as good as dropped. */
        ssize_t n = write(front.fd, bytes, VNET_HEADER + frame.size);
        ck_assert(n > 0 || errno == EINVAL);
        while (vm_take(&second, &frame, 0)) {
            check_leak(&frame, &front, i);
            arrived++;
        }
        while (vm_take(&front, &frame, 0)) {
            /* Answers of the host's; keep the queue short. */
        }
    }
    ck_assert_uint_gt(arrived, MUTATIONS / 10);
}
END_TEST

START_TEST(another_tenant_cannot_be_reached)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm other = vm_open(&hosts[1], 8, VM_ELSE);
    struct vm neighbour = vm_open(&hosts[1], 7, VM_SECOND);
    struct frame frame;

    /* Routed through the gateway, and straight at the other's MAC. */
    frame = frame_udp(network_bridge_mac(1, 7), front.mac, other.ipv4, front.ipv4, 1, 2,
                      NULL, 0);
    vm_send(&front, &frame);
    frame = frame_udp(other.mac, front.mac, other.ipv4, front.ipv4, 1, 2, NULL, 0);
    vm_send(&front, &frame);
    frame = frame_arp(BROADCAST, front.mac, 1, front.mac, front.ipv4, other.ipv4);
    vm_send(&front, &frame);
    /* The same road through the gateway to a neighbour of its own network is open: the
     * frames above were dropped, not late. */
    frame = frame_token(&front, &neighbour, 1);
    put_mac(frame.bytes, network_bridge_mac(1, 7));
    vm_send(&front, &frame);
    for (;;) {
        ck_assert(vm_take(&neighbour, &frame, REPLY_MS));
        if (frame_is_token(&frame, 1)) {
            break;
        }
        if (frame_type(&frame) == TYPE_ARP &&
            get_u32(frame.bytes + 38) == neighbour.ipv4) {
            struct frame reply =
                frame_arp(get_mac(frame.bytes + 6), neighbour.mac, 2, neighbour.mac,
                          neighbour.ipv4, get_u32(frame.bytes + 28));
            put_mac(reply.bytes + 32, get_mac(frame.bytes + 6));
            vm_send(&neighbour, &reply);
        }
    }
    ck_assert_msg(!vm_take(&other, &frame, 0), "the other tenant's VM heard something");
}
END_TEST

START_TEST(a_guest_reaches_only_what_the_gateway_offers)
{
    struct stack_vm vm = stack_vm_start(&hosts[1], 7, VM_FRONT);
    int api = socket_in(hosts[1].ns, SOCK_DGRAM, INADDR_ANY, 8006);
    int far_api = socket_in(hosts[2].ns, SOCK_DGRAM, INADDR_ANY, 8006);
    const uint32_t doors[] = {IPV4(10, 7, 0, 1),  IPV4(10, 7, 0, 2),
                              IPV4(192, 0, 2, 1), IPV4(198, 51, 100, 1),
                              IPV4(192, 0, 2, 2), IPV4(10, 7, 0, 3)};
    uint32_t ipv4 = 0;
    uint8_t byte = 0;

    ns_enter(vm.ns);
    CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (size_t i = 0; i < ARRAY_COUNT(doors); i++) {
        struct sockaddr_in door = address_of(doors[i], 8006);
        ck_assert_int_eq(sendto(fd, "x", 1, 0, (struct sockaddr *)&door, sizeof(door)),
                         1);
    }
    ck_assert_uint_eq(dns_ask(vm.ns, "db.tenant7.berth", &ipv4),
                      0); /* went the same way, later */
    ck_assert_int_eq(recv(api, &byte, 1, MSG_DONTWAIT), -1);
    ck_assert_int_eq(recv(far_api, &byte, 1, MSG_DONTWAIT), -1);

    /* The host itself may talk to the guest, and hears the answers. */
    struct sockaddr_in guest = address_of(IPV4(10, 7, 0, VM_FRONT), 9000);
    int inside = socket_in(vm.ns, SOCK_DGRAM, INADDR_ANY, 9000);
    ck_assert_int_eq(sendto(api, "q", 1, 0, (struct sockaddr *)&guest, sizeof(guest)), 1);
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    wait_readable(inside);
    ck_assert_int_eq(recvfrom(inside, &byte, 1, 0, (struct sockaddr *)&peer, &size), 1);
    ck_assert_int_eq(sendto(inside, "a", 1, 0, (struct sockaddr *)&peer, size), 1);
    wait_readable(api);
    ck_assert_int_eq(recv(api, &byte, 1, 0), 1);
    ck_assert_int_eq(byte, 'a');
    ns_enter(vm.ns);
    run("! command -v busybox > /dev/null || busybox ping -c 1 -w 10 10.7.0.1 > "
        "/dev/null");
    stack_vm_stop(&vm);
}
END_TEST

/* LLDP, LACP, BPDUs and the like take other ways through a bridge than ordinary frames.
 */
START_TEST(link_local_frames_of_a_guest_reach_nobody)
{
    static const uint8_t groups[] = {0x00, 0x01, 0x02, 0x03, 0x0e, 0x0f};
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    struct sockaddr_ll link = {.sll_family = AF_PACKET};
    struct frame frame;

    ns_enter(hosts[1].ns);
    CLEANUP_FD int ear = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88cc));
    ck_assert_int_ge(ear, 0);
    for (size_t i = 0; i < ARRAY_COUNT(groups); i++) {
        frame = frame_new(UINT64_C(0x0180c2000000) | groups[i], front.mac, 0x88cc);
        vm_send(&front, &frame);
    }
    frame = frame_token(&front, &second, 1);
    vm_send(&front, &frame);
    ck_assert_uint_eq(vm_take_until(&second, 1, NULL), 0);

    /* The first that is heard comes from the wire, where it is in place. */
    ns_enter(hosts[2].ns);
    CLEANUP_FD int mouth = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    link.sll_ifindex = (int)if_nametoindex("under");
    frame = frame_new(UINT64_C(0x0180c200000e), UINT64_C(0x020000000002), 0x88cc);
    ck_assert_int_gt(
        sendto(mouth, frame.bytes, frame.size, 0, (struct sockaddr *)&link, sizeof(link)),
        0);
    wait_readable(ear);
    ck_assert_int_gt(recv(ear, frame.bytes, sizeof(frame.bytes), 0), 0);
    ck_assert_msg(get_mac(frame.bytes + 6) == UINT64_C(0x020000000002),
                  "group %02x was heard", frame.bytes[5]);
}
END_TEST

/* VXLAN has no keys: who can send to the port can send any frame. */
START_TEST(a_frame_from_another_host_passes_only_with_addresses_of_that_network)
{
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm remote = {.mac = fixture_mac(VM_REMOTE), .ipv4 = IPV4(10, 7, 0, VM_REMOTE)};
    struct sockaddr_in target = address_of(IPV4(192, 0, 2, 1), NETWORK_VXLAN_PORT);
    struct frame frames[4];
    uint8_t packet[8 + FRAME_MAX] = {8, 0, 0, 0, 0, 0, 7, 0};

    frames[0] =
        frame_udp(front.mac, remote.mac + 1, front.ipv4, remote.ipv4, 1, 2, NULL, 0);
    frames[1] =
        frame_udp(front.mac, remote.mac, front.ipv4, remote.ipv4 + 1, 1, 2, NULL, 0);
    frames[2] =
        frame_arp(front.mac, remote.mac, 2, remote.mac, IPV4(10, 7, 0, 1), front.ipv4);
    frames[3] = frame_token(&remote, &front, 1);
    ns_enter(hosts[2].ns);
    CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (size_t i = 0; i < ARRAY_COUNT(frames); i++) {
        memcpy(packet + 8, frames[i].bytes, frames[i].size);
        ck_assert_int_gt(sendto(fd, packet, 8 + frames[i].size, 0,
                                (struct sockaddr *)&target, sizeof(target)),
                         0);
    }
    ck_assert_uint_eq(vm_take_until(&front, 1, NULL), 0);

    /* From an address that is no host of the cell, even a good frame is refused. */
    run("ip addr add 192.0.2.66/24 dev under");
    CLEANUP_FD int stranger = socket_in(hosts[2].ns, SOCK_DGRAM, IPV4(192, 0, 2, 66), 0);
    frames[0] = frame_token(&remote, &front, 2);
    memcpy(packet + 8, frames[0].bytes, frames[0].size);
    ck_assert_int_gt(sendto(stranger, packet, 8 + frames[0].size, 0,
                            (struct sockaddr *)&target, sizeof(target)),
                     0);
    put_u32(packet + 8 + 58, 3);
    ck_assert_int_gt(sendto(fd, packet, 8 + frames[0].size, 0, (struct sockaddr *)&target,
                            sizeof(target)),
                     0);
    ck_assert_uint_eq(vm_take_until(&front, 3, NULL), 0);
}
END_TEST

/* ---- the suite ---- */

/* What packets do, on both kinds of machines. */
static TCase *traffic_case(const char *name, void (*set_up)(void))
{
    TCase *c = tcase_create(name);

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, set_up, teardown);
    tcase_add_test(c, what_a_vm_must_not_say_is_not_heard);
    tcase_add_test(c, what_a_vm_may_say_is_heard);
    tcase_add_test(c, twenty_thousand_mutated_frames_leak_nothing);
    tcase_add_test(c, another_tenant_cannot_be_reached);
    tcase_add_test(c, a_guest_reaches_only_what_the_gateway_offers);
    tcase_add_test(c, link_local_frames_of_a_guest_reach_nobody);
    tcase_add_test(c,
                   a_frame_from_another_host_passes_only_with_addresses_of_that_network);
    return c;
}

static Suite *suite(void)
{
    Suite *s = suite_create("network_isolation");

    suite_add_tcase(s, traffic_case("traffic", setup));
    suite_add_tcase(
        s, traffic_case("traffic with bridge netfilter", setup_bridge_netfilter));
    return s;
}

int main(void)
{
    return run_in_namespaces(suite);
}
