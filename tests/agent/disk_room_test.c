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

int main(void)
{
    Suite *suite = suite_create("disk_room");
    TCase *tests = tcase_create("disk_room");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, the_default_reserve_is_a_part_with_a_bound);
    tcase_add_test(tests, what_is_kept_free_is_no_room);
    tcase_add_test(tests, what_cannot_be_looked_at_has_no_bounds);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
