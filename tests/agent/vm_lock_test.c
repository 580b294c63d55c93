/* Goal: two processes of one VM cannot be, and the epoch only grows. Method: real
 * processes that inherit the lock. */
#include "agent/vm_lock.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A process that holds what was open when it began. */
static pid_t holder(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            (void)pause();
        }
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

static void end(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(a_folder_is_free_again_when_its_process_has_ended)
{
    struct temp_dir dir;
    struct err err = {0};
    temp_dir_init(&dir);
    ck_assert(!vm_lock_is_held(dir.path));
    int fd = vm_lock_take(dir.path, 1, &err);
    ck_assert_msg(fd >= 0, "%s", err.text);

    pid_t vm = holder();
    ck_assert_int_eq(close(fd), 0); /* as a daemon that dies */
    ck_assert_int_eq(vm_lock_take(dir.path, 2, &err), BERTH_EINUSE);
    ck_assert_ptr_nonnull(strstr(err.text, "still lives"));
    ck_assert(vm_lock_is_held(dir.path));

    end(vm);
    ck_assert(!vm_lock_is_held(dir.path));
    fd = vm_lock_take(dir.path, 2, &err);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(close(fd), 0);
    temp_dir_fini(&dir);
}
END_TEST

START_TEST(an_epoch_below_one_that_ran_is_refused)
{
    struct temp_dir dir;
    struct err err = {0};
    temp_dir_init(&dir);
    int fd = vm_lock_take(dir.path, UINT64_C(12345678901234567890), &err);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(close(fd), 0);

    ck_assert_int_eq(vm_lock_take(dir.path, 7, &err), BERTH_ESTALE);
    ck_assert_ptr_nonnull(strstr(err.text, "12345678901234567890"));
    fd = vm_lock_take(dir.path, UINT64_C(12345678901234567890), &err); /* not begun yet */
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(close(fd), 0);
    temp_dir_fini(&dir);
}
END_TEST

START_TEST(a_refused_epoch_changes_nothing)
{
    struct temp_dir dir;
    temp_dir_init(&dir);
    int fd = vm_lock_take(dir.path, 5, NULL);
    ck_assert_int_ge(fd, 0);

    ck_assert_int_eq(vm_lock_take(dir.path, 6, NULL), BERTH_EINUSE);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(vm_lock_take(dir.path, 4, NULL), BERTH_ESTALE);

    fd = vm_lock_take(dir.path, 5, NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0); /* passed on purpose only */
    ck_assert_int_eq(close(fd), 0);
    temp_dir_fini(&dir);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_an_error)
{
    struct err err = {0};

    ck_assert_int_lt(vm_lock_take("/nonexistent/vm", 1, &err), 0);

    ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/vm"));
    ck_assert(!vm_lock_is_held("/nonexistent/vm"));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("vm_lock");
    TCase *tcase = tcase_create("lock");
    tcase_add_test(tcase, a_folder_is_free_again_when_its_process_has_ended);
    tcase_add_test(tcase, an_epoch_below_one_that_ran_is_refused);
    tcase_add_test(tcase, a_refused_epoch_changes_nothing);
    tcase_add_test(tcase, a_folder_that_is_not_there_is_an_error);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
