/* Goal: what was handed over is used, once, and nothing else by accident; what has a name
 * is opened by it. Method: real descriptors, sockets and paths of this process. */
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/vmm_open.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;
static char where[128];

static void setup(void)
{
    temp_dir_init(&dir);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

typedef int opener(const char *where, struct err *err);

static int open_file(const char *at, struct err *err)
{
    return vmm_open_file(at, O_RDONLY, err);
}

static int open_tap(const char *place, struct err *err)
{
    return vmm_open_tap(place, 0, 1, err);
}

static opener *const openers[] = {open_file, vmm_open_listener, open_tap, vmm_open_stream,
                                  vmm_open_dialer};
#define OPENERS (sizeof(openers) / sizeof(openers[0]))

START_TEST(what_is_handed_over_is_taken_as_it_is_and_once)
{
    struct err err = {0};
    int inherited = open("/dev/null", O_RDONLY);
    (void)snprintf(where, sizeof(where), "fd:%d", inherited);

    ck_assert_int_eq(openers[_i](where, &err), inherited);

    ck_assert_int_eq(fcntl(inherited, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(openers[_i](where, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "used twice"));
    (void)close(inherited);
}
END_TEST

static const char *const wrong[] = {"fd:",   "fd:x",  "fd:0",         "fd:2",
                                    "fd:-1", "fd:99", "fd:4294967299"};

START_TEST(a_descriptor_that_is_none_is_refused)
{
    struct err err = {0};
    for (unsigned i = 0; i < OPENERS; i++) {
        ck_assert_int_eq(openers[i](wrong[_i], &err), BERTH_EINVALID);
        ck_assert_ptr_nonnull(strstr(err.text, wrong[_i]));
    }
}
END_TEST

static const char *const nameless[OPENERS] = {
    "/no/such/file", "unix:/no/such/folder/s", "tap:no-such-tap", "unix:/no/such/socket",
    ("unix:/a-path-that-leaves-no-room-for-a-port-behind-it/a"
     "nd-goes-on-until-it-has-97-bytes---------------")};

START_TEST(a_name_that_is_not_there_is_named)
{
    struct err err = {0};

    ck_assert_int_lt(openers[_i](nameless[_i], &err), 0);

    ck_assert_ptr_nonnull(strstr(err.text, strrchr(nameless[_i], ':') == NULL
                                               ? nameless[_i]
                                               : strrchr(nameless[_i], ':') + 1));
}
END_TEST

START_TEST(a_listener_is_connected_to_by_its_name_again_and_again)
{
    (void)snprintf(where, sizeof(where), "unix:%.80s/socket", dir.path);
    for (unsigned i = 0; i < 2; i++) { /* the second finds what the first one left */
        int listener = vmm_open_listener(where, NULL);
        ck_assert_int_ge(listener, 0);
        int stream = vmm_open_stream(where, NULL);
        ck_assert_int_ge(stream, 0);
        int client = accept4(listener, NULL, NULL, 0);
        ck_assert_int_ge(client, 0);
        (void)close(client);
        (void)close(stream);
        (void)close(listener);
    }
}
END_TEST

START_TEST(a_name_of_the_wrong_kind_is_refused)
{
    struct err err = {0};
    char name[300] = "unix:/";
    memset(name + 6, 'x', sizeof(name) - 7);

    ck_assert_int_eq(vmm_open_listener("/tmp/x", &err), BERTH_EINVALID);
    ck_assert_int_eq(vmm_open_listener(name, &err), BERTH_EINVALID);
    ck_assert_int_eq(open_tap("eth0", &err), BERTH_EINVALID);
    ck_assert_int_eq(open_tap("tap:", &err), BERTH_EINVALID);
    ck_assert_int_eq(vmm_open_dialer("/x/v", &err), BERTH_EINVALID);
    ck_assert_int_eq(open_tap("tap:longer-than-a-name-of-one", &err), BERTH_EINVALID);
}
END_TEST

START_TEST(the_queues_of_a_tap_are_descriptors_that_follow_each_other)
{
    struct err err = {0};
    int pipes[2];
    ck_assert_int_eq(pipe(pipes), 0); /* two that are free, one behind the other */
    ck_assert_int_eq(pipes[1], pipes[0] + 1);
    (void)snprintf(where, sizeof(where), "fd:%d", pipes[0]);

    ck_assert_int_eq(vmm_open_tap(where, 0, 3, &err), pipes[0]);
    ck_assert_int_eq(vmm_open_tap(where, 1, 3, &err), pipes[1]);
    ck_assert_int_eq(vmm_open_tap(where, 2, 3, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "not open"));
    ck_assert_int_eq(vmm_open_tap(where, 1, 3, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "used twice"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmm_open");
    TCase *tests = tcase_create("vmm_open");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, what_is_handed_over_is_taken_as_it_is_and_once, 0,
                        OPENERS);
    tcase_add_loop_test(tests, a_descriptor_that_is_none_is_refused, 0,
                        sizeof(wrong) / sizeof(wrong[0]));
    tcase_add_loop_test(tests, a_name_that_is_not_there_is_named, 0, OPENERS);
    tcase_add_test(tests, a_listener_is_connected_to_by_its_name_again_and_again);
    tcase_add_test(tests, a_name_of_the_wrong_kind_is_refused);
    tcase_add_test(tests, the_queues_of_a_tap_are_descriptors_that_follow_each_other);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
