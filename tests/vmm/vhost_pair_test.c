/* Goal: what the kernel serves is served as by us: frames pass whole, a limit, a pause, a
 * save and a reset find the rings where they were left, and nonsense costs the guest its
 * device. Method: the real /dev/vhost-net with a real tap in a network namespace of our
 * own, a packet socket on its other side. Skipped where there is none (it is there in the
 * emulated host of tier T2). */
#include "base/fd.h"
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/virtio_net.h"

#include <check.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER VIRTIO_NET_HEADER_SIZE
#define RX     0u
#define TX     1u
#define ETHER  0x88b5u /* for experiments: nobody else talks it */
#define FRAME  1000u

static const struct virtio_net_spec spec = {.mac = {2, 2, 2, 2, 2, 2}, .mtu = 1500};
static struct guest guest;
static struct virtio_device *device;
static int wire = -1;
static char tap_name[IFNAMSIZ];

/* One end of the tap; the first call makes it. */
static int tap_open(void)
{
    const int header_size = HEADER;
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap_name);
    const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0 ||
        ioctl(fd, TUNSETVNETHDRSZ, &header_size) < 0) {
        return -1;
    }
    (void)snprintf(tap_name, sizeof(tap_name), "%s", request.ifr_name);
    return fd;
}

static bool wire_make(void)
{
    struct ifreq request = {0};
    int tap = unshare(CLONE_NEWNET) < 0 ? -1 : tap_open();
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap_name);
    wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETHER));
    if (tap < 0 || wire < 0 || ioctl(wire, SIOCGIFINDEX, &request) < 0) {
        return false;
    }
    fd_close(&tap);
    const struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                        .sll_protocol = htons(ETHER),
                                        .sll_ifindex = request.ifr_ifindex};
    request.ifr_flags = IFF_UP;
    return ioctl(wire, SIOCSIFFLAGS, &request) == 0 &&
           bind(wire, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

static struct virtio_device *net_new(void)
{
    struct virtio_device *made = NULL;
    struct err err = {0};
    const int tap = tap_open();
    const int vhost = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(tap, 0);
    ck_assert_int_ge(vhost, 0);
    ck_assert_int_eq(virtio_net_new(&guest.place, &spec, &tap, 1, &made, NULL), 0);
    ck_assert_msg(virtio_net_give_kernel(made, &vhost, &err) == 0, "%s", err.text);
    return made;
}

static void set_up(void)
{
    guest_init(&guest);
    device = net_new();
    guest_attach(&guest, device);
    guest_drive(&guest, VIRTIO_NET_F_MAC | VIRTIO_NET_F_MTU | VIRTIO_NET_F_MRG_RXBUF |
                            VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);
}

static void tear_down(void)
{
    guest_fini(&guest);
}

static void frame_fill(uint8_t *frame, uint8_t mark)
{
    memset(frame, 0xff, 6);
    memset(frame + 6, 0x02, 6);
    frame[12] = ETHER >> 8;
    frame[13] = ETHER & 0xff;
    for (size_t i = 14; i < FRAME; i++) {
        frame[i] = (uint8_t)(i + mark);
    }
}

static void transmit_post(uint8_t mark)
{
    uint8_t packet[HEADER + FRAME] = {0};
    frame_fill(packet + HEADER, mark);
    const uint64_t at = guest_put(&guest, packet, sizeof(packet));
    guest_post(&guest, TX, &(struct guest_buffer){at, sizeof(packet), false}, 1);
}

/* The kernel's call comes by the poller, some time after the ring has moved. */
static void interrupt_await(unsigned queue, unsigned before)
{
    while (guest.interrupts[1 + queue] == before) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }
}

static void wire_expect(uint8_t mark)
{
    uint8_t got[2048];
    uint8_t want[FRAME];
    frame_fill(want, mark);
    ck_assert_int_eq(recv(wire, got, sizeof(got), 0), FRAME);
    ck_assert_mem_eq(got, want, FRAME);
}

static void both_ways(uint8_t mark)
{
    uint8_t want[FRAME];
    uint8_t got[2048];
    transmit_post(mark);
    guest_kick(&guest, TX);
    (void)guest_wait(&guest, TX);
    wire_expect(mark);

    /* The host's own stack talks on the link too: ours is the frame of our type. */
    frame_fill(want, mark);
    ck_assert_int_eq(send(wire, want, FRAME, 0), FRAME);
    do {
        const uint64_t in = guest_alloc(&guest, 2048);
        guest_post(&guest, RX, &(struct guest_buffer){in, 2048, true}, 1);
        guest_kick(&guest, RX);
        const uint32_t size = guest_wait(&guest, RX);
        ck_assert_int_eq(guest_memory_read(&guest.memory, in, got, size), 0);
    } while (memcmp(got + HEADER, want, 14) != 0);
    ck_assert_uint_eq(got[10], 1); /* one buffer */
    ck_assert_mem_eq(got + HEADER, want, FRAME);
}

/* What the host's own stack has said on the link meanwhile may wait here for a buffer:
 * the kernel has the queues when that is gone. */
static void take_what_waits(void)
{
    while (virtio_net_kernel_pairs(device) == 0) {
        const uint64_t in = guest_alloc(&guest, 2048);
        guest_post(&guest, RX, &(struct guest_buffer){in, 2048, true}, 1);
        guest_kick(&guest, RX);
        (void)guest_wait(&guest, RX);
    }
}

START_TEST(the_kernel_serves_a_driver_that_is_ready)
{
    struct virtio_net_counters counters;
    ck_assert_uint_eq(virtio_net_kernel_pairs(device), 1);

    both_ways(1);
    both_ways(2);

    virtio_net_count(device, VIRTIO_NET_TRANSMIT, &counters);
    ck_assert_uint_eq(counters.packets, 0); /* not by us */
    interrupt_await(TX, 0);
}
END_TEST

START_TEST(a_limit_brings_the_packets_here_and_its_end_gives_them_back)
{
    const struct rate_specs limit = {.operations = {.rate = 100000, .burst = 100000}};
    const struct rate_specs none = {{0}, {0}};
    struct virtio_net_counters counters;
    both_ways(1);

    virtio_net_limit(device, VIRTIO_NET_TRANSMIT, &limit);
    ck_assert_uint_eq(virtio_net_kernel_pairs(device), 0);
    both_ways(2);
    virtio_net_count(device, VIRTIO_NET_TRANSMIT, &counters);
    ck_assert_uint_eq(counters.packets, 1);

    virtio_net_limit(device, VIRTIO_NET_TRANSMIT, &none);
    take_what_waits();
    both_ways(3);
    virtio_net_count(device, VIRTIO_NET_TRANSMIT, &counters);
    ck_assert_uint_eq(counters.packets, 1);
}
END_TEST

START_TEST(a_machine_that_stands_still_moves_nothing_and_loses_nothing)
{
    uint8_t byte;
    both_ways(1);
    device_stop(&guest.pci->device);
    transmit_post(2);
    ck_assert_uint_eq(virtio_net_kernel_pairs(device), 0);
    ck_assert_int_eq(recv(wire, &byte, 1, MSG_DONTWAIT), -1);

    device_start(&guest.pci->device);

    wire_expect(2);
    (void)guest_wait(&guest, TX);
    both_ways(3);
}
END_TEST

START_TEST(a_saved_device_goes_on_where_the_kernel_left_it)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    for (unsigned i = 0; i < 100; i++) { /* once round the ring */
        both_ways((uint8_t)i);
    }
    device_stop(&guest.pci->device);
    ck_assert_uint_eq(device->queues[TX].next_available, 100);
    ck_assert_uint_eq(device->queues[TX].next_used, 100);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    device_free(&guest.pci->device);
    device = net_new();
    guest_attach_stopped(&guest, device);
    bytes_reader_init(&reader, writer.data, writer.size);

    ck_assert_msg(device_restore(&guest.pci->device, &reader, &err) == 0, "%s", err.text);
    device_start(&guest.pci->device);

    ck_assert_uint_eq(virtio_net_kernel_pairs(device), 1);
    both_ways(7);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(a_ring_of_nonsense_costs_the_guest_its_device_until_a_reset)
{
    guest_post(&guest, TX, &(struct guest_buffer){UINT64_C(1) << 40, 100, false}, 1);
    guest_kick(&guest, TX);

    while (!guest_needs_reset(&guest)) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }

    ck_assert_uint_eq(virtio_net_kernel_pairs(device), 0);
    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF);
    ck_assert_uint_eq(virtio_net_kernel_pairs(device), 1);
    both_ways(1);
}
END_TEST

/* Whether the kernel has seen it by the reset or not. */
START_TEST(nonsense_of_the_driver_before_costs_the_next_one_nothing)
{
    guest_post(&guest, TX, &(struct guest_buffer){UINT64_C(1) << 40, 100, false}, 1);
    guest_kick(&guest, TX);

    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF);

    both_ways(1);
    ck_assert(!guest_needs_reset(&guest));
    ck_assert_uint_eq(virtio_net_kernel_pairs(device), 1);
}
END_TEST

START_TEST(while_writes_are_logged_the_kernel_makes_none)
{
    uint64_t words[GUEST_RAM_BYTES / GUEST_PAGE_BYTES / 64];
    both_ways(1);
    device_stop(&guest.pci->device);
    ck_assert_int_eq(guest_memory_log_start(&guest.memory), 0);
    device_start(&guest.pci->device);

    ck_assert_uint_eq(virtio_net_kernel_pairs(device), 0);
    both_ways(2);
    ck_assert_uint_gt(guest_memory_log_take(&guest.memory, 0, words, ARRAY_COUNT(words)),
                      1);
}
END_TEST

START_TEST(where_blocks_may_be_unplugged_the_kernel_touches_none)
{
    static const struct ram_backing plain;
    device_free(&guest.pci->device);
    ck_assert_int_eq(guest_memory_add_pluggable(&guest.memory, UINT64_C(1) << 30,
                                                16 * RAM_PLUG_BLOCK_BYTES, &plain, NULL),
                     0);
    device = net_new();
    guest_attach(&guest, device);
    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF);

    ck_assert_uint_eq(virtio_net_kernel_pairs(device), 0);
    both_ways(1);
}
END_TEST

START_TEST(a_masked_vector_keeps_the_kernels_interrupt)
{
    const unsigned vector = 1 + TX;
    guest_set(&guest, GUEST_VECTORS + 16u * vector + 12, 4, 1);
    transmit_post(1);
    guest_kick(&guest, TX);
    wire_expect(1);
    (void)guest_wait(&guest, TX);
    const unsigned before = guest.interrupts[vector];
    while ((guest_get(&guest, GUEST_PENDING, 8) & UINT64_C(1) << vector) == 0) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }
    ck_assert_uint_eq(guest.interrupts[vector], before);

    guest_set(&guest, GUEST_VECTORS + 16u * vector + 12, 4, 0);

    ck_assert_uint_eq(guest.interrupts[vector], before + 1);
}
END_TEST

/* ---- what a transport lends ---- */

static int lent_bell;
static int lent_event;
static bool is_bell_taken;
static bool is_event_open;

static int lend_bell(void *context, unsigned queue, bool is_taken)
{
    (void)context;
    is_bell_taken = is_taken;
    return queue == TX ? lent_bell : -1;
}

static int lend_event(void *context, unsigned queue)
{
    (void)context;
    return queue == TX && is_event_open ? lent_event : -1;
}

START_TEST(a_doorbell_and_an_event_that_are_lent_are_used_without_us)
{
    uint64_t count = 0;
    const uint64_t one = 1;
    lent_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lent_event = eventfd(0, EFD_CLOEXEC);
    is_event_open = true;
    guest_set(&guest, GUEST_STATUS, 1, 0);
    device->wires = (struct virtio_wires){.doorbell = lend_bell, .event = lend_event};
    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF);
    ck_assert(is_bell_taken);
    transmit_post(1);

    ck_assert_int_eq(write(lent_bell, &one, sizeof(one)), sizeof(one));

    wire_expect(1);
    ck_assert_int_eq(read(lent_event, &count, sizeof(count)), sizeof(count)); /* waits */
    const unsigned before = guest.interrupts[1 + TX];
    is_event_open = false; /* as when the vector is masked */
    guest_set(&guest, GUEST_VECTORS + 16u * (1 + TX) + 12, 4, 0);
    (void)guest_wait(&guest, TX);
    transmit_post(2);
    guest_kick(&guest, TX);
    (void)guest_wait(&guest, TX); /* by us again */
    interrupt_await(TX, before);
    device_stop(&guest.pci->device);
    ck_assert(!is_bell_taken);
    wire_expect(2);
    (void)close(lent_bell);
    (void)close(lent_event);
}
END_TEST

int main(void)
{
    if (access("/dev/vhost-net", R_OK | W_OK) != 0) {
        return test_main_skip("there is no /dev/vhost-net here");
    }
    if (!wire_make()) {
        return test_main_skip("no tap can be made here");
    }
    Suite *suite = suite_create("vhost_pair");
    TCase *tests = tcase_create("vhost_pair");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, the_kernel_serves_a_driver_that_is_ready);
    tcase_add_test(tests, a_limit_brings_the_packets_here_and_its_end_gives_them_back);
    tcase_add_test(tests, a_machine_that_stands_still_moves_nothing_and_loses_nothing);
    tcase_add_test(tests, a_saved_device_goes_on_where_the_kernel_left_it);
    tcase_add_test(tests, a_ring_of_nonsense_costs_the_guest_its_device_until_a_reset);
    tcase_add_test(tests, nonsense_of_the_driver_before_costs_the_next_one_nothing);
    tcase_add_test(tests, while_writes_are_logged_the_kernel_makes_none);
    tcase_add_test(tests, where_blocks_may_be_unplugged_the_kernel_touches_none);
    tcase_add_test(tests, a_masked_vector_keeps_the_kernels_interrupt);
    tcase_add_test(tests, a_doorbell_and_an_event_that_are_lent_are_used_without_us);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
