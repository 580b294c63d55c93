/* Goal: after a rebirth a host's orders wait until the log has heard of the runs that it
 * has, also of one that has yet to begin from its snapshot, but for that not for ever.
 * Method: a reborn state, and what a host says in heartbeats at times that the test sets.
 */
#include "agent/leader_internal.h"
#include "model/state_rebirth.h"
#include "support/state_fixture.h"

#define NOW_MS UINT64_C(5000)

static uint64_t h2;
static uint64_t db; /* its disks are on h1, and it is about to begin on h2 */
static uint64_t epoch;
static struct heard heard;
static struct msg_vm_seen seen;

static bool any(void *context, const struct host *host)
{
    (void)context;
    (void)host;
    return true;
}

static void run_on(uint64_t host)
{
    ck_assert_int_eq(place(db, host, state_vm(state, db)->status.epoch + 1, 0), 0);
    ck_assert_int_eq(reports_run(db, PHASE_RUNNING, ENGINE_KVM, false, NULL), 0);
}

static void setup(void)
{
    struct err err;
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    fixture_start();
    ck_assert_int_eq(level_at_least(LEVEL_PLACE_UNKNOWN), 0);
    h2 = add_host("h2", 2);
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "db", "patient", ""), 0);
    db = answer.uid;
    run_on(h2);
    ck_assert_int_eq(make_snapshot(db, "before"), 0);
    uint64_t snapshot = answer.uid;
    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 1), 0);
    ck_assert_int_eq(evict(db, 1, STOP_INTENT_MOVE), 0);
    ck_assert_int_eq(reports(db, PHASE_STOPPED), 0);
    run_on(h1);
    ck_assert_int_eq(set_power(db, POWER_OFF), 0);
    ck_assert_int_eq(reports_kept(db, PHASE_STOPPED), 0);
    ck_assert_int_eq(restore_vm(db, snapshot), 0);
    epoch = state_vm(state, db)->status.epoch + 1;
    ck_assert_int_eq(place(db, h2, epoch, 0), 0);
    const struct rebirth rebirth = {
        .wall_ms = UINT64_C(1800000000000), .reason = "recovered", .keeps = any};
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0);
    heard = (struct heard){.uid = h2};
    seen = (struct msg_vm_seen){.vm = db, .epoch = epoch, .phase = PHASE_STARTING};
}

static bool waits_at(uint64_t now_ms)
{
    const struct msg_vm_seen_list vms = {.items = &seen, .count = 1};
    leader_take_finds(&heard, state, &vms, now_ms);
    return heard.finds;
}

START_TEST(orders_wait_for_a_run_to_begin_but_not_for_ever)
{
    ck_assert(waits_at(NOW_MS));
    ck_assert(waits_at(NOW_MS + LEADER_BEGINS_MS - 1));
    ck_assert(!waits_at(NOW_MS + LEADER_BEGINS_MS));
    ck_assert(!waits_at(NOW_MS + LEADER_BEGINS_MS + 1)); /* nor again */
    seen.phase = PHASE_RUNNING;                          /* all the same it is news */
    ck_assert(waits_at(NOW_MS + 2 * LEADER_BEGINS_MS));
}
END_TEST

START_TEST(once_it_has_begun_they_wait_until_the_log_has_it)
{
    ck_assert(waits_at(NOW_MS));
    seen.phase = PHASE_RUNNING;
    ck_assert(waits_at(NOW_MS + 1));
    ck_assert_int_eq(report(db, h2, epoch, PHASE_RUNNING, 0), 0);
    ck_assert(!waits_at(NOW_MS + 2));
}
END_TEST

START_TEST(they_do_not_wait_for_one_that_has_failed_without_beginning)
{
    seen.phase = PHASE_FAILED;
    seen.disk_epoch = epoch;
    ck_assert(!waits_at(NOW_MS));
    seen.running_wall_ms = NOW_MS; /* one that has run has left disks */
    ck_assert(waits_at(NOW_MS));
}
END_TEST

/* They may be on their way while it says that it has begun: they end it, with its disks,
 * and those elsewhere are all that is left. */
START_TEST(one_that_begins_when_it_was_ordered_away_gives_up_nothing)
{
    ck_assert(waits_at(NOW_MS));
    ck_assert(!waits_at(NOW_MS + LEADER_BEGINS_MS));
    heard.orders_sent_ms = NOW_MS + LEADER_BEGINS_MS;
    ck_assert(!waits_at(NOW_MS + LEADER_BEGINS_MS + 1));
    seen.phase = PHASE_RUNNING;
    seen.running_wall_ms = NOW_MS;
    ck_assert(!waits_at(NOW_MS + LEADER_BEGINS_MS + 2));
    seen.phase = PHASE_FAILED;
    seen.disk_epoch = epoch;
    ck_assert(!waits_at(NOW_MS + LEADER_BEGINS_MS + 3));
}
END_TEST

/* Its disks are named, so they stay: that it runs after all is learned. */
START_TEST(what_orders_name_is_found_whenever_it_is_told)
{
    heard.uid = h1;
    heard.orders_sent_ms = NOW_MS;
    seen.epoch = state_vm(state, db)->status.disk_epoch;
    seen.phase = PHASE_RUNNING;
    ck_assert_uint_eq(state_vm(state, db)->status.disk_host, h1);
    ck_assert(waits_at(NOW_MS + 1));
}
END_TEST

/* It says that a run has begun which starts: the log does not take that. */
START_TEST(what_the_log_would_refuse_is_not_waited_for)
{
    seen.running_wall_ms = NOW_MS;
    ck_assert(waits_at(NOW_MS));
    ck_assert(!waits_at(NOW_MS + LEADER_BEGINS_MS));
}
END_TEST

START_TEST(each_wait_has_its_own_time)
{
    ck_assert(waits_at(NOW_MS));
    seen.phase = PHASE_FAILED;
    ck_assert(!waits_at(NOW_MS + 1));
    seen.phase = PHASE_STARTING;
    ck_assert(waits_at(NOW_MS + LEADER_BEGINS_MS));
    ck_assert(!waits_at(NOW_MS + 2 * LEADER_BEGINS_MS));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("leader_finds");
    TCase *tests = tcase_create("leader_finds");
    tcase_add_checked_fixture(tests, setup, fixture_stop);
    tcase_add_test(tests, orders_wait_for_a_run_to_begin_but_not_for_ever);
    tcase_add_test(tests, once_it_has_begun_they_wait_until_the_log_has_it);
    tcase_add_test(tests, they_do_not_wait_for_one_that_has_failed_without_beginning);
    tcase_add_test(tests, one_that_begins_when_it_was_ordered_away_gives_up_nothing);
    tcase_add_test(tests, what_orders_name_is_found_whenever_it_is_told);
    tcase_add_test(tests, what_the_log_would_refuse_is_not_waited_for);
    tcase_add_test(tests, each_wait_has_its_own_time);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
