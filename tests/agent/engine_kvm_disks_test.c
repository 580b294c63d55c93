/* Goal: disks are made beside the loop, however long that takes, and a start that is
 * given up meanwhile leaves its folder to nobody until they are no more worked at.
 * Method: the image's disk is leased (fcntl(2), F_SETLEASE), so that whoever opens it
 * waits until the lease is given back; what comes after the disks is engine_kvm_test.c's.
 */
#include "agent/engine_kvm.h"
#include "supervisor_bench.h"

#include <check.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static int image; /* the lease is its */

static void setup(void)
{
    static const struct engine_ops *const engines[] = {&engine_kvm, NULL};
    bench_init(engines, 120000);
    bench.kvm = KVM_NATIVE;
    (void)signal(SIGIO, SIG_IGN); /* who waits for the lease is asked for, not told */
    char *path = temp_dir_path(&bench.dir, "image");
    image = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_ge(image, 0);
    ck_assert_int_eq(ftruncate(image, 1 << 20), 0);
    ck_assert_int_eq(fcntl(image, F_SETLEASE, F_WRLCK), 0);
    free(path);
    open_loop();
    open_supervisor();
}

static void finish(void)
{
    (void)close(image);
    teardown();
}

/* With a disk of its own and, unless it has none, one of the image. */
static struct vm_order order_of(uint64_t epoch, bool with_image)
{
    struct vm_order order = bench_order(UID, epoch, ENGINE_KVM);
    (void)snprintf(order.vm.kernel_path, ENGINE_PATH_SIZE, "%s/kernel", bench.dir.path);
    (void)snprintf(order.vm.disk_path, ENGINE_PATH_SIZE, "%s/image", bench.dir.path);
    order.vm.disks[0] =
        (struct engine_disk){.name = "data", .from = DISK_EMPTY, .size_bytes = MIB};
    order.vm.disks[1] = (struct engine_disk){
        .name = "root", .from = DISK_FROM_IMAGE, .size_bytes = 2 * MIB};
    order.vm.disk_count = with_image ? 2 : 1;
    return order;
}

/* Until the second disk is waited for. */
static void start_and_wait(void)
{
    struct vm_order order = order_of(1, true);
    start_order(&order, false);
    while (fcntl(image, F_GETLEASE) == F_WRLCK) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static void lease_give_back(void)
{
    ck_assert_int_eq(fcntl(image, F_SETLEASE, F_UNLCK), 0);
}

static bool is_there(const char *name)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "vms/%d/%s", UID, name);
    char *whole = temp_dir_path(&bench.dir, path);
    const bool there = access(whole, F_OK) == 0;
    free(whole);
    return there;
}

START_TEST(the_loop_goes_on_while_disks_are_made)
{
    start_and_wait();
    ck_assert_int_eq(report_of(UID).phase, PHASE_STARTING);
    ck_assert(is_there("disk-data.overlay"));
    ck_assert(!is_there("disk-root.overlay"));

    lease_give_back();

    /* The kernel, if not the KVM, is what it lacks when they all are there. */
    ck_assert_ptr_nonnull(strstr(wait_phase(UID, PHASE_FAILED).reason, ": open "));
    ck_assert(is_there("disk-root.overlay"));
    ck_assert(!is_there("disk-root.overlay.new"));
}
END_TEST

START_TEST(a_start_that_is_given_up_ends_at_once_and_keeps_its_folder_until_all_is_over)
{
    struct err err = {0};
    struct vm_order next = order_of(2, false);
    start_and_wait();

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);

    (void)wait_phase(UID, PHASE_STOPPED);
    ck_assert_int_eq(vm_supervisor_start(bench.supervisor, &next, false, &err),
                     BERTH_EINUSE);
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, UID, 1, &err), BERTH_EPHASE);
    ck_assert(is_there("disk-data.overlay")); /* nobody made room for new ones */

    lease_give_back();

    while (vm_supervisor_start(bench.supervisor, &next, false, &err) == BERTH_EINUSE) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    (void)wait_phase(UID, PHASE_FAILED); /* without a kernel */
    ck_assert(is_there("disk-data.overlay"));
    ck_assert(!is_there("disk-root.overlay"));
}
END_TEST

START_TEST(a_supervisor_that_closes_waits_for_no_disk)
{
    start_and_wait();

    close_supervisor();

    ck_assert(!is_there("disk-root.overlay"));
    lease_give_back(); /* the loop goes on until it is made; it harms nobody */
}
END_TEST

START_TEST(a_disk_that_cannot_be_made_says_why)
{
    struct vm_order order = order_of(1, false);
    order.vm.disks[0].size_bytes = MIB + 1;
    start_order(&order, false);
    ck_assert_str_eq(
        wait_phase(UID, PHASE_FAILED).reason,
        "start failed: make disk data: 1048577 bytes: not whole sectors, or none");
    ck_assert(!is_there("disk-data.overlay.new"));
}
END_TEST

/* Where the build has berth-vmm: the engine looks for it in PATH. */
static void find_programs_of_the_build(void)
{
    char path[8192];
    const char *before = getenv("PATH");
    (void)snprintf(path, sizeof(path), "%s:%s", BERTH_BINARY_DIR,
                   before == NULL ? "/usr/bin:/bin" : before);
    (void)setenv("PATH", path, 1);
}

int main(void)
{
    find_programs_of_the_build();
    /* On a machine that the tests were brought to, it is beside them. */
    if (!engine_kvm_is_here() && !test_main_finds(BERTH_BINARY_DIR "/berth-vmm")) {
        return 1;
    }
    Suite *suite = suite_create("engine_kvm_disks");
    TCase *tests = tcase_create("engine_kvm_disks");
    tcase_add_checked_fixture(tests, setup, finish);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, the_loop_goes_on_while_disks_are_made);
    tcase_add_test(
        tests,
        a_start_that_is_given_up_ends_at_once_and_keeps_its_folder_until_all_is_over);
    tcase_add_test(tests, a_supervisor_that_closes_waits_for_no_disk);
    tcase_add_test(tests, a_disk_that_cannot_be_made_says_why);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
