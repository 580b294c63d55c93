#include "base/cleanup.h"
#include "base/fd.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

START_TEST(descriptors_are_closed_on_exec)
{
    temp_dir_write(&dir, "file", "text");
    int fd = fd_open_at(AT_FDCWD, "file", O_RDONLY, 0, NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    fd_close(&fd);
    ck_assert_int_eq(fd, -1);
    fd_close(&fd);
}
END_TEST

START_TEST(a_file_that_is_opened_again_is_read_from_its_begin_and_not_written)
{
    char byte = 0;
    temp_dir_write(&dir, "file", "text");
    int fd = fd_open_at(AT_FDCWD, "file", O_RDWR, 0, NULL);
    ck_assert_int_eq(read(fd, &byte, 1), 1);
    int again = fd_reopen(fd, O_RDONLY, NULL);
    ck_assert_int_ge(again, 0);
    ck_assert_int_eq(fcntl(again, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert_int_eq(write(again, "x", 1), -1);
    ck_assert_int_eq(read(again, &byte, 1), 1);
    ck_assert_int_eq(byte, 't');
    fd_close(&again);
    fd_close(&fd);
    ck_assert_int_eq(fd_reopen(fd, O_RDONLY, NULL), -ENOENT);
}
END_TEST

START_TEST(a_missing_file_and_a_link_are_refused_with_words)
{
    struct err err = {0};
    temp_dir_write(&dir, "file", "text");
    ck_assert_int_eq(symlink("file", "link"), 0);
    ck_assert_int_eq(fd_open_at(AT_FDCWD, "none", O_RDONLY, 0, &err), -ENOENT);
    ck_assert_str_eq(err.text, "open none: No such file or directory");
    ck_assert_int_eq(fd_open_at(AT_FDCWD, "link", O_RDONLY, 0, &err), -ELOOP);
}
END_TEST

/* A pipe gives what the writer wrote in pieces. */
START_TEST(whole_reads_and_writes_outlast_a_pipe_s_pieces)
{
    int ends[2];
    char data[3 * 4096];
    char read_back[4 * 4096];
    memset(data, 'x', sizeof(data));
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(fd_write_full(ends[1], data, 5), 0);
    ck_assert_int_eq(fd_write_full(ends[1], data, sizeof(data) - 5), 0);
    ck_assert_int_eq(fd_read_full(ends[0], read_back, 7), 7);
    fd_close(&ends[1]);

    ssize_t count = fd_read_full(ends[0], read_back, sizeof(read_back));

    ck_assert_int_eq(count, (ssize_t)sizeof(data) - 7);
    fd_close(&ends[0]);
    ck_assert_int_eq(fd_read_full(-1, read_back, 1), -EBADF);
    ck_assert_int_eq(fd_write_full(-1, data, 1), -EBADF);
}
END_TEST

START_TEST(a_read_within_a_time_ends_with_the_data_or_with_the_time)
{
    static const char data[] = "said";
    char read_back[64];
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(fd_write_full(ends[1], data, sizeof(data)), 0);
    ck_assert_int_eq(fd_read_within(ends[0], read_back, 2, 60000), 2);

    ck_assert_int_eq(fd_read_within(ends[0], read_back, sizeof(read_back), 1),
                     -ETIMEDOUT); /* who could write more says nothing */

    ck_assert_int_eq(fd_write_full(ends[1], data, sizeof(data)), 0);
    fd_close(&ends[1]);
    ck_assert_int_eq(fd_read_within(ends[0], read_back, sizeof(read_back), 60000),
                     (ssize_t)sizeof(data));
    fd_close(&ends[0]);
    ck_assert_int_eq(fd_read_within(ends[0], read_back, 1, 60000), -EBADF);
}
END_TEST

START_TEST(an_empty_nonblocking_pipe_says_again)
{
    int ends[2];
    char byte;
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(fd_set_nonblocking(ends[0]), 0);
    ck_assert_int_eq(fd_read_full(ends[0], &byte, 1), -EAGAIN);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    ck_assert_int_eq(fd_set_nonblocking(-1), -EBADF);
}
END_TEST

/* Sizes around the chunks in which a file is read. */
static const size_t file_sizes[] = {0, 1, 65535, 65536, 65537, 131072, 300000};

START_TEST(a_whole_file_is_read_with_a_nul_after_it)
{
    size_t file_size = file_sizes[_i];
    CLEANUP_FREE char *text = malloc(file_size + 1);
    memset(text, 'x', file_size);
    text[file_size] = '\0';
    temp_dir_write(&dir, "file", text);

    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(fd_read_file(AT_FDCWD, "file", file_size, &data, &size, NULL), 0);

    ck_assert_uint_eq(size, file_size);
    ck_assert_str_eq((const char *)data, text);
    if (file_size > 0) {
        struct err err = {0};
        uint8_t *more = NULL;
        ck_assert_int_eq(
            fd_read_file(AT_FDCWD, "file", file_size - 1, &more, &size, &err),
            BERTH_ETOOLARGE);
        ck_assert_ptr_null(more);
        ck_assert_ptr_nonnull(strstr(err.text, "read file: it holds more than"));
    }
}
END_TEST

START_TEST(files_without_a_size_are_read_too)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(
        fd_read_file(AT_FDCWD, "/proc/self/status", 1 << 20, &data, &size, NULL), 0);
    ck_assert_ptr_nonnull(strstr((const char *)data, "Pid:"));
}
END_TEST

START_TEST(a_folder_is_not_read_as_a_file)
{
    struct err err = {0};
    uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(fd_read_file(AT_FDCWD, dir.path, 10, &data, &size, &err), -EISDIR);
    ck_assert_ptr_nonnull(strstr(err.text, "Is a directory"));
}
END_TEST

START_TEST(folders_are_made_on_the_way_and_private)
{
    struct stat status;
    (void)umask(0);
    ck_assert_int_eq(fd_make_folders("a//b/c/", NULL), 0);
    ck_assert_int_eq(fd_make_folders("a/b/c", NULL), 0);
    ck_assert_int_eq(stat("a/b/c", &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0700);
    ck_assert_int_eq(fd_make_folders(dir.path, NULL), 0);
    ck_assert_int_eq(fd_make_folders("/", NULL), 0);
}
END_TEST

START_TEST(a_file_in_the_way_of_a_folder_is_named)
{
    struct err err = {0};
    temp_dir_write(&dir, "file", "");
    ck_assert_int_eq(fd_make_folders("file/x", &err), -ENOTDIR);
    ck_assert_str_eq(err.text, "make folder file: Not a directory");
    ck_assert_int_eq(fd_make_folders("", &err), -ENOENT);
}
END_TEST

START_TEST(only_a_folder_is_made_durable_as_one)
{
    struct err err = {0};
    temp_dir_write(&dir, "file", "");
    ck_assert_int_eq(fd_sync_folder(dir.path, NULL), 0);
    ck_assert_int_eq(fd_sync_folder("file", &err), -ENOTDIR);
    ck_assert_int_eq(fd_sync_folder("missing", &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "missing"));
}
END_TEST

START_TEST(a_tree_is_removed_without_following_links)
{
    ck_assert_int_eq(fd_make_folders("tree/a/b", NULL), 0);
    ck_assert_int_eq(fd_make_folders("kept", NULL), 0);
    temp_dir_write(&dir, "kept/file", "kept");
    temp_dir_write(&dir, "tree/a/b/file", "gone");
    ck_assert_int_eq(symlink("../../kept", "tree/a/link"), 0);
    ck_assert_int_eq(mkfifo("tree/fifo", 0600), 0);
    for (int i = 0; i < 200; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "tree/a/%d", i);
        temp_dir_write(&dir, name, "");
    }

    struct err err = {0};
    ck_assert_msg(fd_remove_tree("tree", &err) == 0, "%s", err.text);

    ck_assert_int_eq(access("tree", F_OK), -1);
    ck_assert_int_eq(access("kept/file", F_OK), 0);
    ck_assert_int_eq(fd_remove_tree("tree", NULL), 0); /* missing is fine */
}
END_TEST

START_TEST(a_link_or_a_file_is_not_removed_as_a_tree)
{
    temp_dir_write(&dir, "file", "");
    ck_assert_int_eq(fd_make_folders("kept", NULL), 0);
    temp_dir_write(&dir, "kept/inside", "");
    ck_assert_int_eq(symlink("kept", "link"), 0);
    ck_assert_int_lt(fd_remove_tree("link", NULL), 0);
    ck_assert_int_lt(fd_remove_tree("file", NULL), 0);
    ck_assert_int_eq(access("kept/inside", F_OK), 0);
    ck_assert_int_eq(access("file", F_OK), 0);
}
END_TEST

START_TEST(a_tree_deeper_than_the_limit_is_an_error)
{
    char path[256] = "d0";
    for (int i = 1; i < 32; i++) {
        size_t size = strlen(path);
        (void)snprintf(path + size, sizeof(path) - size, "/d%d", i);
    }
    ck_assert_int_eq(fd_make_folders(path, NULL), 0);
    ck_assert_int_eq(fd_remove_tree("d0", NULL), 0);

    size_t size = strlen(path);
    (void)snprintf(path + size, sizeof(path) - size, "/d32");
    ck_assert_int_eq(fd_make_folders(path, NULL), 0);
    ck_assert_int_eq(fd_remove_tree("d0", NULL), -ELOOP);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fd");
    TCase *tcase = tcase_create("fd");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, descriptors_are_closed_on_exec);
    tcase_add_test(tcase,
                   a_file_that_is_opened_again_is_read_from_its_begin_and_not_written);
    tcase_add_test(tcase, a_missing_file_and_a_link_are_refused_with_words);
    tcase_add_test(tcase, whole_reads_and_writes_outlast_a_pipe_s_pieces);
    tcase_add_test(tcase, a_read_within_a_time_ends_with_the_data_or_with_the_time);
    tcase_add_test(tcase, an_empty_nonblocking_pipe_says_again);
    tcase_add_loop_test(tcase, a_whole_file_is_read_with_a_nul_after_it, 0,
                        ARRAY_COUNT(file_sizes));
    tcase_add_test(tcase, files_without_a_size_are_read_too);
    tcase_add_test(tcase, a_folder_is_not_read_as_a_file);
    tcase_add_test(tcase, folders_are_made_on_the_way_and_private);
    tcase_add_test(tcase, a_file_in_the_way_of_a_folder_is_named);
    tcase_add_test(tcase, only_a_folder_is_made_durable_as_one);
    tcase_add_test(tcase, a_tree_is_removed_without_following_links);
    tcase_add_test(tcase, a_link_or_a_file_is_not_removed_as_a_tree);
    tcase_add_test(tcase, a_tree_deeper_than_the_limit_is_an_error);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
