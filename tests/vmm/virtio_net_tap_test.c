/* Goal: the network device and a real tap agree on headers and offloads. Method: a tap in
 * a network namespace of our own, a packet socket on its other side. Skipped where no tap
 * can be made. */
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/virtio_net.h"

#include <check.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER VIRTIO_NET_HEADER_SIZE
#define TX     1u
#define ETHER  0x88b5u /* for experiments: nobody else talks it */

static int tap = -1;
static int wire = -1;

static unsigned spoiled; /* how many packets the tap cannot tell of */

/* The C library's, but for those: as in Linux' tun, such a packet is taken, and lost. */
ssize_t read(int fd, void *buffer, size_t size)
{
    static ssize_t (*real)(int, void *, size_t);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "read");
    }
    struct ifreq request;
    const ssize_t got = real(fd, buffer, size);
    if (got > 0 && spoiled > 0 && ioctl(fd, TUNGETIFF, &request) == 0) {
        spoiled--;
        errno = EINVAL;
        return -1;
    }
    return got;
}

/* A tap that is up, and a socket that sees its frames; negative where that is not
 * allowed.
 */
static int tap_make(void)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    const int header_size = HEADER;
    if (unshare(CLONE_NEWNET) < 0) {
        return -1;
    }
    tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETHER));
    if (tap < 0 || wire < 0 || ioctl(tap, TUNSETIFF, &request) < 0 ||
        ioctl(tap, TUNSETVNETHDRSZ, &header_size) < 0 ||
        ioctl(wire, SIOCGIFINDEX, &request) < 0) {
        return -1;
    }
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETHER),
                                  .sll_ifindex = request.ifr_ifindex};
    request.ifr_flags = IFF_UP;
    return ioctl(wire, SIOCSIFFLAGS, &request) < 0
               ? -1
               : bind(wire, (struct sockaddr *)&address, sizeof(address));
}

static void frame_fill(uint8_t *frame, size_t size)
{
    memset(frame, 0xff, 6);
    memset(frame + 6, 0x02, 6);
    frame[12] = ETHER >> 8;
    frame[13] = ETHER & 0xff;
    for (size_t i = 14; i < size; i++) {
        frame[i] = (uint8_t)i;
    }
}

/* A guest with this tap, which stays open. */
static void tap_guest(struct guest *guest)
{
    const struct virtio_net_spec spec = {.mac = {2, 2, 2, 2, 2, 2}, .mtu = 1500};
    struct virtio_device *device = NULL;
    const int fd = dup(tap);
    guest_init(guest);
    ck_assert_int_eq(virtio_net_new(&guest->place, &spec, &fd, 1, &device, NULL), 0);
    guest_attach(guest, device);
}

START_TEST(frames_pass_a_tap_whole_in_both_directions)
{
    struct guest guest;
    uint8_t packet[HEADER + 1000] = {0};
    uint8_t got[2048];
    tap_guest(&guest);
    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_CSUM |
                            VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4);
    frame_fill(packet + HEADER, 1000);

    const uint64_t out = guest_put(&guest, packet, sizeof(packet));
    guest_post(&guest, TX, &(struct guest_buffer){out, sizeof(packet), false}, 1);
    guest_kick(&guest, TX);
    (void)guest_wait(&guest, TX);
    ck_assert_int_eq(recv(wire, got, sizeof(got), 0), 1000);
    ck_assert_mem_eq(got, packet + HEADER, 1000);

    /* The host's own stack talks on the link too: ours is the frame of our type. */
    ck_assert_int_eq(send(wire, packet + HEADER, 1000, 0), 1000);
    do {
        const uint64_t in = guest_alloc(&guest, 2048);
        guest_post(&guest, 0, &(struct guest_buffer){in, 2048, true}, 1);
        guest_kick(&guest, 0);
        const uint32_t size = guest_wait(&guest, 0);
        ck_assert_int_eq(guest_memory_read(&guest.memory, in, got, size), 0);
    } while (memcmp(got + HEADER, packet + HEADER, 14) != 0);
    ck_assert_uint_eq(got[10], 1); /* one buffer */
    ck_assert_mem_eq(got + HEADER, packet + HEADER, 1000);

    /* A header that promises what the frame does not hold: refused, and life goes on. */
    struct virtio_net_counters counters;
    uint8_t bad[HEADER + 60] = {1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const uint64_t bad_at = guest_put(&guest, bad, sizeof(bad));
    guest_post(&guest, TX, &(struct guest_buffer){bad_at, sizeof(bad), false}, 1);
    guest_kick(&guest, TX);
    (void)guest_wait(&guest, TX);
    virtio_net_count(guest.pci->virtio, VIRTIO_NET_TRANSMIT, &counters);
    ck_assert_uint_eq(counters.dropped, 1);
    ck_assert_uint_eq(counters.packets, 1);
    guest_fini(&guest);
}
END_TEST

START_TEST(a_packet_that_the_tap_cannot_tell_of_is_lost_alone)
{
    struct guest guest;
    struct virtio_net_counters counters;
    uint8_t frame[100];
    uint8_t got[2048];
    tap_guest(&guest);
    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF);
    frame_fill(frame, sizeof(frame));
    spoiled = 3;
    for (unsigned i = 0; i < 4; i++) {
        frame[14] = (uint8_t)i;
        ck_assert_int_eq(send(wire, frame, sizeof(frame), 0), sizeof(frame));
    }

    do { /* the host's own stack talks on the link too */
        const uint64_t in = guest_alloc(&guest, 2048);
        guest_post(&guest, 0, &(struct guest_buffer){in, 2048, true}, 1);
        guest_kick(&guest, 0);
        const uint32_t size = guest_wait(&guest, 0);
        ck_assert_int_eq(guest_memory_read(&guest.memory, in, got, size), 0);
    } while (memcmp(got + HEADER, frame, 14) != 0 || got[HEADER + 14] != 3);
    virtio_net_count(guest.pci->virtio, VIRTIO_NET_RECEIVE, &counters);
    ck_assert_uint_ge(counters.dropped, 3);
    ck_assert_uint_eq(spoiled, 0);
    guest_fini(&guest);
}
END_TEST

/* ---- what the tap is told ---- */

#define TSO (VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4)

/* Whether the host gives the tap packets that are still to be cut. */
static bool tap_gives_large(void)
{
    struct ethtool_value value = {.cmd = ETHTOOL_GTSO};
    struct ifreq request = {0};
    ck_assert_int_eq(ioctl(tap, TUNGETIFF, &request), 0);
    request.ifr_data = (char *)&value;
    ck_assert_int_eq(ioctl(wire, SIOCETHTOOL, &request), 0);
    return value.data != 0;
}

START_TEST(the_tap_gives_what_the_driver_takes)
{
    struct guest guest;
    tap_guest(&guest);

    guest_drive(&guest, TSO);
    ck_assert(tap_gives_large());
    guest_drive(&guest, VIRTIO_NET_F_GUEST_CSUM);
    ck_assert(!tap_gives_large());
    guest_drive(&guest, TSO);
    ck_assert(tap_gives_large());
    guest_fini(&guest);
}
END_TEST

/* Of two frames, one before the driver changes and one after, the first that it gets. */
static uint8_t first_frame(struct guest *guest, uint64_t before, uint64_t after)
{
    uint8_t frame[1000];
    uint8_t got[2048];
    guest_drive(guest, before);
    guest_settle(guest);
    frame_fill(frame, sizeof(frame));
    frame[14] = 'b';
    ck_assert_int_eq(send(wire, frame, sizeof(frame), 0), sizeof(frame));
    guest_drive(guest, after);
    frame[14] = 'a';
    ck_assert_int_eq(send(wire, frame, sizeof(frame), 0), sizeof(frame));
    do {
        const uint64_t in = guest_alloc(guest, 2048);
        guest_post(guest, 0, &(struct guest_buffer){in, 2048, true}, 1);
        guest_kick(guest, 0);
        const uint32_t size = guest_wait(guest, 0);
        ck_assert_int_eq(guest_memory_read(&guest->memory, in, got, size), 0);
    } while (memcmp(got + HEADER, frame, 14) != 0);
    return got[HEADER + 14];
}

START_TEST(frames_made_for_a_driver_that_took_more_are_not_for_the_next)
{
    struct guest guest;
    tap_guest(&guest);

    ck_assert_int_eq(first_frame(&guest, TSO, VIRTIO_NET_F_GUEST_CSUM), 'a');
    ck_assert_int_eq(first_frame(&guest, VIRTIO_NET_F_GUEST_CSUM, TSO), 'b');
    guest_fini(&guest);
}
END_TEST

/* What is said to the tap behind the device's back shows that the device says nothing. */
START_TEST(a_driver_that_takes_the_same_again_costs_the_host_nothing)
{
    struct guest guest;
    uint8_t frame[1000];
    tap_guest(&guest);
    guest_drive(&guest, TSO);
    ck_assert_int_eq(ioctl(tap, TUNSETOFFLOAD, 0UL), 0);

    for (unsigned i = 0; i < 20; i++) {
        guest_drive(&guest, TSO);
        device_stop(&guest.pci->device);
        device_start(&guest.pci->device);
    }
    guest_settle(&guest);

    ck_assert(!tap_gives_large());
    const uint64_t in = guest_alloc(&guest, 2048);
    guest_post(&guest, 0, &(struct guest_buffer){in, 2048, true}, 1);
    guest_kick(&guest, 0);
    frame_fill(frame, sizeof(frame));
    ck_assert_int_eq(send(wire, frame, sizeof(frame), 0), sizeof(frame));
    ck_assert_uint_gt(guest_wait(&guest, 0), HEADER); /* nothing holds it back */
    guest_fini(&guest);
}
END_TEST

/* In the end the tap knows its last word, and until then it gets nothing. */
START_TEST(a_guest_that_takes_something_else_all_the_time_is_slowed)
{
    struct guest guest;
    uint8_t frame[1000];
    unsigned changes = 0;
    tap_guest(&guest);
    guest_drive(&guest, 0);
    for (unsigned i = 1; i <= 200; i++) {
        const bool before = tap_gives_large();
        guest_drive(&guest, i % 2 == 0 ? 0 : TSO);
        changes += tap_gives_large() != before;
    }
    ck_assert_uint_lt(changes, 150);

    guest_drive(&guest, tap_gives_large() ? 0 : TSO);
    const bool is_large = virtio_device_has(guest.pci->virtio, TSO);
    const uint64_t in = guest_alloc(&guest, 2048);
    guest_post(&guest, 0, &(struct guest_buffer){in, 2048, true}, 1);
    guest_kick(&guest, 0);
    frame_fill(frame, sizeof(frame));
    ck_assert_int_eq(send(wire, frame, sizeof(frame), 0), sizeof(frame));
    (void)guest_wait(&guest, 0);
    ck_assert(tap_gives_large() == is_large);
    guest_fini(&guest);
}
END_TEST

/* ---- a tap of several queues ---- */

#define QUEUES 3u

static int queues[QUEUES];

static int queues_make(void)
{
    struct ifreq request = {.ifr_flags =
                                IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
    const int header_size = HEADER;
    for (unsigned i = 0; i < QUEUES; i++) { /* of the tap that the first call has named */
        queues[i] = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        if (queues[i] < 0 || ioctl(queues[i], TUNSETIFF, &request) < 0) {
            return -1;
        }
    }
    const int r = ioctl(queues[0], TUNSETVNETHDRSZ, &header_size);
    const int control = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    request.ifr_flags = IFF_UP;
    const int up = ioctl(control, SIOCSIFFLAGS, &request);
    (void)close(control);
    return r < 0 || up < 0 ? -1 : 0;
}

static bool is_attached(int fd)
{
    struct ifreq request = {0};
    ck_assert_int_eq(ioctl(fd, TUNGETIFF, &request), 0);
    return (request.ifr_flags & IFF_DETACH_QUEUE) == 0;
}

static void pairs_say(struct guest *guest, uint8_t count)
{
    const uint8_t word[4] = {4, 0, count, 0};
    const uint64_t at = guest_put(guest, word, sizeof(word));
    const uint64_t answer_at = guest_alloc(guest, 1);
    uint8_t answer = 0xee;
    guest_post(guest, 2 * QUEUES,
               (struct guest_buffer[]){{at, sizeof(word), false}, {answer_at, 1, true}},
               2);
    guest_kick(guest, 2 * QUEUES);
    (void)guest_wait(guest, 2 * QUEUES);
    ck_assert_int_eq(guest_memory_read(&guest->memory, answer_at, &answer, 1), 0);
    ck_assert_uint_eq(answer, 0);
}

static unsigned attached_count(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < QUEUES; i++) {
        count += is_attached(queues[i]);
    }
    return count;
}

START_TEST(the_tap_has_the_queues_that_the_driver_uses)
{
    const struct virtio_net_spec spec = {.mac = {2, 2, 2, 2, 2, 2}, .mtu = 1500};
    struct guest guest;
    struct virtio_device *device = NULL;
    ck_assert_int_eq(queues_make(), 0);
    guest_init(&guest);
    ck_assert_int_eq(virtio_net_new(&guest.place, &spec, queues, QUEUES, &device, NULL),
                     0);
    guest_attach(&guest, device);
    ck_assert_uint_eq(attached_count(), 1); /* before a driver there is one */

    guest_drive(&guest, VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_VQ);
    pairs_say(&guest, 3);
    ck_assert_uint_eq(attached_count(), 3);
    pairs_say(&guest, 2);
    ck_assert_uint_eq(attached_count(), 2);
    guest_drive(&guest, 0); /* one that knows nothing of it */
    ck_assert_uint_eq(attached_count(), 1);
    guest_fini(&guest);
}
END_TEST

/* Each change lets all of the host's networking wait: a guest that asks for one after
 * another gets some, and the last word in the end. */
START_TEST(a_guest_that_changes_its_mind_all_the_time_is_slowed)
{
    const struct virtio_net_spec spec = {.mac = {2, 2, 2, 2, 2, 2}, .mtu = 1500};
    struct guest guest;
    struct virtio_device *device = NULL;
    unsigned changes = 0;
    ck_assert_int_eq(queues_make(), 0);
    guest_init(&guest);
    ck_assert_int_eq(virtio_net_new(&guest.place, &spec, queues, QUEUES, &device, NULL),
                     0);
    guest_attach(&guest, device);
    guest_drive(&guest, VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_VQ);
    for (unsigned i = 0; i < 200; i++) {
        const unsigned before = attached_count();
        pairs_say(&guest, i % 2 == 0 ? 3 : 1);
        changes += attached_count() != before;
    }
    ck_assert_uint_lt(changes, 150);
    pairs_say(&guest, 2);
    while (attached_count() != 2) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }
    guest_fini(&guest);
}
END_TEST

int main(void)
{
    if (tap_make() < 0) {
        return test_main_skip("no tap can be made here");
    }
    Suite *suite = suite_create("virtio_net_tap");
    TCase *tests = tcase_create("virtio_net_tap");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, frames_pass_a_tap_whole_in_both_directions);
    tcase_add_test(tests, a_packet_that_the_tap_cannot_tell_of_is_lost_alone);
    tcase_add_test(tests, the_tap_gives_what_the_driver_takes);
    tcase_add_test(tests, frames_made_for_a_driver_that_took_more_are_not_for_the_next);
    tcase_add_test(tests, a_driver_that_takes_the_same_again_costs_the_host_nothing);
    tcase_add_test(tests, a_guest_that_takes_something_else_all_the_time_is_slowed);
    tcase_add_test(tests, the_tap_has_the_queues_that_the_driver_uses);
    tcase_add_test(tests, a_guest_that_changes_its_mind_all_the_time_is_slowed);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
