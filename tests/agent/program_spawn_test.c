/* Goal: a program that we start has what it is given and nothing of ours. Method: the
 * system's own tools in its place, which say what they have. */
#include "agent/program_spawn.h"
#include "support/test_main.h"

#include <check.h>

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char name[] = "tool";
static char said[8192];

/* What it writes to its stdout, which is the only descriptor that it is given. */
static void run(const char *path, char *const *argv)
{
    char variable[] = "GIVEN=1";
    char *const environment[] = {variable, NULL};
    struct err err = {0};
    size_t length = 0;
    ssize_t got = 0;
    int ends[2];
    int status = 0;
    pid_t pid = 0;
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    const struct program_spawn program = {.name = name,
                                          .path = path,
                                          .argv = argv,
                                          .environment = environment,
                                          .fds = {-1, ends[1], -1}};

    const int r = program_spawn(&program, &pid, &err);

    ck_assert_msg(r == 0, "%s", err.text);
    (void)close(ends[1]);
    while ((got = read(ends[0], said + length, sizeof(said) - 1 - length)) > 0) {
        length += (size_t)got;
    }
    said[length] = '\0';
    (void)close(ends[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

/* Whether the mask of that name has the signal. */
static bool mask_has(const char *mask, int number)
{
    const char *at = strstr(said, mask);
    ck_assert_ptr_nonnull(at);
    return (strtoull(at + strlen(mask), NULL, 16) >> (number - 1) & 1u) != 0;
}

START_TEST(it_has_the_environment_that_it_is_given)
{
    char *const argv[] = {name, NULL};
    ck_assert_int_eq(setenv("BERTH_TEST_SECRET", "s", 1), 0);

    run("/usr/bin/env", argv);

    ck_assert_str_eq(said, "GIVEN=1\n");
}
END_TEST

START_TEST(it_has_no_descriptor_of_ours)
{
    char script[] = "for fd in 0 2; do readlink /proc/self/fd/$fd; done\n"
                    "[ -e /proc/$$/fd/77 ] && echo inherited; exit 0";
    char option[] = "-c";
    char *const argv[] = {name, option, script, NULL};
    ck_assert_int_eq(dup2(STDERR_FILENO, 77), 77); /* not closed by exec */

    run("/bin/sh", argv);

    (void)close(77);
    ck_assert_str_eq(said, "/dev/null\n/dev/null\n");
}
END_TEST

START_TEST(no_signal_is_blocked_or_ignored)
{
    char file[] = "/proc/self/status";
    char *const argv[] = {name, file, NULL};
    sigset_t blocked;
    sigset_t before;
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGTERM);
    ck_assert_int_eq(sigprocmask(SIG_BLOCK, &blocked, &before), 0);
    ck_assert(signal(SIGHUP, SIG_IGN) != SIG_ERR);

    run("/bin/cat", argv);

    ck_assert(signal(SIGHUP, SIG_DFL) != SIG_ERR);
    ck_assert_int_eq(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    ck_assert(!mask_has("SigBlk:", SIGTERM));
    ck_assert(!mask_has("SigIgn:", SIGHUP));
}
END_TEST

START_TEST(its_terminal_and_its_session_are_its_own)
{
    char file[] = "/proc/self/stat";
    char *const argv[] = {name, file, NULL};
    int pid = 0;
    int session = 0;

    run("/bin/cat", argv);

    ck_assert_int_eq(sscanf(said, "%d (%*[^)]) %*c %*d %*d %d", &pid, &session), 2);
    ck_assert_int_eq(session, pid);
}
END_TEST

START_TEST(a_program_that_is_not_there_is_named)
{
    char *const argv[] = {name, NULL};
    const struct program_spawn missing = {.name = name,
                                          .path = "/nonexistent/tool",
                                          .argv = argv,
                                          .environment = argv + 1,
                                          .fds = {-1, -1, -1}};
    struct err err = {0};
    pid_t pid = 0;

    ck_assert_int_eq(program_spawn(&missing, &pid, &err), BERTH_ECHILD);

    ck_assert_str_eq(err.text, "start /nonexistent/tool: No such file or directory");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("program_spawn");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, it_has_the_environment_that_it_is_given);
    tcase_add_test(tests, it_has_no_descriptor_of_ours);
    tcase_add_test(tests, no_signal_is_blocked_or_ignored);
    tcase_add_test(tests, its_terminal_and_its_session_are_its_own);
    tcase_add_test(tests, a_program_that_is_not_there_is_named);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
