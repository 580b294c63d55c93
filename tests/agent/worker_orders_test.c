/* Goal: orders count from those who may give them, and in the order of terms and epochs.
 * Method: a worker with a leader that the test plays (worker_fixture.h). */
#include "base/cleanup.h"
#include "support/disk_gate.h"
#include "worker_fixture.h"

#include <signal.h>

/* ---- running ---- */

/* Its orders may be on their way: those of before may name what runs elsewhere by now. */
START_TEST(under_the_lease_of_a_new_leader_no_earlier_orders_start_anything)
{
    struct wish newer = both;
    start();
    leader.acks = false;
    give(1, &both);
    RACK_WAIT(is(WAITS, PHASE_READY));

    leader.ahead = 1;
    leader.acks = true;
    now_ms += 1;
    RACK_WAIT(lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS);
    let_pass();
    ck_assert(!worker_may_start(worker) && !known(FENCED));

    newer.term = TERM + 1;
    give(1, &newer);
    RACK_WAIT(is(FENCED, PHASE_READY));
    stop();
}
END_TEST

/* It needs no lease, and all the same it may be elsewhere by now. */
START_TEST(what_waits_for_its_host_begins_by_no_orders_of_an_earlier_leader)
{
    struct wish newer = both;
    newer.fenced_epoch = 0;
    start();
    digest_of("later!", 6, &kernel); /* its image is yet to come */
    give(1, &newer);

    leader.ahead = 1;
    RACK_WAIT(worker->leader_term == TERM + 1 && worker_term_sync(worker));
    bring_kernel("later!");
    let_pass();
    ck_assert(!known(WAITS));

    newer.term = TERM + 1;
    give(1, &newer);
    RACK_WAIT(is(WAITS, PHASE_READY));
    stop();
}
END_TEST

/* ---- who may order ---- */

START_TEST(old_orders_and_those_of_hosts_that_cannot_lead_are_refused)
{
    struct wish nothing = {.term = TERM, .revision = 11};
    start_both();
    pid_t pid = vm(FENCED).pid;
    if (_i == 0) {
        nothing.term = TERM - 1;
    } else if (_i == 1) {
        nothing.revision = both.revision - 1;
    } else {
        rack.hosts[2].voter = VOTER_NONE;
        host_knows(&rack.hosts[0], 3);
    }

    give(_i == 2 ? 2 : 1, &nothing);
    let_pass();

    ck_assert(is(FENCED, PHASE_READY) && is(WAITS, PHASE_READY));
    ck_assert_int_eq(vm(FENCED).pid, pid);
    stop();
}
END_TEST

static void tell_revision(uint64_t revision)
{
    leader.revision = revision;
    ack(leader.sequence);
    let_pass();
}

/* Orders come only when they change: what was asked of a leader would be held to be as
 * old as they are. */
START_TEST(the_newest_revision_is_what_leaders_tell_with_orders_or_without)
{
    struct wish wish = both;
    start_both();
    ck_assert_uint_eq(worker_revision_told(worker), both.revision);
    tell_revision(25);
    ck_assert_uint_eq(worker_revision_told(worker), 25);
    tell_revision(24); /* it was under way for longer */
    ck_assert_uint_eq(worker_revision_told(worker), 25);
    tell_revision(0); /* a leader that does not say it */
    ck_assert_uint_eq(worker_revision_told(worker), 25);
    wish.revision = 24;
    give(1, &wish);
    ck_assert_uint_eq(worker_revision_told(worker), 25);
    wish.revision = 30;
    give(1, &wish);
    ck_assert_uint_eq(worker_revision_told(worker), 30);

    leader.ahead = 1;
    tell_revision(40);
    ck_assert_uint_eq(worker_revision_told(worker), 40);
    leader.ahead = 0; /* who led before */
    tell_revision(50);
    leader.ahead = 1;
    leader.boot++; /* of an earlier start of this host */
    ack(leader.sequence);
    let_pass();
    rack.hosts[1].voter = VOTER_NONE; /* who cannot lead */
    host_knows(&rack.hosts[0], 3);
    tell_revision(50);
    ck_assert_uint_eq(worker_revision_told(worker), 40);
    stop();
}
END_TEST

/* They came before it spoke, and are not carried out to the end yet. */
START_TEST(what_an_earlier_leader_does_not_name_stays_until_the_new_one_has_ordered)
{
    struct wish newer = both;
    start_both();
    newer.order = ORDER_STOP;
    newer.revision++;
    give(1, &newer);
    RACK_WAIT(is(WAITS, PHASE_STOPPED) && is(FENCED, PHASE_STOPPED));
    leader.ahead = 1;
    worker_take_term(worker, TERM + 1);
    (void)u64_map_remove(worker->orders_index, WAITS);
    worker_reconcile(worker);
    ck_assert(known(WAITS) && !vm(WAITS).leaving);

    newer.term = TERM + 1;
    newer.waits_epoch = 0;
    give(1, &newer);
    RACK_WAIT(!known(WAITS));
    ck_assert(is(FENCED, PHASE_STOPPED));
    stop();
}
END_TEST

/* ---- a leader that is new to a host that was away ---- */

static struct {
    unsigned asked; /* heartbeats that the voter answered */
    uint64_t term;  /* it says that the third host leads in */
} word;

static void voter_hears(struct rack_host *host,
                        const struct msg_member *from,
                        enum message_type type,
                        void *message)
{
    const struct msg_not_leader answer = {
        .leader = 3, .term = word.term, .member = host_member(&rack.hosts[2])};
    (void)message;
    if (type == MESSAGE_HEARTBEAT) {
        word.asked++;
        (void)link_send(host->link, from->uid, MESSAGE_NOT_LEADER, &answer);
    }
}

static void new_leader_hears(struct rack_host *host,
                             const struct msg_member *from,
                             enum message_type type,
                             void *message)
{
    const struct msg_heartbeat *heartbeat = message;
    const struct msg_ack answer = {.sequence = heartbeat->sequence,
                                   .boot = heartbeat->boot,
                                   .leader = 3,
                                   .level = LEVEL_FIRST,
                                   .term = TERM + 1};
    if (type == MESSAGE_HEARTBEAT) {
        (void)link_send(host->link, from->uid, MESSAGE_ACK, &answer);
    }
}

/* The third host does not vote, as far as this one knows, or is no member at all. */
static void be_away(bool is_member)
{
    memset(&word, 0, sizeof(word));
    rack.hosts[2].voter = VOTER_NONE;
    host_knows(&rack.hosts[0], is_member ? 3 : 2);
    rack.hosts[2].voter = VOTER_VOTER;
    rack.hosts[1].hear = voter_hears;
    rack.hosts[2].hear = new_leader_hears;
    now_ms += WORKER_SILENCE_MS + 1;
}

START_TEST(a_host_that_was_away_finds_the_leader_that_a_voter_names)
{
    start();
    leader.acks = false;
    be_away(_i == 0);
    word.term = TERM + 1;

    RACK_WAIT(worker_leader(worker) == 3 || word.asked >= 20);

    ck_assert_uint_eq(worker_leader(worker), 3);
    ck_assert_uint_eq(lease_granted_ns(&worker->lease), now_ms * NS_PER_MS);
    ck_assert_uint_eq(worker->leader_term, TERM + 1);
    rack.hosts[2].hear = NULL;
    stop();
}
END_TEST

/* A row: who says so, of whom, in which term; and who is asked then. */
static const struct {
    uint64_t from, leader;
    uint64_t ahead; /* of TERM */
    uint64_t asked;
} said[] = {
    {2, 3, 1, 3}, /* the leader of before, as it hands over */
    {3, 3, 1, 3}, /* the new one */
    {2, 3, 0, 2}, /* no news */
    {2, 1, 1, 2}, /* this host itself */
    {2, 0, 1, 2}, /* nobody */
    {3, 3, 1, 2}, /* but it has no part in the log */
};

START_TEST(a_newer_leader_is_asked_by_a_voters_word_and_nothing_else_is_believed)
{
    start();
    give(1, &both);
    let_pass();
    rack.hosts[2].voter = _i < 5 ? VOTER_VOTER : VOTER_NONE;
    host_knows(&rack.hosts[0], 3);
    const struct msg_member from = host_member(&rack.hosts[said[_i].from - 1]);
    const struct msg_not_leader answer = {
        .leader = said[_i].leader,
        .term = said[_i].leader != 0 ? TERM + said[_i].ahead : 0,
        .member = host_member(&rack.hosts[2])};
    ck_assert_uint_eq(worker_leader(worker), 2);

    worker_on_not_leader(worker, &from, &answer);

    bool own_word = said[_i].from == 2; /* that it leads no more */
    ck_assert_uint_eq(worker_leader_asked(worker),
                      own_word && said[_i].asked == 2 ? 0 : said[_i].asked);
    ck_assert_uint_eq(worker->leader_term, TERM);
    leader.ahead = 2;
    ack(leader.sequence); /* and a leader's own answer is newer than any word */
    RACK_WAIT(worker->leader_term == TERM + 2);
    ck_assert_uint_eq(worker_leader_asked(worker), 2);
    stop();
}
END_TEST

static void say(uint64_t term)
{
    const struct msg_member from = host_member(&rack.hosts[1]);
    const struct msg_not_leader answer = {
        .leader = 3, .term = term, .member = host_member(&rack.hosts[2])};
    worker_on_not_leader(worker, &from, &answer);
}

/* Nobody reaches its term, so no leader's answer is ever newer. */
START_TEST(a_voters_word_is_forgotten_unless_it_is_said_again)
{
    start();
    give(1, &both);
    let_pass();
    say(TERM + 1000);
    ck_assert_uint_eq(worker_leader_asked(worker), 3);
    now_ms += WORKER_SILENCE_MS;
    say(TERM + 1000);
    now_ms += WORKER_SILENCE_MS;
    say(TERM + 999); /* an older one is none, as long as this one holds */
    ck_assert_uint_eq(worker_leader_asked(worker), 3);

    now_ms += 1;
    unsigned acks = acks_heard;
    ack(leader.sequence);
    RACK_WAIT(acks_heard > acks);

    ck_assert_uint_eq(worker_leader_asked(worker), 2);
    say(TERM + 1);
    ck_assert_uint_eq(worker_leader_asked(worker), 3);
    stop();
}
END_TEST

/* A voter that is behind, or one that is none any more. */
START_TEST(no_leader_is_found_by_a_word_that_is_stale_or_no_voters)
{
    start();
    give(1, &both);
    leader.acks = false;
    let_pass();
    be_away(false);
    word.term = TERM - 1;
    if (_i == 2) {
        rack.hosts[0].members.term = 0; /* the table is older than what led since */
    } else if (_i == 1) {
        word.term = TERM + 1;
        /* All are asked when nobody votes. */
        rack.hosts[0].voter = rack.hosts[1].voter = VOTER_NONE;
        host_knows(&rack.hosts[0], 2);
    }

    RACK_WAIT(word.asked >= 6);

    ck_assert_ptr_null(members_by_uid(&rack.hosts[0].members, 3));
    ck_assert_uint_eq(worker_leader(worker), 0);
    rack.hosts[2].hear = NULL;
    stop();
}
END_TEST

START_TEST(members_are_in_force_while_the_disk_still_waits)
{
    struct wish wish = both;
    struct members read;
    start_both();
    RACK_WAIT(!rack.hosts[0].members.unsaved);
    ck_assert_int_eq(pipe2(gate.pipe, O_CLOEXEC), 0);
    gate.closed = true;
    rack.hosts[2].identity.raft_port++;
    wish.revision++;

    give(1, &wish);
    RACK_WAIT(gate.waiting > 0 || gate.on_loop > 0);
    unsigned beats = leader.beats;
    RACK_WAIT(leader.beats > beats + 1);

    ck_assert_uint_eq(gate.on_loop, 0);
    ck_assert(rack.hosts[0].members.unsaved);
    ck_assert_uint_eq(leader.taken, 0); /* the leader is to send them again */
    ck_assert_uint_eq(members_by_uid(&rack.hosts[0].members, 3)->raft_port,
                      rack.hosts[2].identity.raft_port);
    gate.closed = false;
    ck_assert_int_eq(close(gate.pipe[1]), 0);
    RACK_WAIT(!rack.hosts[0].members.unsaved);
    RACK_WAIT(leader.taken == worker->orders_hash);
    ck_assert_int_eq(members_open(rack.hosts[0].dir.path, &read, NULL), 0);
    ck_assert_uint_eq(members_by_uid(&read, 3)->raft_port,
                      rack.hosts[2].identity.raft_port);
    members_fini(&read);
    stop();
}
END_TEST

static uint32_t raft_port_in_file(void)
{
    struct members read;
    ck_assert_int_eq(members_open(rack.hosts[0].dir.path, &read, NULL), 0);
    uint32_t port = members_by_uid(&read, 3)->raft_port;
    members_fini(&read);
    return port;
}

/* A little later, with the next table at once, or at the end. */
START_TEST(members_that_could_not_be_written_down_are_later)
{
    struct wish wish = both;
    start_both();
    RACK_WAIT(!rack.hosts[0].members.unsaved);
    gate.full_of = "members.bin"; /* records of VMs may be on their way */
    gate.full = 1;
    rack.hosts[2].identity.raft_port++;
    wish.revision++;
    give(1, &wish);
    RACK_WAIT(worker->members_again_ms > now_ms);
    ck_assert_uint_eq(gate.failed, 1);
    let_pass(); /* reconciled meanwhile, and not tried again */
    ck_assert(rack.hosts[0].members.unsaved);

    if (_i == 0) {
        now_ms = worker->members_again_ms;
        RACK_WAIT(!rack.hosts[0].members.unsaved);
    } else if (_i == 1) {
        rack.hosts[2].identity.raft_port++;
        wish.revision++;
        give(1, &wish);
        RACK_WAIT(!rack.hosts[0].members.unsaved);
    } else {
        worker = worker_close(worker);
        ck_assert(!rack.hosts[0].members.unsaved);
        open_worker();
    }

    ck_assert_uint_eq(raft_port_in_file(), rack.hosts[2].identity.raft_port);
    ck_assert_uint_eq(gate.failed, 1);
    stop();
}
END_TEST

/* ---- epochs ---- */

START_TEST(an_order_to_stop_ends_an_earlier_run_before_it_is_told)
{
    struct wish halt = both;
    start_both();
    pid_t pids[2] = {vm(FENCED).pid, vm(WAITS).pid};
    halt.revision++;
    halt.order = ORDER_STOP;
    halt.fenced_epoch = halt.waits_epoch = 2;

    give(1, &halt);
    while (leader.phases[0] != PHASE_STOPPED || leader.phases[1] != PHASE_STOPPED) {
        uv_run(&rack.loop, UV_RUN_ONCE);
        for (unsigned i = 0; i < 2; i++) {
            ck_assert(leader.phases[i] != PHASE_STOPPED || kill(pids[i], 0) != 0);
        }
    }

    ck_assert_uint_eq(leader.epochs[0], 2);
    stop();
}
END_TEST

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    if (geteuid() != 0) {
        return test_main_skip("a network namespace of its own needs root");
    }
    Suite *suite = suite_create("worker_orders");
    TCase *tests = tcase_create("worker_orders");
    tcase_set_timeout(tests, 90);
    tcase_add_test(tests,
                   under_the_lease_of_a_new_leader_no_earlier_orders_start_anything);
    tcase_add_test(tests,
                   what_waits_for_its_host_begins_by_no_orders_of_an_earlier_leader);
    tcase_add_test(tests,
                   the_newest_revision_is_what_leaders_tell_with_orders_or_without);
    tcase_add_loop_test(tests, old_orders_and_those_of_hosts_that_cannot_lead_are_refused,
                        0, 3);
    tcase_add_test(
        tests, what_an_earlier_leader_does_not_name_stays_until_the_new_one_has_ordered);
    tcase_add_loop_test(tests, a_host_that_was_away_finds_the_leader_that_a_voter_names,
                        0, 2);
    tcase_add_loop_test(
        tests, a_newer_leader_is_asked_by_a_voters_word_and_nothing_else_is_believed, 0,
        ARRAY_COUNT(said));
    tcase_add_test(tests, a_voters_word_is_forgotten_unless_it_is_said_again);
    tcase_add_loop_test(tests, no_leader_is_found_by_a_word_that_is_stale_or_no_voters, 0,
                        3);
    tcase_add_test(tests, members_are_in_force_while_the_disk_still_waits);
    tcase_add_loop_test(tests, members_that_could_not_be_written_down_are_later, 0, 3);
    tcase_add_test(tests, an_order_to_stop_ends_an_earlier_run_before_it_is_told);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
