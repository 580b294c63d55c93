/* Goal: a tap made for a VM stays, is opened with virtio headers, and by one at a time,
 * who may have several of its queues; what goes through it is told as that one sees it.
 * Method: in a network namespace of each test's own (root). */
#include "base/cleanup.h"
#include "net/netlink.h"
#include "net/tap.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void setup(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
}

static int open_one(const char *name, struct err *err)
{
    int fd = -1;
    const int r = tap_open_fds(name, &fd, 1, err);
    ck_assert(r < 0 || r == 1);
    return r < 0 ? r : fd;
}

/* As an earlier release has made them. */
static void old_tap_make(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    CLEANUP_FD int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
    ck_assert_int_eq(ioctl(fd, TUNSETPERSIST, 1), 0);
}

START_TEST(a_tap_stays_when_nobody_holds_it)
{
    struct err err = {0};

    ck_assert_msg(tap_create("bt1", &err) == 0, "%s", err.text);
    ck_assert_uint_ne(if_nametoindex("bt1"), 0);
    ck_assert_int_eq(tap_create("bt1", NULL), 0); /* again is fine */
}
END_TEST

START_TEST(an_engine_gets_frames_with_virtio_headers)
{
    struct ifreq request = {0};

    ck_assert_int_eq(tap_create("bt1", NULL), 0);
    int fd = open_one("bt1", NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ioctl(fd, TUNGETIFF, &request), 0);
    ck_assert_str_eq(request.ifr_name, "bt1");
    ck_assert_int_ne(request.ifr_flags & IFF_VNET_HDR, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    (void)close(fd);
    ck_assert_uint_ne(if_nametoindex("bt1"), 0);
}
END_TEST

START_TEST(a_second_holder_is_refused)
{
    struct err err = {0};

    ck_assert_int_eq(tap_create("bt1", NULL), 0);
    int fd = open_one("bt1", NULL);
    ck_assert_int_eq(open_one("bt1", &err), -EBUSY);
    ck_assert_str_eq(err.text, "open tap bt1: Device or resource busy");
    (void)close(fd);
}
END_TEST

START_TEST(one_holder_may_have_several_queues)
{
    int fds[4];
    int more[2];
    struct err err = {0};
    ck_assert_int_eq(tap_create("bt1", NULL), 0);
    ck_assert(tap_has_queues("bt1"));

    ck_assert_msg(tap_open_fds("bt1", fds, 4, &err) == 4, "%s", err.text);

    struct ifreq detach = {.ifr_flags = IFF_DETACH_QUEUE};
    ck_assert_int_eq(tap_open_fds("bt1", more, 2, NULL), -EBUSY);
    for (unsigned i = 0; i < 4; i++) { /* a queue that gets nothing is held, too */
        ck_assert_int_eq(ioctl(fds[i], TUNSETQUEUE, &detach), 0);
    }
    ck_assert_int_eq(tap_open_fds("bt1", more, 2, NULL), -EBUSY);
    for (unsigned i = 0; i < 4; i++) {
        (void)close(fds[i]);
    }
    ck_assert_int_eq(tap_open_fds("bt1", more, 2, NULL), 2);
    (void)close(more[0]);
    (void)close(more[1]);
}
END_TEST

START_TEST(a_tap_of_the_release_before_has_one_queue)
{
    int fds[4];
    old_tap_make("bt1");
    ck_assert(!tap_has_queues("bt1"));
    ck_assert_int_eq(tap_create("bt1", NULL), 0); /* it is taken as it is */

    ck_assert_int_eq(tap_open_fds("bt1", fds, 4, NULL), 1);

    ck_assert_int_eq(open_one("bt1", NULL), -EBUSY);
    (void)close(fds[0]);
}
END_TEST

START_TEST(opening_what_is_not_there_makes_nothing)
{
    ck_assert_int_eq(open_one("bt2", NULL), -ENODEV);
    ck_assert_uint_eq(if_nametoindex("bt2"), 0);
}
END_TEST

#define FRAME_BYTES  64u
#define HEADER_BYTES 10u

/* A link-local frame of the host's goes to the tap's other end, and back. */
START_TEST(traffic_is_told_as_the_vm_sees_it)
{
    struct tap_traffic before;
    struct tap_traffic after;
    struct netlink *netlink = NULL;
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6};
    const uint8_t frame[HEADER_BYTES + FRAME_BYTES] = {0}; /* for nobody */
    ck_assert_int_eq(tap_create("bt1", NULL), 0);
    CLEANUP_FD int fd = open_one("bt1", NULL);
    ck_assert_int_ge(fd, 0); /* held, and not read */
    ck_assert_int_eq(netlink_open(&netlink, NULL), 0);
    ck_assert_int_eq(netlink_link_up(netlink, "bt1", true, NULL), 0);
    netlink_close(netlink);
    to.sll_ifindex = (int)if_nametoindex("bt1");
    CLEANUP_FD int host = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(tap_traffic_read("bt1", &before), 0);

    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq((int)write(fd, frame, sizeof(frame)), (int)sizeof(frame));
    }
    ck_assert_int_eq((int)sendto(host, frame, FRAME_BYTES, 0,
                                 (struct sockaddr *)(void *)&to, sizeof(to)),
                     (int)FRAME_BYTES);
    uint8_t taken[2048];
    uint64_t rx_packets = 0;
    uint64_t rx_bytes = 0;
    bool seen = false;
    while (!seen) { /* the kernel greets a link that comes up, too */
        const ssize_t size = read(fd, taken, sizeof(taken));
        ck_assert_int_gt(size, (int)HEADER_BYTES);
        rx_packets++;
        rx_bytes += (uint64_t)size - HEADER_BYTES;
        seen = memcmp(taken + HEADER_BYTES, frame, FRAME_BYTES) == 0;
    }

    ck_assert_int_eq(tap_traffic_read("bt1", &after), 0);
    ck_assert_uint_eq(after.tx_packets - before.tx_packets, 3);
    ck_assert_uint_eq(after.tx_bytes - before.tx_bytes, 3 * FRAME_BYTES);
    ck_assert_uint_eq(after.rx_packets - before.rx_packets, rx_packets);
    ck_assert_uint_eq(after.rx_bytes - before.rx_bytes, rx_bytes);
    ck_assert_int_eq(tap_traffic_read("bt2", &after), -ENODEV);
}
END_TEST

/* What nobody takes is dropped when the queue is full. */
START_TEST(what_the_vm_does_not_take_is_dropped)
{
    struct tap_traffic traffic;
    struct netlink *netlink = NULL;
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6};
    const uint8_t frame[FRAME_BYTES] = {0};
    ck_assert_int_eq(tap_create("bt1", NULL), 0);
    CLEANUP_FD int fd = open_one("bt1", NULL);
    ck_assert_int_ge(fd, 0); /* held, and not read */
    ck_assert_int_eq(netlink_open(&netlink, NULL), 0);
    ck_assert_int_eq(netlink_link_up(netlink, "bt1", true, NULL), 0);
    netlink_close(netlink);
    to.sll_ifindex = (int)if_nametoindex("bt1");
    CLEANUP_FD int host = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    do { /* its queue holds some hundreds */
        (void)sendto(host, frame, sizeof(frame), 0, (struct sockaddr *)(void *)&to,
                     sizeof(to));
        ck_assert_int_eq(tap_traffic_read("bt1", &traffic), 0);
    } while (traffic.rx_dropped == 0);

    ck_assert_uint_eq(traffic.rx_packets, 0);
    ck_assert_uint_eq(traffic.tx_packets + traffic.tx_dropped, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tap");
    TCase *c = tcase_create("tap");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, a_tap_stays_when_nobody_holds_it);
    tcase_add_test(c, an_engine_gets_frames_with_virtio_headers);
    tcase_add_test(c, a_second_holder_is_refused);
    tcase_add_test(c, one_holder_may_have_several_queues);
    tcase_add_test(c, a_tap_of_the_release_before_has_one_queue);
    tcase_add_test(c, traffic_is_told_as_the_vm_sees_it);
    tcase_add_test(c, what_the_vm_does_not_take_is_dropped);
    tcase_add_test(c, opening_what_is_not_there_makes_nothing);
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
