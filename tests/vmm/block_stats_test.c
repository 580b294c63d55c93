/* Goal: each request of a disk is counted where QEMU counts it, and no number of a
 * guest's makes a counter say something that it cannot be. */
#include "support/test_main.h"
#include "vmm/block_stats.h"

#include <check.h>

#include <string.h>

static struct block_stats stats;

static void setup(void)
{
    memset(&stats, 0, sizeof(stats));
}

static void one(const struct block_done *done)
{
    block_stats_begin(&stats);
    block_stats_done(&stats, done);
}

static uint64_t latencies(enum block_kind kind)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < LATENCY_BINS; i++) {
        sum += counter_read(&stats.kinds[kind].latency.bins[i]);
    }
    return sum;
}

START_TEST(what_is_done_is_counted_with_its_bytes_and_its_time)
{
    one(&(struct block_done){BLOCK_READ, true, 8192, 4096, 1000, 3500});
    one(&(struct block_done){BLOCK_READ, true, 0, 512, 1000, 1700});

    const struct block_kind_stats *read = &stats.kinds[BLOCK_READ];
    ck_assert_uint_eq(counter_read(&read->operations), 2);
    ck_assert_uint_eq(counter_read(&read->bytes), 4608);
    ck_assert_uint_eq(counter_read(&read->failed), 0);
    ck_assert_uint_eq(counter_read(&read->total_ns), 3200);
    ck_assert_uint_eq(counter_read(&read->latency.bins[0]), 1); /* 700 ns */
    ck_assert_uint_eq(counter_read(&read->latency.bins[2]), 1); /* 2500 ns */
    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_WRITE].operations), 0);
    ck_assert_uint_eq(counter_read(&stats.highest_offset), 0); /* reads do not count */
    ck_assert_uint_eq(counter_read(&stats.last_done_ns), 1700);
    ck_assert_uint_eq(counter_read(&stats.in_flight), 0);
}
END_TEST

START_TEST(what_failed_has_taken_its_time_but_moved_nothing)
{
    one(&(struct block_done){BLOCK_WRITE, true, 512, 512, 0, 1});
    one(&(struct block_done){BLOCK_WRITE, false, 1 << 20, 4096, 0, 5000});

    const struct block_kind_stats *write = &stats.kinds[BLOCK_WRITE];
    ck_assert_uint_eq(counter_read(&write->operations), 1);
    ck_assert_uint_eq(counter_read(&write->bytes), 512);
    ck_assert_uint_eq(counter_read(&write->failed), 1);
    ck_assert_uint_eq(counter_read(&write->total_ns), 5001);
    ck_assert_uint_eq(latencies(BLOCK_WRITE), 2);
    ck_assert_uint_eq(counter_read(&stats.highest_offset), 1024);
}
END_TEST

START_TEST(what_the_disk_never_saw_took_no_time)
{
    block_stats_invalid(&stats, BLOCK_UNMAP);

    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_UNMAP].invalid), 1);
    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_UNMAP].operations), 0);
    ck_assert_uint_eq(latencies(BLOCK_UNMAP), 0);
    ck_assert_uint_eq(counter_read(&stats.last_done_ns), 0);
}
END_TEST

START_TEST(what_is_not_done_yet_is_in_flight)
{
    block_stats_begin(&stats);
    block_stats_begin(&stats);
    ck_assert_uint_eq(counter_read(&stats.in_flight), 2);
    block_stats_done(&stats, &(struct block_done){.kind = BLOCK_FLUSH, .is_good = true});
    ck_assert_uint_eq(counter_read(&stats.in_flight), 1);
    block_stats_dropped(&stats);
    ck_assert_uint_eq(counter_read(&stats.in_flight), 0);
    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_FLUSH].operations), 1);
    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_FLUSH].failed), 0);
}
END_TEST

START_TEST(a_clock_that_stood_still_is_no_time)
{
    one(&(struct block_done){BLOCK_FLUSH, true, 0, 0, 7000, 6999});
    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_FLUSH].total_ns), 0);
    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_FLUSH].latency.bins[0]), 1);
}
END_TEST

START_TEST(a_number_that_has_grown_too_large_begins_at_nothing_again)
{
    counter_set(&stats.kinds[BLOCK_UNMAP].bytes, INT64_MAX - 4095);
    one(&(struct block_done){BLOCK_UNMAP, true, 0, 4095, 0, 1});
    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_UNMAP].bytes), INT64_MAX);
    one(&(struct block_done){BLOCK_UNMAP, true, 0, 11, 0, UINT64_MAX});
    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_UNMAP].bytes), 10);
    ck_assert_uint_eq(counter_read(&stats.kinds[BLOCK_UNMAP].latency.bins[24]), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("block_stats");
    TCase *tests = tcase_create("block_stats");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, what_is_done_is_counted_with_its_bytes_and_its_time);
    tcase_add_test(tests, what_failed_has_taken_its_time_but_moved_nothing);
    tcase_add_test(tests, what_the_disk_never_saw_took_no_time);
    tcase_add_test(tests, what_is_not_done_yet_is_in_flight);
    tcase_add_test(tests, a_clock_that_stood_still_is_no_time);
    tcase_add_test(tests, a_number_that_has_grown_too_large_begins_at_nothing_again);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
