/* Goal: a guest that resets itself for ever fails, one that installs itself does not.
 * Method: times by hand. */
#include "agent/reset_count.h"
#include "support/test_main.h"

START_TEST(so_many_in_a_row_are_a_failure)
{
    struct reset_count count = {.alive_ms = 1000};
    for (unsigned i = 1; i <= RESETS_MAX; i++) {
        ck_assert_uint_eq(reset_count_add(&count, 1000 + i * RESET_SAME_MS), i);
    }
}
END_TEST

START_TEST(what_follows_at_once_is_the_same_reset)
{
    struct reset_count count = {.alive_ms = 1000};
    ck_assert_uint_eq(reset_count_add(&count, 5000), 1);
    ck_assert_uint_eq(reset_count_add(&count, 5000 + RESET_SAME_MS - 1), 0);
    ck_assert_uint_eq(reset_count_add(&count, 5000 + RESET_SAME_MS), 2);
}
END_TEST

START_TEST(after_a_life_they_are_counted_anew)
{
    struct reset_count count = {.alive_ms = 1000};
    ck_assert_uint_eq(reset_count_add(&count, 5000), 1);
    ck_assert_uint_eq(reset_count_add(&count, 5000 + RESET_LIFE_MS - 1), 2);
    ck_assert_uint_eq(reset_count_add(&count, 4999 + 2 * RESET_LIFE_MS), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reset_count");
    TCase *tests = tcase_create("reset_count");
    tcase_add_test(tests, so_many_in_a_row_are_a_failure);
    tcase_add_test(tests, what_follows_at_once_is_the_same_reset);
    tcase_add_test(tests, after_a_life_they_are_counted_anew);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
