/* Goal: what is reported of VMs is what is, and the disks of a run are those that were
 * named. Method: real processes of the fake engine (supervisor_fixture.h). */
#include "supervisor_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static bool has_gone(void)
{
    char *path = temp_dir_path(&bench.dir, "vms/7/gone-0");
    bool has = access(path, F_OK) == 0;
    free(path);
    return has;
}

/* By the run after it, or where a daemon was killed before it could, by the next one. */
START_TEST(the_disks_of_a_run_before_are_removed_behind_it)
{
    run_and_stop(1, 0, "");
    temp_dir_write(&bench.dir, DISK, "x");
    if (_i == 0) {
        run_and_stop(2, 0, "");
    } else {
        close_supervisor();
        temp_dir_write(&bench.dir, "vms/7/gone-0", "x");
        open_supervisor();
    }

    while (has_gone()) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    ck_assert_int_eq(has_disk(), _i == 1);
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

/* ---- the rest ---- */

static uint64_t stepped_ns = NS_PER_S;

static uint64_t stepped_now_ns(void *context)
{
    (void)context;
    return stepped_ns;
}

static uint64_t stepped_wall_ms(void *context)
{
    (void)context;
    return stepped_ns / NS_PER_MS;
}

/* Goes on between samples alone: one who takes a sample may have to wait in the middle of
 * it. */
static const struct clock stepped = {.now_ns = stepped_now_ns,
                                     .wall_ms = stepped_wall_ms};

START_TEST(the_cpu_use_of_a_fake_vm_is_what_the_control_file_says)
{
    uint32_t permille = 0;
    uint64_t memory = 0;
    close_supervisor();
    bench.clock = &stepped;
    open_supervisor();
    start(UID, 1, false);
    (void)wait_phase(UID, PHASE_READY);
    write_control(UID, "cpu=730 memory=1000000\n");
    ck_assert_int_eq(vm_supervisor_sample(bench.supervisor, UID, &permille, &memory),
                     BERTH_EBUSY);

    stepped_ns += NS_PER_S;
    ck_assert_int_eq(vm_supervisor_sample(bench.supervisor, UID, &permille, &memory), 0);

    ck_assert_uint_eq(permille, 730);
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

static void ck_limits_told(const char *want)
{
    CLEANUP_FREE char *text = temp_dir_read(&bench.dir, "vms/7/limits");
    ck_assert_str_eq(text == NULL ? "" : text, want);
}

START_TEST(limits_are_told_once_and_again_to_a_process_that_was_taken_over)
{
    struct vm_order order = order_of(UID, 1);
    struct disk_spec disk = {.name = "data", .limit = {.operations = 500}};
    const struct machine_spec machine = {.disks = {&disk, 1}};
    engine_limits_of(&machine, &order.vm.limits);
    start_order(&order, false);
    (void)wait_phase(UID, PHASE_READY);
    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, UID, 1, &machine, NULL), 0);
    ck_limits_told(""); /* it has begun with them */

    disk.limit.operations = 900;
    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, UID, 1, &machine, NULL), 0);
    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, UID, 1, &machine, NULL), 0);
    ck_limits_told("data 900 0\n");

    wait_record(UID, VM_RECORD_RUNNING);
    close_supervisor();
    open_supervisor();
    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, UID, 1, &machine, NULL), 0);
    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, UID, 1, &machine, NULL), 0);
    ck_limits_told("data 900 0\ndata 900 0\n");
}
END_TEST

/* The fake engine adds none while a VM runs, as QEMU does not. */
START_TEST(cpus_that_cannot_come_now_are_told_of)
{
    struct cpu_spec cpu = {.count = 2};
    struct vm_order order = order_of(UID, 1);
    start_order(&order, false);
    (void)wait_phase(UID, PHASE_READY);
    cpu.count = 4; /* without a maximum it stays what it was */
    ck_assert_int_eq(vm_supervisor_cpus(bench.supervisor, UID, 1, &cpu, NULL), 0);
    ck_assert_str_eq(report_of(UID).reason, "");

    cpu.max = 4;
    ck_assert_int_eq(vm_supervisor_cpus(bench.supervisor, UID, 1, &cpu, NULL), 0);
    ck_assert_str_eq(report_of(UID).reason,
                     "it has 2 CPUs, and 4 from its next start on: engine fake adds none "
                     "while it runs");
    cpu.count = 1;
    ck_assert_int_eq(vm_supervisor_cpus(bench.supervisor, UID, 1, &cpu, NULL), 0);
    ck_assert_str_eq(
        report_of(UID).reason,
        "it has 2 CPUs, and 1 from its next start on: engine fake takes away "
        "none while it runs");
    cpu.count = 2;
    ck_assert_int_eq(vm_supervisor_cpus(bench.supervisor, UID, 1, &cpu, NULL), 0);
    ck_assert_str_eq(report_of(UID).reason, "");
    ck_assert_int_eq(vm_supervisor_cpus(bench.supervisor, 99, 1, &cpu, NULL),
                     BERTH_ENOTFOUND);
}
END_TEST

/* An engine that plugs: what it is told, and whom it tells. */
static const struct engine_events *told;
static void *told_context;
static uint32_t plug_wanted;

static struct engine_run *plugging_start(const struct engine_host *host,
                                         const struct engine_vm *vm,
                                         struct console_ring *console,
                                         const struct engine_events *events,
                                         void *context,
                                         struct err *err)
{
    told = events;
    told_context = context;
    return engine_fake.start(host, vm, console, events, context, err);
}

static void plugging_plug(struct engine_run *run, uint32_t cpu_count)
{
    (void)run;
    plug_wanted = cpu_count;
}

static void wait_record_cpus(uint32_t count)
{
    struct vm_record record;
    char *folder = temp_dir_path(&bench.dir, "vms/7");
    do {
        uv_run(&bench.loop, UV_RUN_ONCE);
        ck_assert_int_eq(vm_record_read(folder, &record, NULL), 0);
    } while (record.order.vm.cpu_count != count);
    free(folder);
}

START_TEST(a_cpu_that_is_not_there_yet_is_told_of_until_it_is)
{
    static const char why[] = "a CPU is not there yet: busy";
    struct engine_ops plugging = engine_fake;
    const struct engine_ops *const only[] = {&plugging, NULL};
    struct cpu_spec cpu = {.count = 4, .max = 4};
    struct vm_order order = order_of(UID, 1);
    plugging.start = plugging_start;
    plugging.plug = plugging_plug;
    close_supervisor();
    bench.engines = only;
    open_supervisor();
    start_order(&order, true);
    (void)wait_held(UID);
    told->plugged(told_context, 1, why); /* of its two, before it begins */
    ck_assert_str_eq(report_of(UID).reason, "");

    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);
    (void)wait_phase(UID, PHASE_READY);
    ck_assert_str_eq(report_of(UID).reason, why);
    told->plugged(told_context, 2, NULL);
    ck_assert_str_eq(report_of(UID).reason, "");

    ck_assert_int_eq(vm_supervisor_cpus(bench.supervisor, UID, 1, &cpu, NULL), 0);
    ck_assert_uint_eq(plug_wanted, 4);
    told->plugged(told_context, 3, why);
    ck_assert_str_eq(report_of(UID).reason, why);
    wait_record_cpus(3); /* as it is, not as it is wanted */
    cpu.count = 2;
    ck_assert_int_eq(vm_supervisor_cpus(bench.supervisor, UID, 1, &cpu, NULL), 0);
    ck_assert_uint_eq(plug_wanted, 2); /* the fourth is not to come any more */
    ck_assert_str_eq(
        report_of(UID).reason,
        "it has 3 CPUs, and 2 from its next start on: engine fake takes away "
        "none while it runs");
    cpu.count = 4;
    ck_assert_int_eq(vm_supervisor_cpus(bench.supervisor, UID, 1, &cpu, NULL), 0);
    ck_assert_str_eq(report_of(UID).reason, why);
    told->plugged(told_context, 4, NULL);
    ck_assert_str_eq(report_of(UID).reason, "");
    wait_record_cpus(4);
    vm_supervisor_each(bench.supervisor, kill_one, NULL);
    close_supervisor(); /* its engine goes */
}
END_TEST

START_TEST(limits_of_another_epoch_are_not_told)
{
    struct disk_spec disk = {.name = "data", .limit = {.operations = 500}};
    const struct machine_spec machine = {.disks = {&disk, 1}};
    start(UID, 2, false);
    (void)wait_phase(UID, PHASE_READY);

    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, UID, 1, &machine, NULL),
                     BERTH_ESTALE);
    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, UID, 3, &machine, NULL), 0);
    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, 99, 1, &machine, NULL),
                     BERTH_ENOTFOUND);

    ck_limits_told("");
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
    tcase_add_test(tests, disks_are_those_of_the_run_that_is_named_or_new);
    tcase_add_loop_test(tests, the_disks_of_a_run_before_are_removed_behind_it, 0, 2);
    tcase_add_test(tests, disks_that_were_used_once_are_never_made_anew);
    tcase_add_test(tests, disks_that_are_not_here_start_nothing);
    tcase_add_test(tests, kept_disks_name_the_image_they_were_made_on);
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
    tcase_add_test(tests,
                   limits_are_told_once_and_again_to_a_process_that_was_taken_over);
    tcase_add_test(tests, cpus_that_cannot_come_now_are_told_of);
    tcase_add_test(tests, a_cpu_that_is_not_there_yet_is_told_of_until_it_is);
    tcase_add_test(tests, limits_of_another_epoch_are_not_told);
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
    add_rest(suite);
    return test_main_run(suite);
}
