/* Goal: a VM runs on the disks that were meant, or there is a reason in words. Method:
 * real QEMU and real images (qemu_fixture.h). */
#include "qemu_fixture.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- real QEMU ---- */

/* The boot sector is only in the qcow2 file, compressed: raw, it is no boot sector. */
START_TEST(a_guest_boots_what_a_qcow2_image_holds)
{
    char command[3 * ENGINE_PATH_SIZE];
    struct vm_order order = order_of(UID, 1);
    (void)snprintf(command, sizeof(command),
                   "cd %s && qemu-img convert -q -c -f raw -O qcow2 image.raw new && "
                   "mv new image.raw",
                   bench.dir.path);
    ck_assert_int_eq(system(command), 0);
    order.vm.disk_is_qcow2 = true;
    start_order(&order, false);

    wait_console(UID, "boot sector");
    ck_assert_int_eq(wait_phase(UID, PHASE_READY).phase, PHASE_READY);
    (void)snprintf(command, sizeof(command),
                   "qemu-img info -U %s/vms/7/disk-root.qcow2 | "
                   "grep -q '^backing file format: qcow2$'",
                   bench.dir.path);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(a_qemu_that_cannot_start_says_why)
{
    struct vm_order order = order_of(UID, 1);
    (void)snprintf(order.vm.kernel_path, sizeof(order.vm.kernel_path), "/no/such/kernel");
    order.vm.disk_path[0] = '\0';

    start_order(&order, false);
    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "/no/such/kernel") != NULL, "%s", failed.reason);
}
END_TEST

START_TEST(a_disk_that_cannot_be_made_says_why)
{
    struct vm_order order = order_of(UID, 1);
    (void)snprintf(order.vm.disk_path, sizeof(order.vm.disk_path), "/no/such/disk");

    start_order(&order, false);
    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "make disk root") != NULL, "%s", failed.reason);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/disk-root.qcow2.new"));
}
END_TEST

START_TEST(a_disk_of_an_earlier_run_that_is_gone_is_not_made_anew)
{
    struct vm_order order = order_of(UID, 1);
    start_order(&order, false);
    (void)wait_phase(UID, PHASE_READY);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 1, "over", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    char *disk = temp_dir_path(&bench.dir, "vms/7/disk-root.qcow2");
    ck_assert_int_eq(unlink(disk), 0);

    order.vm.epoch = 2;
    order.disk_epoch = 1;
    start_order(&order, false);
    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "disk root of an earlier run is gone") != NULL,
                  "%s", failed.reason);
    ck_assert_int_eq(access(disk, F_OK), -1);
    free(disk);
}
END_TEST

static struct vm_report failed_with_image(uint64_t disk_bytes, bool qcow2)
{
    struct vm_order order = order_of(UID, 1);
    order.vm.disks[0] = (struct engine_disk){
        .name = "root", .from = DISK_FROM_IMAGE, .size_bytes = disk_bytes};
    order.vm.disk_count = 1;
    order.vm.disk_is_qcow2 = qcow2;
    start_order(&order, false);
    return wait_phase(UID, PHASE_FAILED);
}

START_TEST(a_disk_smaller_than_its_image_is_refused_in_words)
{
    if (_i == 1) { /* a qcow2 of 8 MiB takes far less: its header tells */
        char command[ENGINE_PATH_SIZE];
        (void)snprintf(command, sizeof(command),
                       "qemu-img create -q -f qcow2 %s/image.raw 8M", bench.dir.path);
        ck_assert_int_eq(system(command), 0);
    }
    uint64_t needed = _i == 1 ? 8 * MIB : MIB;

    struct vm_report failed = failed_with_image(needed - 512, _i == 1);

    ck_assert_msg(strstr(failed.reason, "make disk root: ") != NULL, "%s", failed.reason);
    ck_assert_msg(strstr(failed.reason, _i == 1 ? "which is 8MiB" : "which is 1MiB") !=
                      NULL,
                  "%s", failed.reason);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/disk-root.qcow2"));
}
END_TEST

START_TEST(a_qcow2_image_that_is_none_is_refused)
{
    struct vm_report failed = failed_with_image(2 * MIB, true); /* it is raw */

    ck_assert_msg(strstr(failed.reason, "make disk root: image ") != NULL, "%s",
                  failed.reason);
}
END_TEST

START_TEST(a_kill_reaches_a_vm_whose_disks_are_being_made)
{
    struct vm_order order = order_of(UID, 1);
    start_order(&order, false);
    for (int turn = 0; turn < _i; turn++) {
        uv_run(&bench.loop, UV_RUN_NOWAIT);
    }

    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 1, "moved", NULL), 0);

    ck_assert_str_eq(wait_phase(UID, PHASE_FAILED).reason, "moved");
}
END_TEST

/* ---- guests and hosts in trouble ---- */

START_TEST(a_guest_waits_on_a_full_disk_and_goes_on_when_there_is_room)
{
    struct vm_order order = order_of(UID, 1);
    char *folder = temp_dir_path(&bench.dir, "vms/7");
    order.vm.disks[0] = (struct engine_disk){
        .name = "root", .from = DISK_FROM_IMAGE, .size_bytes = 8 * MIB};
    order.vm.disk_count = 1;
    write_image(writes, sizeof(writes));
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(mount("small", folder, "tmpfs", 0, "size=1m"), 0);
    start_order(&order, false);

    wait_reason(UID, "the host's disk is full");
    ck_assert_int_eq(report_of(UID).phase, PHASE_RUNNING);

    close_supervisor(); /* a restarted daemon sees it, too */
    open_supervisor();
    wait_reason(UID, "the host's disk is full");

    ck_assert_int_eq(mount(NULL, folder, NULL, MS_REMOUNT, "size=32m"), 0);
    wait_console(UID, "w"); /* every write came through in the end */
    ck_assert_str_eq(wait_phase(UID, PHASE_READY).reason, "");
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 1, "over", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    ck_assert_int_eq(umount2(folder, MNT_DETACH), 0);
    free(folder);
}
END_TEST

/* ---- the daemon goes and comes back ---- */

static void add_real(Suite *suite)
{
    TCase *tests = tcase_create("qemu");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_guest_boots_what_a_qcow2_image_holds);
    tcase_add_test(tests, a_qemu_that_cannot_start_says_why);
    tcase_add_test(tests, a_disk_that_cannot_be_made_says_why);
    tcase_add_test(tests, a_disk_of_an_earlier_run_that_is_gone_is_not_made_anew);
    tcase_add_loop_test(tests, a_disk_smaller_than_its_image_is_refused_in_words, 0, 2);
    tcase_add_test(tests, a_qcow2_image_that_is_none_is_refused);
    tcase_add_loop_test(tests, a_kill_reaches_a_vm_whose_disks_are_being_made, 0, 4);
    if (geteuid() == 0) {
        tcase_add_test(tests,
                       a_guest_waits_on_a_full_disk_and_goes_on_when_there_is_room);
    }
    suite_add_tcase(suite, tests);
}

int main(void)
{
    if (!qemu_is_here()) {
        return test_main_skip("it takes qemu-system-x86_64 and qemu-img");
    }
    Suite *suite = suite_create("engine_qemu_disk");
    add_real(suite);
    return test_main_run(suite);
}
