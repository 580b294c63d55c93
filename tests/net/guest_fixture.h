/* VMs on the hosts of namespace_fixture.h, without a VM.
 *
 * A VM is either a tap that the test drives frame by frame (struct vm), or a namespace
 * with a stack of its own whose frames a child process carries to the tap (struct
 * stack_vm). "Does not pass" is never a wait: a frame that may pass is sent after those
 * that may not, and nothing may have arrived before it.
 */
#pragma once

#include "base/cleanup.h"
#include "frame_fixture.h"
#include "namespace_fixture.h"
#include "net/tap.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define VNET_HEADER 10
#define REPLY_MS    100000 /* bound of a wait for what must come */
#define GREETINGS   10
#define GREETING_MS 1000

/* ---- VMs that the test plays ---- */

struct vm {
    uint32_t vni;
    uint64_t uid;
    uint64_t mac;
    uint32_t ipv4;
    uint64_t gateway; /* its MAC, once it has answered; 0: not yet */
    int fd;
};

/* A port forwards a moment after its tap has been opened: the kernel tells the bridge in
 * the background. */
static inline struct vm
vm_open_port(struct host *host, uint32_t vni, const struct network_port *port)
{
    struct err err = {0};

    ns_enter(host->ns);
    ck_assert(network_apply_port_ready(host->apply, vni, port));
    struct vm vm = {
        .vni = vni, .uid = port->vm_uid, .mac = port->mac, .ipv4 = port->ipv4};
    vm.fd = -1;
    (void)tap_open_fds(port->tap, &vm.fd, 1, &err);
    ck_assert_msg(vm.fd >= 0, "%s", err.text);
    run("for i in $(seq 1000); do "
        "bridge link show dev %s | grep -q 'state forwarding' && exit 0; done; exit 1",
        port->tap);
    return vm;
}

static inline void vm_send(const struct vm *vm, const struct frame *frame)
{
    uint8_t bytes[VNET_HEADER + FRAME_MAX] = {0};

    memcpy(bytes + VNET_HEADER, frame->bytes, frame->size);
    ssize_t n = write(vm->fd, bytes, VNET_HEADER + frame->size);
    ck_assert_int_eq(n, (ssize_t)(VNET_HEADER + frame->size));
}

/* On a busy machine the gateway may have been asked twice: its second answer comes when
 * it likes, and says nothing. */
static inline bool vm_knows_that(const struct vm *vm, const struct frame *frame)
{
    return vm->gateway != 0 && frame_type(frame) == TYPE_ARP && frame->size >= 42 &&
           get_mac(frame->bytes + 6) == vm->gateway && get_mac(frame->bytes) == vm->mac &&
           frame->bytes[21] == 2 && get_mac(frame->bytes + 22) == vm->gateway;
}

/* The next frame; false when none comes in the time. */
static inline bool vm_take(const struct vm *vm, struct frame *ret_frame, int wait_ms)
{
    uint8_t bytes[VNET_HEADER + FRAME_MAX];
    struct pollfd wait = {.fd = vm->fd, .events = POLLIN};

    do {
        if (poll(&wait, 1, wait_ms) != 1) {
            return false;
        }
        ssize_t n = read(vm->fd, bytes, sizeof(bytes));
        ck_assert_int_gt(n, VNET_HEADER);
        ret_frame->size = (size_t)n - VNET_HEADER;
        memcpy(ret_frame->bytes, bytes + VNET_HEADER, ret_frame->size);
    } while (vm_knows_that(vm, ret_frame));
    return true;
}

/* Opens the port as a guest's stack does: it asks for the gateway until that answers,
 * because the kernel wakes the bridge's own interface in the background too. */
static inline struct vm vm_open(struct host *host, uint32_t vni, uint64_t uid)
{
    struct network_port port = fixture_port(vni, uid);
    struct vm vm = vm_open_port(host, vni, &port);
    uint64_t bridge = network_bridge_mac(host->value.host_id, vni);
    struct frame ask = frame_arp(bridge, vm.mac, 1, vm.mac, vm.ipv4, IPV4(10, vni, 0, 1));
    struct frame frame;

    for (int i = 0; i < GREETINGS; i++) {
        vm_send(&vm, &ask);
        if (vm_take(&vm, &frame, GREETING_MS)) {
            ck_assert_uint_eq(get_mac(frame.bytes + 6), bridge);
            vm.gateway = bridge;
            return vm;
        }
    }
    ck_abort_msg("VM %u: the gateway does not answer", (unsigned)uid);
    return vm;
}

/* A frame that must pass: UDP from one VM to another with this number in it. */
static inline struct frame
frame_token(const struct vm *from, const struct vm *to, uint32_t token)
{
    uint8_t payload[20] = "berth";

    put_u32(payload + 16, token);
    return frame_udp(to->mac, from->mac, to->ipv4, from->ipv4, 4000, 4001, payload,
                     sizeof(payload));
}

static inline bool frame_is_token(const struct frame *frame, uint32_t token)
{
    return frame_type(frame) == TYPE_IPV4 && frame->size >= 62 &&
           memcmp(frame->bytes + 42, "berth", 5) == 0 &&
           get_u32(frame->bytes + 58) == token;
}

/* Takes frames until the token comes; the first other frame, if any, is kept. The count
 * of others. */
static inline size_t
vm_take_until(const struct vm *vm, uint32_t token, struct frame *ret_first)
{
    size_t others = 0;
    struct frame frame;

    for (;;) {
        ck_assert_msg(vm_take(vm, &frame, REPLY_MS),
                      "VM %u: the frame that may pass did not come", (unsigned)vm->uid);
        if (frame_is_token(&frame, token)) {
            return others;
        }
        if (others++ == 0 && ret_first != NULL) {
            *ret_first = frame;
        }
    }
}

/* ---- VMs with a stack ---- */

struct stack_vm {
    int ns;
    pid_t cable;
};

static inline int tap_in(int ns, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

    ns_enter(ns);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
    return fd;
}

static inline void cable_run(int a, int b)
{
    uint8_t bytes[65536];
    struct pollfd ends[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};

    while (poll(ends, 2, -1) >= 0) {
        for (int i = 0; i < 2; i++) {
            ssize_t n = ends[i].revents != 0 ? read(ends[i].fd, bytes, sizeof(bytes)) : 0;
            if (n > 0 && write(ends[1 - i].fd, bytes, (size_t)n) < 0) {
                continue; /* as on any cable, what does not fit is lost */
            }
        }
    }
}

static inline struct stack_vm
stack_vm_start(struct host *host, uint32_t vni, uint64_t uid)
{
    struct vm vm = vm_open(host, vni, uid);
    struct stack_vm stack = {.ns = ns_new()};
    char mac[24];
    int inside = tap_in(stack.ns, "eth0");

    (void)snprintf(mac, sizeof(mac), "52:54:00:00:00:%02x", (unsigned)uid);
    run("ip link set eth0 address %s mtu 1450 && ip addr add 10.%u.0.%u/24 dev eth0 && "
        "ip link set eth0 up && ip route add default via 10.%u.0.1",
        mac, vni, (unsigned)uid, vni);
    stack.cable = fork();
    if (stack.cable == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        cable_run(vm.fd, inside);
        _exit(0);
    }
    (void)close(vm.fd);
    (void)close(inside);
    return stack;
}

static inline void stack_vm_stop(struct stack_vm *vm)
{
    ck_assert_int_eq(kill(vm->cable, SIGKILL), 0);
    ck_assert_int_eq(waitpid(vm->cable, NULL, 0), vm->cable);
    (void)close(vm->ns);
}

static inline int socket_in(int ns, int type, uint32_t ipv4, uint16_t port)
{
    struct sockaddr_in name = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ipv4)};

    ns_enter(ns);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    if (type == SOCK_STREAM) {
        ck_assert_int_eq(listen(fd, 4), 0);
    }
    return fd;
}

static inline struct sockaddr_in address_of(uint32_t ipv4, uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ipv4)};
}

static inline void wait_readable(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    ck_assert_msg(poll(&wait, 1, REPLY_MS) == 1, "nothing came");
}

/* ---- DHCP and DNS ---- */

#define DHCP_SIZE 300

/* A client's message; type 1 DISCOVER, 3 REQUEST. */
static inline struct frame frame_dhcp(const struct vm *vm,
                                      uint8_t type,
                                      uint64_t hardware,
                                      uint32_t wanted,
                                      bool broadcast)
{
    uint8_t dhcp[DHCP_SIZE] = {1, 1, 6, 0, 'b', 'e', 'r', 't'};
    size_t at = 240;

    put_u16(dhcp + 10, broadcast ? 0x8000 : 0);
    put_mac(dhcp + 28, hardware);
    put_u32(dhcp + 236, 0x63825363);
    memcpy(dhcp + at, (uint8_t[]){53, 1, type}, 3);
    at += 3;
    if (wanted != 0) {
        dhcp[at] = 50;
        dhcp[at + 1] = 4;
        put_u32(dhcp + at + 2, wanted);
        at += 6;
    }
    memcpy(dhcp + at, (uint8_t[]){55, 7, 1, 3, 6, 12, 15, 26, 119}, 9);
    dhcp[at + 9] = 255;
    return frame_udp(BROADCAST, vm->mac, UINT32_MAX, 0, 67, 68, dhcp, sizeof(dhcp));
}

static inline void put_dns_name(uint8_t *at, const char *name, size_t *ret_size)
{
    size_t size = 0;

    for (const char *label = name; label != NULL;) {
        const char *dot = strchr(label, '.');
        size_t length = dot != NULL ? (size_t)(dot - label) : strlen(label);
        at[size++] = (uint8_t)length;
        memcpy(at + size, label, length);
        size += length;
        label = dot != NULL ? dot + 1 : NULL;
    }
    at[size++] = 0;
    *ret_size = size;
}

/* Asks the gateway for an A record; the response code, and the address when it is 0. */
static inline unsigned dns_ask(int ns, const char *name, uint32_t *ret_ipv4)
{
    uint8_t query[512] = {'b', 'e', 1, 0, 0, 1};
    uint8_t answer[512];
    struct sockaddr_in gateway = address_of(IPV4(10, 7, 0, 1), 53);
    size_t size = 0;

    put_dns_name(query + 12, name, &size);
    size += 12;
    put_u16(query + size, 1);
    put_u16(query + size + 2, 1);
    size += 4;
    ns_enter(ns);
    CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&gateway, sizeof(gateway)), 0);
    ck_assert_int_eq(send(fd, query, size, 0), (ssize_t)size);
    wait_readable(fd);
    ssize_t n = recv(fd, answer, sizeof(answer), 0);
    ck_assert_int_ge(n, (ssize_t)size);
    *ret_ipv4 = n >= (ssize_t)size + 16 ? get_u32(answer + size + 12) : 0;
    return answer[3] & 0xf;
}
