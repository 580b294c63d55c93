#include "agent/engine_qmp.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OOM_SCORE_ADJ      300
#define POWERDOWN_EVERY_MS 1000 /* a guest that still boots does not hear the first */
#define QMP_AGAIN_MS       2000 /* a lost connection, or a status that was not told */
#define UNHEARD_LOOKS      10
#define RESTORE_BYTES_A_MS (16u << 10) /* of a slow disk; 16 MiB a second */

static void preparation_end(struct engine_qmp_run *run)
{
    if (run->preparing) {
        run->preparing = false;
        run->kind->abandon(run);
    }
}

void engine_qmp_path(const struct engine_qmp_run *run,
                     const char *name,
                     char ret_path[ENGINE_PATH_SIZE])
{
    (void)snprintf(ret_path, ENGINE_PATH_SIZE, "%s/%s", run->vm.folder, name); /* fits */
}

/* Everything but the process. */
static void run_release(struct engine_qmp_run *run)
{
    run->begin = loop_timer_close(run->begin);
    run->unheard = loop_timer_close(run->unheard);
    run->grace = loop_timer_close(run->grace);
    run->powerdown = loop_timer_close(run->powerdown);
    run->again = loop_timer_close(run->again);
    run->recheck = loop_timer_close(run->recheck);
    run->cpus_again = loop_timer_close(run->cpus_again);
    run->ending = loop_timer_close(run->ending);
    run->qmp = qmp_client_close(run->qmp);
    engine_qmp_measure_end(run);
    run->link = console_link_close(run->link);
    preparation_end(run);
}

static void run_exited(struct engine_qmp_run *run,
                       enum engine_end end,
                       const struct vm_process_end *process,
                       const char *what)
{
    char log[ENGINE_PATH_SIZE];
    struct engine_exit exit;
    run_release(run);
    engine_qmp_path(run, "engine.log", log);
    engine_exit_describe(&exit, end, process, what, log, run->console);
    exit.late = run->late;
    exit.unwritten = run->unwritten;
    run->events.exited(run->context, &exit); /* may close the run */
}

static enum engine_end end_of(const struct engine_qmp_run *run)
{
    if (run->panicked) {
        return run->faulted ? ENGINE_END_GUEST_FAULT : ENGINE_END_GUEST_PANIC;
    }
    if (run->guest_off) {
        return run->stopping ? ENGINE_END_STOPPED : ENGINE_END_GUEST_SHUTDOWN;
    }
    if (run->killed) {
        return ENGINE_END_KILLED;
    }
    return engine_qmp_is_fresh(run) ? ENGINE_END_START_FAILED : ENGINE_END_CRASHED;
}

static void run_ended(void *context, const struct vm_process_end *end)
{
    struct engine_qmp_run *run = context;
    qmp_client_hear_last(run->qmp); /* how it ended, or that a disk was not written */
    run_exited(run, end_of(run), end, run->what[0] != '\0' ? run->what : NULL);
}

static void process_kill(struct engine_qmp_run *run)
{
    if (run->process != NULL) {
        (void)vm_process_signal(run->process, SIGKILL); /* or it has ended by itself */
    }
}

static void ending_over(void *context)
{
    struct engine_qmp_run *run = context;
    log_warn("engine", "a VM's disks were not written out in time, it is killed",
             KV_STR("vm", run->vm.name));
    run->unwritten = true;
    process_kill(run);
}

/* An end in peace: what the guest wrote is to be on its disks. QEMU tells a guest that a
 * write is done while the table that leads to it is in QEMU's own memory, until the guest
 * flushes (sync on a bare block device does not) or QEMU ends by itself. A kill there is
 * the loss of those writes. */
static void process_end(struct engine_qmp_run *run)
{
    if (run->process == NULL || run->ending != NULL) {
        return;
    }
    run->ending = loop_timer_new(run->host->loop, engine_host_ending_ms(run->host), 0,
                                 ending_over, run);
    if (run->ending == NULL || vm_process_signal(run->process, SIGTERM) != 0) {
        process_kill(run);
    }
}

void engine_qmp_failed(struct engine_qmp_run *run, const char *what)
{
    const struct vm_process_end unknown = {-1, -1};
    if (run->process != NULL) {
        if (run->what[0] == '\0') { /* what follows from the first fault is no news */
            (void)snprintf(run->what, sizeof(run->what), "%s", what);
        }
        process_kill(run); /* its end tells */
        return;
    }
    run_exited(run, run->killed ? ENGINE_END_KILLED : ENGINE_END_START_FAILED, &unknown,
               what);
}

/* ---- QMP ---- */

static void held(struct engine_qmp_run *run)
{
    run->begin = loop_timer_close(run->begin);
    if (!run->held_told) {
        run->held_told = true;
        run->events.held(run->context);
    }
}

/* Ended guests wait paused for us, so that a clean end is seen even after an absence. */
static void guest_ended(struct engine_qmp_run *run, bool panicked)
{
    run->guest_off = !panicked;
    run->panicked = panicked;
    process_end(run);
}

/* said: what is told of a panic, or NULL. Berth's own program says why, and whether the
 * guest has said so itself. */
static void guest_panicked(struct engine_qmp_run *run, const json_t *said)
{
    const char *reason = json_member_text(said, "reason", "");
    if (run->what[0] == '\0') { /* what follows from the first fault is no news */
        run->faulted = strcmp(json_member_text(said, "cause", ""), "triple-fault") == 0;
        (void)snprintf(run->what, sizeof(run->what), "%.160s", reason);
    }
    guest_ended(run, true);
}

static void running(struct engine_qmp_run *run)
{
    run->begin = loop_timer_close(run->begin);
    run->unheard = loop_timer_close(run->unheard);
    run->held_told = true;
    run->running = true;
    run->disk_fault = run->cont_due = run->unbegun = false;
    engine_qmp_measure_begin(run);
    if (run->resets.alive_ms == 0) {
        run->resets.alive_ms = uv_now(run->host->loop);
    }
    if (!run->waiting) { /* else the next recheck knows whether it lasts */
        run->events.running(run->context);
    }
}

int engine_qmp_command(struct engine_qmp_run *run,
                       const char *name,
                       qmp_reply *reply,
                       struct err *err)
{
    if (run->qmp == NULL || !qmp_client_is_ready(run->qmp)) {
        return err_set(err, BERTH_EBUSY, "the control connection of %s is not up",
                       run->kind->title);
    }
    return qmp_client_execute(run->qmp, name, NULL, ENGINE_CALL_TIMEOUT_MS, reply, run,
                              err);
}

static void powerdown(void *context)
{
    struct engine_qmp_run *run = context;
    /* Not up yet, or deaf: asked again soon, and the grace ends in any case. */
    (void)engine_qmp_command(run, "system_powerdown", NULL, NULL);
}

static void wait_over(struct engine_qmp_run *run)
{
    run->recheck = loop_timer_close(run->recheck);
    run->waiting = false;
}

static void recheck(void *context)
{
    struct engine_qmp_run *run = context;
    if (run->running && !run->disk_fault) {
        wait_over(run);
        log_info("engine", "VM goes on: its disks can be written again",
                 KV_STR("vm", run->vm.name));
        run->events.running(run->context);
    } else if (!run->running && !run->frozen && !run->pausing) {
        /* Not up, or deaf: asked again at the next turn. */
        (void)engine_qmp_command(run, "cont", NULL, NULL);
    }
}

/* The program has stopped the vCPUs so that the guest need not see a write fail that may
 * succeed later. */
static void stands_still(struct engine_qmp_run *run)
{
    run->running = false;
    if (run->waiting) {
        return; /* tried in vain */
    }
    const uint64_t again_ms =
        run->host->waiting_ms != 0 ? run->host->waiting_ms : ENGINE_WAITING_MS;
    run->recheck = loop_timer_new(run->host->loop, again_ms, again_ms, recheck, run);
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

/* Somebody wants it so: room on the disk does not let it go on by itself any more. */
static void paused(struct engine_qmp_run *run)
{
    run->running = false;
    wait_over(run);
    run->events.paused(run->context);
}

static void status_running(struct engine_qmp_run *run, const json_t *status)
{
    (void)status;
    running(run);
}

static void status_shutdown(struct engine_qmp_run *run, const json_t *status)
{
    (void)status;
    guest_ended(run, false);
}

static void status_panicked(struct engine_qmp_run *run, const json_t *status)
{
    guest_panicked(run, status);
}

/* Only one that is found so has not told of it yet. */
static void status_paused(struct engine_qmp_run *run, const json_t *status)
{
    (void)status;
    if (engine_qmp_is_fresh(run)) {
        held(run);
        return;
    }
    run->begin = loop_timer_close(run->begin);
    run->held_told = true;
    paused(run);
}

static void status_io_error(struct engine_qmp_run *run, const json_t *status)
{
    (void)status;
    running(run); /* while we were away */
    run->disk_fault = true;
    stands_still(run);
}

/* Berth's own program says why. */
static void status_internal_error(struct engine_qmp_run *run, const json_t *status)
{
    const char *reason = json_member_text(status, "reason", "");
    (void)snprintf(run->what, sizeof(run->what), "%s met an internal error%s%.160s",
                   run->kind->title, reason[0] != '\0' ? ": " : "", reason);
    process_kill(run);
}

/* RunState of QEMU's QMP reference; whatever is not here stands at its beginning. */
static const struct {
    const char *status;
    void (*take)(struct engine_qmp_run *run, const json_t *status);
} statuses[] = {
    {"running", status_running},   {"paused", status_paused},
    {"shutdown", status_shutdown}, {"guest-panicked", status_panicked},
    {"io-error", status_io_error}, {"internal-error", status_internal_error},
};

static void
on_cont(void *context, int code, const json_t *result, const struct err *error);

/* Once it is known where the guest is: one that runs already, or that has ended, is not
 * told to. */
static void cont_care(struct engine_qmp_run *run)
{
    if (run->cont_due && !run->guest_off && !run->panicked &&
        engine_qmp_command(run, "cont", on_cont, NULL) == 0) {
        run->cont_due = false; /* else behind the next status */
    }
}

static void status_take(struct engine_qmp_run *run, const json_t *result)
{
    const char *status = json_member_text(result, "status", "");
    run->unbegun = run->adopted && !run->running && strcmp(status, "prelaunch") == 0;
    for (size_t i = 0; i < ARRAY_COUNT(statuses); i++) {
        if (strcmp(statuses[i].status, status) == 0) {
            statuses[i].take(run, result);
            return;
        }
    }
    held(run);
}

static void
on_status(void *context, int code, const json_t *result, const struct err *error)
{
    struct engine_qmp_run *run = context;
    (void)error; /* a connection that is over says why itself, and is made again */
    if (code != 0) {
        if (code != BERTH_ECLOSED) {
            engine_qmp_try_again(
                run); /* else the end of a guest could be missed for ever */
        }
        return;
    }
    status_take(run, result);
    cont_care(run);
}

/* One that may run is not ended because its program has much to answer. */
void engine_qmp_status_ask(struct engine_qmp_run *run)
{
    if (engine_qmp_command(run, "query-status", on_status, NULL) < 0) {
        if (engine_qmp_is_fresh(run)) {
            engine_qmp_failed(run, "its control connection does not answer");
        } else {
            engine_qmp_try_again(run);
        }
    } else if (run->stopping) {
        powerdown(run);
    }
}

/* ---- events ---- */

static bool has_run(const struct engine_qmp_run *run)
{
    return (run->adopted && !run->unbegun) || run->resets.alive_ms != 0;
}

/* Behind the limits: a VM that is held, and may be let run, has them. */
static void on_ready(void *context)
{
    struct engine_qmp_run *run = context;
    if (has_run(run) && run->kind->ops->save != NULL) {
        qmp_save_cancel(run->qmp); /* nobody waits for that of a client before */
    }
    engine_qmp_limits_care(run);
    run->status_due = engine_qmp_cpus_care(run) || run->disks_asked;
    if (!run->status_due) {
        engine_qmp_status_ask(run);
    }
}

/* reason: "guest-shutdown", "guest-panic", "host-signal", ... */
static void on_shutdown(struct engine_qmp_run *run, const json_t *data)
{
    const char *reason = json_member_text(data, "reason", "");
    if (json_is_true(json_object_get(data, "guest"))) {
        guest_ended(run, strcmp(reason, "guest-panic") == 0);
    } else if (run->ending == NULL) { /* it ends by itself after these */
        (void)snprintf(run->what, sizeof(run->what), "%s was ended from outside: %.60s",
                       run->kind->title, reason);
    }
}

static void on_reset(struct engine_qmp_run *run, const json_t *data)
{
    char text[96];
    if (!json_is_true(json_object_get(data, "guest")) || run->panicked) {
        return; /* nobody's, or one more before it has ended */
    }
    const unsigned count = reset_count_add(&run->resets, uv_now(run->host->loop));
    if (count >= RESETS_MAX) {
        (void)snprintf(run->what, sizeof(run->what),
                       "the guest reset itself %u times in a row, each time within "
                       "%u seconds",
                       count, RESET_LIFE_MS / 1000);
        run->faulted = true;
        guest_ended(run, true);
    } else if (count > 1) {
        (void)snprintf(text, sizeof(text), "the guest reset itself %u times in a row",
                       count);
        run->events.noted(run->context, text);
    }
}

static void on_resume(struct engine_qmp_run *run, const json_t *data)
{
    (void)data;
    running(run);
}

static void on_panicked(struct engine_qmp_run *run, const json_t *data)
{
    guest_panicked(run, json_object_get(data, "info"));
}

static void on_disk_error(struct engine_qmp_run *run, const json_t *data)
{
    const char *action = json_member_text(data, "action", "");
    run->disk_fault = strcmp(action, "stop") == 0;
    run->unwritten |= run->ending != NULL && strcmp(action, "ignore") == 0;
    if (!run->waiting) {
        log_warn("engine", "a disk of a VM cannot be written or read",
                 KV_STR("vm", run->vm.name),
                 KV_STR("why", json_member_text(data, "reason", "")));
    }
}

static void on_stop(struct engine_qmp_run *run, const json_t *data)
{
    (void)data;
    if (!run->running || run->guest_off || run->panicked) {
        return;
    }
    if (run->disk_fault) {
        stands_still(run);
        return;
    }
    paused(run);
    /* Asked for, or the program met an error: the status tells. */
    if (engine_qmp_command(run, "query-status", on_status, NULL) < 0) {
        engine_qmp_try_again(run);
    }
}

static void on_migration(struct engine_qmp_run *run, const json_t *data)
{
    qmp_save_event(&run->save, data);
}

static const struct {
    const char *name;
    void (*take)(struct engine_qmp_run *run, const json_t *data);
} qmp_events[] = {
    {"RESUME", on_resume},
    {"SHUTDOWN", on_shutdown},
    {"GUEST_PANICKED", on_panicked},
    {"RESET", on_reset},
    {"BLOCK_IO_ERROR", on_disk_error},
    {"STOP", on_stop},
    {"MIGRATION", on_migration},
};

static void on_event(void *context, const char *name, const json_t *data)
{
    for (size_t i = 0; i < ARRAY_COUNT(qmp_events); i++) {
        if (strcmp(qmp_events[i].name, name) == 0) {
            qmp_events[i].take(context, data);
            return;
        }
    }
}

static int connect_qmp(struct engine_qmp_run *run, struct err *err);

static void
on_cont(void *context, int code, const json_t *result, const struct err *error)
{
    struct engine_qmp_run *run = context;
    (void)result; /* the event tells */
    if (code == BERTH_ECLOSED || code == BERTH_ETIMEOUT || (code < 0 && has_run(run))) {
        /* Out of reach, or late, which we may be ourselves: a daemon that stood still
         * finds its time over before it reads an answer. Or it is being saved yet, or
         * frozen. Nobody knows whether it was heard: the status tells. */
        run->cont_due = run->cont_wanted;
        engine_qmp_try_again(run);
    } else if (code < 0) {
        (void)snprintf(run->what, sizeof(run->what), "%.120s", error->text);
        process_kill(run); /* held for ever would help nobody */
    }
}

/* Asked for as soon as the limits and the CPUs are told. */
static bool status_is_behind(const struct engine_qmp_run *run)
{
    return run->status_due && (run->disks_asked || run->cpus_asked);
}

static void again(void *context)
{
    struct engine_qmp_run *run = context;
    engine_qmp_limits_care(run);
    int r = 0; /* not ready: it asks when it is */
    if (run->qmp == NULL) {
        r = connect_qmp(run, NULL);
    } else if (qmp_client_is_ready(run->qmp) && !status_is_behind(run)) {
        run->status_due = false;
        r = engine_qmp_command(run, "query-status", on_status, NULL);
    }
    if (has_run(run)) { /* else the status is to tell first whether it may be told */
        cont_care(run);
    }
    if (r != 0) {
        engine_qmp_try_again(run);
    }
}

void engine_qmp_try_again(struct engine_qmp_run *run)
{
    if (run->again == NULL) {
        run->again = loop_timer_new(run->host->loop, QMP_AGAIN_MS, 0, again, run);
    } else {
        loop_timer_again(run->again, QMP_AGAIN_MS, 0);
    }
}

static void on_closed(void *context, const struct err *reason)
{
    struct engine_qmp_run *run = context;
    run->qmp = qmp_client_close(run->qmp);
    run->disks_asked = run->cpus_asked = run->status_due = run->pausing = false;
    qmp_save_lost(&run->save, reason);
    if (engine_qmp_is_fresh(run)) {
        engine_qmp_failed(run, reason->text);
        return;
    }
    /* The VM itself is not touched; without QMP it can still be frozen and killed. It is
     * frozen, hangs, or is about to end: its end is told by the process. */
    log_debug("engine", "control connection of a VM is over", KV_STR("vm", run->vm.name),
              KV_STR("why", reason->text));
    engine_qmp_try_again(run);
}

/* One that is restored reads its memory first. */
static uint64_t start_ms(const struct engine_qmp_run *run)
{
    const uint64_t begin_ms =
        run->host->start_ms != 0 ? run->host->start_ms : ENGINE_START_TIMEOUT_MS;
    return begin_ms + (run->vm.memory_path[0] != '\0'
                           ? run->vm.memory_bytes / RESTORE_BYTES_A_MS
                           : 0);
}

static int connect_qmp(struct engine_qmp_run *run, struct err *err)
{
    static const struct qmp_handlers handlers = {
        .ready = on_ready, .event = on_event, .closed = on_closed};
    char path[ENGINE_PATH_SIZE];
    engine_qmp_path(run, "qmp.sock", path);
    run->qmp = qmp_client_open(run->host->loop, path, start_ms(run), &handlers, run, err);
    return run->qmp != NULL ? 0 : -ENOMEM;
}

static int connect_channels(struct engine_qmp_run *run, struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    engine_qmp_path(run, "console.sock", path);
    int r = connect_qmp(run, err);
    if (r == 0) {
        run->link = console_link_open(run->host->loop, path, run->console, err);
    }
    if (run->link != NULL && run->adopted && run->kind->has_serial_log) {
        engine_qmp_path(run, ENGINE_SERIAL_LOG, path);
        console_link_refill(run->link, path);
    }
    return r == 0 && run->link == NULL ? -ENOMEM : r;
}

/* ---- start and adopt ---- */

struct vm_process *engine_qmp_spawn(struct engine_qmp_run *run,
                                    const struct vm_process_spec *spec,
                                    struct err *err)
{
    return vm_process_spawn(run->host->loop, spec, run_ended, run, err);
}

int engine_qmp_release(struct engine_run *base, struct err *err)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    if (run->process == NULL) {
        return err_set(err, BERTH_EPHASE, "no process waits at the gate");
    }
    int r = vm_process_release(run->process, err);
    r = r == 0 ? connect_channels(run, err) : r;
    if (r == 0) {
        loop_timer_again(run->begin, start_ms(run), 0);
    }
    return r;
}

void engine_qmp_prepared(struct engine_qmp_run *run)
{
    char log[ENGINE_PATH_SIZE];
    struct err err = {0};
    struct vm_process_spec spec = {
        .folder = run->vm.folder,
        .log_path = log,
        .oom_score_adj = OOM_SCORE_ADJ,
        .lock = run->vm.lock,
    };
    run->preparing = false;
    engine_qmp_path(run, "engine.log", log);
    run->process = run->kind->spawn(run, &spec, &err);
    if (run->process == NULL) {
        engine_qmp_failed(run, err.text);
        return;
    }
    int r = run->events.spawned(run->context, vm_process_identity(run->process));
    r = r == 0 ? engine_qmp_release(&run->run, &err) : r;
    if (r < 0) {
        const struct vm_process_end unknown = {-1, -1};
        process_kill(run);
        run->process = vm_process_close(run->process);
        run_exited(run, ENGINE_END_START_FAILED, &unknown,
                   err.text[0] != '\0' ? err.text : "it could not be recorded");
        return;
    }
    loop_timer_again(run->begin, start_ms(run), 0);
}

static void begin(void *context)
{
    struct engine_qmp_run *run = context;
    if (run->process != NULL || run->preparing) {
        run->late = true;
        engine_qmp_failed(run, "not ready to run in time");
    } else if (run->killed) {
        engine_qmp_failed(run, "killed before it began");
    } else {
        run->preparing = true;
        run->kind->prepare(run);
    }
}

static struct engine_qmp_run *run_new(const struct engine_qmp_kind *kind,
                                      const struct engine_host *host,
                                      const struct engine_vm *vm,
                                      struct console_ring *console,
                                      const struct engine_events *events,
                                      void *context,
                                      struct err *err)
{
    REQUIRE(kind->run_bytes >= sizeof(struct engine_qmp_run));
    struct engine_qmp_run *run = calloc(1, kind->run_bytes);
    if (run == NULL) {
        (void)err_set(err, -ENOMEM, "%s: out of memory", kind->title);
        return NULL;
    }
    run->run.ops = kind->ops;
    run->kind = kind;
    run->host = host;
    run->vm = *vm;
    run->console = console;
    run->events = *events;
    run->context = context;
    return run;
}

struct engine_run *engine_qmp_start(const struct engine_qmp_kind *kind,
                                    const struct engine_host *host,
                                    const struct engine_vm *vm,
                                    struct console_ring *console,
                                    const struct engine_events *events,
                                    void *context,
                                    struct err *err)
{
    static const char *const old_files[] = {"qmp.sock", "console.sock", "vsock.sock",
                                            ENGINE_SERIAL_LOG};
    struct engine_qmp_run *run = run_new(kind, host, vm, console, events, context, err);
    if (run == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < ARRAY_COUNT(old_files); i++) {
        char path[ENGINE_PATH_SIZE];
        engine_qmp_path(run, old_files[i], path);
        (void)unlink(path); /* of an earlier run, if there was one */
    }
    run->limits = vm->limits;
    run->limits_due = !kind->begins_limited && !engine_limits_are_none(&vm->limits);
    run->begin = loop_timer_new(host->loop, 0, 0, begin, run);
    if (run->begin == NULL) {
        (void)err_set(err, -ENOMEM, "%s: out of memory", kind->title);
        free(run);
        return NULL;
    }
    return &run->run;
}

struct engine_run *engine_qmp_adopt(const struct engine_qmp_kind *kind,
                                    const struct engine_host *host,
                                    const struct engine_vm *vm,
                                    const struct vm_process_identity *identity,
                                    struct console_ring *console,
                                    const struct engine_events *events,
                                    void *context,
                                    struct err *err)
{
    struct engine_qmp_run *run = run_new(kind, host, vm, console, events, context, err);
    if (run == NULL) {
        return NULL;
    }
    run->adopted = true;
    run->process = vm_process_adopt(host->loop, identity, run_ended, run, err);
    if (run->process == NULL || connect_channels(run, err) != 0) {
        return engine_qmp_close(&run->run);
    }
    return &run->run;
}

/* ---- while it runs ---- */

/* Held for ever would help nobody. Looks are counted, not time: while the daemon stands
 * still, or the VM is frozen, nobody could hear that it runs. */
static void unheard(void *context)
{
    struct engine_qmp_run *run = context;
    if (run->frozen || run->ending != NULL || ++run->unheard_looks < UNHEARD_LOOKS) {
        return;
    }
    run->unheard = loop_timer_close(run->unheard);
    engine_qmp_failed(run, "let run, and not heard to begin in time");
}

/* The first time. */
static int begin_watch(struct engine_qmp_run *run, struct err *err)
{
    const uint64_t look_ms = start_ms(run) / UNHEARD_LOOKS + 1;
    if (run->unheard == NULL) {
        run->unheard_looks = 0;
        run->unheard = loop_timer_new(run->host->loop, look_ms, look_ms, unheard, run);
    }
    return run->unheard != NULL ? 0 : err_set(err, -ENOMEM, "let it run: out of memory");
}

int engine_qmp_cont(struct engine_run *base, struct err *err)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    if (!run->held_told) {
        return err_set(err, BERTH_EPHASE, "the VM is not held yet");
    }
    int r = has_run(run) ? 0 : begin_watch(run, err);
    if (r != 0) {
        return r;
    }
    run->cont_wanted = true;
    if (!has_run(run) && (run->qmp == NULL || !qmp_client_is_ready(run->qmp))) {
        run->cont_due = true; /* behind the status, when its connection is back */
        return 0;
    }
    return engine_qmp_command(run, "cont", on_cont, err);
}

/* The event tells of what ran. What stood still for its disk does so now because it was
 * told to. */
static void
on_stopped(void *context, int code, const json_t *result, const struct err *error)
{
    struct engine_qmp_run *run = context;
    (void)result;
    (void)error; /* it is asked for again */
    run->pausing = false;
    if (code == 0 && run->waiting && !run->running) {
        paused(run);
    }
}

int engine_qmp_pause(struct engine_run *base, struct err *err)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    run->cont_wanted = run->cont_due = false; /* also where it does not run yet */
    if (!run->running && !run->waiting) {
        return err_set(err, BERTH_EPHASE, "the VM does not run");
    }
    int r = engine_qmp_command(run, "stop", on_stopped, err);
    run->pausing = run->pausing || r == 0;
    return r;
}

static void on_saved(void *context, const struct err *why)
{
    struct engine_qmp_run *run = context;
    run->events.saved(run->context, why);
}

int engine_qmp_save(struct engine_run *base, int fd, struct err *err)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    if (!has_run(run) || run->qmp == NULL) {
        return err_set(err, BERTH_EBUSY, "the VM is not up, or out of reach");
    }
    run->cont_wanted = run->cont_due = false;
    run->save.done = on_saved;
    run->save.context = run;
    return qmp_save_begin(&run->save, run->qmp, fd, err);
}

void engine_qmp_save_cancel(struct engine_run *base)
{
    qmp_save_cancel(engine_qmp_run_of(base)->qmp);
}

void engine_qmp_kill(struct engine_run *base)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    run->killed = true;
    run->unwritten = run->unwritten || run->ending != NULL;
    if (run->preparing) {
        preparation_end(run);
        loop_timer_again(run->begin, 0, 0); /* begin sees it */
    }
    process_kill(run);
}

static void grace_over(void *context)
{
    struct engine_qmp_run *run = context;
    if (run->preparing || run->process == NULL) {
        engine_qmp_kill(&run->run);
        return;
    }
    run->killed = true;
    process_end(run);
}

void engine_qmp_stop(struct engine_run *base, uint64_t grace_ms)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    uint64_t now_ms = uv_now(run->host->loop);
    uint64_t end_ms = grace_ms > UINT64_MAX - now_ms ? UINT64_MAX : now_ms + grace_ms;
    if (run->stopping && end_ms >= run->grace_end_ms) {
        return; /* under way, and ends sooner than this would */
    }
    run->stopping = true;
    run->grace_end_ms = end_ms;
    if (run->grace == NULL) {
        run->grace = loop_timer_new(run->host->loop, grace_ms, 0, grace_over, run);
        run->powerdown =
            loop_timer_new(run->host->loop, 0, POWERDOWN_EVERY_MS, powerdown, run);
    } else {
        loop_timer_again(run->grace, grace_ms, 0);
    }
    if (run->grace == NULL) {
        engine_qmp_kill(base);
    }
}

int engine_qmp_freeze(struct engine_run *base, bool frozen)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    run->frozen = frozen;
    return run->process == NULL
               ? -ESRCH
               : vm_process_signal(run->process, frozen ? SIGSTOP : SIGCONT);
}

int engine_qmp_console_write(struct engine_run *base, const void *data, size_t size)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    return run->link != NULL ? console_link_write(run->link, data, size) : BERTH_ECLOSED;
}

struct engine_run *engine_qmp_close(struct engine_run *base)
{
    if (base != NULL) {
        struct engine_qmp_run *run = engine_qmp_run_of(base);
        run_release(run);
        run->process = vm_process_close(run->process);
        free(run);
    }
    return NULL;
}
