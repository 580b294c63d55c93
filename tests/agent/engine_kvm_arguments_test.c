/* Goal: berth-vmm is started with exactly what we mean, by descriptors alone, or not at
 * all. Method: golden argument lists; VMs with one thing wrong; disks in a folder. */
#include "agent/argument_list.h"
#include "agent/engine_kvm.h"
#include "agent/engine_qemu.h"
#include "agent/vm_process.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct engine_host native = {.kvm = KVM_NATIVE};

static struct engine_vm kernel_vm(void)
{
    struct engine_vm vm = {
        .uid = 7,
        .epoch = 2,
        .name = "web-1",
        .tenant = "shop",
        .cpu_count = 2,
        .memory_bytes = 128 * MIB,
        .kernel_path = "/images/kernel",
        .initrd_path = "/images/initrd",
        .disk_path = "/images/00112233445566778899aabbccddeeff00112233445566778899aabb"
                     "ccddeeff",
        .cmdline = "quiet",
        .disks = {{.name = "root", .from = DISK_FROM_IMAGE},
                  {.name = "data", .from = DISK_EMPTY, .size_bytes = MIB}},
        .disk_count = 2,
        .nics = {{.mac = 0x525400000007, .tap = "bt7"}},
        .nic_count = 1,
        .folder = "/state/a,b/vms/7",
    };
    return vm;
}

static void ck_arguments(char **arguments, const char *const *want)
{
    ck_assert_ptr_nonnull(arguments);
    for (unsigned i = 0; want[i] != NULL || arguments[i] != NULL; i++) {
        ck_assert_msg(want[i] != NULL, "too many: %s", arguments[i]);
        ck_assert_msg(arguments[i] != NULL, "missing: %s", want[i]);
        ck_assert_str_eq(arguments[i], want[i]);
    }
    argument_list_free(arguments);
}

#define HEAD                                                                    \
    "berth-vmm", "--name", "shop/web-1", "--hold", "--keep-end", "--cpus", "2", \
        "--memory", "128MiB", "--cmdline"

START_TEST(everything_is_handed_over_by_number)
{
    static const char *const want[] = {
        HEAD,
        "console=ttyS0 panic=-1 quiet",
        "--kvm",
        "fd:5",
        "--kernel",
        "fd:6",
        "--initrd",
        "fd:7",
        "--qmp",
        "fd:8",
        "--serial",
        "fd:9",
        "--vsock",
        "cid=3,listen=fd:10",
        "--disk",
        "name=root,overlay=fd:11,base=fd:12,digest="
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "--disk",
        "name=data,overlay=fd:13",
        "--nic",
        "tap=fd:14,mac=52:54:00:00:00:07,mtu=1450",
        NULL};
    const struct engine_vm vm = kernel_vm();
    const struct engine_kvm_tap taps[] = {{1450, 1, false}};

    ck_arguments(engine_kvm_arguments(&native, &vm, taps), want);
}
END_TEST

START_TEST(a_vm_has_the_baseline_and_the_pages_that_it_asks_for)
{
    static const char *const want[] = {"berth-vmm",
                                       "--name",
                                       "shop/web-1",
                                       "--hold",
                                       "--keep-end",
                                       "--cpus",
                                       "2",
                                       "--cpu",
                                       "x86-64-v3",
                                       "--memory",
                                       "size=128MiB,huge=2M",
                                       "--cmdline",
                                       "console=ttyS0 panic=-1 quiet",
                                       "--kvm",
                                       "fd:5",
                                       "--kernel",
                                       "fd:6",
                                       "--qmp",
                                       "fd:7",
                                       "--serial",
                                       "fd:8",
                                       "--vsock",
                                       "cid=3,listen=fd:9",
                                       NULL};
    struct engine_vm vm = kernel_vm();
    vm.cpu_baseline = CPU_BASELINE_V3;
    vm.memory_is_huge = true;
    vm.initrd_path[0] = '\0';
    vm.disk_count = 0;
    vm.nic_count = 0;

    ck_arguments(engine_kvm_arguments(&native, &vm, NULL), want);
}
END_TEST

START_TEST(a_disk_that_is_only_read_is_the_images)
{
    static const char *const want[] = {
        HEAD,       "console=ttyS0 panic=-1 quiet",
        "--kvm",    "fd:5",
        "--kernel", "fd:6",
        "--qmp",    "fd:7",
        "--serial", "fd:8",
        "--vsock",  "cid=3,listen=fd:9",
        "--disk",   "name=root,raw=fd:10,read-only=yes,iops=50",
        "--disk",   "name=data,overlay=fd:11",
        NULL};
    struct engine_vm vm = kernel_vm();
    vm.initrd_path[0] = '\0';
    vm.disks[0].read_only = true;
    vm.limits.disk_count = 1;
    vm.limits.disks[0].limit.operations = 50;
    vm.nic_count = 0;

    ck_arguments(engine_kvm_arguments(&native, &vm, NULL), want);
}
END_TEST

START_TEST(what_it_goes_on_from_is_handed_over_behind_the_channels)
{
    static const char *const want[] = {HEAD,         "console=ttyS0 panic=-1 quiet",
                                       "--kvm",      "fd:5",
                                       "--kernel",   "fd:6",
                                       "--qmp",      "fd:7",
                                       "--serial",   "fd:8",
                                       "--vsock",    "cid=3,listen=fd:9",
                                       "--incoming", "fd:10",
                                       "--disk",     "name=data,overlay=fd:11",
                                       NULL};
    static const char *const want_lazy[] = {HEAD,
                                            "console=ttyS0 panic=-1 quiet",
                                            "--kvm",
                                            "fd:5",
                                            "--kernel",
                                            "fd:6",
                                            "--qmp",
                                            "fd:7",
                                            "--serial",
                                            "fd:8",
                                            "--vsock",
                                            "cid=3,listen=fd:9",
                                            "--incoming",
                                            "fd:10",
                                            "--lazy",
                                            "--disk",
                                            "name=data,overlay=fd:11",
                                            NULL};
    struct engine_vm vm = kernel_vm();
    vm.initrd_path[0] = '\0';
    vm.disks[0] = vm.disks[1];
    vm.disk_count = 1;
    vm.nic_count = 0;
    (void)snprintf(vm.memory_path, sizeof(vm.memory_path), "/snapshots/1/memory");

    ck_arguments(engine_kvm_arguments(&native, &vm, NULL), want);
    vm.memory_is_lazy = true;
    ck_arguments(engine_kvm_arguments(&native, &vm, NULL), want_lazy);
}
END_TEST

START_TEST(a_vm_begins_with_the_limits_of_its_devices)
{
    static const char *const want[] = {HEAD,
                                       "console=ttyS0 panic=-1 quiet",
                                       "--kvm",
                                       "fd:5",
                                       "--kernel",
                                       "fd:6",
                                       "--qmp",
                                       "fd:7",
                                       "--serial",
                                       "fd:8",
                                       "--vsock",
                                       "cid=3,listen=fd:9",
                                       "--disk",
                                       "name=data,overlay=fd:10,bps=1048576B,"
                                       "bps-max=2097152B,iops=500,iops-max=600",
                                       "--nic",
                                       "tap=fd:11,mac=52:54:00:00:00:07,mtu=1450,"
                                       "rx-bps=125000B,rx-pps=70,"
                                       "tx-bps=125000B,tx-pps=70",
                                       NULL};
    struct engine_vm vm = kernel_vm();
    const struct engine_kvm_tap taps[] = {{1450, 1, false}};
    vm.initrd_path[0] = '\0';
    vm.disks[0] = vm.disks[1];
    vm.disk_count = vm.limits.disk_count = vm.limits.nic_count = 1;
    vm.limits.disks[0] = (struct engine_disk_limit){"data", {500, 600, MIB, 2 * MIB}};
    vm.limits.nics[0] = (struct engine_limit){.operations = 70, .bytes = 125000};

    ck_arguments(engine_kvm_arguments(&native, &vm, taps), want);
}
END_TEST

START_TEST(the_queues_of_a_tap_follow_each_other)
{
    const struct engine_kvm_tap taps[] = {{1450, 3, true}, {1500, 1, false}};
    struct engine_vm vm = kernel_vm();
    vm.disk_count = 0;
    vm.nics[vm.nic_count++] = (struct engine_nic){.mac = 0x525400000008, .tap = "bt8"};
    char **arguments = engine_kvm_arguments(&native, &vm, taps);
    unsigned found = 0;
    for (size_t i = 0; arguments[i] != NULL; i++) {
        found +=
            strcmp(arguments[i],
                   "tap=fd:11,mac=52:54:00:00:00:07,mtu=1450,queues=3,vhost=fd:14") == 0;
        found += strcmp(arguments[i], "tap=fd:17,mac=52:54:00:00:00:08,mtu=1500") == 0;
    }
    ck_assert_uint_eq(found, 2);
    argument_list_free(arguments);
}
END_TEST

START_TEST(where_cpus_may_come_one_does_before_the_guest_begins)
{
    static const char *const counts_of[] = {"2", "count=2,max=8", "count=2,max=3",
                                            "count=1,max=2", "1"};
    static const uint32_t given[][2] = {{2, 0}, {2, 8}, {2, 3}, {2, 2}, {1, 1}};
    struct engine_vm vm = kernel_vm();
    vm.nic_count = 0;
    vm.cpu_count = given[_i][0];
    vm.cpu_max = given[_i][1];
    char **arguments = engine_kvm_arguments(&native, &vm, NULL);
    ck_assert_ptr_nonnull(arguments);
    ck_assert_str_eq(arguments[6], counts_of[_i]);
    argument_list_free(arguments);
}
END_TEST

START_TEST(there_are_as_many_queues_as_cpus_up_to_eight)
{
    ck_assert_uint_eq(engine_kvm_queues(1), 1);
    ck_assert_uint_eq(engine_kvm_queues(3), 3);
    ck_assert_uint_eq(engine_kvm_queues(64), 8);
}
END_TEST

START_TEST(without_initrd_and_devices_the_numbers_close_up)
{
    const struct engine_host host = {.kvm = KVM_NATIVE, .first_uid = 2000000000};
    static const char *const want[] = {HEAD,       "console=ttyS0 panic=-1",
                                       "--uids",   "2000000000",
                                       "--kvm",    "fd:5",
                                       "--kernel", "fd:6",
                                       "--qmp",    "fd:7",
                                       "--serial", "fd:8",
                                       "--vsock",  "cid=3,listen=fd:9",
                                       NULL};
    struct engine_vm vm = kernel_vm();
    vm.initrd_path[0] = vm.cmdline[0] = '\0';
    vm.disk_count = vm.nic_count = 0;

    ck_arguments(engine_kvm_arguments(&host, &vm, NULL), want);
}
END_TEST

START_TEST(the_largest_vm_fits_the_argument_list_and_the_descriptors)
{
    const struct engine_limit most = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    struct engine_vm vm = kernel_vm();
    struct engine_kvm_tap taps[NICS_MAX];
    for (unsigned i = 0; i < NICS_MAX; i++) {
        taps[i] = (struct engine_kvm_tap){65535, engine_kvm_queues(UINT32_MAX), true};
    }
    for (vm.disk_count = 0; vm.disk_count < DISKS_MAX; vm.disk_count++) {
        (void)snprintf(vm.disks[vm.disk_count].name, NAME_SIZE, "d%u", vm.disk_count);
        vm.disks[vm.disk_count].from = DISK_FROM_IMAGE;
        vm.limits.disks[vm.disk_count].limit = most;
    }
    vm.limits.disk_count = DISKS_MAX;
    vm.limits.nic_count = NICS_MAX;
    for (unsigned i = 0; i < NICS_MAX; i++) {
        vm.limits.nics[i] = most;
    }
    for (vm.nic_count = 0; vm.nic_count < NICS_MAX; vm.nic_count++) {
        vm.nics[vm.nic_count] = vm.nics[0];
    }
    memset(vm.cmdline, 'x', sizeof(vm.cmdline) - 1);

    char **arguments = engine_kvm_arguments(&native, &vm, taps);

    ck_assert_ptr_nonnull(arguments);
    argument_list_free(arguments);
    ck_assert_uint_le(7 + 2 * DISKS_MAX + NICS_MAX * 2 * engine_kvm_queues(UINT32_MAX),
                      VM_PROCESS_GIVEN_MAX);
}
END_TEST

/* ---- what it can run ---- */

static void break_name(struct engine_vm *vm)
{
    (void)snprintf(vm->name, sizeof(vm->name), "web,readonly=on");
}

static void break_disk_name(struct engine_vm *vm)
{
    (void)snprintf(vm->disks[0].name, sizeof(vm->disks[0].name), "../../etc");
}

static void break_image(struct engine_vm *vm)
{
    vm->disk_path[0] = '\0';
}

static void break_boot(struct engine_vm *vm)
{
    vm->kernel_path[0] = '\0';
}

static void break_qcow2(struct engine_vm *vm)
{
    vm->disk_is_qcow2 = true;
}

static void break_memory(struct engine_vm *vm)
{
    vm->memory_bytes = 129 * MIB;
}

static void break_little_memory(struct engine_vm *vm)
{
    vm->memory_bytes = 16 * MIB;
}

static void break_cpus(struct engine_vm *vm)
{
    vm->cpu_count = 65;
}

struct break_row {
    void (*change)(struct engine_vm *vm);
    int code;
};

static const struct break_row breaks[] = {
    {break_name, BERTH_EINVALID},
    {break_disk_name, BERTH_EINVALID},
    {break_image, BERTH_EINVALID},
    {break_boot, BERTH_EUNSUPPORTED},
    {break_qcow2, BERTH_EUNSUPPORTED},
    {break_memory, BERTH_EUNSUPPORTED},
    {break_little_memory, BERTH_EUNSUPPORTED},
    {break_cpus, BERTH_EUNSUPPORTED},
};

START_TEST(what_it_cannot_run_is_refused_in_words)
{
    struct engine_vm vm = kernel_vm();
    struct err err = {0};

    breaks[_i].change(&vm);

    ck_assert_int_eq(engine_kvm.check(&native, &vm, &err), breaks[_i].code);
    ck_assert_str_ne(err.text, "");
}
END_TEST

START_TEST(without_a_native_kvm_there_is_no_engine_kvm)
{
    const struct engine_host host = {.kvm = (enum kvm_kind)_i};
    const struct engine_vm vm = kernel_vm();
    struct err err = {0};

    ck_assert_int_eq(engine_kvm.check(&host, &vm, &err), BERTH_EUNSUPPORTED);

    ck_assert_ptr_nonnull(strstr(err.text, "needs native KVM"));
}
END_TEST

START_TEST(the_other_engines_disks_are_left_alone)
{
    struct temp_dir dir;
    struct engine_vm vm = kernel_vm();
    struct err err = {0};
    const struct engine_ops *other = _i == 0 ? &engine_kvm : &engine_qemu;
    temp_dir_init(&dir);
    (void)snprintf(vm.folder, sizeof(vm.folder), "%.80s", dir.path);
    char *disk = temp_dir_path(&dir, _i == 0 ? "disk-data.qcow2" : "disk-data.overlay");
    (void)close(open(disk, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));

    ck_assert_int_eq(other->check(&native, &vm, &err), BERTH_EUNSUPPORTED);

    ck_assert_ptr_nonnull(strstr(err.text, "disk data is a"));
    free(disk);
    temp_dir_fini(&dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_kvm_arguments");
    TCase *tests = tcase_create("engine_kvm_arguments");
    tcase_add_test(tests, everything_is_handed_over_by_number);
    tcase_add_test(tests, a_vm_has_the_baseline_and_the_pages_that_it_asks_for);
    tcase_add_test(tests, a_disk_that_is_only_read_is_the_images);
    tcase_add_test(tests, what_it_goes_on_from_is_handed_over_behind_the_channels);
    tcase_add_test(tests, a_vm_begins_with_the_limits_of_its_devices);
    tcase_add_test(tests, without_initrd_and_devices_the_numbers_close_up);
    tcase_add_test(tests, the_queues_of_a_tap_follow_each_other);
    tcase_add_loop_test(tests, where_cpus_may_come_one_does_before_the_guest_begins, 0,
                        5);
    tcase_add_test(tests, there_are_as_many_queues_as_cpus_up_to_eight);
    tcase_add_test(tests, the_largest_vm_fits_the_argument_list_and_the_descriptors);
    tcase_add_loop_test(tests, what_it_cannot_run_is_refused_in_words, 0,
                        sizeof(breaks) / sizeof(breaks[0]));
    tcase_add_loop_test(tests, without_a_native_kvm_there_is_no_engine_kvm, 0,
                        KVM_NATIVE);
    tcase_add_loop_test(tests, the_other_engines_disks_are_left_alone, 0, 2);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
