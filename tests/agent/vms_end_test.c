/* Goal: a host whose daemon has ended is left by all its VMs, and those that can hear are
 * asked first. Method: real processes of the fake engine, which note that they were asked
 * and end; what was asked of them by a daemon before is whatever a supervisor before that
 * one was at. */
#include "agent/vm_lock.h"
#include "agent/vm_remains.h"
#include "agent/vms_end.h"
#include "supervisor_fixture.h"

#include <check.h>

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOR_EVER_MS UINT64_C(3600000)

static pid_t busy;              /* hears nothing until the loop has turned a few times */
static unsigned busy_turns;     /* since then */
static struct loop_timer *turn; /* counts them */

static void on_turn(void *context)
{
    (void)context;
    if (busy > 0 && ++busy_turns == 3) { /* the first are before anybody is asked */
        ck_assert_int_eq(kill(busy, SIGCONT), 0);
    }
}

static void begin(void)
{
    setup();
    busy = 0;
    turn = loop_timer_new(&bench.loop, 20, 20, on_turn, NULL);
    CLEANUP_FREE char *path = temp_dir_path(&bench.dir, "intervals");
    ck_assert_int_eq(setenv(ENGINE_FAKE_INTERVALS, path, 1), 0);
}

static void finish(void)
{
    turn = loop_timer_close(turn);
    teardown();
}

/* From here on it hears nothing: a signal that comes later waits. */
static void be_deaf(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    while (!is_state(pid, 'T')) { /* a busy machine takes its time */
        (void)sched_yield();
    }
}

static void be_busy(pid_t pid)
{
    be_deaf(pid);
    busy_turns = 0;
    busy = pid;
}

static unsigned asked(void)
{
    CLEANUP_FREE char *path = temp_dir_path(&bench.dir, "intervals");
    char line[128];
    unsigned count = 0;
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        count += strncmp(line, "stop ", 5) == 0;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return count;
}

static void end_within(uint64_t ask_ms, uint64_t fenced_ms)
{
    const struct vms_end_times times = {.ask_ms = ask_ms, .fenced_ms = fenced_ms};
    struct err err = {0};
    ck_assert_msg(vms_end(&bench.loop, bench.supervisor, &times, &err) == 0, "%s",
                  err.text);
}

static void end_all(uint64_t ask_ms)
{
    end_within(ask_ms, ask_ms);
}

/* Instead of the bench's, for what is to happen before any VM's time is over. */
static void soon(void)
{
    bench.deadline = loop_timer_close(bench.deadline);
    bench.deadline = loop_timer_new(&bench.loop, 20000, 0, on_deadline, NULL);
}

START_TEST(programs_are_asked_to_end_and_do)
{
    enum { VMS = 3 };
    for (uint64_t uid = 1; uid <= VMS; uid++) {
        start(uid, 1, false);
    }
    for (uint64_t uid = 1; uid <= VMS; uid++) {
        (void)wait_phase(uid, PHASE_READY);
    }
    be_busy(report_of(VMS).pid);

    end_all(FOR_EVER_MS);

    ck_assert_uint_eq(asked(), VMS);
    for (uint64_t uid = 1; uid <= VMS; uid++) { /* it is to run again one day */
        ck_assert_int_eq(report_of(uid).phase, PHASE_FAILED);
        ck_assert_str_eq(report_of(uid).reason, "cleanup");
    }
}
END_TEST

START_TEST(what_is_deleted_is_killed)
{
    start(1, 1, false);
    (void)wait_phase(1, PHASE_READY);

    end_all(0);

    ck_assert_uint_eq(asked(), 0);
    ck_assert_str_eq(report_of(1).reason, "cleanup");
}
END_TEST

START_TEST(a_deaf_one_is_killed_when_its_time_is_over)
{
    bench.ending_ms = FOR_EVER_MS; /* the engine itself would wait */
    close_supervisor();
    open_supervisor();
    start(1, 1, false);
    be_deaf(wait_phase(1, PHASE_READY).pid);

    end_all(100);

    ck_assert_str_eq(report_of(1).reason, "cleanup");
}
END_TEST

static void start_unfenced(uint64_t uid)
{
    struct vm_order order = order_of(uid, 1);
    order.fenced = false;
    start_order(&order, false);
    (void)wait_phase(uid, PHASE_READY);
}

/* And the others have theirs. */
START_TEST(one_that_obeys_a_lease_has_the_time_of_that)
{
    bench.ending_ms = FOR_EVER_MS;
    close_supervisor();
    open_supervisor();
    start_unfenced(2);
    start(1, 1, false);
    be_deaf(wait_phase(1, PHASE_READY).pid);
    soon();

    end_within(FOR_EVER_MS, 100);

    ck_assert_str_eq(report_of(1).reason, "cleanup");
    ck_assert_uint_eq(asked(), 1);
}
END_TEST

START_TEST(one_whose_lease_is_over_is_killed_and_says_why)
{
    start_unfenced(2);
    start(1, 1, false);
    (void)wait_phase(1, PHASE_READY);

    end_within(FOR_EVER_MS, 0);

    ck_assert_str_eq(report_of(1).reason,
                     "cleanup: with no lease to write its disks out in, it was killed");
    ck_assert_str_eq(report_of(2).reason, "cleanup");
    ck_assert_uint_eq(asked(), 1);
}
END_TEST

#define MS(count) ((uint64_t)(count)*NS_PER_MS)

static const struct {
    uint64_t ask_ms, freezes_ns, now_ns, fenced_ms;
} times_rows[] = {
    {30000, MS(14200), MS(11000), 3100}, /* before the fence */
    {30000, MS(90000), MS(11000), 30000},
    {30000, MS(11100), MS(11000), 0},
    {30000, MS(11000), MS(11000), 0},
    {30000, MS(10000), MS(11000), 0},
    {30000, 0, MS(11000), 0}, /* no lease */
    {0, MS(14200), MS(11000), 0},
};

START_TEST(a_lease_leaves_the_time_until_the_fence_freezes)
{
    const struct vms_end_times times = vms_end_times(
        times_rows[_i].ask_ms, times_rows[_i].freezes_ns, times_rows[_i].now_ns);
    ck_assert_uint_eq(times.ask_ms, times_rows[_i].ask_ms);
    ck_assert_uint_eq(times.fenced_ms, times_rows[_i].fenced_ms);
}
END_TEST

START_TEST(one_that_is_frozen_is_not_waited_for)
{
    start(1, 1, false);
    (void)wait_phase(1, PHASE_READY);
    ck_assert_uint_eq(vm_supervisor_freeze_all(bench.supervisor), 1);
    bench.ending_ms = FOR_EVER_MS;
    close_supervisor(); /* it is found so by the next one */
    open_supervisor();
    soon();

    end_all(FOR_EVER_MS);

    ck_assert_str_eq(report_of(1).reason, "cleanup");
}
END_TEST

START_TEST(one_that_is_stopping_has_stopped)
{
    start(1, 1, false);
    be_busy(wait_phase(1, PHASE_READY).pid);
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, 1, 1, UINT64_MAX, NULL), 0);

    end_all(FOR_EVER_MS);

    ck_assert_int_eq(report_of(1).phase, PHASE_STOPPED);
}
END_TEST

/* ---- whatever a daemon before was at ---- */

static void at_the_gate(void)
{
    start(1, 1, false);
    while (report_of(1).pid == 0) { /* its record is on its way then */
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static void held(void)
{
    start(1, 1, true);
    (void)wait_held(1);
}

static void running(void)
{
    start(1, 1, false);
    (void)wait_phase(1, PHASE_READY);
}

/* The first stop is on its way to a program that is busy. */
static void in_its_grace(void)
{
    running();
    be_deaf(report_of(1).pid);
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, 1, 1, UINT64_MAX, NULL), 0);
}

static void just_killed(void)
{
    running();
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, 1, 1, "test", NULL), 0);
}

static void (*const before[])(void) = {at_the_gate, held, running, in_its_grace,
                                       just_killed};

static bool something_is_left(void)
{
    CLEANUP_FREE char *folder = temp_dir_path(&bench.dir, "vms/1");
    const struct vm_remains remains = {.uid = 1, .folder = folder};
    return vm_remains_signal(&remains, 0) != 0 || vm_lock_is_held(folder);
}

START_TEST(nothing_is_left_of_a_vm_whatever_its_daemon_was_at)
{
    struct vm_report report;
    before[_i]();
    close_supervisor();
    open_supervisor();
    soon();

    end_all(FOR_EVER_MS);

    ck_assert(!something_is_left());
    ck_assert(!vm_supervisor_report(bench.supervisor, 1, &report) || !report.alive);
    forget(1, 1); /* and the next daemon has nothing in its way */
}
END_TEST

/* Nobody knows what it is: its process is all there is. */
START_TEST(one_whose_record_is_damaged_has_ended)
{
    running();
    close_supervisor();
    temp_dir_write(&bench.dir, "vms/1/record.json", "junk");
    open_supervisor();
    soon();

    end_all(0);

    ck_assert(!something_is_left());
}
END_TEST

/* Its daemon died between its beginning and the record of that. */
START_TEST(one_that_runs_behind_its_record_is_asked)
{
    struct vm_record record;
    struct err err = {0};
    running();
    wait_record(1, VM_RECORD_RUNNING);
    close_supervisor();
    CLEANUP_FREE char *folder = temp_dir_path(&bench.dir, "vms/1");
    ck_assert_int_eq(vm_record_read(folder, &record, &err), 0);
    record.state = VM_RECORD_STARTING;
    record.disks_used = false;
    record.running_wall_ms = 0;
    CLEANUP_FREE char *text = vm_record_encode(&record);
    ck_assert_int_eq(vm_record_store(folder, text, &err), 0);
    open_supervisor();
    soon();

    ck_assert_int_eq(vm_supervisor_end(bench.supervisor, 1, 1, "cleanup", NULL), 0);

    close_supervisor(); /* before anybody has heard that it runs */
    ck_assert_int_eq(vm_record_read(folder, &record, &err), 0);
    ck_assert(record.disks_used); /* so nobody makes them anew */
    open_supervisor();
    end_all(FOR_EVER_MS);
    ck_assert_uint_eq(asked(), 1);
}
END_TEST

/* Its guest may have begun before it ended; nobody was there to write that down. */
START_TEST(the_disks_of_one_that_ended_behind_its_record_are_not_made_anew)
{
    struct vm_record record;
    struct err err = {0};
    held();
    wait_record(1, VM_RECORD_STARTING);
    pid_t pid = report_of(1).pid;
    close_supervisor();
    CLEANUP_FREE char *folder = temp_dir_path(&bench.dir, "vms/1");
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    while (!is_state(pid, 'Z') && kill(pid, 0) == 0) {
        (void)sched_yield();
    }

    open_supervisor();

    ck_assert_int_eq(wait_phase(1, PHASE_FAILED).phase, PHASE_FAILED);
    close_supervisor();
    ck_assert_int_eq(vm_record_read(folder, &record, &err), 0);
    ck_assert(record.disks_used);
    open_supervisor();
}
END_TEST

/* A stop that a removal of its VM has asked for is not asked for twice. */
START_TEST(a_stop_in_its_grace_goes_on_with_the_next_daemon)
{
    in_its_grace();
    pid_t pid = report_of(1).pid;
    close_supervisor();
    ck_assert(is_state(pid, 'T'));

    open_supervisor();

    ck_assert_int_eq(report_of(1).phase, PHASE_STOPPING);
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    (void)wait_phase(1, PHASE_STOPPED);
    ck_assert(!something_is_left());
}
END_TEST

/* What a daemon lets through the gate while it ends is nothing lost, and runs no guest.
 */
START_TEST(a_start_that_a_closing_daemon_meets_goes_on_with_the_next_one)
{
    at_the_gate();
    pid_t pid = report_of(1).pid;
    close_supervisor();

    open_supervisor();

    ck_assert_int_eq(wait_held(1).pid, pid);
    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, 1, 1, NULL), 0);
    ck_assert_int_eq(wait_phase(1, PHASE_READY).pid, pid);
}
END_TEST

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    Suite *suite = suite_create("vms_end");
    TCase *tests = tcase_create("vms_end");
    tcase_add_checked_fixture(tests, begin, finish);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, programs_are_asked_to_end_and_do);
    tcase_add_test(tests, what_is_deleted_is_killed);
    tcase_add_test(tests, a_deaf_one_is_killed_when_its_time_is_over);
    tcase_add_test(tests, one_that_obeys_a_lease_has_the_time_of_that);
    tcase_add_test(tests, one_whose_lease_is_over_is_killed_and_says_why);
    tcase_add_loop_test(tests, a_lease_leaves_the_time_until_the_fence_freezes, 0,
                        (int)ARRAY_COUNT(times_rows));
    tcase_add_test(tests, one_that_is_frozen_is_not_waited_for);
    tcase_add_test(tests, one_that_is_stopping_has_stopped);
    tcase_add_loop_test(tests, nothing_is_left_of_a_vm_whatever_its_daemon_was_at, 0,
                        (int)ARRAY_COUNT(before));
    tcase_add_test(tests, one_whose_record_is_damaged_has_ended);
    tcase_add_test(tests, one_that_runs_behind_its_record_is_asked);
    tcase_add_test(tests,
                   the_disks_of_one_that_ended_behind_its_record_are_not_made_anew);
    tcase_add_test(tests, a_stop_in_its_grace_goes_on_with_the_next_daemon);
    tcase_add_test(tests, a_start_that_a_closing_daemon_meets_goes_on_with_the_next_one);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
