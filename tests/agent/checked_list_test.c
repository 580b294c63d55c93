/* Goal: what was checked is known after a restart in the same boot, and nothing of a list
 * that is not whole or of another boot is believed. Method: the list in a real folder. */
#include "agent/checked_list.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;
static char boot[CHECKED_BOOT_SIZE];
static const struct checked_file files[] = {
    {.digest = {.bytes = {1, 2, 3}},
     .file = {1, 2, 3, 4, 5},
     .unpacked = {6, 7, 8, 9, 10}},
    {.digest = {.bytes = {4}}, .file = {1, 3, UINT64_MAX, 4, 5}},
};

static void start(void)
{
    temp_dir_init(&dir);
    CLEANUP_FREE char *tmp = temp_dir_path(&dir, "tmp");
    ck_assert_int_eq(mkdir(tmp, 0700), 0);
    checked_list_boot(boot);
    ck_assert_int_eq(checked_list_write(dir.path, boot, files, 2), 0);
}

static void stop(void)
{
    temp_dir_fini(&dir);
}

static int read_count(const char *of_boot, unsigned max)
{
    struct checked_file got[2];
    return checked_list_read(dir.path, of_boot, got, max);
}

START_TEST(what_was_written_is_read)
{
    struct checked_file got[2];
    ck_assert_uint_eq(strlen(boot), 36);

    ck_assert_int_eq(checked_list_read(dir.path, boot, got, 2), 2);

    for (unsigned i = 0; i < 2; i++) {
        ck_assert(digest_equal(&got[i].digest, &files[i].digest));
        ck_assert(file_identity_equal(&got[i].file, &files[i].file));
        ck_assert(file_identity_equal(&got[i].unpacked, &files[i].unpacked));
    }
}
END_TEST

START_TEST(of_another_boot_nothing_is_believed)
{
    char other[CHECKED_BOOT_SIZE] = "11111111-2222-3333-4444-555555555555";
    char none[CHECKED_BOOT_SIZE] = "";
    ck_assert_int_eq(read_count(other, 2), 0);
    ck_assert_int_eq(read_count(none, 2), 0);
    ck_assert_int_eq(read_count(boot, 1), 0);
    ck_assert_int_eq(checked_list_write(dir.path, none, files, 2), 0);
    ck_assert_int_eq(read_count(none, 2), 0);
}
END_TEST

START_TEST(of_a_list_that_is_not_whole_nothing_is_believed)
{
    CLEANUP_FREE char *path = temp_dir_path(&dir, CHECKED_LIST_NAME);
    struct stat status;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &status), 0);
    for (off_t at = 0; at < status.st_size; at++) {
        uint8_t byte = 0;
        ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
        byte ^= 1;
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
        ck_assert_int_eq(read_count(boot, 2), BERTH_ECORRUPT);
        byte ^= 1;
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    }
    ck_assert_int_eq(read_count(boot, 2), 2);
    for (off_t size = status.st_size - 1; size >= 0; size--) {
        ck_assert_int_eq(ftruncate(fd, size), 0);
        ck_assert_int_eq(read_count(boot, 2), BERTH_ECORRUPT);
    }
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(read_count(boot, 2), 0);
}
END_TEST

START_TEST(whatever_is_done_to_a_file_shows)
{
    CLEANUP_FREE char *path = temp_dir_path(&dir, "file");
    CLEANUP_FREE char *away = temp_dir_path(&dir, "away");
    temp_dir_write(&dir, "file", "one");
    const struct file_identity before = file_identity_at(path);
    ck_assert_uint_ne(before.ino, 0);
    struct file_identity now = file_identity_at(path);
    ck_assert(file_identity_equal(&before, &now));

    ck_assert_int_eq(rename(path, away), 0);
    now = file_identity_at(path);
    ck_assert_uint_eq(now.ino, 0);
    temp_dir_write(&dir, "file", "two");

    now = file_identity_at(path);
    ck_assert(!file_identity_equal(&before, &now));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checked_list");
    TCase *tests = tcase_create("checked_list");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, what_was_written_is_read);
    tcase_add_test(tests, of_another_boot_nothing_is_believed);
    tcase_add_test(tests, of_a_list_that_is_not_whole_nothing_is_believed);
    tcase_add_test(tests, whatever_is_done_to_a_file_shows);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
