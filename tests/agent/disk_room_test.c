/* Goal: what may be filled ends before the disk does. Method: the file system of a
 * temporary folder, and a folder that is not there. */
#include "agent/disk_room.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <sys/statvfs.h>

static struct temp_dir dir;
static uint64_t total;

static void start(void)
{
    struct statvfs disk;
    temp_dir_init(&dir);
    ck_assert_int_eq(statvfs(dir.path, &disk), 0);
    total = (uint64_t)disk.f_blocks * disk.f_frsize;
}

static void stop(void)
{
    temp_dir_fini(&dir);
}

START_TEST(the_default_reserve_is_a_part_with_a_bound)
{
    uint64_t reserve = disk_reserve_default(dir.path);

    ck_assert_uint_eq(reserve, total / DISK_RESERVE_PARTS < DISK_RESERVE_MAX
                                   ? total / DISK_RESERVE_PARTS
                                   : DISK_RESERVE_MAX);
}
END_TEST

START_TEST(a_reserve_of_the_whole_disk_is_refused)
{
    struct err err;
    ck_assert_int_eq(disk_reserve_check(dir.path, total - 1, &err), 0);
    ck_assert_int_eq(disk_reserve_check(dir.path, total, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "--reserve-disk "));
    ck_assert_int_eq(disk_reserve_check("/nowhere/at/all", UINT64_MAX - 1, &err), 0);
}
END_TEST

START_TEST(what_is_kept_free_is_no_room)
{
    ck_assert_uint_le(disk_room(dir.path, 0), total);
    ck_assert_uint_eq(disk_room(dir.path, total), 0);
}
END_TEST

START_TEST(what_cannot_be_looked_at_has_no_bounds)
{
    ck_assert_uint_eq(disk_room("/nowhere/at/all", 1), UINT64_MAX);
    ck_assert_uint_eq(disk_reserve_default("/nowhere/at/all"), 0);
}
END_TEST

static const struct {
    struct disk_share share;
    uint64_t total;
    uint64_t promised;
} shares[] = {
    {{.reserve_bytes = 1, .image_bytes = 20, .overcommit = 1}, 101, 80},
    {{.reserve_bytes = 1, .image_bytes = 20, .overcommit = 3}, 101, 240},
    {{.reserve_bytes = 1, .image_bytes = 20}, 101, 80},
    {{.reserve_bytes = 1, .image_bytes = 20, .overcommit = 1}, 21, 10}, /* half at most */
    {{.reserve_bytes = 50, .image_bytes = 20, .overcommit = 1}, 40, 1}, /* known: none */
    {{.reserve_bytes = 1, .image_bytes = 20, .overcommit = 4}, 0, 0},
    {{.overcommit = 4}, UINT64_MAX / 2, UINT64_MAX},
};

START_TEST(vms_are_promised_what_the_reserve_and_images_leave)
{
    ck_assert_uint_eq(disk_for_vms(&shares[_i].share, shares[_i].total),
                      shares[_i].promised);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_room");
    TCase *tests = tcase_create("disk_room");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, the_default_reserve_is_a_part_with_a_bound);
    tcase_add_test(tests, a_reserve_of_the_whole_disk_is_refused);
    tcase_add_test(tests, what_is_kept_free_is_no_room);
    tcase_add_test(tests, what_cannot_be_looked_at_has_no_bounds);
    tcase_add_loop_test(tests, vms_are_promised_what_the_reserve_and_images_leave, 0,
                        sizeof(shares) / sizeof(shares[0]));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
