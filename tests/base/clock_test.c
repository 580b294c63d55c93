#include "base/cleanup.h"
#include "base/clock.h"
#include "support/test_main.h"

#include <time.h>

static uint64_t fixed_now_ns(void *context)
{
    return *(uint64_t *)context;
}

static uint64_t fixed_wall_ms(void *context)
{
    return *(uint64_t *)context + 1;
}

START_TEST(a_test_owns_the_time)
{
    uint64_t now = 1999999;
    struct clock clock = {
        .now_ns = fixed_now_ns, .wall_ms = fixed_wall_ms, .context = &now};

    ck_assert_uint_eq(clock_now_ns(&clock), 1999999);
    ck_assert_uint_eq(clock_now_ms(&clock), 1);
    ck_assert_uint_eq(clock_wall_ms(&clock), 2000000);
    now = 2000000;
    ck_assert_uint_eq(clock_now_ms(&clock), 2);
}
END_TEST

START_TEST(the_machine_s_clock_never_goes_back)
{
    const struct clock *clock = clock_system();
    uint64_t last = clock_now_ns(clock);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = clock_now_ns(clock);
        ck_assert_uint_ge(now, last);
        last = now;
    }
    ck_assert_uint_gt(clock_wall_ms(clock), UINT64_C(1577836800000)); /* 2020 */
}
END_TEST

static uint64_t boot_time_ns(void)
{
    struct timespec now;
    ck_assert_int_eq(clock_gettime(CLOCK_BOOTTIME, &now), 0);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

START_TEST(the_time_a_host_was_suspended_counts)
{
    uint64_t before = boot_time_ns();
    uint64_t now = clock_now_ns(clock_system());
    uint64_t after = boot_time_ns();
    ck_assert_uint_ge(now, before);
    ck_assert_uint_le(now, after);
}
END_TEST

struct format_row {
    uint64_t wall_ms;
    const char *text;
};

static const struct format_row format_rows[] = {
    {0, "1970-01-01T00:00:00.000Z"},
    {UINT64_C(1795425304123), "2026-11-23T09:15:04.123Z"},
    {UINT64_C(951782400007), "2000-02-29T00:00:00.007Z"},
    {UINT64_C(253402300799999), "9999-12-31T23:59:59.999Z"},
    {UINT64_MAX, "9999-12-31T23:59:59.999Z"},
};

START_TEST(a_moment_reads_as_utc_with_milliseconds)
{
    char text[CLOCK_TEXT_SIZE];
    clock_format(format_rows[_i].wall_ms, text);
    ck_assert_str_eq(text, format_rows[_i].text);
}
END_TEST

START_TEST(a_stamp_is_the_same_moment_for_the_name_of_a_file)
{
    char text[CLOCK_STAMP_SIZE];
    clock_stamp(UINT64_C(1795425304123), text);
    ck_assert_str_eq(text, "20261123T091504Z");
    clock_stamp(UINT64_MAX, text);
    ck_assert_str_eq(text, "99991231T235959Z");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clock");
    TCase *tcase = tcase_create("clock");
    tcase_add_test(tcase, a_test_owns_the_time);
    tcase_add_test(tcase, the_machine_s_clock_never_goes_back);
    tcase_add_test(tcase, the_time_a_host_was_suspended_counts);
    tcase_add_loop_test(tcase, a_moment_reads_as_utc_with_milliseconds, 0,
                        ARRAY_COUNT(format_rows));
    tcase_add_test(tcase, a_stamp_is_the_same_moment_for_the_name_of_a_file);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
