/* Goal: QEMU's VMs outlive their daemon and are taken over as they are. Method: real
 * QEMU, whose supervisor is killed (qemu_fixture.h). */
#include "agent/vm_stats.h"
#include "qemu_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the daemon goes and comes back ---- */

static void boot_it(void)
{
    (void)boot(UID);
}

static void daemon_dies(void)
{
    daemon_dies_after(boot_it);
}

START_TEST(a_guest_outlives_its_daemon_and_is_taken_over_with_its_console)
{
    daemon_dies();
    open_supervisor();
    struct vm_report report = report_of(UID);
    ck_assert(report.adopted);
    ck_assert_int_eq(report.phase, PHASE_RUNNING);
    ck_assert_int_eq(kill(report.pid, 0), 0);

    type(UID, "still here");
    wait_console(UID, "still here"); /* the same guest answers */
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);

    ck_assert_str_eq(wait_phase(UID, PHASE_STOPPED).reason, "stopped");
}
END_TEST

/* Its template names no disk: it has booted its image's, which is counted as well. */
START_TEST(a_disk_that_nobody_asked_for_is_counted_after_a_take_over)
{
    const struct engine_vm devices = {.disk_count = 0};
    bench.stats_ms = 20;
    daemon_dies();
    open_supervisor();
    ck_assert(report_of(UID).devices_due);

    ck_assert_int_eq(vm_supervisor_devices(bench.supervisor, UID, 1, &devices, NULL), 0);
    const struct vm_stats *stats = NULL;
    while (stats == NULL || stats->told_ms == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
        stats = vm_supervisor_stats(bench.supervisor, UID);
    }

    ck_assert(!report_of(UID).devices_due);
    ck_assert_uint_eq(stats->disk_count, 1);
    ck_assert_str_eq(stats->disks[0].name, "root");
    ck_assert_uint_gt(stats->disks[0].verbs[VM_DISK_READ].numbers[VM_DISK_OPERATIONS], 0);
}
END_TEST

/* No loop turn between the take-over and the stop: the connection is not up yet. */
START_TEST(a_stop_right_after_the_take_over_is_a_graceful_one)
{
    daemon_dies();
    open_supervisor();

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);

    ck_assert_str_eq(wait_phase(UID, PHASE_STOPPED).reason, "stopped");
}
END_TEST

static bool ring_says(const struct console_ring *ring, const char *text)
{
    char said[256];
    uint64_t offset = 0;
    size_t count = console_ring_read(ring, &offset, said, sizeof(said) - 1);
    said[count] = '\0';
    return strstr(said, text) != NULL;
}

/* The console of an agent that is away: whoever connects may type. Goes when the guest
 * has echoed all of it, for QEMU drops what it has not read by then; a single byte, which
 * may bring no echo, is read with the connection. */
static void type_past_the_agent(const char *text)
{
    struct console_ring *ring = console_ring_new();
    char path[ENGINE_PATH_SIZE];
    (void)snprintf(path, sizeof(path), "%s/vms/%d/console.sock", bench.dir.path, UID);
    struct console_link *link = console_link_open(&bench.loop, path, ring, NULL);
    ck_assert_int_eq(console_link_write(link, text, strlen(text)), 0);
    while (!console_link_connected(link)) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    for (unsigned turn = 0; turn < 5 || (text[1] != '\0' && !ring_says(ring, text));
         turn++) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    console_link_close(link);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
    console_ring_free(ring);
}

START_TEST(what_a_guest_said_while_the_daemon_was_away_is_in_its_console)
{
    char text[256];
    uint64_t offset = 0;
    daemon_dies();
    type_past_the_agent("while you were away, ");

    open_supervisor();
    wait_console(UID, "away, "); /* the guest is silent: it comes without its help */
    type(UID, "and now");
    wait_console(UID, "and now");

    size_t count = console_ring_read(vm_supervisor_console(bench.supervisor, UID),
                                     &offset, text, sizeof(text) - 1);
    text[count] = '\0';
    ck_assert_str_eq(text, "boot sector\r\nwhile you were away, and now");
}
END_TEST

START_TEST(a_guest_that_powered_off_while_the_daemon_was_away_has_stopped)
{
    daemon_dies();
    type_past_the_agent("q");
    open_supervisor();

    struct vm_report stopped = wait_phase(UID, PHASE_STOPPED);

    ck_assert_str_eq(stopped.reason, "guest shutdown");
}
END_TEST

START_TEST(a_frozen_guest_is_taken_over_thawed_and_goes_on)
{
    struct vm_record record;
    char folder[ENGINE_PATH_SIZE];
    daemon_dies();
    (void)snprintf(folder, sizeof(folder), "%s/vms/%d", bench.dir.path, UID);
    ck_assert_int_eq(vm_record_read(folder, &record, NULL), 0);
    ck_assert_int_eq(kill(record.identity.pid, SIGSTOP), 0);
    while (!vm_process_pid_is_stopped(record.identity.pid)) {
        sched_yield();
    }

    open_supervisor();
    ck_assert(report_of(UID).frozen);
    for (unsigned turn = 0; turn < 20; turn++) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(vm_supervisor_resume_all(bench.supervisor), 1);

    type(UID, "thawed");
    wait_console(UID, "thawed");
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);
    ck_assert_str_eq(wait_phase(UID, PHASE_STOPPED).reason, "stopped");
}
END_TEST

START_TEST(a_frozen_guest_says_nothing_and_dies_at_once)
{
    struct vm_report ready = boot(UID);

    ck_assert_uint_eq(vm_supervisor_freeze_all(bench.supervisor), 1);
    while (!vm_process_pid_is_stopped(ready.pid)) {
        sched_yield();
    }
    ck_assert_uint_eq(vm_supervisor_kill_all(bench.supervisor, "lease over"), 1);

    ck_assert_str_eq(wait_phase(UID, PHASE_FAILED).reason, "lease over");
}
END_TEST

static void add_real(Suite *suite)
{
    TCase *tests = tcase_create("qemu");
    tcase_set_timeout(tests, 90);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_guest_outlives_its_daemon_and_is_taken_over_with_its_console);
    tcase_add_test(tests, a_disk_that_nobody_asked_for_is_counted_after_a_take_over);
    tcase_add_test(tests, a_stop_right_after_the_take_over_is_a_graceful_one);
    tcase_add_test(tests, what_a_guest_said_while_the_daemon_was_away_is_in_its_console);
    tcase_add_test(tests, a_guest_that_powered_off_while_the_daemon_was_away_has_stopped);
    tcase_add_test(tests, a_frozen_guest_is_taken_over_thawed_and_goes_on);
    tcase_add_test(tests, a_frozen_guest_says_nothing_and_dies_at_once);
    suite_add_tcase(suite, tests);
}

int main(void)
{
    if (!qemu_is_here()) {
        return test_main_skip("it takes qemu-system-x86_64 and qemu-img");
    }
    Suite *suite = suite_create("engine_qemu_adopt");
    add_real(suite);
    return test_main_run(suite);
}
