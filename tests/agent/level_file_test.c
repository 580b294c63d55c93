/* Goal: a release that takes no part at the cluster's level ends at its start, and any
 * other starts. */
#include "agent/level_file.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

static struct temp_dir dir;
static const struct level_range range = {2, 4};

static void start(void)
{
    temp_dir_init(&dir);
}

static void stop(void)
{
    temp_dir_fini(&dir);
}

static int check(uint32_t *ret_level, struct err *err)
{
    *ret_level = 99;
    return level_file_check(dir.path, range, ret_level, err);
}

START_TEST(a_host_that_has_heard_nothing_starts)
{
    uint32_t level;
    ck_assert_int_eq(check(&level, NULL), 0);
    ck_assert_uint_eq(level, 0);
}
END_TEST

START_TEST(what_was_written_is_checked_against_the_range)
{
    struct err err;
    uint32_t level;
    ck_assert_int_eq(level_file_write(dir.path, 4, &err), 0);
    ck_assert_int_eq(check(&level, &err), 0);
    ck_assert_uint_eq(level, 4);
    ck_assert_int_eq(level_file_write(dir.path, 5, &err), 0);
    ck_assert_int_eq(check(&level, &err), BERTH_ELEVEL);
    ck_assert_ptr_nonnull(
        strstr(err.text, "at level 5, this berthd takes part up to level 4"));
    ck_assert_int_eq(level_file_write(dir.path, 1, &err), 0);
    ck_assert_int_eq(check(&level, &err), BERTH_ELEVEL);
    ck_assert_ptr_nonnull(strstr(err.text, "from level 2"));
}
END_TEST

static const char *const rubbish[] = {
    "", "\n", "x\n", "0\n", "256\n", "3 4\n", "12345678901234567890"};

START_TEST(rubbish_is_named)
{
    struct err err;
    uint32_t level;
    temp_dir_write(&dir, LEVEL_FILE, rubbish[_i]);
    ck_assert_int_lt(check(&level, &err), 0);
    ck_assert_uint_eq(level, 0);
    ck_assert_ptr_nonnull(strstr(err.text, "/" LEVEL_FILE));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("level_file");
    TCase *tests = tcase_create("level_file");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, a_host_that_has_heard_nothing_starts);
    tcase_add_test(tests, what_was_written_is_checked_against_the_range);
    tcase_add_loop_test(tests, rubbish_is_named, 0,
                        (int)(sizeof(rubbish) / sizeof(rubbish[0])));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
