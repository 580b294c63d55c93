/* Goal: a process is told from another, and its state is seen. Method: real children. */
#include "base/proc_stat.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t sleeper(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            (void)pause();
        }
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

START_TEST(a_living_process_shows_its_state)
{
    struct proc_stat stat;
    pid_t pid = sleeper();

    ck_assert_int_eq(proc_stat_read(pid, &stat), 0);
    ck_assert_uint_gt(stat.start_ticks, 0);
    ck_assert_uint_gt(stat.memory_bytes, 0);
    ck_assert(!proc_stat_is_dead(&stat) && !proc_stat_is_stopped(&stat));

    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    ck_assert_int_eq(waitpid(pid, NULL, WUNTRACED), pid);
    ck_assert_int_eq(proc_stat_read(pid, &stat), 0);
    ck_assert(proc_stat_is_stopped(&stat) && !proc_stat_is_dead(&stat));
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

START_TEST(a_name_with_brackets_and_spaces_does_not_confuse)
{
    struct proc_stat before;
    struct proc_stat after;
    ck_assert_int_eq(proc_stat_read(getpid(), &before), 0);

    ck_assert_int_eq(prctl(PR_SET_NAME, "a) Z 1 (b", 0, 0, 0), 0);

    ck_assert_int_eq(proc_stat_read(getpid(), &after), 0);
    ck_assert_uint_eq(after.start_ticks, before.start_ticks);
    ck_assert_int_eq(after.state, 'R');
}
END_TEST

START_TEST(a_dead_process_is_seen_before_and_after_it_is_reaped)
{
    struct proc_stat stat;
    siginfo_t info;
    pid_t pid = sleeper();
    int pidfd = pidfd_open(pid, 0);
    ck_assert_int_eq(proc_pid_of(pidfd), pid);

    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    ck_assert_int_eq(proc_stat_read(pid, &stat), 0);
    ck_assert(proc_stat_is_dead(&stat));

    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert_int_eq(proc_stat_read(pid, &stat), -ESRCH);
    ck_assert_int_eq(proc_pid_of(pidfd), -ESRCH);
    ck_assert_int_eq(close(pidfd), 0);
}
END_TEST

START_TEST(what_is_no_pidfd_is_said)
{
    ck_assert_int_eq(proc_pid_of(-1), -EBADF);
    ck_assert_int_eq(proc_pid_of(0), -EBADF);
    ck_assert_int_eq(proc_stat_read(0, &(struct proc_stat){0}), -ESRCH);
    ck_assert_int_eq(proc_stat_read(-5, &(struct proc_stat){0}), -ESRCH);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("proc_stat");
    TCase *tcase = tcase_create("proc_stat");
    tcase_add_test(tcase, a_living_process_shows_its_state);
    tcase_add_test(tcase, a_name_with_brackets_and_spaces_does_not_confuse);
    tcase_add_test(tcase, a_dead_process_is_seen_before_and_after_it_is_reaped);
    tcase_add_test(tcase, what_is_no_pidfd_is_said);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
