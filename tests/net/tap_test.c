/* Goal: a tap made for a VM stays, is opened with virtio headers, and by one at a time.
 * Method: in a network namespace of each test's own (root). */
#include "base/cleanup.h"
#include "net/netlink.h"
#include "net/tap.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void setup(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
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
    int fd = tap_open_fd("bt1", NULL);
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
    int fd = tap_open_fd("bt1", NULL);
    ck_assert_int_eq(tap_open_fd("bt1", &err), -EBUSY);
    ck_assert_str_eq(err.text, "open tap bt1: Device or resource busy");
    (void)close(fd);
}
END_TEST

START_TEST(opening_what_is_not_there_makes_nothing)
{
    ck_assert_int_eq(tap_open_fd("bt2", NULL), -ENODEV);
    ck_assert_uint_eq(if_nametoindex("bt2"), 0);
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
