/* Goal: the guard between libraft and its disk and network lets nothing be committed,
 * acknowledged, applied or lost that Raft would not. Method: raft_guard_fixture.h, each
 * known defect without the guard and with it. Votes are in raft_votes_test.c, writes in
 * raft_appends_test.c. */
#include "raft_guard_fixture.h"
#include "support/test_main.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- G1 ---- */

START_TEST(an_entry_of_an_old_term_is_not_committed_by_counting)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    elect(); /* term 3; entry 2 is of term 2 and on two disks of three as soon as 2 says
                so */

    if (guarded) {
        ck_assert_uint_eq(fake.writes_count, 1); /* the term's first goes out at once */
    }
    acknowledge(2, 2);

    const bool counted = !guarded && RAFT_LIBRARY_OPENING == 0;
    ck_assert_uint_eq(raft.commit_index >= 2, counted);
    ck_assert_uint_eq(applied, counted ? 1 : 0);
}
END_TEST

START_TEST(with_the_barrier_of_its_own_term_everything_before_is_committed)
{
    start(true, 3, OLD_TAIL, 2);
    elect();
    ck_assert(!raft_guard_ready(guard));
    complete_all_writes();
    acknowledge(2, 3 + RAFT_LIBRARY_OPENING);

    ck_assert_uint_eq(raft.commit_index, 3 + RAFT_LIBRARY_OPENING);
    ck_assert_uint_eq(applied, 1);
    ck_assert(raft_guard_ready(guard));
}
END_TEST

/* It may not count the answer to its first message, which says that nothing lies between
 * it and the barrier: without it the barrier waited for a heartbeat that is due. */
START_TEST(a_follower_that_answered_early_gets_the_barrier_as_soon_as_it_is_stored)
{
    start(true, 3, OLD_TAIL, 2);
    elect();
    acknowledge(2, 2);
    ck_assert_uint_eq(raft.commit_index, 1);
    const unsigned sent = count_sent(RAFT_IO_APPEND_ENTRIES);

    complete_all_writes();

    const struct raft_message *message = last_sent(RAFT_IO_APPEND_ENTRIES);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES), sent + 1);
    ck_assert_uint_eq(message->server_id, 2);
    ck_assert_uint_eq(message->append_entries.prev_log_index, 2);
    ck_assert_uint_eq(message->append_entries.n_entries, 1 + RAFT_LIBRARY_OPENING);
    ck_assert_uint_eq(raft.commit_index, 1); /* what it has of old terms is not counted */
    ck_assert_uint_eq(applied, 0);
    acknowledge(2, 3 + RAFT_LIBRARY_OPENING);
    ck_assert(raft_guard_ready(guard));
}
END_TEST

/* Who is deposed before its barrier is stored hears nothing of its own time. */
START_TEST(what_was_said_to_a_leader_of_before_is_not_heard)
{
    start(true, 3, OLD_TAIL, 2);
    elect();
    acknowledge(2, 2);
    append_from(3, 9, 1, 1, 0);
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    const unsigned sent = count_sent(RAFT_IO_APPEND_ENTRIES);

    complete_writes(0);

    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES), sent);
    ck_assert_int_eq(fatal, 0);
}
END_TEST

/* ---- G3 ---- */

static const raft_term STALE_TAIL[] = {1, 2, 2, 2};

START_TEST(a_tail_that_the_leader_did_not_send_is_not_acknowledged)
{
    bool guarded = _i == 1;
    start(guarded, 3, STALE_TAIL, 4); /* entries 3 and 4 were never committed */
    append_from(2, 3, 2, 2, 0);       /* the new leader shares only 1 and 2 */

    const struct raft_message *message = last_sent(RAFT_IO_APPEND_ENTRIES_RESULT);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(message->append_entries_result.rejected, 0);
    ck_assert_uint_eq(message->append_entries_result.last_log_index, guarded ? 2 : 4);
}
END_TEST

START_TEST(what_the_leader_sent_and_the_disk_has_is_acknowledged)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 2);
    ck_assert_ptr_null(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)); /* not before it is stored */
    complete_writes(0);

    const struct raft_message *message = last_sent(RAFT_IO_APPEND_ENTRIES_RESULT);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(message->append_entries_result.last_log_index, 4);
}
END_TEST

/* ---- G16 ---- */

START_TEST(what_was_committed_before_is_applied_while_the_disk_writes)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 1);
    complete_writes(0);
    unsigned answers = count_sent(RAFT_IO_APPEND_ENTRIES_RESULT);

    append_committed(2, 3, 3, 3, 1, 3); /* the leader has committed entry 3 */
    ck_assert_uint_eq(raft.last_applied, guarded ? 3 : 1);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), answers);

    complete_writes(0);
    ck_assert_uint_eq(raft.last_applied, 3);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), answers + 1);
    ck_assert_uint_eq(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.last_log_index,
        4);
}
END_TEST

/* Taking it waits for the write under way, and libraft has room for one such wait. */
START_TEST(what_makes_a_snapshot_due_is_applied_when_the_disk_has_written)
{
    start(true, 3, OLD_TAIL, 2);
    raft_set_snapshot_threshold(&raft, 3);
    append_from(2, 3, 2, 2, 1);
    complete_writes(0);

    append_committed(2, 3, 3, 3, 1, 3);
    ck_assert_uint_eq(raft.last_applied, 1);
}
END_TEST

START_TEST(nothing_is_applied_that_the_leader_has_not_shown_to_match)
{
    start(true, 3, STALE_TAIL, 4);      /* entries 3 and 4 were never committed */
    append_committed(2, 3, 2, 2, 2, 4); /* others are, in their place */
    ck_assert_uint_eq(raft.last_applied, 2);

    complete_writes(0);
    ck_assert_uint_eq(raft.last_applied, 4);
    ck_assert_uint_eq(raft_guard_term_of(guard, 4), 3);
}
END_TEST

START_TEST(a_leader_that_does_not_match_has_nothing_applied)
{
    start(true, 3, STALE_TAIL, 4);
    append_committed(2, 3, 4, 3, 1, 4); /* its entry 4 is of term 3 */

    ck_assert_uint_eq(raft.last_applied, 1);
    ck_assert_uint_eq(count_sent(RAFT_IO_APPEND_ENTRIES_RESULT), 1);
    ck_assert_uint_eq(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.rejected, 4);
}
END_TEST

/* ---- G2: messages ---- */

/* Without the guard the library frees the entries twice here. */
START_TEST(an_answer_that_cannot_be_sent_is_a_lost_one)
{
    start(true, 3, OLD_TAIL, 2);
    fake.send_status = RAFT_NOMEM;
    append_from(2, 3, 9, 3, 2); /* does not join its log: refused without a write */
    ck_assert_uint_eq(fake.sent_count, 0);

    fake.send_status = 0;
    append_from(2, 3, 9, 3, 2);
    ck_assert_uint_ne(
        last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.rejected, 0);
    ck_assert_int_eq(fatal, 0);
}
END_TEST

/* ---- G9 ---- */

START_TEST(a_log_shorter_than_the_seal_does_not_start)
{
    static const raft_term terms[] = {1, 1, 1};
    start(true, 3, terms, 3);
    raft_guard_seal(guard);
    ck_assert_uint_eq(seal.state.index, 3);
    raft_close(&raft, NULL);
    guard = raft_guard_free(guard);
    struct raft_guard_hooks hooks = {
        .fatal = on_fatal, .changed = on_changed, .free_bytes = free_bytes};
    guard = raft_guard_new(&raft, &fake.io, &seal, &hooks);
    fake.loaded = 2;
    ck_assert_int_eq(raft_init(&raft, raft_guard_io(guard), &fsm, 1, "1"), 0);

    ck_assert_int_eq(raft_start(&raft), RAFT_CORRUPT);
    ck_assert_ptr_nonnull(strstr(raft_guard_io(guard)->errmsg, "ends at index 2"));
}
END_TEST

START_TEST(cutting_the_log_lowers_the_seal_first)
{
    start(true, 3, STALE_TAIL, 4);
    raft_guard_seal(guard);
    ck_assert_uint_eq(seal.state.index, 4);
    append_from(2, 3, 2, 2, 1); /* replaces 3 and 4 */

    ck_assert_uint_eq(seal.state.index, 2);
    ck_assert_uint_eq(seal.state.index_term, 2);
    complete_writes(0);
    raft_guard_seal(guard);
    ck_assert_uint_eq(seal.state.index, 3);
    ck_assert_uint_eq(seal.state.index_term, 3);
}
END_TEST

START_TEST(a_seal_that_is_written_off_the_loop_halts_when_it_cannot_be)
{
    static const raft_term terms[] = {1, 1, 1};
    uv_loop_t loop;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    disk = work_pool_new(&loop, 1, 1);
    start(true, 3, terms, 3);
    char *path = temp_dir_path(&dir, LOG_SEAL_FILE);
    ck_assert_int_eq(unlink(path), 0);

    raft_guard_seal(guard);
    ck_assert_int_eq(fatal, 0); /* under way */
    while (fatal == 0) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }

    ck_assert_int_eq(fatal, -ENOENT);
    ck_assert(raft_guard_halted(guard));
    ck_assert_uint_eq(seal.state.index, 0);
    work_pool_close(disk);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    free(path);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_guard");
    TCase *tcase = tcase_create("raft_guard");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, an_entry_of_an_old_term_is_not_committed_by_counting, 0,
                        2);
    tcase_add_test(tcase,
                   with_the_barrier_of_its_own_term_everything_before_is_committed);
    tcase_add_test(
        tcase, a_follower_that_answered_early_gets_the_barrier_as_soon_as_it_is_stored);
    tcase_add_test(tcase, what_was_said_to_a_leader_of_before_is_not_heard);
    tcase_add_test(tcase, an_answer_that_cannot_be_sent_is_a_lost_one);
    tcase_add_loop_test(tcase, a_tail_that_the_leader_did_not_send_is_not_acknowledged, 0,
                        2);
    tcase_add_test(tcase, what_the_leader_sent_and_the_disk_has_is_acknowledged);
    tcase_add_loop_test(tcase, what_was_committed_before_is_applied_while_the_disk_writes,
                        0, 2);
    tcase_add_test(tcase, what_makes_a_snapshot_due_is_applied_when_the_disk_has_written);
    tcase_add_test(tcase, nothing_is_applied_that_the_leader_has_not_shown_to_match);
    tcase_add_test(tcase, a_leader_that_does_not_match_has_nothing_applied);
    tcase_add_test(tcase, a_log_shorter_than_the_seal_does_not_start);
    tcase_add_test(tcase, cutting_the_log_lowers_the_seal_first);
    tcase_add_test(tcase, a_seal_that_is_written_off_the_loop_halts_when_it_cannot_be);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
