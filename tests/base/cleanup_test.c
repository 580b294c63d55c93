#include "base/cleanup.h"
#include "support/test_main.h"

#include <stdint.h>

START_TEST(new_memory_is_zero)
{
    CLEANUP_FREE uint8_t *bytes = cleanup_new(3, 5);
    ck_assert_ptr_nonnull(bytes);
    for (unsigned i = 0; i < 15; i++) {
        ck_assert_uint_eq(bytes[i], 0);
    }
}
END_TEST

START_TEST(nothing_is_memory_too)
{
    CLEANUP_FREE uint32_t *none = cleanup_new(0, sizeof(*none));
    CLEANUP_FREE char *empty = cleanup_new(1, 0);
    ck_assert_ptr_nonnull(none);
    ck_assert_ptr_nonnull(empty);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cleanup");
    TCase *tests = tcase_create("cleanup");
    tcase_add_test(tests, new_memory_is_zero);
    tcase_add_test(tests, nothing_is_memory_too);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
