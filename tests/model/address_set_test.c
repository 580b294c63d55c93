#include "base/random.h"
#include "model/address_set.h"
#include "support/test_main.h"

#include <signal.h>

static struct address_set set;

static void setup(void)
{
    address_set_init(&set);
}

static void teardown(void)
{
    address_set_fini(&set);
}

START_TEST(a_marked_offset_is_taken_until_it_is_cleared)
{
    ck_assert(!address_set_has(&set, 70));
    address_set_mark(&set, 70);
    ck_assert(address_set_has(&set, 70));
    ck_assert(!address_set_has(&set, 71));
    ck_assert_uint_eq(set.count, 1);
    address_set_clear(&set, 70);
    ck_assert(!address_set_has(&set, 70));
    ck_assert_uint_eq(set.count, 0);
}
END_TEST

START_TEST(the_lowest_free_offset_is_found)
{
    for (uint32_t i = 0; i < 1000; i++) {
        ck_assert_uint_eq(address_set_next_free(&set, 0), i);
        address_set_mark(&set, i);
    }
    address_set_clear(&set, 3);
    ck_assert_uint_eq(address_set_next_free(&set, 0), 3);
    ck_assert_uint_eq(address_set_next_free(&set, 4), 1000);
    ck_assert_uint_eq(address_set_next_free(&set, 5000), 5000);
}
END_TEST

START_TEST(random_marks_agree_with_a_plain_table)
{
    static bool plain[5000];
    struct random random;
    random_seed(&random, 7);
    for (int step = 0; step < 50000; step++) {
        uint32_t offset = (uint32_t)random_below(&random, 5000);
        ck_assert(address_set_has(&set, offset) == plain[offset]);
        if (plain[offset]) {
            address_set_clear(&set, offset);
        } else {
            address_set_mark(&set, offset);
        }
        plain[offset] = !plain[offset];
        uint32_t from = (uint32_t)random_below(&random, 5000);
        uint32_t found = address_set_next_free(&set, from);
        while (from < 5000 && plain[from]) {
            from++;
        }
        ck_assert_uint_eq(found, from);
    }
}
END_TEST

START_TEST(marking_twice_is_our_mistake)
{
    address_set_mark(&set, 1);
    address_set_mark(&set, 1);
}
END_TEST

START_TEST(nothing_lies_beyond_a_slash_8)
{
    address_set_mark(&set, ADDRESS_OFFSET_MAX);
    ck_assert(address_set_has(&set, ADDRESS_OFFSET_MAX));
    address_set_mark(&set, ADDRESS_OFFSET_MAX + 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("address_set");
    TCase *tests = tcase_create("address_set");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_marked_offset_is_taken_until_it_is_cleared);
    tcase_add_test(tests, the_lowest_free_offset_is_found);
    tcase_add_test(tests, random_marks_agree_with_a_plain_table);
    tcase_add_test_raise_signal(tests, marking_twice_is_our_mistake, SIGABRT);
    tcase_add_test_raise_signal(tests, nothing_lies_beyond_a_slash_8, SIGABRT);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
