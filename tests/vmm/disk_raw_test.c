/* Goal: a raw disk's bytes are its file's bytes, and one that is read only stays as it
 * is. Method: temporary files. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/disk_raw.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct temp_dir dir;

static struct disk_file *file_of_size(off_t size)
{
    CLEANUP_FREE char *path = temp_dir_path(&dir, "disk");
    struct disk_file *file = NULL;
    const int fd = fd_open_at(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, NULL);
    ck_assert_int_eq(ftruncate(fd, size), 0);
    ck_assert_int_eq(disk_file_new(fd, &file, NULL), 0);
    return file;
}

static void set_up(void)
{
    temp_dir_init(&dir);
}

static void tear_down(void)
{
    temp_dir_fini(&dir);
}

START_TEST(bytes_are_where_the_guest_put_them)
{
    struct virtual_disk *disk = NULL;
    uint8_t data[512];
    uint8_t back[512];
    const struct iovec to = {.iov_base = data, .iov_len = sizeof(data)};
    struct disk_file *file = file_of_size(8192);
    memset(data, 0x3c, sizeof(data));
    ck_assert_int_eq(disk_raw_new(file, false, &disk, NULL), 0);

    ck_assert_int_eq(disk_write(disk, 1024, &to, 1, sizeof(data)), 0);
    ck_assert_int_eq(disk_flush(disk), 0);

    ck_assert_int_eq(disk_file_read(file, 1024, back, sizeof(back)), 0);
    ck_assert_mem_eq(back, data, sizeof(data));
    ck_assert_int_eq(disk_zero(disk, 1024, 512), 0);
    memset(data, 0, sizeof(data));
    ck_assert_int_eq(disk_file_read(file, 1024, back, sizeof(back)), 0);
    ck_assert_mem_eq(back, data, sizeof(data));
    disk_free(disk);
}
END_TEST

START_TEST(a_read_only_disk_takes_no_change)
{
    struct virtual_disk *disk = NULL;
    uint8_t data[512] = {1};
    const struct iovec to = {.iov_base = data, .iov_len = sizeof(data)};
    ck_assert_int_eq(disk_raw_new(file_of_size(8192), true, &disk, NULL), 0);

    ck_assert_int_eq(disk_write(disk, 0, &to, 1, sizeof(data)), -EROFS);
    ck_assert_int_eq(disk_zero(disk, 0, 512), -EROFS);
    ck_assert_int_eq(disk_discard(disk, 0, 512), -EROFS);
    ck_assert_int_eq(disk_flush(disk), 0);
    ck_assert_int_eq(disk_read(disk, 0, &to, 1, sizeof(data)), 0);

    ck_assert_uint_eq(data[0], 0);
    disk_free(disk);
}
END_TEST

START_TEST(sizes_that_are_not_sectors_are_refused)
{
    static const off_t sizes[] = {0, 1, 511, 513, 1025};
    struct virtual_disk *disk = NULL;
    struct disk_file *file = file_of_size(sizes[_i]);

    ck_assert_int_eq(disk_raw_new(file, false, &disk, NULL), BERTH_EINVALID);

    disk_file_free(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_raw");
    TCase *tests = tcase_create("disk_raw");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, bytes_are_where_the_guest_put_them);
    tcase_add_test(tests, a_read_only_disk_takes_no_change);
    tcase_add_loop_test(tests, sizes_that_are_not_sectors_are_refused, 0, 5);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
