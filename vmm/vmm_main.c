/* berth-vmm: one virtual machine on KVM. See vmm/README.md. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/boot_trace.h"
#include "vmm/console_port.h"
#include "vmm/io_ring.h"
#include "vmm/kvm_probe.h"
#include "vmm/machine.h"
#include "vmm/overlay_file.h"
#include "vmm/poller.h"
#include "vmm/snapshot_file.h"
#include "vmm/vmm_control.h"
#include "vmm/vmm_devices.h"
#include "vmm/vmm_export.h"
#include "vmm/vmm_open.h"
#include "vmm/vmm_options.h"
#include "vmm/vmm_rights.h"
#include "vmm/vmm_walls.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* How the program ends: 0 the guest powered itself off or we were told to quit. */
enum exit_code {
    EXIT_CLEAN = 0,
    EXIT_FAILED = 1, /* it could not be started */
    EXIT_USAGE = 2,
    EXIT_PANIC = 3,    /* the guest's kernel panicked */
    EXIT_SHUTDOWN = 4, /* the guest's CPU shut down */
    EXIT_BROKEN = 5,   /* KVM could not go on */
};

struct vmm {
    struct vmm_options options;
    struct poller *poller;
    struct machine *machine;
    struct console_port *console;
    struct vmm_devices devices;
    struct vmm_plug plug;
    struct vmm_control control;
    struct boot_trace trace;
    int kvm_fd;
    int kernel_fd;
    int initrd_fd;
    int incoming_fd; /* -1: it boots */
    struct snapshot_file incoming;
    int signal_fd;
    int signal_watch;    /* -1: none yet */
    int serial_listener; /* these two until they are taken */
    int qmp_listener;
    enum exit_code code;
};

static void on_ended(void *context, enum machine_end end, const char *reason)
{
    static const enum exit_code codes[MACHINE_END_COUNT] = {
        [MACHINE_END_OFF] = EXIT_CLEAN,
        [MACHINE_END_PANIC] = EXIT_PANIC,
        [MACHINE_END_SHUTDOWN] = EXIT_SHUTDOWN,
        [MACHINE_END_BROKEN] = EXIT_BROKEN,
    };
    struct vmm *vmm = context;
    vmm->code = codes[end];
    vmm_control_ended(&vmm->control, end, reason);
    if (!vmm->options.keeps_end) {
        poller_end(vmm->poller);
    }
}

static void on_reset(void *context)
{
    struct vmm *vmm = context;
    vmm_control_reset(&vmm->control);
}

static void on_paused(void *context)
{
    struct vmm *vmm = context;
    vmm_control_paused(&vmm->control);
}

static void on_crash_loaded(void *context)
{
    struct vmm *vmm = context;
    vmm_control_crash_loaded(&vmm->control);
}

static void on_leaves(void *context, const struct virtio_device *device)
{
    struct vmm *vmm = context;
    vmm_control_leaves(&vmm->control, device);
}

static void on_unplugged(void *context, const char *name)
{
    struct vmm *vmm = context;
    vmm_control_unplugged(&vmm->control, name);
}

/* For a thread that may ask a device for something. */
static int
device_thread_narrow(const struct vmm *vmm, enum vmm_role role, struct err *err)
{
    const unsigned ring = vmm->devices.has_ring ? VMM_ROLE_RING : 0;
    const unsigned vhost = vmm->devices.has_vhost ? VMM_ROLE_VHOST : 0;
    return vmm->options.has_no_jail ? 0 : vmm_rights_thread(role | ring | vhost, err);
}

static int on_vcpu_thread(void *context, struct err *err)
{
    const struct vmm *vmm = context;
    return device_thread_narrow(vmm, VMM_ROLE_VCPU, err);
}

static int on_disk_thread(void *context, struct err *err)
{
    struct vmm *vmm = context;
    return vmm->options.has_no_jail ? 0 : vmm_rights_thread(VMM_ROLE_DISK, err);
}

static int on_loader_thread(void *context, struct err *err)
{
    struct vmm *vmm = context;
    return vmm->options.has_no_jail ? 0 : vmm_rights_thread(VMM_ROLE_LOAD, err);
}

static void on_signal(void *context, uint64_t token, unsigned events)
{
    struct vmm *vmm = context;
    (void)token;
    (void)events;
    vmm_control_signalled(&vmm->control);
    poller_end(vmm->poller);
}

/* Before there is a loop that hears it. */
static bool was_signalled(void *context)
{
    const struct vmm *vmm = context;
    return vmm->signal_watch >= 0 && poller_is_ready(vmm->poller, vmm->signal_watch);
}

static int signals_watch(struct vmm *vmm, struct err *err)
{
    sigset_t ours;
    (void)sigemptyset(&ours);
    (void)sigaddset(&ours, SIGTERM);
    (void)sigaddset(&ours, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &ours, NULL); /* before there are other threads */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit has failed: that is all */
    vmm->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    if (vmm->signal_fd < 0) {
        return err_sys(err, -errno, "watch signals");
    }
    const int watch =
        poller_add(vmm->poller, vmm->signal_fd, POLLER_READABLE, on_signal, vmm, 0);
    vmm->signal_watch = watch;
    return watch < 0 ? err_sys(err, watch, "watch signals") : 0;
}

/* NULL is nothing to open. */
static int open_one(const char *where, int flags, int *ret_fd, struct err *err)
{
    *ret_fd = where == NULL ? -1 : vmm_open_file(where, flags, err);
    return where == NULL || *ret_fd >= 0 ? 0 : *ret_fd;
}

static bool serial_listens(const struct vmm_options *options)
{
    return strcmp(options->serial, "none") != 0 && strcmp(options->serial, "stdio") != 0;
}

/* What says where the rest is. */
static int incoming_look(struct vmm *vmm, struct err *err)
{
    const struct vmm_options *options = &vmm->options;
    if (vmm->incoming_fd < 0) {
        return 0;
    }
    int r = snapshot_file_open(vmm->incoming_fd, &vmm->incoming, err);
    if (r == 0 &&
        vmm->incoming.ram_bytes != options->memory_bytes + options->plug_bytes) {
        r = err_set(err, BERTH_EINVALID,
                    "the saved machine has %" PRIu64
                    "MiB of RAM in all: --memory has to say so",
                    vmm->incoming.ram_bytes >> 20);
    }
    return r < 0 ? err_wrap(err, r, "--incoming %.100s", options->incoming) : 0;
}

/* All that has a name, or was handed over. */
static int everything_open(struct vmm *vmm, struct err *err)
{
    const struct vmm_options *options = &vmm->options;
    int r = open_one(options->kvm, O_RDWR, &vmm->kvm_fd, err);
    if (r == 0) {
        r = open_one(options->kernel, O_RDONLY, &vmm->kernel_fd, err);
    }
    if (r == 0) {
        r = open_one(options->initrd, O_RDONLY, &vmm->initrd_fd, err);
    }
    if (r == 0) {
        r = open_one(options->incoming, O_RDONLY, &vmm->incoming_fd, err);
    }
    if (r == 0 && serial_listens(options)) {
        vmm->serial_listener = vmm_open_listener(options->serial, err);
        r = vmm->serial_listener < 0 ? vmm->serial_listener : 0;
    }
    if (r == 0 && options->qmp != NULL) {
        vmm->qmp_listener = vmm_open_listener(options->qmp, err);
        r = vmm->qmp_listener < 0 ? vmm->qmp_listener : 0;
    }
    return r < 0 ? r : vmm_devices_open(&vmm->devices, options, err);
}

static int console_open(struct vmm *vmm, struct err *err)
{
    struct serial_port *serial = machine_serial(vmm->machine);
    if (strcmp(vmm->options.serial, "none") == 0) {
        return 0;
    }
    if (!serial_listens(&vmm->options)) {
        return console_port_connect(vmm->poller, serial, STDIN_FILENO, STDOUT_FILENO,
                                    &vmm->console, err);
    }
    int r = console_port_listen(vmm->poller, serial, vmm->serial_listener, &vmm->console,
                                err);
    vmm->serial_listener = r == 0 ? -1 : vmm->serial_listener;
    return r;
}

static int control_open(struct vmm *vmm, struct err *err)
{
    if (vmm->qmp_listener < 0) {
        return 0;
    }
    int r = vmm_control_open(&vmm->control, vmm->machine, vmm->poller, vmm->options.name,
                             vmm->qmp_listener, err);
    vmm->qmp_listener = r == 0 ? -1 : vmm->qmp_listener;
    vmm->control.balloon = vmm->devices.balloon;
    vmm_control_watch_memory(&vmm->control, vmm->devices.memory);
    vmm->control.throttle = &vmm->devices.throttle;
    vmm->devices.stats.serial = machine_serial(vmm->machine);
    vmm->control.stats = &vmm->devices.stats;
    vmm->control.trace = &vmm->trace;
    vmm->plug.devices = &vmm->devices;
    vmm->plug.threads =
        (struct disk_queue_threads){.began = on_disk_thread, .context = vmm};
    vmm_control_watch_plug(&vmm->control, &vmm->plug);
    vmm->control.thread_began = on_disk_thread;
    vmm->control.thread_context = vmm;
    return r < 0 ? r : vmm_control_watch_disks(&vmm->control, &vmm->devices.faults, err);
}

/* Everything is open and there is a machine, which takes rights that are given up now;
 * but nothing was read yet that a guest's owner has brought. (Made behind the walls, KVM
 * would wait some milliseconds longer for its first memory.) */
static int jail_enter(struct vmm *vmm, struct err *err)
{
    char missing[VMM_MISSING_SIZE] = "all";
    if (vmm->options.has_no_jail) {
        log_warn("vmm", "there is no jail: a guest that breaks out has all our rights");
        return 0;
    }
    const struct vmm_options *options = &vmm->options;
    /* Nobody keeps a list of who is which: while it lives, its number is its alone. */
    const unsigned number = vmm_walls_number();
    const uint64_t ram_bytes = options->memory_bytes + options->plug_bytes;
    const uint64_t saved_bytes = SNAPSHOT_RAM_AT + ram_bytes + SNAPSHOT_STATE_MAX;
    const uint64_t largest = vmm_devices_largest(&vmm->devices);
    const uint64_t disk_bytes =
        options->plug_disk_bytes > largest ? options->plug_disk_bytes : largest;
    const struct vmm_walls walls = {
        .which = VMM_WALLS_ALL,
        .uid = number != 0 && options->first_uid != 0
                   ? (unsigned)options->first_uid + number
                   : 0,
        .file_bytes = disk_bytes > saved_bytes ? disk_bytes : saved_bytes,
        .data_bytes = options->is_mapped ? ram_bytes : 0,
        .locked_bytes = options->disk_count * IO_RING_BYTES_MAX};
    vmm->plug.file_bytes_max = walls.file_bytes;
    int r = vmm_walls_put_up(&walls, missing, err);
    if (r == 0 && missing[0] != '\0') {
        log_warn("vmm", "some walls of the jail do not stand here",
                 KV_STR("missing", missing));
    }
    if (r == 0) {
        r = vmm_rights_process(err);
    }
    if (r == 0) {
        boot_trace_reach(&vmm->trace, BOOT_JAILED);
    }
    return r;
}

/* The saved machine takes the place of the one that was made. */
static int incoming_take(struct vmm *vmm, struct err *err)
{
    CLEANUP_FREE uint8_t *state = NULL;
    if (vmm->incoming_fd < 0) {
        return 0;
    }
    int r = snapshot_file_read_state(vmm->incoming_fd, &vmm->incoming, &state, err);
    if (r == 0) {
        r = machine_restore(vmm->machine, state, vmm->incoming.state_bytes, err);
    }
    if (r < 0) {
        return err_wrap(err, r, "--incoming %.100s", vmm->options.incoming);
    }
    log_info("vmm", "the saved machine is in");
    return 0;
}

/* What a guest's owner has brought is read here, in the jail, and what is behind devices
 * by threads that have rights of their own. */
static int machine_complete(struct vmm *vmm, struct err *err)
{
    const struct disk_queue_threads workers = {.began = on_disk_thread, .context = vmm};
    int r = incoming_look(vmm, err);
    if (r == 0) {
        r = machine_load(vmm->machine, err);
    }
    if (r == 0) {
        r = vmm_devices_connect(&vmm->devices, &vmm->options, vmm->machine, &workers,
                                err);
    }
    if (r == 0) {
        boot_trace_reach(&vmm->trace, BOOT_CONNECTED);
        r = incoming_take(vmm, err);
    }
    if (r == 0) {
        r = console_open(vmm, err);
    }
    if (r == 0) {
        r = control_open(vmm, err);
    }
    if (r == 0) {
        r = machine_start_threads(vmm->machine, err);
    }
    if (r == 0) {
        r = device_thread_narrow(vmm, VMM_ROLE_MAIN, err);
    }
    if (r == 0) {
        boot_trace_reach(&vmm->trace, BOOT_READY);
    }
    return r;
}

static enum machine_ram incoming_ram(const struct vmm_options *options)
{
    return options->is_mapped ? MACHINE_RAM_MAPPED
           : options->is_lazy ? MACHINE_RAM_LAZY
                              : MACHINE_RAM_FIRST;
}

/* What is far too much stays so: the machine refuses it. */
static unsigned count_of(uint64_t typed)
{
    return typed <= UINT32_MAX ? (unsigned)typed : UINT32_MAX;
}

static int vmm_start(struct vmm *vmm, struct err *err)
{
    const struct vmm_options *options = &vmm->options;
    int r = poller_new(&vmm->poller, err);
    if (r == 0) {
        r = signals_watch(vmm, err);
    }
    if (r == 0) {
        r = everything_open(vmm, err);
    }
    if (r < 0) {
        return r;
    }
    boot_trace_reach(&vmm->trace, BOOT_OPENED);
    const struct machine_image image = {
        .fd = vmm->incoming_fd, .offset = SNAPSHOT_RAM_AT, .ram = incoming_ram(options)};
    const struct machine_plan plan = {
        .kvm_fd = vmm->kvm_fd,
        .cpu_count = count_of(options->cpu_count),
        .plug_cpus = count_of(options->plug_cpus),
        .memory_bytes = options->memory_bytes,
        .plug_bytes = options->plug_bytes,
        .backing = options->backing,
        .cpu_level = options->cpu_level,
        .kernel_fd = vmm->kernel_fd,
        .initrd_fd = vmm->initrd_fd,
        .cmdline = options->cmdline,
        .image = vmm->incoming_fd >= 0 ? &image : NULL,
        .poller = vmm->poller,
        .events = {.thread_began = on_vcpu_thread,
                   .loader_began = on_loader_thread,
                   .is_unwanted = was_signalled,
                   .ended = on_ended,
                   .reset = on_reset,
                   .paused = on_paused,
                   .crash_loaded = on_crash_loaded,
                   .leaves = on_leaves,
                   .unplugged = on_unplugged,
                   .context = vmm},
        .trace = &vmm->trace,
    };
    r = machine_new(&plan, &vmm->machine, err);
    if (r == 0) {
        r = jail_enter(vmm, err);
    }
    if (r == 0) {
        r = machine_complete(vmm, err);
    }
    return r == 0 && !options->is_held ? machine_run(vmm->machine, err) : r;
}

static void vmm_end(struct vmm *vmm)
{
    if (vmm->machine != NULL) {
        vmm_control_halt(&vmm->control, vmm->machine);
    }
    vmm_control_close(&vmm->control);
    vmm->console = console_port_close(vmm->console);
    vmm->machine = machine_free(vmm->machine);
    vmm_plug_fini(&vmm->plug);
    vmm_devices_close(&vmm->devices);
    poller_free(vmm->poller);
    fd_close(&vmm->qmp_listener);
    fd_close(&vmm->serial_listener);
    fd_close(&vmm->signal_fd);
    fd_close(&vmm->incoming_fd);
    fd_close(&vmm->initrd_fd);
    fd_close(&vmm->kernel_fd);
    fd_close(&vmm->kvm_fd);
}

static int probe(const char *device)
{
    static const char *const kinds[] = {
        [KVM_NONE] = "none", [KVM_EMULATED] = "emulated", [KVM_NATIVE] = "native"};
    struct kvm_probe_result result;
    kvm_probe(device, &result);
    (void)printf("%s: %s\n", kinds[result.kind], result.reason);
    return EXIT_CLEAN;
}

static int overlay_make(const struct vmm_overlay_option *option)
{
    struct err err = {0};
    CLEANUP_FD int base =
        option->base[0] == '\0' ? -1 : vmm_open_file(option->base, O_RDONLY, &err);
    CLEANUP_FD int fd =
        option->base[0] != '\0' && base < 0
            ? -1
            : fd_open_at(AT_FDCWD, option->file, O_RDWR | O_CREAT | O_EXCL, 0600, &err);
    if (fd < 0 ||
        overlay_file_make(fd, option->size_bytes, base, &option->digest, &err) < 0) {
        (void)fprintf(stderr, "berth-vmm: --make-overlay: %s\n", err.text);
        return EXIT_FAILED;
    }
    return EXIT_CLEAN;
}

static int disk_export_now(const struct vmm_export_option *option)
{
    struct err err = {0};
    if (vmm_export_disk(option, &err) < 0) {
        (void)fprintf(stderr, "berth-vmm: --export-disk: %s\n", err.text);
        return EXIT_FAILED;
    }
    return EXIT_CLEAN;
}

int main(int argc, char *argv[])
{
    static struct vmm vmm = {.kvm_fd = -1,
                             .kernel_fd = -1,
                             .initrd_fd = -1,
                             .incoming_fd = -1,
                             .signal_fd = -1,
                             .signal_watch = -1,
                             .serial_listener = -1,
                             .qmp_listener = -1};
    struct err err = {0};
    boot_trace_begin(&vmm.trace);
    vmm_devices_init(&vmm.devices);
    int r = vmm_options_parse(argc, argv, &vmm.options, &err);
    if (r < 0) {
        (void)fprintf(stderr, "berth-vmm: %s\n", err.text);
        return EXIT_USAGE;
    }
    if (vmm.options.wants_help) {
        vmm_options_help(stdout);
        return EXIT_CLEAN;
    }
    if (vmm.options.wants_probe) {
        return probe(vmm.options.kvm);
    }
    if (vmm.options.make_overlay.file[0] != '\0') {
        return overlay_make(&vmm.options.make_overlay);
    }
    if (vmm.options.export_disk.file[0] != '\0') {
        return disk_export_now(&vmm.options.export_disk);
    }
    r = vmm_start(&vmm, &err);
    if (r == BERTH_ECLOSED && was_signalled(&vmm)) {
        log_info("vmm", "it was told to end before the saved machine was in");
        r = 0;
    } else if (r == 0) {
        r = poller_run(vmm.poller);
        if (r < 0) {
            (void)err_sys(&err, r, "wait for events");
        }
    }
    if (r < 0) {
        (void)fprintf(stderr, "berth-vmm: %s\n", err.text);
        vmm.code = EXIT_FAILED;
    }
    vmm_end(&vmm);
    return (int)vmm.code;
}
