/* Goal: one epoch one run, whatever is asked and whoever dies; what is reported is what
 * is. Method: real processes of the fake engine, under a supervisor in this loop; for
 * adoption the first supervisor lives in another process that is killed. */
#include "agent/engine_fake.h"
#include "agent/vm_record.h"
#include "agent/vm_supervisor.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define UID 7

static const struct engine_ops *const engines[] = {&engine_fake, NULL};

struct bench {
    struct temp_dir dir;
    uv_loop_t loop;
    struct loop_timer *deadline;
    struct loop_timer *tick; /* so that a loop that waits turns now and then */
    struct vm_supervisor *supervisor;
    const struct engine_ops *const *engines;
    const struct clock *clock;
    unsigned changes;
    struct vm_report last; /* of the last change */
    unsigned epochs_max;
};

static struct bench bench;

/* A slow disk: what is synced waits for a byte, and may not be the loop's thread. */
static struct {
    bool closed;
    int pipe[2];
    atomic_uint waiting;
    atomic_uint on_loop;
    atomic_bool unlinks; /* removals wait, not what is synced */
} gate;

static void gate_wait(void)
{
    char byte;
    gate.waiting++;
    (void)!read(gate.pipe[0], &byte, 1);
    gate.waiting--;
}

/* In place of the C library's. */
int fsync(int fd)
{
    if (gate.closed && gettid() == getpid()) {
        gate.on_loop++;
    } else if (gate.closed) {
        gate_wait();
    }
    return (int)syscall(SYS_fsync, fd);
}

/* In place of the C library's. */
int unlink(const char *path)
{
    if (gate.unlinks && gettid() != getpid()) {
        gate_wait();
    }
    return (int)syscall(SYS_unlink, path);
}

static void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long");
}

static void on_tick(void *context)
{
    (void)context;
}

static void on_changed(void *context, const struct vm_report *report)
{
    (void)context;
    bench.changes++;
    bench.last = *report;
}

static void open_supervisor(void)
{
    struct err err = {0};
    const struct vm_supervisor_config config = {
        .host = {.loop = &bench.loop, .clock = bench.clock},
        .folder = bench.dir.path,
        .engines = bench.engines,
        .epochs_max = bench.epochs_max,
        .changed = on_changed,
        .upkeep_ms = 100,
    };
    bench.supervisor = vm_supervisor_open(&config, &err);
    ck_assert_msg(bench.supervisor != NULL, "%s", err.text);
}

static void open_loop(void)
{
    ck_assert_int_eq(uv_loop_init(&bench.loop), 0);
    bench.deadline = loop_timer_new(&bench.loop, 40000, 0, on_deadline, NULL);
    bench.tick = loop_timer_new(&bench.loop, 5, 5, on_tick, NULL);
}

static void setup(void)
{
    memset(&bench, 0, sizeof(bench));
    bench.engines = engines;
    bench.clock = clock_system();
    signal(SIGPIPE, SIG_IGN);
    temp_dir_init_guarded(&bench.dir);
    open_loop();
    open_supervisor();
}

static void kill_one(void *context, const struct vm_report *report)
{
    (void)context;
    if (report->pid > 0) {
        (void)kill(report->pid, SIGKILL);
    }
}

static void close_supervisor(void)
{
    bench.supervisor = vm_supervisor_close(bench.supervisor);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
}

static void teardown(void)
{
    if (bench.supervisor != NULL) {
        vm_supervisor_each(bench.supervisor, kill_one, NULL);
    }
    close_supervisor();
    bench.deadline = loop_timer_close(bench.deadline);
    bench.tick = loop_timer_close(bench.tick);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench.loop), 0);
    temp_dir_fini(&bench.dir);
}

static struct vm_order order_of(uint64_t uid, uint64_t epoch)
{
    struct vm_order order = {
        .vm = {.uid = uid,
               .epoch = epoch,
               .name = "web-1",
               .tenant = "shop",
               .cpu_count = 2,
               .cpu_weight = 100,
               .memory_bytes = 64 * MIB},
        .engine = ENGINE_FAKE,
        .fenced = true,
        .stop_grace_ms = 20000,
        .probe_pass = 1,
        .probe_fail = 1,
    };
    return order;
}

static void start(uint64_t uid, uint64_t epoch, bool hold)
{
    struct vm_order order = order_of(uid, epoch);
    struct err err = {0};
    int r = vm_supervisor_start(bench.supervisor, &order, hold, &err);
    ck_assert_msg(r == 0, "%s", err.text);
}

static int try_start(uint64_t uid, uint64_t epoch)
{
    struct vm_order order = order_of(uid, epoch);
    return vm_supervisor_start(bench.supervisor, &order, false, NULL);
}

static struct vm_report report_of(uint64_t uid)
{
    struct vm_report report;
    ck_assert(vm_supervisor_report(bench.supervisor, uid, &report));
    return report;
}

static struct vm_report wait_phase(uint64_t uid, enum phase phase)
{
    while (report_of(uid).phase != phase) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    return report_of(uid);
}

static struct vm_report wait_held(uint64_t uid)
{
    while (!report_of(uid).held) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    return report_of(uid);
}

/* The disk's thread writes it in its own time. */
static void wait_record(uint64_t uid, enum vm_record_state state)
{
    char name[32];
    struct vm_record record = {.state = VM_RECORD_NOTED};
    (void)snprintf(name, sizeof(name), "vms/%" PRIu64, uid);
    char *folder = temp_dir_path(&bench.dir, name);
    while (vm_record_read(folder, &record, NULL) != 0 || record.state != state) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    free(folder);
}

static void write_control(uint64_t uid, const char *text)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "vms/%" PRIu64 "/control", uid);
    temp_dir_write(&bench.dir, name, text);
}

static bool is_state(pid_t pid, char want)
{
    char path[64];
    char state = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) {
            state = 0;
        }
        (void)fclose(file);
    }
    return state == want;
}

static void forget(uint64_t uid, uint64_t epoch)
{
    struct vm_report report;
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, uid, epoch, NULL), 0);
    while (vm_supervisor_report(bench.supervisor, uid, &report)) {
        ck_assert(report.leaving);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

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

/* ---- epochs ---- */

START_TEST(one_epoch_is_one_run)
{
    start(UID, 5, false);
    ck_assert_int_eq(try_start(UID, 5), 0); /* under way: said twice */
    ck_assert_int_eq(try_start(UID, 4), BERTH_ESTALE);
    ck_assert_int_eq(try_start(UID, 6), BERTH_EPHASE); /* 5 is still there */
    (void)wait_phase(UID, PHASE_READY);

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 4, 0, NULL), BERTH_ESTALE);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 4, "", NULL),
                     BERTH_ESTALE);
    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 4, NULL), BERTH_ESTALE);
    ck_assert_int_eq(report_of(UID).phase, PHASE_READY);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 6, "moved", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);

    ck_assert_int_eq(try_start(UID, 5), BERTH_ESTALE);
    ck_assert_int_eq(try_start(UID, 6), 0);
    struct vm_report again = wait_phase(UID, PHASE_READY);
    ck_assert_uint_eq(again.epoch, 6);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 6, "", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    ck_assert_int_eq(try_start(UID, 6), BERTH_EPHASE); /* has ended here */
}
END_TEST

START_TEST(a_forgotten_vm_leaves_only_its_epoch)
{
    start(UID, 5, false);
    struct vm_report ready = wait_phase(UID, PHASE_READY);
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID, 5, NULL), BERTH_EPHASE);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 5, "", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID, 4, NULL), BERTH_ESTALE);

    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID, 5, NULL), 0);
    ck_assert_int_eq(try_start(UID, 6), BERTH_EINUSE); /* not while it leaves */
    forget(UID, 5);
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID, 5, NULL), 0);

    struct vm_report report;
    ck_assert(!vm_supervisor_report(bench.supervisor, UID, &report));
    ck_assert_ptr_null(vm_supervisor_console(bench.supervisor, UID));
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/engine.log"));
    ck_assert_int_gt(ready.pid, 0);
    ck_assert_int_eq(try_start(UID, 4), BERTH_ESTALE);
    ck_assert_int_eq(try_start(UID, 5), BERTH_EPHASE); /* has ended here */
    close_supervisor();
    open_supervisor();
    ck_assert_int_eq(try_start(UID, 4), BERTH_ESTALE);
    ck_assert_int_eq(try_start(UID, 5), BERTH_EPHASE);
    ck_assert_int_eq(try_start(UID, 6), 0);
    (void)wait_phase(UID, PHASE_READY);
}
END_TEST

/* The main thread waits for others; asked by another one. */
static bool main_waits(void)
{
    char path[64];
    char text[16] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ge(read(fd, text, sizeof(text) - 1), 0);
    (void)close(fd);
    return strtol(text, NULL, 10) == SYS_futex;
}

/* Lets the removal under way go on once the end of the daemon waits for it. */
static void *open_gate_when_main_waits(void *context)
{
    (void)context;
    while (!main_waits()) {
        (void)sched_yield();
    }
    gate.unlinks = false;
    ck_assert_int_eq(write(gate.pipe[1], "1", 1), 1);
    return NULL;
}

/* Removing large disks takes its time: records do not wait for it, and the end of the
 * daemon neither, but for what is under way. */
START_TEST(what_is_left_of_a_removal_is_removed_at_the_next_start)
{
    start(UID, 3, false);
    start(UID + 1, 3, false);
    (void)wait_phase(UID, PHASE_READY);
    (void)wait_phase(UID + 1, PHASE_READY);
    for (uint64_t uid = UID; uid <= UID + 1; uid++) {
        ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, uid, 3, "", NULL), 0);
        (void)wait_phase(uid, PHASE_FAILED);
    }
    ck_assert_int_eq(pipe2(gate.pipe, O_CLOEXEC), 0);
    gate.unlinks = true;
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID, 3, NULL), 0);
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID + 1, 3, NULL), 0);
    wait_record(UID, VM_RECORD_FORGOTTEN);
    wait_record(UID + 1, VM_RECORD_FORGOTTEN);
    while (gate.waiting == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert(report_of(UID).leaving && report_of(UID + 1).leaving);
    ck_assert_int_eq(try_start(UID, 4), BERTH_EINUSE);
    pthread_t opener;
    ck_assert_int_eq(pthread_create(&opener, NULL, open_gate_when_main_waits, NULL), 0);

    close_supervisor();
    ck_assert_int_eq(pthread_join(opener, NULL), 0);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/engine.log"));
    char *left = temp_dir_read(&bench.dir, "vms/8/engine.log");
    ck_assert_ptr_nonnull(left);
    free(left);
    open_supervisor();
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/8/engine.log"));
    ck_assert_int_eq(try_start(UID, 3), BERTH_EPHASE);
    ck_assert_int_eq(try_start(UID + 1, 3), BERTH_EPHASE);
    ck_assert_int_eq(close(gate.pipe[0]), 0);
    ck_assert_int_eq(close(gate.pipe[1]), 0);
}
END_TEST

/* ---- disks from one run to the next ---- */

#define DISK "vms/7/disk-root.qcow2"

static int start_with(uint64_t epoch, uint64_t disk_epoch, const char *image_disk)
{
    struct vm_order order = order_of(UID, epoch);
    order.disk_epoch = disk_epoch;
    (void)snprintf(order.vm.disk_path, sizeof(order.vm.disk_path), "%s", image_disk);
    return vm_supervisor_start(bench.supervisor, &order, false, NULL);
}

static void run_and_stop(uint64_t epoch, uint64_t disk_epoch, const char *image_disk)
{
    ck_assert_int_eq(start_with(epoch, disk_epoch, image_disk), 0);
    wait_phase(UID, PHASE_READY);
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, epoch, UINT64_MAX, NULL),
                     0);
    wait_phase(UID, PHASE_STOPPED);
}

static bool has_disk(void)
{
    char *path = temp_dir_path(&bench.dir, DISK);
    bool has = access(path, F_OK) == 0;
    free(path);
    return has;
}

START_TEST(disks_are_those_of_the_run_that_is_named_or_new)
{
    run_and_stop(1, 0, "");
    temp_dir_write(&bench.dir, DISK, "x");
    close_supervisor();
    open_supervisor();

    run_and_stop(2, 1, "");
    ck_assert(has_disk());

    run_and_stop(3, 1, ""); /* epoch 2 has written them since: they are what is here */
    ck_assert(has_disk());
    run_and_stop(4, 0, "");
    ck_assert(!has_disk());
}
END_TEST

static bool disks_are_there; /* what the engine was told last */

static int
spy_check(const struct engine_host *host, const struct engine_vm *vm, struct err *err)
{
    disks_are_there = vm->disks_are_there;
    return engine_fake.check(host, vm, err);
}

/* Before it runs. */
static void start_in_vain(uint64_t epoch, uint64_t disk_epoch)
{
    struct vm_order order = order_of(UID, epoch);
    order.disk_epoch = disk_epoch;
    ck_assert_int_eq(vm_supervisor_start(bench.supervisor, &order, true, NULL), 0);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, epoch, "", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
}

/* An engine makes what is missing, unless it is told that they have been used: an empty
 * disk in the place of a lost one would be taken for the VM's own. */
START_TEST(disks_that_were_used_once_are_never_made_anew)
{
    struct engine_ops spy = engine_fake;
    const struct engine_ops *const spied[] = {&spy, NULL};
    spy.check = spy_check;
    close_supervisor();
    bench.engines = spied;
    open_supervisor();

    start_in_vain(1, 0);
    start_in_vain(2, 1);
    ck_assert(!disks_are_there); /* nobody has, yet */
    run_and_stop(3, 2, "");
    start_in_vain(4, 3);
    ck_assert(disks_are_there);
    start_in_vain(5, 4); /* one that did not run has not changed that */
    ck_assert(disks_are_there);
    close_supervisor();
    open_supervisor();
    start_in_vain(6, 5);
    ck_assert(disks_are_there);
    close_supervisor();
    temp_dir_write(&bench.dir, "vms/7/" VM_RECORD_FILE, "no record");
    open_supervisor();
    start_in_vain(7, 6); /* for all we know */
    ck_assert(disks_are_there);
    start_in_vain(8, 0);
    start_in_vain(9, 8); /* those are new ones */
    ck_assert(!disks_are_there);
    close_supervisor(); /* the spy goes */
}
END_TEST

START_TEST(disks_that_are_not_here_start_nothing)
{
    ck_assert_int_eq(start_with(2, 1, ""), BERTH_ENOTFOUND);
    run_and_stop(3, 0, "");
    forget(UID, 3);
    ck_assert_int_eq(start_with(4, 3, ""), BERTH_ENOTFOUND);
    ck_assert(!vm_supervisor_report(bench.supervisor, UID, &(struct vm_report){0}));
}
END_TEST

START_TEST(kept_disks_name_the_image_they_were_made_on)
{
    char base[ENGINE_PATH_SIZE] = "";
    ck_assert(!vm_supervisor_base(bench.supervisor, UID, base));
    run_and_stop(1, 0, "/images/one");
    close_supervisor();
    open_supervisor();
    run_and_stop(2, 1, "/images/another");
    ck_assert(vm_supervisor_base(bench.supervisor, UID, base));
    ck_assert_str_eq(base, "/images/one");

    run_and_stop(3, 0, "/images/another");
    ck_assert(vm_supervisor_base(bench.supervisor, UID, base));
    ck_assert_str_eq(base, "/images/another");
    run_and_stop(4, 0, "");
    ck_assert(!vm_supervisor_base(bench.supervisor, UID, base));
}
END_TEST

static uint64_t later_ms; /* added to the wall clock */

static uint64_t later_wall_ms(void *context)
{
    (void)context;
    return clock_wall_ms(clock_system()) + later_ms;
}

static uint64_t system_now_ns(void *context)
{
    (void)context;
    return clock_now_ns(clock_system());
}

static const struct clock later = {.now_ns = system_now_ns, .wall_ms = later_wall_ms};

static unsigned folders_left(void)
{
    unsigned count = 0;
    char *path = temp_dir_path(&bench.dir, "vms");
    DIR *entries = opendir(path);
    ck_assert_ptr_nonnull(entries);
    for (const struct dirent *entry = readdir(entries); entry != NULL;
         entry = readdir(entries)) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(entries);
    free(path);
    return count;
}

/* As an earlier daemon forgot them, VM 100 first and each later than the one before. */
static void plant_forgotten(unsigned count)
{
    char *folder = temp_dir_path(&bench.dir, "vms");
    for (uint64_t uid = 100; uid < 100 + count; uid++) {
        char path[ENGINE_PATH_SIZE];
        const struct vm_record record = {.state = VM_RECORD_FORGOTTEN,
                                         .epoch_seen = 3,
                                         .order = {.vm = {.uid = uid, .epoch = 3}},
                                         .since_wall_ms = clock_wall_ms(clock_system()) -
                                                          60000 + uid * 100};
        (void)snprintf(path, sizeof(path), "%.400s/%" PRIu64, folder, uid);
        ck_assert_int_eq(mkdir(path, 0700), 0);
        ck_assert_int_eq(vm_record_write(path, &record, NULL), 0);
    }
    free(folder);
}

/* However many VMs a host ends: it starts, and it can forget one more. */
START_TEST(of_too_many_epochs_the_oldest_go)
{
    enum { MAX = 10, OLD = 30 };
    close_supervisor();
    plant_forgotten(OLD);
    bench.epochs_max = MAX;
    open_supervisor();
    ck_assert_uint_le(folders_left(), MAX);
    ck_assert_uint_gt(folders_left(), MAX / 2);
    ck_assert_int_eq(try_start(100 + OLD - 1, 3), BERTH_EPHASE);

    for (uint64_t uid = 1; uid <= MAX; uid++) {
        start(uid, 5, false);
        ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, uid, 5, "", NULL), 0);
        (void)wait_phase(uid, PHASE_FAILED);
        forget(uid, 5);
        ck_assert_uint_le(folders_left(), MAX);
    }

    ck_assert_int_eq(try_start(MAX, 5), BERTH_EPHASE);
    close_supervisor();
    open_supervisor();
    ck_assert_int_eq(try_start(MAX, 5), BERTH_EPHASE);
}
END_TEST

START_TEST(many_old_epochs_go_in_one_turn)
{
    enum { OLD = 200 };
    close_supervisor();
    plant_forgotten(OLD);
    bench.clock = &later;
    later_ms = 0;
    open_supervisor();
    ck_assert_uint_eq(folders_left(), OLD);
    ck_assert_int_eq(try_start(100, 3), BERTH_EPHASE);

    later_ms = VM_SUPERVISOR_EPOCHS_MS + 1000;
    while (folders_left() == OLD) {
        uv_run(&bench.loop, UV_RUN_ONCE); /* upkeep comes by itself */
    }

    ck_assert_uint_eq(folders_left(), 0);
}
END_TEST

START_TEST(an_epoch_forgotten_in_the_future_goes_in_its_time)
{
    enum { OLD = 5 };
    close_supervisor();
    bench.clock = &later; /* it is set back after these were forgotten */
    plant_forgotten(OLD);
    later_ms = 0 - UINT64_C(2) * VM_SUPERVISOR_EPOCHS_MS;
    open_supervisor();
    ck_assert_uint_eq(folders_left(), OLD);
    ck_assert_int_eq(try_start(100, 3), BERTH_EPHASE);

    later_ms += VM_SUPERVISOR_EPOCHS_MS + 1000;
    while (folders_left() > 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}
END_TEST

START_TEST(a_vm_is_forgotten_even_when_its_disks_have_filled_the_host)
{
    char block[4096];
    memset(block, 'x', sizeof(block));
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0) {
        return; /* a small disk of its own needs root */
    }
    close_supervisor();
    ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    ck_assert_int_eq(mount("none", bench.dir.path, "tmpfs", 0, "size=512k"), 0);
    open_supervisor();
    start(UID, 5, false);
    (void)wait_phase(UID, PHASE_READY);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 5, "", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    char *path = temp_dir_path(&bench.dir, "vms/7/disk-root");
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, block, sizeof(block)) > 0) {
    }
    ck_assert_int_eq(errno, ENOSPC);
    ck_assert_int_eq(close(fd), 0);

    forget(UID, 5);

    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(try_start(UID, 5), BERTH_EPHASE);
    free(path);
    close_supervisor();
    ck_assert_int_eq(umount2(bench.dir.path, MNT_DETACH), 0);
}
END_TEST

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

START_TEST(a_vm_that_died_with_its_daemon_is_reported_gone_and_not_run_again)
{
    struct vm_record record;
    close_supervisor();
    daemon_dies(1, false);
    read_record(1, &record);
    ck_assert_int_eq(record.state, VM_RECORD_RUNNING);
    ck_assert_int_eq(kill(record.identity.pid, SIGKILL), 0);
    while (vm_process_verify(&record.identity) == 0) {
        sched_yield();
    }

    open_supervisor();

    struct vm_report report = report_of(1);
    ck_assert_int_eq(report.phase, PHASE_FAILED);
    ck_assert_ptr_nonnull(strstr(report.reason, "while the agent was away"));
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

static void end_process(const struct vm_process_identity *identity)
{
    ck_assert_int_eq(kill(identity->pid, SIGKILL), 0);
    while (vm_process_verify(identity) == 0) {
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

    ck_assert(!lives(record.identity.pid));
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

    ck_assert(!lives(record.identity.pid));
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

    ck_assert(!lives(record.identity.pid));
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

    ck_assert(!lives(helper));
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

    ck_assert(!lives(record.identity.pid));
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

START_TEST(the_cpu_use_of_a_fake_vm_is_what_the_control_file_says)
{
    uint32_t permille = 0;
    uint64_t memory = 0;
    start(UID, 1, false);
    (void)wait_phase(UID, PHASE_READY);
    write_control(UID, "cpu=730 memory=1000000\n");
    ck_assert_int_eq(vm_supervisor_sample(bench.supervisor, UID, &permille, &memory),
                     BERTH_EBUSY);

    for (unsigned i = 0; i < 20; i++) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(vm_supervisor_sample(bench.supervisor, UID, &permille, &memory), 0);

    ck_assert_uint_ge(permille, 700);
    ck_assert_uint_le(permille, 760);
    ck_assert_uint_eq(memory, 1000000);
    ck_assert_int_eq(vm_supervisor_sample(bench.supervisor, 99, &permille, &memory),
                     BERTH_ENOTFOUND);
}
END_TEST

START_TEST(the_console_holds_what_the_vm_says_and_takes_input)
{
    char text[256];
    start(UID, 1, false);
    (void)wait_phase(UID, PHASE_READY);
    struct console_ring *ring = vm_supervisor_console(bench.supervisor, UID);
    while (console_ring_end(ring) == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    ck_assert_int_eq(vm_supervisor_console_write(bench.supervisor, UID, "ls\n", 3, NULL),
                     0);

    uint64_t offset = 0;
    text[console_ring_read(ring, &offset, text, sizeof(text) - 1)] = '\0';
    ck_assert_str_eq(text, "fake VM is running\nls\n");
    ck_assert_int_eq(vm_supervisor_console_write(bench.supervisor, 99, "x", 1, NULL),
                     BERTH_ENOTFOUND);
}
END_TEST

START_TEST(the_interval_file_tells_who_ran_when)
{
    char *path = temp_dir_path(&bench.dir, "intervals");
    ck_assert_int_eq(setenv(ENGINE_FAKE_INTERVALS, path, 1), 0);
    start(UID, 4, false);
    pid_t pid = wait_phase(UID, PHASE_READY).pid;
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 4, 20000, NULL), 0);
    (void)wait_phase(UID, PHASE_STOPPED);

    char *text = temp_dir_read(&bench.dir, "intervals");
    uint64_t begin = 0;
    uint64_t end = 0;
    int first = 0;
    int second = 0;
    ck_assert_int_eq(sscanf(text, "start 7 4 %d %" SCNu64 "\nstop 7 4 %d %" SCNu64 "\n",
                            &first, &begin, &second, &end),
                     4);
    ck_assert_int_eq(first, pid);
    ck_assert_int_eq(second, pid);
    ck_assert_uint_ge(end, begin);
    free(text);
    free(path);
}
END_TEST

START_TEST(a_running_vm_says_so_again_and_again_when_it_is_asked_to)
{
    char *path = temp_dir_path(&bench.dir, "intervals");
    ck_assert_int_eq(setenv(ENGINE_FAKE_INTERVALS, path, 1), 0);
    ck_assert_int_eq(setenv(ENGINE_FAKE_BEAT, "5", 1), 0);
    start(UID, 4, false);
    pid_t pid = wait_phase(UID, PHASE_READY).pid;
    char want[64];
    (void)snprintf(want, sizeof(want), "beat 7 4 %d ", (int)pid);
    char *text = NULL;
    do { /* until the second beat; the test's time-out is the bound */
        free(text);
        uv_run(&bench.loop, UV_RUN_NOWAIT);
        text = temp_dir_read(&bench.dir, "intervals");
        const char *first = strstr(text, want);
        if (first != NULL && strstr(first + 1, want) != NULL) {
            break;
        }
    } while (true);

    ck_assert_int_eq(strncmp(text, "start 7 4 ", 10), 0);
    free(text);
    free(path);
}
END_TEST

START_TEST(an_engine_that_is_not_here_is_refused_by_name)
{
    struct vm_order order = order_of(UID, 1);
    struct err err = {0};
    order.engine = ENGINE_KVM;

    ck_assert_int_eq(vm_supervisor_start(bench.supervisor, &order, false, &err),
                     BERTH_EUNSUPPORTED);
    ck_assert_str_eq(err.text, "start VM web-1: engine kvm is not on this host");
    struct vm_report report;
    ck_assert(!vm_supervisor_report(bench.supervisor, UID, &report));
}
END_TEST

START_TEST(a_state_folder_that_is_too_deep_is_refused)
{
    close_supervisor();
    char deep[TEMP_DIR_PATH_SIZE + 200];
    struct temp_dir before = bench.dir;
    memset(deep, 'd', sizeof(deep));
    int length = snprintf(deep, sizeof(deep), "%s/", bench.dir.path);
    memset(deep + length, 'd', 80);
    deep[length + 80] = '\0';
    ck_assert_int_eq(mkdir(deep, 0700), 0);
    (void)snprintf(bench.dir.path, sizeof(bench.dir.path), "%.255s", deep);
    open_supervisor();

    ck_assert_int_eq(try_start(UID, 1), -ENAMETOOLONG);

    bench.dir = before;
}
END_TEST

/* A probe that cannot pass keeps it at running. */
START_TEST(a_vm_whose_probe_fails_runs_but_is_not_ready)
{
    struct vm_order order = order_of(UID, 1);
    order.probe_address = 0x7f000001;
    order.probe_port = 1; /* nobody listens there */
    order.probe_every_ms = 100;
    order.probe_timeout_ms = 1000;
    ck_assert_int_eq(vm_supervisor_start(bench.supervisor, &order, false, NULL), 0);
    (void)wait_phase(UID, PHASE_RUNNING);

    while (report_of(UID).reason[0] == '\0') {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    ck_assert_int_eq(report_of(UID).phase, PHASE_RUNNING);
    ck_assert_str_eq(report_of(UID).reason,
                     "not ready: probe tcp/1: connect: connection refused");
}
END_TEST

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
    tcase_add_test(tests, a_stop_that_is_not_heard_ends_at_its_deadline);
    tcase_add_loop_test(tests, a_kill_ends_it_for_the_reason_given, 0, 2);
    tcase_add_test(tests, one_epoch_is_one_run);
    tcase_add_test(tests, a_forgotten_vm_leaves_only_its_epoch);
    tcase_add_test(tests, what_is_left_of_a_removal_is_removed_at_the_next_start);
    tcase_add_test(tests, many_old_epochs_go_in_one_turn);
    tcase_add_test(tests, of_too_many_epochs_the_oldest_go);
    tcase_add_test(tests, an_epoch_forgotten_in_the_future_goes_in_its_time);
    tcase_add_test(tests, a_vm_is_forgotten_even_when_its_disks_have_filled_the_host);
    tcase_add_test(tests, disks_are_those_of_the_run_that_is_named_or_new);
    tcase_add_test(tests, disks_that_were_used_once_are_never_made_anew);
    tcase_add_test(tests, disks_that_are_not_here_start_nothing);
    tcase_add_test(tests, kept_disks_name_the_image_they_were_made_on);
    suite_add_tcase(suite, tests);
}

static void add_restart(Suite *suite)
{
    TCase *tests = tcase_create("restart");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, vms_outlive_a_killed_daemon_and_are_taken_over);
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
    tcase_add_test(tests, fenced_vms_freeze_thaw_and_die_together_and_others_do_not);
    tcase_add_test(tests,
                   a_vm_that_is_frozen_while_it_starts_does_not_run_until_it_thaws);
    tcase_add_test(tests, a_frozen_vm_is_known_as_frozen_after_a_restart);
    suite_add_tcase(suite, tests);
}

static void add_rest(Suite *suite)
{
    TCase *tests = tcase_create("rest");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_cpu_use_of_a_fake_vm_is_what_the_control_file_says);
    tcase_add_test(tests, the_console_holds_what_the_vm_says_and_takes_input);
    tcase_add_test(tests, the_interval_file_tells_who_ran_when);
    tcase_add_test(tests, a_running_vm_says_so_again_and_again_when_it_is_asked_to);
    tcase_add_test(tests, an_engine_that_is_not_here_is_refused_by_name);
    tcase_add_test(tests, a_state_folder_that_is_too_deep_is_refused);
    tcase_add_test(tests, a_vm_whose_probe_fails_runs_but_is_not_ready);
    suite_add_tcase(suite, tests);
}

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    Suite *suite = suite_create("vm_supervisor");
    add_life(suite);
    add_restart(suite);
    add_doubt(suite);
    add_fencing(suite);
    add_rest(suite);
    return test_main_run(suite);
}
