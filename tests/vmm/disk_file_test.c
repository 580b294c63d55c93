/* Goal: a transfer moves each byte once, whatever the kernel does in between, a shortage
 * is an error, and so is all that comes after a sync that failed. Method: files with
 * limits, pieces of odd sizes; a kernel that punches and syncs as it is told. */
#include "base/cleanup.h"
#include "support/test_main.h"
#include "vmm/disk.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_raw.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILE_BYTES (1u << 20)

static int fd;
static struct disk_file *file;
static int punch_error; /* of the next; 0: the kernel's own */

/* Stands before the C library's. */
int fallocate(int of, int mode, off_t at, off_t size)
{
    if (punch_error != 0) {
        errno = punch_error;
        punch_error = 0;
        return -1;
    }
    return (int)syscall(SYS_fallocate, of, mode, at, size);
}

static int sync_error; /* likewise; Linux, too, tells an error of writing back once */

int fdatasync(int of)
{
    if (sync_error != 0) {
        errno = sync_error;
        sync_error = 0;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, of);
}

static void set_up(void)
{
    punch_error = sync_error = 0;
    fd = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, FILE_BYTES), 0);
    ck_assert_int_eq(disk_file_new(fd, &file, NULL), 0);
}

static void tear_down(void)
{
    disk_file_free(file);
}

START_TEST(pieces_of_odd_sizes_come_back_whole)
{
    static uint8_t data[9000];
    static uint8_t back[9000];
    struct iovec pieces[3] = {{data, 1}, {data + 1, 4999}, {data + 5000, 4000}};
    for (unsigned i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7);
    }

    ck_assert_int_eq(file->ops->write(file, 77, pieces, 3, sizeof(data)), 0);
    ck_assert_int_eq(disk_file_read(file, 77, back, sizeof(back)), 0);

    ck_assert_mem_eq(back, data, sizeof(data));
}
END_TEST

START_TEST(a_write_cut_short_goes_on_with_the_right_bytes)
{
    /* The limit lets the kernel write a part: the rest fails, and what was written is
     * from the right places. */
    static uint8_t data[8192];
    static uint8_t back[4096];
    const struct rlimit limit = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};
    const struct rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    struct iovec pieces[2] = {{data, 3000}, {data + 3000, 5192}};
    memset(data, 1, 3000);
    memset(data + 3000, 2, 5192);
    (void)signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);

    ck_assert_int_eq(file->ops->write(file, 0, pieces, 2, sizeof(data)), -EFBIG);

    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    ck_assert_int_eq(disk_file_read(file, 0, back, sizeof(back)), 0);
    ck_assert_mem_eq(back, data, sizeof(back));
}
END_TEST

START_TEST(a_file_that_shrank_is_an_error_not_a_loop)
{
    uint8_t data[4096];
    ck_assert_int_eq(ftruncate(fd, 1000), 0);

    ck_assert_int_eq(disk_file_read(file, 0, data, sizeof(data)), -EIO);
}
END_TEST

START_TEST(a_zeroed_range_reads_as_zeros)
{
    uint8_t data[10000];
    memset(data, 0xee, sizeof(data));
    ck_assert_int_eq(disk_file_write(file, 0, data, sizeof(data)), 0);

    ck_assert_int_eq(file->ops->zero(file, 100, 9000), 0);

    ck_assert_int_eq(disk_file_read(file, 0, data, sizeof(data)), 0);
    for (unsigned i = 0; i < sizeof(data); i++) {
        ck_assert_uint_eq(data[i], i < 100 || i >= 9100 ? 0xee : 0);
    }
}
END_TEST

static const struct {
    int error;
    int result;
    bool is_zero;
    bool has_hole;
} punches[] = {
    {0, 0, true, true},
    {EINTR, 0, true, true},
    {EOPNOTSUPP, 0, true, false},
    {ENOSYS, 0, true, false},
    {ENODEV, 0, true, false},
    {EINVAL, 0, true, false},
    {ENOSPC, -ENOSPC, false, false},
    {EDQUOT, -EDQUOT, false, false},
    {EIO, -EIO, false, false},
};

/* Zeros take room that a full host does not have. */
START_TEST(zeros_are_written_where_there_are_no_holes_and_never_for_want_of_room)
{
    static uint8_t data[8 * 4096];
    struct stat before;
    struct stat after;
    memset(data, 0xee, sizeof(data));
    ck_assert_int_eq(disk_file_write(file, 0, data, sizeof(data)), 0);
    ck_assert_int_eq(fstat(fd, &before), 0);
    punch_error = punches[_i].error;

    ck_assert_int_eq(file->ops->zero(file, 0, sizeof(data)), punches[_i].result);

    ck_assert_int_eq(fstat(fd, &after), 0);
    ck_assert((after.st_blocks < before.st_blocks) == punches[_i].has_hole);
    ck_assert_int_eq(disk_file_read(file, 0, data, sizeof(data)), 0);
    for (unsigned i = 0; i < sizeof(data); i++) {
        ck_assert_uint_eq(data[i], punches[_i].is_zero ? 0 : 0xee);
    }
}
END_TEST

/* A disk of this kind over the test's file, which is the test's then. */
static struct virtual_disk *disk_make(bool is_overlay)
{
    static const struct digest none = {{0}};
    struct virtual_disk *disk = NULL;
    if (!is_overlay) {
        ck_assert_int_eq(disk_raw_new(file, false, &disk, NULL), 0);
    } else {
        disk_file_free(file);
        fd = memfd_create("overlay", MFD_CLOEXEC);
        ck_assert_int_eq(ftruncate(fd, (off_t)disk_overlay_file_size(FILE_BYTES)), 0);
        ck_assert_int_eq(disk_file_new(fd, &file, NULL), 0);
        ck_assert_int_eq(disk_overlay_create(file, FILE_BYTES, 0, &none, NULL), 0);
        ck_assert_int_eq(disk_overlay_open(file, NULL, &none, &disk, NULL), 0);
    }
    file = NULL;
    return disk;
}

/* Punched where there are holes; where there are none the content stays, and only zeros
 * that somebody wants are written. */
START_TEST(a_discard_writes_nothing)
{
    static uint8_t data[8 * 4096];
    const struct iovec piece = {data, sizeof(data)};
    const int error = punches[_i / 2].error;
    const int result = punches[_i / 2].result;
    struct virtual_disk *disk = disk_make(_i % 2 == 1);
    memset(data, 0xee, sizeof(data));
    ck_assert_int_eq(disk_write(disk, 0, &piece, 1, sizeof(data)), 0);

    punch_error = error;
    ck_assert_int_eq(disk_discard(disk, 0, sizeof(data)),
                     disk_has_no_room(result) ? 0 : result);

    ck_assert_int_eq(disk_read(disk, 0, &piece, 1, sizeof(data)), 0);
    for (unsigned i = 0; i < sizeof(data); i++) {
        ck_assert_uint_eq(data[i], punches[_i / 2].has_hole ? 0 : 0xee);
    }
    punch_error = error;
    ck_assert_int_eq(disk_zero(disk, 0, sizeof(data)), result);
    ck_assert_int_eq(disk_read(disk, 0, &piece, 1, sizeof(data)), 0);
    ck_assert_uint_eq(data[0], punches[_i / 2].is_zero ? 0 : 0xee);
    disk_free(disk);
}
END_TEST

/* What was dropped is not there because the next sync had nothing to do. */
START_TEST(a_sync_that_failed_stays_failed)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT};
    struct virtual_disk *disk = NULL;
    ck_assert_int_eq(disk_raw_new(file, false, &disk, NULL), 0);
    ck_assert_int_eq(disk_flush(disk), 0);
    sync_error = errors[_i];

    ck_assert_int_eq(disk_flush(disk), -EIO);

    ck_assert_int_eq(disk_flush(disk), -EIO);
    ck_assert_int_eq(file->ops->sync(file), -EIO);
    ck_assert_int_eq(disk_file_write(file, 0, "still", 5), 0);
    file = NULL;
    disk_free(disk);
}
END_TEST

START_TEST(what_is_no_disk_is_refused)
{
    struct disk_file *other = NULL;
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);

    ck_assert_int_eq(disk_file_new(ends[0], &other, NULL), BERTH_EINVALID);

    close(ends[0]);
    close(ends[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_file");
    TCase *tests = tcase_create("disk_file");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, pieces_of_odd_sizes_come_back_whole);
    tcase_add_test(tests, a_write_cut_short_goes_on_with_the_right_bytes);
    tcase_add_test(tests, a_file_that_shrank_is_an_error_not_a_loop);
    tcase_add_test(tests, a_zeroed_range_reads_as_zeros);
    tcase_add_loop_test(
        tests, zeros_are_written_where_there_are_no_holes_and_never_for_want_of_room, 0,
        (int)ARRAY_COUNT(punches));
    tcase_add_loop_test(tests, a_discard_writes_nothing, 0,
                        2 * (int)ARRAY_COUNT(punches));
    tcase_add_loop_test(tests, a_sync_that_failed_stays_failed, 0, 3);
    tcase_add_test(tests, what_is_no_disk_is_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
