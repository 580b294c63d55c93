/* Goal: nothing that a download does not need is left to berth-fetch. Method: a child
 * puts the walls up and tries; which try got through is its exit status (the framework's
 * own files cannot be written behind the walls). */
#include "fetch/fetch_rights.h"
#include "support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WALLS_FAULT 100

static int status_file;
static bool files_are_closed;

static bool status_says(const char *line)
{
    char text[8192];
    ssize_t size = pread(status_file, text, sizeof(text) - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    return strstr(text, line) != NULL;
}

static bool is_another_user(void)
{
    uid_t real;
    uid_t effective;
    uid_t saved;
    return getresuid(&real, &effective, &saved) == 0 && real != 0 && effective == real &&
           saved == real && getgid() != 0 && getgroups(0, NULL) == 0 && setuid(0) != 0;
}

static bool has_no_capability(void)
{
    return status_says("CapInh:\t0000000000000000") &&
           status_says("CapPrm:\t0000000000000000") &&
           status_says("CapEff:\t0000000000000000") &&
           status_says("CapBnd:\t0000000000000000") &&
           status_says("CapAmb:\t0000000000000000");
}

static bool gets_no_new_rights(void)
{
    return status_says("NoNewPrivs:\t1") && status_says("Seccomp:\t2");
}

static bool writes_no_file(void)
{
    return open("/tmp/berth-fetch-test", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0;
}

static bool reads_only_what_it_needs(void)
{
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    int secret = open("/etc/shadow", O_RDONLY | O_CLOEXEC);
    int other = open("/proc/version", O_RDONLY | O_CLOEXEC);
    return fd >= 0 && secret < 0 && (!files_are_closed || other < 0);
}

static bool runs_no_program(void)
{
    char name[] = "true";
    char *const argv[] = {name, NULL};
    return execve("/bin/true", argv, environ) < 0 && errno == EPERM;
}

static bool signals_nobody(void)
{
    return kill(getppid(), 0) < 0 && kill(-1, 0) < 0;
}

static bool has_the_network_and_no_unix_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) >= 0 &&
           socket(AF_INET6, SOCK_STREAM, 0) >= 0 && socket(AF_UNIX, SOCK_STREAM, 0) < 0 &&
           socket(AF_PACKET, SOCK_RAW, 0) < 0 && socket(AF_INET, SOCK_RAW, 1) < 0;
}

static bool opens_few_files(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
           limit.rlim_max <= FETCH_RIGHTS_FILES && getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
           limit.rlim_max == 0 && getrlimit(RLIMIT_CPU, &limit) == 0 &&
           limit.rlim_max <= FETCH_RIGHTS_CPU_S;
}

static void *nothing(void *context)
{
    return context;
}

static bool may_have_a_resolver(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, nothing, NULL) == 0 &&
           pthread_join(thread, NULL) == 0;
}

static const struct {
    const char *name;
    bool (*holds)(void);
    bool as_root; /* only root has it to lose */
} tries[] = {
    {"another user", is_another_user, true},
    {"capabilities", has_no_capability, true},
    {"new rights", gets_no_new_rights, false},
    {"write", writes_no_file, false},
    {"read", reads_only_what_it_needs, false},
    {"run", runs_no_program, false},
    {"signal", signals_nobody, false},
    {"sockets", has_the_network_and_no_unix_socket, false},
    {"limits", opens_few_files, false},
    {"threads", may_have_a_resolver, false},
};

static int try_all(void)
{
    char missing[FETCH_MISSING_SIZE];
    struct err err = {0};
    const bool as_root = geteuid() == 0;
    status_file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fetch_rights_drop(missing, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return WALLS_FAULT;
    }
    files_are_closed = strstr(missing, "files") == NULL;
    for (int i = 0; i < (int)(sizeof(tries) / sizeof(tries[0])); i++) {
        if ((as_root || !tries[i].as_root) && !tries[i].holds()) {
            return i + 1;
        }
    }
    return 0;
}

START_TEST(nothing_is_left_but_what_a_download_needs)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(try_all());
    }

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "signal %d", WTERMSIG(status));
    int failed = WEXITSTATUS(status);
    ck_assert_int_ne(failed, WALLS_FAULT);
    ck_assert_msg(failed == 0, "it got through: %s", tries[failed - 1].name);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fetch_rights");
    TCase *tests = tcase_create("fetch_rights");
    tcase_add_test(tests, nothing_is_left_but_what_a_download_needs);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
