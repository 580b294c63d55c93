/* Goal: whatever something took, it is counted once, in the bin whose boundaries it lies
 * between. */
#include "support/test_main.h"
#include "vmm/latency_histogram.h"

#include <check.h>

#include <string.h>

static struct latency_histogram histogram;

static void setup(void)
{
    memset(&histogram, 0, sizeof(histogram));
}

struct row {
    uint64_t took_ns;
    unsigned bin;
};

static const struct row rows[] = {
    {0, 0},
    {1, 0},
    {1023, 0},
    {1024, 1},
    {2047, 1},
    {2048, 2},
    {UINT64_C(1) << 20, 11},
    {(UINT64_C(1) << 33) - 1, 23},
    {UINT64_C(1) << 33, 24},
    {UINT64_C(1) << 34, 24},
    {INT64_MAX, 24},
    {UINT64_C(1) << 63, 24},
    {UINT64_MAX, 24},
};

START_TEST(a_time_is_counted_once_where_it_belongs)
{
    latency_histogram_add(&histogram, rows[_i].took_ns);

    for (unsigned i = 0; i < LATENCY_BINS; i++) {
        ck_assert_uint_eq(counter_read(&histogram.bins[i]), i == rows[_i].bin ? 1 : 0);
    }
}
END_TEST

START_TEST(each_boundary_is_the_first_of_the_next_bin)
{
    ck_assert_uint_eq(latency_histogram_boundary_ns(0), 1024);
    for (unsigned i = 0; i < LATENCY_BOUNDARIES; i++) {
        latency_histogram_add(&histogram, latency_histogram_boundary_ns(i) - 1);
        latency_histogram_add(&histogram, latency_histogram_boundary_ns(i));
    }
    ck_assert_uint_eq(counter_read(&histogram.bins[0]), 1);
    for (unsigned i = 1; i < LATENCY_BINS - 1; i++) {
        ck_assert_uint_eq(counter_read(&histogram.bins[i]), 2);
    }
    ck_assert_uint_eq(counter_read(&histogram.bins[LATENCY_BINS - 1]), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("latency_histogram");
    TCase *tests = tcase_create("latency_histogram");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_loop_test(tests, a_time_is_counted_once_where_it_belongs, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_test(tests, each_boundary_is_the_first_of_the_next_bin);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
