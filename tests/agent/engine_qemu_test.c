/* Goal: QEMU is started with exactly the arguments we mean, and its VMs live, end and are
 * taken over as reported. Method: golden argument lists; then real QEMU (TCG) under the
 * supervisor, running a boot sector that talks on the serial port, echoes, powers off on
 * 'q' and on the power button. No kernel, no network: nothing to install but QEMU. */
#include "agent/argument_list.h"
#include "agent/engine_qemu.h"
#include "agent/vm_record.h"
#include "agent/vm_supervisor.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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
        NIC("pci"),
        NULL};
    struct engine_vm vm = kernel_vm();
    vm.kernel_path[0] = '\0';
    vm.disks[0] = (struct engine_disk){.name = "root", .from = DISK_FROM_IMAGE};
    vm.disks[1] = (struct engine_disk){.name = "data", .from = DISK_EMPTY};
    vm.disk_count = 2;

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

/* ---- real QEMU ---- */

/* Says "boot sector", enables the power button, then: echoes what the serial port gets,
 * powers off (q35's port 0x604) on 'q' and when the button's bit shows in port 0x600. */
static const uint8_t boot_sector[] = {
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xba, 0xf9, 0x03, 0xee, 0xbe, 0x42, 0x7c, 0xac, 0x84,
    0xc0, 0x74, 0x06, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, 0xba, 0x02, 0x06, 0xb8, 0x00,
    0x01, 0xef, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0x09, 0xba, 0xf8, 0x03, 0xec,
    0x3c, 0x71, 0x74, 0x0a, 0xee, 0xba, 0x00, 0x06, 0xed, 0xa9, 0x00, 0x01, 0x74, 0xe6,
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd, 'b',  'o',  'o',  't',
    ' ',  's',  'e',  'c',  't',  'o',  'r',  '\r', '\n', 0,
};

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

/* Writes a sector into each of 31 clusters of its disk (int 0x13, function 0x43), then
 * says "w", or "e" when a write failed. */
static const uint8_t writes[] = {
    0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x2c, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80,
    0xcd, 0x13, 0x72, 0x17, 0x81, 0x06, 0x34, 0x7c, 0x80, 0x00, 0x81, 0x3e,
    0x34, 0x7c, 0x00, 0x10, 0x72, 0xe6, 0xb0, 'w',  0xba, 0xf8, 0x03, 0xee,
    0xf4, 0xeb, 0xfd, 0xb0, 'e',  0xeb, 0xf5, 0x00, 0x10, 0x00, 0x01, 0x00,
    0x00, 0x7c, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};

static const struct engine_ops *const engines[] = {&engine_qemu, NULL};

struct bench {
    struct temp_dir dir;
    uv_loop_t loop;
    struct loop_timer *deadline;
    struct loop_timer *tick;
    struct vm_supervisor *supervisor;
    uint64_t ending_ms; /* of the engine; 0: as always */
};

static struct bench bench;

static void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long");
}

static void on_tick(void *context)
{
    (void)context;
}

static void on_changed(void *context, const struct vm_report *report)
{
    (void)context;
    (void)report;
}

static void open_supervisor(void)
{
    struct err err = {0};
    const struct vm_supervisor_config config = {
        .host = {.loop = &bench.loop,
                 .clock = clock_system(),
                 .kvm = KVM_NONE,
                 .ending_ms = bench.ending_ms},
        .folder = bench.dir.path,
        .engines = engines,
        .changed = on_changed,
    };
    bench.supervisor = vm_supervisor_open(&config, &err);
    ck_assert_msg(bench.supervisor != NULL, "%s", err.text);
}

static void close_supervisor(void)
{
    bench.supervisor = vm_supervisor_close(bench.supervisor);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
}

static void open_loop(void)
{
    ck_assert_int_eq(uv_loop_init(&bench.loop), 0);
    bench.deadline = loop_timer_new(&bench.loop, 80000, 0, on_deadline, NULL);
    bench.tick = loop_timer_new(&bench.loop, 5, 5, on_tick, NULL);
}

static void write_image(const uint8_t *sector, size_t size)
{
    static uint8_t image[MIB];
    char *path = temp_dir_path(&bench.dir, "image.raw");
    memset(image, 0, 510);
    memcpy(image, sector, size);
    image[510] = 0x55;
    image[511] = 0xaa;
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(image, 1, sizeof(image), file), sizeof(image));
    ck_assert_int_eq(fclose(file), 0);
    free(path);
}

static void setup(void)
{
    memset(&bench, 0, sizeof(bench));
    signal(SIGPIPE, SIG_IGN);
    temp_dir_init_guarded(&bench.dir);
    write_image(boot_sector, sizeof(boot_sector));
    open_loop();
    open_supervisor();
}

static void kill_one(void *context, const struct vm_report *report)
{
    (void)context;
    if (report->pid > 0) {
        (void)kill(report->pid, SIGKILL);
    }
}

static void teardown(void)
{
    if (bench.supervisor != NULL) {
        vm_supervisor_each(bench.supervisor, kill_one, NULL);
    }
    close_supervisor();
    bench.deadline = loop_timer_close(bench.deadline);
    bench.tick = loop_timer_close(bench.tick);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench.loop), 0);
    temp_dir_fini(&bench.dir);
}

static struct vm_order order_of(uint64_t uid, uint64_t epoch)
{
    struct vm_order order = {
        .vm = {.uid = uid,
               .epoch = epoch,
               .name = "web-1",
               .tenant = "shop",
               .cpu_count = 1,
               .cpu_weight = 100,
               .memory_bytes = 64 * MIB},
        .engine = ENGINE_AUTO,
        .fenced = true,
        .stop_grace_ms = 60000,
        .probe_pass = 1,
        .probe_fail = 1,
    };
    (void)snprintf(order.vm.disk_path, sizeof(order.vm.disk_path), "%s/image.raw",
                   bench.dir.path);
    return order;
}

static void start(const struct vm_order *order, bool hold)
{
    struct err err = {0};
    int r = vm_supervisor_start(bench.supervisor, order, hold, &err);
    ck_assert_msg(r == 0, "%s", err.text);
}

static struct vm_report report_of(uint64_t uid)
{
    struct vm_report report;
    ck_assert(vm_supervisor_report(bench.supervisor, uid, &report));
    return report;
}

static struct vm_report wait_phase(uint64_t uid, enum phase phase)
{
    while (report_of(uid).phase != phase) {
        ck_assert_msg(phase == PHASE_FAILED || report_of(uid).phase != PHASE_FAILED, "%s",
                      report_of(uid).reason);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    return report_of(uid);
}

static void wait_console(uint64_t uid, const char *want)
{
    char text[4096];
    for (;;) {
        uint64_t offset = 0;
        size_t count = console_ring_read(vm_supervisor_console(bench.supervisor, uid),
                                         &offset, text, sizeof(text) - 1);
        text[count] = '\0';
        if (strstr(text, want) != NULL) {
            return;
        }
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static void type(uint64_t uid, const char *text)
{
    while (vm_supervisor_console_write(bench.supervisor, uid, text, strlen(text), NULL) !=
           0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static struct vm_report boot(uint64_t uid)
{
    struct vm_order order = order_of(uid, 1);
    start(&order, false);
    wait_console(uid, "boot sector");
    return wait_phase(uid, PHASE_READY);
}

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
    start(&order, false);

    wait_console(UID, "boot sector");
    ck_assert_int_eq(wait_phase(UID, PHASE_READY).phase, PHASE_READY);
    (void)snprintf(command, sizeof(command),
                   "qemu-img info -U %s/vms/7/disk-root.qcow2 | "
                   "grep -q '^backing file format: qcow2$'",
                   bench.dir.path);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(a_held_guest_does_not_run_until_it_is_told)
{
    struct vm_order order = order_of(UID, 1);
    start(&order, true);
    while (!report_of(UID).held) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(console_ring_end(vm_supervisor_console(bench.supervisor, UID)), 0);

    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);

    wait_console(UID, "boot sector");
    ck_assert_int_eq(report_of(UID).phase, PHASE_READY);
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
    start(&order, false);
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
    ck_assert_str_eq(report_of(UID).reason, "its lease is over");
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

START_TEST(a_qemu_that_cannot_start_says_why)
{
    struct vm_order order = order_of(UID, 1);
    (void)snprintf(order.vm.kernel_path, sizeof(order.vm.kernel_path), "/no/such/kernel");
    order.vm.disk_path[0] = '\0';

    start(&order, false);
    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "/no/such/kernel") != NULL, "%s", failed.reason);
}
END_TEST

START_TEST(a_disk_that_cannot_be_made_says_why)
{
    struct vm_order order = order_of(UID, 1);
    (void)snprintf(order.vm.disk_path, sizeof(order.vm.disk_path), "/no/such/disk");

    start(&order, false);
    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "make disk root") != NULL, "%s", failed.reason);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "vms/7/disk-root.qcow2.new"));
}
END_TEST

START_TEST(a_disk_of_an_earlier_run_that_is_gone_is_not_made_anew)
{
    struct vm_order order = order_of(UID, 1);
    start(&order, false);
    (void)wait_phase(UID, PHASE_READY);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 1, "over", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    char *disk = temp_dir_path(&bench.dir, "vms/7/disk-root.qcow2");
    ck_assert_int_eq(unlink(disk), 0);

    order.vm.epoch = 2;
    order.disk_epoch = 1;
    start(&order, false);
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
    start(&order, false);
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
    start(&order, false);
    for (int turn = 0; turn < _i; turn++) {
        uv_run(&bench.loop, UV_RUN_NOWAIT);
    }

    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 1, "moved", NULL), 0);

    ck_assert_str_eq(wait_phase(UID, PHASE_FAILED).reason, "moved");
}
END_TEST

/* ---- guests and hosts in trouble ---- */

START_TEST(a_guest_that_resets_again_and_again_has_failed)
{
    struct vm_order order = order_of(UID, 1);
    write_image(resets, sizeof(resets));
    start(&order, false);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "reset itself 8 times in a row") != NULL, "%s",
                  failed.reason);
}
END_TEST

START_TEST(a_guest_that_says_it_panicked_has_failed)
{
    struct vm_order order = order_of(UID, 1);
    write_image(panics, sizeof(panics));
    start(&order, false);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, "panic") != NULL, "%s", failed.reason);
}
END_TEST

static void wait_reason(uint64_t uid, const char *part)
{
    while (strstr(report_of(uid).reason, part) == NULL) {
        ck_assert_msg(report_of(uid).phase != PHASE_FAILED, "%s", report_of(uid).reason);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

START_TEST(a_guest_that_resets_twice_is_told_of_and_goes_on)
{
    struct vm_order order = order_of(UID, 1);
    write_image(resets_twice, sizeof(resets_twice));
    start(&order, false);

    wait_reason(UID, "times in a row");

    ck_assert_int_eq(wait_phase(UID, PHASE_READY).phase, PHASE_READY);
}
END_TEST

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
    start(&order, false);

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

static void daemon_dies(void)
{
    int ready[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    close_supervisor();
    pid_t daemon = fork();
    if (daemon == 0) {
        open_loop();
        open_supervisor();
        (void)boot(UID);
        (void)!write(ready[1], "x", 1);
        for (;;) {
            uv_run(&bench.loop, UV_RUN_ONCE);
        }
    }
    close(ready[1]);
    ck_assert_int_eq((int)read(ready[0], &byte, 1), 1);
    close(ready[0]);
    ck_assert_int_eq(kill(daemon, SIGKILL), 0);
    ck_assert_int_eq(waitpid(daemon, NULL, 0), daemon);
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

static bool qemu_is_here(void)
{
    return system("command -v qemu-system-x86_64 >/dev/null &&"
                  " command -v qemu-img >/dev/null") == 0;
}

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
    tcase_add_test(tests, a_guest_boots_what_a_qcow2_image_holds);
    tcase_add_test(tests, a_held_guest_does_not_run_until_it_is_told);
    tcase_add_test(tests, a_guest_that_ignores_the_button_is_killed_at_the_deadline);
    tcase_add_loop_test(tests, a_qemu_ended_from_outside_is_a_failure_not_a_shutdown, 0,
                        sizeof(outsides) / sizeof(outsides[0]));
    tcase_add_test(tests, a_qemu_that_cannot_start_says_why);
    tcase_add_test(tests, a_disk_that_cannot_be_made_says_why);
    tcase_add_test(tests, a_disk_of_an_earlier_run_that_is_gone_is_not_made_anew);
    tcase_add_loop_test(tests, a_disk_smaller_than_its_image_is_refused_in_words, 0, 2);
    tcase_add_test(tests, a_qcow2_image_that_is_none_is_refused);
    tcase_add_loop_test(tests, a_kill_reaches_a_vm_whose_disks_are_being_made, 0, 4);
    tcase_add_test(tests, a_guest_that_resets_again_and_again_has_failed);
    tcase_add_test(tests, a_guest_that_resets_twice_is_told_of_and_goes_on);
    tcase_add_test(tests, a_guest_that_says_it_panicked_has_failed);
    if (geteuid() == 0) {
        tcase_add_test(tests,
                       a_guest_waits_on_a_full_disk_and_goes_on_when_there_is_room);
    }
    tcase_add_test(tests, a_guest_outlives_its_daemon_and_is_taken_over_with_its_console);
    tcase_add_test(tests, a_stop_right_after_the_take_over_is_a_graceful_one);
    tcase_add_test(tests, what_a_guest_said_while_the_daemon_was_away_is_in_its_console);
    tcase_add_test(tests, a_guest_that_powered_off_while_the_daemon_was_away_has_stopped);
    tcase_add_test(tests, a_frozen_guest_is_taken_over_thawed_and_goes_on);
    tcase_add_test(tests, a_frozen_guest_says_nothing_and_dies_at_once);
    suite_add_tcase(suite, tests);
}

int main(void)
{
    Suite *suite = suite_create("engine_qemu");
    TCase *arguments = tcase_create("arguments");
    tcase_add_loop_test(arguments,
                        an_emulated_kernel_boots_on_microvm_and_is_told_its_clock, 0, 2);
    tcase_add_test(arguments, a_kernel_on_hardware_boots_on_microvm);
    tcase_add_test(arguments, an_emulated_kernel_without_a_known_clock_gets_a_q35);
    tcase_add_test(arguments,
                   a_disk_image_boots_on_q35_from_overlays_with_explicit_formats);
    tcase_add_test(arguments, the_largest_vm_fits_the_argument_list);
    tcase_add_loop_test(arguments, a_vm_that_cannot_be_meant_is_refused, 0,
                        sizeof(breaks) / sizeof(breaks[0]));
    suite_add_tcase(suite, arguments);
    if (qemu_is_here()) {
        add_real(suite);
    } else {
        printf("tests with real QEMU skipped: it is not installed\n");
    }
    return test_main_run(suite);
}
