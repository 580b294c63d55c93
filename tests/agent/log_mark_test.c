/* Goal: a log that was lost is not begun anew, and a process that dies at any moment
 * while it begins one leaves no such. Method: calls that change the disk are counted by
 * definitions of our own; a child ends itself at the n-th, before or after it. */
#include "agent/log_mark.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DIED 9

static struct temp_dir dir;
static struct err err;
static int calls;  /* that change the disk, so far */
static int die_at; /* 0: never */
static bool die_after;
static int synced_at; /* the call by which the folder was made durable */
static int renamed_at;

static void one_more(bool before)
{
    calls += before;
    if (calls == die_at && die_after == !before) {
        _exit(DIED);
    }
}

int mkdir(const char *path, mode_t mode)
{
    int (*real)(const char *, mode_t) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "mkdir");
    one_more(true);
    int r = real(path, mode);
    one_more(false);
    return r;
}

int fsync(int fd)
{
    int (*real)(int) = NULL;
    struct stat info;
    *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    one_more(true);
    int r = real(fd);
    one_more(false);
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode) && synced_at == 0) {
        synced_at = calls;
    }
    return r;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    int (*real)(int, const char *, int, const char *) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "renameat");
    one_more(true);
    int r = real(from_folder, from, to_folder, to);
    one_more(false);
    renamed_at = calls;
    return r;
}

static void setup(void)
{
    temp_dir_init(&dir);
    calls = die_at = synced_at = renamed_at = 0;
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static int begin(void)
{
    err = (struct err){0};
    return log_mark_begin(dir.path, "h1", &err);
}

static const char *in_dir(const char *name)
{
    static char path[TEMP_DIR_PATH_SIZE + 32];
    (void)snprintf(path, sizeof(path), "%s/%s", dir.path, name);
    return path;
}

START_TEST(a_log_is_begun_once)
{
    ck_assert_int_eq(begin(), 0);
    ck_assert_int_eq(access(in_dir("raft"), W_OK), 0);
    ck_assert_int_eq(begin(), 0);
    ck_assert_int_eq(rmdir(in_dir("raft")), 0);

    ck_assert_int_eq(begin(), BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(err.text, "raft is missing"));
    ck_assert_ptr_nonnull(strstr(err.text, "berth rm host/h1"));
    ck_assert_int_eq(access(in_dir("raft"), F_OK), -1);
}
END_TEST

START_TEST(a_log_of_an_earlier_release_is_marked_when_it_is_opened)
{
    ck_assert_int_eq(mkdir(in_dir("raft"), 0700), 0);
    ck_assert_int_eq(begin(), 0);
    ck_assert_int_eq(rmdir(in_dir("raft")), 0);
    ck_assert_int_eq(begin(), BERTH_ECORRUPT);
}
END_TEST

START_TEST(a_log_that_was_open_is_not_begun_anew_in_a_folder_that_was_emptied)
{
    ck_assert_int_eq(begin(), 0);
    ck_assert_int_eq(begin(), 0); /* died before it was open */
    FILE *seal = fopen(in_dir("raft/berth-seal"), "w");
    ck_assert_ptr_nonnull(seal);
    (void)fclose(seal);
    ck_assert_int_eq(log_mark_sealed(dir.path, &err), 0);
    ck_assert_int_eq(begin(), 0);
    ck_assert_int_eq(log_mark_sealed(dir.path, &err), 0);
    ck_assert_int_eq(unlink(in_dir("raft/berth-seal")), 0);

    ck_assert_int_eq(begin(), BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(err.text, "was emptied"));
}
END_TEST

START_TEST(a_log_is_there_by_its_folder_or_by_its_mark)
{
    ck_assert(!log_mark_is_there(dir.path));
    ck_assert_int_eq(begin(), 0);
    ck_assert(log_mark_is_there(dir.path));
    ck_assert_int_eq(rmdir(in_dir("raft")), 0);
    ck_assert(log_mark_is_there(dir.path));
    ck_assert_int_eq(unlink(in_dir(LOG_MARK_FILE)), 0);
    ck_assert(!log_mark_is_there(dir.path));
}
END_TEST

START_TEST(the_folder_is_durable_before_it_is_marked)
{
    ck_assert_int_eq(begin(), 0);
    ck_assert_int_gt(synced_at, 0);
    ck_assert_int_gt(renamed_at, synced_at);
}
END_TEST

START_TEST(who_dies_between_any_two_steps_can_go_on)
{
    int status = 0;
    int died = 0;
    die_after = _i == 1;
    for (int at = 1; at == 1 || WEXITSTATUS(status) == DIED; at++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            calls = 0;
            die_at = at;
            _exit(begin() == 0 ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status));
        died += WEXITSTATUS(status) == DIED;

        ck_assert_msg(begin() == 0, "died at %d: %s", at, err.text);

        ck_assert_int_eq(unlink(in_dir(LOG_MARK_FILE)), 0);
        ck_assert_int_eq(rmdir(in_dir("raft")), 0);
    }
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    ck_assert_int_ge(died, 4); /* the folder, its durability, the mark, its own */
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("log_mark");
    TCase *tcase = tcase_create("log_mark");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_log_is_begun_once);
    tcase_add_test(tcase, a_log_of_an_earlier_release_is_marked_when_it_is_opened);
    tcase_add_test(tcase,
                   a_log_that_was_open_is_not_begun_anew_in_a_folder_that_was_emptied);
    tcase_add_test(tcase, a_log_is_there_by_its_folder_or_by_its_mark);
    tcase_add_test(tcase, the_folder_is_durable_before_it_is_marked);
    tcase_add_loop_test(tcase, who_dies_between_any_two_steps_can_go_on, 0, 2);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
