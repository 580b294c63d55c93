/* Goal: a device that is no watchdog is refused and left asleep; feeding and the goodbye
 * are what the kernel expects. Method: pipes, and files that are none. */
#include "base/fd.h"
#include "fence/fence_watchdog.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

START_TEST(what_does_not_say_its_timeout_is_no_watchdog)
{
    struct fence_watchdog watchdog;
    struct temp_dir dir;
    struct err err;
    temp_dir_init(&dir);
    temp_dir_write(&dir, "file", "");
    char *path = temp_dir_path(&dir, "file");

    ck_assert_int_eq(fence_watchdog_open(path, 5000, &watchdog, &err),
                     BERTH_EUNSUPPORTED);

    ck_assert_int_eq(watchdog.fd, -1);
    char *text = temp_dir_read(&dir, "file");
    ck_assert_str_eq(text, "V"); /* in case it was one that we do not know */
    free(text);
    free(path);
    temp_dir_fini(&dir);
}
END_TEST

START_TEST(a_missing_device_is_named)
{
    struct fence_watchdog watchdog;
    struct err err;

    ck_assert_int_eq(fence_watchdog_open("/nonexistent/watchdog", 5000, &watchdog, &err),
                     -ENOENT);

    ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/watchdog"));
    ck_assert_int_eq(watchdog.fd, -1);
}
END_TEST

START_TEST(food_is_never_the_goodbye)
{
    int ends[2];
    char bytes[8] = "";
    ck_assert_int_eq(pipe(ends), 0);
    struct fence_watchdog watchdog = {.fd = ends[1], .timeout_ms = 5000};

    fence_watchdog_feed(&watchdog);
    fence_watchdog_starve(&watchdog);
    fence_watchdog_feed(&watchdog); /* all is well again */
    ck_assert(!watchdog.starved);
    fence_watchdog_close(&watchdog);

    ck_assert_int_eq(fd_read_full(ends[0], bytes, sizeof(bytes)), 3);
    ck_assert_mem_eq(bytes, "\0\0V", 3);
    ck_assert_int_eq(watchdog.fd, -1);
    fence_watchdog_close(&watchdog); /* harmless */
    fence_watchdog_feed(&watchdog);
    fence_watchdog_starve(&watchdog);
    ck_assert_int_eq(close(ends[0]), 0);
}
END_TEST

START_TEST(a_device_that_is_gone_is_let_go)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(close(ends[0]), 0);
    ck_assert(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    struct fence_watchdog watchdog = {.fd = ends[1], .timeout_ms = 5000};

    fence_watchdog_feed(&watchdog);

    ck_assert_int_eq(watchdog.fd, -1);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("fence_watchdog");
    TCase *tcase = tcase_create("watchdog");
    tcase_add_test(tcase, what_does_not_say_its_timeout_is_no_watchdog);
    tcase_add_test(tcase, a_missing_device_is_named);
    tcase_add_test(tcase, food_is_never_the_goodbye);
    tcase_add_test(tcase, a_device_that_is_gone_is_let_go);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
