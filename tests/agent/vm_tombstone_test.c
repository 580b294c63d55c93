/* Goal: one epoch is one run, whatever is asked, also when the VM has long been removed.
 * Method: real processes of the fake engine, folders of VMs that were, and a clock that
 * goes ahead (supervisor_fixture.h). */
#include "agent/vm_lock.h"
#include "base/work_pool.h"
#include "supervisor_fixture.h"
#include "support/disk_gate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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

static struct {
    bool opens_gate;
    unsigned count; /* then */
} drains;

void __real_work_pool_drain(struct work_pool *pool);
void __wrap_work_pool_drain(struct work_pool *pool);

/* In place of work_pool_drain (the linker's --wrap). The end of a supervisor waits for
 * both pools of snapshots, for records, and then for removals: from there on the one
 * under way may go on. */
void __wrap_work_pool_drain(struct work_pool *pool)
{
    if (drains.opens_gate && ++drains.count == 4) {
        gate.unlinks = false;
        ck_assert_int_eq(write(gate.pipe[1], "1", 1), 1);
    }
    __real_work_pool_drain(pool);
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
    drains.opens_gate = true;

    close_supervisor();
    drains.opens_gate = false;
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
    bench_clock_later();
    bench.later_ms = 0;
    open_supervisor();
    ck_assert_uint_eq(folders_left(), OLD);
    ck_assert_int_eq(try_start(100, 3), BERTH_EPHASE);

    bench.later_ms = VM_SUPERVISOR_EPOCHS_MS + 1000;
    while (folders_left() == OLD) {
        uv_run(&bench.loop, UV_RUN_ONCE); /* upkeep comes by itself */
    }

    ck_assert_uint_eq(folders_left(), 0);
}
END_TEST

/* Somebody is about to start it again. */
START_TEST(an_old_folder_whose_lock_is_held_stays)
{
    enum { OLD = 3 };
    close_supervisor();
    plant_forgotten(OLD);
    bench_clock_later();
    bench.later_ms = 0;
    open_supervisor();
    char *folder = temp_dir_path(&bench.dir, "vms/101");
    int lock = vm_lock_take(folder, 9, NULL);
    ck_assert_int_ge(lock, 0);

    bench.later_ms = VM_SUPERVISOR_EPOCHS_MS + 1000;
    while (folders_left() > 1) {
        uv_run(&bench.loop, UV_RUN_ONCE); /* upkeep comes by itself */
    }
    ck_assert_int_eq(access(folder, F_OK), 0);
    ck_assert_int_eq(try_start(101, 3), BERTH_EPHASE); /* its epoch is remembered, too */
    (void)close(lock);

    while (folders_left() > 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    free(folder);
}
END_TEST

START_TEST(an_epoch_forgotten_in_the_future_goes_in_its_time)
{
    enum { OLD = 5 };
    close_supervisor();
    bench_clock_later(); /* it is set back after these were forgotten */
    plant_forgotten(OLD);
    bench.later_ms = 0 - UINT64_C(2) * VM_SUPERVISOR_EPOCHS_MS;
    open_supervisor();
    ck_assert_uint_eq(folders_left(), OLD);
    ck_assert_int_eq(try_start(100, 3), BERTH_EPHASE);

    bench.later_ms += VM_SUPERVISOR_EPOCHS_MS + 1000;
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

/* ---- the rest ---- */

static void add_life(Suite *suite)
{
    TCase *tests = tcase_create("life");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, one_epoch_is_one_run);
    tcase_add_test(tests, a_forgotten_vm_leaves_only_its_epoch);
    tcase_add_test(tests, what_is_left_of_a_removal_is_removed_at_the_next_start);
    tcase_add_test(tests, many_old_epochs_go_in_one_turn);
    tcase_add_test(tests, of_too_many_epochs_the_oldest_go);
    tcase_add_test(tests, an_old_folder_whose_lock_is_held_stays);
    tcase_add_test(tests, an_epoch_forgotten_in_the_future_goes_in_its_time);
    tcase_add_test(tests, a_vm_is_forgotten_even_when_its_disks_have_filled_the_host);
    suite_add_tcase(suite, tests);
}

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    if (!gate_sees_main()) {
        return test_main_skip("what threads wait for cannot be seen here");
    }
    Suite *suite = suite_create("vm_tombstone");
    add_life(suite);
    return test_main_run(suite);
}
