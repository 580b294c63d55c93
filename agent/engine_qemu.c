#include "agent/engine_qemu.h"

#include "agent/argument_list.h"
#include "agent/engine_qmp.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/parse_number.h"
#include "base/require.h"
#include "net/tap.h"
#include "vmm/virtio_block.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMPLICIT_DISK "root" /* of an image that boots a disk nobody asked for */
/* Added to every kernel command line: one serial port, no waiting for hardware that is
 * not there. */
#define CMDLINE_ALWAYS "console=ttyS0 reboot=t panic=-1"

/* ---- arguments
 * ---------------------------------------------------------------------------------------
 */

static bool boots_kernel(const struct engine_vm *vm)
{
    return vm->kernel_path[0] != '\0';
}

/* What the arguments depend on beside the VM. */
struct platform {
    bool native;      /* hardware KVM */
    bool microvm;     /* else q35 */
    uint32_t tsc_khz; /* to tell an emulated guest */
};

/* On microvm devices sit on virtio-mmio, which the guest finds by ACPI; on q35 on PCI. */
static const char *bus(const struct platform *platform)
{
    return platform->microvm ? "device" : "pci";
}

static void add_machine(struct argument_list *arguments,
                        const struct engine_vm *vm,
                        const struct platform *platform)
{
    argument_list_add_pair(
        arguments, "-machine",
        !platform->microvm ? "q35"
        : platform->native
            ? "microvm,acpi=on,auto-kernel-cmdline=off,x-option-roms=off"
            : "microvm,acpi=on,pit=off,pic=off,rtc=on,auto-kernel-cmdline=off");
    argument_list_add_pair(arguments, "-accel",
                           platform->native ? "kvm" : "tcg,thread=multi");
    /* Emulated string instructions with ERMS, and a fifth level of page tables, only cost
     * time. */
    argument_list_add_pair(arguments, "-cpu",
                           platform->native ? "host" : "max,-erms,-la57");
    argument_list_add(arguments, "-smp");
    argument_list_add(arguments, "%" PRIu32, vm->cpu_count);
    argument_list_add(arguments, "-m");
    argument_list_add(arguments, "%" PRIu64 "M", vm->memory_bytes / MIB);
    if (!boots_kernel(vm)) {
        return;
    }
    argument_list_add_pair(arguments, "-kernel", vm->kernel_path);
    if (vm->initrd_path[0] != '\0') {
        argument_list_add_pair(arguments, "-initrd", vm->initrd_path);
    }
    argument_list_add(arguments, "-append");
    if (platform->microvm && !platform->native) {
        argument_list_add(arguments, "%s tsc=reliable tsc_early_khz=%" PRIu32 "%s%s",
                          CMDLINE_ALWAYS, platform->tsc_khz,
                          vm->cmdline[0] != '\0' ? " " : "", vm->cmdline);
    } else {
        argument_list_add(arguments, "%s%s%s", CMDLINE_ALWAYS,
                          vm->cmdline[0] != '\0' ? " " : "", vm->cmdline);
    }
}

/* Commas separate QEMU's options; doubled they stand for themselves. */
static void escape(const char *text, char *ret_text, size_t size)
{
    size_t at = 0;
    for (; *text != '\0' && at + 2 < size; text++) {
        if (*text == ',') {
            ret_text[at++] = ',';
        }
        ret_text[at++] = *text;
    }
    ret_text[at] = '\0';
}

/* Its own, or for all who only read it that of the image. */
static void
add_disk_file(struct argument_list *arguments, const struct engine_vm *vm, uint32_t i)
{
    char file[2 * ENGINE_PATH_SIZE];
    argument_list_add(arguments, "-blockdev");
    if (vm->disks[i].read_only) {
        escape(vm->disk_path, file, sizeof(file));
        argument_list_add(arguments,
                          "driver=%s,node-name=disk%" PRIu32
                          ",read-only=on,file.driver=file,file.filename=%s",
                          vm->disk_is_qcow2 ? "qcow2" : "raw", i, file);
        return;
    }
    escape(vm->folder, file, sizeof(file));
    argument_list_add(arguments,
                      "driver=qcow2,node-name=disk%" PRIu32
                      ",discard=unmap,file.driver=file,file.filename=%s/disk-%s.qcow2",
                      i, file, vm->disks[i].name);
}

static void add_disks(struct argument_list *arguments,
                      const struct engine_vm *vm,
                      const struct platform *platform)
{
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        char id[NAME_SIZE + 16] = "";
        char serial[VIRTIO_BLOCK_SERIAL_SIZE + 1]; /* the same with either engine */
        add_disk_file(arguments, vm, i);
        if (vm->disks[i].read_only) { /* nothing else tells which it is: qmp_limits.c */
            (void)snprintf(id, sizeof(id), ",id=disk-%s", vm->disks[i].name);
        }
        virtio_block_serial(vm->disks[i].name, serial);
        argument_list_add(arguments, "-device");
        argument_list_add(arguments, "virtio-blk-%s,drive=disk%" PRIu32 ",serial=%s%s",
                          bus(platform), i, serial, id);
    }
}

static void add_nics(struct argument_list *arguments,
                     const struct engine_vm *vm,
                     const struct platform *platform)
{
    /* A tap of several queues is opened as one alone by whom wants more than one; the
     * guest sees the first. */
    for (uint32_t i = 0; i < vm->nic_count; i++) {
        char mac[MAC_TEXT_SIZE];
        format_mac(vm->nics[i].mac, mac);
        argument_list_add(arguments, "-netdev");
        argument_list_add(
            arguments,
            "tap,id=net%" PRIu32 ",ifname=%s,script=no,downscript=no,vhost=off%s", i,
            vm->nics[i].tap, vm->nics[i].tap_has_queues ? ",queues=2" : "");
        argument_list_add(arguments, "-device");
        argument_list_add(arguments, "virtio-net-%s,netdev=net%" PRIu32 ",mac=%s",
                          bus(platform), i, mac);
    }
}

static void add_channels(struct argument_list *arguments,
                         const struct engine_vm *vm,
                         const struct platform *platform)
{
    char folder[2 * ENGINE_FOLDER_MAX];
    escape(vm->folder, folder, sizeof(folder));
    argument_list_add(arguments, "-chardev");
    /* The log is for what is said while no daemon listens; vm_supervisor trims it. */
    argument_list_add(arguments,
                      "socket,id=console,path=%s/console.sock,server=on,wait=off,"
                      "logfile=%s/" ENGINE_SERIAL_LOG ",logappend=on",
                      folder, folder);
    argument_list_add_pair(arguments, "-serial", "chardev:console");
    argument_list_add(arguments, "-chardev");
    argument_list_add(arguments, "socket,id=qmp,path=%s/qmp.sock,server=on,wait=off",
                      folder);
    argument_list_add_pair(arguments, "-mon", "chardev=qmp,mode=control");
    argument_list_add_pair(arguments, "-object",
                           "rng-random,id=rng,filename=/dev/urandom");
    argument_list_add(arguments, "-device");
    argument_list_add(arguments, "virtio-rng-%s,rng=rng", bus(platform));
    if (!platform->microvm) { /* which has no bus for it */
        argument_list_add_pair(arguments, "-device", "pvpanic");
    }
}

char **
engine_qemu_arguments(const struct engine_vm *vm, enum kvm_kind kvm, uint32_t tsc_khz)
{
    const struct platform platform = {.native = kvm == KVM_NATIVE,
                                      .microvm = boots_kernel(vm) &&
                                                 (kvm == KVM_NATIVE || tsc_khz != 0),
                                      .tsc_khz = tsc_khz};
    struct argument_list arguments;
    argument_list_init(&arguments);
    argument_list_add(&arguments, "%s", ENGINE_QEMU_PROGRAM);
    argument_list_add(&arguments, "-name");
    argument_list_add(&arguments, "%s/%s,process=berth-%.9s", vm->tenant, vm->name,
                      vm->name);
    argument_list_add(&arguments, "-nodefaults");
    argument_list_add(&arguments, "-no-user-config");
    argument_list_add_pair(&arguments, "-display", "none");
    argument_list_add(&arguments, "-S");
    argument_list_add_pair(
        &arguments, "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    argument_list_add_pair(&arguments, "-action",
                           "shutdown=pause,panic=pause,reboot=reset");
    add_machine(&arguments, vm, &platform);
    add_channels(&arguments, vm, &platform);
    add_disks(&arguments, vm, &platform);
    add_nics(&arguments, vm, &platform);
    return argument_list_take(&arguments);
}

/* ---- disks, then the process ---- */

struct qemu_run {
    struct engine_qmp_run run;     /* first */
    struct loop_child *disk_child; /* qemu-img, one disk after another */
    uint32_t disk_next;
};

static struct qemu_run *qemu_of(struct engine_qmp_run *run)
{
    REQUIRE(run->run.ops == &engine_qemu);
    return (struct qemu_run *)(void *)run;
}

static void disks_make(struct qemu_run *run);

/* "<folder>/disk-<name>.qcow2<tail>" */
static void
disk_path(const struct qemu_run *run, const char *tail, char ret_path[ENGINE_PATH_SIZE])
{
    (void)snprintf(ret_path, ENGINE_PATH_SIZE, "%s/disk-%s.qcow2%s", run->run.vm.folder,
                   run->run.vm.disks[run->disk_next].name, tail); /* fits */
}

static void disk_made(void *context, const struct loop_child_result *result)
{
    struct qemu_run *run = context;
    char made[ENGINE_PATH_SIZE];
    char path[ENGINE_PATH_SIZE];
    char text[128];
    run->disk_child = NULL;
    disk_path(run, ".new", made);
    disk_path(run, "", path);
    int code = result->code;
    /* Only a whole disk gets its name: what a crash left is made anew. */
    if (code == 0 && rename(made, path) != 0) {
        code = -errno;
    }
    if (code < 0) {
        (void)snprintf(text, sizeof(text), "make disk %.40s: %.70s",
                       run->run.vm.disks[run->disk_next].name,
                       result->errors[0] != '\0' ? result->errors : err_sentence(code));
        text[strcspn(text, "\n")] = '\0';
        (void)unlink(made); /* may not be there */
        engine_qmp_failed(&run->run, text);
        return;
    }
    run->disk_next++;
    disks_make(run);
}

/* The image's disk as the guest sees it. */
static int image_disk_size(const struct engine_vm *vm, uint64_t *ret_bytes)
{
    uint8_t head[32]; /* qcow2: the magic, and the size at 24, big endian */
    struct stat info;
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, vm->disk_path, O_RDONLY, 0, NULL);
    if (fd < 0 || fstat(fd, &info) < 0) {
        return fd < 0 ? fd : -errno;
    }
    if (!vm->disk_is_qcow2) {
        *ret_bytes = (uint64_t)info.st_size;
        return 0;
    }
    if (fd_read_full(fd, head, sizeof(head)) != (ssize_t)sizeof(head) ||
        memcmp(head, "QFI\xfb", 4) != 0) {
        return BERTH_ECORRUPT;
    }
    *ret_bytes = 0;
    for (unsigned i = 24; i < sizeof(head); i++) {
        *ret_bytes = *ret_bytes << 8 | head[i];
    }
    return 0;
}

/* Would the disk cut off the end of its image? qemu-img makes such overlays in silence.
 */
static int disk_size_check(const struct engine_vm *vm,
                           const struct engine_disk *disk,
                           struct err *err)
{
    uint64_t image_bytes = 0;
    char size[NUMBER_TEXT_SIZE];
    char needed[NUMBER_TEXT_SIZE];
    if (disk->from != DISK_FROM_IMAGE) {
        return 0;
    }
    int r = image_disk_size(vm, &image_bytes);
    if (r < 0) {
        return err_sys(err, r, "make disk %s: image %s", disk->name, vm->disk_path);
    }
    if (disk->size_bytes == 0 || disk->size_bytes >= image_bytes) {
        return 0;
    }
    format_bytes(disk->size_bytes, size);
    format_bytes(image_bytes, needed);
    return err_set(err, BERTH_EINVALID,
                   "make disk %s: %s is less than the image's disk, which is %s",
                   disk->name, size, needed);
}

static void disk_make(struct qemu_run *run)
{
    const struct engine_disk *disk = &run->run.vm.disks[run->disk_next];
    char made[ENGINE_PATH_SIZE];
    char size[32] = "";
    const char *argv[16] = {ENGINE_QEMU_IMG, "create", "-q", "-f", "qcow2"};
    unsigned count = 5;
    struct err err = {0};
    disk_path(run, ".new", made);
    if (disk_size_check(&run->run.vm, disk, &err) < 0) {
        engine_qmp_failed(&run->run, err.text);
        return;
    }
    if (disk->from == DISK_FROM_IMAGE) {
        argv[count++] = "-b";
        argv[count++] = run->run.vm.disk_path;
        argv[count++] = "-F"; /* never guessed: a guest could write another header */
        argv[count++] = run->run.vm.disk_is_qcow2 ? "qcow2" : "raw";
    }
    argv[count++] = made;
    if (disk->size_bytes > 0) { /* else the image's own */
        (void)snprintf(size, sizeof(size), "%" PRIu64, disk->size_bytes);
        argv[count++] = size;
    }
    argv[count] = NULL;
    run->disk_child = loop_child_run(run->run.host->loop, argv, NULL,
                                     ENGINE_DISK_TIMEOUT_MS, disk_made, run, &err);
    if (run->disk_child == NULL) {
        engine_qmp_failed(&run->run, err.text);
    }
}

static void disk_missing(struct qemu_run *run, const char *path)
{
    char text[ENGINE_REASON_SIZE];
    (void)snprintf(text, sizeof(text),
                   "disk %.40s of an earlier run is gone: no file %.140s",
                   run->run.vm.disks[run->disk_next].name, path);
    engine_qmp_failed(&run->run, text);
}

/* Disks of an earlier run on this host are used again. */
static void disks_make(struct qemu_run *run)
{
    for (; run->disk_next < run->run.vm.disk_count; run->disk_next++) {
        char path[ENGINE_PATH_SIZE];
        disk_path(run, "", path);
        if (!run->run.vm.disks[run->disk_next].read_only && access(path, F_OK) != 0) {
            run->run.vm.disks_are_there ? disk_missing(run, path) : disk_make(run);
            return;
        }
    }
    engine_qmp_prepared(&run->run);
}

static void qemu_prepare(struct engine_qmp_run *run)
{
    disks_make(qemu_of(run));
}

static void qemu_abandon(struct engine_qmp_run *base)
{
    struct qemu_run *run = qemu_of(base);
    run->disk_child = loop_child_close(run->disk_child);
}

static struct vm_process *
qemu_spawn(struct engine_qmp_run *run, struct vm_process_spec *spec, struct err *err)
{
    for (uint32_t i = 0; i < run->vm.nic_count; i++) {
        run->vm.nics[i].tap_has_queues = tap_has_queues(run->vm.nics[i].tap);
    }
    char **arguments =
        engine_qemu_arguments(&run->vm, run->host->kvm, run->host->tsc_khz);
    if (arguments == NULL) {
        (void)err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    spec->argv = (const char *const *)(uintptr_t)arguments;
    struct vm_process *process = engine_qmp_spawn(run, spec, err);
    argument_list_free(arguments);
    return process;
}

static const struct engine_qmp_kind qemu_kind = {
    .ops = &engine_qemu,
    .title = "QEMU",
    .run_bytes = sizeof(struct qemu_run),
    .has_serial_log = true,
    .finds_disks = true,
    .prepare = qemu_prepare,
    .abandon = qemu_abandon,
    .spawn = qemu_spawn,
};

/* ---- the engine ---- */

/* Behind what engine kvm does: it sends nobody back here. */
static const char *kvm_lacks(const struct engine_vm *vm)
{
    return vm->kernel_path[0] != '\0' ? ""
                                      : ", for an image with a kernel, which this one "
                                        "lacks: give it one, or ask "
                                        "for none of it";
}

static int
qemu_check(const struct engine_host *host, const struct engine_vm *vm, struct err *err)
{
    (void)host;
    int r = engine_vm_check(vm, err);
    if (r < 0) {
        return r;
    }
    if (vm->memory_path[0] != '\0') {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "engine qemu does not go on from a snapshot; they are engine "
                       "kvm's");
    }
    if (vm->cpu_baseline != CPU_BASELINE_HOST) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "engine qemu gives no baseline of CPUs (%s); engine kvm does%s",
                       cpu_baseline_names[vm->cpu_baseline], kvm_lacks(vm));
    }
    if (vm->memory_is_huge) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "engine qemu gives no huge pages; engine kvm does%s",
                       kvm_lacks(vm));
    }
    if (!boots_kernel(vm) && vm->disk_path[0] == '\0' && vm->disk_count == 0) {
        return err_set(err, BERTH_EINVALID, "nothing to boot: no kernel and no disk");
    }
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        char path[ENGINE_PATH_SIZE];
        (void)snprintf(path, sizeof(path), "%s/disk-%s.overlay", vm->folder,
                       vm->disks[i].name);
        if (access(path, F_OK) == 0) {
            return err_set(err, BERTH_EUNSUPPORTED,
                           "disk %s is an overlay that engine kvm has made",
                           vm->disks[i].name);
        }
        if (vm->disks[i].from == DISK_FROM_IMAGE && vm->disk_path[0] == '\0') {
            return err_set(err, BERTH_EINVALID,
                           "disk %s is from the image, which has none",
                           vm->disks[i].name);
        }
    }
    return 0;
}

/* An image that is a disk is there to be booted, asked for by name or not. */
static void implicit_disk(struct engine_vm *vm, bool is_booted)
{
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        if (vm->disks[i].from == DISK_FROM_IMAGE) {
            return;
        }
    }
    if (!is_booted || vm->disk_count == DISKS_MAX) {
        return;
    }
    memmove(&vm->disks[1], &vm->disks[0], vm->disk_count * sizeof(vm->disks[0]));
    vm->disks[0] = (struct engine_disk){.name = IMPLICIT_DISK, .from = DISK_FROM_IMAGE};
    vm->disk_count++;
}

static struct engine_run *qemu_start(const struct engine_host *host,
                                     const struct engine_vm *vm,
                                     struct console_ring *console,
                                     const struct engine_events *events,
                                     void *context,
                                     struct err *err)
{
    struct engine_vm whole = *vm;
    if (qemu_check(host, vm, err) != 0) {
        return NULL;
    }
    implicit_disk(&whole, !boots_kernel(vm) && vm->disk_path[0] != '\0');
    return engine_qmp_start(&qemu_kind, host, &whole, console, events, context, err);
}

static struct engine_run *qemu_adopt(const struct engine_host *host,
                                     const struct engine_vm *vm,
                                     const struct vm_process_identity *identity,
                                     struct console_ring *console,
                                     const struct engine_events *events,
                                     void *context,
                                     struct err *err)
{
    return engine_qmp_adopt(&qemu_kind, host, vm, identity, console, events, context,
                            err);
}

/* By now its image may be another one; what it has booted lies in its folder. */
static bool has_booted_image(const struct engine_qmp_run *run, const struct engine_vm *vm)
{
    char path[ENGINE_PATH_SIZE];
    bool is_other = false; /* a disk of that name, which is asked for */
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        is_other = is_other || strcmp(vm->disks[i].name, IMPLICIT_DISK) == 0;
    }
    engine_qmp_path(run, "disk-" IMPLICIT_DISK ".qcow2", path);
    return !is_other && access(path, F_OK) == 0;
}

static void qemu_know(struct engine_run *base, const struct engine_vm *vm)
{
    struct engine_vm whole = *vm;
    implicit_disk(&whole, has_booted_image(engine_qmp_run_of(base), vm));
    engine_qmp_know(base, &whole);
}

const struct engine_ops engine_qemu = {
    .name = "qemu",
    .engine = ENGINE_QEMU,
    .check = qemu_check,
    .start = qemu_start,
    .adopt = qemu_adopt,
    .release = engine_qmp_release,
    .cont = engine_qmp_cont,
    .pause = engine_qmp_pause,
    .limit = engine_qmp_limit,
    .stop = engine_qmp_stop,
    .kill = engine_qmp_kill,
    .freeze = engine_qmp_freeze,
    .sample = engine_qmp_sample,
    .stats = engine_qmp_stats,
    .know = qemu_know,
    .console_write = engine_qmp_console_write,
    .close = engine_qmp_close,
};
