/* Goal: what a disk could not use is refused before it is one, and no file is written by
 * one disk and had by another. Method: descriptors of temporary files, opened in every
 * way; disks over some of them. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/disk_access.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_raw.h"

#include <check.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DISK_BYTES 1048576

static struct temp_dir dir;

static int open_as(const char *name, int flags)
{
    CLEANUP_FREE char *path = temp_dir_path(&dir, name);
    const int fd = open(path, flags | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static int path_of(const char *name)
{
    CLEANUP_FREE char *path = temp_dir_path(&dir, name);
    const int fd = open(path, O_PATH | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static int whole(const char *name)
{
    const int fd = open_as(name, O_RDWR);
    ck_assert_int_eq(ftruncate(fd, DISK_BYTES), 0);
    return fd;
}

static struct virtual_disk *raw_of(int take_fd, bool read_only)
{
    struct disk_file *file = NULL;
    struct virtual_disk *disk = NULL;
    ck_assert_int_eq(disk_file_new(take_fd, &file, NULL), 0);
    ck_assert_int_eq(disk_raw_new(file, read_only, &disk, NULL), 0);
    return disk;
}

static struct virtual_disk *overlay_of(int take_fd, int take_base)
{
    static const struct digest none = {{0}};
    struct disk_file *file = NULL;
    struct virtual_disk *disk = NULL;
    struct err err = {0};
    ck_assert_int_eq(ftruncate(take_fd, (off_t)disk_overlay_file_size(DISK_BYTES)), 0);
    ck_assert_int_eq(disk_file_new(take_fd, &file, NULL), 0);
    ck_assert_int_eq(disk_overlay_create(file, DISK_BYTES, DISK_BYTES, &none, NULL), 0);
    ck_assert_msg(disk_overlay_open(file, raw_of(take_base, true), &none, &disk, &err) ==
                      0,
                  "%s", err.text);
    return disk;
}

static void set_up(void)
{
    temp_dir_init(&dir);
}

static void tear_down(void)
{
    temp_dir_fini(&dir);
}

static const struct mode_row {
    int flags;
    const char *to_read; /* NULL: that is fine */
    const char *to_write;
} modes[] = {
    {O_RDWR, NULL, NULL},
    {O_RDONLY, NULL, "the descriptor is not open for reading and writing"},
    {O_WRONLY, "the descriptor is not open for reading",
     "the descriptor is not open for reading"},
    {O_PATH, "the descriptor is not open for reading",
     "the descriptor is not open for reading"},
    {O_RDWR | O_APPEND, NULL,
     "the descriptor is open to append (O_APPEND): a disk is written all over"},
    {O_RDONLY | O_APPEND, NULL, "the descriptor is not open for reading and writing"},
};

START_TEST(a_descriptor_is_open_for_what_the_disk_does)
{
    const struct mode_row *row = &modes[_i / 2];
    const bool writes = _i % 2 == 1;
    const char *words = writes ? row->to_write : row->to_read;
    struct err err = {0};
    (void)close(whole("disk"));
    CLEANUP_FD int fd =
        row->flags == O_PATH ? path_of("disk") : open_as("disk", row->flags);

    const int r = disk_access_check(fd, writes, &err);

    ck_assert_int_eq(r, words == NULL ? 0 : BERTH_EINVALID);
    ck_assert_str_eq(err.text, words == NULL ? "" : words);
}
END_TEST

START_TEST(what_is_no_descriptor_is_refused)
{
    ck_assert_int_eq(disk_access_check(-1, false, NULL), BERTH_EINVALID);
    ck_assert(!disk_access_is_same(-1, -1));
}
END_TEST

START_TEST(a_file_is_the_same_by_any_of_its_names)
{
    CLEANUP_FREE char *path = temp_dir_path(&dir, "disk");
    CLEANUP_FREE char *other_path = temp_dir_path(&dir, "other");
    CLEANUP_FD int fd = whole("disk");
    ck_assert_int_eq(link(path, other_path), 0);
    CLEANUP_FD int same = open_as("other", O_RDONLY);
    CLEANUP_FD int other = whole("third");

    ck_assert(disk_access_is_same(fd, same));
    ck_assert(!disk_access_is_same(fd, other));
}
END_TEST

enum { RAW = 0, READ_ONLY, OVERLAY };

static struct virtual_disk *disk_of(int kind)
{
    return kind == OVERLAY ? overlay_of(whole("file"), whole("base"))
                           : raw_of(whole("file"), kind == READ_ONLY);
}

static const struct use_row {
    int kind;
    const char *name;
    bool writes;
    const char *words; /* NULL: it is free */
} uses[] = {
    {RAW, "file", true, "disk old writes this file"},
    {RAW, "file", false, "disk old writes this file"},
    {RAW, "free", true, NULL},
    {READ_ONLY, "file", false, NULL},
    {READ_ONLY, "file", true, "disk old reads this file, which would be written"},
    {OVERLAY, "file", false, "disk old writes this file"},
    {OVERLAY, "base", false, NULL},
    {OVERLAY, "base", true, "disk old reads this file, which would be written"},
    {OVERLAY, "free", true, NULL},
};

START_TEST(a_file_is_written_by_one_disk_alone_and_then_read_by_no_other)
{
    const struct use_row *row = &uses[_i];
    struct err err = {0};
    struct virtual_disk *disk = disk_of(row->kind);
    CLEANUP_FD int fd = open_as(row->name, O_RDWR);

    const int r = disk_access_beside(disk, "old", fd, row->writes, &err);

    ck_assert_int_eq(r, row->words == NULL ? 0 : BERTH_EBUSY);
    ck_assert_str_eq(err.text, row->words == NULL ? "" : row->words);
    disk_free(disk);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_access");
    TCase *tests = tcase_create("disk_access");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, a_descriptor_is_open_for_what_the_disk_does, 0,
                        2 * ARRAY_COUNT(modes));
    tcase_add_test(tests, what_is_no_descriptor_is_refused);
    tcase_add_test(tests, a_file_is_the_same_by_any_of_its_names);
    tcase_add_loop_test(tests,
                        a_file_is_written_by_one_disk_alone_and_then_read_by_no_other, 0,
                        ARRAY_COUNT(uses));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
