/* Goal: what libraft wants written is written in order, one write at a time; a write that
 * fails, or outlasts its leader, promises nothing. Method: raft_guard_fixture.h, whose
 * disk is done when the test says so. */
#include "raft_guard_fixture.h"
#include "support/test_main.h"

#include <errno.h>

/* ---- G2 ---- */

START_TEST(after_a_failed_write_of_the_leader_no_index_is_used_twice)
{
    bool guarded = _i == 1;
    static struct raft_apply requests[2]; /* in the library until the end */
    start(guarded, 3, OLD_TAIL, 2);
    elect();
    complete_all_writes();
    acknowledge(2, raft_last_index(&raft));
    struct raft_buffer x = {.base = raft_calloc(1, 8), .len = 8};
    ck_assert_int_eq(raft_apply(&raft, &requests[0], &x, 1, NULL), 0);
    raft_index sent_as = raft_last_index(&raft);

    complete_writes(RAFT_IOERR);

    if (guarded) {
        ck_assert_int_eq(fatal, -EIO);
        ck_assert_uint_eq(raft_last_index(&raft),
                          sent_as); /* the library has heard nothing */
        unsigned sent = fake.sent_count;
        tick_after(30);
        acknowledge(2, sent_as);
        ck_assert_uint_eq(fake.sent_count, sent); /* and says nothing more */
        ck_assert_uint_eq(applied, 1);
    } else if (!RAFT_LIBRARY_IGNORES_WRITES) {
        ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    } else {
        struct raft_buffer y = {.base = raft_calloc(1, 8), .len = 8};
        ck_assert_int_eq(raft_apply(&raft, &requests[1], &y, 1, NULL), 0);
        ck_assert_uint_eq(raft_last_index(&raft),
                          sent_as); /* another entry under the same index */
    }
}
END_TEST

START_TEST(a_follower_whose_write_fails_acknowledges_nothing_and_stops)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 2);
    unsigned sent = fake.sent_count;
    complete_writes(RAFT_NOSPACE);

    ck_assert_int_eq(fatal, BERTH_EDISKFULL);
    ck_assert_uint_eq(fake.sent_count, sent);
    append_from(2, 3, 2, 2, 2);
    ck_assert_uint_eq(fake.sent_count, sent);
    ck_assert_uint_eq(fake.writes_count, 0);
}
END_TEST

/* Without the guard the real network crashes over the address. */
START_TEST(a_write_that_outlasts_the_leader_is_answered_to_nobody)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 2);
    tick_after(601);
    if (!RAFT_LIBRARY_IGNORES_WRITES) {
        ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER); /* it waits for the write */
        return;
    }
    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 9;
    ask.request_vote.candidate_id = 3;
    ask.request_vote.last_log_index = 9;
    ask.request_vote.last_log_term = 4;
    deliver(3, ask);
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    unsigned sent = fake.sent_count;

    complete_writes(0);

    ck_assert_uint_eq(fake.sent_count, sent);
    ck_assert_int_eq(fatal, 0);
    append_from(3, 9, 4, 3, 0); /* and it goes on */
    ck_assert_uint_eq(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.last_log_index,
        4);
}
END_TEST

/* Asked for its vote after an election timeout it has forgotten its leader (G17), whose
 * address libraft remembers. */
START_TEST(a_write_that_outlasts_a_forgotten_leader_is_answered_to_nobody)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 2);
    raft.follower_state.randomized_election_timeout = 600;
    tick_after(301);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 4;
    ask.request_vote.candidate_id = 3;
    ask.request_vote.pre_vote = true;
    deliver(3, ask);
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    unsigned sent = fake.sent_count;

    complete_writes(0);

    ck_assert_uint_eq(fake.sent_count, sent);
    append_from(2, 3, 4, 3, 0); /* and it goes on */
    ck_assert_uint_eq(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.last_log_index,
        4);
}
END_TEST

/* ---- G18 ---- */

START_TEST(what_is_appended_during_a_write_goes_with_the_next_in_one_batch)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 1);
    append_from(2, 3, 3, 3, 2);
    append_from(2, 3, 5, 3, 1);
    ck_assert_uint_eq(fake.writes_count, guarded ? 1 : 3);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), 0);

    complete_writes(0);

    ck_assert_uint_eq(fake.writes_count, guarded ? 1 : 0);
    ck_assert_uint_eq(fake.write_entries[0], guarded ? 3 : 1);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), guarded ? 1 : 3);
    complete_writes(0);
    ck_assert_uint_eq(fake.writes_count, 0);
    ck_assert_uint_eq(raft.last_stored, 6);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), 3);
}
END_TEST

/* What waits stands in front of what cuts it off. */
START_TEST(the_log_is_cut_behind_what_was_to_be_written_before)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 1);
    append_from(2, 3, 3, 3, 1);
    append_from(2, 3, 4, 3, 1);
    ck_assert_uint_eq(fake.writes_count, 1);

    append_from(3, 4, 3, 3, 1); /* a later leader has another entry 4 */

    ck_assert_uint_eq(fake.writes_at_cut, 2);
    ck_assert_uint_eq(fake.write_entries[1], 2);
    ck_assert_uint_eq(fake.writes_count, 2); /* its own waits for both */
    complete_writes(0);
    ck_assert_uint_eq(fake.writes_count, 1);
    complete_writes(0);
    ck_assert_uint_eq(raft_guard_term_of(guard, 4), 4);
    ck_assert_uint_eq(raft.last_stored, 4);
}
END_TEST

START_TEST(what_waits_is_not_written_after_a_write_that_failed)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 1);
    append_from(2, 3, 3, 3, 1);

    complete_writes(RAFT_IOERR);

    ck_assert_int_eq(fatal, -EIO);
    ck_assert_uint_eq(fake.writes_count, 0);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), 0);
}
END_TEST

/* ---- the end ---- */

START_TEST(a_leader_closes_unharmed_with_several_appends_under_way)
{
    static struct raft_apply requests[2]; /* in the library until the end */
    start(true, 3, OLD_TAIL, 2);
    elect(); /* the barrier */
    for (unsigned i = 0; i < 2; i++) {
        struct raft_buffer buf = {.base = raft_calloc(1, 8), .len = 8};
        ck_assert_int_eq(raft_apply(&raft, &requests[i], &buf, 1, NULL), 0);
    }
    ck_assert_uint_eq(fake.writes_count, 1); /* the others wait for it */

    raft_close(&raft, NULL);

    ck_assert_uint_eq(fake.writes_count, 0);
    guard = raft_guard_free(guard);
    log_seal_close(&seal);
    start(true, 3, OLD_TAIL, 2); /* for the teardown */
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_appends");
    TCase *tcase = tcase_create("raft_appends");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, after_a_failed_write_of_the_leader_no_index_is_used_twice,
                        0, 2);
    tcase_add_test(tcase, a_follower_whose_write_fails_acknowledges_nothing_and_stops);
    tcase_add_test(tcase, a_write_that_outlasts_a_forgotten_leader_is_answered_to_nobody);
    tcase_add_test(tcase, a_write_that_outlasts_the_leader_is_answered_to_nobody);
    tcase_add_loop_test(
        tcase, what_is_appended_during_a_write_goes_with_the_next_in_one_batch, 0, 2);
    tcase_add_test(tcase, the_log_is_cut_behind_what_was_to_be_written_before);
    tcase_add_test(tcase, what_waits_is_not_written_after_a_write_that_failed);
    tcase_add_test(tcase, a_leader_closes_unharmed_with_several_appends_under_way);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
