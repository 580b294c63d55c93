/* Goal: elections and votes, where libraft gives, asks for or refuses them otherwise than
 * Raft does: who stands, who counts, who gets a vote. Method: raft_guard_fixture.h, each
 * rule without the guard and with it. */
#include "raft_guard_fixture.h"
#include "support/test_main.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- G4 ---- */

START_TEST(the_target_of_a_transfer_gets_no_second_vote_in_one_term)
{
    bool guarded = _i == 1;
    static struct raft_transfer transfer; /* in the library until the end */
    start(guarded, 3, OLD_TAIL, 2);
    elect();
    complete_writes(0);
    acknowledge(3, raft_last_index(&raft));
    ck_assert_int_eq(raft_transfer(&raft, &transfer, 3, NULL), 0);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = raft.current_term + 1;
    ask.request_vote.candidate_id = 2;
    ask.request_vote.last_log_index = 9;
    ask.request_vote.last_log_term = raft.current_term;
    ask.request_vote.disrupt_leader = true;
    deliver(2, ask);
    ck_assert_uint_eq(raft.voted_for, 2);

    ask.request_vote.candidate_id = 3;
    deliver(3, ask);

    ck_assert_uint_eq(raft.voted_for, guarded ? 2 : 3);
}
END_TEST

/* ---- G19 ---- */

START_TEST(the_only_voter_begins_a_term_of_its_own_at_each_start)
{
    bool guarded = _i == 1;
    static const raft_term terms[] = {1, 4};
    start(guarded, 1, terms, 2);
    ck_assert_int_eq(raft_state(&raft), RAFT_LEADER);
    ck_assert_uint_eq(raft.current_term, guarded ? 5 : 4);
    ck_assert_uint_eq(fake.term, guarded ? 5 : 4);
    ck_assert_uint_eq(fake.vote, guarded ? 1 : 0);
}
END_TEST

START_TEST(the_only_voter_leads_in_no_term_that_another_may_lead_in)
{
    bool guarded = _i == 1;
    static const raft_term terms[] = {1, 4};
    start(guarded, 1, terms, 2);
    append_from(2, 9, 2, 4, 0); /* somebody of a later term */
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    tick_after(601);
    ck_assert_int_eq(raft_state(&raft), RAFT_LEADER);
    ck_assert_uint_eq(raft.current_term, guarded ? 10 : 9);
    ck_assert_uint_eq(fake.vote, guarded ? 1 : 0);
}
END_TEST

/* ---- G14 ---- */

/* As when 2 has promoted this one and could not tell. */
START_TEST(a_standby_that_hears_no_leader_any_more_votes_when_it_is_asked)
{
    bool guarded = _i == 1;
    standby = true;
    start(guarded, 2, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 0);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 4;
    ask.request_vote.candidate_id = 2;
    ask.request_vote.last_log_index = 3;
    ask.request_vote.last_log_term = 3;
    tick_after(299);
    deliver(2, ask);
    ck_assert_uint_eq(fake.vote, 0); /* it has a leader */

    tick_after(1);
    deliver(2, ask);

    ck_assert_uint_eq(fake.vote, guarded ? 2 : 0);
    ck_assert_uint_eq(raft.voted_for, fake.vote);
    ck_assert_int_eq(raft.configuration.servers[0].role, RAFT_STANDBY);
    tick_after(1000);
    ck_assert_int_eq(raft_state(&raft),
                     RAFT_FOLLOWER); /* and stands for nothing itself */
}
END_TEST

/* ---- G17 ---- */

START_TEST(a_voter_that_heard_no_leader_for_an_election_timeout_gives_its_vote)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 0);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 4;
    ask.request_vote.candidate_id = 3;
    ask.request_vote.last_log_index = 3;
    ask.request_vote.last_log_term = 3;
    tick_after(299);
    deliver(3, ask);
    ck_assert_uint_eq(fake.vote, 0); /* it has a leader */

    raft.follower_state.randomized_election_timeout = 600;
    tick_after(1);
    deliver(3, ask);

    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
    ck_assert_uint_eq(fake.vote, guarded ? 3 : 0);
}
END_TEST

/* ---- G20 ---- */

/* The peer's process is another one than the channel led to. */
START_TEST(a_request_for_a_vote_whose_channel_has_ended_is_sent_once_more)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    fake.broken_id = 2;
    raft_set_pre_vote(&raft, true);

    tick_after(601);

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(count_sent(RAFT_IO_REQUEST_VOTE), guarded ? 2 : 1);
    ck_assert_uint_eq(fake.broken_id, 0);
}
END_TEST

/* ---- G15 ---- */

START_TEST(who_is_refused_a_pre_vote_for_its_term_learns_of_the_higher_one)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 9;
    ask.request_vote.candidate_id = 3; /* whose log is short */
    ask.request_vote.last_log_index = 1;
    ask.request_vote.last_log_term = 1;
    deliver(3, ask);
    ck_assert_uint_eq(raft.current_term, 9);

    ask.request_vote.term = 5;
    ask.request_vote.candidate_id = 2;
    ask.request_vote.last_log_index = 7;
    ask.request_vote.last_log_term = 4;
    ask.request_vote.pre_vote = true;
    deliver(2, ask);

    const struct raft_request_vote_result *result =
        &last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result;
    ck_assert(!result->vote_granted);
    ck_assert_uint_eq(result->term, guarded ? 9 : 5);
}
END_TEST

/* ---- G22 ---- */

/* To a question ahead of an election it names the term that was asked for. */
static void give_vote_of(raft_id id, bool is_ahead, raft_term term)
{
    struct raft_message vote = {.type = RAFT_IO_REQUEST_VOTE_RESULT};
    vote.request_vote_result.term = term;
    vote.request_vote_result.vote_granted = true;
    vote.request_vote_result.pre_vote =
        is_ahead ? RAFT_LIBRARY_PRE_VOTE : RAFT_LIBRARY_REAL_VOTE;
#ifdef RAFT_VERSION_NUMBER
    vote.request_vote_result.version = 2; /* one that says which of the two it is */
#endif
    deliver(id, vote);
    ck_assert_uint_eq(fake.term, raft.current_term);
    ck_assert_uint_eq(fake.vote, raft.voted_for);
}

static void give_vote(raft_id id, bool is_ahead)
{
    give_vote_of(id, is_ahead, raft.current_term + (is_ahead ? 1 : 0));
}

/* It has just begun a term of its own, with a majority's leave, and waits for votes. */
static void stand(void)
{
    start(true, 3, OLD_TAIL, 2);
    raft_set_pre_vote(&raft, true);
    tick_after(601);
    give_vote(2, true);
    ck_assert(!last_sent(RAFT_IO_REQUEST_VOTE)->request_vote.pre_vote);
}

START_TEST(a_candidate_without_votes_asks_before_it_raises_its_term_again)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    raft_set_pre_vote(&raft, true);
    tick_after(601);
    const raft_term term = raft.current_term;
    give_vote(2, true);
    ck_assert_uint_eq(raft.current_term, term + 1);
    ck_assert(!last_sent(RAFT_IO_REQUEST_VOTE)->request_vote.pre_vote);

    for (unsigned i = 0; i < 5; i++) { /* it is cut off */
        tick_after(1201);
    }

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(raft.current_term, term + (guarded ? 1 : 6));
    ck_assert(last_sent(RAFT_IO_REQUEST_VOTE)->request_vote.pre_vote == guarded);
    if (guarded) {
        give_vote(3, true);
        ck_assert_uint_eq(raft.current_term, term + 2);
    }
    give_vote(3, false);
    ck_assert_int_eq(raft_state(&raft), RAFT_LEADER);
}
END_TEST

START_TEST(a_candidate_whose_time_is_not_up_waits_for_its_votes)
{
    stand();
    const raft_term term = raft.current_term;

    tick_after(30);
    give_vote(3, false);

    ck_assert_int_eq(raft_state(&raft), RAFT_LEADER);
    ck_assert_uint_eq(raft.current_term, term);
}
END_TEST

START_TEST(a_vote_that_comes_when_it_asks_again_counts_for_nothing)
{
    stand();
    const raft_term term = raft.current_term;
    tick_after(1201);

    give_vote(3, false);

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(raft.current_term, term);
    ck_assert(last_sent(RAFT_IO_REQUEST_VOTE)->request_vote.pre_vote);
}
END_TEST

/* The second of two that gave leave to stand, on its way for a while: libraft takes the
 * term that it names, the candidate's own by now, for the next one. */
START_TEST(an_answer_to_what_it_asked_before_does_not_let_it_stand)
{
    stand();
    const raft_term term = raft.current_term;
    tick_after(1201);

    give_vote_of(3, true, term);
    ck_assert_uint_eq(raft.current_term, term);

    give_vote(2, true);
    ck_assert_uint_eq(raft.current_term, term + 1);
}
END_TEST

/* A leader that has named it is not there any more, or has thought better of it. */
START_TEST(who_did_not_take_over_asks_as_anybody_does)
{
    bool guarded = _i == 1;
    start(guarded, 3, OLD_TAIL, 2);
    raft_set_pre_vote(&raft, true);
    struct raft_message take = {.type = RAFT_IO_TIMEOUT_NOW};
    take.timeout_now.term = 3;
    take.timeout_now.last_log_index = take.timeout_now.last_log_term = 2;
    append_from(2, 3, 2, 2, 0); /* whose term is 3 */
    deliver(2, take);
    ck_assert(last_sent(RAFT_IO_REQUEST_VOTE)->request_vote.disrupt_leader);
    const raft_term term = raft.current_term;

    tick_after(1201);

    const struct raft_request_vote *ask = &last_sent(RAFT_IO_REQUEST_VOTE)->request_vote;
    ck_assert(ask->disrupt_leader != guarded && ask->pre_vote == guarded);
    ck_assert_uint_eq(raft.current_term, term + (guarded ? 0 : 1));
}
END_TEST

/* ---- G21 ---- */

/* Those with ids up to that. */
static void make_members(unsigned voters, struct raft_configuration *ret)
{
    raft_configuration_init(ret);
    for (unsigned id = 1; id <= voters; id++) {
        char address[8] = {(char)('0' + id)};
        ck_assert_int_eq(raft_configuration_add(ret, id, address, RAFT_VOTER), 0);
    }
}

/* Entry 3, of term 3, by leader 2. */
static void append_change(unsigned voters)
{
    struct raft_configuration members;
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES};
    struct raft_append_entries *args = &message.append_entries;
    args->term = 3;
    args->prev_log_index = args->prev_log_term = 2;
    args->n_entries = 1;
    args->entries = raft_calloc(1, sizeof(*args->entries));
    args->entries[0].term = 3;
    args->entries[0].type = RAFT_CHANGE;
    make_members(voters, &members);
    ck_assert_int_eq(raft_configuration_encode(&members, &args->entries[0].buf), 0);
    args->entries[0].batch = args->entries[0].buf.base;
    raft_configuration_close(&members);
    deliver(2, message);
}

/* Time is up for a follower; what is said of it. */
static const char *tick_and_listen(void)
{
    static char said[512];
    FILE *heard = tmpfile();
    const int own = dup(STDERR_FILENO);
    ck_assert(heard != NULL && own >= 0);
    ck_assert_int_ge(dup2(fileno(heard), STDERR_FILENO), 0);
    tick_after(601);
    ck_assert_int_ge(dup2(own, STDERR_FILENO), 0);
    (void)close(own);
    rewind(heard);
    said[fread(said, 1, sizeof(said) - 1, heard)] = '\0';
    (void)fclose(heard);
    return said;
}

START_TEST(who_stands_for_election_counts_the_newest_members_of_its_log)
{
    bool waits = _i == 1 || !RAFT_LIBRARY_IGNORES_WRITES;
    start(_i == 1, 4, OLD_TAIL, 2);
    append_change(3);
    append_from(2, 3, 3, 3, 1); /* behind it, in a write of its own */
    const char *said = tick_and_listen();
    ck_assert(!RAFT_LIBRARY_IGNORES_WRITES || _i != 1 ||
              strstr(said, "a change of members is not on the disk") != NULL);
    ck_assert_int_eq(raft_state(&raft), waits ? RAFT_FOLLOWER : RAFT_CANDIDATE);
    ck_assert_uint_eq(raft.configuration.n, 4);

    complete_all_writes();

    ck_assert_uint_eq(raft.last_stored, 4);
    ck_assert_uint_eq(raft.configuration.n, waits ? 3 : 4);
    tick_after(RAFT_LIBRARY_IGNORES_WRITES ? 1 : 601); /* its time is up long since */
    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
}
END_TEST

START_TEST(who_is_to_take_over_counts_the_newest_members_of_its_log)
{
    bool waits = _i == 1 || !RAFT_LIBRARY_IGNORES_WRITES;
    start(_i == 1, 4, OLD_TAIL, 2);
    append_change(3);
    struct raft_message now = {.type = RAFT_IO_TIMEOUT_NOW};
    now.timeout_now.term = now.timeout_now.last_log_index =
        now.timeout_now.last_log_term = 3;
    deliver(2, now);
    ck_assert_int_eq(raft_state(&raft), waits ? RAFT_FOLLOWER : RAFT_CANDIDATE);

    complete_all_writes();
    deliver(2, now);

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(raft.configuration.n, waits ? 3 : 4);
}
END_TEST

START_TEST(who_waits_for_a_change_on_its_way_to_the_disk_gives_its_vote)
{
    start(true, 3, OLD_TAIL, 2);
    append_change(3);
    if (!RAFT_LIBRARY_IGNORES_WRITES) {
        return; /* that one believes in its leader while it waits */
    }
    for (unsigned i = 0; i < 3; i++) {
        tick_after(601);
    }
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 4;
    ask.request_vote.candidate_id = 3;
    ask.request_vote.last_log_index = ask.request_vote.last_log_term = 3;

    deliver(3, ask);

    ck_assert_uint_eq(fake.vote, 3);
    ck_assert_uint_eq(raft.last_stored, 2);
}
END_TEST

START_TEST(a_change_that_is_cut_off_keeps_nobody_from_an_election)
{
    start(true, 4, OLD_TAIL, 2);
    append_change(3);
    tick_after(601);
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);

    append_from(3, 4, 2, 2, 1); /* a later leader has another entry 3 */
    if (!RAFT_LIBRARY_IGNORES_WRITES) {
        complete_all_writes(); /* for which that one waits */
    }
    tick_after(601);

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    complete_all_writes();
    ck_assert_uint_eq(raft.configuration.n, 4);
}
END_TEST

START_TEST(who_could_not_write_a_change_stops)
{
    start(true, 4, OLD_TAIL, 2);
    append_change(3);
    tick_after(601);

    complete_writes(RAFT_IOERR);

    ck_assert_int_eq(fatal, -EIO);
    tick_after(601);
    ck_assert_int_eq(raft_state(&raft), RAFT_FOLLOWER);
}
END_TEST

START_TEST(who_gets_a_snapshot_stands_for_election_when_its_disk_has_it)
{
    bool waits = _i == 1 || !RAFT_LIBRARY_IGNORES_WRITES;
    start(_i == 1, 4, OLD_TAIL, 2);
    struct raft_message message = {.type = RAFT_IO_INSTALL_SNAPSHOT};
    struct raft_install_snapshot *args = &message.install_snapshot;
    args->term = args->last_term = 3;
    args->last_index = args->conf_index = 9;
    args->data = (struct raft_buffer){.base = raft_calloc(1, 8), .len = 8};
    make_members(3, &args->conf);
    deliver(2, message);
    const char *said = tick_and_listen();
    ck_assert(!RAFT_LIBRARY_IGNORES_WRITES || _i != 1 ||
              strstr(said, "a received snapshot is not on the disk") != NULL);
    ck_assert_int_eq(raft_state(&raft), waits ? RAFT_FOLLOWER : RAFT_CANDIDATE);

    complete_put();
    tick_after(601);

    ck_assert_int_eq(raft_state(&raft), RAFT_CANDIDATE);
    ck_assert_uint_eq(raft.configuration.n, 3);
}
END_TEST

/* ---- G2: votes ---- */

START_TEST(a_vote_that_cannot_be_stored_is_not_given)
{
    start(true, 3, OLD_TAIL, 2);
    fake.set_vote_status = RAFT_IOERR;
    struct raft_message ask = {.type = RAFT_IO_REQUEST_VOTE};
    ask.request_vote.term = 5;
    ask.request_vote.candidate_id = 2;
    ask.request_vote.last_log_index = 9;
    ask.request_vote.last_log_term = 4;
    deliver(2, ask);

    ck_assert_int_eq(fatal, -EIO);
    ck_assert_ptr_null(last_sent(RAFT_IO_REQUEST_VOTE_RESULT));
}
END_TEST

START_TEST(
    a_vote_for_itself_that_cannot_be_stored_ends_the_election_that_a_transfer_began)
{
    start(true, 3, OLD_TAIL, 2);
    append_from(2, 3, 2, 2, 0); /* 2 leads in term 3 */
    fake.set_vote_status = RAFT_IOERR;
    struct raft_message now = {.type = RAFT_IO_TIMEOUT_NOW};
    now.timeout_now.term = 3;
    now.timeout_now.last_log_index = 2;
    now.timeout_now.last_log_term = 2;
    deliver(2, now);

    ck_assert_int_eq(fatal, -EIO);
    ck_assert_ptr_null(last_sent(RAFT_IO_REQUEST_VOTE));
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_votes");
    TCase *tcase = tcase_create("raft_votes");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(
        tcase, a_request_for_a_vote_whose_channel_has_ended_is_sent_once_more, 0, 2);
    tcase_add_loop_test(
        tcase, a_candidate_without_votes_asks_before_it_raises_its_term_again, 0, 2);
    tcase_add_loop_test(tcase, who_did_not_take_over_asks_as_anybody_does, 0, 2);
    tcase_add_test(tcase, a_candidate_whose_time_is_not_up_waits_for_its_votes);
    tcase_add_test(tcase, a_vote_that_comes_when_it_asks_again_counts_for_nothing);
    tcase_add_test(tcase, an_answer_to_what_it_asked_before_does_not_let_it_stand);
    tcase_add_test(tcase, a_vote_that_cannot_be_stored_is_not_given);
    tcase_add_test(
        tcase,
        a_vote_for_itself_that_cannot_be_stored_ends_the_election_that_a_transfer_began);
    tcase_add_loop_test(tcase, the_target_of_a_transfer_gets_no_second_vote_in_one_term,
                        0, 2);
    tcase_add_loop_test(
        tcase, a_standby_that_hears_no_leader_any_more_votes_when_it_is_asked, 0, 2);
    tcase_add_loop_test(
        tcase, a_voter_that_heard_no_leader_for_an_election_timeout_gives_its_vote, 0, 2);
    tcase_add_loop_test(
        tcase, who_is_refused_a_pre_vote_for_its_term_learns_of_the_higher_one, 0, 2);
    tcase_add_loop_test(tcase, the_only_voter_begins_a_term_of_its_own_at_each_start, 0,
                        2);
    tcase_add_loop_test(tcase, the_only_voter_leads_in_no_term_that_another_may_lead_in,
                        0, 2);
    tcase_add_loop_test(
        tcase, who_stands_for_election_counts_the_newest_members_of_its_log, 0, 2);
    tcase_add_loop_test(tcase, who_is_to_take_over_counts_the_newest_members_of_its_log,
                        0, 2);
    tcase_add_test(tcase, who_waits_for_a_change_on_its_way_to_the_disk_gives_its_vote);
    tcase_add_test(tcase, a_change_that_is_cut_off_keeps_nobody_from_an_election);
    tcase_add_test(tcase, who_could_not_write_a_change_stops);
    tcase_add_loop_test(
        tcase, who_gets_a_snapshot_stands_for_election_when_its_disk_has_it, 0, 2);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
