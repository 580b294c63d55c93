/* Goal: a test finds what it takes for granted, however it was started. Method: this
 * program once more, with streams closed, signals blocked and ignored, and files that
 * nobody may read. */
#include "support/test_main.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define INNER "inner"

static const char *program;

START_TEST(streams_signals_and_files_are_as_usual)
{
    sigset_t blocked;
    struct sigaction action;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
    }
    ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &blocked), 0);
    ck_assert_int_eq(sigismember(&blocked, SIGCHLD), 0);
    ck_assert_int_eq(sigaction(SIGINT, NULL, &action), 0);
    ck_assert(action.sa_handler != SIG_IGN);
    ck_assert_int_eq(sigaction(SIGCHLD, NULL, &action), 0);
    ck_assert(action.sa_handler != SIG_IGN);
    ck_assert_uint_eq(umask(022), 022);
}
END_TEST

START_TEST(a_program_that_was_started_badly_tests_all_the_same)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t all;
        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, NULL);
        (void)signal(SIGINT, SIG_IGN);
        (void)signal(SIGCHLD, SIG_IGN);
        (void)umask(0777);
        (void)close(STDIN_FILENO);
        (void)close(STDOUT_FILENO);
        (void)close(STDERR_FILENO);
        (void)execl(program, program, INNER, (char *)NULL);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(status == 0, "it ended with status %#x", (unsigned)status);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("test_main");
    TCase *tests = tcase_create("test_main");
    program = argv[0];
    tcase_add_test(tests, streams_signals_and_files_are_as_usual);
    if (argc < 2 || strcmp(argv[1], INNER) != 0) {
        tcase_add_test(tests, a_program_that_was_started_badly_tests_all_the_same);
    }
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
