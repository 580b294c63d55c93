/* Goal: a follower takes from a leader that begins before its snapshot what it lacks, and
 * nothing that the snapshot has. Method: libraft with and without the guard behind a
 * snapshot at index 5; the leader's log is the same up to there, as committed ones are.
 */
#include "raft_guard_fixture.h"
#include "support/test_main.h"

#define HELD 5 /* the snapshot's index, of term 2; entries 6 and 7 stand behind it */

static const raft_term BEHIND[] = {2, 2};

static void start_held(bool guarded)
{
    start_behind(guarded, 3, HELD, 2, BEHIND, 2);
    ck_assert_uint_eq(raft_last_index(&raft), 7);
}

static const struct raft_append_entries_result *answer(void)
{
    const struct raft_message *message = last_sent(RAFT_IO_APPEND_ENTRIES_RESULT);
    ck_assert_ptr_nonnull(message);
    return &message->append_entries_result;
}

START_TEST(a_leader_that_begins_before_the_snapshot_gets_through)
{
    bool guarded = _i == 1;
    start_held(guarded);
    append_committed(2, 2, 3, 2, 6, 8); /* entries 4 to 9 */
    complete_all_writes();

    ck_assert_uint_eq(answer()->rejected, guarded ? 0 : 3);
    ck_assert_uint_eq(raft_last_index(&raft), guarded ? 9 : 7);
    if (guarded) {
        ck_assert_uint_eq(answer()->last_log_index, 9);
        ck_assert_uint_eq(raft.last_applied, 8);
    }
}
END_TEST

/* Without the guard the library crashes in both. */
START_TEST(a_leader_that_begins_with_the_first_entry_gets_through)
{
    start_held(true);
    append_from(2, 2, 0, 0, 8);
    complete_all_writes();

    ck_assert_uint_eq(raft_last_index(&raft), 8);
    ck_assert_uint_eq(answer()->last_log_index, 8);
}
END_TEST

START_TEST(what_begins_with_the_first_entry_and_ends_before_the_snapshot_is_lost)
{
    start_held(true);
    append_from(2, 2, 0, 0, HELD - 1); /* sent long ago */
    complete_all_writes();

    ck_assert_uint_eq(raft_last_index(&raft), 7);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), 0);
}
END_TEST

/* No leader of Raft's says so; one whose disk was put back to an earlier day does. */
START_TEST(a_leader_that_contradicts_the_snapshot_is_refused)
{
    start_held(true);
    append_from(2, 3, 3, 2, 4); /* its entry 5 is of term 3 */
    complete_all_writes();

    ck_assert_uint_eq(answer()->rejected, 3);
    ck_assert_uint_eq(raft_guard_term_of(guard, 7), 2);
}
END_TEST

START_TEST(what_the_snapshot_has_in_a_batch_of_its_own_is_left_out)
{
    const struct raft_message held = {
        .type = RAFT_IO_APPEND_ENTRIES,
        .append_entries = {
            .term = 3, .prev_log_index = 3, .prev_log_term = 2, .n_entries = 4}};
    struct raft_message message = held;
    start_held(true);
    struct raft_entry *entries = raft_calloc(4, sizeof(*entries));
    for (unsigned i = 0; i < 4; i++) { /* two and two; who frees one twice or never */
        void *batch = i % 2 == 0 ? raft_calloc(2, 8) : entries[i - 1].batch;
        entries[i] =
            (struct raft_entry){.term = i < 2 ? 2 : 3,
                                .type = RAFT_COMMAND,
                                .buf = {.base = (uint8_t *)batch + i % 2 * 8, .len = 8},
                                .batch = batch};
    }
    message.append_entries.entries = entries;
    deliver(2, message);
    complete_all_writes();

    ck_assert_uint_eq(raft_last_index(&raft), 7); /* of term 3 now */
    ck_assert_uint_eq(raft_guard_term_of(guard, 6), 3);
    ck_assert_uint_eq(raft_guard_term_of(guard, 7), 3);
    ck_assert_uint_eq(answer()->last_log_index, 7);
}
END_TEST

START_TEST(what_ends_before_the_snapshot_does_shows_nothing)
{
    start_held(true);
    append_committed(2, 3, 4, 2, 0, 4);
    ck_assert_uint_eq(answer()->rejected, 4);

    append_committed(2, 3, 2, 2, 2, 4);
    ck_assert_uint_eq(answer()->rejected, 2);
    ck_assert_uint_eq(raft_last_index(&raft), 7);
    ck_assert_uint_eq(raft.commit_index, HELD);
}
END_TEST

START_TEST(a_leader_of_an_earlier_term_is_refused_as_before)
{
    start_held(true);
    append_from(2, 1, 3, 1, 4);
    complete_all_writes();

    ck_assert_uint_eq(answer()->rejected, 3);
    ck_assert_uint_eq(raft_last_index(&raft), 7);
}
END_TEST

START_TEST(what_begins_where_the_snapshot_ends_or_later_stays_as_it_is)
{
    start_held(true);
    append_from(2, 3, 6, 2, 2);
    complete_all_writes();
    ck_assert_uint_eq(raft_last_index(&raft), 8);
    ck_assert_uint_eq(answer()->last_log_index, 8);

    append_from(2, 3, HELD, 2, 1); /* entry 6 is another one */
    complete_all_writes();
    ck_assert_uint_eq(raft_last_index(&raft), 6);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_prefix");
    TCase *tcase = tcase_create("raft_prefix");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, a_leader_that_begins_before_the_snapshot_gets_through, 0,
                        2);
    tcase_add_test(tcase, a_leader_that_begins_with_the_first_entry_gets_through);
    tcase_add_test(tcase,
                   what_begins_with_the_first_entry_and_ends_before_the_snapshot_is_lost);
    tcase_add_test(tcase, a_leader_that_contradicts_the_snapshot_is_refused);
    tcase_add_test(tcase, what_the_snapshot_has_in_a_batch_of_its_own_is_left_out);
    tcase_add_test(tcase, what_ends_before_the_snapshot_does_shows_nothing);
    tcase_add_test(tcase, a_leader_of_an_earlier_term_is_refused_as_before);
    tcase_add_test(tcase, what_begins_where_the_snapshot_ends_or_later_stays_as_it_is);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
