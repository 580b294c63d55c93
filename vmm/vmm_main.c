/* berth-vmm: one virtual machine on KVM. See vmm/README.md. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/console_port.h"
#include "vmm/kvm_probe.h"
#include "vmm/machine.h"
#include "vmm/poller.h"
#include "vmm/virtio_random.h"
#include "vmm/vmm_control.h"
#include "vmm/vmm_options.h"
#include "vmm/vmm_rights.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
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
    struct vmm_control control;
    int kvm_fd;
    int kernel_fd;
    int initrd_fd;
    int signal_fd;
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

static void on_crash_loaded(void *context)
{
    struct vmm *vmm = context;
    vmm_control_crash_loaded(&vmm->control);
}

static int on_thread(void *context, struct err *err)
{
    struct vmm *vmm = context;
    return vmm->options.has_no_jail ? 0 : vmm_rights_thread(VMM_ROLE_VCPU, err);
}

static void on_signal(void *context, uint64_t token, unsigned events)
{
    struct vmm *vmm = context;
    (void)token;
    (void)events;
    poller_end(vmm->poller);
}

static int signals_watch(struct vmm *vmm, struct err *err)
{
    sigset_t ours;
    (void)sigemptyset(&ours);
    (void)sigaddset(&ours, SIGTERM);
    (void)sigaddset(&ours, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &ours, NULL); /* before there are other threads */
    (void)signal(SIGPIPE, SIG_IGN);
    vmm->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    if (vmm->signal_fd < 0) {
        return err_sys(err, -errno, "watch signals");
    }
    int watch =
        poller_add(vmm->poller, vmm->signal_fd, POLLER_READABLE, on_signal, vmm, 0);
    return watch < 0 ? err_sys(err, watch, "watch signals") : 0;
}

static int open_one(const char *path, int flags, int *ret_fd, struct err *err)
{
    *ret_fd = -1;
    if (path != NULL) {
        *ret_fd = fd_open_at(AT_FDCWD, path, flags, 0, err);
    }
    return *ret_fd < 0 && path != NULL ? *ret_fd : 0;
}

/* "unix:PATH" as a listening socket. What an earlier run left at the path goes. */
static int listen_at(const char *where, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = where + strlen("unix:");
    if (strncmp(where, "unix:", strlen("unix:")) != 0 ||
        strlen(path) >= sizeof(address.sun_path)) {
        return err_set(err, BERTH_EINVALID, "%.100s: not unix: and a short path", where);
    }
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(path); /* usually nothing is there */
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 1) < 0) {
        return err_sys(err, -errno, "listen at %s", path);
    }
    return TAKE_FD(fd);
}

/* What every machine has beside what it was asked to have. */
static int devices_add(struct vmm *vmm, struct err *err)
{
    const struct virtio_place place = machine_place(vmm->machine);
    struct virtio_device *random;
    int r = virtio_random_new(&place, &random);
    if (r < 0) {
        return err_sys(err, r, "rng0");
    }
    r = machine_add_virtio(vmm->machine, random, "rng0", err);
    if (r == BERTH_EFULL || r == -ENOMEM) {
        virtio_device_free(random);
    }
    return r;
}

static int console_open(struct vmm *vmm, struct err *err)
{
    struct serial_port *serial = machine_serial(vmm->machine);
    const char *where = vmm->options.serial;
    if (strcmp(where, "none") == 0) {
        return 0;
    }
    if (strcmp(where, "stdio") == 0) {
        return console_port_connect(vmm->poller, serial, STDIN_FILENO, STDOUT_FILENO,
                                    &vmm->console, err);
    }
    CLEANUP_FD int listener = listen_at(where, err);
    if (listener < 0) {
        return listener;
    }
    int r = console_port_listen(vmm->poller, serial, listener, &vmm->console, err);
    if (r == 0) {
        (void)TAKE_FD(listener); /* theirs now */
    }
    return r;
}

static int control_open(struct vmm *vmm, struct err *err)
{
    if (vmm->options.qmp == NULL) {
        return 0;
    }
    CLEANUP_FD int listener = listen_at(vmm->options.qmp, err);
    if (listener < 0) {
        return listener;
    }
    int r = vmm_control_open(&vmm->control, vmm->machine, vmm->poller, vmm->options.name,
                             listener, err);
    if (r == 0) {
        (void)TAKE_FD(listener); /* theirs now */
    }
    return r;
}

/* Everything is open: from here on there is less and less that this process may do. */
static int jail_enter(struct vmm *vmm, struct err *err)
{
    char missing[VMM_MISSING_SIZE] = "all";
    if (vmm->options.has_no_jail) {
        log_warn("vmm", "there is no jail: a guest that breaks out has all our rights");
        return machine_start_threads(vmm->machine, err);
    }
    int r = vmm_rights_drop(missing, err);
    if (r == 0) {
        r = machine_start_threads(vmm->machine, err);
    }
    if (r == 0) {
        r = vmm_rights_thread(VMM_ROLE_MAIN, err);
    }
    if (r == 0 && missing[0] != '\0') {
        log_warn("vmm", "some walls of the jail do not stand here",
                 KV_STR("missing", missing));
    }
    return r;
}

static int vmm_start(struct vmm *vmm, struct err *err)
{
    const struct vmm_options *options = &vmm->options;
    int r = poller_new(&vmm->poller, err);
    if (r == 0) {
        r = signals_watch(vmm, err);
    }
    if (r == 0) {
        r = open_one(options->kvm, O_RDWR, &vmm->kvm_fd, err);
    }
    if (r == 0) {
        r = open_one(options->kernel, O_RDONLY, &vmm->kernel_fd, err);
    }
    if (r == 0) {
        r = open_one(options->initrd, O_RDONLY, &vmm->initrd_fd, err);
    }
    if (r < 0) {
        return r;
    }
    const struct machine_plan plan = {
        .kvm_fd = vmm->kvm_fd,
        .cpu_count = options->cpu_count <= UINT32_MAX ? (unsigned)options->cpu_count : 0,
        .memory_bytes = options->memory_bytes,
        .cpu_level = options->cpu_level,
        .kernel_fd = vmm->kernel_fd,
        .initrd_fd = vmm->initrd_fd,
        .cmdline = options->cmdline,
        .poller = vmm->poller,
        .events = {.thread_began = on_thread,
                   .ended = on_ended,
                   .reset = on_reset,
                   .crash_loaded = on_crash_loaded,
                   .context = vmm},
    };
    r = machine_new(&plan, &vmm->machine, err);
    if (r == 0) {
        r = devices_add(vmm, err);
    }
    if (r == 0) {
        r = console_open(vmm, err);
    }
    if (r == 0) {
        r = control_open(vmm, err);
    }
    if (r == 0) {
        r = jail_enter(vmm, err);
    }
    return r == 0 && !options->is_held ? machine_run(vmm->machine, err) : r;
}

static void vmm_end(struct vmm *vmm)
{
    if (vmm->machine != NULL && machine_state(vmm->machine) == MACHINE_RUNNING) {
        (void)machine_pause(vmm->machine, NULL); /* it runs: it can be paused */
    }
    vmm_control_close(&vmm->control);
    vmm->console = console_port_close(vmm->console);
    vmm->machine = machine_free(vmm->machine);
    poller_free(vmm->poller);
    fd_close(&vmm->signal_fd);
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

int main(int argc, char *argv[])
{
    struct vmm vmm = {.kvm_fd = -1, .kernel_fd = -1, .initrd_fd = -1, .signal_fd = -1};
    struct err err = {0};
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
    r = vmm_start(&vmm, &err);
    if (r == 0) {
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
