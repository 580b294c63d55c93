/* Goal: the log's members follow the hosts: three that are well, one change at a time,
 * and never a change that the voters left could not outlive. Method: the decision is a
 * function of values; a small cluster made of those values carries out each step as the
 * log and the state would, also in random weather. */
#include "agent/voters.h"
#include "base/random.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

#define HOSTS_MAX 7

static struct voters_host hosts[HOSTS_MAX];
static unsigned host_count;
static char trail[512]; /* "remove 1, record-none 1, " */

static const char *const step_names[] = {
    [VOTERS_STEP_NONE] = "none",
    [VOTERS_STEP_REMOVE] = "remove",
    [VOTERS_STEP_RECORD_NONE] = "record-none",
    [VOTERS_STEP_RECORD_STANDBY] = "record-standby",
    [VOTERS_STEP_RECORD_VOTER] = "record-voter",
    [VOTERS_STEP_ADD] = "add",
    [VOTERS_STEP_PROMOTE] = "promote",
    [VOTERS_STEP_HAND_OVER] = "hand-over",
};

/* Host 0 leads; the first `voters` hosts vote, the others are only ready. */
static void cluster(unsigned count, unsigned voters)
{
    memset(hosts, 0, sizeof(hosts));
    trail[0] = '\0';
    host_count = count;
    for (unsigned i = 0; i < count; i++) {
        hosts[i].raft_id = i + 1;
        hosts[i].self = i == 0;
        hosts[i].recent = i > 0;
        if (i < voters) {
            hosts[i].recorded = VOTER_VOTER;
            hosts[i].role = CONSENSUS_ROLE_VOTER;
        }
    }
}

static void lose(unsigned index, uint64_t for_ms)
{
    hosts[index].phase = HOST_PHASE_LOST;
    hosts[index].recent = false;
    hosts[index].lost_ms = for_ms;
}

/* `berth rm host/...`: the record goes, the log still knows it. */
static void forget(unsigned index)
{
    hosts[index].phase = HOST_PHASE_REMOVED;
    hosts[index].recorded = VOTER_NONE;
    hosts[index].drain = false;
}

static void carry_out(enum voters_step step, struct voters_host *host)
{
    switch (step) {
    case VOTERS_STEP_REMOVE:
        host->role = CONSENSUS_ROLE_NONE;
        break;
    case VOTERS_STEP_RECORD_NONE:
        host->recorded = VOTER_NONE;
        break;
    case VOTERS_STEP_RECORD_STANDBY:
        host->recorded = VOTER_STANDBY;
        break;
    case VOTERS_STEP_RECORD_VOTER:
        host->recorded = VOTER_VOTER;
        break;
    case VOTERS_STEP_ADD:
        host->role = CONSENSUS_ROLE_STANDBY;
        break;
    case VOTERS_STEP_HAND_OVER:
        for (unsigned i = 0; i < host_count; i++) {
            hosts[i].self = &hosts[i] == host;
            hosts[i].recent = !hosts[i].self && hosts[i].phase == HOST_PHASE_READY;
        }
        break;
    default:
        host->role = CONSENSUS_ROLE_VOTER;
        break;
    }
    host->failures = 0;
}

static enum voters_step decide(unsigned *ret_index)
{
    return voters_decide(hosts, host_count, ret_index);
}

/* Until nothing is left to do. */
static void settle(void)
{
    unsigned index = 0;
    enum voters_step step;
    for (unsigned turn = 0; (step = decide(&index)) != VOTERS_STEP_NONE; turn++) {
        size_t used = strlen(trail);
        ck_assert_msg(turn < 50, "it never ends: %s", trail);
        (void)snprintf(trail + used, sizeof(trail) - used, "%s %u, ", step_names[step],
                       index);
        carry_out(step, &hosts[index]);
    }
}

static unsigned voting(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < host_count; i++) {
        count += hosts[i].role == CONSENSUS_ROLE_VOTER ? 1U : 0U;
    }
    return count;
}

START_TEST(two_hosts_keep_one_voter)
{
    cluster(2, 1);

    settle();

    ck_assert_str_eq(trail, "");
}
END_TEST

START_TEST(the_third_host_makes_three_voters_one_step_at_a_time)
{
    cluster(3, 1);

    settle();

    ck_assert_str_eq(trail, "record-standby 1, add 1, promote 1, record-voter 1, "
                            "record-standby 2, add 2, promote 2, record-voter 2, ");
}
END_TEST

START_TEST(three_voters_are_enough)
{
    cluster(5, 3);

    settle();

    ck_assert_str_eq(trail, "");
}
END_TEST

START_TEST(a_voter_lost_for_good_is_replaced)
{
    cluster(5, 3);
    hosts[3].drain = true; /* no candidate */
    lose(1, VOTERS_LOST_MS);

    settle();

    ck_assert_str_eq(trail, "remove 1, record-none 1, record-standby 4, add 4, "
                            "promote 4, record-voter 4, ");
}
END_TEST

START_TEST(a_voter_lost_for_a_while_is_waited_for)
{
    cluster(4, 3);
    lose(1, VOTERS_LOST_MS - 1);

    settle();

    ck_assert_str_eq(trail, "");
}
END_TEST

START_TEST(a_lost_voter_stays_while_nobody_can_take_its_place)
{
    cluster(4, 3);
    lose(1, VOTERS_LOST_MS);
    hosts[3].phase = _i == 0 ? HOST_PHASE_SUSPECT : HOST_PHASE_READY;
    hosts[3].drain = _i == 1;
    hosts[3].rests = _i == 2;

    settle();

    ck_assert_str_eq(trail, "");
}
END_TEST

START_TEST(nothing_is_changed_while_another_voter_is_not_well)
{
    cluster(7,
            _i < 2 ? 3 : 5); /* of five, a majority is left, and the log would refuse */
    lose(1, VOTERS_LOST_MS);
    if (_i % 2 == 0) {
        hosts[2].phase = HOST_PHASE_SUSPECT;
    } else {
        hosts[2].recent = false; /* its heartbeats come, its log does not follow */
    }

    settle();

    ck_assert_str_eq(trail, "");
}
END_TEST

START_TEST(a_stranger_with_a_vote_counts_and_is_never_well)
{
    unsigned index = 0;
    cluster(4, 3);
    forget(2);
    hosts[2].rests = true;
    lose(1, VOTERS_LOST_MS); /* of three voters only the leader is well */

    ck_assert_int_eq(decide(&index), VOTERS_STEP_NONE);
}
END_TEST

START_TEST(whoever_is_in_the_log_without_a_record_leaves_it_first)
{
    cluster(5, 3);
    forget(2);
    hosts[4].role = CONSENSUS_ROLE_STANDBY; /* a candidate that was removed on its way */
    forget(4);

    settle();

    ck_assert_str_eq(trail, "remove 2, remove 4, record-standby 3, add 3, promote 3, "
                            "record-voter 3, ");
}
END_TEST

START_TEST(nothing_else_is_changed_while_a_stranger_cannot_be_removed)
{
    unsigned index = 0;
    cluster(5, 2);
    hosts[4].role = CONSENSUS_ROLE_STANDBY;
    forget(4);
    hosts[4].rests = true;

    ck_assert_int_eq(decide(&index), VOTERS_STEP_NONE);
    hosts[1].recorded = VOTER_STANDBY; /* a record is no change of the log */
    ck_assert_int_eq(decide(&index), VOTERS_STEP_RECORD_VOTER);
    ck_assert_uint_eq(index, 1);
    hosts[4].rests = false;
    hosts[1].recorded = VOTER_VOTER;
    ck_assert_int_eq(decide(&index), VOTERS_STEP_REMOVE);
    ck_assert_uint_eq(index, 4);
}
END_TEST

START_TEST(a_lost_voter_leaves_before_a_standby_without_a_record)
{
    cluster(5, 3);
    hosts[4].role = CONSENSUS_ROLE_STANDBY;
    forget(4);
    hosts[4].rests = true; /* nobody can be removed while a voter does not answer, */
    lose(1, VOTERS_LOST_MS);
    unsigned index = 0;

    ck_assert_int_eq(decide(&index), VOTERS_STEP_REMOVE);

    ck_assert_uint_eq(index, 1); /* but that one itself */
}
END_TEST

START_TEST(a_drained_voter_is_replaced_before_it_goes)
{
    static const char *const trails[] = {
        "record-standby 3, add 3, promote 3, record-voter 3, hand-over 1, remove 0, "
        "record-none 0, ",
        "record-standby 3, add 3, promote 3, record-voter 3, remove 1, record-none 1, "};
    cluster(4, 3);
    hosts[_i].drain = true;

    settle();

    ck_assert_str_eq(trail, trails[_i]);
}
END_TEST

START_TEST(a_drained_voter_is_not_replaced_while_another_is_not_well)
{
    cluster(4, 3);
    hosts[2].drain = true;
    lose(1, VOTERS_LOST_MS - 1);

    settle();
    ck_assert_str_eq(trail, "");

    hosts[1].lost_ms++; /* for good: it is the one that is replaced */
    settle();
    ck_assert_str_eq(trail, "remove 1, record-none 1, record-standby 3, add 3, "
                            "promote 3, record-voter 3, ");
}
END_TEST

/* What happens between the two steps of a replacement. */
START_TEST(one_voter_too_many_goes)
{
    cluster(5, 4);
    hosts[2].drain = _i > 0; /* undrained in time: then the last goes */
    if (_i == 2) {
        lose(3, VOTERS_LOST_MS);
        hosts[4].drain = true;
    } else if (_i == 3) {
        lose(1, VOTERS_LOST_MS - 1);
    }

    settle();

    static const char *const trails[] = {"remove 1, record-none 1, ",
                                         "remove 2, record-none 2, ",
                                         "remove 3, record-none 3, ", ""};
    ck_assert_str_eq(trail, trails[_i]);
}
END_TEST

static enum voters_farewell farewell(unsigned index, unsigned *ret_other)
{
    struct voters_host seen[HOSTS_MAX];
    memcpy(seen, hosts, sizeof(seen));
    return voters_bid_farewell(seen, host_count, index, ret_other);
}

START_TEST(a_drained_voter_is_removed_once_another_votes_in_its_place)
{
    unsigned other = 0;
    cluster(4, 3);
    hosts[2].drain = true;
    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_SOON);
    unsigned index = 0;
    for (enum voters_step step; (step = decide(&index)) != VOTERS_STEP_NONE;) {
        if (hosts[2].role == CONSENSUS_ROLE_VOTER) { /* also between the steps */
            ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_SOON);
        }
        carry_out(step, &hosts[index]);
    }

    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_NOW);
}
END_TEST

START_TEST(with_nobody_to_replace_it_the_others_have_to_be_well)
{
    unsigned other = 0;
    cluster(3, 3);
    hosts[2].drain = true;
    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_NOW);

    if (_i == 0) {
        lose(1, 0);
    } else if (_i == 1) {
        hosts[1].phase = HOST_PHASE_SUSPECT;
    } else if (_i == 2) {
        hosts[1].recent = false;
    } else {
        forget(1); /* one after the other */
    }

    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_HINDERED);
    ck_assert_uint_eq(other, 1);
}
END_TEST

/* Nobody can be added while it does not, so nothing would ever come of waiting. */
START_TEST(one_that_does_not_follow_is_not_replaced_before_it_goes)
{
    unsigned other = 0;
    cluster(4, 3);
    hosts[2].drain = true;
    hosts[2].recent = false;
    ck_assert_int_eq(decide(&other), VOTERS_STEP_NONE);
    hosts[2].away_ms = VOTERS_AWAY_MS - 1; /* it may follow again in a moment */
    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_SOON);
    hosts[2].away_ms++;
    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_NOW);

    forget(2);
    settle();

    ck_assert_str_eq(trail, "remove 2, record-standby 3, add 3, promote 3, "
                            "record-voter 3, ");
}
END_TEST

/* The only voter of a larger rack, and the last of two that is waited for. */
START_TEST(as_long_as_there_is_a_step_to_take_it_is_waited_for)
{
    unsigned other = 0;
    cluster(_i == 0 ? 4 : 3, _i == 0 ? 1 : 2);
    hosts[_i].drain = true;
    ck_assert_int_eq(farewell((unsigned)_i, &other), VOTERS_FAREWELL_SOON);

    hosts[2].phase = HOST_PHASE_SUSPECT; /* nobody comes: apply has to say the rest */
    ck_assert_int_eq(farewell((unsigned)_i, &other), VOTERS_FAREWELL_NOW);
}
END_TEST

/* The drain may be in the log, and not here yet: or it is refused by apply. */
START_TEST(one_that_is_not_drained_yet_is_looked_at_as_if_it_were)
{
    unsigned other = 0;
    cluster(4, 3);
    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_SOON);

    hosts[1].recent = false;
    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_HINDERED);
    ck_assert_uint_eq(other, 1);
}
END_TEST

/* Its removal from the log would wait for the lost voter, and that one's for it. */
START_TEST(a_standby_is_not_removed_while_a_voter_is_lost)
{
    unsigned other = 0;
    cluster(5, 3);
    hosts[3].role = CONSENSUS_ROLE_STANDBY;
    ck_assert_int_eq(farewell(3, &other), VOTERS_FAREWELL_NOW);

    lose(1, 0);

    ck_assert_int_eq(farewell(3, &other), VOTERS_FAREWELL_HINDERED);
    ck_assert_uint_eq(other, 1);
    ck_assert_int_eq(farewell(1, &other), VOTERS_FAREWELL_NOW); /* the lost one itself */
    ck_assert_int_eq(farewell(4, &other), VOTERS_FAREWELL_NOW); /* has no part in it */
}
END_TEST

/* Else its removal would be put off for as long as that goes on. */
START_TEST(a_newcomer_whose_change_fails_is_not_waited_for)
{
    unsigned other = 0;
    cluster(5, 3);
    hosts[2].drain = true;
    hosts[3].role = _i == 0 ? CONSENSUS_ROLE_NONE : CONSENSUS_ROLE_STANDBY;
    hosts[3].recorded = VOTER_STANDBY;
    hosts[3].failures = 1;
    ck_assert_int_eq(farewell(2, &other),
                     VOTERS_FAREWELL_SOON); /* host 4 takes its place */
    hosts[4].failures = 2;
    hosts[4].rests = true;

    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_NOW);
    hosts[1].recent = false;
    ck_assert_int_eq(farewell(2, &other), VOTERS_FAREWELL_HINDERED);
    ck_assert_uint_eq(other, 1);
}
END_TEST

START_TEST(who_cannot_be_replaced_is_left_to_apply)
{
    unsigned other = 0;
    cluster(2, 1); /* one of two never votes beside the other */
    hosts[0].drain = true;

    ck_assert_int_eq(farewell(0, &other), VOTERS_FAREWELL_NOW);
}
END_TEST

START_TEST(a_drained_one_of_two_voters_is_replaced_when_there_is_a_third_host)
{
    cluster(3, 2);
    hosts[1].drain = true;
    hosts[2].phase = HOST_PHASE_SUSPECT; /* it may be back in a moment */

    settle();
    ck_assert_str_eq(trail, "");

    hosts[2].phase = HOST_PHASE_READY;
    settle();
    ck_assert_str_eq(trail, "record-standby 2, add 2, promote 2, record-voter 2, ");
}
END_TEST

START_TEST(a_removed_leader_hands_over_and_leaves)
{
    cluster(4, 3);
    forget(0);
    hosts[1].drain = true; /* would be the next to go */

    settle();

    ck_assert_str_eq(trail, "hand-over 2, remove 0, record-standby 3, add 3, "
                            "promote 3, record-voter 3, ");
}
END_TEST

START_TEST(a_removed_leader_stays_while_no_other_voter_is_well)
{
    cluster(3, 3);
    forget(0);
    lose(1, 0);
    hosts[2].recent = false;

    settle();

    ck_assert_str_eq(trail, "");
}
END_TEST

START_TEST(a_founder_that_has_no_record_yet_is_left_alone)
{
    cluster(1, 1);
    forget(0);

    settle();

    ck_assert_str_eq(trail, "");
}
END_TEST

START_TEST(a_drained_one_of_two_voters_leaves_the_log)
{
    cluster(2, 2);
    hosts[_i].drain = true;

    settle();

    ck_assert_str_eq(trail, _i == 0 ? "hand-over 1, remove 0, record-none 0, "
                                    : "remove 1, record-none 1, ");
}
END_TEST

START_TEST(a_drained_voter_stays_while_it_is_needed)
{
    cluster(_i == 0 ? 3 : 2, _i == 0 ? 3 : 2); /* of three it does no harm */
    hosts[1].drain = true;
    if (_i == 1) {
        hosts[0].drain = true; /* one has to stay */
    } else if (_i == 2) {
        hosts[0].self = false; /* the one that stays is not well */
        hosts[1].self = true;
        hosts[0].recent = false;
    }

    settle();

    ck_assert_str_eq(trail, "");
}
END_TEST

START_TEST(a_replaced_voter_that_comes_back_is_a_candidate_like_others)
{
    cluster(4, 3);
    lose(1, VOTERS_LOST_MS);
    settle();
    hosts[1].phase = HOST_PHASE_READY;
    hosts[1].recent = true;
    hosts[1].lost_ms = 0;
    trail[0] = '\0';

    settle();
    ck_assert_str_eq(trail, "");

    lose(2, VOTERS_LOST_MS);
    settle();
    ck_assert_str_eq(trail, "remove 2, record-none 2, record-standby 1, add 1, "
                            "promote 1, record-voter 1, ");
}
END_TEST

START_TEST(a_newcomer_that_failed_lets_the_others_go_first)
{
    unsigned index = 0;
    cluster(4, 2);
    hosts[2].recorded = VOTER_STANDBY; /* begun */
    ck_assert_int_eq(decide(&index), VOTERS_STEP_ADD);
    ck_assert_uint_eq(index, 2);

    hosts[2].failures = 1;

    ck_assert_int_eq(decide(&index), VOTERS_STEP_RECORD_STANDBY);
    ck_assert_uint_eq(index, 3);
    hosts[3].failures = 2;
    ck_assert_int_eq(decide(&index), VOTERS_STEP_ADD);
    ck_assert_uint_eq(index, 2);
}
END_TEST

START_TEST(a_host_that_rests_is_left_alone)
{
    unsigned index = 0;
    cluster(3, 2);
    hosts[2].rests = true;

    ck_assert_int_eq(decide(&index), VOTERS_STEP_NONE);
}
END_TEST

/* ---- in all weather ---- */

static bool is_well(const struct voters_host *host)
{
    return host->phase == HOST_PHASE_READY && (host->recent || host->self);
}

/* What must hold of a step before it is carried out. */
static void assert_safe(enum voters_step step, unsigned index)
{
    unsigned others = 0;
    unsigned well = 0;
    unsigned staying = 0;
    bool drained = false;
    for (unsigned i = 0; i < host_count; i++) {
        bool other = i != index && hosts[i].role == CONSENSUS_ROLE_VOTER;
        others += other ? 1U : 0U;
        well += other && is_well(&hosts[i]) ? 1U : 0U;
        staying += i != index && !hosts[i].drain ? 1U : 0U;
        drained = drained || (other && hosts[i].drain);
    }
    if (step == VOTERS_STEP_REMOVE) {
        ck_assert_uint_ge(well, 1);
    }
    if (step == VOTERS_STEP_REMOVE && hosts[index].drain && others == 1) {
        ck_assert_uint_eq(staying, 1); /* the rack shrinks to one host */
    } else if (step == VOTERS_STEP_REMOVE && others >= VOTERS_TARGET) {
        ck_assert_uint_eq(well, others);
    } else if (step == VOTERS_STEP_REMOVE) {
        ck_assert_uint_ge(others, 2);
        ck_assert_uint_eq(well, others);
        ck_assert_uint_eq(hosts[index].phase, HOST_PHASE_LOST);
        ck_assert_uint_ge(hosts[index].lost_ms, VOTERS_LOST_MS);
    }
    if (step == VOTERS_STEP_REMOVE) {
        ck_assert(!hosts[index].self);
    }
    if (step == VOTERS_STEP_PROMOTE || step == VOTERS_STEP_ADD) {
        ck_assert(voting() < VOTERS_TARGET ||
                  (voting() == VOTERS_TARGET && drained && well == others));
        ck_assert_uint_eq(hosts[index].phase, HOST_PHASE_READY);
    }
}

static void change_weather(struct random *random)
{
    struct voters_host *host = &hosts[1 + random_below(random, host_count - 1)];
    host->phase = (enum host_phase)random_below(random, HOST_PHASE_REMOVED);
    host->recent = host->phase == HOST_PHASE_READY && random_below(random, 4) != 0;
    host->lost_ms =
        host->phase == HOST_PHASE_LOST ? random_below(random, 2 * VOTERS_LOST_MS) : 0;
    host->drain = random_below(random, 4) == 0;
    host->rests = random_below(random, 4) == 0;
    host->failures = (unsigned)random_below(random, 3);
}

static void calm_down(void)
{
    for (unsigned i = 0; i < host_count; i++) {
        hosts[i].phase = HOST_PHASE_READY;
        hosts[i].recent = true;
        hosts[i].drain = hosts[i].rests = false;
        hosts[i].lost_ms = 0;
    }
}

START_TEST(no_weather_leads_to_an_unsafe_change_and_calm_brings_three_voters)
{
    struct random random;
    random_seed(&random, (uint64_t)_i + 1);
    cluster(3 + (unsigned)random_below(&random, HOSTS_MAX - 2), 3);
    for (unsigned turn = 0; turn < 2000; turn++) {
        unsigned index = 0;
        change_weather(&random);
        enum voters_step step = decide(&index);
        if (step != VOTERS_STEP_NONE) {
            assert_safe(step, index);
            if (random_below(&random, 4) != 0) { /* else it fails */
                carry_out(step, &hosts[index]);
            }
        }
        ck_assert_uint_le(voting(), VOTERS_TARGET + 1); /* one in a drained one's place */
        ck_assert_uint_ge(voting(), 1);
    }

    calm_down();
    settle();

    ck_assert_uint_eq(voting(), VOTERS_TARGET);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("voters");
    TCase *tests = tcase_create("voters");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, two_hosts_keep_one_voter);
    tcase_add_test(tests, the_third_host_makes_three_voters_one_step_at_a_time);
    tcase_add_test(tests, three_voters_are_enough);
    tcase_add_test(tests, a_voter_lost_for_good_is_replaced);
    tcase_add_test(tests, a_voter_lost_for_a_while_is_waited_for);
    tcase_add_loop_test(tests, a_lost_voter_stays_while_nobody_can_take_its_place, 0, 3);
    tcase_add_loop_test(tests, nothing_is_changed_while_another_voter_is_not_well, 0, 4);
    tcase_add_test(tests, a_stranger_with_a_vote_counts_and_is_never_well);
    tcase_add_test(tests, a_replaced_voter_that_comes_back_is_a_candidate_like_others);
    tcase_add_test(tests, a_newcomer_that_failed_lets_the_others_go_first);
    tcase_add_test(tests, a_host_that_rests_is_left_alone);
    tcase_add_test(tests, whoever_is_in_the_log_without_a_record_leaves_it_first);
    tcase_add_test(tests, nothing_else_is_changed_while_a_stranger_cannot_be_removed);
    tcase_add_test(tests, a_lost_voter_leaves_before_a_standby_without_a_record);
    tcase_add_loop_test(tests, a_drained_voter_is_replaced_before_it_goes, 0, 2);
    tcase_add_test(tests, a_drained_voter_is_not_replaced_while_another_is_not_well);
    tcase_add_loop_test(tests, one_voter_too_many_goes, 0, 4);
    tcase_add_test(tests, a_drained_voter_is_removed_once_another_votes_in_its_place);
    tcase_add_loop_test(tests, with_nobody_to_replace_it_the_others_have_to_be_well, 0,
                        4);
    tcase_add_test(tests, one_that_does_not_follow_is_not_replaced_before_it_goes);
    tcase_add_loop_test(tests, as_long_as_there_is_a_step_to_take_it_is_waited_for, 0, 2);
    tcase_add_test(tests, one_that_is_not_drained_yet_is_looked_at_as_if_it_were);
    tcase_add_test(tests, a_standby_is_not_removed_while_a_voter_is_lost);
    tcase_add_loop_test(tests, a_newcomer_whose_change_fails_is_not_waited_for, 0, 2);
    tcase_add_test(tests, who_cannot_be_replaced_is_left_to_apply);
    tcase_add_test(tests,
                   a_drained_one_of_two_voters_is_replaced_when_there_is_a_third_host);
    tcase_add_test(tests, a_removed_leader_hands_over_and_leaves);
    tcase_add_test(tests, a_removed_leader_stays_while_no_other_voter_is_well);
    tcase_add_test(tests, a_founder_that_has_no_record_yet_is_left_alone);
    tcase_add_loop_test(tests, a_drained_one_of_two_voters_leaves_the_log, 0, 2);
    tcase_add_loop_test(tests, a_drained_voter_stays_while_it_is_needed, 0, 3);
    tcase_add_loop_test(
        tests, no_weather_leads_to_an_unsafe_change_and_calm_brings_three_voters, 0, 20);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
