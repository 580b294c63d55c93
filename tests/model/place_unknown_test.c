/* Goal: after a rebirth nothing starts a VM that waits for its host before a host says
 * that it runs there, or its user says so; what hosts of before still run is found, not
 * ended. */
#include "rebirth_fixture.h"

static uint64_t h2;
static uint64_t h3;
static uint64_t db; /* waits for its host, h2, where it runs in its fifth epoch */

static uint64_t patient_vm(const char *name)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, name, "patient", ""), 0);
    return answer.uid;
}

static void run_on(uint64_t vm, uint64_t host)
{
    ck_assert_int_eq(place(vm, host, state_vm(state, vm)->status.epoch + 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
}

static void setup(void)
{
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    fixture_start();
    ck_assert_int_eq(level_at_least(LEVEL_PLACE_UNKNOWN), 0);
    h2 = add_host("h2", 2);
    h3 = add_host("h3", 3);
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    db = patient_vm("db");
    run_on(db, h2);
    for (uint64_t epoch = 1; epoch < 5; epoch++) {
        ck_assert_int_eq(evict(db, epoch, STOP_INTENT_MOVE), 0);
        ck_assert_int_eq(reports(db, PHASE_STOPPED), 0);
        run_on(db, epoch % 2 == 1 ? h3 : h2);
    }
}

static const struct vm_status *status_of(uint64_t vm)
{
    return &state_vm(state, vm)->status;
}

static bool is_unknown(uint64_t vm)
{
    return state_place_unknown(state, state_vm(state, vm));
}

static bool any(void *context, const struct host *host)
{
    (void)context;
    (void)host;
    return true;
}

/* The hosts go on: none of them but h1 had a part in the log. */
static void recovered(void)
{
    recovered_with(any);
}

static uint64_t founded_anew(const char *name)
{
    next_request(7);
    ck_assert_int_eq(join(name, 9, 0), 0);
    return answer.uid;
}

static void ck_assert_waits_for_its_user(uint64_t vm)
{
    ck_assert(is_unknown(vm));
    ck_assert_int_eq(status_of(vm)->phase, PHASE_STOPPED);
    ck_assert_uint_eq(status_of(vm)->host, 0);
    ck_assert_ptr_nonnull(strstr(status_of(vm)->reason, "where it runs is not known"));
    ck_assert_int_eq(retry(vm, status_of(vm)->epoch), BERTH_EPHASE);
    ck_assert_int_eq(place(vm, h1, status_of(vm)->epoch + 1, 0), BERTH_EPHASE);
}

/* Its last moves are lost, so it may run on any host of before, whoever's name is taken.
 */
START_TEST(a_vm_that_waits_is_not_started_when_its_hosts_name_is_taken)
{
    restored();
    ck_assert_int_eq(status_of(db)->phase, PHASE_LOST);
    uint64_t anew = founded_anew("h2");
    ck_assert_waits_for_its_user(db);
    ck_assert_uint_eq(status_of(db)->disk_host, 0);
    ck_assert_int_eq(set_power(db, POWER_ON), BERTH_EPHASE);
    ck_assert_ptr_nonnull(strstr(answer.text, "berth start db --anywhere"));
    ck_assert_int_eq(evict(db, status_of(db)->epoch, STOP_INTENT_RESTART), BERTH_EPHASE);
    ck_assert_int_eq(set_power_at(db, POWER_ON, true), BERTH_EPHASE);
    ck_assert_ptr_nonnull(strstr(answer.text, "surelyOff"));
    ck_assert_waits_for_its_user(db);
    ck_assert_int_eq(start_surely_off(db, true), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_PENDING);
    ck_assert_uint_eq(status_of(db)->disk_epoch, 0);
    run_on(db, anew);
    ck_assert(!is_unknown(db));
}
END_TEST

START_TEST(nor_when_its_host_is_removed)
{
    restored();
    (void)founded_anew("n1");
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_REMOVED), 0);
    ck_assert_waits_for_its_user(db);
}
END_TEST

/* They may have been started since. */
START_TEST(vms_that_were_nowhere_are_not_started_either)
{
    uint64_t pending = patient_vm("pending");
    uint64_t stopped = patient_vm("stopped");
    uint64_t kept = patient_vm("kept");
    ck_assert_int_eq(set_power(stopped, POWER_OFF), 0);
    run_on(kept, h2);
    ck_assert_int_eq(set_power(kept, POWER_OFF), 0);
    ck_assert_int_eq(reports_kept(kept, PHASE_STOPPED), 0);
    restored();
    (void)founded_anew("h2");
    ck_assert_waits_for_its_user(pending);
    ck_assert_waits_for_its_user(stopped);
    ck_assert_int_eq(set_power(stopped, POWER_ON), BERTH_EPHASE);
    ck_assert_int_eq(change_vm(stopped, POWER_ON, "a", "b"), BERTH_EPHASE);
    ck_assert_waits_for_its_user(kept);
    ck_assert_uint_eq(status_of(kept)->disk_host, 0);
    ck_assert_int_eq(set_power(kept, POWER_ON), BERTH_EPHASE);
}
END_TEST

START_TEST(others_start_at_once)
{
    uint64_t web = ready_vm("web", h2);
    uint64_t next = admit_plain("next");
    restored();
    ck_assert_int_eq(status_of(web)->phase, PHASE_PENDING);
    ck_assert_int_eq(status_of(next)->phase, PHASE_PENDING);
    ck_assert_uint_eq(status_of(next)->disk_epoch, 0);
}
END_TEST

START_TEST(before_its_level_a_vm_goes_on_when_its_host_is_removed)
{
    fixture_stop();
    fixture_start();
    h2 = add_host("h2", 2);
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    db = patient_vm("db");
    run_on(db, h2);
    restored();
    (void)founded_anew("n1");
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_REMOVED), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_PENDING);
}
END_TEST

/* Nothing else runs it, so this is where it is. */
START_TEST(one_that_is_found_running_starts_there_and_nowhere_else)
{
    recovered();
    ck_assert_waits_for_its_user(db);
    ck_assert_uint_eq(status_of(db)->disk_host, h2);
    uint64_t epoch = status_of(db)->epoch;
    ck_assert_int_eq(report(db, h2, 5, PHASE_READY, 0), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_PLACED);
    ck_assert_uint_eq(status_of(db)->host, h2);
    ck_assert_uint_eq(status_of(db)->epoch, epoch);
    ck_assert_uint_ne(status_of(db)->disk_epoch, 0); /* not new ones */
    ck_assert(!is_unknown(db));
    if (_i == 0) {
        ck_assert_int_eq(reports(db, PHASE_RUNNING), 0);
    }
    /* From here on it is a VM like any other: its host may run it still. */
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_LOST);
    ck_assert(!is_unknown(db));
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_REMOVED), BERTH_EPHASE);
    ck_assert_int_eq(delete_host_surely_off("h2"), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_PENDING);
}
END_TEST

START_TEST(a_move_that_the_log_has_lost_is_learned_from_the_host_that_runs_it)
{
    recovered();
    ck_assert_int_eq(report(db, h3, 6, PHASE_RUNNING, 0), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_PLACED);
    ck_assert_uint_eq(status_of(db)->host, h3);
    ck_assert_ptr_nonnull(strstr(status_of(db)->reason, "found on host h3"));
    ck_assert_int_eq(report(db, h2, 5, PHASE_RUNNING, 0), BERTH_ESTALE); /* too late */
    ck_assert_int_eq(reports(db, PHASE_RUNNING), 0);
}
END_TEST

/* Also one whose host of the log is lost meanwhile, or was removed. */
START_TEST(it_is_learned_whatever_became_of_the_host_of_the_log)
{
    const struct rebirth rebirth = {.wall_ms = NOW_MS, .reason = "recovered"};
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0); /* nobody goes on */
    uint64_t anew = add_host("anew", 9);
    ck_assert_int_eq(status_of(db)->phase, PHASE_LOST);
    if (_i == 1) {
        ck_assert_int_eq(host_phase(h2, HOST_PHASE_REMOVED), 0);
        ck_assert_waits_for_its_user(db);
    }
    ck_assert_int_eq(report(db, h2, 5, PHASE_RUNNING, 0), BERTH_ESTALE); /* it is lost */
    ck_assert_int_eq(report(db, anew, 6, PHASE_RUNNING, 0), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_PLACED);
    ck_assert_uint_eq(status_of(db)->host, anew);
}
END_TEST

START_TEST(a_run_older_than_the_one_that_is_known_tells_nothing)
{
    recovered();
    ck_assert_int_eq(report(db, h3, 4, PHASE_RUNNING, 0), BERTH_ESTALE);
    ck_assert_waits_for_its_user(db);
}
END_TEST

/* It may run elsewhere in a later one: what is kept waits for the user's word. */
START_TEST(disks_alone_start_nothing_and_the_newest_count)
{
    recovered();
    ck_assert_int_eq(report_disks(db, h2, 5, PHASE_STOPPED, 0, 5), BERTH_ESTALE);
    ck_assert_int_eq(report_disks(db, h3, 7, PHASE_FAILED, 0, 0), BERTH_ESTALE);
    ck_assert_int_eq(report_disks(db, h3, 7, PHASE_FAILED, 0, 7), 0);
    ck_assert(is_unknown(db));
    ck_assert_int_eq(status_of(db)->phase, PHASE_STOPPED);
    ck_assert_uint_eq(status_of(db)->disk_host, h3);
    ck_assert_int_eq(report_disks(db, h1, 6, PHASE_STOPPED, 0, 6), BERTH_ESTALE);
    ck_assert_uint_eq(status_of(db)->disk_host, h3);
    ck_assert_int_eq(retry(db, status_of(db)->epoch), BERTH_EPHASE);
    ck_assert_int_eq(set_power(db, POWER_ON), BERTH_EPHASE);
    ck_assert_ptr_nonnull(strstr(answer.text, "berth start db asks"));
    ck_assert_int_eq(change_vm(db, POWER_OFF, NULL, NULL), 0);
    ck_assert_int_eq(change_vm(db, POWER_ON, NULL, NULL), BERTH_EPHASE);
    ck_assert_int_eq(start_surely_off(db, false), 0);
    ck_assert_int_eq(place(db, h2, status_of(db)->epoch + 1, 0), BERTH_ECONFLICT);
    run_on(db, h3);
    ck_assert_int_eq(host_phase(h3, HOST_PHASE_LOST), 0);
    ck_assert(!is_unknown(db));
}
END_TEST

/* The host that keeps them is not there to be asked. */
START_TEST(disks_on_a_lost_host_are_no_place_to_start)
{
    recovered();
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_uint_eq(status_of(db)->disk_host, h2);
    ck_assert_int_eq(set_power(db, POWER_ON), BERTH_EPHASE);
    ck_assert_int_eq(delete_host_by_force("h2"), 0);
    ck_assert_waits_for_its_user(db);
    ck_assert_uint_eq(status_of(db)->disk_epoch, 5);
}
END_TEST

/* ---- on its way back to a snapshot ---- */

/* In the epoch that it has by now its host has ended the run of before, or could not
 * start it: it says which run has left the disks, as it knows it. */
static int ends_with_disks_of(uint64_t host, enum phase phase, uint64_t disk_epoch)
{
    return report_disks(db, host, status_of(db)->epoch, phase, fixture_wall_ms,
                        disk_epoch);
}

/* Of db on h2, with its disks on h1, which keeps them (or on h2 itself): its next run,
 * which begins from the snapshot, is placed on h2. Gives its epoch. */
static uint64_t goes_back_on_h2(bool disks_elsewhere)
{
    ck_assert_int_eq(reports_run(db, PHASE_RUNNING, ENGINE_KVM, false, NULL), 0);
    ck_assert_int_eq(make_snapshot(db, "before"), 0);
    uint64_t snapshot = answer.uid;
    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 1), 0);
    if (disks_elsewhere) {
        ck_assert_int_eq(evict(db, status_of(db)->epoch, STOP_INTENT_MOVE), 0);
        ck_assert_int_eq(reports(db, PHASE_STOPPED), 0);
        run_on(db, h1);
    }
    ck_assert_int_eq(set_power(db, POWER_OFF), 0);
    ck_assert_int_eq(reports_kept(db, PHASE_STOPPED), 0);
    ck_assert_int_eq(restore_vm(db, snapshot), 0);
    ck_assert_int_eq(place(db, h2, status_of(db)->epoch + 1, 0), 0);
    ck_assert_uint_eq(status_of(db)->disk_host, disks_elsewhere ? h1 : 0);
    ck_assert_uint_eq(status_of(db)->restore, snapshot);
    return status_of(db)->epoch;
}

static int report_begun(uint64_t host, uint64_t epoch, enum phase phase, bool begun)
{
    struct command command;
    command_init(&command, COMMAND_VM_PHASE);
    command.body.vm_phase.vm = db;
    command.body.vm_phase.host = host;
    command.body.vm_phase.epoch = epoch;
    command.body.vm_phase.phase = phase;
    command.body.vm_phase.disk_epoch = phase == PHASE_FAILED ? epoch : 0;
    command.body.vm_phase.begun = begun;
    return send_command(&command);
}

/* It waits on for the host where it was to begin, with nobody left who keeps its disks.
 */
START_TEST(a_host_that_kept_disks_of_one_that_is_lost_elsewhere_can_go)
{
    (void)goes_back_on_h2(true);
    if (_i == 1) {
        ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    }
    restored();
    ck_assert_int_eq(status_of(db)->phase, PHASE_LOST);
    ck_assert(is_unknown(db));
    uint64_t disk_epoch = status_of(db)->disk_epoch;
    (void)founded_anew("h1");
    ck_assert_int_eq(status_of(db)->phase, PHASE_LOST);
    ck_assert_uint_eq(status_of(db)->host, h2);
    ck_assert_uint_eq(status_of(db)->disk_host, 0);
    ck_assert_uint_eq(status_of(db)->disk_epoch, disk_epoch);
    ck_assert(is_unknown(db));
    ck_assert_int_eq(delete_host_by_force("h2"), 0); /* with the snapshot */
    ck_assert_int_eq(status_of(db)->phase, PHASE_STOPPED);
    ck_assert_uint_eq(status_of(db)->host, 0);
    ck_assert(is_unknown(db));
}
END_TEST

/* It has written since: the snapshot has done its part. */
START_TEST(one_that_is_found_begun_does_not_begin_from_its_snapshot_again)
{
    static const enum phase phases[] = {PHASE_RUNNING, PHASE_READY, PHASE_STOPPING,
                                        PHASE_FAILED};
    const bool elsewhere = _i >= 4;
    const enum phase phase = phases[_i % 4];
    uint64_t epoch = goes_back_on_h2(elsewhere);
    recovered();
    ck_assert_uint_ne(status_of(db)->restore, 0);
    ck_assert_int_eq(report_begun(h2, epoch + 1, phase, true), 0);
    ck_assert_uint_eq(status_of(db)->restore, 0);
    ck_assert_int_eq(status_of(db)->phase,
                     phase == PHASE_FAILED ? PHASE_STOPPED : PHASE_PLACED);
    ck_assert_uint_eq(status_of(db)->disk_host, phase == PHASE_FAILED ? h2 : 0);
}
END_TEST

/* The wish is newer than what it has written. */
START_TEST(one_that_is_found_in_its_run_of_before_the_wish_goes_back_all_the_same)
{
    ck_assert_int_eq(reports_run(db, PHASE_RUNNING, ENGINE_KVM, false, NULL), 0);
    ck_assert_int_eq(make_snapshot(db, "before"), 0);
    uint64_t snapshot = answer.uid;
    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 1), 0);
    ck_assert_int_eq(restore_vm(db, snapshot), 0);
    recovered();
    ck_assert_uint_eq(status_of(db)->restore_epoch, 5);
    ck_assert_int_eq(report_begun(h2, 5, PHASE_RUNNING, true), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_PLACED);
    ck_assert_uint_ne(status_of(db)->restore, 0);
}
END_TEST

/* Its host has no such snapshot: it ends it there, with its disks. */
START_TEST(and_where_its_snapshot_is_when_that_is_elsewhere)
{
    ck_assert_int_eq(reports_run(db, PHASE_RUNNING, ENGINE_KVM, false, NULL), 0);
    ck_assert_int_eq(make_snapshot(db, "before"), 0);
    uint64_t snapshot = answer.uid;
    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 1), 0);
    ck_assert_int_eq(evict(db, 5, STOP_INTENT_MOVE), 0);
    ck_assert_int_eq(reports(db, PHASE_STOPPED), 0);
    run_on(db, h3);
    ck_assert_int_eq(restore_vm(db, snapshot), 0);
    recovered();
    ck_assert_int_eq(report_begun(h3, 6, PHASE_RUNNING, true), 0);
    ck_assert_uint_eq(status_of(db)->host, h3);
    ck_assert_int_eq(status_of(db)->phase, PHASE_STOPPING);
    ck_assert_int_eq(ends_with_disks_of(h3, PHASE_STOPPED, 6), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_PENDING);
    ck_assert_uint_eq(status_of(db)->restore, snapshot);
    ck_assert_uint_eq(status_of(db)->disk_host, h3);
    ck_assert_int_eq(place(db, h3, status_of(db)->epoch + 1, 0), BERTH_ECONFLICT);
    ck_assert_int_eq(place(db, h2, status_of(db)->epoch + 1, 0), 0);
    ck_assert_uint_eq(status_of(db)->disk_host, h3); /* until it has begun */
    ck_assert_int_eq(reports(db, PHASE_RUNNING), 0);
    ck_assert_uint_eq(status_of(db)->restore, 0);
}
END_TEST

/* Until it has, nobody knows that the snapshot is good. */
START_TEST(disks_elsewhere_stay_for_a_run_that_never_began_from_its_snapshot)
{
    static const enum phase phases[] = {PHASE_STARTING, PHASE_STOPPING, PHASE_FAILED};
    uint64_t epoch = goes_back_on_h2(true);
    recovered();
    ck_assert_int_eq(report_begun(h2, epoch, phases[_i], false), BERTH_ESTALE);
    ck_assert_waits_for_its_user(db);
    ck_assert_uint_eq(status_of(db)->disk_host, h1);
    const struct found_run run = {.host = h2,
                                  .epoch = epoch,
                                  .disk_epoch = _i == 2 ? epoch : 0,
                                  .phase = phases[_i]};
    ck_assert(state_found_may_begin(state, state_vm(state, db), &run) == (_i != 2));
    ck_assert_int_eq(report_begun(h2, epoch, PHASE_RUNNING, false), 0); /* says enough */
    ck_assert_int_eq(status_of(db)->phase, PHASE_PLACED);
    ck_assert_uint_eq(status_of(db)->disk_host, 0);
    ck_assert_uint_eq(status_of(db)->restore, 0);
}
END_TEST

/* It began from the snapshot and left disks, with which a later run could not be started.
 */
START_TEST(disks_of_a_run_before_one_that_never_began_are_no_trial)
{
    uint64_t epoch = goes_back_on_h2(true);
    recovered();
    ck_assert_int_eq(report_disks(db, h2, epoch + 1, PHASE_FAILED, 0, epoch), 0);
    ck_assert_uint_eq(status_of(db)->disk_host, h2);
    ck_assert_uint_eq(status_of(db)->disk_epoch, epoch);
    ck_assert_int_eq(evict(db, status_of(db)->epoch, STOP_INTENT_RESTART), BERTH_EPHASE);
    ck_assert_uint_eq(status_of(db)->restore, 0);
    ck_assert_int_eq(start_surely_off(db, false), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_PENDING);
    ck_assert_uint_eq(status_of(db)->disk_host, h2);
    ck_assert_uint_eq(status_of(db)->restore, 0); /* with what it has written */
}
END_TEST

/* Where its own disks were, those that are told of may be of a try as well. */
START_TEST(the_wish_stays_where_nobody_can_say_that_it_was_fulfilled)
{
    uint64_t epoch = goes_back_on_h2(false);
    recovered();
    const uint64_t disks = _i == 0 ? epoch : epoch - 1; /* or from before the wish */
    ck_assert_int_eq(report_disks(db, h2, epoch + 1, PHASE_FAILED, 0, disks),
                     _i == 0 ? 0 : BERTH_ESTALE);
    ck_assert_uint_ne(status_of(db)->restore, 0);
}
END_TEST

/* ---- disks that a later run could not be started with ---- */

START_TEST(the_newest_disks_count_although_a_later_start_has_failed)
{
    recovered();
    ck_assert_int_eq(report_disks(db, h3, 6, PHASE_FAILED, 0, 7), BERTH_ESTALE);
    ck_assert_int_eq(report_disks(db, h3, 8, PHASE_FAILED, 0, 7), 0);
    ck_assert_uint_eq(status_of(db)->disk_host, h3);
    ck_assert_uint_eq(status_of(db)->disk_epoch, 7);
    ck_assert_int_eq(report_disks(db, h3, 8, PHASE_FAILED, 0, 7), BERTH_ESTALE);
    ck_assert_int_eq(report_disks(db, h1, 9, PHASE_FAILED, 0, 6), BERTH_ESTALE);
    ck_assert_int_eq(report_disks(db, h1, 8, PHASE_STOPPED, 0, 8), 0);
    ck_assert_uint_eq(status_of(db)->disk_host, h1);
}
END_TEST

/* Nor does the log take the start for a run that has left newer ones. */
START_TEST(nor_is_a_start_that_the_log_knows_of_newer_than_the_disks)
{
    ck_assert_int_eq(evict(db, 5, STOP_INTENT_RESTART), 0);
    ck_assert_int_eq(reports_kept(db, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(db, h2, 6, 0), 0);
    restored();
    ck_assert_uint_eq(status_of(db)->disk_epoch, 5);
    uint64_t anew = founded_anew("h2");
    ck_assert_waits_for_its_user(db);
    ck_assert_int_eq(report_disks(db, anew, 6, PHASE_FAILED, 0, 5), 0);
    ck_assert_waits_for_its_user(db);
    ck_assert_uint_eq(status_of(db)->disk_host, anew);
    ck_assert_uint_eq(status_of(db)->disk_epoch, 5);
}
END_TEST

/* It has no address there by this log: its disks stay, and nothing is said twice. */
START_TEST(one_that_is_found_without_its_network_keeps_its_disks)
{
    struct template *template = make_template(DEFAULT_TENANT, "wired", "front");
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "wired", "wired", ""), 0);
    uint64_t wired = answer.uid;
    recovered();
    ck_assert_int_eq(report(wired, h3, 1, PHASE_RUNNING, 0), 0);
    ck_assert_waits_for_its_user(wired);
    ck_assert_uint_eq(status_of(wired)->disk_host, h3);
    const struct found_run again = {.host = h3, .epoch = 1, .phase = PHASE_RUNNING};
    ck_assert(!state_found_is_news(state, state_vm(state, wired), &again));
    ck_assert_int_eq(start_surely_off(wired, false), 0);
    ck_assert_int_eq(status_of(wired)->phase, PHASE_PENDING);
}
END_TEST

/* Where it is has been found out once and for all. */
START_TEST(a_start_that_fails_after_it_was_found_is_tried_again)
{
    recovered();
    if (_i == 0) {
        ck_assert_int_eq(report(db, h2, 5, PHASE_READY, 0), 0);
    } else { /* its user starts it on what h2 keeps */
        ck_assert_int_eq(start_surely_off(db, false), 0);
        ck_assert_int_eq(place(db, h2, status_of(db)->epoch + 1, 0), 0);
    }
    for (unsigned tries = 0; tries < 2; tries++) {
        ck_assert_int_eq(ends_with_disks_of(h2, PHASE_FAILED, 5), 0);
        ck_assert_int_eq(status_of(db)->phase, PHASE_FAILED);
        ck_assert(!is_unknown(db));
        ck_assert_uint_eq(status_of(db)->disk_host, h2);
        ck_assert_int_eq(retry(db, status_of(db)->epoch), 0);
        ck_assert_int_eq(place(db, h3, status_of(db)->epoch + 1, 0), BERTH_ECONFLICT);
        ck_assert_int_eq(place(db, h2, status_of(db)->epoch + 1, 0), 0);
    }
    ck_assert_int_eq(reports(db, PHASE_RUNNING), 0);
}
END_TEST

START_TEST(one_that_runs_although_it_is_off_stays_off_with_its_disks)
{
    ck_assert_int_eq(set_power(db, POWER_OFF), 0);
    ck_assert_int_eq(reports_kept(db, PHASE_STOPPED), 0);
    recovered();
    ck_assert_int_eq(report(db, h3, 6, PHASE_RUNNING, 0), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_STOPPING);
    ck_assert_int_eq(ends_with_disks_of(h3, PHASE_STOPPED, 6), 0);
    ck_assert_int_eq(status_of(db)->phase, PHASE_STOPPED);
    ck_assert_uint_eq(status_of(db)->disk_host, h3);
    ck_assert(!is_unknown(db));
    ck_assert_int_eq(set_power(db, POWER_ON), 0);
    run_on(db, h3);
}
END_TEST

START_TEST(a_second_rebirth_forgets_nothing_of_it)
{
    restored();
    restored();
    (void)founded_anew("h2");
    ck_assert_waits_for_its_user(db);
    ck_assert_uint_eq(status_of(db)->disk_epoch, 5);
}
END_TEST

START_TEST(it_can_be_deleted)
{
    restored();
    (void)founded_anew("h2");
    ck_assert_int_eq(evict(db, status_of(db)->epoch, STOP_INTENT_DELETE), 0);
    ck_assert_ptr_null(state_vm(state, db));
}
END_TEST

START_TEST(what_comes_out_is_a_state_that_snapshots_accept)
{
    uint8_t *data = NULL;
    size_t size = 0;
    struct state *copy = state_new(NULL, NULL);
    (void)patient_vm("pending");
    restored();
    (void)founded_anew("h2");
    ck_assert(is_unknown(db));
    ck_assert_int_eq(state_encode(state, &data, &size), 0);
    ck_assert_msg(state_decode(copy, data, size, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(state_hash(copy), state_hash(state));
    free(data);
    state_free(copy);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("place_unknown");
    TCase *tests = tcase_create("place_unknown");
    tcase_add_checked_fixture(tests, setup, fixture_stop);
    tcase_add_test(tests, a_vm_that_waits_is_not_started_when_its_hosts_name_is_taken);
    tcase_add_test(tests, nor_when_its_host_is_removed);
    tcase_add_test(tests, vms_that_were_nowhere_are_not_started_either);
    tcase_add_test(tests, others_start_at_once);
    tcase_add_test(tests, before_its_level_a_vm_goes_on_when_its_host_is_removed);
    tcase_add_loop_test(tests, one_that_is_found_running_starts_there_and_nowhere_else, 0,
                        2);
    tcase_add_test(tests,
                   a_move_that_the_log_has_lost_is_learned_from_the_host_that_runs_it);
    tcase_add_loop_test(tests, it_is_learned_whatever_became_of_the_host_of_the_log, 0,
                        2);
    tcase_add_test(tests, a_run_older_than_the_one_that_is_known_tells_nothing);
    tcase_add_test(tests, disks_alone_start_nothing_and_the_newest_count);
    tcase_add_test(tests, disks_on_a_lost_host_are_no_place_to_start);
    tcase_add_loop_test(
        tests, a_host_that_kept_disks_of_one_that_is_lost_elsewhere_can_go, 0, 2);
    tcase_add_loop_test(
        tests, one_that_is_found_begun_does_not_begin_from_its_snapshot_again, 0, 8);
    tcase_add_test(
        tests, one_that_is_found_in_its_run_of_before_the_wish_goes_back_all_the_same);
    tcase_add_test(tests, and_where_its_snapshot_is_when_that_is_elsewhere);
    tcase_add_loop_test(
        tests, disks_elsewhere_stay_for_a_run_that_never_began_from_its_snapshot, 0, 3);
    tcase_add_test(tests, disks_of_a_run_before_one_that_never_began_are_no_trial);
    tcase_add_loop_test(tests, the_wish_stays_where_nobody_can_say_that_it_was_fulfilled,
                        0, 2);
    tcase_add_test(tests, the_newest_disks_count_although_a_later_start_has_failed);
    tcase_add_test(tests, nor_is_a_start_that_the_log_knows_of_newer_than_the_disks);
    tcase_add_test(tests, one_that_is_found_without_its_network_keeps_its_disks);
    tcase_add_loop_test(tests, a_start_that_fails_after_it_was_found_is_tried_again, 0,
                        2);
    tcase_add_test(tests, one_that_runs_although_it_is_off_stays_off_with_its_disks);
    tcase_add_test(tests, a_second_rebirth_forgets_nothing_of_it);
    tcase_add_test(tests, it_can_be_deleted);
    tcase_add_test(tests, what_comes_out_is_a_state_that_snapshots_accept);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
