/* Goal: whatever fails or dies while a snapshot is made, the VM goes on and the snapshot
 * is whole or not there; a restore begins a run with memory and disks of one instant.
 * Method: real processes of the fake engine (supervisor_fixture.h), told that they have
 * disks; faults and the deaths of a daemon by functions in place of the C library's,
 * which count what is made durable, named or handed over. */
#include "supervisor_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define SNAPSHOT 40
#define SAVED    "at the instant"
#define LATER    "written since"
#define TAIL     ".fake"
#define DIED     42

/* ---- calls of the disk, counted ---- */

static struct {
    atomic_int left;      /* then the process ends; below 0: never */
    atomic_bool counting; /* only calls of the snapshot's */
    atomic_int fail;      /* an error for what is synced; 0: none */
    atomic_bool gated;    /* what is copied waits */
    atomic_bool restored; /* the last step before a VM's disks are replaced waits */
    atomic_bool finished; /* the last step before it has its name waits */
    atomic_int waits;
    atomic_int manifest; /* an error for one that is opened; 0: none */
    atomic_bool keeps;   /* a snapshot's name cannot be changed */
} disk;

static bool is_of(int fd, const char *part)
{
    char link[64];
    char path[4096] = "";
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof(path) - 1) > 0 && strstr(path, part) != NULL;
}

static bool is_of_snapshot(int fd)
{
    return is_of(fd, "/snapshots");
}

/* The folder itself: all in it is copied by then. */
static bool is_restored(int fd)
{
    return is_of(fd, "/restored.new") && !is_of(fd, "/restored.new/");
}

static void count_call(bool of_snapshot)
{
    if (disk.counting && of_snapshot && disk.left-- == 0) {
        _exit(DIED);
    }
}

/* In place of the C library's, as the next ones. */
int fsync(int fd)
{
    const bool ours = is_of_snapshot(fd);
    count_call(ours);
    while ((ours && disk.gated) || (disk.restored && is_restored(fd)) ||
           (disk.finished && is_of(fd, "manifest"))) {
        disk.waits = 1;
        sched_yield();
    }
    if (ours && disk.fail != 0) {
        errno = disk.fail;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    const bool ours = strstr(from, "/snapshots") != NULL;
    count_call(ours);
    if (ours && disk.keeps) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_rename, from, to);
}

int openat(int folder, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (disk.manifest != 0 && strstr(path, "manifest.json") != NULL) {
        errno = disk.manifest;
        return -1;
    }
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    count_call(strstr(to, "manifest") != NULL);
    return (int)syscall(SYS_renameat, from_folder, from, to_folder, to);
}

int symlink(const char *to, const char *path)
{
    count_call(strstr(path, "/snapshots") != NULL);
    return (int)syscall(SYS_symlink, to, path);
}

int mkdir(const char *path, mode_t mode)
{
    count_call(strstr(path, "/snapshots") != NULL);
    return (int)syscall(SYS_mkdir, path, mode);
}

/* ---- arranging ---- */

static struct engine_ops spy;
static const struct engine_ops *const spied[] = {&spy, NULL};

static unsigned changes; /* that were told */

static void on_snapshots_changed(void *context)
{
    (void)context;
    changes++;
}

static void setup_spied(void)
{
    memset(&disk, 0, sizeof(disk));
    disk.left = -1;
    spy = engine_fake;
    spy.disk_tail = TAIL;
    setup();
    close_supervisor();
    bench.engines = spied;
    bench.snapshots_changed = on_snapshots_changed;
    open_supervisor();
}

static void put_disks(const char *content)
{
    temp_dir_write(&bench.dir, "vms/7/disk-root" TAIL, content);
    temp_dir_write(&bench.dir, "vms/7/disk-data" TAIL, content);
}

static bool disks_are(const char *content)
{
    char *root = temp_dir_read(&bench.dir, "vms/7/disk-root" TAIL);
    char *data = temp_dir_read(&bench.dir, "vms/7/disk-data" TAIL);
    bool are = root != NULL && data != NULL && strcmp(root, content) == 0 &&
               strcmp(data, content) == 0;
    free(root);
    free(data);
    return are;
}

static pid_t start_with_disks(void)
{
    struct vm_order order = order_of(UID, 1);
    (void)snprintf(order.vm.disk_path, sizeof(order.vm.disk_path), "/images/one");
    start_order(&order, false);
    put_disks(SAVED);
    return wait_phase(UID, PHASE_READY).pid;
}

static int make(uint64_t epoch, uint64_t bytes)
{
    const struct snapshot_wish wish = {.uid = SNAPSHOT,
                                       .vm = UID,
                                       .epoch = epoch,
                                       .bytes = bytes,
                                       .name = "before",
                                       .tenant = "shop"};
    return vm_supervisor_snapshot_make(bench.supervisor, &wish, NULL);
}

static void take(void *context, const struct snapshot_report *report)
{
    struct snapshot_report *found = context;
    ck_assert_uint_eq(report->uid, SNAPSHOT);
    *found = *report;
}

/* uid 0: there is none. */
static struct snapshot_report snapshot(void)
{
    struct snapshot_report found = {.uid = 0};
    vm_supervisor_snapshots_each(bench.supervisor, take, &found);
    return found;
}

static struct snapshot_report wait_snapshot(enum snapshot_phase phase)
{
    while (snapshot().uid == 0 || snapshot().phase != phase) {
        ck_assert_msg(phase == SNAPSHOT_FAILED || snapshot().phase != SNAPSHOT_FAILED,
                      "%s", snapshot().reason);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    return snapshot();
}

static void wait_gone(void)
{
    while (snapshot().uid != 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static void wait_state(pid_t pid, char state)
{
    while (!is_state(pid, state)) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static bool there(const char *name)
{
    char *path = temp_dir_path(&bench.dir, name);
    bool is = access(path, F_OK) == 0;
    free(path);
    return is;
}

/* As a worker does, again and again. */
static void make_when_it_is_up(void)
{
    int r;
    while ((r = make(1, MIB)) == BERTH_EBUSY) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(r, 0);
}

static void make_ready(void)
{
    make_when_it_is_up();
    (void)wait_snapshot(SNAPSHOT_READY);
}

/* ---- making ---- */

START_TEST(a_snapshot_is_made_and_the_vm_goes_on)
{
    char base[ENGINE_PATH_SIZE] = "";
    pid_t pid = start_with_disks();
    const uint64_t before_ms = clock_wall_ms(bench.clock);

    make_ready();

    struct snapshot_report ready = snapshot();
    wait_state(pid, 'S');
    ck_assert_int_eq(report_of(UID).phase, PHASE_READY);
    ck_assert_uint_eq(ready.vm, UID);
    ck_assert_uint_eq(ready.epoch, 1);
    ck_assert_uint_gt(ready.bytes, 0);
    ck_assert_uint_ge(ready.at_wall_ms, before_ms);
    ck_assert(there("snapshots/40/memory") && there("snapshots/40/disk-root" TAIL));
    ck_assert(vm_supervisor_snapshot_base(bench.supervisor, SNAPSHOT, base));
    ck_assert_str_eq(base, "/images/one");
    ck_assert_int_eq(make(1, MIB), 0); /* said again */
    ck_assert_int_eq(snapshot().phase, SNAPSHOT_READY);
}
END_TEST

START_TEST(the_vm_stands_still_while_its_disks_are_copied)
{
    pid_t pid = start_with_disks();
    disk.gated = true;
    ck_assert_int_eq(make(1, MIB), 0);
    while (disk.waits == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert(is_state(pid, 'T'));
    ck_assert_int_eq(snapshot().phase, SNAPSHOT_MAKING);
    ck_assert(!report_of(UID).paused); /* nobody's pause */

    disk.gated = false;

    (void)wait_snapshot(SNAPSHOT_READY);
    wait_state(pid, 'S');
}
END_TEST

START_TEST(a_paused_vm_stays_so)
{
    pid_t pid = start_with_disks();
    ck_assert_int_eq(vm_supervisor_pause(bench.supervisor, UID, 1, true, NULL), 0);
    while (!report_of(UID).paused) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    make_ready();

    ck_assert(report_of(UID).paused);
    wait_state(pid, 'T');
    ck_assert_uint_gt(snapshot().at_wall_ms, 0);
}
END_TEST

struct fault {
    int code;
    uint64_t bytes;
    const char *word;
};

static const struct fault faults[] = {
    {0, UINT64_MAX / 2, "beside the reserve"},
    {ENOSPC, MIB, "the disk is full"},
    {EIO, MIB, "Input/output error"},
};

START_TEST(what_fails_says_why_and_the_vm_goes_on)
{
    pid_t pid = start_with_disks();
    disk.fail = faults[_i].code;

    ck_assert_int_eq(make(1, faults[_i].bytes), 0);

    struct snapshot_report failed = wait_snapshot(SNAPSHOT_FAILED);
    ck_assert_msg(strstr(failed.reason, faults[_i].word) != NULL, "%s", failed.reason);
    wait_state(pid, 'S');
    ck_assert(!there("snapshots/40.new") && !there("snapshots/40"));
    disk.fail = 0;
    ck_assert_int_eq(make(1, MIB), 0); /* it is told, not tried again */
    ck_assert_int_eq(snapshot().phase, SNAPSHOT_FAILED);
    vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);
    ck_assert_uint_eq(snapshot().uid, 0);
    make_ready();
}
END_TEST

START_TEST(of_a_run_that_is_not_here_there_is_none)
{
    ck_assert_int_eq(make(1, MIB), 0);
    ck_assert_int_eq(snapshot().phase, SNAPSHOT_FAILED);
    vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);
    (void)start_with_disks();

    ck_assert_int_eq(make(2, MIB), 0);

    ck_assert_int_eq(snapshot().phase, SNAPSHOT_FAILED);
    ck_assert_ptr_nonnull(strstr(snapshot().reason, "epoch 2"));
}
END_TEST

START_TEST(one_that_starts_is_waited_for)
{
    start(UID, 1, true);
    (void)wait_held(UID);

    ck_assert_int_eq(make(1, MIB), BERTH_EBUSY);

    ck_assert_uint_eq(snapshot().uid, 0);
    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);
    (void)wait_phase(UID, PHASE_READY);
    make_ready();
}
END_TEST

START_TEST(an_engine_without_snapshots_says_so_at_once)
{
    spy.save = NULL;
    (void)start_with_disks();

    ck_assert_int_eq(make(1, MIB), 0);

    ck_assert_int_eq(snapshot().phase, SNAPSHOT_FAILED);
    ck_assert_ptr_nonnull(strstr(snapshot().reason, "makes no snapshots"));
}
END_TEST

START_TEST(what_is_not_wanted_any_more_is_given_up)
{
    pid_t pid = start_with_disks();
    if (_i == 1) { /* in the middle of the copy, else before */
        disk.gated = true;
    }
    ck_assert_int_eq(make(1, MIB), 0);
    while (_i == 1 && disk.waits == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);

    ck_assert_int_eq(snapshot().phase, SNAPSHOT_DELETING);
    disk.gated = false;
    wait_gone();
    wait_state(pid, 'S');
    ck_assert(!there("snapshots/40.new") && !there("snapshots/40"));
}
END_TEST

START_TEST(one_whose_vm_ends_meanwhile_has_failed)
{
    pid_t pid = start_with_disks();
    disk.gated = true;
    ck_assert_int_eq(make(1, MIB), 0);
    while (disk.waits == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    disk.gated = false;

    struct snapshot_report failed = wait_snapshot(SNAPSHOT_FAILED);

    ck_assert_msg(strstr(failed.reason, "its VM has ended") != NULL, "%s", failed.reason);
}
END_TEST

START_TEST(a_stop_is_not_kept_waiting_by_a_snapshot)
{
    (void)start_with_disks();
    ck_assert_int_eq(make(1, MIB), 0);

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);

    ck_assert_str_eq(wait_phase(UID, PHASE_STOPPED).reason, "stopped");
    while (snapshot().phase == SNAPSHOT_MAKING) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}
END_TEST

START_TEST(a_removal_that_fails_is_tried_when_it_is_asked_for_again)
{
    (void)start_with_disks();
    make_ready();
    disk.keeps = true;
    changes = 0;
    vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);
    while (snapshot().reason[0] == '\0') {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(snapshot().phase, SNAPSHOT_DELETING);
    ck_assert_uint_eq(changes, 1); /* and not with each failure */
    disk.keeps = false;

    vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);

    ck_assert_uint_eq(changes, 1);
    wait_gone();
    ck_assert_uint_eq(changes, 2);
    ck_assert(!there("snapshots/40"));
}
END_TEST

/* ---- a daemon that dies ---- */

static void make_in_daemon(int calls)
{
    disk.left = calls;
    disk.counting = true;
    make_ready();
    _exit(0);
}

/* In the fork the loop of its parent is not its own: it takes the VM over anew. */
static bool daemon_ends_before(int calls)
{
    int status = 0;
    close_supervisor();
    pid_t daemon = fork();
    if (daemon == 0) {
        open_loop();
        open_supervisor();
        (void)vm_supervisor_resume_all(bench.supervisor);
        make_in_daemon(calls);
    }
    ck_assert_int_eq(waitpid(daemon, &status, 0), daemon);
    ck_assert(WIFEXITED(status));
    ck_assert(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == DIED);
    return WEXITSTATUS(status) == 0;
}

START_TEST(killed_behind_any_line_the_vm_goes_on_and_it_is_whole_or_not_there)
{
    int calls = 0;
    unsigned whole = 0;
    pid_t pid = start_with_disks();
    wait_record(UID, VM_RECORD_RUNNING);
    for (; !daemon_ends_before(calls); calls++) {
        open_supervisor();
        (void)vm_supervisor_resume_all(bench.supervisor); /* the lease's part */
        wait_state(pid, 'S');
        while (there("snapshots/40.new")) {
            uv_run(&bench.loop, UV_RUN_ONCE);
        }
        if (there("snapshots/40")) {
            ck_assert_int_eq(snapshot().phase, SNAPSHOT_READY);
            whole++;
        }
        vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);
        wait_gone();
        ck_assert_int_eq(kill(pid, 0), 0);
    }
    open_supervisor();
    (void)vm_supervisor_resume_all(bench.supervisor);
    wait_state(pid, 'S');
    ck_assert_int_ge(calls, 8);
    ck_assert_uint_ge(whole, 1);
    ck_assert_int_eq(snapshot().phase, SNAPSHOT_READY);
}
END_TEST

START_TEST(a_daemon_that_ends_in_peace_lets_the_vm_go_on)
{
    pid_t pid = start_with_disks();
    disk.gated = true;
    ck_assert_int_eq(make(1, MIB), 0);
    while (disk.waits == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    disk.gated = false;

    close_supervisor();

    while (!is_state(pid, 'S')) {
        sched_yield();
    }
    ck_assert(!there("snapshots/40.new") && !there("snapshots/40"));
    open_supervisor();
}
END_TEST

START_TEST(what_is_made_and_not_wanted_when_a_daemon_ends_is_removed_first)
{
    (void)start_with_disks();
    disk.finished = true;
    ck_assert_int_eq(make(1, MIB), 0);
    while (disk.waits == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);
    disk.finished = false;

    close_supervisor();

    ck_assert(!there("snapshots/40") && !there("snapshots/40.new"));
    open_supervisor();
}
END_TEST

START_TEST(the_next_daemon_finds_what_is_there_and_tells_what_is_damaged)
{
    (void)start_with_disks();
    make_ready();
    const struct snapshot_report before = snapshot();
    close_supervisor();
    open_supervisor();
    const struct snapshot_report after = snapshot();
    ck_assert_int_eq(after.phase, SNAPSHOT_READY);
    ck_assert_uint_eq(after.bytes, before.bytes);
    ck_assert_uint_eq(after.at_wall_ms, before.at_wall_ms);
    ck_assert_uint_eq(after.vm, UID);
    close_supervisor();
    temp_dir_write(&bench.dir, "snapshots/40/manifest.json", "{}");
    open_supervisor();

    ck_assert_int_eq(snapshot().phase, SNAPSHOT_LOST);

    ck_assert_ptr_nonnull(strstr(snapshot().reason, "manifest.json"));
    vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);
    wait_gone();
    ck_assert(!there("snapshots/40"));
}
END_TEST

static int restore(uint64_t epoch, struct err *err)
{
    struct vm_order order = order_of(UID, epoch);
    order.restore = SNAPSHOT;
    order.disk_epoch = 1;
    return vm_supervisor_start(bench.supervisor, &order, false, err);
}

static void make_and_end(void)
{
    pid_t pid = start_with_disks();
    make_ready();
    put_disks(LATER);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
}

/* What a disk says today and not tomorrow is no loss: the files are still there. */
START_TEST(one_that_cannot_be_read_now_is_looked_at_again)
{
    struct err err = {0};
    char base[ENGINE_PATH_SIZE] = "";
    make_and_end();
    close_supervisor();
    disk.manifest = EIO;
    open_supervisor();
    ck_assert_int_eq(snapshot().phase, SNAPSHOT_MAKING);
    ck_assert_ptr_nonnull(strstr(snapshot().reason, "Input/output error"));
    ck_assert(vm_supervisor_snapshot_is_here(bench.supervisor, SNAPSHOT));
    ck_assert(vm_supervisor_snapshot_base(bench.supervisor, SNAPSHOT, base));
    ck_assert_str_eq(base, "/images/one"); /* which is not to go meanwhile */
    ck_assert_int_eq(restore(2, &err), BERTH_EBUSY);
    ck_assert_ptr_nonnull(strstr(err.text, "snapshot 40 cannot be read now"));

    if (_i == 1) {
        temp_dir_write(&bench.dir, "snapshots/40/manifest.json", "{}");
    }
    disk.manifest = 0;
    while (snapshot().phase == SNAPSHOT_MAKING) {
        uv_run(&bench.loop, UV_RUN_ONCE); /* upkeep comes by itself */
    }

    ck_assert_int_eq(snapshot().phase, _i == 1 ? SNAPSHOT_LOST : SNAPSHOT_READY);
    ck_assert_uint_eq(snapshot().epoch, _i == 1 ? 0 : 1);
    ck_assert_int_eq(restore(2, &err), _i == 1 ? BERTH_ENOTFOUND : 0);
}
END_TEST

START_TEST(one_that_cannot_be_read_now_is_removed_all_the_same)
{
    make_and_end();
    close_supervisor();
    disk.manifest = EIO;
    open_supervisor();

    vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);

    wait_gone();
    ck_assert(!there("snapshots/40"));
}
END_TEST

/* Else they would be told of as lost. */
START_TEST(a_daemon_that_cannot_see_what_is_there_does_not_begin)
{
    struct err err = {0};
    (void)start_with_disks();
    make_ready();
    close_supervisor();
    const struct vm_supervisor_config config = {
        .host = {.loop = &bench.loop, .clock = bench.clock},
        .folder = bench.dir.path,
        .engines = bench.engines,
        .changed = on_changed,
    };
    disk.manifest = EMFILE;
    ck_assert_ptr_null(vm_supervisor_open(&config, &err));
    ck_assert_int_eq(err.code, -EMFILE);
    disk.manifest = 0;

    open_supervisor();

    ck_assert_int_eq(snapshot().phase, SNAPSHOT_READY);
}
END_TEST

/* ---- restoring ---- */

static struct vm_report restore_ready(uint64_t epoch)
{
    struct err err = {0};
    do {
        ck_assert_msg(restore(epoch, &err) == 0, "%s", err.text);
        uv_run(&bench.loop, UV_RUN_ONCE);
    } while (report_of(UID).epoch != epoch);
    return wait_phase(UID, PHASE_READY);
}

START_TEST(a_restored_run_has_the_memory_and_the_disks_of_the_instant)
{
    char base[ENGINE_PATH_SIZE] = "";
    make_and_end();

    (void)restore_ready(2);

    wait_console(UID, "it goes on from epoch 1 of VM 7");
    ck_assert(disks_are(SAVED));
    ck_assert(vm_supervisor_base(bench.supervisor, UID, base));
    ck_assert_str_eq(base, "/images/one");
    put_disks(LATER); /* and once more, for a snapshot is not used up */
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 2, "", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    (void)restore_ready(3);
    ck_assert(disks_are(SAVED));
}
END_TEST

START_TEST(a_vm_that_was_forgotten_here_is_restored_all_the_same)
{
    make_and_end();
    forget(UID, 1);
    ck_assert(!there("vms/7/disk-root" TAIL));
    struct vm_report report;
    struct err err = {0};
    do {
        ck_assert_msg(restore(2, &err) == 0, "%s", err.text);
        uv_run(&bench.loop, UV_RUN_ONCE);
    } while (!vm_supervisor_report(bench.supervisor, UID, &report));

    (void)wait_phase(UID, PHASE_READY);

    ck_assert(disks_are(SAVED));
}
END_TEST

/* Its epoch is due to be forgotten, with its folder, before it starts. */
START_TEST(the_disks_of_a_restore_are_no_remains_of_a_vm_that_was)
{
    close_supervisor();
    bench_clock_later();
    open_supervisor();
    make_and_end();
    forget(UID, 1);
    start(UID + 1, 1, false);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID + 1, 1, "", NULL), 0);
    (void)wait_phase(UID + 1, PHASE_FAILED);
    forget(UID + 1, 1);
    bench.later_ms = VM_SUPERVISOR_EPOCHS_MS + 1000;
    disk.restored = _i == 0; /* or when all is copied */
    ck_assert_int_eq(restore(2, NULL), 0);
    while (_i == 0 ? disk.waits == 0 : !disks_are(SAVED)) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    while (there("vms/8")) {
        uv_run(&bench.loop, UV_RUN_ONCE); /* upkeep comes by itself */
    }
    disk.restored = false;

    struct vm_report report;
    do {
        ck_assert_int_eq(restore(2, NULL), 0);
        uv_run(&bench.loop, UV_RUN_ONCE);
    } while (!vm_supervisor_report(bench.supervisor, UID, &report));
    (void)wait_phase(UID, PHASE_READY);
    ck_assert(disks_are(SAVED));
}
END_TEST

START_TEST(a_damaged_snapshot_starts_nothing_and_the_disks_stay)
{
    struct err err = {0};
    make_and_end();
    temp_dir_write(&bench.dir, "snapshots/40/disk-data" TAIL, "at the instanT");
    while (restore(2, &err) == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    ck_assert_int_eq(err.code, BERTH_ECORRUPT);

    ck_assert_msg(strstr(err.text, "disk data") != NULL, "%s", err.text);
    ck_assert(disks_are(LATER));
    ck_assert_uint_eq(report_of(UID).epoch, 1);
    ck_assert_int_eq(restore(2, &err), BERTH_ECORRUPT); /* it stays so */
}
END_TEST

START_TEST(a_snapshot_that_is_not_here_starts_nothing)
{
    make_and_end();
    vm_supervisor_snapshot_remove(bench.supervisor, SNAPSHOT);
    wait_gone();

    ck_assert_int_eq(restore(2, NULL), BERTH_ENOTFOUND);

    ck_assert(disks_are(LATER));
}
END_TEST

static bool is_known(void *context, uint64_t uid)
{
    (void)context;
    return uid != UID;
}

START_TEST(a_restore_that_is_called_off_leaves_the_disks)
{
    struct err err = {0};
    make_and_end();
    disk.restored = true;
    ck_assert_int_eq(restore(2, &err), 0);
    while (disk.waits == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    if (_i == 0) {
        ck_assert(vm_supervisor_restore_call_off(bench.supervisor, UID));
    } else if (_i == 1) { /* as that of a VM that nobody knows */
        vm_supervisor_restores_keep(bench.supervisor, is_known, NULL);
    } else { /* by the start of a run with the disks as they are */
        struct vm_order order = order_of(UID, 3);
        order.disk_epoch = 1;
        ck_assert_int_eq(vm_supervisor_start(bench.supervisor, &order, false, &err), 0);
    }

    ck_assert_uint_eq(report_of(UID).epoch, 1);
    disk.restored = false;
    while (vm_supervisor_restore_call_off(bench.supervisor, UID)) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert(disks_are(LATER));
    ck_assert(!there("vms/7/restored.new") && !there("vms/7/restored"));
}
END_TEST

START_TEST(a_restore_that_was_called_off_may_be_ordered_again)
{
    make_and_end();
    disk.restored = true;
    ck_assert_int_eq(restore(2, NULL), 0);
    while (disk.waits == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert(vm_supervisor_restore_call_off(bench.supervisor, UID));
    disk.restored = false;

    (void)restore_ready(2);

    ck_assert(disks_are(SAVED));
}
END_TEST

/* A disk gets its lost half back before any run begins with it. */
START_TEST(what_a_crash_cut_off_is_ended_before_any_run)
{
    make_and_end();
    close_supervisor();
    char *folder = temp_dir_path(&bench.dir, "vms/7/restored");
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    free(folder);
    put_disks(SAVED);
    temp_dir_write(&bench.dir, "vms/7/disk-data" TAIL, LATER);
    temp_dir_write(&bench.dir, "vms/7/restored/disk-data" TAIL, SAVED);
    open_supervisor();
    struct vm_order order = order_of(UID, 2);
    order.disk_epoch = 1;
    start_order(&order, false);

    (void)wait_phase(UID, PHASE_READY);

    ck_assert(disks_are(SAVED));
}
END_TEST

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    Suite *suite = suite_create("vm_snapshots");
    TCase *tests = tcase_create("vm_snapshots");
    tcase_set_timeout(tests, 250);
    tcase_add_checked_fixture(tests, setup_spied, teardown);
    tcase_add_test(tests, a_snapshot_is_made_and_the_vm_goes_on);
    tcase_add_test(tests, the_vm_stands_still_while_its_disks_are_copied);
    tcase_add_test(tests, a_paused_vm_stays_so);
    tcase_add_loop_test(tests, what_fails_says_why_and_the_vm_goes_on, 0,
                        sizeof(faults) / sizeof(faults[0]));
    tcase_add_test(tests, of_a_run_that_is_not_here_there_is_none);
    tcase_add_test(tests, one_that_starts_is_waited_for);
    tcase_add_test(tests, an_engine_without_snapshots_says_so_at_once);
    tcase_add_loop_test(tests, what_is_not_wanted_any_more_is_given_up, 0, 2);
    tcase_add_test(tests, one_whose_vm_ends_meanwhile_has_failed);
    tcase_add_test(tests, a_stop_is_not_kept_waiting_by_a_snapshot);
    tcase_add_test(tests, a_removal_that_fails_is_tried_when_it_is_asked_for_again);
    tcase_add_test(tests,
                   killed_behind_any_line_the_vm_goes_on_and_it_is_whole_or_not_there);
    tcase_add_test(tests, a_daemon_that_ends_in_peace_lets_the_vm_go_on);
    tcase_add_test(tests,
                   what_is_made_and_not_wanted_when_a_daemon_ends_is_removed_first);
    tcase_add_test(tests, the_next_daemon_finds_what_is_there_and_tells_what_is_damaged);
    tcase_add_loop_test(tests, one_that_cannot_be_read_now_is_looked_at_again, 0, 2);
    tcase_add_test(tests, one_that_cannot_be_read_now_is_removed_all_the_same);
    tcase_add_test(tests, a_daemon_that_cannot_see_what_is_there_does_not_begin);
    tcase_add_test(tests, a_restored_run_has_the_memory_and_the_disks_of_the_instant);
    tcase_add_test(tests, a_vm_that_was_forgotten_here_is_restored_all_the_same);
    tcase_add_loop_test(tests, the_disks_of_a_restore_are_no_remains_of_a_vm_that_was, 0,
                        2);
    tcase_add_test(tests, a_damaged_snapshot_starts_nothing_and_the_disks_stay);
    tcase_add_test(tests, a_snapshot_that_is_not_here_starts_nothing);
    tcase_add_loop_test(tests, a_restore_that_is_called_off_leaves_the_disks, 0, 3);
    tcase_add_test(tests, a_restore_that_was_called_off_may_be_ordered_again);
    tcase_add_test(tests, what_a_crash_cut_off_is_ended_before_any_run);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
