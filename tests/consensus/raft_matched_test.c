/* Goal: a follower acknowledges what this term's leader has shown to match, and no more.
 * Method: the value alone; what the guard makes of it is raft_guard_test's. */
#include "consensus/raft_matched.h"
#include "support/test_main.h"

#include <check.h>

START_TEST(who_has_been_shown_nothing_acknowledges_nothing)
{
    const struct raft_matched matched = {0};

    ck_assert_uint_eq(raft_matched_last(&matched, 3, 7), 0);
}
END_TEST

START_TEST(a_tail_behind_what_was_shown_is_left_out)
{
    struct raft_matched matched = {0};
    raft_matched_note(&matched, 3, 5);

    ck_assert_uint_eq(raft_matched_last(&matched, 3, 7), 5);
    ck_assert_uint_eq(raft_matched_last(&matched, 3, 4), 4); /* not stored yet */
}
END_TEST

START_TEST(a_message_that_comes_late_takes_nothing_back)
{
    struct raft_matched matched = {0};
    raft_matched_note(&matched, 3, 5);
    raft_matched_note(&matched, 3, 2);

    ck_assert_uint_eq(raft_matched_last(&matched, 3, 7), 5);
}
END_TEST

START_TEST(what_another_term_s_leader_has_shown_does_not_count)
{
    struct raft_matched matched = {0};
    raft_matched_note(&matched, 3, 5);

    ck_assert_uint_eq(raft_matched_last(&matched, 4, 7), 0);
    raft_matched_note(&matched, 4, 2);
    ck_assert_uint_eq(raft_matched_last(&matched, 4, 7), 2);
    ck_assert_uint_eq(raft_matched_last(&matched, 3, 7), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_matched");
    TCase *tcase = tcase_create("raft_matched");
    tcase_add_test(tcase, who_has_been_shown_nothing_acknowledges_nothing);
    tcase_add_test(tcase, a_tail_behind_what_was_shown_is_left_out);
    tcase_add_test(tcase, a_message_that_comes_late_takes_nothing_back);
    tcase_add_test(tcase, what_another_term_s_leader_has_shown_does_not_count);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
