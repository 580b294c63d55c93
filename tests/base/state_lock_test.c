/* Goal: one has a state folder at a time, also when its lock file is removed meanwhile.
 * Method: real files; flock holds between two descriptors of one process as well. */
#include "base/state_lock.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;

static void setup(void)
{
    temp_dir_init(&dir);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static int take(uint64_t wait_ms, struct err *err)
{
    return state_lock_take(dir.path, O_RDWR | O_CREAT, wait_ms, err);
}

START_TEST(a_folder_is_one_s_until_given_back)
{
    struct err err = {0};
    int first = take(0, &err);
    ck_assert_msg(first >= 0, "%s", err.text);
    ck_assert_int_eq(take(0, &err), BERTH_EBUSY);
    ck_assert_ptr_nonnull(strstr(err.text, "is in use by another berthd"));
    (void)close(first);
    int second = take(0, &err);
    ck_assert_msg(second >= 0, "%s", err.text);
    (void)close(second);
}
END_TEST

static void *remove_and_give_back(void *context)
{
    const int *held = context;
    char *path = temp_dir_path(&dir, "lock");
    ck_assert_int_eq(unlink(path), 0);
    free(path);
    (void)close(*held);
    return NULL;
}

/* Whoever waited for the file that was removed has the one that is there now. */
START_TEST(a_removed_lock_is_nobody_s)
{
    struct err err = {0};
    struct stat ours;
    struct stat there;
    pthread_t thread;
    int held = take(0, &err);
    char *path = temp_dir_path(&dir, "lock");
    ck_assert_msg(held >= 0, "%s", err.text);
    ck_assert_int_eq(pthread_create(&thread, NULL, remove_and_give_back, &held), 0);
    int fd = take(UINT64_C(50000), &err);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_msg(fd >= 0, "%s", err.text);
    ck_assert_int_eq(fstat(fd, &ours), 0);
    ck_assert_int_eq(stat(path, &there), 0);
    ck_assert_uint_eq(ours.st_ino, there.st_ino);
    (void)close(fd);
    free(path);
}
END_TEST

START_TEST(where_no_folder_is_nothing_is_locked)
{
    struct err err = {0};
    char *path = temp_dir_path(&dir, "missing");
    ck_assert_int_eq(state_lock_take(path, O_RDWR | O_CREAT, 0, &err), -ENOENT);
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state_lock");
    TCase *tests = tcase_create("state_lock");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_folder_is_one_s_until_given_back);
    tcase_add_test(tests, a_removed_lock_is_nobody_s);
    tcase_add_test(tests, where_no_folder_is_nothing_is_locked);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
