/* Goal: a leadership counts as confirmed only by a majority that answers this round in
 * this term. */
#include "agent/confirm.h"
#include "support/test_main.h"

static const uint64_t three[] = {11, 22, 33};

static struct confirm leading(uint64_t term)
{
    struct confirm confirm = {0};
    confirm_lead(&confirm, term);
    return confirm;
}

START_TEST(a_single_voter_confirms_itself_at_once)
{
    struct confirm confirm = leading(5);

    ck_assert(confirm_begin(&confirm, three, 1, 11, 1000));
    ck_assert(!confirm.active);
}
END_TEST

START_TEST(one_other_of_three_voters_is_enough)
{
    struct confirm confirm = leading(5);

    ck_assert(!confirm_begin(&confirm, three, 3, 11, 1000));
    ck_assert(confirm_answer(&confirm, 33, confirm.round, 5));
    ck_assert(!confirm_answer(&confirm, 22, confirm.round, 5)); /* the round is over */
}
END_TEST

START_TEST(a_voter_of_another_term_does_not_count)
{
    struct confirm confirm = leading(5);

    confirm_begin(&confirm, three, 3, 11, 1000);
    ck_assert(!confirm_answer(&confirm, 22, confirm.round, 6));
    ck_assert(!confirm_answer(&confirm, 33, confirm.round, 4));
    ck_assert(confirm.active);
}
END_TEST

START_TEST(an_answer_to_an_earlier_round_does_not_count)
{
    struct confirm confirm = leading(5);

    confirm_begin(&confirm, three, 3, 11, 1000);
    uint64_t old = confirm.round;
    confirm_begin(&confirm, three, 3, 11, 1400);
    ck_assert(!confirm_answer(&confirm, 22, old, 5));
    ck_assert(confirm_answer(&confirm, 22, confirm.round, 5));
}
END_TEST

START_TEST(an_answer_to_an_earlier_leadership_does_not_count)
{
    struct confirm confirm = leading(5);

    confirm_begin(&confirm, three, 3, 11, 1000);
    uint64_t old = confirm.round;
    confirm_lead(&confirm, 7);
    confirm_begin(&confirm, three, 3, 11, 1000);
    ck_assert_uint_gt(confirm.round, old);
    ck_assert(!confirm_answer(&confirm, 22, old, 7));
}
END_TEST

START_TEST(strangers_and_repeated_answers_do_not_make_a_majority)
{
    static const uint64_t five[] = {1, 2, 3, 4, 5};
    struct confirm confirm = leading(9);

    confirm_begin(&confirm, five, 5, 1, 0);
    ck_assert(!confirm_answer(&confirm, 2, confirm.round, 9));
    ck_assert(!confirm_answer(&confirm, 2, confirm.round, 9));
    ck_assert(!confirm_answer(&confirm, 99, confirm.round, 9));
    ck_assert(confirm_answer(&confirm, 3, confirm.round, 9));
}
END_TEST

START_TEST(a_round_that_waits_too_long_is_told)
{
    struct confirm confirm = leading(5);

    confirm_begin(&confirm, three, 3, 11, 1000);
    ck_assert(!confirm_expired(&confirm, 1000 + CONFIRM_TIMEOUT_MS - 1));
    ck_assert(confirm_expired(&confirm, 1000 + CONFIRM_TIMEOUT_MS));
    confirm_answer(&confirm, 22, confirm.round, 5);
    ck_assert(!confirm_expired(&confirm, 100000));
}
END_TEST

START_TEST(a_leader_that_is_no_voter_needs_the_others)
{
    static const uint64_t others[] = {22, 33};
    struct confirm confirm = leading(5);

    ck_assert(!confirm_begin(&confirm, others, 2, 11, 0));
    ck_assert(!confirm_answer(&confirm, 22, confirm.round, 5));
    ck_assert(confirm_answer(&confirm, 33, confirm.round, 5));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("confirm");
    TCase *tests = tcase_create("confirm");
    tcase_add_test(tests, a_single_voter_confirms_itself_at_once);
    tcase_add_test(tests, one_other_of_three_voters_is_enough);
    tcase_add_test(tests, a_voter_of_another_term_does_not_count);
    tcase_add_test(tests, an_answer_to_an_earlier_round_does_not_count);
    tcase_add_test(tests, an_answer_to_an_earlier_leadership_does_not_count);
    tcase_add_test(tests, strangers_and_repeated_answers_do_not_make_a_majority);
    tcase_add_test(tests, a_round_that_waits_too_long_is_told);
    tcase_add_test(tests, a_leader_that_is_no_voter_needs_the_others);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
