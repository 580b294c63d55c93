/* Goal: a VM that obeys the lease never runs unwatched, and no folder ever has two
 * processes. Method: the supervisor, the real berth-fence and processes of the fake
 * engine in this loop. */
#include "agent/engine_fake.h"
#include "agent/vm_lock.h"
#include "agent/vm_record.h"
#include "agent/vm_supervisor.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/loop.h"
#include "fence/fence_socket.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define UID      7
#define WATCH_NS (UINT64_C(600) * NS_PER_S) /* nothing is due while a test runs */

static const struct engine_ops *const engines[] = {&engine_fake, NULL};

struct bench {
    struct temp_dir dir;
    uv_loop_t loop;
    struct loop_timer *deadline;
    struct loop_timer *tick; /* so that a loop that waits turns now and then */
    struct fence_client *fence;
    const char *program; /* of the fence */
    struct vm_supervisor *supervisor;
};

static struct bench bench;

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
    (void)report; /* asked for when it is wanted */
}

/* As the worker does it. */
static void on_connected(void *context)
{
    (void)context;
    fence_client_lease(bench.fence, clock_now_ns(clock_system()));
    vm_supervisor_watch_all(bench.supervisor);
}

static bool on_is_known(void *context, const struct fence_entry *entry)
{
    (void)context;
    return vm_supervisor_knows(bench.supervisor, entry->uid, entry->epoch,
                               (pid_t)entry->pid);
}

static void open_all(void)
{
    struct err err = {0};
    const struct fence_client_config fence = {
        .loop = &bench.loop,
        .folder = bench.dir.path,
        .program = bench.program,
        .lease_ns = WATCH_NS,
        .connected = on_connected,
        .is_known = on_is_known,
    };
    bench.fence = fence_client_open(&fence, &err);
    ck_assert_msg(bench.fence != NULL, "%s", err.text);
    const struct vm_supervisor_config config = {
        .host = {.loop = &bench.loop, .clock = clock_system()},
        .folder = bench.dir.path,
        .engines = engines,
        .fence = bench.fence,
        .changed = on_changed,
    };
    bench.supervisor = vm_supervisor_open(&config, &err);
    ck_assert_msg(bench.supervisor != NULL, "%s", err.text);
}

static void close_all(void)
{
    bench.supervisor = vm_supervisor_close(bench.supervisor);
    bench.fence = fence_client_close(bench.fence);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
}

static void setup(void)
{
    memset(&bench, 0, sizeof(bench));
    (void)signal(SIGPIPE, SIG_IGN);
    temp_dir_init_guarded(&bench.dir);
    bench.program = BERTH_BINARY_DIR "/berth-fence";
    ck_assert_int_eq(uv_loop_init(&bench.loop), 0);
    bench.deadline = loop_timer_new(&bench.loop, 200000, 0, on_deadline, NULL);
    bench.tick = loop_timer_new(&bench.loop, 5, 5, on_tick, NULL);
}

static void kill_one(void *context, const struct vm_report *report)
{
    (void)context;
    if (report->pid > 0) {
        (void)kill(report->pid, SIGKILL);
    }
}

static void teardown(void)
{
    struct err err = {0};
    if (bench.supervisor != NULL) {
        vm_supervisor_each(bench.supervisor, kill_one, NULL);
    }
    close_all();
    bench.deadline = loop_timer_close(bench.deadline);
    bench.tick = loop_timer_close(bench.tick);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench.loop), 0);
    ck_assert_msg(fence_client_end(bench.dir.path, &err) == 0, "%s", err.text);
    temp_dir_fini(&bench.dir);
}

static void turn(void)
{
    uv_run(&bench.loop, UV_RUN_ONCE);
}

static void wait_ready(void)
{
    while (!fence_client_ready(bench.fence)) {
        turn();
    }
}

static int start(uint64_t epoch, bool fenced, struct err *err)
{
    const struct vm_order order = {
        .vm = {.uid = UID,
               .epoch = epoch,
               .name = "web-1",
               .tenant = "shop",
               .cpu_count = 1,
               .cpu_weight = 100,
               .memory_bytes = 64 * MIB},
        .engine = ENGINE_FAKE,
        .fenced = fenced,
        .stop_grace_ms = 20000,
        .probe_pass = 1,
        .probe_fail = 1,
    };
    return vm_supervisor_start(bench.supervisor, &order, false, err);
}

/* As a worker asks: a child that was forked meanwhile for something else, as the fence,
 * holds the lock of the last run too until it has closed what is not its own. */
static void start_when_free(uint64_t epoch, bool fenced)
{
    struct err err = {0};
    int r;
    while ((r = start(epoch, fenced, &err)) == BERTH_EINUSE) {
        turn();
    }
    ck_assert_msg(r == 0, "%s", err.text);
}

static struct vm_report wait_phase(enum phase phase)
{
    struct vm_report report;
    do {
        turn();
        ck_assert(vm_supervisor_report(bench.supervisor, UID, &report));
    } while (report.phase != phase);
    return report;
}

/* What the fence says that it watches; a connection of our own. */
static struct fence_page watched(void)
{
    pid_t pid;
    struct fence_message message = {.type = FENCE_LIST, .tag = 1};
    int fds[FENCE_FDS_MAX];
    CLEANUP_FD int fd = fence_socket_connect(bench.dir.path, &pid, NULL);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fence_socket_send(fd, &message, NULL, 0), 0);
    do {
        ck_assert_int_eq(poll(&wait, 1, -1), 1);
        ck_assert_int_eq(fence_socket_receive(fd, &message, fds), 0);
    } while (message.type != FENCE_PAGE);
    return message.body.page;
}

static pid_t fence_pid(void)
{
    pid_t pid = 0;
    CLEANUP_FD int fd = fence_socket_connect(bench.dir.path, &pid, NULL);
    ck_assert_int_ge(fd, 0);
    return pid;
}

START_TEST(a_vm_that_runs_is_watched_and_one_that_ended_is_not)
{
    open_all();
    wait_ready();
    ck_assert_int_eq(start(3, true, NULL), 0);

    struct vm_report running = wait_phase(PHASE_READY);
    struct fence_page page = watched();
    ck_assert_uint_eq(page.count, 1);
    ck_assert_uint_eq(page.entries[0].uid, UID);
    ck_assert_uint_eq(page.entries[0].epoch, 3);
    ck_assert_uint_eq(page.entries[0].pid, (uint32_t)running.pid);

    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 3, "test", NULL), 0);
    (void)wait_phase(PHASE_FAILED);
    while (watched().count > 0) { /* a fence that is slow to answer sees it by itself */
        turn();
    }
}
END_TEST

START_TEST(a_vm_that_waits_for_its_host_is_not_watched)
{
    open_all();
    wait_ready();
    ck_assert_int_eq(start(3, false, NULL), 0);

    (void)wait_phase(PHASE_READY);

    ck_assert_uint_eq(watched().count, 0);
}
END_TEST

START_TEST(without_a_fence_only_a_vm_that_needs_none_runs)
{
    struct vm_report report = {0};
    bench.program = "/nonexistent/berth-fence";
    open_all();
    ck_assert_int_eq(start(3, true, NULL), 0);
    while (report.pid == 0) { /* then it is at the gate */
        turn();
        ck_assert(vm_supervisor_report(bench.supervisor, UID, &report));
    }
    ck_assert_int_eq(report.phase, PHASE_STARTING);
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 3, 0, NULL), 0);
    ck_assert_str_eq(wait_phase(PHASE_STOPPED).reason, "stopped before it ran");
    ck_assert_ptr_null(
        temp_dir_read(&bench.dir, "vms/7/held")); /* it never got through */

    start_when_free(4, false);
    (void)wait_phase(PHASE_READY);
}
END_TEST

/* No reason to end a run: it goes on when the fence is there again. */
START_TEST(a_vm_waits_at_the_gate_for_a_fence_that_hangs)
{
    open_all();
    wait_ready();
    pid_t hung = fence_pid();
    ck_assert_int_eq(kill(hung, SIGSTOP), 0);

    ck_assert_int_eq(start(3, true, NULL), 0);
    while (fence_client_ready(bench.fence)) {
        turn();
    }
    while (!fence_client_ready(bench.fence)) { /* it is replaced */
        ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/held"));
        turn();
    }
    ck_assert_int_ne(fence_pid(), hung);

    struct vm_report running = wait_phase(PHASE_READY);
    ck_assert_uint_eq(watched().count, 1);
    ck_assert_uint_eq(watched().entries[0].pid, (uint32_t)running.pid);
}
END_TEST

START_TEST(a_new_fence_is_told_of_all_that_runs)
{
    open_all();
    wait_ready();
    ck_assert_int_eq(start(3, true, NULL), 0);
    struct vm_report running = wait_phase(PHASE_READY);

    ck_assert_int_eq(kill(fence_pid(), SIGKILL), 0);
    while (fence_client_ready(bench.fence)) {
        turn();
    }
    wait_ready();

    struct fence_page page = watched();
    ck_assert_uint_eq(page.count, 1);
    ck_assert_uint_eq(page.entries[0].pid, (uint32_t)running.pid);
    ck_assert_int_eq(kill(running.pid, 0), 0); /* it did not notice */
}
END_TEST

START_TEST(a_restarted_daemon_finds_its_vms_watched)
{
    open_all();
    wait_ready();
    ck_assert_int_eq(start(3, true, NULL), 0);
    struct vm_report running = wait_phase(PHASE_READY);
    pid_t fence = fence_pid();

    close_all();
    ck_assert_uint_eq(watched().count, 1); /* meanwhile too */
    open_all();
    wait_ready();

    ck_assert_int_eq(fence_pid(), fence);
    ck_assert_uint_eq(watched().count, 1);
    ck_assert_int_eq(kill(running.pid, 0), 0);
}
END_TEST

/* The last that a process lets go is not its folder: that it has ended is seen later. */
static bool is_over(pid_t pid)
{
    return waitpid(pid, NULL, WNOHANG) == pid;
}

static void wait_over(pid_t pid)
{
    while (!is_over(pid)) {
        turn();
    }
}

START_TEST(a_process_whose_record_is_lost_keeps_its_folder_to_itself)
{
    open_all();
    wait_ready();
    ck_assert_int_eq(start(3, true, NULL), 0);
    struct vm_report running = wait_phase(PHASE_READY);
    close_all();
    char *path = temp_dir_path(&bench.dir, "vms/7/" VM_RECORD_FILE);
    ck_assert_int_eq(unlink(path), 0);
    free(path);
    ck_assert_int_eq(kill(running.pid, SIGSTOP), 0); /* it would see its folder go */

    open_all();
    path = temp_dir_path(&bench.dir, "vms/7");
    ck_assert_int_eq(access(path, F_OK), 0);
    free(path);
    /* It is being killed: until it is gone, nobody else gets in. */
    struct err err = {0};
    int started = start(4, true, &err);
    ck_assert(started == BERTH_EINUSE || started == 0);
    if (started == BERTH_EINUSE) {
        ck_assert_uint_eq(wait_phase(PHASE_FAILED).epoch, 3);
    }
    wait_over(running.pid);
}
END_TEST

START_TEST(a_process_of_an_unknown_vm_is_ended_by_the_fence)
{
    open_all();
    wait_ready();
    ck_assert_int_eq(start(3, true, NULL), 0);
    struct vm_report running = wait_phase(PHASE_READY);
    close_all();
    char *path = temp_dir_path(&bench.dir, "vms");
    struct err err = {0};
    ck_assert_int_eq(fd_remove_tree(path, &err), 0);
    free(path);

    open_all();
    wait_ready();

    while (watched().count > 0) {
        turn();
    }
    wait_over(running.pid);
}
END_TEST

START_TEST(a_vm_is_not_started_while_a_process_holds_its_folder)
{
    struct err err = {0};
    open_all();
    wait_ready();
    char *path = temp_dir_path(&bench.dir, "vms/7");
    ck_assert_int_eq(fd_make_folders(path, &err), 0);
    CLEANUP_FD int lock = vm_lock_take(path, 1, &err);
    ck_assert_int_ge(lock, 0);
    free(path);

    ck_assert_int_eq(start(3, true, &err), BERTH_EINUSE);
    ck_assert_ptr_nonnull(strstr(err.text, "still lives"));

    fd_close(&lock);
    ck_assert_int_eq(start(3, true, &err), 0);
    struct vm_report running = wait_phase(PHASE_READY);
    path = temp_dir_path(&bench.dir, "vms/7");
    ck_assert(vm_lock_is_held(path)); /* by the process alone */
    ck_assert_int_eq(kill(running.pid, SIGKILL), 0);
    (void)wait_phase(PHASE_FAILED);
    ck_assert(!vm_lock_is_held(path));
    CLEANUP_FD int again = vm_lock_take(path, 3, &err);
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID, 3, &err), BERTH_EPHASE);
    fd_close(&again);
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID, 3, &err), 0);
    free(path);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("vm_watch");
    TCase *tcase = tcase_create("watch");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_vm_that_runs_is_watched_and_one_that_ended_is_not);
    tcase_add_test(tcase, a_vm_that_waits_for_its_host_is_not_watched);
    tcase_add_test(tcase, without_a_fence_only_a_vm_that_needs_none_runs);
    tcase_add_test(tcase, a_vm_waits_at_the_gate_for_a_fence_that_hangs);
    tcase_add_test(tcase, a_new_fence_is_told_of_all_that_runs);
    tcase_add_test(tcase, a_restarted_daemon_finds_its_vms_watched);
    tcase_add_test(tcase, a_process_whose_record_is_lost_keeps_its_folder_to_itself);
    tcase_add_test(tcase, a_process_of_an_unknown_vm_is_ended_by_the_fence);
    tcase_add_test(tcase, a_vm_is_not_started_while_a_process_holds_its_folder);
    suite_add_tcase(suite, tcase);
    return suite;
}

/* The supervisor starts fake VMs from this very program. */
int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    if (!test_main_finds(BERTH_BINARY_DIR "/berth-fence")) {
        return 1;
    }
    return test_main_run(suite());
}
