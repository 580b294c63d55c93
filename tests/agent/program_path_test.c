/* Goal: our own programs are found where they were built or installed together. Method:
 * this test's own folder, which has this test. */
#include "agent/program_path.h"
#include "support/test_main.h"

#include <unistd.h>

START_TEST(what_lies_beside_us_is_named_by_its_path)
{
    char path[PATH_MAX];

    ck_assert(program_path_beside("agent_program_path_test", path));

    ck_assert_int_eq(path[0], '/');
    ck_assert_int_eq(access(path, X_OK), 0);
}
END_TEST

START_TEST(what_does_not_is_left_to_the_search)
{
    char path[PATH_MAX];

    ck_assert(!program_path_beside("berth-nothing", path));

    ck_assert_str_eq(path, "berth-nothing");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("program_path");
    TCase *tests = tcase_create("program_path");
    tcase_add_test(tests, what_lies_beside_us_is_named_by_its_path);
    tcase_add_test(tests, what_does_not_is_left_to_the_search);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
