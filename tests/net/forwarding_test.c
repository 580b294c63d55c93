/* Goal: the host's switch is as it was before once it is not needed any more, and is
 * never taken for ours when it is somebody else's. Method: a network namespace of each
 * test's own (root), where the switch is off at first. */
#include "base/cleanup.h"
#include "net/forwarding.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

static struct temp_dir dir;
static char note[512];

static void by_hand(char value)
{
    CLEANUP_FD int fd = open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC);
    ck_assert_int_eq(write(fd, &value, 1), 1);
}

static void new_namespace(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    by_hand('0');
}

static void setup(void)
{
    new_namespace();
    temp_dir_init(&dir);
    (void)snprintf(note, sizeof(note), "%s/" FORWARDING_NOTE, dir.path);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static void switch_on(void)
{
    struct err err = {0};
    ck_assert_msg(forwarding_switch_on(dir.path, &err) == 0, "%s", err.text);
    ck_assert(forwarding_is_on());
}

static void switch_back(void)
{
    struct err err = {0};
    ck_assert_msg(forwarding_switch_back(dir.path, &err) == 0, "%s", err.text);
    ck_assert_int_ne(access(note, F_OK), 0);
    ck_assert(!forwarding_is_ours(dir.path));
}

START_TEST(what_was_off_is_off_again)
{
    switch_on();
    ck_assert(forwarding_is_ours(dir.path));
    switch_on(); /* another daemon on the same folder */
    ck_assert(forwarding_is_ours(dir.path));

    switch_back();
    ck_assert(!forwarding_is_on());
    switch_back();
}
END_TEST

START_TEST(what_was_on_stays_on)
{
    by_hand('1');
    switch_on();
    ck_assert(!forwarding_is_ours(dir.path));

    switch_back();
    ck_assert(forwarding_is_on());
}
END_TEST

START_TEST(what_is_off_already_is_left_alone)
{
    switch_on();
    by_hand('0');

    switch_back();
    ck_assert(!forwarding_is_on());
}
END_TEST

/* As after a start of the machine, when its own set-up may have it on. */
START_TEST(a_note_of_another_kernel_says_nothing)
{
    switch_on();
    new_namespace();
    by_hand('1');
    ck_assert(!forwarding_is_ours(dir.path));

    switch_back();
    ck_assert(forwarding_is_on());
}
END_TEST

START_TEST(nothing_is_switched_that_cannot_be_written_down)
{
    struct err err = {0};
    ck_assert_int_lt(forwarding_switch_on("/no-such-folder", &err), 0);
    ck_assert(!forwarding_is_on());
}
END_TEST

int main(void)
{
    if (geteuid() != 0) {
        return test_main_skip("it takes root");
    }
    Suite *suite = suite_create("forwarding");
    TCase *tests = tcase_create("forwarding");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_was_off_is_off_again);
    tcase_add_test(tests, what_was_on_stays_on);
    tcase_add_test(tests, what_is_off_already_is_left_alone);
    tcase_add_test(tests, a_note_of_another_kernel_says_nothing);
    tcase_add_test(tests, nothing_is_switched_that_cannot_be_written_down);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
