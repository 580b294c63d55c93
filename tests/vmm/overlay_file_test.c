/* Goal: what is made here is what disk_overlay.h opens; what would not fit is refused and
 * nothing that exists is touched. Method: memory files. */
#include "support/test_main.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_raw.h"
#include "vmm/overlay_file.h"

#include <check.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct digest digest = {{1, 2, 3}};
static int fd;
static int base;

static void setup(void)
{
    fd = memfd_create("overlay", MFD_CLOEXEC);
    base = memfd_create("base", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(base, 8192), 0);
    ck_assert_int_eq(pwrite(base, "base", 4, 4096), 4);
}

static void teardown(void)
{
    (void)close(fd);
    (void)close(base);
}

static struct virtual_disk *opened(bool with_base)
{
    struct disk_file *file;
    struct disk_file *base_file;
    struct virtual_disk *beneath = NULL;
    struct virtual_disk *disk = NULL;
    const struct digest none = {{0}};
    struct err err = {0};
    if (with_base) {
        ck_assert_int_eq(disk_file_new(dup(base), &base_file, NULL), 0);
        ck_assert_int_eq(disk_raw_new(base_file, true, &beneath, NULL), 0);
    }
    ck_assert_int_eq(disk_file_new(dup(fd), &file, NULL), 0);
    int r = disk_overlay_open(file, beneath, with_base ? &digest : &none, &disk, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    return disk;
}

struct size_row {
    uint64_t asked;
    bool with_base;
    uint64_t size;
};

static const struct size_row sizes[] = {{0, true, 8192},
                                        {8192, true, 8192},
                                        {1 << 20, true, 1 << 20},
                                        {512, false, 512}};

START_TEST(an_overlay_is_made_and_opens)
{
    const struct size_row *row = &sizes[_i];
    char text[5] = "";
    const struct iovec piece = {text, 4};
    const struct digest none = {{0}};

    ck_assert_int_eq(overlay_file_make(fd, row->asked, row->with_base ? base : -1,
                                       row->with_base ? &digest : &none, NULL),
                     0);

    struct virtual_disk *disk = opened(row->with_base);
    ck_assert_uint_eq(disk->size_bytes, row->size);
    if (row->with_base) {
        ck_assert_int_eq(disk_read(disk, 4096, &piece, 1, 4), 0);
        ck_assert_str_eq(text, "base");
    }
    disk_free(disk);
}
END_TEST

struct refused_row {
    uint64_t asked;
    bool with_base;
    bool exists;
    int code;
};

static const struct refused_row refused[] = {
    {0, false, false, BERTH_EINVALID},
    {513, false, false, BERTH_EINVALID},
    {4096, true, false, BERTH_EINVALID},
    {UINT64_MAX - 511, false, false, BERTH_EINVALID},
    {1 << 20, false, true, BERTH_EEXISTS},
};

START_TEST(what_does_not_fit_is_refused_and_the_file_left_alone)
{
    const struct refused_row *row = &refused[_i];
    struct err err = {0};
    if (row->exists) {
        ck_assert_int_eq(pwrite(fd, "mine", 4, 0), 4);
    }

    ck_assert_int_eq(
        overlay_file_make(fd, row->asked, row->with_base ? base : -1, &digest, &err),
        row->code);

    ck_assert_str_ne(err.text, "");
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), row->exists ? 4 : 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("overlay_file");
    TCase *tests = tcase_create("overlay_file");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, an_overlay_is_made_and_opens, 0,
                        sizeof(sizes) / sizeof(sizes[0]));
    tcase_add_loop_test(tests, what_does_not_fit_is_refused_and_the_file_left_alone, 0,
                        sizeof(refused) / sizeof(refused[0]));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
