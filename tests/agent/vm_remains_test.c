/* Goal: nothing that runs for a VM is overlooked, and nothing else is touched. Method:
 * real processes that work in a folder. */
#include "agent/vm_lock.h"
#include "agent/vm_remains.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct temp_dir dir;
static pid_t child;

/* A process that works in that folder, from when this returns. */
static pid_t worker_in(const char *folder)
{
    int ready[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(folder) == 0) {
            (void)!write(ready[1], "x", 1);
        }
        for (;;) {
            pause();
        }
    }
    ck_assert_int_eq((int)read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    return pid;
}

static void setup(void)
{
    temp_dir_init_guarded(&dir);
    child = worker_in(dir.path);
}

static void teardown(void)
{
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    temp_dir_fini(&dir);
}

static struct vm_remains in_folder(const char *folder)
{
    return (struct vm_remains){.uid = 7, .folder = folder};
}

START_TEST(what_works_in_the_folder_is_found_and_ended)
{
    struct vm_remains remains = in_folder(dir.path);

    ck_assert_int_eq(vm_remains_signal(&remains, 0), 1);
    ck_assert_int_eq(kill(child, 0), 0);
    while (vm_remains_signal(&remains, SIGKILL) != 0) {
        sched_yield();
    }

    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
END_TEST

START_TEST(what_works_beside_or_below_the_folder_is_left_alone)
{
    char *beside = temp_dir_path(&dir, "beside");
    ck_assert_int_eq(mkdir(beside, 0700), 0);
    char *missing = temp_dir_path(&dir, "missing");
    struct vm_remains sibling = in_folder(beside);
    struct vm_remains nowhere = in_folder(missing);

    ck_assert_int_eq(vm_remains_signal(&sibling, SIGKILL), 0);
    ck_assert_int_eq(vm_remains_signal(&nowhere, SIGKILL), 0);

    ck_assert_int_eq(kill(child, 0), 0);
    ck_assert_int_eq(waitpid(child, NULL, WNOHANG), 0);
    free(beside);
    free(missing);
}
END_TEST

START_TEST(what_holds_the_lock_of_the_folder_is_found_wherever_it_works)
{
    char *elsewhere = temp_dir_path(&dir, "elsewhere");
    char *folder = temp_dir_path(&dir, "vm");
    ck_assert_int_eq(mkdir(elsewhere, 0700), 0);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    int lock = vm_lock_take(folder, 1, NULL);
    ck_assert_int_ge(lock, 0);
    struct vm_remains remains = in_folder(folder);
    ck_assert_int_eq(vm_remains_signal(&remains, SIGKILL), 0);
    int spare =
        fcntl(lock, F_DUPFD, 32); /* what is at its number in a test does not matter */
    ck_assert_int_eq(dup2(spare, VM_PROCESS_LOCK_AT), VM_PROCESS_LOCK_AT);

    pid_t jailed = worker_in(elsewhere);

    ck_assert_int_eq(vm_remains_signal(&remains, 0), 1);
    while (vm_remains_signal(&remains, SIGKILL) != 0) {
        sched_yield();
    }
    int status = 0;
    ck_assert_int_eq(waitpid(jailed, &status, 0), jailed);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    free(elsewhere);
    free(folder);
}
END_TEST

START_TEST(a_process_known_by_name_is_found_wherever_it_works)
{
    char *beside = temp_dir_path(&dir, "beside");
    ck_assert_int_eq(mkdir(beside, 0700), 0);
    struct vm_process_identity identity;
    ck_assert_int_eq(vm_process_identify(child, &identity), 0);
    struct vm_remains remains = in_folder(beside);
    remains.identity = &identity;

    ck_assert_int_eq(vm_remains_signal(&remains, 0), 1);
    identity.start_ticks++; /* another process by now */
    ck_assert_int_eq(vm_remains_signal(&remains, SIGKILL), 0);

    ck_assert_int_eq(waitpid(child, NULL, WNOHANG), 0);
    free(beside);
}
END_TEST

/* Who cannot look does not know that nothing runs. */
START_TEST(without_descriptors_it_cannot_be_told)
{
    struct vm_remains remains = in_folder(dir.path);
    struct rlimit before;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int r = vm_remains_signal(&remains, 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);

    ck_assert_int_lt(r, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vm_remains");
    TCase *tests = tcase_create("vm_remains");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_works_in_the_folder_is_found_and_ended);
    tcase_add_test(tests, what_works_beside_or_below_the_folder_is_left_alone);
    tcase_add_test(tests, what_holds_the_lock_of_the_folder_is_found_wherever_it_works);
    tcase_add_test(tests, a_process_known_by_name_is_found_wherever_it_works);
    tcase_add_test(tests, without_descriptors_it_cannot_be_told);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
