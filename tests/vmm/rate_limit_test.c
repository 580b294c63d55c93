/* Goal: over any time a device gets its rate, after a pause at most its burst, and what
 * it owes it waits for. */
#include "base/clock.h"
#include "base/random.h"
#include "support/test_main.h"
#include "vmm/rate_limit.h"

#include <check.h>

static const struct rate_spec unlimited;

START_TEST(without_a_rate_everything_passes)
{
    struct rate_limit limit;
    rate_limit_init(&limit, &unlimited, &unlimited, 0);

    for (unsigned i = 0; i < 1000; i++) {
        ck_assert_uint_eq(rate_limit_take(&limit, UINT64_MAX, 0), 0);
    }
    ck_assert(rate_limit_is_none(&limit));
    const struct rate_spec some = {1, 0};
    rate_limit_change(&limit, &some, &unlimited, 0);
    ck_assert(!rate_limit_is_none(&limit));
    rate_limit_change(&limit, &unlimited, &some, 0);
    ck_assert(!rate_limit_is_none(&limit));
}
END_TEST

START_TEST(operations_come_at_their_rate)
{
    const struct rate_spec hundred = {.rate = 100, .burst = 10};
    struct rate_limit limit;
    uint64_t now_ns = 5;
    unsigned passed = 0;
    rate_limit_init(&limit, &hundred, &unlimited, now_ns);

    while (now_ns < 10 * NS_PER_S) {
        const uint64_t wait_ns = rate_limit_take(&limit, 4096, now_ns);
        passed += wait_ns == 0 ? 1 : 0;
        ck_assert_uint_le(wait_ns, NS_PER_S / 100 + 2);
        now_ns += wait_ns;
    }

    ck_assert_uint_ge(passed, 1000);
    ck_assert_uint_le(passed, 1011);
}
END_TEST

START_TEST(bytes_come_at_their_rate_in_requests_of_any_size)
{
    const struct rate_spec mega = {.rate = 1000000};
    struct rate_limit limit;
    struct random random;
    uint64_t now_ns = 0;
    uint64_t bytes = 0;
    random_seed(&random, 3);
    rate_limit_init(&limit, &unlimited, &mega, now_ns);

    while (now_ns < 100 * NS_PER_S) {
        const uint64_t size = random_below(&random, 3000000); /* some over the burst */
        const uint64_t wait_ns = rate_limit_take(&limit, size, now_ns);
        bytes += wait_ns == 0 ? size : 0;
        now_ns += wait_ns + random_below(&random, 1000);
    }

    ck_assert_uint_ge(bytes, 99 * mega.rate);
    ck_assert_uint_le(bytes, 105 * mega.rate);
}
END_TEST

START_TEST(a_long_pause_fills_the_burst_and_no_more)
{
    const struct rate_spec ten = {.rate = 10, .burst = 5};
    struct rate_limit limit;
    unsigned passed = 0;
    rate_limit_init(&limit, &ten, &unlimited, 0);
    while (rate_limit_take(&limit, 0, 0) == 0) {
    }

    while (rate_limit_take(&limit, 0, UINT64_MAX / 2) == 0) {
        passed++;
    }

    ck_assert_uint_eq(passed, 5);
}
END_TEST

START_TEST(a_clock_that_stands_or_goes_back_gives_nothing)
{
    const struct rate_spec one = {.rate = 1, .burst = 1};
    struct rate_limit limit;
    rate_limit_init(&limit, &one, &unlimited, 100);
    ck_assert_uint_eq(rate_limit_take(&limit, 0, 100), 0);

    ck_assert_uint_gt(rate_limit_take(&limit, 0, 100), 0);
    ck_assert_uint_gt(rate_limit_take(&limit, 0, 50), 0);
}
END_TEST

START_TEST(debts_survive_a_restore_within_reason)
{
    const struct rate_spec ten = {.rate = 10};
    struct rate_limit limit;
    struct rate_limit other;
    struct bytes_writer writer;
    struct bytes_reader reader;
    rate_limit_init(&limit, &unlimited, &ten, 0);
    ck_assert_uint_eq(rate_limit_take(&limit, 15, 0), 0); /* 5 owed */
    bytes_writer_init(&writer, 64);
    rate_limit_save(&limit, &writer);
    rate_limit_init(&other, &unlimited, &ten, 1000);

    bytes_reader_init(&reader, writer.data, writer.size);
    rate_limit_restore(&other, &reader, 1000);

    ck_assert_uint_gt(rate_limit_take(&other, 1, 1000), NS_PER_S / 2);
    for (unsigned i = 0; i < 8; i++) {
        writer.data[8 + i] = i == 7 ? 0x80 : 0; /* as much as can be owed */
    }
    bytes_reader_init(&reader, writer.data, writer.size);
    rate_limit_restore(&other, &reader, 1000);
    ck_assert_uint_le(rate_limit_take(&other, 1, 1000), 2 * NS_PER_S);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(the_same_limit_again_gives_nothing)
{
    const struct rate_spec one = {.rate = 1, .burst = 1};
    const struct rate_spec other = {.rate = 1, .burst = 2};
    struct rate_limit limit;
    rate_limit_init(&limit, &one, &one, 0);
    ck_assert_uint_eq(rate_limit_take(&limit, 9, 0), 0);

    rate_limit_change(&limit, &one, &one, 0);
    ck_assert_uint_gt(rate_limit_take(&limit, 9, 0), 8 * NS_PER_S);
    rate_limit_change(&limit, &other, &one, 0);
    ck_assert_uint_gt(rate_limit_take(&limit, 9, 0), 8 * NS_PER_S);

    rate_limit_change(&limit, &one, &other, 0); /* another one begins with nothing owed */
    ck_assert_uint_eq(rate_limit_take(&limit, 9, 0), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rate_limit");
    TCase *tests = tcase_create("rate_limit");
    tcase_add_test(tests, without_a_rate_everything_passes);
    tcase_add_test(tests, operations_come_at_their_rate);
    tcase_add_test(tests, bytes_come_at_their_rate_in_requests_of_any_size);
    tcase_add_test(tests, a_long_pause_fills_the_burst_and_no_more);
    tcase_add_test(tests, a_clock_that_stands_or_goes_back_gives_nothing);
    tcase_add_test(tests, debts_survive_a_restore_within_reason);
    tcase_add_test(tests, the_same_limit_again_gives_nothing);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
