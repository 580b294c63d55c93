#include "support/test_main.h"

#include <check.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* As a shell in front of a person starts it, whoever does: with streams, no signal
 * blocked or ignored (a script ignores SIGINT for what it runs in the background), and
 * files that are its own to read. */
static void start_as_usual(void)
{
    static const int numbers[] = {SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGCHLD, SIGALRM};
    sigset_t none;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            (void)open("/dev/null", O_RDWR); /* gets the lowest number: this one */
        }
    }
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct sigaction now;
        if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler == SIG_IGN) {
            (void)signal(numbers[i], SIG_DFL);
        }
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)umask(022);
}

int test_main_run(Suite *suite)
{
    start_as_usual();
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int run = srunner_ntests_run(runner);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (run == 0) {
        fprintf(stderr, "no test was run\n");
    }
    return run > 0 && failed == 0 ? 0 : 1;
}

int test_main_skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    return TEST_MAIN_SKIPPED;
}

bool test_main_finds(const char *program)
{
    if (access(program, X_OK) == 0) {
        return true;
    }
    fprintf(stderr, "%s is not there: build it first, these tests run it\n", program);
    return false;
}
