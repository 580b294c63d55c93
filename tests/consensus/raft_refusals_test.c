/* Goal: a log that its leader cannot bring into line is told of, but not each time. */
#include "consensus/raft_refusals.h"
#include "support/test_main.h"

START_TEST(a_refusal_or_two_are_a_leaders_question)
{
    struct raft_refusals refusals = {0};
    uint64_t ms = 0;
    ck_assert(!raft_refusals_note(&refusals, true, 1000, &ms));
    ck_assert(!raft_refusals_note(&refusals, true, 1100, &ms));
    ck_assert(!raft_refusals_note(&refusals, false, 1200, &ms));
    /* what was taken in between ends it */
    ck_assert(!raft_refusals_note(&refusals, true, 1000 + RAFT_REFUSALS_LONG_MS, &ms));
}
END_TEST

START_TEST(refusing_all_is_told_of_soon_and_then_now_and_again)
{
    struct raft_refusals refusals = {0};
    uint64_t ms = 0;
    unsigned told = 0;
    for (uint64_t now_ms = 5000; now_ms <= 35000; now_ms += 100) {
        told += raft_refusals_note(&refusals, true, now_ms, &ms) ? 1U : 0U;
        ck_assert_uint_eq(told, now_ms < 7000    ? 0
                                : now_ms < 17000 ? 1
                                : now_ms < 27000 ? 2
                                                 : 3);
    }
    ck_assert_uint_eq(ms, 22000); /* since the first */
    ck_assert_uint_eq(refusals.count, 301);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_refusals");
    TCase *tests = tcase_create("raft_refusals");
    tcase_add_test(tests, a_refusal_or_two_are_a_leaders_question);
    tcase_add_test(tests, refusing_all_is_told_of_soon_and_then_now_and_again);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
