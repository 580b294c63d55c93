/* Goal: each phase of a start has the time of its first time, and a guest that writes
 * anything to the port of marks costs no more than a table. */
#include "base/clock.h"
#include "support/test_main.h"
#include "vmm/boot_trace.h"

#include <check.h>

static struct boot_trace trace;

static void setup(void)
{
    boot_trace_begin(&trace);
}

START_TEST(what_came_before_main_is_in_it)
{
    ck_assert_uint_gt(boot_trace_ns(&trace, BOOT_STARTED), 0);
    ck_assert_uint_gt(trace.exec_ns, 0);
    ck_assert_uint_lt(trace.exec_ns, clock_now_ns(clock_system()));
    ck_assert_uint_eq(boot_trace_ns(&trace, BOOT_OPENED), 0);
}
END_TEST

START_TEST(a_phase_has_the_time_of_its_first_time)
{
    boot_trace_reach(&trace, BOOT_FIRST_EXIT);
    const uint64_t first_ns = boot_trace_ns(&trace, BOOT_FIRST_EXIT);
    const uint64_t now_ns = clock_now_ns(clock_system());
    while (clock_now_ns(clock_system()) == now_ns) { /* time has passed */
    }
    boot_trace_reach(&trace, BOOT_FIRST_EXIT);
    boot_trace_reach(&trace, BOOT_FIRST_BYTE);

    ck_assert_uint_ge(first_ns, boot_trace_ns(&trace, BOOT_STARTED));
    ck_assert_uint_eq(boot_trace_ns(&trace, BOOT_FIRST_EXIT), first_ns);
    ck_assert_uint_gt(boot_trace_ns(&trace, BOOT_FIRST_BYTE), first_ns);
}
END_TEST

START_TEST(a_machine_that_nobody_looks_at_is_no_trouble)
{
    boot_trace_reach(NULL, BOOT_GO);
    boot_trace_mark(NULL, 0x41);
}
END_TEST

START_TEST(a_byte_is_marked_when_it_came_first)
{
    struct boot_mark marks[BOOT_MARKS_MAX];
    static const uint8_t bytes[] = {0x40, 0x41, 0x40, 0x41, 0x00, 0xff, 0x00};
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        boot_trace_mark(&trace, bytes[i]);
    }
    ck_assert_uint_eq(boot_trace_marks(&trace, marks), 4);
    static const uint8_t expected[] = {0x40, 0x41, 0x00, 0xff};
    for (unsigned i = 0; i < sizeof(expected); i++) {
        ck_assert_uint_eq(marks[i].byte, expected[i]);
        ck_assert_uint_ge(marks[i].at_ns, i == 0 ? 1 : marks[i - 1].at_ns);
    }
}
END_TEST

START_TEST(a_guest_that_writes_all_bytes_fills_the_table_and_no_more)
{
    struct boot_mark marks[BOOT_MARKS_MAX];
    for (unsigned i = 0; i < 1000; i++) {
        boot_trace_mark(&trace, (uint8_t)i);
    }
    ck_assert_uint_eq(boot_trace_marks(&trace, marks), BOOT_MARKS_MAX);
    ck_assert_uint_eq(marks[BOOT_MARKS_MAX - 1].byte, BOOT_MARKS_MAX - 1);
}
END_TEST

START_TEST(each_phase_has_a_name_of_its_own)
{
    const char *name = boot_phase_name((enum boot_phase)_i);
    ck_assert_ptr_nonnull(name);
    for (int i = 0; i < _i; i++) {
        ck_assert_str_ne(boot_phase_name((enum boot_phase)i), name);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("boot_trace");
    TCase *tests = tcase_create("boot_trace");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, what_came_before_main_is_in_it);
    tcase_add_test(tests, a_phase_has_the_time_of_its_first_time);
    tcase_add_test(tests, a_machine_that_nobody_looks_at_is_no_trouble);
    tcase_add_test(tests, a_byte_is_marked_when_it_came_first);
    tcase_add_test(tests, a_guest_that_writes_all_bytes_fills_the_table_and_no_more);
    tcase_add_loop_test(tests, each_phase_has_a_name_of_its_own, 0, BOOT_PHASE_COUNT);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
