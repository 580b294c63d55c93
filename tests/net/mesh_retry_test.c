/* Goal: a dialer that is turned away waits longer and longer, and never over its bound.
 * Method: the pure rule, counted up as the mesh does. */
#include "net/mesh_retry.h"
#include "support/test_main.h"

START_TEST(each_wait_is_twice_the_one_before_up_to_the_bound)
{
    static const uint64_t waits_ms[] = {500, 1000, 2000, 4000, 8000, 8000, 8000};
    unsigned count = 0;
    for (unsigned i = 0; i < sizeof(waits_ms) / sizeof(waits_ms[0]); i++) {
        ck_assert_uint_eq(mesh_retry_wait_ms(count, MESH_RETRY_MAX_MS), waits_ms[i]);
        count = mesh_retry_count(count);
    }
}
END_TEST

/* Whatever the count has grown to. */
START_TEST(no_wait_is_over_its_bound)
{
    unsigned count = 0;
    for (unsigned i = 0; i < 1000; i++) {
        count = mesh_retry_count(count);
        ck_assert_uint_le(mesh_retry_wait_ms(count, MESH_RETRY_MAX_MS),
                          MESH_RETRY_MAX_MS);
        ck_assert_uint_le(mesh_retry_wait_ms(count, MESH_RETRY_REFUSED_MAX_MS),
                          MESH_RETRY_REFUSED_MAX_MS);
    }
    ck_assert_uint_eq(mesh_retry_wait_ms(count, MESH_RETRY_REFUSED_MAX_MS),
                      MESH_RETRY_REFUSED_MAX_MS);
}
END_TEST

/* Longer than until the next dial, but not by another such wait. */
START_TEST(what_was_shown_counts_until_it_may_be_shown_again)
{
    unsigned count = 0;
    for (unsigned i = 0; i < 20; i++) {
        const uint64_t wait_ms = mesh_retry_wait_ms(count, MESH_RETRY_REFUSED_MAX_MS);
        const uint64_t lapse_ms = mesh_retry_lapse_ms(count, MESH_RETRY_REFUSED_MAX_MS);
        ck_assert_uint_gt(lapse_ms, wait_ms + MESH_RETRY_MIN_MS); /* the jitter */
        ck_assert_uint_le(lapse_ms, wait_ms + MESH_RETRY_MAX_MS + 1000);
        count = mesh_retry_count(count);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mesh_retry");
    TCase *tests = tcase_create("mesh_retry");
    tcase_add_test(tests, each_wait_is_twice_the_one_before_up_to_the_bound);
    tcase_add_test(tests, no_wait_is_over_its_bound);
    tcase_add_test(tests, what_was_shown_counts_until_it_may_be_shown_again);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
