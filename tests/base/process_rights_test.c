/* Goal: the walls that are the same around every helper process stand, or the process
 * hears which one does not. Method: a child puts them up and looks; its exit status is
 * the first thing that it did not find. */
#include "base/cleanup.h"
#include "base/process_rights.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define UID 65499 /* nobody's, as those of the real ones are */

static const struct process_limit limits[] = {{RLIMIT_FSIZE, 4096},
                                              {RLIMIT_CPU, 50},
                                              {RLIMIT_CORE, 1u << 30}};
static char status[8192];

static int drop(pid_t parent, struct err *err)
{
    const struct process_rights rights = {.limits = limits,
                                          .limit_count = ARRAY_COUNT(limits),
                                          .uid = UID,
                                          .parent = parent};
    return process_rights_drop(&rights, err);
}

static bool limit_is(int resource, rlim_t most)
{
    struct rlimit limit;
    return getrlimit((__rlimit_resource_t)resource, &limit) == 0 &&
           limit.rlim_cur == most && limit.rlim_max == most;
}

static bool has_limits(void)
{
    return limit_is(RLIMIT_FSIZE, 4096) && limit_is(RLIMIT_CPU, 50);
}

static bool keeps_what_is_lower(void)
{
    return limit_is(RLIMIT_CORE, 7);
}

static bool is_the_user(void)
{
    return getuid() == UID && geteuid() == UID && getgid() == UID && getegid() == UID &&
           getgroups(0, NULL) == 0 && setuid(0) != 0 &&
           strstr(status, "CapBnd:\t0000000000000000") != NULL;
}

static bool has_no_capability(void)
{
    return strstr(status, "CapInh:\t0000000000000000") != NULL &&
           strstr(status, "CapPrm:\t0000000000000000") != NULL &&
           strstr(status, "CapEff:\t0000000000000000") != NULL &&
           strstr(status, "CapAmb:\t0000000000000000") != NULL;
}

static bool gets_no_new_rights(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
           prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0;
}

static bool follows_its_parent(void)
{
    int signal_number = 0;
    return prctl(PR_GET_PDEATHSIG, &signal_number) == 0 && signal_number == SIGKILL;
}

static const struct {
    const char *name;
    bool (*holds)(void);
    bool as_root; /* only root has it to lose */
} walls[] = {
    {"limits", has_limits, false},
    {"lower limits", keeps_what_is_lower, false},
    {"user", is_the_user, true},
    {"capabilities", has_no_capability, false},
    {"no new rights", gets_no_new_rights, false},
    {"parent", follows_its_parent, false},
};

#define NOT_UP ((int)ARRAY_COUNT(walls) + 1)

static int look(void)
{
    const bool is_root = geteuid() == 0;
    const struct rlimit low = {.rlim_cur = 7, .rlim_max = 7};
    const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (setrlimit(RLIMIT_CORE, &low) != 0 || drop(getppid(), NULL) != 0 ||
        read(file, status, sizeof(status) - 1) <= 0) {
        return NOT_UP;
    }
    for (int i = 0; i < (int)ARRAY_COUNT(walls); i++) {
        if ((is_root || !walls[i].as_root) && !walls[i].holds()) {
            return i + 1;
        }
    }
    return 0;
}

/* Before this one: the child of a process that is gone has another parent. */
static int orphan_look(void)
{
    struct err err = {0};
    const int r = drop(getppid() + 1, &err);
    return r == -ESRCH && strstr(err.text, "give up rights: parent") != NULL ? 0 : 1;
}

static int child_status(int (*child)(void))
{
    int ended = 0;
    const pid_t pid = fork();
    if (pid == 0) {
        _exit(child());
    }
    ck_assert_int_eq(waitpid(pid, &ended, 0), pid);
    ck_assert_msg(WIFEXITED(ended), "status %x", ended);
    return WEXITSTATUS(ended);
}

START_TEST(every_wall_stands)
{
    const int missing = child_status(look);

    ck_assert_int_ne(missing, NOT_UP);
    ck_assert_msg(missing == 0, "does not stand: %s", walls[missing - 1].name);
}
END_TEST

START_TEST(a_parent_that_is_gone_already_is_told)
{
    ck_assert_int_eq(child_status(orphan_look), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("process_rights");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, every_wall_stands);
    tcase_add_test(tests, a_parent_that_is_gone_already_is_told);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
