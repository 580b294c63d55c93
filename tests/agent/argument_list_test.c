/* Goal: what is added is there in order and ends with NULL; too many are no list at all,
 * not a shorter one. */
#include "agent/argument_list.h"
#include "support/test_main.h"

#include <check.h>

#include <stddef.h>

START_TEST(arguments_are_printed_in_order)
{
    struct argument_list list;
    argument_list_init(&list);

    argument_list_add(&list, "%s-%d", "a", 1);
    argument_list_add_pair(&list, "--name", "with space, and comma");
    char **arguments = argument_list_take(&list);

    ck_assert_ptr_nonnull(arguments);
    ck_assert_str_eq(arguments[0], "a-1");
    ck_assert_str_eq(arguments[1], "--name");
    ck_assert_str_eq(arguments[2], "with space, and comma");
    ck_assert_ptr_null(arguments[3]);
    ck_assert_ptr_null(argument_list_free(arguments));
}
END_TEST

START_TEST(more_than_the_most_are_none)
{
    struct argument_list list;
    argument_list_init(&list);

    for (unsigned i = 0; i < ARGUMENT_LIST_MAX + (unsigned)_i; i++) {
        argument_list_add(&list, "%u", i);
    }
    char **arguments = argument_list_take(&list);

    ck_assert((arguments != NULL) == (_i == 0));
    argument_list_free(arguments);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("argument_list");
    TCase *tests = tcase_create("argument_list");
    tcase_add_test(tests, arguments_are_printed_in_order);
    tcase_add_loop_test(tests, more_than_the_most_are_none, 0, 2);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
