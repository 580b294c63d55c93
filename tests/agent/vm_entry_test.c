/* Goal: a VM goes through its states as it is told and as its process does, on a slow
 * disk, too, and stands still while it is fenced. Method: real processes of the fake
 * engine (supervisor_fixture.h). */
#include "supervisor_fixture.h"
#include "support/disk_gate.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* ---- one VM's life ---- */

START_TEST(a_vm_starts_runs_is_ready_and_stops)
{
    start(UID, 3, false);
    ck_assert_uint_eq(bench.changes, 0); /* never inside the call */
    ck_assert_int_eq(report_of(UID).phase, PHASE_STARTING);
    ck_assert(report_of(UID).alive && report_of(UID).pid == 0); /* about to have one */

    struct vm_report ready = wait_phase(UID, PHASE_READY);
    ck_assert_int_gt(ready.pid, 0);
    ck_assert_uint_eq(ready.epoch, 3);
    ck_assert_str_eq(ready.name, "web-1");
    ck_assert_uint_ge(ready.running_wall_ms, ready.start_wall_ms);
    ck_assert_uint_ge(ready.ready_wall_ms, ready.running_wall_ms);
    ck_assert_int_eq(kill(ready.pid, 0), 0);
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 3, UINT64_MAX, NULL), 0);
    ck_assert_int_eq(report_of(UID).phase, PHASE_STOPPING);
    struct vm_report stopped = wait_phase(UID, PHASE_STOPPED);

    ck_assert_int_eq(stopped.pid, 0);
    ck_assert(!stopped.alive);
    ck_assert_int_eq(kill(ready.pid, 0), -1);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(bench.last.phase, PHASE_STOPPED);
}
END_TEST

/* The promise is on the disk before the process is let go, and the loop waits for none.
 */
START_TEST(while_the_disk_hangs_the_loop_turns_and_nothing_passes_the_gate)
{
    start(UID + 1, 1, false);
    (void)wait_phase(UID + 1, PHASE_READY);
    wait_record(UID + 1, VM_RECORD_RUNNING);
    ck_assert_int_eq(pipe2(gate.pipe, O_CLOEXEC), 0);
    gate.closed = true;
    start(UID, 1, false);
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID + 1, 1, UINT64_MAX, NULL),
                     0);
    (void)wait_phase(UID + 1, PHASE_STOPPED);
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID + 1, 1, NULL), 0);
    while (gate.waiting == 0 || report_of(UID).pid == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(report_of(UID).phase, PHASE_STARTING);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/held"));
    ck_assert(report_of(UID + 1).leaving);

    gate.closed = false;
    ck_assert_int_eq(close(gate.pipe[1]), 0);
    (void)wait_phase(UID, PHASE_READY);

    ck_assert_uint_eq(gate.on_loop, 0);
    forget(UID + 1, 1);
}
END_TEST

START_TEST(a_held_vm_does_not_run_until_it_is_told)
{
    start(UID, 1, true);
    struct vm_report held = wait_held(UID);
    ck_assert_int_eq(held.phase, PHASE_STARTING);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/running"));

    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);
    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);

    (void)wait_phase(UID, PHASE_READY);
    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);
}
END_TEST

START_TEST(a_held_vm_that_is_stopped_never_ran)
{
    start(UID, 1, true);
    (void)wait_held(UID);

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, 20000, NULL), 0);

    struct vm_report stopped = wait_phase(UID, PHASE_STOPPED);
    ck_assert_str_eq(stopped.reason, "stopped before it ran");
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/running"));
}
END_TEST

struct end_row {
    const char *control;
    enum phase phase;
    const char *word;
};

static const struct end_row ends[] = {
    {"end=shutdown", PHASE_STOPPED, "guest shutdown"},
    {"end=crash", PHASE_FAILED, "exit status 70; engine log: the fake guest crashed"},
};

START_TEST(a_vm_that_ends_by_itself_is_told_apart)
{
    start(UID, 1, false);
    (void)wait_phase(UID, PHASE_READY);

    write_control(UID, ends[_i].control);
    struct vm_report ended = wait_phase(UID, ends[_i].phase);

    ck_assert_msg(strstr(ended.reason, ends[_i].word) != NULL, "%s", ended.reason);
}
END_TEST

START_TEST(a_process_killed_by_somebody_else_is_a_failure)
{
    start(UID, 1, false);
    struct vm_report ready = wait_phase(UID, PHASE_READY);

    ck_assert_int_eq(kill(ready.pid, SIGKILL), 0);
    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "SIGKILL") != NULL, "%s", failed.reason);
}
END_TEST

START_TEST(a_failure_quotes_nothing_that_an_earlier_run_said)
{
    start(UID, 1, false);
    (void)wait_phase(UID, PHASE_READY);
    write_control(UID, "end=crash");
    (void)wait_phase(UID, PHASE_FAILED);
    write_control(UID, "");
    start(UID, 2, false);
    struct vm_report ready = wait_phase(UID, PHASE_READY);

    ck_assert_int_eq(kill(ready.pid, SIGKILL), 0);
    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_ptr_null(strstr(failed.reason, "the fake guest crashed"));
    ck_assert_msg(strstr(failed.reason, "SIGKILL") != NULL, "%s", failed.reason);
    char *log = temp_dir_read(&bench.dir, "vms/7/engine.log"); /* who looks sees both */
    ck_assert_ptr_nonnull(strstr(log, "the fake guest crashed"));
    free(log);
}
END_TEST

START_TEST(a_stop_that_is_not_heard_ends_at_its_deadline)
{
    start(UID, 1, false);
    struct vm_report ready = wait_phase(UID, PHASE_READY);
    ck_assert_int_eq(kill(ready.pid, SIGSTOP), 0); /* it will not hear */

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, 20, NULL), 0);
    struct vm_report stopped = wait_phase(UID, PHASE_STOPPED);

    ck_assert_ptr_nonnull(strstr(stopped.reason, "was killed"));
}
END_TEST

START_TEST(a_kill_ends_it_for_the_reason_given)
{
    start(UID, 1, false);
    if (_i == 1) { /* row 0: before there is a process */
        (void)wait_phase(UID, PHASE_READY);
    }

    ck_assert_int_eq(
        vm_supervisor_kill(bench.supervisor, UID, 1, "the host is drained", NULL), 0);
    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_str_eq(failed.reason, "the host is drained");
}
END_TEST

/* ---- fencing ---- */

START_TEST(fenced_vms_freeze_thaw_and_die_together_and_others_do_not)
{
    enum { VMS = 6 };
    struct vm_order free_order = order_of(VMS, 1);
    free_order.fenced = false;
    pid_t pids[VMS + 1];
    for (uint64_t uid = 1; uid < VMS; uid++) {
        start(uid, 1, false);
    }
    ck_assert_int_eq(vm_supervisor_start(bench.supervisor, &free_order, false, NULL), 0);
    for (uint64_t uid = 1; uid <= VMS; uid++) {
        pids[uid] = wait_phase(uid, PHASE_READY).pid;
    }

    ck_assert_uint_eq(vm_supervisor_freeze_all(bench.supervisor), VMS - 1);
    for (uint64_t uid = 1; uid < VMS; uid++) {
        while (!is_state(pids[uid], 'T')) {
            sched_yield();
        }
        ck_assert(report_of(uid).frozen);
    }
    ck_assert(!is_state(pids[VMS], 'T'));
    ck_assert(!report_of(VMS).frozen);
    ck_assert_uint_eq(vm_supervisor_resume_all(bench.supervisor), VMS - 1);
    for (uint64_t uid = 1; uid < VMS; uid++) {
        while (is_state(pids[uid], 'T')) {
            sched_yield();
        }
    }
    ck_assert_uint_eq(vm_supervisor_freeze_all(bench.supervisor), VMS - 1);
    ck_assert_uint_eq(vm_supervisor_kill_all(bench.supervisor, "lease over"), VMS - 1);
    ck_assert_uint_eq(vm_supervisor_kill_all(bench.supervisor, "lease over"), 0);
    for (uint64_t uid = 1; uid < VMS; uid++) {
        ck_assert_str_eq(wait_phase(uid, PHASE_FAILED).reason, "lease over");
    }
    ck_assert_int_eq(report_of(VMS).phase, PHASE_READY);
}
END_TEST

START_TEST(a_vm_that_is_frozen_while_it_starts_does_not_run_until_it_thaws)
{
    start(UID, 1, false);
    (void)vm_supervisor_freeze_all(bench.supervisor);
    unsigned turns = 0;
    while (report_of(UID).pid == 0 || ++turns < 40) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(report_of(UID).phase, PHASE_STARTING);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/running"));

    (void)vm_supervisor_resume_all(bench.supervisor);

    (void)wait_phase(UID, PHASE_READY);
}
END_TEST

/* ---- the rest ---- */

static void add_life(Suite *suite)
{
    TCase *tests = tcase_create("life");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_vm_starts_runs_is_ready_and_stops);
    tcase_add_test(tests,
                   while_the_disk_hangs_the_loop_turns_and_nothing_passes_the_gate);
    tcase_add_test(tests, a_held_vm_does_not_run_until_it_is_told);
    tcase_add_test(tests, a_held_vm_that_is_stopped_never_ran);
    tcase_add_loop_test(tests, a_vm_that_ends_by_itself_is_told_apart, 0,
                        sizeof(ends) / sizeof(ends[0]));
    tcase_add_test(tests, a_process_killed_by_somebody_else_is_a_failure);
    tcase_add_test(tests, a_failure_quotes_nothing_that_an_earlier_run_said);
    tcase_add_test(tests, a_stop_that_is_not_heard_ends_at_its_deadline);
    tcase_add_loop_test(tests, a_kill_ends_it_for_the_reason_given, 0, 2);
    suite_add_tcase(suite, tests);
}

static void add_fencing(Suite *suite)
{
    TCase *tests = tcase_create("fencing");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, fenced_vms_freeze_thaw_and_die_together_and_others_do_not);
    tcase_add_test(tests,
                   a_vm_that_is_frozen_while_it_starts_does_not_run_until_it_thaws);
    suite_add_tcase(suite, tests);
}

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    Suite *suite = suite_create("vm_entry");
    add_life(suite);
    add_fencing(suite);
    return test_main_run(suite);
}
