/* Goal: a host makes, keeps and removes the snapshots that its orders name, tells how
 * each is, and begins a run from one. Method: a worker with a leader that the test plays
 * (worker_fixture.h), whose VM of the fake engine is saved. */
#include "worker_fixture.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define SNAPSHOT 40

static struct wish wish;
static struct {
    atomic_bool shut; /* what is copied for a restore waits */
    atomic_int waits;
} gate;

/* In place of the C library's. */
int fsync(int fd)
{
    char link[64];
    char path[4096] = "";
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    const bool ours = readlink(link, path, sizeof(path) - 1) > 0 &&
                      strstr(path, "/restored.new") != NULL;
    while (ours && gate.shut) {
        gate.waits = 1;
        sched_yield();
    }
    return (int)syscall(SYS_fsync, fd);
}

static void order(void)
{
    wish.revision++;
    give(1, &wish);
}

static void order_snapshot(enum snapshot_order what)
{
    wish.snapshot = SNAPSHOT;
    wish.snapshot_order = what;
    wish.snapshot_epoch = 1;
    order();
}

static bool tells(enum snapshot_phase phase)
{
    return leader.snapshot.uid == SNAPSHOT && leader.snapshot.phase == phase;
}

static void start_one(void)
{
    start();
    wish = both;
    wish.fenced_epoch = 0;
    order();
    RACK_WAIT(leader.phases[1] == PHASE_READY);
}

START_TEST(a_snapshot_is_made_kept_and_removed_as_ordered)
{
    start_one();

    order_snapshot(SNAPSHOT_ORDER_MAKE);
    RACK_WAIT(tells(SNAPSHOT_READY));
    ck_assert_uint_eq(leader.snapshot.vm, WAITS);
    ck_assert_uint_eq(leader.snapshot.epoch, 1);
    ck_assert_uint_gt(leader.snapshot.bytes, 0);
    order_snapshot(SNAPSHOT_ORDER_KEEP);
    restart();
    RACK_WAIT(tells(SNAPSHOT_READY));
    order_snapshot(SNAPSHOT_ORDER_DELETE);
    RACK_WAIT(tells(SNAPSHOT_LOST)); /* it is not here any more */
    wish.snapshot = 0;
    order();
    RACK_WAIT(leader.snapshot.uid == 0);

    RACK_WAIT(leader.phases[1] == PHASE_READY);
    stop();
}
END_TEST

START_TEST(one_that_is_not_named_any_more_is_removed)
{
    start_one();
    order_snapshot(SNAPSHOT_ORDER_MAKE);
    RACK_WAIT(tells(SNAPSHOT_READY));
    char *path = temp_dir_path(&rack.hosts[0].dir, "snapshots/40");
    ck_assert_int_eq(access(path, F_OK), 0);

    wish.snapshot = 0;
    order();

    RACK_WAIT(leader.snapshot.uid == 0 && access(path, F_OK) != 0);
    free(path);
    stop();
}
END_TEST

START_TEST(one_that_is_not_here_is_lost)
{
    start_one();

    order_snapshot(SNAPSHOT_ORDER_KEEP);

    RACK_WAIT(tells(SNAPSHOT_LOST));
    ck_assert_str_eq(leader.snapshot.reason, "it is not on this host");
    stop();
}
END_TEST

/* What its manifest would say, the leader asks for: by the run alone it knows it. */
START_TEST(one_that_is_damaged_is_lost_as_that_of_its_run)
{
    start_one();
    order_snapshot(SNAPSHOT_ORDER_MAKE);
    RACK_WAIT(tells(SNAPSHOT_READY));
    order_snapshot(SNAPSHOT_ORDER_KEEP);
    temp_dir_write(&rack.hosts[0].dir, "snapshots/40/manifest.json", "{}");

    restart();
    order();

    RACK_WAIT(tells(SNAPSHOT_LOST) && leader.snapshot.epoch == 1);
    ck_assert_uint_eq(leader.snapshot.vm, WAITS);
    ck_assert_ptr_nonnull(strstr(leader.snapshot.reason, "manifest.json"));
    stop();
}
END_TEST

START_TEST(one_of_a_run_that_is_not_here_has_failed)
{
    start_one();
    wish.snapshot = SNAPSHOT;
    wish.snapshot_order = SNAPSHOT_ORDER_MAKE;
    wish.snapshot_epoch = 9;

    order();

    RACK_WAIT(tells(SNAPSHOT_FAILED));
    ck_assert_ptr_nonnull(strstr(leader.snapshot.reason, "epoch 9"));
    stop();
}
END_TEST

START_TEST(a_vm_is_paused_and_resumed_as_ordered)
{
    start_one();
    ck_assert_uint_eq(leader.engine, ENGINE_FAKE);

    wish.paused = true;
    order();
    RACK_WAIT(leader.paused);
    ck_assert_int_eq(leader.phases[1], PHASE_RUNNING);
    ck_assert_str_eq(leader.reasons[1], "paused by its user");
    wish.paused = false;
    order();

    RACK_WAIT(!leader.paused && leader.phases[1] == PHASE_READY);
    stop();
}
END_TEST

START_TEST(a_run_begins_from_a_snapshot)
{
    char text[512] = "";
    uint64_t offset = 0;
    start_one();
    order_snapshot(SNAPSHOT_ORDER_MAKE);
    RACK_WAIT(tells(SNAPSHOT_READY));
    ck_assert_int_eq(kill(vm(WAITS).pid, SIGKILL), 0);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED);

    wish.waits_epoch = 2;
    wish.disk_epoch = 1;
    wish.restore = SNAPSHOT;
    order_snapshot(SNAPSHOT_ORDER_KEEP);

    RACK_WAIT(leader.phases[1] == PHASE_READY && leader.epochs[1] == 2);
    (void)console_ring_read(vm_supervisor_console(worker_supervisor(worker), WAITS),
                            &offset, text, sizeof(text) - 1);
    ck_assert_ptr_nonnull(strstr(text, "it goes on from epoch 1 of VM 12"));
    stop();
}
END_TEST

START_TEST(a_restore_that_is_called_off_has_stopped_when_its_thread_is_done)
{
    gate.shut = false;
    start_one();
    order_snapshot(SNAPSHOT_ORDER_MAKE);
    RACK_WAIT(tells(SNAPSHOT_READY));
    ck_assert_int_eq(kill(vm(WAITS).pid, SIGKILL), 0);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED);
    gate.shut = true;
    wish.waits_epoch = 2;
    wish.disk_epoch = 1;
    wish.restore = SNAPSHOT;
    order_snapshot(SNAPSHOT_ORDER_KEEP);
    RACK_WAIT(gate.waits != 0);

    wish.restore = 0;
    wish.order = ORDER_STOP;
    order();

    let_pass();
    ck_assert_int_ne(leader.phases[1], PHASE_STOPPED);
    gate.shut = false;
    RACK_WAIT(leader.phases[1] == PHASE_STOPPED && leader.epochs[1] == 2);
    ck_assert_uint_eq(leader.disk_epochs[1], 1);
    stop();
}
END_TEST

START_TEST(a_run_whose_snapshot_is_not_here_fails_and_its_disks_stay)
{
    start_one();
    ck_assert_int_eq(kill(vm(WAITS).pid, SIGKILL), 0);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED);

    wish.waits_epoch = 2;
    wish.disk_epoch = 1;
    wish.restore = SNAPSHOT;
    order();

    RACK_WAIT(leader.phases[1] == PHASE_FAILED && leader.epochs[1] == 2);
    ck_assert_ptr_nonnull(strstr(leader.reasons[1], "snapshot 40 is not on this host"));
    ck_assert_uint_eq(leader.disk_epochs[1], 1);
    stop();
}
END_TEST

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    Suite *suite = suite_create("worker_snapshots");
    TCase *tests = tcase_create("worker_snapshots");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_snapshot_is_made_kept_and_removed_as_ordered);
    tcase_add_test(tests, one_that_is_not_named_any_more_is_removed);
    tcase_add_test(tests, one_that_is_not_here_is_lost);
    tcase_add_test(tests, one_that_is_damaged_is_lost_as_that_of_its_run);
    tcase_add_test(tests, one_of_a_run_that_is_not_here_has_failed);
    tcase_add_test(tests, a_vm_is_paused_and_resumed_as_ordered);
    tcase_add_test(tests, a_run_begins_from_a_snapshot);
    tcase_add_test(tests,
                   a_restore_that_is_called_off_has_stopped_when_its_thread_is_done);
    tcase_add_test(tests, a_run_whose_snapshot_is_not_here_fails_and_its_disks_stay);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
