#include "agent/engine_qemu.h"

#include "agent/qmp_client.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/parse_number.h"
#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARGUMENTS_MAX      160
#define OOM_SCORE_ADJ      300
#define IMPLICIT_DISK      "root" /* of an image that boots a disk nobody asked for */
#define POWERDOWN_EVERY_MS 1000   /* a guest that still boots does not hear the first */
#define QMP_AGAIN_MS       2000   /* a lost control connection is made again */
/* A full disk is emptied by people or by eviction: seconds do not matter, and a try in
 * vain costs the guest one failed write. */
#define WAITING_AGAIN_MS 5000
/* An installer resets a few times, a broken guest for ever: so many in a row, none of
 * them after a life of RESET_LIFE_MS, and it has failed. Firmware may answer a reset with
 * another one: what follows within RESET_SAME_MS is the same. */
#define RESETS_MAX    8
#define RESET_LIFE_MS 120000
#define RESET_SAME_MS 2000

/* Added to every kernel command line: one serial port, no waiting for hardware that is
 * not there. */
#define CMDLINE_ALWAYS "console=ttyS0 reboot=t panic=-1"

/* ---- arguments
 * ---------------------------------------------------------------------------------------
 */

struct arguments {
    char **items;
    unsigned count;
    bool failed;
};

static void add(struct arguments *arguments, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void add(struct arguments *arguments, const char *format, ...)
{
    va_list values;
    if (arguments->failed || arguments->count + 1 >= ARGUMENTS_MAX) {
        arguments->failed = true;
        return;
    }
    va_start(values, format);
    if (vasprintf(&arguments->items[arguments->count], format, values) < 0) {
        arguments->items[arguments->count] = NULL;
        arguments->failed = true;
    } else {
        arguments->count++;
    }
    va_end(values);
}

static void add_pair(struct arguments *arguments, const char *option, const char *value)
{
    add(arguments, "%s", option);
    add(arguments, "%s", value);
}

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

static void add_machine(struct arguments *arguments,
                        const struct engine_vm *vm,
                        const struct platform *platform)
{
    add_pair(arguments, "-machine",
             !platform->microvm ? "q35"
             : platform->native
                 ? "microvm,acpi=on,auto-kernel-cmdline=off,x-option-roms=off"
                 : "microvm,acpi=on,pit=off,pic=off,rtc=on,auto-kernel-cmdline=off");
    add_pair(arguments, "-accel", platform->native ? "kvm" : "tcg,thread=multi");
    /* Emulated string instructions with ERMS, and a fifth level of page tables, only cost
     * time. */
    add_pair(arguments, "-cpu", platform->native ? "host" : "max,-erms,-la57");
    add(arguments, "-smp");
    add(arguments, "%" PRIu32, vm->cpu_count);
    add(arguments, "-m");
    add(arguments, "%" PRIu64 "M", vm->memory_bytes / MIB);
    if (!boots_kernel(vm)) {
        return;
    }
    add_pair(arguments, "-kernel", vm->kernel_path);
    if (vm->initrd_path[0] != '\0') {
        add_pair(arguments, "-initrd", vm->initrd_path);
    }
    add(arguments, "-append");
    if (platform->microvm && !platform->native) {
        add(arguments, "%s tsc=reliable tsc_early_khz=%" PRIu32 "%s%s", CMDLINE_ALWAYS,
            platform->tsc_khz, vm->cmdline[0] != '\0' ? " " : "", vm->cmdline);
    } else {
        add(arguments, "%s%s%s", CMDLINE_ALWAYS, vm->cmdline[0] != '\0' ? " " : "",
            vm->cmdline);
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

static void add_disks(struct arguments *arguments,
                      const struct engine_vm *vm,
                      const struct platform *platform)
{
    char folder[2 * ENGINE_FOLDER_MAX];
    escape(vm->folder, folder, sizeof(folder));
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        add(arguments, "-blockdev");
        add(arguments,
            "driver=qcow2,node-name=disk%" PRIu32
            ",discard=unmap,file.driver=file,file.filename=%s/disk-%s.qcow2",
            i, folder, vm->disks[i].name);
        add(arguments, "-device");
        add(arguments, "virtio-blk-%s,drive=disk%" PRIu32 ",serial=%.20s", bus(platform),
            i, vm->disks[i].name);
    }
}

static void add_nics(struct arguments *arguments,
                     const struct engine_vm *vm,
                     const struct platform *platform)
{
    for (uint32_t i = 0; i < vm->nic_count; i++) {
        char mac[MAC_TEXT_SIZE];
        format_mac(vm->nics[i].mac, mac);
        add(arguments, "-netdev");
        add(arguments,
            "tap,id=net%" PRIu32 ",ifname=%s,script=no,downscript=no,vhost=off", i,
            vm->nics[i].tap);
        add(arguments, "-device");
        add(arguments, "virtio-net-%s,netdev=net%" PRIu32 ",mac=%s", bus(platform), i,
            mac);
    }
}

static void add_channels(struct arguments *arguments,
                         const struct engine_vm *vm,
                         const struct platform *platform)
{
    char folder[2 * ENGINE_FOLDER_MAX];
    escape(vm->folder, folder, sizeof(folder));
    add(arguments, "-chardev");
    /* The log is for what is said while no daemon listens; vm_supervisor trims it. */
    add(arguments,
        "socket,id=console,path=%s/console.sock,server=on,wait=off,"
        "logfile=%s/" ENGINE_SERIAL_LOG ",logappend=on",
        folder, folder);
    add_pair(arguments, "-serial", "chardev:console");
    add(arguments, "-chardev");
    add(arguments, "socket,id=qmp,path=%s/qmp.sock,server=on,wait=off", folder);
    add_pair(arguments, "-mon", "chardev=qmp,mode=control");
    add_pair(arguments, "-object", "rng-random,id=rng,filename=/dev/urandom");
    add(arguments, "-device");
    add(arguments, "virtio-rng-%s,rng=rng", bus(platform));
    if (!platform->microvm) { /* which has no bus for it */
        add_pair(arguments, "-device", "pvpanic");
    }
}

char **
engine_qemu_arguments(const struct engine_vm *vm, enum kvm_kind kvm, uint32_t tsc_khz)
{
    const struct platform platform = {.native = kvm == KVM_NATIVE,
                                      .microvm = boots_kernel(vm) &&
                                                 (kvm == KVM_NATIVE || tsc_khz != 0),
                                      .tsc_khz = tsc_khz};
    struct arguments arguments = {.items = calloc(ARGUMENTS_MAX, sizeof(char *))};
    if (arguments.items == NULL) {
        return NULL;
    }
    add(&arguments, "%s", ENGINE_QEMU_PROGRAM);
    add(&arguments, "-name");
    add(&arguments, "%s/%s,process=berth-%.9s", vm->tenant, vm->name, vm->name);
    add(&arguments, "-nodefaults");
    add(&arguments, "-no-user-config");
    add_pair(&arguments, "-display", "none");
    add(&arguments, "-S");
    add_pair(&arguments, "-sandbox",
             "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add_pair(&arguments, "-action", "shutdown=pause,panic=pause,reboot=reset");
    add_machine(&arguments, vm, &platform);
    add_channels(&arguments, vm, &platform);
    add_disks(&arguments, vm, &platform);
    add_nics(&arguments, vm, &platform);
    if (arguments.failed) {
        return engine_qemu_arguments_free(arguments.items);
    }
    return arguments.items;
}

char **engine_qemu_arguments_free(char **arguments)
{
    for (char **item = arguments; item != NULL && *item != NULL; item++) {
        free(*item);
    }
    free(arguments);
    return NULL;
}

/* ---- a run
 * -------------------------------------------------------------------------------------------
 */

struct qemu_run {
    struct engine_run run;
    const struct engine_host *host;
    struct engine_vm vm;
    struct engine_events events;
    void *context;
    struct console_ring *console;
    struct console_link *link;
    struct vm_process *process;
    struct qmp_client *qmp;
    struct loop_child *disk_child; /* qemu-img, one disk after another */
    uint32_t disk_next;
    struct loop_timer *begin;     /* start's first step, then its deadline */
    struct loop_timer *grace;     /* of a stop */
    uint64_t grace_end_ms;        /* loop time */
    struct loop_timer *powerdown; /* asks the guest again and again */
    struct loop_timer *again;     /* connects QMP again */
    struct loop_timer *recheck;   /* while it waits: lets it try again */
    bool adopted;
    bool held_told;
    bool running;
    bool stopping;
    bool killed;
    bool frozen;
    bool guest_off; /* the guest powered itself off; QEMU waits for our kill */
    bool panicked;
    bool disk_fault;   /* QEMU stops, or has stopped, because a disk cannot be written */
    bool waiting;      /* told: it stands still because of that */
    unsigned resets;   /* in a row, each soon after the last */
    uint64_t alive_ms; /* loop time when it began to run, or reset last */
    uint64_t reset_ms; /* loop time of the last one counted; 0: none */
    char what[128];    /* why we ended it, or why it will end */
};

static struct qemu_run *qemu_of(struct engine_run *run)
{
    REQUIRE(run->ops == &engine_qemu);
    return (struct qemu_run *)(void *)run;
}

static void qemu_path(const struct qemu_run *run, const char *name, char *ret_path)
{
    (void)snprintf(ret_path, ENGINE_PATH_SIZE, "%s/%s", run->vm.folder, name); /* fits */
}

/* Everything but the process. */
static void qemu_release(struct qemu_run *run)
{
    run->begin = loop_timer_close(run->begin);
    run->grace = loop_timer_close(run->grace);
    run->powerdown = loop_timer_close(run->powerdown);
    run->again = loop_timer_close(run->again);
    run->recheck = loop_timer_close(run->recheck);
    run->qmp = qmp_client_close(run->qmp);
    run->link = console_link_close(run->link);
    run->disk_child = loop_child_close(run->disk_child);
}

static void qemu_exited(struct qemu_run *run,
                        enum engine_end end,
                        const struct vm_process_end *process,
                        const char *what)
{
    char log[ENGINE_PATH_SIZE];
    struct engine_exit exit;
    qemu_release(run);
    qemu_path(run, "engine.log", log);
    engine_exit_describe(&exit, end, process, what, log, run->console);
    run->events.exited(run->context, &exit); /* may close the run */
}

static enum engine_end end_of(const struct qemu_run *run)
{
    if (run->panicked) {
        return ENGINE_END_GUEST_PANIC;
    }
    if (run->guest_off) {
        return run->stopping ? ENGINE_END_STOPPED : ENGINE_END_GUEST_SHUTDOWN;
    }
    if (run->killed) {
        return ENGINE_END_KILLED;
    }
    return !run->held_told && !run->adopted ? ENGINE_END_START_FAILED
                                            : ENGINE_END_CRASHED;
}

static void qemu_ended(void *context, const struct vm_process_end *end)
{
    struct qemu_run *run = context;
    qemu_exited(run, end_of(run), end, run->what[0] != '\0' ? run->what : NULL);
}

static void process_kill(struct qemu_run *run)
{
    if (run->process != NULL) {
        (void)vm_process_signal(run->process, SIGKILL); /* or it has ended by itself */
    }
}

static void start_failed(struct qemu_run *run, const char *what)
{
    const struct vm_process_end unknown = {-1, -1};
    if (run->process != NULL) {
        (void)snprintf(run->what, sizeof(run->what), "%s", what);
        process_kill(run); /* its end tells */
        return;
    }
    qemu_exited(run, run->killed ? ENGINE_END_KILLED : ENGINE_END_START_FAILED, &unknown,
                what);
}

/* ---- QMP
 * ---------------------------------------------------------------------------------------------
 */

static void held(struct qemu_run *run)
{
    run->begin = loop_timer_close(run->begin);
    if (!run->held_told) {
        run->held_told = true;
        run->events.held(run->context);
    }
}

/* Ended guests wait paused for us, so that a clean end is seen even after an absence. */
static void guest_ended(struct qemu_run *run, bool panicked)
{
    run->guest_off = !panicked;
    run->panicked = panicked;
    process_kill(run);
}

static void running(struct qemu_run *run)
{
    run->begin = loop_timer_close(run->begin);
    run->held_told = true;
    run->running = true;
    run->disk_fault = false;
    if (run->alive_ms == 0) {
        run->alive_ms = uv_now(run->host->loop);
    }
    if (!run->waiting) { /* else the next recheck knows whether it lasts */
        run->events.running(run->context);
    }
}

/* One QMP command whose answer does not matter or comes as an event. */
static int
command(struct qemu_run *run, const char *name, qmp_reply *reply, struct err *err)
{
    if (run->qmp == NULL || !qmp_client_is_ready(run->qmp)) {
        return err_set(err, BERTH_EBUSY, "QEMU's control connection is not up");
    }
    return qmp_client_execute(run->qmp, name, NULL, ENGINE_CALL_TIMEOUT_MS, reply, run,
                              err);
}

static void powerdown(void *context)
{
    struct qemu_run *run = context;
    /* Not up yet, or deaf: asked again soon, and the grace ends in any case. */
    (void)command(run, "system_powerdown", NULL, NULL);
}

static void recheck(void *context)
{
    struct qemu_run *run = context;
    if (run->running && !run->disk_fault) {
        run->recheck = loop_timer_close(run->recheck);
        run->waiting = false;
        log_info("engine", "VM goes on: its disks can be written again",
                 KV_STR("vm", run->vm.name));
        run->events.running(run->context);
    } else if (!run->running && !run->frozen) {
        /* Not up, or deaf: asked again at the next turn. */
        (void)command(run, "cont", NULL, NULL);
    }
}

/* QEMU has stopped the vCPUs so that the guest need not see a write fail that may succeed
 * later. */
static void stands_still(struct qemu_run *run)
{
    run->running = false;
    if (run->waiting) {
        return; /* tried in vain */
    }
    run->recheck =
        loop_timer_new(run->host->loop, WAITING_AGAIN_MS, WAITING_AGAIN_MS, recheck, run);
    if (run->recheck == NULL) {
        (void)snprintf(run->what, sizeof(run->what),
                       "out of memory while the host's disk was full");
        process_kill(run); /* standing still for ever would help nobody */
        return;
    }
    run->waiting = true;
    log_warn("engine", "VM waits: the disk of its host is full",
             KV_STR("vm", run->vm.name));
    run->events.waiting(run->context, "paused: the host's disk is full; it goes on by "
                                      "itself when there is room");
}

static void
on_status(void *context, int code, const json_t *result, const struct err *error)
{
    struct qemu_run *run = context;
    const char *status = code == 0 ? json_member_text(result, "status", "") : "";
    (void)error; /* a peer that does not answer is closed by its own rules */
    if (strcmp(status, "running") == 0) {
        running(run);
    } else if (strcmp(status, "shutdown") == 0) {
        guest_ended(run, false);
    } else if (strcmp(status, "guest-panicked") == 0) {
        guest_ended(run, true);
    } else if (strcmp(status, "io-error") == 0) { /* while we were away */
        running(run);
        run->disk_fault = true;
        stands_still(run);
    } else if (strcmp(status, "internal-error") == 0) {
        (void)snprintf(run->what, sizeof(run->what), "QEMU met an internal error");
        process_kill(run);
    } else if (code == 0) {
        held(run);
    }
}

static void on_ready(void *context)
{
    struct qemu_run *run = context;
    if (command(run, "query-status", on_status, NULL) < 0) {
        start_failed(run, "QEMU does not answer");
    } else if (run->stopping) {
        powerdown(run);
    }
}

/* reason: "guest-shutdown", "guest-panic", "host-signal", ... */
static void on_shutdown(struct qemu_run *run, const json_t *data)
{
    const char *reason = json_member_text(data, "reason", "");
    if (json_is_true(json_object_get(data, "guest"))) {
        guest_ended(run, strcmp(reason, "guest-panic") == 0);
    } else { /* QEMU ends by itself after these */
        (void)snprintf(run->what, sizeof(run->what), "QEMU was ended from outside: %.60s",
                       reason);
    }
}

static void on_reset(struct qemu_run *run, const json_t *data)
{
    char text[96];
    uint64_t now_ms = uv_now(run->host->loop);
    if (!json_is_true(json_object_get(data, "guest")) || run->panicked) {
        return; /* nobody's, or one more before our kill arrives */
    }
    uint64_t life_ms = now_ms - run->alive_ms;
    run->alive_ms = now_ms;
    if (run->reset_ms != 0 && now_ms - run->reset_ms < RESET_SAME_MS) {
        return;
    }
    run->reset_ms = now_ms;
    run->resets = life_ms < RESET_LIFE_MS ? run->resets + 1 : 1;
    if (run->resets >= RESETS_MAX) {
        (void)snprintf(run->what, sizeof(run->what),
                       "the guest reset itself %u times in a row, each time within "
                       "%u seconds",
                       run->resets, RESET_LIFE_MS / 1000);
        guest_ended(run, true);
    } else if (run->resets > 1) {
        (void)snprintf(text, sizeof(text), "the guest reset itself %u times in a row",
                       run->resets);
        run->events.noted(run->context, text);
    }
}

static void on_event(void *context, const char *name, const json_t *data)
{
    struct qemu_run *run = context;
    if (strcmp(name, "RESUME") == 0) {
        running(run);
    } else if (strcmp(name, "SHUTDOWN") == 0) {
        on_shutdown(run, data);
    } else if (strcmp(name, "GUEST_PANICKED") == 0) {
        guest_ended(run, true);
    } else if (strcmp(name, "RESET") == 0) {
        on_reset(run, data);
    } else if (strcmp(name, "BLOCK_IO_ERROR") == 0) {
        run->disk_fault = strcmp(json_member_text(data, "action", ""), "stop") == 0;
        if (!run->waiting) {
            log_warn("engine", "a disk of a VM cannot be written or read",
                     KV_STR("vm", run->vm.name),
                     KV_STR("why", json_member_text(data, "reason", "")));
        }
    } else if (strcmp(name, "STOP") == 0 && run->running && !run->guest_off &&
               !run->panicked) {
        if (run->disk_fault) {
            stands_still(run);
        } else {
            run->running = false;
            run->events.paused(run->context);
        }
    }
}

static int connect_qmp(struct qemu_run *run, struct err *err);

static void connect_again(void *context)
{
    struct qemu_run *run = context;
    if (run->qmp == NULL && connect_qmp(run, NULL) != 0) {
        loop_timer_again(run->again, QMP_AGAIN_MS, 0);
    }
}

static void on_closed(void *context, const struct err *reason)
{
    struct qemu_run *run = context;
    run->qmp = qmp_client_close(run->qmp);
    if (!run->held_told && !run->adopted) {
        start_failed(run, reason->text);
        return;
    }
    /* The VM itself is not touched; without QMP it can still be frozen and killed. It is
     * frozen, hangs, or is about to end: its end is told by the process. */
    log_debug("engine", "control connection of a VM is over", KV_STR("vm", run->vm.name),
              KV_STR("why", reason->text));
    if (run->again == NULL) {
        run->again = loop_timer_new(run->host->loop, QMP_AGAIN_MS, 0, connect_again, run);
    } else {
        loop_timer_again(run->again, QMP_AGAIN_MS, 0);
    }
}

static int connect_qmp(struct qemu_run *run, struct err *err)
{
    static const struct qmp_handlers handlers = {
        .ready = on_ready, .event = on_event, .closed = on_closed};
    char path[ENGINE_PATH_SIZE];
    qemu_path(run, "qmp.sock", path);
    run->qmp = qmp_client_open(run->host->loop, path, ENGINE_START_TIMEOUT_MS, &handlers,
                               run, err);
    return run->qmp != NULL ? 0 : -ENOMEM;
}

static int connect_channels(struct qemu_run *run, struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    qemu_path(run, "console.sock", path);
    int r = connect_qmp(run, err);
    if (r == 0) {
        run->link = console_link_open(run->host->loop, path, run->console, err);
    }
    if (run->link != NULL && run->adopted) {
        qemu_path(run, ENGINE_SERIAL_LOG, path);
        console_link_refill(run->link, path);
    }
    return r == 0 && run->link == NULL ? -ENOMEM : r;
}

/* ---- start
 * -------------------------------------------------------------------------------------------
 */

static void process_begin(struct qemu_run *run)
{
    char log[ENGINE_PATH_SIZE];
    struct err err = {0};
    char **arguments =
        engine_qemu_arguments(&run->vm, run->host->kvm, run->host->tsc_khz);
    qemu_path(run, "engine.log", log);
    if (arguments == NULL) {
        start_failed(run, "out of memory");
        return;
    }
    const struct vm_process_spec spec = {
        .argv = (const char *const *)(uintptr_t)arguments,
        .folder = run->vm.folder,
        .log_path = log,
        .oom_score_adj = OOM_SCORE_ADJ,
        .lock = run->vm.lock,
    };
    run->process = vm_process_spawn(run->host->loop, &spec, qemu_ended, run, &err);
    engine_qemu_arguments_free(arguments);
    if (run->process == NULL) {
        start_failed(run, err.text);
        return;
    }
    const struct vm_process_identity *identity = vm_process_identity(run->process);
    if (run->events.spawned(run->context, identity) != 0 ||
        vm_process_release(run->process, &err) != 0 || connect_channels(run, &err) != 0) {
        const struct vm_process_end unknown = {-1, -1};
        process_kill(run);
        run->process = vm_process_close(run->process);
        qemu_exited(run, ENGINE_END_START_FAILED, &unknown,
                    err.text[0] != '\0' ? err.text : "it could not be recorded");
        return;
    }
    loop_timer_again(run->begin, ENGINE_START_TIMEOUT_MS, 0);
}

static void disks_make(struct qemu_run *run);

/* "<folder>/disk-<name>.qcow2<tail>" */
static void
disk_path(const struct qemu_run *run, const char *tail, char ret_path[ENGINE_PATH_SIZE])
{
    (void)snprintf(ret_path, ENGINE_PATH_SIZE, "%s/disk-%s.qcow2%s", run->vm.folder,
                   run->vm.disks[run->disk_next].name, tail); /* fits */
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
                       run->vm.disks[run->disk_next].name,
                       result->errors[0] != '\0' ? result->errors : err_sentence(code));
        text[strcspn(text, "\n")] = '\0';
        (void)unlink(made); /* may not be there */
        start_failed(run, text);
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
    const struct engine_disk *disk = &run->vm.disks[run->disk_next];
    char made[ENGINE_PATH_SIZE];
    char size[32] = "";
    const char *argv[16] = {ENGINE_QEMU_IMG, "create", "-q", "-f", "qcow2"};
    unsigned count = 5;
    struct err err = {0};
    disk_path(run, ".new", made);
    if (disk_size_check(&run->vm, disk, &err) < 0) {
        start_failed(run, err.text);
        return;
    }
    if (disk->from == DISK_FROM_IMAGE) {
        argv[count++] = "-b";
        argv[count++] = run->vm.disk_path;
        argv[count++] = "-F"; /* never guessed: a guest could write another header */
        argv[count++] = run->vm.disk_is_qcow2 ? "qcow2" : "raw";
    }
    argv[count++] = made;
    if (disk->size_bytes > 0) { /* else the image's own */
        (void)snprintf(size, sizeof(size), "%" PRIu64, disk->size_bytes);
        argv[count++] = size;
    }
    argv[count] = NULL;
    run->disk_child = loop_child_run(run->host->loop, argv, NULL, ENGINE_DISK_TIMEOUT_MS,
                                     disk_made, run, &err);
    if (run->disk_child == NULL) {
        start_failed(run, err.text);
    }
}

/* Disks of an earlier run on this host are used again. */
static void disks_make(struct qemu_run *run)
{
    for (; run->disk_next < run->vm.disk_count; run->disk_next++) {
        char path[ENGINE_PATH_SIZE];
        disk_path(run, "", path);
        if (access(path, F_OK) != 0) {
            disk_make(run);
            return;
        }
    }
    process_begin(run);
}

static void qemu_begin(void *context)
{
    struct qemu_run *run = context;
    if (run->process != NULL || run->disk_child != NULL) {
        start_failed(run, "not ready to run in time");
    } else if (run->killed) {
        start_failed(run, "killed before it began");
    } else {
        disks_make(run);
    }
}

/* Names become parts of options and paths: nothing but names may be in them. */
static int names_check(const struct engine_vm *vm, struct err *err)
{
    if (!name_valid(vm->name) || !name_valid(vm->tenant)) {
        return err_set(err, BERTH_EINVALID, "VM or tenant name is not a name");
    }
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        if (!name_valid(vm->disks[i].name)) {
            return err_set(err, BERTH_EINVALID, "disk %" PRIu32 ": not a name", i);
        }
    }
    for (uint32_t i = 0; i < vm->nic_count; i++) {
        const char *tap = vm->nics[i].tap;
        if (tap[0] == '\0' || strpbrk(tap, ",/ =") != NULL) {
            return err_set(err, BERTH_EINVALID, "NIC %" PRIu32 ": not an interface", i);
        }
    }
    return 0;
}

static int
qemu_check(const struct engine_host *host, const struct engine_vm *vm, struct err *err)
{
    (void)host;
    if (vm->folder[0] != '/' || strlen(vm->folder) > ENGINE_FOLDER_MAX) {
        return err_set(err, BERTH_EINVALID, "folder %s: not an absolute, short path",
                       vm->folder);
    }
    if (!boots_kernel(vm) && vm->disk_path[0] == '\0' && vm->disk_count == 0) {
        return err_set(err, BERTH_EINVALID, "nothing to boot: no kernel and no disk");
    }
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        if (vm->disks[i].from == DISK_FROM_IMAGE && vm->disk_path[0] == '\0') {
            return err_set(err, BERTH_EINVALID,
                           "disk %s is from the image, which has none",
                           vm->disks[i].name);
        }
    }
    if (vm->memory_bytes < MIB || vm->cpu_count == 0) {
        return err_set(err, BERTH_EINVALID, "no memory or no CPU");
    }
    return names_check(vm, err);
}

/* An image that is a disk is there to be booted, asked for by name or not. */
static void implicit_disk(struct engine_vm *vm)
{
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        if (vm->disks[i].from == DISK_FROM_IMAGE) {
            return;
        }
    }
    if (boots_kernel(vm) || vm->disk_path[0] == '\0' || vm->disk_count == DISKS_MAX) {
        return;
    }
    memmove(&vm->disks[1], &vm->disks[0], vm->disk_count * sizeof(vm->disks[0]));
    vm->disks[0] = (struct engine_disk){.name = IMPLICIT_DISK, .from = DISK_FROM_IMAGE};
    vm->disk_count++;
}

static struct qemu_run *qemu_new(const struct engine_host *host,
                                 const struct engine_vm *vm,
                                 struct console_ring *console,
                                 const struct engine_events *events,
                                 void *context,
                                 struct err *err)
{
    struct qemu_run *run = calloc(1, sizeof(*run));
    if (run == NULL) {
        (void)err_set(err, -ENOMEM, "QEMU: out of memory");
        return NULL;
    }
    run->run.ops = &engine_qemu;
    run->host = host;
    run->vm = *vm;
    implicit_disk(&run->vm);
    run->console = console;
    run->events = *events;
    run->context = context;
    return run;
}

static struct engine_run *qemu_start(const struct engine_host *host,
                                     const struct engine_vm *vm,
                                     struct console_ring *console,
                                     const struct engine_events *events,
                                     void *context,
                                     struct err *err)
{
    static const char *const old_files[] = {"qmp.sock", "console.sock",
                                            ENGINE_SERIAL_LOG};
    struct qemu_run *run = qemu_check(host, vm, err) == 0
                               ? qemu_new(host, vm, console, events, context, err)
                               : NULL;
    if (run == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_COUNT(old_files); i++) {
        char path[ENGINE_PATH_SIZE];
        qemu_path(run, old_files[i], path);
        (void)unlink(path); /* of an earlier run, if there was one */
    }
    run->begin = loop_timer_new(host->loop, 0, 0, qemu_begin, run);
    if (run->begin == NULL) {
        (void)err_set(err, -ENOMEM, "QEMU: out of memory");
        free(run);
        return NULL;
    }
    return &run->run;
}

static struct engine_run *qemu_adopt(const struct engine_host *host,
                                     const struct engine_vm *vm,
                                     const struct vm_process_identity *identity,
                                     struct console_ring *console,
                                     const struct engine_events *events,
                                     void *context,
                                     struct err *err)
{
    struct qemu_run *run = qemu_new(host, vm, console, events, context, err);
    if (run == NULL) {
        return NULL;
    }
    run->adopted = true;
    run->process = vm_process_adopt(host->loop, identity, qemu_ended, run, err);
    if (run->process == NULL || connect_channels(run, err) != 0) {
        (void)engine_qemu.close(&run->run);
        return NULL;
    }
    return &run->run;
}

/* ---- while it runs
 * ----------------------------------------------------------------------------------- */

static void
on_cont(void *context, int code, const json_t *result, const struct err *error)
{
    struct qemu_run *run = context;
    (void)result; /* the event tells */
    if (code < 0 && code != BERTH_ECLOSED) {
        (void)snprintf(run->what, sizeof(run->what), "%.120s", error->text);
        process_kill(run); /* held for ever would help nobody */
    }
}

static int qemu_cont(struct engine_run *base, struct err *err)
{
    struct qemu_run *run = qemu_of(base);
    if (!run->held_told) {
        return err_set(err, BERTH_EPHASE, "the VM is not held yet");
    }
    return command(run, "cont", on_cont, err);
}

static int qemu_pause(struct engine_run *base, struct err *err)
{
    struct qemu_run *run = qemu_of(base);
    if (!run->running) {
        return err_set(err, BERTH_EPHASE, "the VM does not run");
    }
    return command(run, "stop", NULL, err);
}

static void qemu_kill(struct engine_run *base)
{
    struct qemu_run *run = qemu_of(base);
    run->killed = true;
    if (run->process == NULL && run->disk_child != NULL) {
        run->disk_child = loop_child_close(run->disk_child);
        loop_timer_again(run->begin, 0, 0); /* qemu_begin sees it */
    }
    process_kill(run);
}

static void qemu_grace_over(void *context)
{
    struct qemu_run *run = context;
    qemu_kill(&run->run);
}

static void qemu_stop(struct engine_run *base, uint64_t grace_ms)
{
    struct qemu_run *run = qemu_of(base);
    uint64_t now_ms = uv_now(run->host->loop);
    uint64_t end_ms = grace_ms > UINT64_MAX - now_ms ? UINT64_MAX : now_ms + grace_ms;
    if (run->stopping && end_ms >= run->grace_end_ms) {
        return; /* under way, and ends sooner than this would */
    }
    run->stopping = true;
    run->grace_end_ms = end_ms;
    if (run->grace == NULL) {
        run->grace = loop_timer_new(run->host->loop, grace_ms, 0, qemu_grace_over, run);
        run->powerdown =
            loop_timer_new(run->host->loop, 0, POWERDOWN_EVERY_MS, powerdown, run);
    } else {
        loop_timer_again(run->grace, grace_ms, 0);
    }
    if (run->grace == NULL) {
        qemu_kill(base);
    }
}

static int qemu_freeze(struct engine_run *base, bool frozen)
{
    struct qemu_run *run = qemu_of(base);
    run->frozen = frozen;
    return run->process == NULL
               ? -ESRCH
               : vm_process_signal(run->process, frozen ? SIGSTOP : SIGCONT);
}

static int qemu_sample(struct engine_run *base, struct engine_sample *ret_sample)
{
    struct qemu_run *run = qemu_of(base);
    return run->process == NULL ? -ESRCH
                                : vm_process_usage(run->process, &ret_sample->cpu_ns,
                                                   &ret_sample->memory_bytes);
}

static int qemu_console_write(struct engine_run *base, const void *data, size_t size)
{
    struct qemu_run *run = qemu_of(base);
    return run->link != NULL ? console_link_write(run->link, data, size) : BERTH_ECLOSED;
}

static struct engine_run *qemu_close(struct engine_run *base)
{
    if (base != NULL) {
        struct qemu_run *run = qemu_of(base);
        qemu_release(run);
        run->process = vm_process_close(run->process);
        free(run);
    }
    return NULL;
}

const struct engine_ops engine_qemu = {
    .name = "qemu",
    .engine = ENGINE_QEMU,
    .check = qemu_check,
    .start = qemu_start,
    .adopt = qemu_adopt,
    .cont = qemu_cont,
    .pause = qemu_pause,
    .stop = qemu_stop,
    .kill = qemu_kill,
    .freeze = qemu_freeze,
    .sample = qemu_sample,
    .console_write = qemu_console_write,
    .close = qemu_close,
};
