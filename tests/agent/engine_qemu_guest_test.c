/* Goal: QEMU's VMs live and end as they are told and as their guests do, and are reported
 * so. Method: real QEMU (qemu_fixture.h). */
#include "qemu_fixture.h"
#include "qmp_ask.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- real QEMU ---- */

/* Resets the machine by port 0xcf9. */
static const uint8_t resets[] = {0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd};

/* Lives for 45 ticks of the timer, 2.5 seconds; counts its boots in the clock's memory,
 * which outlives a reset, and resets twice. */
static const uint8_t resets_twice[] = {
    0xfb, 0xb9, 0x2d, 0x00, 0xf4, 0xe2, 0xfd, 0xb0, 0x60, 0xe6, 0x70, 0xe4, 0x71,
    0xfe, 0xc0, 0x88, 0xc3, 0xb0, 0x60, 0xe6, 0x70, 0x88, 0xd8, 0xe6, 0x71, 0x80,
    0xfb, 0x03, 0x73, 0x06, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd,
};

/* Says "panicked" to the pvpanic device, port 0x505. */
static const uint8_t panics[] = {0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd};

START_TEST(a_guest_boots_talks_listens_and_obeys_the_power_button)
{
    struct vm_report ready = boot(UID);
    ck_assert_int_gt(ready.pid, 0);
    type(UID, "abc");
    wait_console(UID, "abc");

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);
    struct vm_report stopped = wait_phase(UID, PHASE_STOPPED);

    ck_assert_str_eq(stopped.reason, "stopped");
    ck_assert_int_eq(kill(ready.pid, 0), -1);
}
END_TEST

START_TEST(a_guest_that_powers_itself_off_has_stopped)
{
    (void)boot(UID);

    type(UID, "q");

    ck_assert_str_eq(wait_phase(UID, PHASE_STOPPED).reason, "guest shutdown");
}
END_TEST

START_TEST(a_held_guest_does_not_run_until_it_is_told)
{
    struct vm_order order = order_of(UID, 1);
    start_order(&order, true);
    while (!report_of(UID).held) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(console_ring_end(vm_supervisor_console(bench.supervisor, UID)), 0);

    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);

    wait_console(UID, "boot sector");
    ck_assert_int_eq(report_of(UID).phase, PHASE_READY);
}
END_TEST

static uint64_t iops_in_force(void)
{
    char *path = temp_dir_path(&bench.dir, "vms/7/qmp.sock");
    uint64_t iops = UINT64_MAX;
    close_supervisor();
    json_t *disks = qmp_ask(path, "query-block");
    for (size_t i = 0; i < json_array_size(disks); i++) {
        const json_t *disk = json_array_get(disks, i);
        const json_t *inserted = json_object_get(disk, "inserted");
        if (strstr(json_member_text(inserted, "file", ""), "disk-data") != NULL) {
            iops = json_member_u64(inserted, "iops", UINT64_MAX);
        }
    }
    json_decref(disks);
    free(path);
    open_supervisor();
    return iops;
}

/* The second one is refused by QEMU: by then the first is in force. */
START_TEST(a_guest_runs_with_its_limits_and_takes_on_others)
{
    struct vm_order order = order_of(UID, 1);
    struct disk_spec disks[] = {
        {.name = "data", .limit = {.operations = 900}},
        {.name = "root", .limit = {.operations = 900, .operations_burst = 100}}};
    const struct machine_spec machine = {.disks = {disks, 2}};
    order.vm.disks[order.vm.disk_count++] =
        (struct engine_disk){.name = "data", .from = DISK_EMPTY, .size_bytes = MIB};
    order.vm.limits.disk_count = 1;
    order.vm.limits.disks[0] =
        (struct engine_disk_limit){"data", {500, 600, MIB, 2 * MIB}};
    start_order(&order, true);
    (void)wait_held(UID); /* before it runs */
    ck_assert_uint_eq(iops_in_force(), 500);

    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);
    wait_console(UID, "boot sector");
    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, UID, 1, &machine, NULL), 0);
    wait_reason(UID, "a limit is not in force");

    ck_assert_uint_eq(iops_in_force(), 900);
    ck_assert_int_eq(report_of(UID).phase, PHASE_RUNNING);
}
END_TEST

START_TEST(a_guest_boots_from_a_disk_that_it_only_reads)
{
    struct vm_order order = order_of(UID, 1);
    char *path = temp_dir_path(&bench.dir, "vms/7/qmp.sock");
    char *made = temp_dir_path(&bench.dir, "vms/7/disk-root.qcow2");
    order.vm.disks[order.vm.disk_count++] = (struct engine_disk){
        .name = "root", .from = DISK_FROM_IMAGE, .read_only = true, .size_bytes = MIB};
    order.vm.limits.disk_count = 1;
    order.vm.limits.disks[0] = (struct engine_disk_limit){"root", {.operations = 500}};
    start_order(&order, false);
    wait_console(UID, "boot sector");
    (void)wait_phase(UID, PHASE_READY);
    close_supervisor();
    json_t *disks = qmp_ask(path, "query-block");
    const json_t *inserted = json_object_get(json_array_get(disks, 0), "inserted");

    ck_assert_uint_eq(json_array_size(disks), 1);
    ck_assert(json_is_true(json_object_get(inserted, "ro")));
    ck_assert_uint_eq(json_member_u64(inserted, "iops", 0), 500);
    ck_assert_int_ne(access(made, F_OK), 0);

    json_decref(disks);
    open_supervisor();
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);
    ck_assert(wait_phase(UID, PHASE_STOPPED).diskless);
    free(path);
    free(made);
}
END_TEST

START_TEST(a_limit_that_cannot_be_in_force_starts_nothing)
{
    struct vm_order order = order_of(UID, 1);
    order.vm.limits.disk_count = 1;
    order.vm.limits.disks[0] = (struct engine_disk_limit){"other", {.operations = 500}};
    start_order(&order, false);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "a limit is not in force") != NULL, "%s",
                  failed.reason);
}
END_TEST

START_TEST(a_guest_that_ignores_the_button_is_killed_at_the_deadline)
{
    close_supervisor();
    bench.ending_ms = 10;
    open_supervisor();
    struct vm_report ready = boot(UID);
    ck_assert_int_eq(kill(ready.pid, SIGSTOP), 0); /* deaf to SIGTERM likewise */

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, 60000, NULL), 0);
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, 10, NULL), 0);

    ck_assert_ptr_nonnull(strstr(wait_phase(UID, PHASE_STOPPED).reason, "was killed"));
}
END_TEST

/* QEMU holds tables of its disks in memory, and writes them out when it ends by itself;
 * then it takes its sockets away, too, which one that is killed cannot. */
static void ck_ended_by_itself(void)
{
    char *path = temp_dir_path(&bench.dir, "vms/7/qmp.sock");
    ck_assert_int_eq(access(path, F_OK), -1);
    free(path);
}

START_TEST(a_stopped_guest_leaves_a_qemu_that_writes_out_its_disks)
{
    (void)boot(UID);

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);
    (void)wait_phase(UID, PHASE_STOPPED);

    ck_ended_by_itself();
}
END_TEST

START_TEST(a_guest_that_is_deaf_to_the_button_does_so_too_at_the_deadline)
{
    struct vm_order order = order_of(UID, 1);
    order.vm.disks[0] = (struct engine_disk){
        .name = "root", .from = DISK_FROM_IMAGE, .size_bytes = 4 * MIB};
    order.vm.disk_count = 1;
    write_image(writes, sizeof(writes));
    start_order(&order, false);
    wait_console(UID, "w");

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, 10, NULL), 0);
    struct vm_report stopped = wait_phase(UID, PHASE_STOPPED);

    ck_assert_ptr_nonnull(strstr(stopped.reason, "did not shut down in time"));
    ck_ended_by_itself();
}
END_TEST

/* Not for its disks either: by the end of the lease it runs elsewhere. */
START_TEST(a_lease_that_ends_waits_for_no_qemu_that_is_asked_to_end)
{
    close_supervisor();
    bench.ending_ms = UINT64_C(3600) * 1000; /* far beyond the bench's own deadline */
    open_supervisor();
    struct vm_report ready = boot(UID);
    ck_assert_int_eq(kill(ready.pid, SIGSTOP), 0);
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, 0, NULL), 0);
    uv_run(&bench.loop, UV_RUN_ONCE); /* the grace is over, and it was asked */
    ck_assert_int_eq(report_of(UID).phase, PHASE_STOPPING);

    ck_assert_uint_eq(vm_supervisor_kill_all(bench.supervisor, "its lease is over"), 1);

    while (report_of(UID).alive) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_str_eq(report_of(UID).reason,
                     "its lease is over, before its disks were written out: what the "
                     "guest did not flush may be missing");
}
END_TEST

struct outside {
    int signal_number;
    const char *word;
};

static const struct outside outsides[] = {
    {SIGKILL, "crashed: ended by SIGKILL"},
    {SIGTERM, "QEMU was ended from outside: host-signal"},
};

START_TEST(a_qemu_ended_from_outside_is_a_failure_not_a_shutdown)
{
    struct vm_report ready = boot(UID);

    ck_assert_int_eq(kill(ready.pid, outsides[_i].signal_number), 0);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);
    ck_assert_msg(strstr(failed.reason, outsides[_i].word) != NULL, "%s", failed.reason);
}
END_TEST

/* ---- guests and hosts in trouble ---- */

START_TEST(a_guest_that_resets_again_and_again_has_failed)
{
    struct vm_order order = order_of(UID, 1);
    write_image(resets, sizeof(resets));
    start_order(&order, false);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "reset itself 8 times in a row") != NULL, "%s",
                  failed.reason);
}
END_TEST

START_TEST(a_guest_that_says_it_panicked_has_failed)
{
    struct vm_order order = order_of(UID, 1);
    write_image(panics, sizeof(panics));
    start_order(&order, false);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "panic") != NULL, "%s", failed.reason);
}
END_TEST

START_TEST(a_guest_that_resets_twice_is_told_of_and_goes_on)
{
    struct vm_order order = order_of(UID, 1);
    write_image(resets_twice, sizeof(resets_twice));
    start_order(&order, false);

    wait_reason(UID, "times in a row");

    ck_assert_int_eq(wait_phase(UID, PHASE_READY).phase, PHASE_READY);
}
END_TEST

/* ---- the daemon goes and comes back ---- */

static void add_real(Suite *suite)
{
    TCase *tests = tcase_create("qemu");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_guest_boots_talks_listens_and_obeys_the_power_button);
    tcase_add_test(tests, a_guest_that_powers_itself_off_has_stopped);
    tcase_add_test(tests, a_stopped_guest_leaves_a_qemu_that_writes_out_its_disks);
    tcase_add_test(tests, a_guest_that_is_deaf_to_the_button_does_so_too_at_the_deadline);
    tcase_add_test(tests, a_lease_that_ends_waits_for_no_qemu_that_is_asked_to_end);
    tcase_add_test(tests, a_held_guest_does_not_run_until_it_is_told);
    tcase_add_test(tests, a_guest_runs_with_its_limits_and_takes_on_others);
    tcase_add_test(tests, a_guest_boots_from_a_disk_that_it_only_reads);
    tcase_add_test(tests, a_limit_that_cannot_be_in_force_starts_nothing);
    tcase_add_test(tests, a_guest_that_ignores_the_button_is_killed_at_the_deadline);
    tcase_add_loop_test(tests, a_qemu_ended_from_outside_is_a_failure_not_a_shutdown, 0,
                        sizeof(outsides) / sizeof(outsides[0]));
    tcase_add_test(tests, a_guest_that_resets_again_and_again_has_failed);
    tcase_add_test(tests, a_guest_that_resets_twice_is_told_of_and_goes_on);
    tcase_add_test(tests, a_guest_that_says_it_panicked_has_failed);
    suite_add_tcase(suite, tests);
}

int main(void)
{
    if (!qemu_is_here()) {
        return test_main_skip("it takes qemu-system-x86_64 and qemu-img");
    }
    Suite *suite = suite_create("engine_qemu_guest");
    add_real(suite);
    return test_main_run(suite);
}
