/* Goal: VMs outlive their daemon and are taken over as they are; in doubt they are ended
 * before anything is said of them. Method: real processes of the fake engine, whose
 * supervisor is killed (supervisor_fixture.h). */
#include "agent/vm_lock.h"
#include "supervisor_fixture.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- restarts of the daemon ---- */

/* A daemon in a process of its own, which starts VMs 1..count and is killed when all are
 * in the wanted phase and recorded so. */
static void daemon_dies(unsigned count, bool hold)
{
    int ready[2];
    ck_assert_int_eq(pipe(ready), 0);
    pid_t daemon = fork();
    if (daemon == 0) {
        open_loop();
        open_supervisor();
        for (uint64_t uid = 1; uid <= count; uid++) {
            start(uid, 1, hold);
        }
        for (uint64_t uid = 1; uid <= count; uid++) {
            (void)(hold ? wait_held(uid) : wait_phase(uid, PHASE_READY));
            wait_record(uid, hold ? VM_RECORD_STARTING : VM_RECORD_RUNNING);
        }
        (void)!write(ready[1], "x", 1);
        for (;;) {
            uv_run(&bench.loop, UV_RUN_ONCE);
        }
    }
    char byte;
    close(ready[1]);
    ck_assert_int_eq((int)read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(kill(daemon, SIGKILL), 0);
    ck_assert_int_eq(waitpid(daemon, NULL, 0), daemon);
    close(ready[0]);
}

START_TEST(vms_outlive_a_killed_daemon_and_are_taken_over)
{
    enum { VMS = 5 };
    close_supervisor();
    daemon_dies(VMS, false);

    open_supervisor();

    for (uint64_t uid = 1; uid <= VMS; uid++) {
        ck_assert(report_of(uid).adopted);
        ck_assert_int_eq(report_of(uid).phase, PHASE_RUNNING); /* from the record */
    }
    for (uint64_t uid = 1; uid <= VMS; uid++) {
        struct vm_report report = report_of(uid);
        ck_assert_int_eq(kill(report.pid, 0), 0);
        struct vm_report ready = wait_phase(uid, PHASE_READY);
        ck_assert_int_eq(ready.pid, report.pid);
        ck_assert_int_eq(try_start(uid, 1), 0); /* it runs: nothing happens */
        ck_assert_int_eq(report_of(uid).pid, report.pid);
        ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, uid, 1, 20000, NULL), 0);
    }
    for (uint64_t uid = 1; uid <= VMS; uid++) {
        (void)wait_phase(uid, PHASE_STOPPED);
    }
}
END_TEST

START_TEST(what_one_has_that_was_taken_over_is_said_to_its_engine_once)
{
    const struct engine_vm devices = {.disks = {{.name = "root"}},
                                      .disk_count = 1,
                                      .nics = {{.tap = "t1"}},
                                      .nic_count = 1};
    close_supervisor();
    daemon_dies(1, false);

    open_supervisor();
    ck_assert(report_of(1).devices_due);
    ck_assert_int_eq(vm_supervisor_devices(bench.supervisor, 1, 2, &devices, NULL), 0);
    ck_assert(report_of(1).devices_due); /* those of another run */
    ck_assert_int_eq(vm_supervisor_devices(bench.supervisor, 1, 1, &devices, NULL), 0);
    ck_assert_int_eq(vm_supervisor_devices(bench.supervisor, 1, 1, &devices, NULL), 0);

    ck_assert(!report_of(1).devices_due);
    char *text = temp_dir_read(&bench.dir, "vms/1/devices");
    ck_assert_str_eq(text, "disk root\nnic t1\n");
    free(text);
}
END_TEST

START_TEST(one_that_was_started_is_known_whole)
{
    start(1, 1, false);
    (void)wait_phase(1, PHASE_READY);
    ck_assert(!report_of(1).devices_due);
}
END_TEST

START_TEST(a_held_vm_taken_over_still_waits)
{
    close_supervisor();
    daemon_dies(1, true);

    open_supervisor();
    struct vm_report held = wait_held(1);
    ck_assert(held.adopted);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/1/running"));

    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, 1, 1, NULL), 0);
    (void)wait_phase(1, PHASE_READY);
}
END_TEST

static void read_record(uint64_t uid, struct vm_record *record)
{
    char folder[ENGINE_PATH_SIZE];
    struct err err = {0};
    (void)snprintf(folder, sizeof(folder), "%s/vms/%" PRIu64, bench.dir.path, uid);
    ck_assert_msg(vm_record_read(folder, record, &err) == 0, "%s", err.text);
}

/* The process of VM 1. Its first thread may be gone while another one, as a sanitizer's,
 * still holds the folder. */
static void end_process(const struct vm_process_identity *identity)
{
    char *folder = temp_dir_path(&bench.dir, "vms/1");
    ck_assert_int_eq(kill(identity->pid, SIGKILL), 0);
    while (vm_process_verify(identity) == 0 || vm_lock_is_held(folder)) {
        sched_yield();
    }
    free(folder);
}

START_TEST(a_vm_that_died_with_its_daemon_is_reported_gone_and_not_run_again)
{
    struct vm_record record;
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    ck_assert_int_eq(record.state, VM_RECORD_RUNNING);
    end_process(&record.identity);

    open_supervisor();

    struct vm_report report = report_of(1);
    ck_assert_int_eq(report.phase, PHASE_FAILED);
    ck_assert_ptr_nonnull(strstr(report.reason, "while the agent was away"));
    ck_assert_ptr_nonnull(strstr(report.reason, "as the fence ends all"));
    uv_run(&bench.loop, UV_RUN_ONCE);
    ck_assert_uint_eq(bench.changes, 1); /* and told */
    ck_assert_int_eq(try_start(1, 1), BERTH_EPHASE);
    ck_assert_int_eq(try_start(1, 2), 0);
}
END_TEST

static void write_record(uint64_t uid, const struct vm_record *record)
{
    char folder[ENGINE_PATH_SIZE];
    struct err err = {0};
    (void)snprintf(folder, sizeof(folder), "%s/vms/%" PRIu64, bench.dir.path, uid);
    ck_assert_msg(vm_record_write(folder, record, &err) == 0, "%s", err.text);
}

static bool lives(pid_t pid)
{
    return !is_state(pid, 'Z') && !is_state(pid, 0);
}

/* What nothing is left of that could do anything may still be on its way out. */
static void wait_gone(pid_t pid)
{
    while (lives(pid)) {
        sched_yield();
    }
}

START_TEST(a_recycled_pid_is_not_taken_over)
{
    struct vm_record record;
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    end_process(&record.identity);
    pid_t stranger = fork();
    if (stranger == 0) {
        for (;;) {
            pause();
        }
    }
    record.identity.pid = stranger; /* and the start time is the VM's */
    write_record(1, &record);

    open_supervisor();

    ck_assert_int_eq(report_of(1).phase, PHASE_FAILED);
    ck_assert(lives(stranger));
    ck_assert_int_eq(kill(stranger, SIGKILL), 0);
    ck_assert_int_eq(waitpid(stranger, NULL, 0), stranger);
}
END_TEST

/* ---- in doubt ---- */

static void replace_in_record(uint64_t uid, const char *from, const char *to)
{
    char name[64];
    char text[VM_RECORD_SIZE_MAX];
    (void)snprintf(name, sizeof(name), "vms/%" PRIu64 "/" VM_RECORD_FILE, uid);
    char *before = temp_dir_read(&bench.dir, name);
    const char *at = strstr(before, from);
    ck_assert_ptr_nonnull(at);
    (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - before), before, to,
                   at + strlen(from));
    temp_dir_write(&bench.dir, name, text);
    free(before);
}

/* What a reader may not believe while its process lives. */
struct doubt {
    const char *from;
    const char *to;
};

static const struct doubt doubts[] = {
    {"{", "["},                                /* unreadable */
    {"\"startTicks\": ", "\"startTicks\": 1"}, /* one digit: another process' start */
    {"\"pid\": ", "\"pid\": 1"},               /* or another process */
    {"\"running\"", "\"stopped\""},
    {"\"uid\": 1", "\"uid\": 2"},
};

START_TEST(a_damaged_record_ends_the_vm_before_it_is_said_to_have_failed)
{
    struct vm_record record;
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    replace_in_record(1, doubts[_i].from, doubts[_i].to);

    open_supervisor();
    ck_assert(report_of(1).alive);
    ck_assert_int_ne(report_of(1).phase, PHASE_FAILED);
    ck_assert_uint_eq(report_of(1).epoch, 0); /* not known yet */
    ck_assert_int_eq(try_start(1, 1), BERTH_EINUSE);
    while (report_of(1).phase != PHASE_FAILED) {
        ck_assert(report_of(1).alive);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    wait_gone(record.identity.pid);
    ck_assert(!report_of(1).alive);
    ck_assert_uint_eq(report_of(1).epoch, 1); /* by its lock */
    ck_assert_ptr_nonnull(strstr(report_of(1).reason, "record is damaged"));
    ck_assert_int_eq(try_start(1, 1), BERTH_EPHASE);
    ck_assert_int_eq(try_start(1, 2), 0);
    (void)wait_phase(1, PHASE_READY);
}
END_TEST

START_TEST(a_damaged_record_of_a_frozen_vm_ends_it_too)
{
    struct vm_record record;
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    ck_assert_int_eq(kill(record.identity.pid, SIGSTOP), 0);
    replace_in_record(1, "{", "[");

    open_supervisor();
    (void)wait_phase(1, PHASE_FAILED);

    wait_gone(record.identity.pid);
}
END_TEST

START_TEST(a_vm_whose_record_is_lost_is_ended_before_it_may_start)
{
    struct vm_record record;
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    char *path = temp_dir_path(&bench.dir, "vms/1/" VM_RECORD_FILE);
    ck_assert_int_eq(unlink(path), 0);
    free(path);

    open_supervisor();
    ck_assert(report_of(1).alive);
    ck_assert_int_eq(try_start(1, 2), BERTH_EINUSE);
    (void)wait_phase(1, PHASE_FAILED);

    wait_gone(record.identity.pid);
    ck_assert_int_eq(try_start(1, 2), 0);
}
END_TEST

/* The named process has gone, its helper has not. */
START_TEST(what_a_dead_vm_process_left_running_is_ended_first)
{
    struct vm_record record;
    char folder[ENGINE_PATH_SIZE];
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    (void)snprintf(folder, sizeof(folder), "%s/vms/1", bench.dir.path);
    int ready[2];
    ck_assert_int_eq(pipe(ready), 0);
    pid_t helper = fork();
    if (helper == 0) {
        if (chdir(folder) == 0) {
            (void)!write(ready[1], "x", 1);
        }
        for (;;) {
            pause();
        }
    }
    char byte;
    ck_assert_int_eq((int)read(ready[0], &byte, 1), 1);
    end_process(&record.identity);

    open_supervisor();
    ck_assert(report_of(1).alive);
    (void)wait_phase(1, PHASE_FAILED);

    wait_gone(helper);
    ck_assert_ptr_nonnull(strstr(report_of(1).reason, "while the agent was away"));
    ck_assert_int_eq(waitpid(helper, NULL, 0), helper);
}
END_TEST

/* From now on no more than `left` descriptors can be opened. */
static void spend_descriptors(unsigned left, struct rlimit *ret_before)
{
    enum { TOP = 64 };
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, ret_before), 0);
    for (int fd = 3; fd < TOP; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            ck_assert_int_eq(dup2(STDIN_FILENO, fd), fd);
        }
    }
    const struct rlimit few = {.rlim_cur = TOP + left, .rlim_max = ret_before->rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
}

START_TEST(a_vm_that_cannot_be_taken_over_yet_is_taken_over_later)
{
    struct vm_record record;
    struct rlimit before;
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    spend_descriptors(2, &before); /* its pidfd can be opened, its /proc cannot be read */

    open_supervisor();
    ck_assert(report_of(1).alive);
    ck_assert_int_eq(report_of(1).phase, PHASE_RUNNING);
    ck_assert_ptr_nonnull(vm_supervisor_console(bench.supervisor, 1));
    ck_assert_int_eq(vm_supervisor_console_write(bench.supervisor, 1, "x", 1, NULL),
                     BERTH_EUNSUPPORTED); /* not taken over */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    while (vm_supervisor_console_write(bench.supervisor, 1, "x", 1, NULL) != 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    (void)wait_phase(1, PHASE_READY);
    ck_assert_int_eq(report_of(1).pid, record.identity.pid);
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, 1, 1, 20000, NULL), 0);
    (void)wait_phase(1, PHASE_STOPPED);
}
END_TEST

static const struct engine_ops *const no_engines[] = {NULL};

START_TEST(a_vm_whose_engine_is_gone_still_obeys_the_lease_and_orders)
{
    struct vm_record record;
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    bench.engines = no_engines;

    open_supervisor();
    ck_assert(report_of(1).alive);
    ck_assert_int_eq(report_of(1).pid, record.identity.pid);
    ck_assert_int_eq(try_start(1, 1), 0); /* it runs */
    ck_assert_uint_eq(vm_supervisor_freeze_all(bench.supervisor), 1);
    while (!is_state(record.identity.pid, 'T')) {
        sched_yield();
    }
    ck_assert_uint_eq(vm_supervisor_resume_all(bench.supervisor), 1);
    while (is_state(record.identity.pid, 'T')) {
        sched_yield();
    }
    ck_assert(lives(record.identity.pid));
    if (_i == 0) {
        ck_assert_uint_eq(vm_supervisor_kill_all(bench.supervisor, "lease over"), 1);
        ck_assert_str_eq(wait_phase(1, PHASE_FAILED).reason, "lease over");
    } else if (_i == 1) {
        ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, 1, 1, 20000, NULL), 0);
        (void)wait_phase(1, PHASE_STOPPED);
    } else {
        ck_assert_int_eq(kill(record.identity.pid, SIGKILL), 0);
        (void)wait_phase(1, PHASE_FAILED);
    }

    wait_gone(record.identity.pid);
}
END_TEST

START_TEST(a_stop_goes_on_after_a_restart)
{
    struct vm_record record;
    char folder[ENGINE_PATH_SIZE];
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    record.state = VM_RECORD_STOPPING;
    (void)snprintf(folder, sizeof(folder), "%s/vms/1", bench.dir.path);
    ck_assert_int_eq(vm_record_write(folder, &record, NULL), 0);

    open_supervisor();

    ck_assert_int_eq(report_of(1).phase, PHASE_STOPPING);
    (void)wait_phase(1, PHASE_STOPPED);
}
END_TEST

START_TEST(a_record_that_cannot_be_read_blocks_its_vm_and_no_other)
{
    close_supervisor();
    char *folder = temp_dir_path(&bench.dir, "vms/1");
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    free(folder);
    temp_dir_write(&bench.dir, "vms/1/record.json", "{\"version\": 1");

    open_supervisor();

    ck_assert_int_eq(try_start(1, 100), BERTH_ECORRUPT);
    ck_assert_int_eq(try_start(2, 1), 0);
    char *text = temp_dir_read(&bench.dir, "vms/1/record.json");
    ck_assert_str_eq(text, "{\"version\": 1"); /* left for people to look at */
    free(text);
}
END_TEST

START_TEST(what_a_failed_start_left_behind_is_removed)
{
    close_supervisor();
    char *folder = temp_dir_path(&bench.dir, "vms/33");
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    temp_dir_write(&bench.dir, "vms/33/disk-root.qcow2", "x");

    open_supervisor();

    ck_assert_int_eq(access(folder, F_OK), -1);
    free(folder);
}
END_TEST

/* ---- fencing ---- */

START_TEST(a_frozen_vm_is_known_as_frozen_after_a_restart)
{
    struct vm_record record;
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    ck_assert_int_eq(kill(record.identity.pid, SIGSTOP), 0);
    while (!is_state(record.identity.pid, 'T')) {
        sched_yield();
    }

    open_supervisor();

    ck_assert(report_of(1).frozen);
    ck_assert_uint_eq(vm_supervisor_resume_all(bench.supervisor), 1);
    (void)wait_phase(1, PHASE_READY);
}
END_TEST

/* ---- the rest ---- */

static void add_restart(Suite *suite)
{
    TCase *tests = tcase_create("restart");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, vms_outlive_a_killed_daemon_and_are_taken_over);
    tcase_add_test(tests, what_one_has_that_was_taken_over_is_said_to_its_engine_once);
    tcase_add_test(tests, one_that_was_started_is_known_whole);
    tcase_add_test(tests, a_held_vm_taken_over_still_waits);
    tcase_add_test(tests,
                   a_vm_that_died_with_its_daemon_is_reported_gone_and_not_run_again);
    tcase_add_test(tests, a_recycled_pid_is_not_taken_over);
    tcase_add_test(tests, a_stop_goes_on_after_a_restart);
    tcase_add_test(tests, a_record_that_cannot_be_read_blocks_its_vm_and_no_other);
    tcase_add_test(tests, what_a_failed_start_left_behind_is_removed);
    suite_add_tcase(suite, tests);
}

static void add_doubt(Suite *suite)
{
    TCase *tests = tcase_create("doubt");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests,
                        a_damaged_record_ends_the_vm_before_it_is_said_to_have_failed, 0,
                        sizeof(doubts) / sizeof(doubts[0]));
    tcase_add_test(tests, a_damaged_record_of_a_frozen_vm_ends_it_too);
    tcase_add_test(tests, a_vm_whose_record_is_lost_is_ended_before_it_may_start);
    tcase_add_test(tests, what_a_dead_vm_process_left_running_is_ended_first);
    tcase_add_test(tests, a_vm_that_cannot_be_taken_over_yet_is_taken_over_later);
    tcase_add_loop_test(tests, a_vm_whose_engine_is_gone_still_obeys_the_lease_and_orders,
                        0, 3);
    suite_add_tcase(suite, tests);
}

static void add_fencing(Suite *suite)
{
    TCase *tests = tcase_create("fencing");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_frozen_vm_is_known_as_frozen_after_a_restart);
    suite_add_tcase(suite, tests);
}

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    Suite *suite = suite_create("vm_adopt");
    add_restart(suite);
    add_doubt(suite);
    add_fencing(suite);
    return test_main_run(suite);
}
