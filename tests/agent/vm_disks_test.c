/* Goal: of a VM's folder only its disks go when a run gets new ones. Method: a folder
 * with files as the engines and the supervisor leave them. */
#include "agent/vm_disks.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <dirent.h>
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
    temp_dir_init_guarded(&dir);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static bool has(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static unsigned files(void)
{
    unsigned count = 0;
    DIR *entries = opendir(dir.path);
    ck_assert_ptr_nonnull(entries);
    const struct dirent *entry;
    while ((entry = readdir(entries)) != NULL) {
        count += entry->d_name[0] != '.';
    }
    ck_assert_int_eq(closedir(entries), 0);
    return count;
}

START_TEST(disks_go_and_all_else_stays)
{
    temp_dir_write(&dir, "disk-root.qcow2", "x");
    temp_dir_write(&dir, "disk-data.overlay.new", "x");
    temp_dir_write(&dir, "record.json", "x");
    temp_dir_write(&dir, "run.lock", "x");
    temp_dir_write(&dir, "serial.log", "x");

    ck_assert_int_eq(vm_disks_renew(dir.path, "", NULL), 0);

    ck_assert(!has("disk-root.qcow2") && !has("disk-data.overlay.new"));
    vm_disks_sweep(dir.path);
    ck_assert_uint_eq(files(), 3);
    ck_assert(has("record.json") && has("run.lock") && has("serial.log"));
}
END_TEST

static unsigned links_of(int fd)
{
    struct stat stat;
    ck_assert_int_eq(fstat(fd, &stat), 0);
    return (unsigned)stat.st_nlink;
}

static void make_folder(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    free(path);
}

static int open_new(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    free(path);
    return fd;
}

/* Nor is that of what a crash has left: it may take seconds, each. */
START_TEST(nothing_is_removed_before_the_sweep)
{
    int fds[] = {open_new("gone-0"), open_new("disk-root.overlay"), -1, -1};
    make_folder("restored.new");
    fds[2] = open_new("restored.new/disk-root.overlay");
    make_folder("restored");
    fds[3] = open_new("restored/disk-root.overlay");

    ck_assert_int_eq(vm_disks_settle(dir.path, NULL), 0);
    ck_assert(has("disk-root.overlay") && !has("restored") && !has("restored.new"));
    ck_assert_int_eq(vm_disks_renew(dir.path, "", NULL), 0);
    ck_assert(!has("disk-root.overlay"));

    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(links_of(fds[i]), 1);
    }
    vm_disks_sweep(dir.path);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(links_of(fds[i]), 0);
        ck_assert_int_eq(close(fds[i]), 0);
    }
    ck_assert_uint_eq(files(), 0);
}
END_TEST

/* As when its host's disk is stuck: not one more is kept, but none is in the way. */
START_TEST(what_cannot_be_moved_aside_is_removed)
{
    char name[32];
    for (unsigned i = 0; i < 256; i++) {
        (void)snprintf(name, sizeof(name), "gone-%u", i);
        temp_dir_write(&dir, name, "x");
    }
    temp_dir_write(&dir, "disk-root.overlay", "x");

    ck_assert_int_eq(vm_disks_renew(dir.path, "", NULL), 0);

    ck_assert_uint_eq(files(), 256);
    ck_assert(!has("disk-root.overlay"));
}
END_TEST

START_TEST(what_they_lie_on_is_noted_until_they_are_renewed)
{
    char base[ENGINE_PATH_SIZE] = "as it was";
    ck_assert(!vm_disks_base(dir.path, base));
    ck_assert_str_eq(base, "as it was");
    ck_assert_int_eq(vm_disks_renew(dir.path, "/images/one", NULL), 0);
    ck_assert(vm_disks_base(dir.path, base)); /* though no such file is there */
    ck_assert_str_eq(base, "/images/one");
    ck_assert_int_eq(vm_disks_renew(dir.path, "/images/two", NULL), 0);
    ck_assert(vm_disks_base(dir.path, base));
    ck_assert_str_eq(base, "/images/two");
    ck_assert_int_eq(vm_disks_renew(dir.path, "", NULL), 0);
    ck_assert(!vm_disks_base(dir.path, base));
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_said_to_be_missing)
{
    struct err err = {0};
    char *path = temp_dir_path(&dir, "gone");
    ck_assert_int_eq(vm_disks_renew(path, "", &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "gone"));
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vm_disks");
    TCase *tests = tcase_create("vm_disks");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, disks_go_and_all_else_stays);
    tcase_add_test(tests, nothing_is_removed_before_the_sweep);
    tcase_add_test(tests, what_cannot_be_moved_aside_is_removed);
    tcase_add_test(tests, what_they_lie_on_is_noted_until_they_are_renewed);
    tcase_add_test(tests, a_folder_that_is_not_there_is_said_to_be_missing);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
