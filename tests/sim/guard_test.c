/* Three ways in which libraft 0.15.0 breaks Raft's promises, each as a script played to
 * two clusters that differ in nothing but the guard: without it (row 0) the oracle sees a
 * promise broken, with it (row 1) the same events do no harm and the cluster goes on.
 * And one in which the guard would break its own, without the seal's patience; and one of
 * a read, with a leader that does not ask the others (row 0) and with ours.
 *
 * Machines that may not begin an election are muted, so that the script says who leads.
 */
#include "base/clock.h"
#include "consensus/raft_library.h"
#include "sim.h"
#include "support/test_main.h"

#include <raft.h>

#define A_WHILE  (300 * NS_PER_MS)
#define LONG     (5 * NS_PER_S)
#define WAIT_MAX (20 * NS_PER_S)

static struct sim *sim;
static struct sim_answer answers[8];

static void start_with(unsigned voters, enum sim_bug bug)
{
    struct sim_config config = {
        .seed = 7, .bug = bug, .voters = voters, .scripted = true};
    sim = sim_new(&config, NULL, 0);
    for (unsigned i = 0; i < voters; i++) {
        sim->machines[i].muted = true;
    }
    sim_run_until(sim, A_WHILE);
}

static void start(unsigned voters, bool guarded)
{
    start_with(voters, guarded ? SIM_BUG_NONE : SIM_BUG_BARE);
}

static void teardown(void)
{
    sim = sim_free(sim);
}

static void run_for(uint64_t ns)
{
    sim_run_until(sim, sim->world.now_ns + ns);
}

/* Stops at the very event by which it leads; false when it does not in time. */
static bool elect(unsigned machine, uint64_t within_ns)
{
    uint64_t until = sim->world.now_ns + within_ns;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        sim->machines[i].muted = i != machine;
    }
    while (sim->machines[machine].process == NULL ||
           sim_raft_leader_term(sim->machines[machine].process) == 0) {
        if (!world_step(&sim->world, until)) {
            return false;
        }
    }
    return true;
}

static bool leads_ready(unsigned machine)
{
    uint64_t until = sim->world.now_ns + WAIT_MAX;
    while (!sim_process_leads(sim->machines[machine].process)) {
        if (!world_step(&sim->world, until)) {
            return false;
        }
    }
    return true;
}

static void run_until_applied(unsigned machine, uint64_t index)
{
    uint64_t until = sim->world.now_ns + A_WHILE;
    while (sim_raft_applied(sim->machines[machine].process) < index &&
           world_step(&sim->world, until)) {
    }
}

static void cut(unsigned a, unsigned b, bool is_cut)
{
    sim->links[a][b].cuts = is_cut ? 1 : 0;
    sim->links[b][a].cuts = is_cut ? 1 : 0;
}

static void isolate(unsigned machine, bool is_cut)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (i != machine) {
            cut(machine, i, is_cut);
        }
    }
}

static void power_off(unsigned machine)
{
    sim_machine_kill(&sim->machines[machine], "power off", WORLD_NEVER);
}

static void power_on(unsigned machine)
{
    sim_machine_start(&sim->machines[machine]);
}

/* Everything heals, anybody may lead. */
static void let_go(void)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        isolate(i, false);
        sim->machines[i].muted = false;
        for (unsigned j = 0; j < sim->machine_count; j++) {
            sim->links[i][j].drop_permille = 0;
        }
        power_on(i);
    }
    run_for(LONG);
}

/* Newer libraries begin a term with an entry of it, which keeps them from two of the
 * three here, and step down when a write fails. */
#define BARE_OPENS_SILENTLY (RAFT_LIBRARY_OPENING == 0)

static void check(bool guarded, bool bare_fails)
{
    if (guarded) {
        ck_assert_msg(!sim->world.failed, "%s", sim->world.failure);
        ck_assert(oracle_all_agree(sim));
    } else {
        ck_assert_int_eq(sim->world.failed, bare_fails);
    }
}

/* Figure 8 of the Raft paper: X, of an old term, reaches a majority and counts as
 * committed, and is then overwritten by Y of a newer one. */
START_TEST(an_entry_of_an_old_term_does_not_become_undone)
{
    bool guarded = _i == 1;
    start(5, guarded);
    ck_assert(elect(0, WAIT_MAX));
    ck_assert(leads_ready(0));
    run_for(A_WHILE);
    for (unsigned i = 2; i < 5; i++) {
        cut(0, i, true);
        cut(1, i, true);
    }
    sim_write(&sim->machines[0], 0, 1, &answers[0]); /* X: on 0 and 1 only */
    uint64_t x = sim_raft_last_index(sim->machines[0].process);
    run_for(10 * NS_PER_MS);
    power_off(0);
    power_off(1);
    ck_assert(!answers[0].given || answers[0].code != 0);

    ck_assert(elect(4, WAIT_MAX)); /* by 2 and 3, which it never reaches as leader */
    isolate(4, true);
    sim_write(&sim->machines[4], 0, 2, &answers[1]); /* Y: on 4 only */
    run_for(10 * NS_PER_MS);
    power_off(4);

    for (unsigned i = 2; i < 5; i++) {
        cut(0, i, false);
        cut(1, i, false);
    }
    power_on(0);
    power_on(1);
    ck_assert(elect(0, WAIT_MAX)); /* X reaches 2 and 3 */
    run_until_applied(0, x);
    power_off(0);
    isolate(4, false);
    power_on(4);
    (void)elect(4, LONG); /* without the guard it wins with Y */
    run_for(A_WHILE);
    let_go();

    check(guarded, BARE_OPENS_SILENTLY);
}
END_TEST

/* The leader's disk fails after the followers have X; the next command gets X's index. */
START_TEST(after_a_disk_error_no_index_is_used_twice)
{
    bool guarded = _i == 1;
    start(3, guarded);
    ck_assert(elect(0, WAIT_MAX));
    ck_assert(leads_ready(0));
    run_for(A_WHILE);
    sim->machines[0].disk.fail_writes = 1;
    sim->machines[0].disk.fail_status = RAFT_IOERR;
    sim_write(&sim->machines[0], 0, 1, &answers[0]);
    run_for(20 * NS_PER_MS);
    sim_write(&sim->machines[0], 0, 2, &answers[1]);
    run_for(A_WHILE);
    let_go();

    check(guarded, RAFT_LIBRARY_IGNORES_WRITES);
}
END_TEST

/* A follower that was once leader has a tail of its own and acknowledges it. */
START_TEST(a_stale_tail_does_not_count_as_acknowledged)
{
    bool guarded = _i == 1;
    start(3, guarded);
    ck_assert(elect(0, WAIT_MAX));
    ck_assert(leads_ready(0));
    run_for(A_WHILE);
    isolate(0, true);
    sim_write(&sim->machines[0], 0, 1, &answers[0]); /* A and B: on 0 only */
    sim_write(&sim->machines[0], 0, 2, &answers[1]);
    run_for(A_WHILE);
    ck_assert(elect(1, WAIT_MAX));
    run_for(A_WHILE);
    isolate(2, true);
    cut(0, 1, false);
    while (!sim_net_is_under_way(sim, 1, 0)) { /* a heartbeat */
        ck_assert(world_step(&sim->world, sim->world.now_ns + A_WHILE));
    }
    sim->links[1][0].drop_permille = 1000; /* and nothing after it */
    sim_write(&sim->machines[1], 0, 3, &answers[2]);
    sim_write(&sim->machines[1], 0, 4, &answers[3]);
    run_for(20 * NS_PER_MS);
    ck_assert_int_eq(answers[2].given && answers[2].code == 0,
                     !guarded && BARE_OPENS_SILENTLY);
    power_off(1);
    isolate(2, false);
    cut(0, 1, false);
    (void)elect(0, LONG);
    run_for(A_WHILE);
    let_go();

    check(guarded, BARE_OPENS_SILENTLY);
}
END_TEST

static void run_while_thread_waits(unsigned machine, bool waits)
{
    const uint64_t until = sim->world.now_ns + WAIT_MAX;
    while (sim_loop_thread_waits(sim->machines[machine].process) == waits) {
        ck_assert(world_step(&sim->world, until));
    }
}

static bool has_entry(const struct sim_disk *disk, uint64_t index, uint64_t term)
{
    return index >= disk->start && index <= sim_disk_last_index(disk) &&
           disk->log[index - disk->start].term == term;
}

/* 0 has a tail that nobody else has, and knows of the next term already. The seal's
 * thread is writing that the tail is there when 1 has it cut, and 0 dies as soon as that
 * is on the disk: had the cut not waited, the newer half of the seal would tell of the
 * tail. */
START_TEST(a_promise_that_is_being_written_is_not_lowered_meanwhile)
{
    bool waits = _i == 1;
    start_with(3, waits ? SIM_BUG_NONE : SIM_BUG_SEAL_UNWAITED);
    ck_assert(elect(0, WAIT_MAX));
    ck_assert(leads_ready(0));
    sim_write(&sim->machines[0], 0, 1, &answers[0]);
    run_while_thread_waits(0, false);
    run_while_thread_waits(0, true); /* the next write is a second away */
    run_for(10 * NS_PER_MS);
    isolate(0, true);
    sim_write(&sim->machines[0], 0, 2, &answers[1]);
    sim_write(&sim->machines[0], 0, 3, &answers[2]);
    run_for(20 * NS_PER_MS);
    sim->machines[0].muted = true;
    const uint64_t until = sim->world.now_ns + WAIT_MAX;
    while (sim_raft_leader_term(sim->machines[0].process) != 0) {
        ck_assert(world_step(&sim->world, until));
    }
    const uint64_t term = sim_raft_term(sim->machines[0].process);
    sim->machines[1].muted = false;
    sim->links[1][0].cuts = 0;
    while (sim_raft_term(sim->machines[0].process) == term) {
        ck_assert(world_step(&sim->world, until));
    }
    isolate(0, true); /* before it hears who was elected */
    const uint64_t tail = sim_raft_last_index(sim->machines[0].process);
    ck_assert(has_entry(&sim->machines[0].disk, tail, term));
    ck_assert(elect(1, WAIT_MAX));
    ck_assert(leads_ready(1));
    sim->machines[0].disk.slow_ns = 2 * LONG; /* chance says how much of it */

    run_while_thread_waits(0, false);
    sim->machines[0].disk.slow_ns = 0;
    isolate(0, false);
    run_while_thread_waits(0, true);
    ck_assert(waits || !has_entry(&sim->machines[0].disk, tail, term)); /* it is cut */
    power_off(0);
    let_go();

    check(waits, true);
}
END_TEST

/* 0 leads, stands still while 1 is elected and answers a write, and finds a read waiting
 * for it when it goes on: it takes itself for the leader still. */
START_TEST(a_leader_that_stood_still_reads_nothing_old)
{
    bool asks = _i == 1;
    start_with(3, asks ? SIM_BUG_NONE : SIM_BUG_STALE_READ);
    ck_assert(elect(0, WAIT_MAX));
    ck_assert(leads_ready(0));
    sim_write(&sim->machines[0], 0, 1, &answers[0]);
    run_for(A_WHILE);
    ck_assert(answers[0].given && answers[0].code == 0);
    sim->machines[0].berthd.paused_until_ns = sim->world.now_ns + LONG;
    ck_assert(elect(1, LONG / 2));
    ck_assert(leads_ready(1));
    sim_write(&sim->machines[1], 0, 2, &answers[1]);
    run_for(A_WHILE);
    ck_assert(answers[1].given && answers[1].code == 0);
    ck_assert(sim_process_leads(sim->machines[0].process));
    sim->machines[0].berthd.paused_until_ns = 0;

    sim_read(&sim->machines[0], 0, &answers[2]);
    run_for(LONG);

    ck_assert(answers[2].given);
    ck_assert_int_eq(answers[2].code == 0, !asks);
    ck_assert_uint_eq(answers[2].value, asks ? 0 : 1); /* 2 was answered before */
    sim_read(&sim->machines[1], 0, &answers[3]);
    run_for(A_WHILE);
    ck_assert(answers[3].given && answers[3].code == 0);
    ck_assert_uint_eq(answers[3].value, 2);
    let_go();
    check(true, false);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("guard");
    TCase *tcase = tcase_create("guard");
    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, an_entry_of_an_old_term_does_not_become_undone, 0, 2);
    tcase_add_loop_test(tcase, after_a_disk_error_no_index_is_used_twice, 0, 2);
    tcase_add_loop_test(tcase, a_stale_tail_does_not_count_as_acknowledged, 0, 2);
    tcase_add_loop_test(tcase, a_promise_that_is_being_written_is_not_lowered_meanwhile,
                        0, 2);
    tcase_add_loop_test(tcase, a_leader_that_stood_still_reads_nothing_old, 0, 2);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
