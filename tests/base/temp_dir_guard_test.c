/* Goal: a test that is killed leaves neither its processes nor its folder behind, and one
 * that ends in order is not disturbed. Method: a process of its own plays the test, with
 * a process that outlives it as a VM outlives its daemon. */
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOUND_MS 60000

struct played {
    struct temp_dir dir;
    pid_t vm;
};

enum ending { KILLED = 0, IN_ORDER };

static _Noreturn void idle(void)
{
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    for (;;) {
        pause();
    }
}

/* Works in the folder, in a session of its own. */
static pid_t start_vm(const char *folder)
{
    int ready[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)setsid();
        if (chdir(folder) == 0) {
            (void)!write(ready[1], "x", 1);
        }
        idle();
    }
    ck_assert_int_eq((int)read(ready[0], &byte, 1), 1);
    return pid;
}

/* The test: a guarded folder with a VM in it; then it waits for the word and ends. */
static _Noreturn void play(int told, int words, enum ending ending)
{
    struct played played = {0};
    char word;
    temp_dir_init_guarded(&played.dir);
    temp_dir_write(&played.dir, "disk", "x");
    played.vm = start_vm(played.dir.path);
    (void)!write(told, &played, sizeof(played));
    (void)!read(words, &word, 1);
    if (ending == IN_ORDER) {
        temp_dir_fini(&played.dir);
        _exit(0);
    }
    (void)raise(SIGKILL);
    _exit(1);
}

static void wait_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&poll_fd, 1, BOUND_MS), 1);
}

/* Until the folder itself is removed. */
static void wait_removed(int notify)
{
    for (;;) {
        char events[4096] __attribute__((aligned(8)));
        wait_readable(notify);
        ssize_t size = read(notify, events, sizeof(events));
        ck_assert_int_gt((int)size, 0);
        for (ssize_t at = 0; at < size;) {
            struct inotify_event event;
            memcpy(&event, events + at, sizeof(event));
            if ((event.mask & IN_DELETE_SELF) != 0) {
                return;
            }
            at += (ssize_t)(sizeof(event) + event.len);
        }
    }
}

START_TEST(what_a_test_leaves_behind_is_ended_only_when_it_was_killed)
{
    int told[2];
    int words[2];
    struct played played;
    int status = 0;
    ck_assert_int_eq(pipe(told), 0);
    ck_assert_int_eq(pipe(words), 0);
    pid_t test = fork();
    if (test == 0) {
        play(told[1], words[0], (enum ending)_i);
    }
    ck_assert_int_eq((int)read(told[0], &played, sizeof(played)), (int)sizeof(played));
    pid_t stranger = start_vm("/");
    int notify = inotify_init1(IN_CLOEXEC);
    int vm = pidfd_open(played.vm, 0);
    ck_assert_int_ge(inotify_add_watch(notify, played.dir.path, IN_DELETE_SELF), 0);
    ck_assert_int_ge(vm, 0);

    ck_assert_int_eq((int)write(words[1], "x", 1), 1);
    ck_assert_int_eq(waitpid(test, &status, 0), test);

    if (_i == KILLED) {
        ck_assert(WIFSIGNALED(status));
        wait_removed(notify);
        wait_readable(vm); /* it has ended */
    } else {
        ck_assert_int_eq(status, 0);
        ck_assert_int_ne(access(played.dir.path, F_OK), 0);
        struct pollfd alive = {.fd = vm, .events = POLLIN};
        ck_assert_int_eq(poll(&alive, 1, 0), 0); /* its end is the test's own business */
        ck_assert_int_eq(pidfd_send_signal(vm, SIGKILL, NULL, 0), 0);
    }
    ck_assert_int_eq(waitpid(stranger, NULL, WNOHANG), 0); /* nobody else was touched */
    ck_assert_int_eq(kill(stranger, SIGKILL), 0);
    ck_assert_int_eq(waitpid(stranger, NULL, 0), stranger);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("temp_dir_guard");
    TCase *tests = tcase_create("temp_dir_guard");
    tcase_set_timeout(tests, 90);
    tcase_add_loop_test(tests, what_a_test_leaves_behind_is_ended_only_when_it_was_killed,
                        0, 2);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
