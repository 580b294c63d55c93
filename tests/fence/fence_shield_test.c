/* Goal: what the fence says it has, it has. Method: the kernel is asked. Sanitizers turn
 * mlockall into nothing, so locked memory is looked at only without them: in the tier
 * `faults`. */
#include "base/fd.h"
#include "fence/fence_loop.h"
#include "fence/fence_shield.h"
#include "fence/fence_wire.h"
#include "support/test_main.h"

#include <check.h>

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char *read_whole(const char *path)
{
    uint8_t *text = NULL;
    size_t size;
    ck_assert_int_eq(fd_read_file(AT_FDCWD, path, 1 << 16, &text, &size, NULL), 0);
    return (char *)text;
}

START_TEST(what_it_has_the_kernel_confirms)
{
    uint32_t had = fence_shield();

    if ((had & FENCE_HAS_REAL_TIME) != 0) {
        struct sched_param priority;
        ck_assert_int_eq(sched_getscheduler(0), SCHED_FIFO);
        ck_assert_int_eq(sched_getparam(0, &priority), 0);
        ck_assert_int_eq(priority.sched_priority, FENCE_SHIELD_PRIORITY);
    }
    char *score = read_whole("/proc/self/oom_score_adj");
    ck_assert_int_eq(strcmp(score, "-1000\n") == 0, (had & FENCE_HAS_OOM_SHIELD) != 0);
    free(score);
#if !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__) /* they lock nothing */
    char *status = read_whole("/proc/self/status");
    bool locked = strstr(status, "VmLck:\t       0 kB") == NULL;
    ck_assert_int_eq(locked, (had & FENCE_HAS_LOCKED_MEMORY) != 0);
    free(status);
#endif
}
END_TEST

/* Root may, unless its rights are fewer, or its control group has no real time to give.
 */
static bool may_run_in_real_time(void)
{
    int status = 0;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct sched_param priority = {.sched_priority = FENCE_SHIELD_PRIORITY};
        _exit(sched_setscheduler(0, SCHED_FIFO, &priority) == 0 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status == 0;
}

START_TEST(it_runs_in_real_time_wherever_the_kernel_lets_it)
{
    bool may = may_run_in_real_time();

    uint32_t had = fence_shield();

    ck_assert_int_eq((had & FENCE_HAS_REAL_TIME) != 0, may);
    ck_assert_int_eq(sched_getscheduler(0), may ? SCHED_FIFO : SCHED_OTHER);
}
END_TEST

START_TEST(root_has_locked_memory_and_descriptors_for_every_vm)
{
    struct rlimit files;
    if (geteuid() != 0) {
        return;
    }

    uint32_t had = fence_shield();

    ck_assert_int_ne(had & FENCE_HAS_LOCKED_MEMORY, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
    ck_assert_uint_ge(files.rlim_cur, FENCE_FILES_WANTED);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("fence_shield");
    TCase *tcase = tcase_create("shield");
    tcase_add_test(tcase, what_it_has_the_kernel_confirms);
    tcase_add_test(tcase, it_runs_in_real_time_wherever_the_kernel_lets_it);
    tcase_add_test(tcase, root_has_locked_memory_and_descriptors_for_every_vm);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
