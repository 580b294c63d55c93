/* Goal: a copy of a log's folder is its files, whole, in the first place that can take
 * it; nothing of it is left when it is removed, and nothing is changed where it is of. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "consensus/log_copy.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPARSE_SIZE ((size_t)8 << 20)
#define ENOUGH      UINT64_MAX /* of memory */

static struct temp_dir dir; /* log/ is the log's; a/ and b/ are places */
static char *folder;
static char *first;
static char *second;
static struct log_copy copy;
static struct err err;

static void setup(void)
{
    temp_dir_init(&dir);
    folder = temp_dir_path(&dir, "log");
    first = temp_dir_path(&dir, "a");
    second = temp_dir_path(&dir, "b");
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(mkdir(first, 0700), 0);
    ck_assert_int_eq(mkdir(second, 0700), 0);
    temp_dir_write(&dir, "log/metadata1", "some bytes");
    temp_dir_write(&dir, "log/open-1", "entries");
    temp_dir_write(&dir, "log/empty", "");
    CLEANUP_FREE char *open_file = temp_dir_path(&dir, "log/open-1");
    ck_assert_int_eq(truncate(open_file, SPARSE_SIZE), 0);
    copy = (struct log_copy){.folder = ""};
}

static void teardown(void)
{
    free(folder);
    free(first);
    free(second);
    temp_dir_fini(&dir);
}

static size_t count_of(const char *path)
{
    size_t count = 0;
    DIR *stream = opendir(path);
    ck_assert_ptr_nonnull(stream);
    for (struct dirent *item = readdir(stream); item != NULL; item = readdir(stream)) {
        count += item->d_name[0] != '.';
    }
    (void)closedir(stream);
    return count;
}

static void same_file(const char *name)
{
    char path[PATH_MAX + 32];
    CLEANUP_FREE uint8_t *want = NULL;
    CLEANUP_FREE uint8_t *have = NULL;
    size_t want_size = 0;
    size_t have_size = 0;
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    ck_assert_int_eq(fd_read_file(AT_FDCWD, path, 64u << 20, &want, &want_size, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/%s", copy.folder, name);
    ck_assert_int_eq(fd_read_file(AT_FDCWD, path, 64u << 20, &have, &have_size, &err), 0);
    ck_assert_uint_eq(have_size, want_size);
    ck_assert_mem_eq(have, want, want_size);
}

START_TEST(a_copy_is_the_files_and_goes_without_a_rest)
{
    struct stat info;
    ck_assert_msg(log_copy_make(folder, &copy, &err) == 0, "%s", err.text);

    same_file("metadata1");
    same_file("open-1");
    same_file("empty");
    ck_assert_uint_eq(count_of(copy.folder), 3);
    ck_assert_int_eq(stat(copy.folder, &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0700);

    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s", copy.folder);
    log_copy_remove(&copy);
    ck_assert_int_eq(stat(path, &info), -1);
    ck_assert_uint_eq(count_of(folder), 3);
    log_copy_remove(&copy);
}
END_TEST

START_TEST(zeros_take_no_room)
{
    struct stat info;
    char path[PATH_MAX + 32];
    CLEANUP_FREE char *ready = temp_dir_path(&dir, "log/open-1");
    int fd = open(ready, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(posix_fallocate(fd, 0, (off_t)SPARSE_SIZE), 0);
    (void)close(fd);
    ck_assert_int_eq(log_copy_make(folder, &copy, &err), 0);

    (void)snprintf(path, sizeof(path), "%s/open-1", copy.folder);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_int_lt(info.st_blocks * 512, 1 << 20);
    log_copy_remove(&copy);
}
END_TEST

START_TEST(the_first_place_that_can_take_it_does)
{
    CLEANUP_FREE char *missing = temp_dir_path(&dir, "missing");
    const struct log_copy_place places[] = {
        {.path = missing, .size_max = UINT64_MAX},
        {.path = "/proc", .size_max = UINT64_MAX}, /* nothing can be made there */
        {.path = first, .size_max = LOG_COPY_EXTRA + SPARSE_SIZE}, /* not the others */
        {.path = second, .size_max = UINT64_MAX},
        {.path = NULL, .size_max = UINT64_MAX},
    };
    ck_assert_msg(
        log_copy_make_in(places, ARRAY_COUNT(places), ENOUGH, folder, &copy, &err) == 0,
        "%s", err.text);
    ck_assert_int_eq(strncmp(copy.folder, second, strlen(second)), 0);
    ck_assert_uint_eq(count_of(first), 0);
    log_copy_remove(&copy);
    ck_assert_uint_eq(count_of(second), 0);

    ck_assert_int_eq(log_copy_make_in(&places[4], 1, ENOUGH, folder, &copy, &err), 0);
    same_file("open-1");
    ck_assert_uint_eq(count_of(dir.path), 4); /* beside the log */
    log_copy_remove(&copy);
    ck_assert_uint_eq(count_of(dir.path), 3);

    ck_assert_int_eq(log_copy_make_in(places, 3, ENOUGH, folder, &copy, &err),
                     BERTH_EDISKFULL);
    ck_assert_msg(strstr(err.text, "for its 9MiB: ") != NULL, "%s", err.text);
    ck_assert_msg(strstr(err.text, ", /proc, ") != NULL, "%s", err.text);
    ck_assert_str_eq(copy.folder, "");
}
END_TEST

/* What a file system in memory has room for is no promise: who loads the copy needs as
 * much again. */
START_TEST(memory_takes_no_copy_that_is_not_available)
{
    const uint64_t size = LOG_COPY_EXTRA + SPARSE_SIZE + 4096; /* of the three files */
    const struct log_copy_place places[] = {
        {.path = first, .size_max = UINT64_MAX, .memory = true},
        {.path = second, .size_max = UINT64_MAX},
    };
    ck_assert_int_eq(log_copy_make_in(places, 2, 2 * size - 2, folder, &copy, &err), 0);
    ck_assert_int_eq(strncmp(copy.folder, second, strlen(second)), 0);
    log_copy_remove(&copy);
    ck_assert_int_eq(log_copy_make_in(places, 2, 2 * size, folder, &copy, &err), 0);
    ck_assert_int_eq(strncmp(copy.folder, first, strlen(first)), 0);
    log_copy_remove(&copy);
}
END_TEST

/* Made by a look that is killed before it is through. Its folder. */
static void killed_look(const struct log_copy_place *place, char path[PATH_MAX])
{
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (log_copy_make_in(place, 1, ENOUGH, folder, &copy, &err) == 0) {
            (void)!write(ends[1], copy.folder, sizeof(copy.folder));
        }
        (void)kill(getpid(), SIGKILL);
    }
    (void)close(ends[1]);
    ck_assert_int_eq(fd_read_full(ends[0], path, PATH_MAX), PATH_MAX);
    (void)close(ends[0]);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(what_a_killed_look_has_left_goes_and_nothing_else)
{
    const struct log_copy_place places[] = {
        {.path = first, .size_max = UINT64_MAX},
        {.path = NULL, .size_max = UINT64_MAX},
    };
    struct stat info;
    char left[2][PATH_MAX];
    CLEANUP_FREE char *target = temp_dir_path(&dir, "keep");
    CLEANUP_FREE char *link = temp_dir_path(&dir, "a/berth-look-link");
    CLEANUP_FREE char *file = temp_dir_path(&dir, "a/berth-look-file");
    ck_assert_int_eq(mkdir(target, 0700), 0);
    temp_dir_write(&dir, "keep/this", "x");
    temp_dir_write(&dir, "a/berth-look-file", "x");
    ck_assert_int_eq(symlink(target, link), 0);
    killed_look(&places[0], left[0]);
    killed_look(&places[1], left[1]);
    ck_assert_int_eq(stat(left[0], &info), 0);
    ck_assert_int_eq(stat(left[1], &info), 0);
    ck_assert_int_eq(log_copy_make_in(places, 1, ENOUGH, folder, &copy, &err), 0);

    log_copy_sweep_in(places, 2, folder);

    ck_assert_int_eq(stat(left[0], &info), -1);
    ck_assert_int_eq(stat(left[1], &info), -1);
    ck_assert_int_eq(lstat(link, &info), 0);
    ck_assert_int_eq(stat(file, &info), 0);
    ck_assert_uint_eq(count_of(target), 1);
    same_file("open-1"); /* somebody still looks at it */
    log_copy_remove(&copy);
    ck_assert_uint_eq(count_of(first), 2);
}
END_TEST

/* As where the log is: a look before has been killed. */
START_TEST(the_next_look_removes_what_was_left_beside_the_log)
{
    const struct log_copy_place beside = {.size_max = UINT64_MAX};
    struct stat info;
    char left[PATH_MAX];
    killed_look(&beside, left);
    ck_assert_int_eq(log_copy_make(folder, &copy, &err), 0);
    ck_assert_int_eq(stat(left, &info), -1);
    log_copy_remove(&copy);
}
END_TEST

START_TEST(what_the_log_s_folder_holds_besides_files_is_passed_over)
{
    CLEANUP_FREE char *found = temp_dir_path(&dir, "log/lost+found");
    CLEANUP_FREE char *link = temp_dir_path(&dir, "log/link");
    ck_assert_int_eq(mkdir(found, 0700), 0);
    ck_assert_int_eq(symlink("/etc/passwd", link), 0);
    ck_assert_msg(log_copy_make(folder, &copy, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(count_of(copy.folder), 3);
    log_copy_remove(&copy);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_an_error)
{
    CLEANUP_FREE char *missing = temp_dir_path(&dir, "missing");
    ck_assert_int_eq(log_copy_make(missing, &copy, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, missing));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_copy");
    TCase *tests = tcase_create("log_copy");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_copy_is_the_files_and_goes_without_a_rest);
    tcase_add_test(tests, zeros_take_no_room);
    tcase_add_test(tests, the_first_place_that_can_take_it_does);
    tcase_add_test(tests, memory_takes_no_copy_that_is_not_available);
    tcase_add_test(tests, what_a_killed_look_has_left_goes_and_nothing_else);
    tcase_add_test(tests, the_next_look_removes_what_was_left_beside_the_log);
    tcase_add_test(tests, what_the_log_s_folder_holds_besides_files_is_passed_over);
    tcase_add_test(tests, a_folder_that_is_not_there_is_an_error);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
