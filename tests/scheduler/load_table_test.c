/* Goal: the mean that autoscaling goes by is the mean of what was measured in the window,
 * whatever the window, the pace of the samples and the gaps in them. Method: samples on
 * virtual time against sums done here. */
#include "base/clock.h"
#include "scheduler/load_table.h"
#include "support/state_fixture.h"

#define VM     UINT64_C(7)
#define START  (1000 * NS_PER_S) /* a whole second, not a whole minute */
#define MINUTE (60 * NS_PER_S)

static struct load_table *table;

static void setup(void)
{
    table = load_table_new();
    ck_assert_ptr_nonnull(table);
}

static void teardown(void)
{
    table = load_table_free(table);
}

/* `permille` at `every_ns` in [from, to). */
static void
samples(uint64_t from_ns, uint64_t to_ns, uint64_t every_ns, uint32_t permille)
{
    for (uint64_t now_ns = from_ns; now_ns < to_ns; now_ns += every_ns) {
        load_table_add(table, VM, permille, false, now_ns);
    }
}

START_TEST(a_vm_without_samples_has_no_mean)
{
    ck_assert_int_eq(load_table_mean(table, VM, MINUTE, START), -1);

    load_table_add(table, VM + 1, 500, false, START);
    ck_assert_int_eq(load_table_mean(table, VM, MINUTE, START), -1);
    ck_assert_int_eq(load_table_mean(table, VM + 1, MINUTE, START), 500);
}
END_TEST

START_TEST(the_first_sample_is_the_mean_at_once)
{
    load_table_add(table, VM, 730, false, START);

    ck_assert_int_eq(load_table_mean(table, VM, NS_PER_S, START), 730);
    ck_assert_int_eq(load_table_mean(table, VM, 10 * MINUTE, START), 730);
    ck_assert_int_eq(load_table_mean(table, VM, 0, START), 730);
}
END_TEST

START_TEST(more_than_all_vcpus_busy_counts_as_all)
{
    load_table_add(table, VM, 4000000000u, false, START);

    ck_assert_int_eq(load_table_mean(table, VM, NS_PER_S, START), 1000);
}
END_TEST

/* A running mean that is rounded at every sample drifts by tens of permille here. */
START_TEST(noise_does_not_push_the_mean_down)
{
    const uint64_t end_ns = START + 20 * MINUTE;
    for (uint64_t at = START, i = 0; at < end_ns; at += 250 * NS_PER_MS, i++) {
        load_table_add(table, VM, i % 7 == 0 ? 997 : 401, false, at);
    }
    int mean = (997 + 6 * 401) / 7;

    ck_assert_int_ge(load_table_mean(table, VM, 15 * MINUTE, end_ns - 1), mean - 2);
    ck_assert_int_le(load_table_mean(table, VM, 15 * MINUTE, end_ns - 1), mean + 2);
    ck_assert_int_ge(load_table_mean(table, VM, MINUTE, end_ns - 1), mean - 5);
    ck_assert_int_le(load_table_mean(table, VM, MINUTE, end_ns - 1), mean + 5);
}
END_TEST

/* Load steps from 200 to 800 `ago` before the end: the window sees its share of each. */
static const struct {
    uint64_t window_s;
    uint64_t ago_s;
    int mean;
} steps[] = {
    {1, 1, 800},     {1, 2, 800},      {10, 5, 500},      {10, 10, 800},
    {10, 20, 800},   {30, 10, 400},    {60, 30, 500},     {60, 60, 800},
    {60, 6, 260},    {120, 60, 500},   {300, 60, 320},    {300, 150, 500},
    {300, 300, 800}, {600, 120, 320},  {3600, 1800, 500}, {3600, 3600, 800},
    {7200, 0, 200},  {7200, 900, 350},
};

START_TEST(a_window_holds_its_own_time_and_no_more)
{
    const uint64_t end_ns = START + 7235 * NS_PER_S; /* 15 s into a minute */
    const uint64_t step_ns = end_ns - steps[_i].ago_s * NS_PER_S;
    samples(START, step_ns, 250 * NS_PER_MS, 200);
    samples(step_ns, end_ns, 250 * NS_PER_MS, 800);

    int mean = load_table_mean(table, VM, steps[_i].window_s * NS_PER_S, end_ns);

    /* The minute at the far end may hold both loads: a quarter of it, at most. */
    int off =
        steps[_i].window_s > 60 ? 5 + (int)(UINT64_C(600) * 15 / steps[_i].window_s) : 5;
    ck_assert_int_ge(mean, steps[_i].mean - off);
    ck_assert_int_le(mean, steps[_i].mean + off);
}
END_TEST

START_TEST(samples_leave_the_window)
{
    samples(START, START + 10 * NS_PER_S, NS_PER_S, 900);
    uint64_t last_ns = START + 9 * NS_PER_S;

    ck_assert_int_eq(load_table_mean(table, VM, 5 * NS_PER_S, last_ns + 5 * NS_PER_S),
                     900);
    ck_assert_int_eq(load_table_mean(table, VM, 5 * NS_PER_S, last_ns + 6 * NS_PER_S),
                     -1);
    ck_assert_int_eq(load_table_mean(table, VM, 3 * MINUTE, last_ns + 3 * MINUTE), 900);
    ck_assert_int_eq(load_table_mean(table, VM, 3 * MINUTE, last_ns + 4 * MINUTE), -1);
    ck_assert_int_eq(load_table_mean(table, VM, MINUTE, last_ns + 3600 * NS_PER_S), -1);
}
END_TEST

/* A gap longer than the rings, and one that ends on the same slot of a ring. */
START_TEST(old_rounds_of_the_ring_do_not_come_back)
{
    static const uint64_t gaps_s[] = {59, 60, 61, 119, 120, 3600, 3660, 100000};
    samples(START, START + 30 * NS_PER_S, NS_PER_S, 1000);
    uint64_t back_ns = START + 29 * NS_PER_S + gaps_s[_i] * NS_PER_S;
    load_table_add(table, VM, 100, false, back_ns);

    ck_assert_int_eq(load_table_mean(table, VM, 10 * NS_PER_S, back_ns), 100);
    ck_assert_int_eq(load_table_mean(table, VM, 25 * NS_PER_S, back_ns), 100);
    if (gaps_s[_i] >= 3660) {
        ck_assert_int_eq(load_table_mean(table, VM, 50 * MINUTE, back_ns), 100);
    }
}
END_TEST

START_TEST(a_sample_that_comes_late_does_no_harm)
{
    load_table_add(table, VM, 600, false, START + 5 * NS_PER_S);
    load_table_add(table, VM, 400, false, START);

    ck_assert_int_eq(load_table_mean(table, VM, 2 * NS_PER_S, START + 5 * NS_PER_S), 500);
    ck_assert_int_eq(load_table_mean(table, VM, MINUTE, 0),
                     -1); /* and so does its clock */
}
END_TEST

START_TEST(prune_forgets_vms_that_are_gone_and_only_those)
{
    fixture_start();
    uint64_t kept = admit_plain("kept");
    load_table_add(table, kept, 300, false, START);
    for (uint64_t gone = 100; gone < 1100; gone++) {
        load_table_add(table, gone, 300, false, START);
    }

    for (unsigned i = 0; i < 4; i++) {
        load_table_prune(table, state);
    }

    ck_assert_int_eq(load_table_mean(table, kept, NS_PER_S, START), 300);
    for (uint64_t gone = 100; gone < 1100; gone++) {
        ck_assert_int_eq(load_table_mean(table, gone, NS_PER_S, START), -1);
    }
    fixture_stop();
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("load_table");
    TCase *tests = tcase_create("load_table");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_vm_without_samples_has_no_mean);
    tcase_add_test(tests, the_first_sample_is_the_mean_at_once);
    tcase_add_test(tests, more_than_all_vcpus_busy_counts_as_all);
    tcase_add_test(tests, noise_does_not_push_the_mean_down);
    tcase_add_loop_test(tests, a_window_holds_its_own_time_and_no_more, 0,
                        sizeof(steps) / sizeof(steps[0]));
    tcase_add_test(tests, samples_leave_the_window);
    tcase_add_loop_test(tests, old_rounds_of_the_ring_do_not_come_back, 0, 8);
    tcase_add_test(tests, a_sample_that_comes_late_does_no_harm);
    tcase_add_test(tests, prune_forgets_vms_that_are_gone_and_only_those);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
