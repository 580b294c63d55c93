/* Goal: QEMU is started with exactly the arguments we mean. Method: golden argument
 * lists. */
#include "agent/argument_list.h"
#include "agent/engine_kvm.h"
#include "agent/engine_qemu.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

#define UID 7

/* ---- arguments ---- */

static struct engine_vm kernel_vm(void)
{
    struct engine_vm vm = {
        .uid = UID,
        .epoch = 2,
        .name = "web-1",
        .tenant = "shop",
        .cpu_count = 2,
        .memory_bytes = 128 * MIB,
        .kernel_path = "/images/kernel",
        .initrd_path = "/images/initrd",
        .cmdline = "quiet",
        .nics = {{.mac = 0x525400000007, .tap = "bt7"}},
        .nic_count = 1,
        .folder = "/state/a,b/vms/7",
    };
    return vm;
}

#define HEAD                                                                        \
    "qemu-system-x86_64", "-name", "shop/web-1,process=berth-web-1", "-nodefaults", \
        "-no-user-config", "-display", "none", "-S", "-sandbox",                    \
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",  \
        "-action", "shutdown=pause,panic=pause,reboot=reset"
#define CHANNELS(bus)                                                               \
    "-chardev",                                                                     \
        "socket,id=console,path=/state/a,,b/vms/7/console.sock,server=on,wait=off," \
        "logfile=/state/a,,b/vms/7/serial.log,logappend=on",                        \
        "-serial", "chardev:console", "-chardev",                                   \
        "socket,id=qmp,path=/state/a,,b/vms/7/qmp.sock,server=on,wait=off", "-mon", \
        "chardev=qmp,mode=control", "-object",                                      \
        "rng-random,id=rng,filename=/dev/urandom", "-device",                       \
        "virtio-rng-" bus ",rng=rng"
#define NIC(bus)                                                                      \
    "-netdev", "tap,id=net0,ifname=bt7,script=no,downscript=no,vhost=off", "-device", \
        "virtio-net-" bus ",netdev=net0,mac=52:54:00:00:00:07"

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

START_TEST(an_emulated_kernel_boots_on_microvm_and_is_told_its_clock)
{
    static const char *const want[] = {
        HEAD,
        "-machine",
        "microvm,acpi=on,pit=off,pic=off,rtc=on,auto-kernel-cmdline=off",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max,-erms,-la57",
        "-smp",
        "2",
        "-m",
        "128M",
        "-kernel",
        "/images/kernel",
        "-initrd",
        "/images/initrd",
        "-append",
        "console=ttyS0 reboot=t panic=-1 tsc=reliable tsc_early_khz=2250000 quiet",
        CHANNELS("device"),
        NIC("device"),
        NULL};
    struct engine_vm vm = kernel_vm();

    ck_arguments(engine_qemu_arguments(&vm, _i == 0 ? KVM_NONE : KVM_EMULATED, 2250000),
                 want);
}
END_TEST

START_TEST(a_tap_of_several_queues_is_opened_as_one)
{
    struct engine_vm vm = kernel_vm();
    vm.nics[0].tap_has_queues = true;
    char **arguments = engine_qemu_arguments(&vm, KVM_NATIVE, 0);
    bool found = false;
    for (size_t i = 0; arguments[i] != NULL; i++) {
        found = found ||
                strcmp(arguments[i], "tap,id=net0,ifname=bt7,script=no,downscript=no,"
                                     "vhost=off,queues=2") == 0;
    }
    ck_assert(found);
    argument_list_free(arguments);
}
END_TEST

START_TEST(a_kernel_on_hardware_boots_on_microvm)
{
    static const char *const want[] = {
        HEAD,
        "-machine",
        "microvm,acpi=on,auto-kernel-cmdline=off,x-option-roms=off",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-smp",
        "2",
        "-m",
        "128M",
        "-kernel",
        "/images/kernel",
        "-initrd",
        "/images/initrd",
        "-append",
        "console=ttyS0 reboot=t panic=-1 quiet",
        CHANNELS("device"),
        NIC("device"),
        NULL};
    struct engine_vm vm = kernel_vm();

    ck_arguments(engine_qemu_arguments(&vm, KVM_NATIVE, 2250000), want);
}
END_TEST

START_TEST(an_emulated_kernel_without_a_known_clock_gets_a_q35)
{
    static const char *const want[] = {HEAD,
                                       "-machine",
                                       "q35",
                                       "-accel",
                                       "tcg,thread=multi",
                                       "-cpu",
                                       "max,-erms,-la57",
                                       "-smp",
                                       "2",
                                       "-m",
                                       "128M",
                                       "-kernel",
                                       "/images/kernel",
                                       "-append",
                                       "console=ttyS0 reboot=t panic=-1",
                                       CHANNELS("pci"),
                                       "-device",
                                       "pvpanic",
                                       NIC("pci"),
                                       NULL};
    struct engine_vm vm = kernel_vm();
    vm.initrd_path[0] = '\0';
    vm.cmdline[0] = '\0';

    ck_arguments(engine_qemu_arguments(&vm, KVM_NONE, 0), want);
}
END_TEST

START_TEST(a_disk_image_boots_on_q35_from_overlays_with_explicit_formats)
{
    static const char *const want[] = {
        HEAD,
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max,-erms,-la57",
        "-smp",
        "2",
        "-m",
        "128M",
        CHANNELS("pci"),
        "-device",
        "pvpanic",
        "-blockdev",
        "driver=qcow2,node-name=disk0,discard=unmap,file.driver=file,"
        "file.filename=/state/a,,b/vms/7/disk-root.qcow2",
        "-device",
        "virtio-blk-pci,drive=disk0,serial=root",
        "-blockdev",
        "driver=qcow2,node-name=disk1,discard=unmap,file.driver=file,"
        "file.filename=/state/a,,b/vms/7/disk-data.qcow2",
        "-device",
        "virtio-blk-pci,drive=disk1,serial=data",
        "-blockdev",
        "driver=qcow2,node-name=disk2,discard=unmap,file.driver=file,"
        "file.filename=/state/a,,b/vms/7/disk-data-of-the-database-1.qcow2",
        "-device",
        "virtio-blk-pci,drive=disk2,serial=data-of-the-8e43ce5d", /* virtio_block_serial
                                                                   */
        NIC("pci"),
        NULL};
    struct engine_vm vm = kernel_vm();
    vm.kernel_path[0] = '\0';
    vm.disks[0] = (struct engine_disk){.name = "root", .from = DISK_FROM_IMAGE};
    vm.disks[1] = (struct engine_disk){.name = "data", .from = DISK_EMPTY};
    vm.disks[2] =
        (struct engine_disk){.name = "data-of-the-database-1", .from = DISK_EMPTY};
    vm.disk_count = 3;

    ck_arguments(engine_qemu_arguments(&vm, KVM_NONE, 2250000), want);
}
END_TEST

START_TEST(a_disk_that_is_only_read_is_the_images)
{
    static const char *const want[] = {
        HEAD,
        "-machine",
        "q35",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max,-erms,-la57",
        "-smp",
        "2",
        "-m",
        "128M",
        CHANNELS("pci"),
        "-device",
        "pvpanic",
        "-blockdev",
        "driver=qcow2,node-name=disk0,read-only=on,file.driver=file,"
        "file.filename=/images/a,,b",
        "-device",
        "virtio-blk-pci,drive=disk0,serial=root,id=disk-root",
        NIC("pci"),
        NULL};
    struct engine_vm vm = kernel_vm();
    vm.kernel_path[0] = '\0';
    vm.disk_is_qcow2 = true;
    (void)snprintf(vm.disk_path, sizeof(vm.disk_path), "/images/a,b");
    vm.disks[0] =
        (struct engine_disk){.name = "root", .from = DISK_FROM_IMAGE, .read_only = true};
    vm.disk_count = 1;

    ck_arguments(engine_qemu_arguments(&vm, KVM_NONE, 2250000), want);
}
END_TEST

START_TEST(the_largest_vm_fits_the_argument_list)
{
    struct engine_vm vm = kernel_vm();
    for (vm.disk_count = 0; vm.disk_count < DISKS_MAX; vm.disk_count++) {
        (void)snprintf(vm.disks[vm.disk_count].name, NAME_SIZE, "d%u", vm.disk_count);
    }
    for (vm.nic_count = 0; vm.nic_count < NICS_MAX; vm.nic_count++) {
        vm.nics[vm.nic_count] = vm.nics[0];
    }
    memset(vm.cmdline, 'x', sizeof(vm.cmdline) - 1);

    char **arguments = engine_qemu_arguments(&vm, KVM_NONE, 1);

    ck_assert_ptr_nonnull(arguments);
    argument_list_free(arguments);
}
END_TEST

static void break_name(struct engine_vm *vm)
{
    (void)snprintf(vm->name, sizeof(vm->name), "web,readonly=on");
}

static void break_disk_name(struct engine_vm *vm)
{
    vm->disk_count = 1;
    (void)snprintf(vm->disks[0].name, sizeof(vm->disks[0].name), "../../etc");
    vm->disks[0].from = DISK_EMPTY;
}

static void break_tap(struct engine_vm *vm)
{
    (void)snprintf(vm->nics[0].tap, sizeof(vm->nics[0].tap), "a,fd=3");
}

static void break_boot(struct engine_vm *vm)
{
    vm->kernel_path[0] = '\0';
}

static void break_image(struct engine_vm *vm)
{
    vm->disk_count = 1;
    (void)snprintf(vm->disks[0].name, sizeof(vm->disks[0].name), "root");
}

static void break_folder(struct engine_vm *vm)
{
    (void)snprintf(vm->folder, sizeof(vm->folder), "vms/7");
}

static void break_memory(struct engine_vm *vm)
{
    vm->memory_bytes = MIB - 1;
}

static void (*const breaks[])(struct engine_vm *vm) = {
    break_name,  break_disk_name, break_tap,    break_boot,
    break_image, break_folder,    break_memory,
};

START_TEST(a_vm_that_cannot_be_meant_is_refused)
{
    struct engine_vm vm = kernel_vm();
    struct err err = {0};
    ck_assert_int_eq(engine_qemu.check(NULL, &vm, &err), 0);

    breaks[_i](&vm);

    ck_assert_int_eq(engine_qemu.check(NULL, &vm, &err), BERTH_EINVALID);
    ck_assert_str_ne(err.text, "");
}
END_TEST

START_TEST(a_baseline_and_huge_pages_are_not_for_it)
{
    struct engine_vm vm = kernel_vm();
    struct err err = {0};
    vm.cpu_baseline = CPU_BASELINE_V2;

    ck_assert_int_eq(engine_qemu.check(NULL, &vm, &err), BERTH_EUNSUPPORTED);

    ck_assert_str_eq(err.text, "engine qemu gives no baseline of CPUs (x86-64-v2); "
                               "engine kvm does");
    vm.cpu_baseline = CPU_BASELINE_HOST;
    vm.memory_is_huge = true;
    ck_assert_int_eq(engine_qemu.check(NULL, &vm, &err), BERTH_EUNSUPPORTED);
    ck_assert_str_eq(err.text, "engine qemu gives no huge pages; engine kvm does");
}
END_TEST

/* Each engine alone would send its reader to the other one. */
START_TEST(what_no_engine_gives_to_a_disk_alone_is_said_with_the_way_out)
{
    struct engine_vm vm = kernel_vm();
    struct err err = {0};
    vm.kernel_path[0] = '\0';
    vm.cpu_baseline = _i == 0 ? CPU_BASELINE_V2 : CPU_BASELINE_HOST;
    vm.memory_is_huge = _i == 1;

    ck_assert_int_eq(engine_qemu.check(NULL, &vm, &err), BERTH_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "engine kvm does, for an image with a kernel, "
                                           "which this one lacks: give it one, or ask "));
    ck_assert_int_eq(engine_kvm.check(NULL, &vm, &err), BERTH_EUNSUPPORTED);
    ck_assert_str_eq(err.text,
                     "engine kvm boots a kernel, which the image lacks: give it "
                     "one, or ask for no huge pages and no baseline, and for "
                     "engine qemu");
}
END_TEST

/* ---- the daemon goes and comes back ---- */

static void add_arguments(Suite *suite)
{
    TCase *arguments = tcase_create("arguments");
    tcase_add_loop_test(arguments,
                        an_emulated_kernel_boots_on_microvm_and_is_told_its_clock, 0, 2);
    tcase_add_test(arguments, a_kernel_on_hardware_boots_on_microvm);
    tcase_add_test(arguments, a_tap_of_several_queues_is_opened_as_one);
    tcase_add_test(arguments, an_emulated_kernel_without_a_known_clock_gets_a_q35);
    tcase_add_test(arguments,
                   a_disk_image_boots_on_q35_from_overlays_with_explicit_formats);
    tcase_add_test(arguments, a_baseline_and_huge_pages_are_not_for_it);
    tcase_add_loop_test(
        arguments, what_no_engine_gives_to_a_disk_alone_is_said_with_the_way_out, 0, 2);
    tcase_add_test(arguments, a_disk_that_is_only_read_is_the_images);
    tcase_add_test(arguments, the_largest_vm_fits_the_argument_list);
    tcase_add_loop_test(arguments, a_vm_that_cannot_be_meant_is_refused, 0,
                        sizeof(breaks) / sizeof(breaks[0]));
    suite_add_tcase(suite, arguments);
}

int main(void)
{
    Suite *suite = suite_create("engine_qemu");
    add_arguments(suite);
    return test_main_run(suite);
}
