#include "agent/engine_fake.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/parse_number.h"
#include "base/require.h"
#include "vmm/snapshot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>

#define PAUSED_FILE      "paused"
#define CONTROL_SIZE_MAX 4096
#define LINE_SIZE        256
#define CONSOLE_EVERY_MS 1000 /* between two looks at console.log */
#define PROCESS_EVERY_MS 1000
#define CRASH_STATUS     70
#define WATCH_EVERY_MS   10 /* while the process is about to be held or to run */
#define OOM_SCORE_ADJ    300

/* The argument vector of the process: itself, folder, uid, epoch, intervals file. */
enum { ARG_SELF = 0, ARG_FOLDER, ARG_UID, ARG_EPOCH, ARG_INTERVALS, ARG_COUNT };

/* ---- the process ---- */

static uint64_t boottime_ns(void)
{
    struct timespec now;
    REQUIRE(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void append_line(const char *path, const char *line)
{
    CLEANUP_FD int fd =
        fd_open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600, NULL);
    if (fd >= 0) {
        (void)fd_write_full(fd, line, strlen(line)); /* a test's file: it will notice */
    }
}

static void note_interval(char **argv, const char *what)
{
    char line[LINE_SIZE];
    if (argv[ARG_INTERVALS][0] != '\0') {
        (void)snprintf(line, sizeof(line), "%s %s %s %d %" PRIu64 "\n", what,
                       argv[ARG_UID], argv[ARG_EPOCH], (int)getpid(), boottime_ns());
        append_line(argv[ARG_INTERVALS], line);
    }
}

static char *read_control(const char *path)
{
    uint8_t *text = NULL;
    size_t size;
    if (fd_read_file(AT_FDCWD, path, CONTROL_SIZE_MAX, &text, &size, NULL) != 0) {
        return NULL;
    }
    return (char *)text;
}

static void end_if_told(char **argv)
{
    CLEANUP_FREE char *control = read_control("control");
    const char *end = control == NULL ? NULL : strstr(control, "end=");
    if (end == NULL) {
        return;
    }
    note_interval(argv, "stop");
    if (strncmp(end, "end=crash", 9) == 0) {
        (void)fprintf(stderr, "the fake guest crashed\n");
        _exit(CRASH_STATUS);
    }
    _exit(0);
}

/* How often a running process says so; 0: never. */
static int beat_ms(char **argv)
{
    uint64_t value = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the only thread */
    const char *text = getenv(ENGINE_FAKE_BEAT);
    bool wanted = argv[ARG_INTERVALS][0] != '\0' && text != NULL &&
                  parse_u64(text, &value, NULL) == 0 && value <= PROCESS_EVERY_MS;
    return wanted ? (int)value : 0;
}

/* SIGUSR1 is the fake's cont: the process waits for it as QEMU does with -S. Blocked
 * signals wait in a descriptor, so none is missed. */
static _Noreturn void fake_vm(char **argv)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGUSR1);
    REQUIRE(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
    (void)prctl(PR_SET_NAME, ENGINE_FAKE_ARGV0, 0, 0, 0);
    int fd = signalfd(-1, &signals, SFD_CLOEXEC);
    REQUIRE(fd >= 0);
    append_line("held", "\n"); /* says to the agent: ready for cont */
    bool running = false;
    int beat = beat_ms(argv);
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int r = poll(&poll_fd, 1, running && beat > 0 ? beat : PROCESS_EVERY_MS);
        struct signalfd_siginfo info;
        if (r > 0 && read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            if (info.ssi_signo == SIGTERM) {
                if (running) { /* else no interval has begun */
                    note_interval(argv, "stop");
                }
                _exit(0);
            }
            if (!running) {
                running = true;
                note_interval(argv, "start");
                append_line("console.log", "fake VM is running\n");
                append_line("running", "\n");
            }
        }
        if (access(argv[ARG_FOLDER], F_OK) != 0) {
            _exit(CRASH_STATUS); /* as a VM would whose disks are taken away */
        }
        if (running) {
            end_if_told(argv);
            if (beat > 0) {
                note_interval(argv, "beat");
            }
        }
    }
}

void engine_fake_main(int argc, char **argv)
{
    if (argc == ARG_COUNT && strcmp(argv[ARG_SELF], ENGINE_FAKE_ARGV0) == 0) {
        fake_vm(argv);
    }
}

/* ---- the agent's side ---- */

struct fake_run {
    struct engine_run run;
    const struct engine_host *host;
    struct engine_vm vm;
    struct engine_events events;
    void *context;
    struct console_ring *console;
    struct vm_process *process;
    struct loop_timer *begin; /* start's next step, then its deadline */
    struct loop_timer *watch; /* looks at the folder */
    struct loop_timer *grace; /* of a stop */
    bool adopted;
    bool late; /* as in engine_exit */
    bool held_told, running_told;
    bool stopping, killed, frozen;
    bool paused, paused_told;
    int save_fd;             /* -1: it is not being saved */
    char restored[64];       /* what the memory says that it goes on from; "": it boots */
    uint64_t console_offset; /* in console.log */
    uint64_t sampled_ns;     /* clock, of the last sample */
    uint64_t cpu_ns;         /* pretended so far */
};

static struct fake_run *fake_of(struct engine_run *run)
{
    REQUIRE(run->ops == &engine_fake);
    return (struct fake_run *)(void *)run;
}

static void fake_path(const struct fake_run *run, const char *name, char *ret_path)
{
    (void)snprintf(ret_path, ENGINE_PATH_SIZE, "%s/%s", run->vm.folder, name); /* fits */
}

static bool fake_file_exists(const struct fake_run *run, const char *name)
{
    char path[ENGINE_PATH_SIZE];
    fake_path(run, name, path);
    return access(path, F_OK) == 0;
}

static void fake_exited(struct fake_run *run,
                        enum engine_end end,
                        const struct vm_process_end *process,
                        const char *what)
{
    char log[ENGINE_PATH_SIZE];
    struct engine_exit exit;
    run->watch = loop_timer_close(run->watch);
    run->grace = loop_timer_close(run->grace);
    run->begin = loop_timer_close(run->begin);
    fake_path(run, "engine.log", log);
    engine_exit_describe(&exit, end, process, what, log, run->console);
    exit.late = run->late;
    run->events.exited(run->context, &exit); /* may close the run */
}

static void fake_ended(void *context, const struct vm_process_end *end)
{
    struct fake_run *run = context;
    bool clean =
        end->exit_status == 0 || (end->exit_status < 0 && end->signal_number < 0);
    fake_exited(run,
                run->killed                        ? ENGINE_END_KILLED
                : !run->held_told && !run->adopted ? ENGINE_END_START_FAILED
                : clean && run->stopping           ? ENGINE_END_STOPPED
                : end->exit_status == 0            ? ENGINE_END_GUEST_SHUTDOWN
                                                   : ENGINE_END_CRASHED,
                end, NULL);
}

static void fake_copy_console(struct fake_run *run)
{
    char path[ENGINE_PATH_SIZE];
    char chunk[4096];
    fake_path(run, "console.log", path);
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY, 0, NULL);
    ssize_t count = 0;
    while (fd >= 0 &&
           (count = pread(fd, chunk, sizeof(chunk), (off_t)run->console_offset)) > 0) {
        run->console_offset += (uint64_t)count;
        console_ring_append(run->console, chunk, (size_t)count);
    }
}

/* Its memory: whose run it is. */
static void fake_save_now(struct fake_run *run)
{
    char state[sizeof(run->restored)];
    struct err why = {0};
    (void)snprintf(state, sizeof(state), "epoch %" PRIu64 " of VM %" PRIu64,
                   run->vm.epoch, run->vm.uid);
    if (snapshot_file_begin(run->save_fd, &why) == 0) {
        (void)snapshot_file_finish(run->save_fd, 0, state, sizeof(state),
                                   &why); /* told */
    }
    fd_close(&run->save_fd);
    run->events.saved(run->context, &why);
}

static int fake_load(struct fake_run *run, struct err *err)
{
    struct snapshot_file file;
    CLEANUP_FREE uint8_t *state = NULL;
    if (run->vm.memory_path[0] == '\0') {
        return 0;
    }
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, run->vm.memory_path, O_RDONLY, 0, err);
    int r = fd < 0 ? fd : snapshot_file_open(fd, &file, err);
    r = r == 0 ? snapshot_file_read_state(fd, &file, &state, err) : r;
    if (r == 0 && file.state_bytes != sizeof(run->restored)) {
        r = err_set(err, BERTH_EINVALID, "the memory is of another engine");
    }
    if (r == 0) {
        memcpy(run->restored, state, sizeof(run->restored) - 1);
    }
    return r;
}

static void fake_say_restored(struct fake_run *run)
{
    char line[LINE_SIZE];
    if (run->restored[0] != '\0') {
        (void)snprintf(line, sizeof(line), "it goes on from %s\n", run->restored);
        console_ring_append(run->console, line, strlen(line));
        run->restored[0] = '\0';
    }
}

static void fake_watch(void *context)
{
    struct fake_run *run = context;
    fake_copy_console(run);
    if (run->paused && !run->paused_told) {
        run->paused_told = true;
        run->held_told = run->running_told = true; /* also one that was taken over */
        run->events.paused(run->context);
    } else if (run->save_fd >= 0) {
        fake_save_now(run);
    } else if (!run->running_told && fake_file_exists(run, "running")) {
        run->held_told = true;
        run->running_told = true;
        run->begin = loop_timer_close(run->begin);
        loop_timer_again(run->watch, CONSOLE_EVERY_MS, CONSOLE_EVERY_MS);
        fake_say_restored(run);
        run->events.running(run->context);
    } else if (!run->held_told && fake_file_exists(run, "held")) {
        run->held_told = true;
        run->begin = loop_timer_close(run->begin);
        loop_timer_again(run->watch, CONSOLE_EVERY_MS, CONSOLE_EVERY_MS);
        run->events.held(run->context);
    }
}

static void fake_too_late(struct fake_run *run)
{
    const struct vm_process_end unknown = {-1, -1};
    if (run->process != NULL) {
        (void)vm_process_signal(run->process, SIGKILL); /* or it has ended by itself */
        run->process = vm_process_close(run->process);
    }
    run->late = true;
    fake_exited(run, ENGINE_END_START_FAILED, &unknown, "not held in time");
}

static void fake_begin(void *context)
{
    struct fake_run *run = context;
    const struct vm_process_end unknown = {-1, -1};
    if (run->process != NULL) {
        fake_too_late(run);
        return;
    }
    if (run->killed) {
        fake_exited(run, ENGINE_END_KILLED, &unknown, NULL);
        return;
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it while we run */
    const char *intervals = getenv(ENGINE_FAKE_INTERVALS);
    char uid[24];
    char epoch[24];
    char log[ENGINE_PATH_SIZE];
    (void)snprintf(uid, sizeof(uid), "%" PRIu64, run->vm.uid);
    (void)snprintf(epoch, sizeof(epoch), "%" PRIu64, run->vm.epoch);
    fake_path(run, "engine.log", log);
    const char *const argv[ARG_COUNT + 1] = {
        ENGINE_FAKE_ARGV0,
        run->vm.folder,
        uid,
        epoch,
        intervals == NULL ? "" : intervals,
        NULL,
    };
    const struct vm_process_spec spec = {
        .argv = argv,
        .program = "/proc/self/exe",
        .folder = run->vm.folder,
        .log_path = log,
        .oom_score_adj = OOM_SCORE_ADJ,
        .lock = run->vm.lock,
    };
    struct err err = {0};
    if (fake_load(run, &err) == 0) {
        run->process = vm_process_spawn(run->host->loop, &spec, fake_ended, run, &err);
    }
    if (run->process == NULL) {
        fake_exited(run, ENGINE_END_START_FAILED, &unknown, err.text);
        return;
    }
    loop_timer_again(run->begin, ENGINE_START_TIMEOUT_MS, 0);
    loop_timer_again(run->watch, WATCH_EVERY_MS, WATCH_EVERY_MS);
    int r = run->events.spawned(run->context, vm_process_identity(run->process));
    r = r == 0 ? vm_process_release(run->process, &err) : r;
    if (r < 0) {
        run->process = vm_process_close(run->process);
        fake_exited(run, ENGINE_END_START_FAILED, &unknown, "it could not be recorded");
    }
}

static struct fake_run *fake_new(const struct engine_host *host,
                                 const struct engine_vm *vm,
                                 struct console_ring *console,
                                 const struct engine_events *events,
                                 void *context,
                                 struct err *err)
{
    struct fake_run *run = calloc(1, sizeof(*run));
    if (run == NULL) {
        err_set(err, -ENOMEM, "fake VM: out of memory");
        return NULL;
    }
    run->run.ops = &engine_fake;
    run->host = host;
    run->vm = *vm;
    run->events = *events;
    run->context = context;
    run->console = console;
    run->save_fd = -1;
    run->sampled_ns = clock_now_ns(host->clock);
    run->watch =
        loop_timer_new(host->loop, WATCH_EVERY_MS, WATCH_EVERY_MS, fake_watch, run);
    if (run->watch == NULL) {
        err_set(err, -ENOMEM, "fake VM: out of memory");
        free(run);
        return NULL;
    }
    return run;
}

static int
fake_check(const struct engine_host *host, const struct engine_vm *vm, struct err *err)
{
    (void)host;
    if (strlen(vm->folder) > ENGINE_FOLDER_MAX || vm->folder[0] != '/') {
        return err_set(err, BERTH_EINVALID, "folder %s: not an absolute, short path",
                       vm->folder);
    }
    return 0;
}

static struct engine_run *fake_start(const struct engine_host *host,
                                     const struct engine_vm *vm,
                                     struct console_ring *console,
                                     const struct engine_events *events,
                                     void *context,
                                     struct err *err)
{
    if (fake_check(host, vm, err) != 0) {
        return NULL;
    }
    struct fake_run *run = fake_new(host, vm, console, events, context, err);
    if (run == NULL) {
        return NULL;
    }
    static const char *const old_files[] = {"held", "running", "console.log", "control",
                                            PAUSED_FILE};
    for (size_t i = 0; i < ARRAY_COUNT(old_files); i++) {
        char path[ENGINE_PATH_SIZE];
        fake_path(run, old_files[i], path);
        (void)unlink(path); /* of an earlier run, if there was one */
    }
    run->begin = loop_timer_new(host->loop, 0, 0, fake_begin, run);
    if (run->begin == NULL) {
        err_set(err, -ENOMEM, "fake VM: out of memory");
        (void)engine_fake.close(&run->run);
        return NULL;
    }
    return &run->run;
}

static struct engine_run *fake_adopt(const struct engine_host *host,
                                     const struct engine_vm *vm,
                                     const struct vm_process_identity *identity,
                                     struct console_ring *console,
                                     const struct engine_events *events,
                                     void *context,
                                     struct err *err)
{
    struct fake_run *run = fake_new(host, vm, console, events, context, err);
    if (run == NULL) {
        return NULL;
    }
    run->process = vm_process_adopt(host->loop, identity, fake_ended, run, err);
    if (run->process == NULL) {
        (void)engine_fake.close(&run->run);
        return NULL;
    }
    run->adopted = true;
    run->paused = fake_file_exists(run, PAUSED_FILE);
    return &run->run;
}

static int fake_release(struct engine_run *base, struct err *err)
{
    struct fake_run *run = fake_of(base);
    if (run->process == NULL) {
        return err_set(err, BERTH_EPHASE, "no process waits at the gate");
    }
    loop_timer_again(run->begin, ENGINE_START_TIMEOUT_MS, 0);
    return vm_process_release(run->process, err);
}

static int fake_cont(struct engine_run *base, struct err *err)
{
    struct fake_run *run = fake_of(base);
    if (run->process == NULL || !run->held_told) {
        return err_set(err, BERTH_EPHASE, "the VM is not held yet");
    }
    bool first = !run->running_told;
    /* A frozen process takes the first signal when it thaws, and thaws by `freeze`. */
    int r = first         ? vm_process_signal(run->process, SIGUSR1)
            : run->frozen ? 0
                          : vm_process_signal(run->process, SIGCONT);
    if (r != 0) {
        return err_sys(err, r, "continue fake VM");
    }
    char paused[ENGINE_PATH_SIZE];
    fake_path(run, PAUSED_FILE, paused);
    (void)unlink(paused); /* of one that was held there is none */
    run->paused = false;
    run->running_told = false; /* told again by the watch */
    loop_timer_again(run->watch, WATCH_EVERY_MS, WATCH_EVERY_MS);
    return 0;
}

static int fake_pause(struct engine_run *base, struct err *err)
{
    struct fake_run *run = fake_of(base);
    if (run->process == NULL || !run->running_told) {
        return err_set(err, BERTH_EPHASE, "the VM does not run");
    }
    int r = vm_process_signal(run->process, SIGSTOP);
    if (r != 0) {
        return err_sys(err, r, "pause fake VM");
    }
    char paused[ENGINE_PATH_SIZE];
    fake_path(run, PAUSED_FILE, paused);
    append_line(paused, "\n"); /* an agent that takes it over cannot ask it */
    run->paused = true;
    run->paused_told = false;
    loop_timer_again(run->watch, WATCH_EVERY_MS, WATCH_EVERY_MS);
    return 0;
}

static int fake_save(struct engine_run *base, int fd, struct err *err)
{
    struct fake_run *run = fake_of(base);
    int r = run->save_fd >= 0 ? err_set(err, BERTH_EBUSY, "it is being saved already")
            : run->paused     ? 0
                              : fake_pause(base, err);
    if (r < 0) {
        return r;
    }
    run->save_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (run->save_fd < 0) {
        return err_sys(err, -errno, "save fake VM");
    }
    loop_timer_again(run->watch, WATCH_EVERY_MS, WATCH_EVERY_MS);
    return 0;
}

/* At the next look it is over in any case. */
static void fake_save_cancel(struct engine_run *base)
{
    (void)base;
}

/* A test's file, as its other ones: what the VM was told. */
static void fake_limit(struct engine_run *base, const struct engine_limits *limits)
{
    struct fake_run *run = fake_of(base);
    char path[ENGINE_PATH_SIZE];
    char line[LINE_SIZE];
    fake_path(run, "limits", path);
    for (uint32_t i = 0; i < limits->disk_count; i++) {
        const struct engine_disk_limit *disk = &limits->disks[i];
        (void)snprintf(line, sizeof(line), "%s %" PRIu64 " %" PRIu64 "\n", disk->name,
                       disk->limit.operations, disk->limit.bytes);
        append_line(path, line);
    }
}

/* Likewise: what it was said to have. */
static void fake_know(struct engine_run *base, const struct engine_vm *vm)
{
    struct fake_run *run = fake_of(base);
    char path[ENGINE_PATH_SIZE];
    char line[LINE_SIZE];
    fake_path(run, "devices", path);
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        (void)snprintf(line, sizeof(line), "disk %s\n", vm->disks[i].name);
        append_line(path, line);
    }
    for (uint32_t i = 0; i < vm->nic_count; i++) {
        (void)snprintf(line, sizeof(line), "nic %s\n", vm->nics[i].tap);
        append_line(path, line);
    }
}

static void fake_kill(struct engine_run *base)
{
    struct fake_run *run = fake_of(base);
    run->killed = true;
    if (run->process != NULL) {                         /* else fake_begin sees it */
        (void)vm_process_signal(run->process, SIGKILL); /* or it has ended by itself */
    }
}

static void fake_grace_over(void *context)
{
    struct fake_run *run = context;
    fake_kill(&run->run);
}

static void fake_stop(struct engine_run *base, uint64_t grace_ms)
{
    struct fake_run *run = fake_of(base);
    run->stopping = true;
    if (run->grace == NULL) {
        grace_ms = grace_ms != 0 ? grace_ms : engine_host_ending_ms(run->host);
        run->grace = loop_timer_new(run->host->loop, grace_ms, 0, fake_grace_over, run);
    }
    if (run->grace == NULL || run->process == NULL) {
        fake_kill(base);
    } else {
        (void)vm_process_signal(run->process, SIGTERM); /* or it has ended by itself */
    }
}

static int fake_freeze(struct engine_run *base, bool frozen)
{
    struct fake_run *run = fake_of(base);
    run->frozen = frozen;
    if (run->process == NULL) {
        return -ESRCH;
    }
    return vm_process_signal(run->process, frozen || run->paused ? SIGSTOP : SIGCONT);
}

static uint64_t control_number(const char *control, const char *key, uint64_t fallback)
{
    const char *at = control == NULL ? NULL : strstr(control, key);
    return at == NULL ? fallback : strtoull(at + strlen(key), NULL, 10);
}

static int fake_sample(struct engine_run *base, struct engine_sample *ret_sample)
{
    struct fake_run *run = fake_of(base);
    if (run->process == NULL) {
        return -ESRCH;
    }
    char path[ENGINE_PATH_SIZE];
    fake_path(run, "control", path);
    CLEANUP_FREE char *control = read_control(path);
    uint64_t now_ns = clock_now_ns(run->host->clock);
    uint64_t cpu_permille = control_number(control, "cpu=", 0);
    cpu_permille = cpu_permille > 1000 ? 1000 : cpu_permille;
    run->cpu_ns += (now_ns - run->sampled_ns) / 1000 * cpu_permille * run->vm.cpu_count;
    run->sampled_ns = now_ns;
    ret_sample->cpu_ns = run->cpu_ns;
    ret_sample->memory_bytes =
        control_number(control, "memory=", run->vm.memory_bytes / 4);
    return 0;
}

static int fake_console_write(struct engine_run *base, const void *data, size_t size)
{
    console_ring_append(fake_of(base)->console, data, size); /* it echoes */
    return 0;
}

static struct engine_run *fake_close(struct engine_run *base)
{
    if (base != NULL) {
        struct fake_run *run = fake_of(base);
        run->begin = loop_timer_close(run->begin);
        run->watch = loop_timer_close(run->watch);
        run->grace = loop_timer_close(run->grace);
        run->process = vm_process_close(run->process);
        fd_close(&run->save_fd);
        free(run);
    }
    return NULL;
}

const struct engine_ops engine_fake = {
    .name = "fake",
    .engine = ENGINE_FAKE,
    .check = fake_check,
    .start = fake_start,
    .adopt = fake_adopt,
    .release = fake_release,
    .cont = fake_cont,
    .pause = fake_pause,
    .save = fake_save,
    .save_cancel = fake_save_cancel,
    .limit = fake_limit,
    .know = fake_know,
    .stop = fake_stop,
    .kill = fake_kill,
    .freeze = fake_freeze,
    .sample = fake_sample,
    .console_write = fake_console_write,
    .close = fake_close,
};
