/* Goal: VMs of berth-vmm live, end, stand still, go back and are taken over as reported.
 * Method: where there is a KVM, the real berth-vmm under the supervisor with kernels of a
 * few bytes that talk on the serial port. What it is started with is told in
 * engine_kvm_arguments_test.c. */
#include "agent/engine_kvm.h"
#include "agent/engine_qemu.h"
#include "agent/host_facts.h"
#include "qmp_ask.h"
#include "supervisor_bench.h"

#include <check.h>

#include <elf.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_UID 2000000000u

#define OUT(port, value) 0x66, 0xba, (port)&0xff, (port) >> 8, 0xb0, (value), 0xee
#define SERIAL           0x3f8
#define STATUS           0x3fd
#define POWER            0x600

/* Says "hi\n"; then echoes what it is told, powers off on 'q' and by the button. */
static const uint8_t talks[] = {
    OUT(SERIAL, 'h'), OUT(SERIAL, 'i'), OUT(SERIAL, '\n'),
    /* 1: in al, status ; test al, 1 ; jz 2f ; in al, serial ; cmp al, 'q' ; je 3f */
    0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0x0c,                  /* jz +12 */
    0x66, 0xba, 0xf8, 0x03, 0xec, 0x3c, 'q', 0x74, 0x0c, 0xee, 0xeb, 0xeb, /* out, 1b */
    /* 2: in al, events ; test al, al ; jz 1b */
    0x66, 0xba, 0x03, 0x06, 0xec, 0x84, 0xc0, 0x74, 0xe2,
    /* 3: sleep */
    OUT(POWER, 0x34), 0xf4};

/* Says "hi\n"; then counts in memory what it is told, and says how often that was. */
static const uint8_t counts[] = {
    OUT(SERIAL, 'h'), OUT(SERIAL, 'i'), OUT(SERIAL, '\n'),
    /* 1: in al, status ; test al, 1 ; jz 1b ; in al, serial */
    0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf7, 0x66, 0xba, 0xf8, 0x03, 0xec,
    /* inc byte [0x180000] ; mov al, [0x180000] ; add al, '0' ; out serial, al ; jmp 1b */
    0xfe, 0x05, 0, 0, 0x18, 0, 0xa0, 0, 0, 0x18, 0, 0x04, '0', 0xee, 0xeb, 0xe2};

/* Says "panicked" to pvpanic. */
static const uint8_t panics[] = {OUT(0x505, 0x01), 0xf4};

/* Resets the machine, again and again. */
static const uint8_t resets[] = {OUT(0x602, 0x01), 0xf4, 0xeb, 0xfd};

struct micro_elf {
    Elf64_Ehdr header;
    Elf64_Phdr segments[2];
    uint32_t note[3];
    char owner[4];
    uint32_t entry;
};

#define KERNEL_AT 0x100000u
#define CODE_AT   0x1000u

/* An ELF file with a PVH note around the code. */
static void write_kernel(const uint8_t *code, size_t size)
{
    const struct micro_elf elf = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
                               ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_X86_64,
                   .e_phoff = offsetof(struct micro_elf, segments),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 2},
        .segments = {{.p_type = PT_LOAD,
                      .p_paddr = KERNEL_AT,
                      .p_filesz = CODE_AT + size,
                      .p_memsz = CODE_AT + size + 0x1000},
                     {.p_type = PT_NOTE,
                      .p_offset = offsetof(struct micro_elf, note),
                      .p_filesz =
                          sizeof(struct micro_elf) - offsetof(struct micro_elf, note)}},
        .note = {4, 4, 18},
        .owner = "Xen",
        .entry = KERNEL_AT + CODE_AT,
    };
    char *path = temp_dir_path(&bench.dir, "kernel");
    (void)unlink(path);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, &elf, sizeof(elf), 0), (int)sizeof(elf));
    ck_assert_int_eq(pwrite(fd, code, size, CODE_AT), (int)size);
    (void)close(fd);
    free(path);
}

static void setup(void)
{
    static const struct engine_ops *const engines[] = {&engine_kvm, &engine_qemu, NULL};
    bench_init(engines, 120000);
    bench.kvm = KVM_NATIVE;
    bench.first_uid = geteuid() == 0 ? FIRST_UID : 0;
    write_kernel(talks, sizeof(talks));
    open_loop();
    open_supervisor();
}

static uint32_t cpus_wished; /* of three; 0: of one that has no places for more */

static struct vm_order order_of(void)
{
    struct vm_order order = bench_order(UID, 1, ENGINE_AUTO);
    if (cpus_wished != 0) {
        order.vm.cpu_count = cpus_wished;
        order.vm.cpu_max = 3;
    }
    order.vm.memory_bytes = 32 * MIB;
    order.vm.disks[0] =
        (struct engine_disk){.name = "data", .from = DISK_EMPTY, .size_bytes = MIB};
    order.vm.disk_count = 1;
    (void)snprintf(order.vm.kernel_path, sizeof(order.vm.kernel_path), "%s/kernel",
                   bench.dir.path);
    return order;
}

static struct vm_report boot(void)
{
    struct vm_order order = order_of();
    start_order(&order, false);
    wait_console(UID, "hi\n");
    return wait_phase(UID, PHASE_READY);
}

START_TEST(a_guest_boots_talks_listens_and_obeys_the_power_button)
{
    struct vm_report ready = boot();
    ck_assert_int_gt(ready.pid, 0);
    type(UID, "abc");
    wait_console(UID, "abc");

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);

    ck_assert_str_eq(wait_phase(UID, PHASE_STOPPED).reason, "stopped");
    ck_assert_int_eq(kill(ready.pid, 0), -1);
}
END_TEST

/* Whether somebody listens at that file of the VM's folder. */
static bool is_served(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int written = snprintf(address.sun_path, sizeof(address.sun_path),
                                 "%s/vms/%d/%s", bench.dir.path, UID, name);
    ck_assert_int_lt(written, (int)sizeof(address.sun_path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const bool served =
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    (void)close(fd);
    return served;
}

START_TEST(a_guest_has_a_vsock_that_nobody_else_reaches)
{
    struct stat info;
    char path[sizeof(bench.dir.path) + 40];
    (void)boot();

    ck_assert(is_served("vsock.sock"));

    (void)snprintf(path, sizeof(path), "%s/vms/%d/vsock.sock", bench.dir.path, UID);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_uint_eq(info.st_mode & 0022, 0); /* who may not write cannot connect */
    ck_assert_uint_eq(info.st_uid, geteuid());
}
END_TEST

START_TEST(a_guest_runs_as_a_user_of_its_own)
{
    char path[64];
    char want[32];
    char text[4096];
    struct vm_report ready = boot();
    const uint32_t id =
        bench.first_uid == 0 ? geteuid() : FIRST_UID + (uint32_t)ready.pid;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", ready.pid);
    (void)snprintf(want, sizeof(want), "Uid:\t%" PRIu32 "\t", id);

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t got = read(fd, text, sizeof(text) - 1);
    (void)close(fd);

    ck_assert_int_gt(got, 0);
    text[got] = '\0';
    ck_assert_msg(strstr(text, want) != NULL, "%s", text);
}
END_TEST

/* Whether a line of the VM's log begins so. */
static bool log_says(const char *words)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "vms/%d/engine.log", UID);
    char *text = temp_dir_read(&bench.dir, name);
    const bool said = text != NULL && strstr(text, words) != NULL;
    free(text);
    return said;
}

START_TEST(all_walls_stand_around_a_guest)
{
    char path[64];
    char text[4096];
    char want[64];
    struct vm_report ready = boot();
    (void)snprintf(path, sizeof(path), "/proc/%d/status", ready.pid);
    (void)snprintf(want, sizeof(want), "NSpid:\t%d\t1\n", ready.pid);

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t got = read(fd, text, sizeof(text) - 1);
    (void)close(fd);

    ck_assert_int_gt(got, 0);
    text[got] = '\0';
    if (geteuid() == 0) {
        ck_assert_msg(strstr(text, want) != NULL, "%s", text);
        ck_assert(!log_says("some walls of the jail"));
    } else {
        ck_assert(log_says("some walls of the jail"));
    }
}
END_TEST

START_TEST(what_was_in_a_kernel_is_booted_in_its_place)
{
    char *path = temp_dir_path(&bench.dir, "kernel");
    char *folder = temp_dir_path(&bench.dir, "unpacked");
    char *within = temp_dir_path(&bench.dir, "unpacked/kernel");
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(rename(path, within), 0);
    temp_dir_write(&bench.dir, "kernel", "what nobody can boot");

    (void)boot();

    free(within);
    free(folder);
    free(path);
}
END_TEST

START_TEST(a_guest_that_powers_itself_off_has_stopped_and_leaves_its_disk)
{
    (void)boot();

    type(UID, "q");

    ck_assert_str_eq(wait_phase(UID, PHASE_STOPPED).reason, "guest shutdown");
    char *disk = temp_dir_path(&bench.dir, "vms/7/disk-data.overlay");
    ck_assert_int_eq(unlink(disk), 0);
    free(disk);

    struct vm_order next = order_of(); /* with the disks of this run, or not at all */
    next.vm.epoch = 2;
    next.disk_epoch = 1;
    start_order(&next, false);
    struct vm_report failed = wait_phase(UID, PHASE_FAILED);
    ck_assert_msg(strstr(failed.reason, "of an earlier run is gone") != NULL, "%s",
                  failed.reason);
}
END_TEST

START_TEST(a_held_guest_does_not_run_until_it_is_told)
{
    struct vm_order order = order_of();
    start_order(&order, true);
    (void)wait_held(UID);
    ck_assert_uint_eq(console_ring_end(vm_supervisor_console(bench.supervisor, UID)), 0);

    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);

    wait_console(UID, "hi\n");
}
END_TEST

struct bad_row {
    const uint8_t *code;
    size_t size;
    const char *reason;
};

static const struct bad_row bad[] = {
    {panics, sizeof(panics), "guest panic: the guest's kernel panicked"},
    {resets, sizeof(resets), "reset itself"},
    {(const uint8_t *)"\x0f\x01\x1d\0\0\0\0\x0f\x0b", 9,
     "guest fault: CPU 0 of the guest shut down (triple fault)"},
};

START_TEST(a_guest_that_fails_has_failed_with_a_reason)
{
    struct vm_order order = order_of();
    write_kernel(bad[_i].code, bad[_i].size);
    start_order(&order, false);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);

    ck_assert_msg(strstr(failed.reason, bad[_i].reason) != NULL, "%s", failed.reason);
}
END_TEST

START_TEST(what_cannot_start_says_why)
{
    struct vm_order order = order_of();
    const char *word = "/no/such/kernel";
    if (_i == 0) {
        (void)snprintf(order.vm.kernel_path, sizeof(order.vm.kernel_path), "%s", word);
    } else {
        char *path = temp_dir_path(&bench.dir, "kernel");
        ck_assert_int_eq(truncate(path, 0), 0);
        free(path);
        word = "kernel: ";
    }

    start_order(&order, false);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);
    ck_assert_msg(strstr(failed.reason, word) != NULL, "%s", failed.reason);
}
END_TEST

START_TEST(one_ended_from_outside_is_a_failure_not_a_shutdown)
{
    struct vm_report ready = boot();

    ck_assert_int_eq(kill(ready.pid, _i == 0 ? SIGKILL : SIGTERM), 0);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);
    ck_assert_msg(
        strstr(failed.reason, _i == 0 ? "crashed: ended by SIGKILL"
                                      : "was ended from outside: host-signal") != NULL,
        "%s", failed.reason);
}
END_TEST

static void boot_and_talk(void)
{
    (void)boot();
    type(UID, "before, ");
    wait_console(UID, "before, ");
}

START_TEST(a_guest_outlives_its_daemon_and_is_taken_over_with_its_console)
{
    char text[256];
    daemon_dies_after(boot_and_talk);
    open_supervisor();
    struct vm_report report = report_of(UID);
    ck_assert(report.adopted);
    ck_assert_int_eq(report.phase, PHASE_RUNNING);
    ck_assert_int_eq(kill(report.pid, 0), 0);

    wait_console(UID, "before, "); /* it says all again */
    type(UID, "after");
    wait_console(UID, "after");
    console_text(UID, text, sizeof(text));
    ck_assert_str_eq(text, "hi\nbefore, after");

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);
    ck_assert_str_eq(wait_phase(UID, PHASE_STOPPED).reason, "stopped");
}
END_TEST

/* What the process itself says of its disk's limits. */
static void limits_in_force(uint64_t *ret_iops, uint64_t *ret_bps)
{
    char *path = temp_dir_path(&bench.dir, "vms/7/qmp.sock");
    close_supervisor();
    json_t *limits = qmp_ask(path, "x-query-throttle");
    *ret_iops = json_member_u64(json_array_get(limits, 0), "iops", UINT64_MAX);
    *ret_bps = json_member_u64(json_array_get(limits, 0), "bps", UINT64_MAX);
    json_decref(limits);
    free(path);
    open_supervisor();
}

/* The second one is of no disk that it has: by the refusal the first is in force. */
START_TEST(limits_are_in_force_from_the_start_and_when_they_change)
{
    struct vm_order order = order_of();
    struct disk_spec disks[] = {
        {.name = "data", .limit = {.operations = 900, .bytes = MIB}},
        {.name = "other", .limit = {.operations = 900}}};
    const struct machine_spec machine = {.disks = {disks, 2}};
    uint64_t iops = 0;
    uint64_t bps = 0;
    order.vm.limits.disk_count = 1;
    order.vm.limits.disks[0] = (struct engine_disk_limit){"data", {.operations = 500}};
    start_order(&order, false);
    wait_console(UID, "hi\n");
    limits_in_force(&iops, &bps);
    ck_assert_uint_eq(iops, 500);
    ck_assert_uint_eq(bps, 0);

    ck_assert_int_eq(vm_supervisor_limit(bench.supervisor, UID, 1, &machine, NULL), 0);
    while (strstr(report_of(UID).reason, "a limit is not in force") == NULL) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    limits_in_force(&iops, &bps);

    ck_assert_uint_eq(iops, 900);
    ck_assert_uint_eq(bps, MIB);
}
END_TEST

/* The image's disk itself: nothing is made of it, and nothing is left. */
START_TEST(a_guest_reads_the_disk_of_its_image)
{
    struct vm_order order = order_of();
    char *image = temp_dir_path(&bench.dir, "image");
    char *path = temp_dir_path(&bench.dir, "vms/7/qmp.sock");
    char *made = temp_dir_path(&bench.dir, "vms/7/disk-data.overlay");
    temp_dir_write(&bench.dir, "image", "what all read");
    ck_assert_int_eq(truncate(image, MIB), 0);
    (void)snprintf(order.vm.disk_path, sizeof(order.vm.disk_path), "%s", image);
    order.vm.disks[0] = (struct engine_disk){
        .name = "data", .from = DISK_FROM_IMAGE, .read_only = true, .size_bytes = MIB};
    start_order(&order, false);
    (void)wait_phase(UID, PHASE_READY);
    close_supervisor();
    json_t *disks = qmp_ask(path, "query-block");
    const json_t *inserted = json_object_get(json_array_get(disks, 0), "inserted");

    ck_assert(json_is_true(json_object_get(inserted, "ro")));
    ck_assert_uint_eq(
        json_member_u64(json_object_get(inserted, "image"), "virtual-size", 0), MIB);
    ck_assert_int_ne(access(made, F_OK), 0);

    json_decref(disks);
    open_supervisor();
    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);
    ck_assert(wait_phase(UID, PHASE_STOPPED).diskless);
    free(image);
    free(path);
    free(made);
}
END_TEST

static size_t cpus_there(void)
{
    char *path = temp_dir_path(&bench.dir, "vms/7/qmp.sock");
    close_supervisor();
    json_t *cpus = qmp_ask(path, "query-cpus-fast");
    const size_t count = json_array_size(cpus);
    json_decref(cpus);
    free(path);
    open_supervisor();
    return count;
}

START_TEST(cpus_come_before_a_guest_begins_and_while_it_runs)
{
    struct cpu_spec cpu = {.count = 2, .max = 3};
    struct vm_order order = order_of();
    struct vm_record record;
    char folder[ENGINE_PATH_SIZE];
    order.vm.cpu_count = 2;
    order.vm.cpu_max = 2 + (uint32_t)_i; /* of two, one comes before it begins */
    cpu.max = order.vm.cpu_max;
    write_kernel(counts, sizeof(counts)); /* the other takes any event for its button */
    start_order(&order, false);
    wait_console(UID, "hi\n");
    wait_record(UID, VM_RECORD_RUNNING);
    ck_assert_uint_eq(cpus_there(), 2);

    cpu.count = cpu.max;
    (void)wait_phase(UID, PHASE_READY);
    ck_assert_int_eq(vm_supervisor_cpus(bench.supervisor, UID, 1, &cpu, NULL), 0);
    (void)snprintf(folder, sizeof(folder), "%s/vms/%d", bench.dir.path, UID);
    do { /* as its program says: nobody takes it over meanwhile, and tells it then */
        uv_run(&bench.loop, UV_RUN_ONCE);
        ck_assert_int_eq(vm_record_read(folder, &record, NULL), 0);
    } while (record.order.vm.cpu_count != cpu.max);
    ck_assert_uint_eq(record.order.vm.cpu_max, cpu.max);
    ck_assert_uint_eq(cpus_there(), cpu.max);
    type(UID, "x");
    wait_console(UID, "1");
}
END_TEST

/* Where the host's owner has reserved any. */
START_TEST(a_guest_has_pages_of_the_hosts_pool)
{
    struct vm_order order = order_of();
    order.vm.memory_is_huge = true;
    start_order(&order, false);
    if (host_pool_bytes() < order.vm.memory_bytes) {
        (void)wait_phase(UID, PHASE_FAILED); /* with nothing in place of them */
        return;
    }
    wait_console(UID, "hi");
    type(UID, "x");
    wait_console(UID, "x");
}
END_TEST

START_TEST(a_frozen_guest_says_nothing_and_goes_on_when_it_is_thawed)
{
    struct vm_report ready = boot();

    ck_assert_uint_eq(vm_supervisor_freeze_all(bench.supervisor), 1);
    while (!vm_process_pid_is_stopped(ready.pid)) {
        sched_yield();
    }
    ck_assert_uint_eq(vm_supervisor_resume_all(bench.supervisor), 1);

    type(UID, "thawed");
    wait_console(UID, "thawed");
}
END_TEST

START_TEST(auto_means_kvm_for_a_kernel_and_its_choice_is_kept)
{
    struct vm_record record;
    char folder[ENGINE_PATH_SIZE];
    (void)boot();

    (void)snprintf(folder, sizeof(folder), "%s/vms/%d", bench.dir.path, UID);
    ck_assert_int_eq(vm_record_read(folder, &record, NULL), 0);

    ck_assert_int_eq(record.order.engine, ENGINE_KVM);
}
END_TEST

/* ---- standing still, and going on elsewhere ---- */

static struct vm_report wait_paused(bool paused)
{
    while (report_of(UID).paused != paused) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    return report_of(UID);
}

START_TEST(a_paused_guest_says_nothing_until_it_is_resumed_by_whatever_daemon)
{
    char text[256];
    (void)boot();
    ck_assert_int_eq(vm_supervisor_pause(bench.supervisor, UID, 1, true, NULL), 0);
    ck_assert_int_eq(wait_paused(true).phase, PHASE_RUNNING);
    close_supervisor();
    open_supervisor();
    (void)wait_paused(true);
    type(UID, "x");
    console_text(UID, text, sizeof(text));
    ck_assert_ptr_null(strchr(text, 'x'));

    ck_assert_int_eq(vm_supervisor_pause(bench.supervisor, UID, 1, false, NULL), 0);

    wait_console(UID, "x");
    (void)wait_phase(UID, PHASE_READY);
}
END_TEST

/* As a daemon that died in the middle of a snapshot leaves it. */
START_TEST(a_guest_that_is_found_paused_without_a_word_goes_on)
{
    (void)boot();
    wait_record(UID, VM_RECORD_RUNNING);
    close_supervisor();
    char *path = temp_dir_path(&bench.dir, "vms/7/qmp.sock");
    json_decref(qmp_ask(path, "stop"));
    free(path);
    open_supervisor();

    type(UID, "x");
    wait_console(UID, "x");
    ck_assert(!report_of(UID).paused);
}
END_TEST

static void take_snapshot(void *context, const struct snapshot_report *report)
{
    struct snapshot_report *wanted = context;
    if (report->uid == wanted->uid) {
        *wanted = *report;
    }
}

static struct snapshot_report wait_snapshot(uint64_t uid, enum snapshot_phase phase)
{
    const struct snapshot_wish wish = {.uid = uid,
                                       .vm = UID,
                                       .epoch = report_of(UID).epoch,
                                       .bytes = 64 * MIB,
                                       .name = "before",
                                       .tenant = "shop"};
    struct snapshot_report report = {.uid = uid, .phase = SNAPSHOT_PHASE_COUNT};
    while (report.phase != phase) {
        ck_assert_msg(report.phase != SNAPSHOT_FAILED, "%s", report.reason);
        (void)vm_supervisor_snapshot_make(bench.supervisor, &wish, NULL);
        uv_run(&bench.loop, UV_RUN_ONCE);
        vm_supervisor_snapshots_each(bench.supervisor, take_snapshot, &report);
    }
    return report;
}

static void restore_how(uint64_t epoch, uint64_t snapshot, bool lazy)
{
    struct vm_order order = order_of();
    struct err err = {0};
    order.vm.memory_is_lazy = lazy;
    order.vm.epoch = epoch;
    order.restore = snapshot;
    do {
        int r = vm_supervisor_start(bench.supervisor, &order, false, &err);
        ck_assert_msg(r == 0, "%s", err.text);
        uv_run(&bench.loop, UV_RUN_ONCE);
    } while (report_of(UID).epoch != epoch);
}

static void restore(uint64_t epoch, uint64_t snapshot)
{
    restore_how(epoch, snapshot, false);
}

/* The second one runs while its memory is read. */
START_TEST(a_guest_goes_on_from_the_instant_of_its_snapshot)
{
    struct vm_order order = order_of();
    write_kernel(counts, sizeof(counts));
    start_order(&order, false);
    wait_console(UID, "hi\n");
    type(UID, "x");
    wait_console(UID, "1");
    type(UID, "x");
    wait_console(UID, "2");
    ck_assert_uint_gt(wait_snapshot(40, SNAPSHOT_READY).bytes, 0);
    type(UID, "x"); /* it goes on, and that is not in it */
    wait_console(UID, "3");
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 1, "", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    const uint64_t before =
        console_ring_end(vm_supervisor_console(bench.supervisor, UID));

    restore_how(2, 40, _i == 1);
    (void)wait_phase(UID, PHASE_READY);
    type(UID, "x");
    wait_console(UID, "33");

    ck_assert_uint_eq(console_ring_end(vm_supervisor_console(bench.supervisor, UID)),
                      before + 1);                                 /* it has not booted */
    ck_assert_uint_gt(wait_snapshot(41, SNAPSHOT_READY).bytes, 0); /* of a restored one */
    type(UID, "x");
    wait_console(UID, "334");
}
END_TEST

/* It had two CPUs then; its template has said three since. */
START_TEST(a_guest_that_went_back_gets_the_cpus_of_now)
{
    cpus_wished = 2;
    struct vm_order order = order_of();
    write_kernel(counts, sizeof(counts));
    start_order(&order, false);
    wait_console(UID, "hi\n");
    (void)wait_snapshot(40, SNAPSHOT_READY);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 1, "", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);

    cpus_wished = 3;
    restore(2, 40);
    (void)wait_phase(UID, PHASE_READY);

    type(UID, "x");
    wait_console(UID, "1");
    wait_record(UID, VM_RECORD_RUNNING);
    ck_assert_uint_eq(cpus_there(), 3);
}
END_TEST

START_TEST(a_memory_that_is_damaged_is_not_run)
{
    struct snapshot_report ready;
    (void)boot();
    ready = wait_snapshot(40, SNAPSHOT_READY);
    ck_assert_uint_gt(ready.at_wall_ms, 0);
    ck_assert_int_eq(vm_supervisor_kill(bench.supervisor, UID, 1, "", NULL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    char *path = temp_dir_path(&bench.dir, "snapshots/40/memory");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pwrite(fd, "!", 1, (2 << 20) + KERNEL_AT), 1); /* in RAM */
    (void)close(fd);
    free(path);

    restore(2, 40);

    struct vm_report failed = wait_phase(UID, PHASE_FAILED);
    ck_assert_uint_eq(failed.epoch, 2);
    ck_assert_msg(strstr(failed.reason, "incoming") != NULL, "%s", failed.reason);
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
    if (access(ENGINE_KVM_DEVICE, R_OK | W_OK) != 0) {
        return test_main_skip("there is no KVM here");
    }
#ifdef __SANITIZE_THREAD__
    return test_main_skip("its runtime calls what berth-vmm's walls keep out");
#endif
    find_programs_of_the_build();
    /* On a machine that the tests were brought to, it is beside them. */
    if (!engine_kvm_is_here() && !test_main_finds(BERTH_BINARY_DIR "/berth-vmm")) {
        return 1;
    }
    Suite *suite = suite_create("engine_kvm");
    TCase *tests = tcase_create("engine_kvm");
    tcase_set_timeout(tests, 150);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_guest_boots_talks_listens_and_obeys_the_power_button);
    tcase_add_test(tests, a_guest_has_a_vsock_that_nobody_else_reaches);
    tcase_add_test(tests, a_guest_runs_as_a_user_of_its_own);
    tcase_add_test(tests, all_walls_stand_around_a_guest);
    tcase_add_test(tests, what_was_in_a_kernel_is_booted_in_its_place);
    tcase_add_test(tests, a_guest_that_powers_itself_off_has_stopped_and_leaves_its_disk);
    tcase_add_test(tests, a_held_guest_does_not_run_until_it_is_told);
    tcase_add_loop_test(tests, a_guest_that_fails_has_failed_with_a_reason, 0,
                        sizeof(bad) / sizeof(bad[0]));
    tcase_add_loop_test(tests, what_cannot_start_says_why, 0, 2);
    tcase_add_loop_test(tests, one_ended_from_outside_is_a_failure_not_a_shutdown, 0, 2);
    tcase_add_test(tests, a_guest_outlives_its_daemon_and_is_taken_over_with_its_console);
    tcase_add_test(tests, limits_are_in_force_from_the_start_and_when_they_change);
    tcase_add_test(tests, a_guest_reads_the_disk_of_its_image);
    tcase_add_loop_test(tests, cpus_come_before_a_guest_begins_and_while_it_runs, 0, 2);
    tcase_add_test(tests, a_guest_has_pages_of_the_hosts_pool);
    tcase_add_test(tests, a_frozen_guest_says_nothing_and_goes_on_when_it_is_thawed);
    tcase_add_test(tests, auto_means_kvm_for_a_kernel_and_its_choice_is_kept);
    tcase_add_test(tests,
                   a_paused_guest_says_nothing_until_it_is_resumed_by_whatever_daemon);
    tcase_add_test(tests, a_guest_that_is_found_paused_without_a_word_goes_on);
    tcase_add_loop_test(tests, a_guest_goes_on_from_the_instant_of_its_snapshot, 0, 2);
    tcase_add_test(tests, a_guest_that_went_back_gets_the_cpus_of_now);
    tcase_add_test(tests, a_memory_that_is_damaged_is_not_run);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
