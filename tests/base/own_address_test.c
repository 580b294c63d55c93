/* Goal: an address that nobody could bind is refused, with those that can be. */
#include "base/own_address.h"
#include "support/test_main.h"

#include <string.h>

START_TEST(an_address_of_this_machine_is_its_own)
{
    struct err err = {0};
    ck_assert_int_eq(own_address_check(0x7f000001, &err), 0);
    ck_assert_int_eq(own_address_check(0x7f000109, &err), 0); /* all of 127.0.0.0/8 is */
}
END_TEST

START_TEST(another_is_refused_with_those_that_there_are)
{
    struct err err = {0};
    ck_assert_int_eq(own_address_check(0xc0000209, &err), BERTH_EINVALID); /* RFC 5737 */
    ck_assert_ptr_nonnull(strstr(err.text, "192.0.2.9 is no address of this machine"));
    ck_assert_ptr_nonnull(strstr(err.text, "127.0.0.1 (lo)"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("own_address");
    TCase *tests = tcase_create("own_address");
    tcase_add_test(tests, an_address_of_this_machine_is_its_own);
    tcase_add_test(tests, another_is_refused_with_those_that_there_are);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
