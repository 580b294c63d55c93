/* Goal: pieces are cut where they should be; an export is the disk, with its holes. */
#include "support/test_main.h"
#include "vmm/disk.h"
#include "vmm/disk_raw.h"

#include <check.h>

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(every_slice_of_pieces_is_the_same_bytes)
{
    uint8_t data[20];
    struct iovec pieces[4] = {{data, 3}, {data + 3, 1}, {data + 4, 10}, {data + 14, 6}};
    struct iovec part[4];
    for (unsigned i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)i;
    }
    for (unsigned skip = 0; skip <= sizeof(data); skip++) {
        for (unsigned size = 0; size + skip <= sizeof(data); size++) {
            const unsigned count = disk_pieces_slice(pieces, 4, skip, size, part);
            unsigned at = skip;
            for (unsigned i = 0; i < count; i++) {
                ck_assert_mem_eq(part[i].iov_base, data + at, part[i].iov_len);
                at += (unsigned)part[i].iov_len;
            }
            ck_assert_uint_eq(at, skip + size);
        }
    }
}
END_TEST

static struct disk_file *memory_file(off_t size, int *ret_fd)
{
    struct disk_file *file = NULL;
    *ret_fd = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(*ret_fd, size), 0);
    ck_assert_int_eq(disk_file_new(*ret_fd, &file, NULL), 0);
    return file;
}

START_TEST(an_export_is_the_disk_and_as_sparse)
{
    struct virtual_disk *disk = NULL;
    struct stat info;
    int from_fd;
    int to_fd;
    static uint8_t a[4 << 20];
    static uint8_t b[4 << 20];
    struct disk_file *from = memory_file(sizeof(a), &from_fd);
    struct disk_file *to = memory_file(sizeof(a), &to_fd);
    struct disk_file *small = NULL;
    ck_assert_int_eq(disk_file_write(from, 4096 + 17, "here", 4), 0);
    ck_assert_int_eq(disk_file_write(from, sizeof(a) - 1, "z", 1), 0);
    ck_assert_int_eq(disk_file_write(to, 100000, "old", 3), 0);
    ck_assert_int_eq(disk_raw_new(from, true, &disk, NULL), 0);

    ck_assert_int_eq(disk_export(disk, to, NULL), 0);

    ck_assert_int_eq(disk_file_read(from, 0, a, sizeof(a)), 0);
    ck_assert_int_eq(disk_file_read(to, 0, b, sizeof(b)), 0);
    ck_assert_int_eq(memcmp(a, b, sizeof(a)), 0);
    ck_assert_int_eq(fstat(to_fd, &info), 0);
    ck_assert_int_le(info.st_blocks, 64);
    small = memory_file(512, &from_fd);
    ck_assert_int_eq(disk_export(disk, small, NULL), BERTH_EINVALID);
    disk_file_free(small);
    disk_file_free(to);
    disk_free(disk);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk");
    TCase *tests = tcase_create("disk");
    tcase_add_test(tests, every_slice_of_pieces_is_the_same_bytes);
    tcase_add_test(tests, an_export_is_the_disk_and_as_sparse);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
