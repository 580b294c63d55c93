/* What cannot be tested here is the power cut itself; the order write, fsync, rename,
 * fsync is read in the source. What can: old or new, never a part, and nothing left
 * behind on failure. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;

static void setup(void)
{
    temp_dir_init(&dir);
    ck_assert_int_eq(chdir(dir.path), 0);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static int file_count(const char *folder)
{
    int count = 0;
    DIR *entries = opendir(folder);
    ck_assert_ptr_nonnull(entries);
    for (struct dirent *entry = readdir(entries); entry != NULL;
         entry = readdir(entries)) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    (void)closedir(entries);
    return count;
}

START_TEST(a_file_is_made_with_its_content_and_mode)
{
    struct stat status;
    (void)umask(077);
    ck_assert_int_eq(file_atomic_write("file", "hello", 5, 0644, NULL), 0);
    CLEANUP_FREE char *text = temp_dir_read(&dir, "file");
    ck_assert_str_eq(text, "hello");
    ck_assert_int_eq(stat("file", &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0644);
    ck_assert_int_eq(file_count("."), 1);
}
END_TEST

START_TEST(an_old_file_is_replaced_and_its_readers_keep_the_old_one)
{
    char old[4] = "";
    ck_assert_int_eq(file_atomic_write("file", "old", 3, 0600, NULL), 0);
    CLEANUP_FD int reader = fd_open_at(AT_FDCWD, "file", O_RDONLY, 0, NULL);

    ck_assert_int_eq(file_atomic_write("file", "", 0, 0600, NULL), 0);

    ck_assert_int_eq(fd_read_full(reader, old, 3), 3);
    ck_assert_str_eq(old, "old");
    CLEANUP_FREE char *text = temp_dir_read(&dir, "file");
    ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(a_path_through_a_linked_folder_works)
{
    ck_assert_int_eq(fd_make_folders("real", NULL), 0);
    ck_assert_int_eq(symlink("real", "link"), 0);
    ck_assert_int_eq(file_atomic_write("link/file", "x", 1, 0600, NULL), 0);
    ck_assert_int_eq(access("real/file", F_OK), 0);
}
END_TEST

START_TEST(a_missing_folder_is_an_error_with_words)
{
    struct err err = {0};
    ck_assert_int_eq(file_atomic_write("none/file", "x", 1, 0600, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "write none/file"));
    ck_assert_int_eq(file_atomic_write("real/", "x", 1, 0600, &err), -EISDIR);
}
END_TEST

START_TEST(a_failed_write_keeps_the_old_file_and_leaves_nothing)
{
    const struct rlimit limit = {.rlim_cur = 10, .rlim_max = RLIM_INFINITY};
    struct err err = {0};
    ck_assert_int_eq(file_atomic_write("file", "old", 3, 0600, NULL), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);

    int r = file_atomic_write("file", "far more than ten bytes", 23, 0600, &err);

    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    ck_assert_int_eq(r, -EFBIG);
    CLEANUP_FREE char *text = temp_dir_read(&dir, "file");
    ck_assert_str_eq(text, "old");
    ck_assert_int_eq(file_count("."), 1);
}
END_TEST

START_TEST(a_folder_in_the_place_of_the_file_is_an_error)
{
    ck_assert_int_eq(fd_make_folders("folder/x", NULL), 0);
    ck_assert_int_lt(file_atomic_write("folder", "x", 1, 0600, NULL), 0);
    ck_assert_int_eq(file_count("."), 1);
}
END_TEST

START_TEST(a_name_too_long_for_its_temporary_is_an_error)
{
    char name[252];
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    ck_assert_int_eq(file_atomic_write(name, "x", 1, 0600, NULL), -ENAMETOOLONG);
}
END_TEST

static int
make_hello(void *context, uint8_t **ret_data, size_t *ret_size, struct err *err)
{
    int *asked = context;
    (*asked)++;
    *ret_data = (uint8_t *)strdup("hello");
    *ret_size = 5;
    return *asked > 1 ? err_set(err, BERTH_EBUSY, "asked twice") : 0;
}

START_TEST(what_is_not_there_is_made_once_and_read_from_then_on)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int asked = 0;
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(file_atomic_read_or_make("file", 5, 0600, make_hello, &asked,
                                                  &data, &size, NULL),
                         0);
        ck_assert_str_eq((const char *)data, "hello");
        ck_assert_uint_eq(size, 5);
        free(data);
    }
    ck_assert_int_eq(asked, 1);
    CLEANUP_FREE char *text = temp_dir_read(&dir, "file");
    ck_assert_str_eq(text, "hello");
}
END_TEST

START_TEST(what_cannot_be_made_or_written_leaves_nothing)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int asked = 1;
    struct err err = {0};
    ck_assert_int_eq(
        file_atomic_read_or_make("file", 5, 0600, make_hello, &asked, &data, &size, &err),
        BERTH_EBUSY);
    ck_assert_str_eq(err.text, "asked twice");
    asked = 0;
    ck_assert_int_eq(file_atomic_read_or_make("no/file", 5, 0600, make_hello, &asked,
                                              &data, &size, &err),
                     -ENOENT);
    ck_assert_ptr_null(data);
    ck_assert_int_eq(file_count("."), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_atomic");
    TCase *tcase = tcase_create("file_atomic");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_file_is_made_with_its_content_and_mode);
    tcase_add_test(tcase, an_old_file_is_replaced_and_its_readers_keep_the_old_one);
    tcase_add_test(tcase, a_path_through_a_linked_folder_works);
    tcase_add_test(tcase, a_missing_folder_is_an_error_with_words);
    tcase_add_test(tcase, a_failed_write_keeps_the_old_file_and_leaves_nothing);
    tcase_add_test(tcase, a_folder_in_the_place_of_the_file_is_an_error);
    tcase_add_test(tcase, a_name_too_long_for_its_temporary_is_an_error);
    tcase_add_test(tcase, what_is_not_there_is_made_once_and_read_from_then_on);
    tcase_add_test(tcase, what_cannot_be_made_or_written_leaves_nothing);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
