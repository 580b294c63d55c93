/* Goal: tenant networks as their users meet them: two hosts, real kernel, real nft, real
 * dnsmasq. Method: two hosts and an "internet" are anonymous network namespaces of this
 * process, joined by veth pairs. A VM is either a tap that the test drives frame by
 * frame, or a namespace with a stack of its own whose frames a child process carries to
 * the tap. "Does not pass" is never a wait: a frame that may pass is sent after those
 * that may not, and nothing may have arrived before it. Everything lives in a pid and
 * mount namespace whose first process dies with the test: nothing is left behind, however
 * it ends. Needs root, nft, dnsmasq and ip. */
#include "base/cleanup.h"
#include "net/dhcp_dns.h"
#include "net/network_apply.h"
#include "net/tap.h"
#include "network_fixture.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>
#include <uv.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define VNET_HEADER 10
#define FRAME_MAX   2048
#define REPLY_MS    10000 /* bound of a wait for what must come */
#define GREETINGS   10
#define GREETING_MS 1000
#define BROADCAST   UINT64_C(0xffffffffffff)
#define TYPE_IPV4   0x0800
#define TYPE_ARP    0x0806
#define MUTATIONS   20000
#define VM_FRONT    10 /* on host 1 */
#define VM_SECOND   11 /* on host 1 */
#define VM_REMOTE   20 /* on host 2 */
#define VM_ELSE     30 /* on host 1, another tenant's */

/* ---- namespaces and commands ---- */

struct host {
    struct network_host value;
    struct temp_dir dir;
    int ns;
    uv_loop_t loop;
    struct network_apply *apply;
    struct network_want wants[2];
    size_t count;
    struct network_port ports[2][4];
    struct network_remote remotes[4];
    struct network_name names[2];
};

static struct host hosts[3]; /* 1 and 2 */
static int internet;         /* a namespace */

static int ns_new(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void ns_enter(int ns)
{
    ck_assert_int_eq(setns(ns, CLONE_NEWNET), 0);
}

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
    char command[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    int status = system(command);
    ck_assert_msg(status == 0, "%s: exit %d", command, status);
}

/* A pair of interfaces, one in each namespace, with an address each. */
static void join(int a,
                 const char *name_a,
                 const char *cidr_a,
                 int b,
                 const char *name_b,
                 const char *cidr_b)
{
    ns_enter(a);
    run("ip link add %s type veth peer name %s netns /proc/%d/fd/%d", name_a, name_b,
        (int)getpid(), b);
    run("ip addr add %s dev %s && ip link set %s up && ip link set lo up", cidr_a, name_a,
        name_a);
    ns_enter(b);
    run("ip addr add %s dev %s && ip link set %s up && ip link set lo up", cidr_b, name_b,
        name_b);
}

/* ---- hosts ---- */

struct outcome {
    bool done;
    int code;
    char text[ERR_TEXT_SIZE];
};

static void on_done(void *context, int code, const struct err *err)
{
    struct outcome *outcome = context;

    outcome->done = true;
    outcome->code = code;
    (void)snprintf(outcome->text, sizeof(outcome->text), "%s",
                   err != NULL ? err->text : "");
}

static void host_wait(struct host *host, const struct outcome *outcome)
{
    while (!outcome->done) {
        (void)uv_run(&host->loop, UV_RUN_ONCE);
    }
}

/* Sets what the host wants and waits until it is so. */
static void host_set(struct host *host)
{
    struct outcome outcome = {0};
    struct err err = {0};

    ns_enter(host->ns);
    ck_assert_msg(network_apply_set(host->apply, host->wants, host->count, on_done,
                                    &outcome, &err) == 0,
                  "%s", err.text);
    ck_assert_msg(!outcome.done, "done inside the call");
    host_wait(host, &outcome);
    ck_assert_msg(outcome.code == 0, "%s", outcome.text);
}

static void host_open(struct host *host)
{
    struct err err = {0};

    ns_enter(host->ns);
    host->apply = network_apply_new(&host->loop, &host->value, &err);
    ck_assert_msg(host->apply != NULL, "%s", err.text);
}

static void host_close(struct host *host)
{
    host->apply = network_apply_close(host->apply);
    (void)uv_run(&host->loop, UV_RUN_DEFAULT);
}

static void host_add_port(struct host *host, size_t want, uint64_t vm_uid)
{
    struct network_want *w = &host->wants[want];

    host->ports[want][w->port_count++] = fixture_port(w->vni, vm_uid);
    w->ports = host->ports[want];
}

static void host_add_remote(struct host *host, struct network_remote remote)
{
    host->remotes[host->wants[0].remote_count++] = remote;
    host->wants[0].remotes = host->remotes;
}

static void host_init(unsigned number)
{
    struct host *host = &hosts[number];

    temp_dir_init(&host->dir);
    ck_assert_int_eq(chmod(host->dir.path, 0755), 0);
    host->value = fixture_host(number, host->dir.path);
    host->ns = ns_new();
    ck_assert_int_eq(uv_loop_init(&host->loop), 0);
    host->wants[0] = fixture_want(7, number);
    host->names[0] =
        (struct network_name){.name = "web-10", .ipv4 = IPV4(10, 7, 0, VM_FRONT)};
    host->names[1] =
        (struct network_name){.name = "db", .ipv4 = IPV4(10, 7, 0, VM_REMOTE)};
    host->wants[0].names = host->names;
    host->wants[0].name_count = 2;
    host->count = 1;
}

/* Some machines pass bridged frames through the IP hooks as well (module br_netfilter),
 * others do not: the namespace's own switch decides where the module is loaded. */
static void set_bridge_netfilter(const struct host *host, bool on)
{
    ns_enter(host->ns);
    run("test ! -e /proc/sys/net/bridge || "
        "for f in /proc/sys/net/bridge/bridge-nf-call-*tables; do echo %d > $f; done",
        on);
}

/* Host 1 has VMs 10 and 11 of tenant 7 and VM 30 of tenant 8; host 2 has VM 20 of
 * tenant 7. */
static void setup_hosts(bool bridge_netfilter)
{
    memset(hosts, 0, sizeof(hosts));
    internet = ns_new();
    host_init(1);
    host_init(2);
    set_bridge_netfilter(&hosts[1], bridge_netfilter);
    set_bridge_netfilter(&hosts[2], bridge_netfilter);
    join(hosts[1].ns, "under", "192.0.2.1/24", hosts[2].ns, "under", "192.0.2.2/24");
    join(hosts[1].ns, "uplink", "198.51.100.1/24", internet, "eth0", "198.51.100.2/24");
    ns_enter(hosts[1].ns);
    run("ip route add default via 198.51.100.2");

    struct host *first = &hosts[1];
    first->wants[0].nat = true;
    host_add_port(first, 0, VM_FRONT);
    host_add_port(first, 0, VM_SECOND);
    host_add_remote(first, fixture_remote(7, VM_REMOTE, 2));
    host_add_remote(first, fixture_router(7, 2));
    first->wants[1] = fixture_want(8, 1);
    first->count = 2;
    host_add_port(first, 1, VM_ELSE);
    struct host *second = &hosts[2];
    host_add_port(second, 0, VM_REMOTE);
    host_add_remote(second, fixture_remote(7, VM_FRONT, 1));
    host_add_remote(second, fixture_remote(7, VM_SECOND, 1));
    host_add_remote(second, fixture_router(7, 1));
    for (unsigned number = 1; number <= 2; number++) {
        host_open(&hosts[number]);
        host_set(&hosts[number]);
    }
}

static void setup(void)
{
    setup_hosts(false);
}

static void setup_bridge_netfilter(void)
{
    setup_hosts(true);
}

static void teardown(void)
{
    for (unsigned number = 1; number <= 2; number++) {
        struct host *host = &hosts[number];
        struct err err = {0};
        host_close(host);
        ck_assert_int_eq(uv_loop_close(&host->loop), 0);
        ns_enter(host->ns);
        ck_assert_msg(network_apply_teardown_all(&host->value, &err) == 0, "%s",
                      err.text);
        temp_dir_fini(&host->dir);
    }
}

/* ---- frames ---- */

struct frame {
    uint8_t bytes[FRAME_MAX]; /* from the Ethernet header on */
    size_t size;
};

static void put_mac(uint8_t *at, uint64_t mac)
{
    for (int i = 0; i < 6; i++) {
        at[i] = (uint8_t)(mac >> (40 - 8 * i));
    }
}

static void put_u16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put_u32(uint8_t *at, uint32_t value)
{
    put_u16(at, value >> 16);
    put_u16(at + 2, value & 0xffff);
}

static unsigned get_u16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t get_mac(const uint8_t *at)
{
    return (uint64_t)get_u32(at) << 16 | (uint64_t)at[4] << 8 | at[5];
}

static unsigned checksum(const uint8_t *data, size_t size)
{
    unsigned sum = 0;

    for (size_t i = 0; i < size; i += 2) {
        sum += (unsigned)data[i] << 8 | (i + 1 < size ? data[i + 1] : 0U);
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return ~sum & 0xffff;
}

static struct frame frame_new(uint64_t to, uint64_t from, unsigned type)
{
    struct frame frame = {.size = 60};

    put_mac(frame.bytes, to);
    put_mac(frame.bytes + 6, from);
    put_u16(frame.bytes + 12, type);
    return frame;
}

/* UDP without checksum (0 says so), 20 bytes of payload or what is given. */
static struct frame frame_udp(uint64_t to_mac,
                              uint64_t from_mac,
                              uint32_t to,
                              uint32_t from,
                              unsigned to_port,
                              unsigned from_port,
                              const void *payload,
                              size_t payload_size)
{
    struct frame frame = frame_new(to_mac, from_mac, TYPE_IPV4);
    uint8_t *ip = frame.bytes + 14;

    ip[0] = 0x45;
    put_u16(ip + 2, (unsigned)(28 + payload_size));
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    put_u32(ip + 12, from);
    put_u32(ip + 16, to);
    put_u16(ip + 10, checksum(ip, 20));
    put_u16(ip + 20, from_port);
    put_u16(ip + 22, to_port);
    put_u16(ip + 24, (unsigned)(8 + payload_size));
    if (payload_size > 0) {
        memcpy(ip + 28, payload, payload_size);
    }
    frame.size = 14 + 28 + payload_size;
    frame.size = frame.size < 60 ? 60 : frame.size;
    return frame;
}

static struct frame frame_arp(uint64_t to_mac,
                              uint64_t from_mac,
                              unsigned operation,
                              uint64_t sender_mac,
                              uint32_t sender,
                              uint32_t target)
{
    struct frame frame = frame_new(to_mac, from_mac, TYPE_ARP);
    uint8_t *arp = frame.bytes + 14;

    put_u16(arp, 1);
    put_u16(arp + 2, TYPE_IPV4);
    arp[4] = 6;
    arp[5] = 4;
    put_u16(arp + 6, operation);
    put_mac(arp + 8, sender_mac);
    put_u32(arp + 14, sender);
    put_u32(arp + 24, target);
    return frame;
}

static unsigned frame_type(const struct frame *frame)
{
    return get_u16(frame->bytes + 12);
}

/* ---- VMs that the test plays ---- */

struct vm {
    uint32_t vni;
    uint64_t uid;
    uint64_t mac;
    uint32_t ipv4;
    int fd;
};

/* A port forwards a moment after its tap has been opened: the kernel tells the bridge in
 * the background. */
static struct vm
vm_open_port(struct host *host, uint32_t vni, const struct network_port *port)
{
    struct err err = {0};

    ns_enter(host->ns);
    ck_assert(network_apply_port_ready(host->apply, vni, port));
    struct vm vm = {
        .vni = vni, .uid = port->vm_uid, .mac = port->mac, .ipv4 = port->ipv4};
    vm.fd = tap_open_fd(port->tap, &err);
    ck_assert_msg(vm.fd >= 0, "%s", err.text);
    run("for i in $(seq 1000); do "
        "bridge link show dev %s | grep -q 'state forwarding' && exit 0; done; exit 1",
        port->tap);
    return vm;
}

static void vm_send(const struct vm *vm, const struct frame *frame)
{
    uint8_t bytes[VNET_HEADER + FRAME_MAX] = {0};

    memcpy(bytes + VNET_HEADER, frame->bytes, frame->size);
    ssize_t n = write(vm->fd, bytes, VNET_HEADER + frame->size);
    ck_assert_int_eq(n, (ssize_t)(VNET_HEADER + frame->size));
}

/* The next frame; false when none comes in the time. */
static bool vm_take(const struct vm *vm, struct frame *ret_frame, int wait_ms)
{
    uint8_t bytes[VNET_HEADER + FRAME_MAX];
    struct pollfd wait = {.fd = vm->fd, .events = POLLIN};

    if (poll(&wait, 1, wait_ms) != 1) {
        return false;
    }
    ssize_t n = read(vm->fd, bytes, sizeof(bytes));
    ck_assert_int_gt(n, VNET_HEADER);
    ret_frame->size = (size_t)n - VNET_HEADER;
    memcpy(ret_frame->bytes, bytes + VNET_HEADER, ret_frame->size);
    return true;
}

/* Opens the port as a guest's stack does: it asks for the gateway until that answers,
 * because the kernel wakes the bridge's own interface in the background too. */
static struct vm vm_open(struct host *host, uint32_t vni, uint64_t uid)
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
            return vm;
        }
    }
    ck_abort_msg("VM %u: the gateway does not answer", (unsigned)uid);
    return vm;
}

/* A frame that must pass: UDP from one VM to another with this number in it. */
static struct frame
frame_token(const struct vm *from, const struct vm *to, uint32_t token)
{
    uint8_t payload[20] = "berth";

    put_u32(payload + 16, token);
    return frame_udp(to->mac, from->mac, to->ipv4, from->ipv4, 4000, 4001, payload,
                     sizeof(payload));
}

static bool frame_is_token(const struct frame *frame, uint32_t token)
{
    return frame_type(frame) == TYPE_IPV4 && frame->size >= 62 &&
           memcmp(frame->bytes + 42, "berth", 5) == 0 &&
           get_u32(frame->bytes + 58) == token;
}

/* Takes frames until the token comes; the first other frame, if any, is kept. The count
 * of others. */
static size_t vm_take_until(const struct vm *vm, uint32_t token, struct frame *ret_first)
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

static int tap_in(int ns, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

    ns_enter(ns);
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
    return fd;
}

static void cable_run(int a, int b)
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

static struct stack_vm stack_vm_start(struct host *host, uint32_t vni, uint64_t uid)
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

static void stack_vm_stop(struct stack_vm *vm)
{
    ck_assert_int_eq(kill(vm->cable, SIGKILL), 0);
    ck_assert_int_eq(waitpid(vm->cable, NULL, 0), vm->cable);
    (void)close(vm->ns);
}

static int socket_in(int ns, int type, uint32_t ipv4, uint16_t port)
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

static struct sockaddr_in address_of(uint32_t ipv4, uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ipv4)};
}

static void wait_readable(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    ck_assert_msg(poll(&wait, 1, REPLY_MS) == 1, "nothing came");
}

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

/* ---- DHCP and DNS ---- */

#define DHCP_SIZE 300

/* A client's message; type 1 DISCOVER, 3 REQUEST. */
static struct frame frame_dhcp(const struct vm *vm,
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

static void put_dns_name(uint8_t *at, const char *name, size_t *ret_size)
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
static unsigned dns_ask(int ns, const char *name, uint32_t *ret_ipv4)
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

/* ---- life of the networks ---- */

static void read_instance(struct host *host, struct dhcp_dns_instance *ret_instance)
{
    dhcp_dns_find(&host->value, 7, ret_instance);
    ck_assert_int_gt(ret_instance->pid, 1);
}

START_TEST(the_same_state_again_takes_no_step_also_for_a_new_daemon)
{
    struct network_apply_stats stats;
    struct dhcp_dns_instance before;
    struct dhcp_dns_instance after;
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm remote = vm_open(&hosts[2], 7, VM_REMOTE);

    read_instance(&hosts[1], &before);
    host_set(&hosts[1]);
    network_apply_stats(hosts[1].apply, &stats);
    ck_assert_uint_eq(stats.steps_last_run, 0);
    host_close(&hosts[1]); /* nothing is said to the kernel, as when it is killed */
    host_open(&hosts[1]);
    host_set(&hosts[1]);
    network_apply_stats(hosts[1].apply, &stats);
    ck_assert_uint_eq(stats.steps_last_run, 0);
    ck_assert_uint_eq(stats.rules_installs, 0);
    ck_assert_uint_eq(stats.ports, 3);
    read_instance(&hosts[1], &after);
    ck_assert_int_eq(before.pid, after.pid);
    struct frame frame = frame_token(&front, &remote, 1);
    vm_send(&front, &frame);
    ck_assert_uint_eq(vm_take_until(&remote, 1, NULL), 0);
}
END_TEST

START_TEST(the_newest_state_wins_and_every_caller_hears)
{
    struct outcome outcomes[3] = {0};
    struct network_apply_stats before;
    struct network_apply_stats after;
    struct network_port port = fixture_port(7, VM_SECOND);

    network_apply_stats(hosts[1].apply, &before);
    ns_enter(hosts[1].ns);
    for (size_t i = 0; i < 3; i++) {
        hosts[1].wants[0].port_count = i == 2 ? 1 : 2;
        ck_assert_int_eq(network_apply_set(hosts[1].apply, hosts[1].wants, hosts[1].count,
                                           on_done, &outcomes[i], NULL),
                         0);
    }
    for (size_t i = 0; i < 3; i++) {
        host_wait(&hosts[1], &outcomes[i]);
        ck_assert_int_eq(outcomes[i].code, 0);
    }
    network_apply_stats(hosts[1].apply, &after);
    ck_assert_uint_eq(after.runs - before.runs, 1);
    ck_assert(!network_apply_port_ready(hosts[1].apply, 7, &port));
    ck_assert_uint_eq(if_nametoindex(port.tap), 0);
}
END_TEST

START_TEST(one_networks_failure_leaves_the_others_working)
{
    struct outcome outcome = {0};
    struct network_port port = fixture_port(9, 40);
    struct network_port good = fixture_port(7, VM_FRONT);

    hosts[1].wants[1] = fixture_want(9, 1);
    host_add_port(&hosts[1], 1, 40);
    ns_enter(hosts[1].ns);
    run("ip link add bb9 type veth peer name other"); /* someone has taken the name */
    ck_assert_int_eq(network_apply_set(hosts[1].apply, hosts[1].wants, hosts[1].count,
                                       on_done, &outcome, NULL),
                     0);
    host_wait(&hosts[1], &outcome);
    ck_assert_int_eq(outcome.code, -EEXIST);
    ck_assert_msg(strstr(outcome.text, "create bridge bb9") != NULL, "%s", outcome.text);
    ck_assert(!network_apply_port_ready(hosts[1].apply, 9, &port));
    ck_assert(network_apply_port_ready(hosts[1].apply, 7, &good));
    run("ip link del bb9");
    host_set(&hosts[1]);
    ck_assert(network_apply_port_ready(hosts[1].apply, 9, &port));
}
END_TEST

START_TEST(a_vm_that_migrates_is_found_where_it_runs)
{
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    struct vm remote = vm_open(&hosts[2], 7, VM_REMOTE);

    /* Host 1 prepares for VM 20 while it still runs on host 2. */
    host_add_port(&hosts[1], 0, VM_REMOTE);
    host_set(&hosts[1]);
    struct vm arriving = vm_open_port(&hosts[1], 7, &hosts[1].ports[0][2]);
    struct frame frame = frame_token(&second, &remote, 1);
    vm_send(&second, &frame);
    ck_assert_uint_eq(vm_take_until(&remote, 1, NULL), 0);

    /* Switched: it is host 1's now. */
    hosts[1].remotes[0] = hosts[1].remotes[1];
    hosts[1].wants[0].remote_count = 1;
    host_set(&hosts[1]);
    (void)close(remote.fd);
    hosts[2].wants[0].port_count = 0;
    host_add_remote(&hosts[2], fixture_remote(7, VM_REMOTE, 1));
    host_set(&hosts[2]);
    frame = frame_token(&second, &arriving, 2);
    vm_send(&second, &frame);
    ck_assert_uint_eq(vm_take_until(&arriving, 2, NULL), 0);
    frame = frame_token(&arriving, &second, 3);
    vm_send(&arriving, &frame);
    ck_assert_uint_eq(vm_take_until(&second, 3, NULL), 0);
}
END_TEST

START_TEST(a_network_in_the_hosts_own_range_is_left_out_until_it_is_free)
{
    struct network_port port = fixture_port(9, 40);
    struct network_port good = fixture_port(7, VM_FRONT);
    struct network_want *want = &hosts[1].wants[1];

    *want = fixture_want(9, 1);
    want->cidr = (struct network_cidr){IPV4(198, 51, 100, 0), 29};
    want->gateway = IPV4(198, 51, 100, 2); /* the host's own */
    want->host_address = IPV4(198, 51, 100, 3);
    host_add_port(&hosts[1], 1, 40);
    hosts[1].ports[1][0].ipv4 = IPV4(198, 51, 100, 4);
    port.ipv4 = hosts[1].ports[1][0].ipv4;
    host_set(&hosts[1]);
    ck_assert_ptr_nonnull(network_apply_refusal(hosts[1].apply, 9));
    ck_assert_msg(strstr(network_apply_refusal(hosts[1].apply, 9),
                         "overlaps 198.51.100.1, an address of this host (link uplink)"),
                  "%s", network_apply_refusal(hosts[1].apply, 9));
    ck_assert_uint_eq(if_nametoindex("bb9"), 0);
    ck_assert(!network_apply_port_ready(hosts[1].apply, 9, &port));
    ck_assert(network_apply_port_ready(hosts[1].apply, 7, &good));
    ck_assert_ptr_null(network_apply_refusal(hosts[1].apply, 7));
    run("ip route get 198.51.100.2 | grep -q 'dev uplink'");

    run("ip link del uplink");
    host_set(&hosts[1]);
    ck_assert_ptr_null(network_apply_refusal(hosts[1].apply, 9));
    ck_assert(network_apply_port_ready(hosts[1].apply, 9, &port));
}
END_TEST

START_TEST(what_is_unused_goes_and_teardown_leaves_nothing)
{
#define FORWARDS "test $(cat /proc/sys/net/ipv4/ip_forward) = %d"
    static const char no_links[] = "! ip -o link | grep -E ' (bb|bx|bt)[0-9a-z]+[:@]'";
    static const char no_tables[] = "! nft list tables | grep berth";
    struct dhcp_dns_instance instance;

    read_instance(&hosts[1], &instance);
    ns_enter(hosts[1].ns);
    run(FORWARDS, 1);
    hosts[1].wants[0] = hosts[1].wants[1]; /* network 7 has no VM here any more */
    hosts[1].wants[0].ports = hosts[1].ports[1];
    hosts[1].count = 1;
    host_set(&hosts[1]);
    run(FORWARDS, 0); /* network 8 lets nobody out */
    ck_assert_uint_eq(if_nametoindex("bb7"), 0);
    ck_assert_uint_eq(if_nametoindex("bx7"), 0);
    ck_assert_uint_ne(if_nametoindex("bb8"), 0);
    dhcp_dns_find(&hosts[1].value, 7, &instance);
    ck_assert_int_eq(instance.pid, 0);
    run("test ! -e %s/networks/7 && test -e %s/networks/8", hosts[1].dir.path,
        hosts[1].dir.path);

    hosts[1].count = 0;
    host_set(&hosts[1]);
    run("%s", no_links);
    run("%s", no_tables);
    run("test -z \"$(ls %s/networks)\"", hosts[1].dir.path);

    hosts[2].wants[0].nat = true;
    host_set(&hosts[2]);
    run(FORWARDS, 1);
    read_instance(&hosts[2], &instance);
    ns_enter(hosts[2].ns);
    struct err err = {0};
    ck_assert_msg(network_apply_teardown_all(&hosts[2].value, &err) == 0, "%s", err.text);
    run("%s", no_links);
    run("%s", no_tables);
    run("test ! -e %s/networks", hosts[2].dir.path);
    run(FORWARDS, 0);
    ck_assert_int_ne(kill(instance.pid, 0) == 0 &&
                         dhcp_dns_open(&hosts[2].value, 7, &instance) >= 0,
                     1);
}
END_TEST

/* ---- the frame around it ---- */

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
    tcase_add_loop_test(c, a_vm_gets_its_own_address_and_everything_it_needs_by_dhcp, 0,
                        2);
    tcase_add_test(c, names_of_the_whole_network_resolve_at_the_gateway);
    tcase_add_test(c, what_a_vm_must_not_say_is_not_heard);
    tcase_add_test(c, what_a_vm_may_say_is_heard);
    tcase_add_test(c, twenty_thousand_mutated_frames_leak_nothing);
    tcase_add_test(c, another_tenant_cannot_be_reached);
    tcase_add_test(c, a_guest_reaches_only_what_the_gateway_offers);
    tcase_add_test(c, link_local_frames_of_a_guest_reach_nobody);
    tcase_add_test(c,
                   a_frame_from_another_host_passes_only_with_addresses_of_that_network);
    tcase_add_test(c, a_vm_that_migrates_is_found_where_it_runs);
    return c;
}

static Suite *suite(void)
{
    Suite *s = suite_create("network_apply");
    TCase *c = tcase_create("life");

    suite_add_tcase(s, traffic_case("traffic", setup));
    suite_add_tcase(
        s, traffic_case("traffic with bridge netfilter", setup_bridge_netfilter));
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_new_owner_of_an_address_gets_it_at_once);
    tcase_add_test(c, an_ordinary_dhcp_client_gets_a_lease);
    tcase_add_test(c, the_same_state_again_takes_no_step_also_for_a_new_daemon);
    tcase_add_test(c, the_newest_state_wins_and_every_caller_hears);
    tcase_add_test(c, one_networks_failure_leaves_the_others_working);
    tcase_add_test(c, a_network_in_the_hosts_own_range_is_left_out_until_it_is_free);
    tcase_add_test(c, what_is_unused_goes_and_teardown_leaves_nothing);
    suite_add_tcase(s, c);
    return s;
}

/* The first process of a pid namespace: when it goes, everything in it goes. */
static int first_process(void)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("proc", "/proc", "proc", 0, NULL) != 0 ||
        mount("tmpfs", "/tmp", "tmpfs", 0, NULL) != 0 ||
        setenv("TMPDIR", "/tmp", 1) != 0) {
        return test_main_skip("namespaces cannot be set up here");
    }
    return test_main_run(suite());
}

static int wait_for(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(void)
{
    if (geteuid() != 0) {
        return test_main_skip("it takes root to make network namespaces");
    }
    if (system("command -v ip nft dnsmasq > /dev/null") != 0) {
        return test_main_skip("it takes the programs ip, nft and dnsmasq");
    }
    if (access("/dev/net/tun", R_OK | W_OK) != 0) {
        return test_main_skip("it takes /dev/net/tun");
    }
    (void)fflush(NULL);
    pid_t keeper = fork();
    if (keeper == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET) != 0) {
            _exit(test_main_skip("namespaces cannot be made here"));
        }
        pid_t first = fork();
        if (first == 0) {
            exit(first_process());
        }
        exit(wait_for(first));
    }
    return keeper > 0 ? wait_for(keeper) : 1;
}
