#include "base/require.h"
#include "support/test_main.h"

#include <signal.h>

START_TEST(what_holds_is_passed_over_and_evaluated_once)
{
    int count = 0;
    REQUIRE(++count == 1);
    REQUIRE_IF(count == 1, count > 0);
    REQUIRE_IF(count == 2, count > 100);
    ck_assert_int_eq(count, 1);
}
END_TEST

START_TEST(what_does_not_hold_aborts)
{
    REQUIRE(1 + 1 == 3);
}
END_TEST

START_TEST(an_implication_that_does_not_hold_aborts)
{
    REQUIRE_IF(1 + 1 == 2, 1 + 1 == 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("require");
    TCase *tcase = tcase_create("require");
    tcase_add_test(tcase, what_holds_is_passed_over_and_evaluated_once);
    tcase_add_test_raise_signal(tcase, what_does_not_hold_aborts, SIGABRT);
    tcase_add_test_raise_signal(tcase, an_implication_that_does_not_hold_aborts, SIGABRT);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
