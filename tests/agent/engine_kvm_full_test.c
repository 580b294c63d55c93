/* Goal: a VM on a host without room waits, says so, and goes on by itself, without losing
 * a byte: what berth-vmm tells is what the agent hears. Method: the real berth-vmm under
 * the supervisor, all of it in a file system of its own that is filled; the micro guest
 * (tests/vmm/guest) writes its whole disk and reads it again. 77 without KVM or root
 * (tests/system/kvm_machine_test.sh runs this where there are both). */
#include "micro_guest_bench.h"
#include "support/small_fs.h"

#include <check.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>

static int folder; /* the file system */

/* Behind the folder's name, for this process and what it starts. */
static void small_fs_put(const char *path)
{
    folder = small_fs_open(16 * MIB);
    ck_assert_int_ge(folder, 0);
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    ck_assert_int_eq(move_mount(folder, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH), 0);
}

static void setup(void)
{
    static const struct engine_ops *const engines[] = {&engine_kvm, NULL};
    bench_init(engines, 120000);
    small_fs_put(bench.dir.path);
    bench.kvm = KVM_NATIVE;
    open_loop();
    open_supervisor();
}

static void end(void)
{
    ck_assert_int_eq(umount2(bench.dir.path, MNT_DETACH), 0);
    (void)close(folder);
    teardown();
}

static void wait_reason(const char *words)
{
    while (strstr(report_of(UID).reason, words) == NULL) {
        ck_assert_int_ne(report_of(UID).phase, PHASE_FAILED);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

START_TEST(a_vm_on_a_full_host_waits_and_goes_on_when_there_is_room)
{
    boot();
    small_fs_fill(folder, "ballast");
    type(UID, "ggg"); /* all that the guest will ask for */

    wait_reason("paused: the host's disk is full");
    ck_assert_int_eq(unlinkat(folder, "ballast", 0), 0);

    wait_console(UID, "done full\n");
    char text[4096];
    console_text(UID, text, sizeof(text));
    ck_assert_msg(strstr(text, "ok no-room-is-slow") != NULL &&
                      strstr(text, "ok all-is-there") != NULL,
                  "%s", text);
    (void)wait_phase(UID, PHASE_STOPPED); /* it powers itself off */
}
END_TEST

/* Its writes are tried no more: they would succeed. */
START_TEST(one_that_is_paused_on_a_full_host_stays_so_when_there_is_room)
{
    const uint64_t turn_ms = 5; /* of the bench's tick */
    char text[4096];
    close_supervisor();
    bench.waiting_ms = 4 * turn_ms;
    open_supervisor();
    boot();
    small_fs_fill(folder, "ballast");
    type(UID, "ggg");
    wait_reason("paused: the host's disk is full");

    ck_assert_int_eq(vm_supervisor_pause(bench.supervisor, UID, 1, true, NULL), 0);
    wait_reason("paused by its user");
    ck_assert_int_eq(unlinkat(folder, "ballast", 0), 0);
    const uint64_t end_ms = uv_now(&bench.loop) + 10 * bench.waiting_ms;
    while (uv_now(&bench.loop) < end_ms) {
        uv_run(&bench.loop, UV_RUN_ONCE);
        ck_assert(report_of(UID).paused);
    }
    console_text(UID, text, sizeof(text));
    ck_assert_ptr_null(strstr(text, "all-is-there"));

    ck_assert_int_eq(vm_supervisor_pause(bench.supervisor, UID, 1, false, NULL), 0);
    wait_console(UID, "ok all-is-there");
    (void)wait_phase(UID, PHASE_STOPPED);
}
END_TEST

int main(void)
{
    char path[8192];
    const int probe = small_fs_open(MIB);
    if (access(ENGINE_KVM_DEVICE, R_OK | W_OK) != 0 || access(guest_path(), R_OK) != 0) {
        return test_main_skip("there is no KVM here, or no guest for it");
    }
    if (probe < 0) {
        return test_main_skip("no small file system can be made here: that is root's");
    }
    (void)close(probe);
#ifdef __SANITIZE_THREAD__
    return test_main_skip("its runtime calls what berth-vmm's walls keep out");
#endif
    (void)snprintf(path, sizeof(path), "%s:%s", BERTH_BINARY_DIR, getenv("PATH"));
    (void)setenv("PATH", path, 1);
    Suite *suite = suite_create("engine_kvm_full");
    TCase *tests = tcase_create("engine_kvm_full");
    tcase_set_timeout(tests, 150);
    tcase_add_checked_fixture(tests, setup, end);
    tcase_add_test(tests, a_vm_on_a_full_host_waits_and_goes_on_when_there_is_room);
    tcase_add_test(tests, one_that_is_paused_on_a_full_host_stays_so_when_there_is_room);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
