#include "agent/vm_entry.h"

#include "agent/ready_probe.h"
#include "agent/vm_pause.h"
#include "agent/vm_remains.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM "agent"

#define TO(state) STATE_BIT(VM_##state)
static const struct state_row vm_rows[VM_STATE_COUNT] = {
    [VM_IDLE] = {"idle", TO(STARTING), STATE_INITIAL},
    [VM_STARTING] = {"starting", TO(HELD) | TO(RUNNING) | TO(STOPPING) | TO(ENDED),
                     STATE_INITIAL},
    [VM_HELD] = {"held", TO(RUNNING) | TO(STOPPING) | TO(ENDED), 0},
    [VM_RUNNING] = {"running", TO(READY) | TO(STOPPING) | TO(ENDED), STATE_INITIAL},
    [VM_READY] = {"ready", TO(RUNNING) | TO(STOPPING) | TO(ENDED), 0},
    [VM_STOPPING] = {"stopping", TO(ENDED), STATE_INITIAL},
    [VM_ENDED] = {"ended", TO(STARTING), STATE_INITIAL},
};

static const struct state_machine_type vm_machine = {
    .name = "vm",
    .rows = vm_rows,
    .count = VM_STATE_COUNT,
};

/* ---- telling ---- */

static enum phase vm_phase(const struct vm_entry *vm)
{
    static const enum phase phases[VM_STATE_COUNT] = {
        [VM_IDLE] = PHASE_PLACED,   [VM_STARTING] = PHASE_STARTING,
        [VM_HELD] = PHASE_STARTING, [VM_RUNNING] = PHASE_RUNNING,
        [VM_READY] = PHASE_READY,   [VM_STOPPING] = PHASE_STOPPING,
        [VM_ENDED] = PHASE_FAILED,
    };
    return vm->machine.state == VM_ENDED ? vm->end_phase : phases[vm->machine.state];
}

static bool runs(const struct vm_entry *vm)
{
    return vm->machine.state == VM_RUNNING || vm->machine.state == VM_READY;
}

void vm_entry_fill_report(const struct vm_entry *vm, struct vm_report *ret_report)
{
    *ret_report = (struct vm_report){
        .uid = vm->uid,
        .epoch = vm->order.vm.epoch,
        .epoch_seen = vm->epoch_seen,
        .phase = vm_phase(vm),
        .engine = vm->order.engine,
        .held = vm->machine.state == VM_HELD && vm->hold,
        .frozen = vm->frozen,
        .paused = vm->user_paused && vm->standing,
        .fenced = vm->order.fenced,
        .diskless = vm->diskless,
        .adopted = vm->adopted,
        .alive = vm->run != NULL,
        .leaving = vm->leaving,
        .devices_due = vm->devices_due && vm->run != NULL,
        .pid = vm->run == NULL ? 0 : vm->identity.pid,
        .since_wall_ms = vm->since_wall_ms,
        .start_wall_ms = vm->start_wall_ms,
        .running_wall_ms = vm->running_wall_ms,
        .ready_wall_ms = vm->ready_wall_ms,
    };
    memcpy(ret_report->name, vm->order.vm.name, sizeof(ret_report->name));
    memcpy(ret_report->tenant, vm->order.vm.tenant, sizeof(ret_report->tenant));
    const char *trouble = vm->probe != NULL && vm->machine.state == VM_RUNNING
                              ? ready_probe_trouble(vm->probe)
                              : NULL;
    const char *why = vm->reason[0] == '\0' && runs(vm) ? vm->cpus_missing : vm->reason;
    (void)snprintf(ret_report->reason, sizeof(ret_report->reason), "%s",
                   trouble != NULL ? trouble : why);
}

void vm_entry_mark(struct vm_entry *vm)
{
    if (list_empty(&vm->dirty_link)) {
        list_push_back(&vm->supervisor->dirty, &vm->dirty_link);
        loop_post_send(vm->supervisor->post);
    }
}

void vm_entry_tell_changes(void *context)
{
    struct vm_supervisor *supervisor = context;
    struct list pending;
    list_init(&pending);
    list_move_all(&pending, &supervisor->dirty);
    while (!list_empty(&pending)) {
        struct vm_entry *vm = LIST_ITEM(pending.next, struct vm_entry, dirty_link);
        struct vm_report report;
        list_remove(&vm->dirty_link);
        vm_entry_fill_report(vm, &report);
        supervisor->changed(supervisor->context, &report); /* may forget any VM */
    }
}

void vm_entry_move(struct vm_entry *vm, enum vm_state state, const char *reason)
{
    state_machine_move(&vm->machine, state, vm->order.vm.name, reason);
    vm->since_wall_ms = clock_wall_ms(vm->supervisor->host.clock);
    (void)snprintf(vm->reason, sizeof(vm->reason), "%s", reason == NULL ? "" : reason);
    vm_entry_mark(vm);
}

/* ---- the record ---- */

int vm_entry_folder(const struct vm_supervisor *supervisor,
                    uint64_t uid,
                    char ret_path[ENGINE_PATH_SIZE])
{
    int length =
        snprintf(ret_path, ENGINE_PATH_SIZE, "%s/%" PRIu64, supervisor->folder, uid);
    return length > 0 && length < ENGINE_PATH_SIZE ? 0 : -ENAMETOOLONG;
}

static enum vm_record_state record_state_of(const struct vm_entry *vm)
{
    if (!vm_has_run(vm)) {
        return VM_RECORD_NOTED;
    }
    if (vm->machine.state == VM_ENDED) {
        return vm->end_phase == PHASE_STOPPED ? VM_RECORD_STOPPED : VM_RECORD_FAILED;
    }
    return vm->stopping ? VM_RECORD_STOPPING
           : vm->begun  ? VM_RECORD_RUNNING
                        : VM_RECORD_STARTING;
}

static struct vm_record record_of(const struct vm_entry *vm)
{
    struct vm_record record = {
        .state = record_state_of(vm),
        .epoch_seen = vm->epoch_seen,
        .order = vm->order,
        .identity = vm->identity,
        .hold = vm->hold,
        .since_wall_ms = vm->since_wall_ms,
        .start_wall_ms = vm->start_wall_ms,
        .running_wall_ms = vm->running_wall_ms,
        .disks_used = vm->disks_used,
        .diskless = vm->diskless,
        .paused = vm->user_paused,
    };
    record.order.vm.uid = vm->uid;
    (void)snprintf(record.reason, sizeof(record.reason), "%s", vm->reason);
    return record;
}

/* A record on its way to the disk. */
struct record_job {
    struct work_job job;
    struct vm_supervisor *supervisor;
    uint64_t uid;
    uint64_t epoch; /* of the run whose process waits for it; 0: nobody waits */
    char *text;
    char folder[ENGINE_PATH_SIZE];
    struct err err; /* the thread's, until the job is done */
};

static void record_run(struct work_job *job)
{
    struct record_job *write = LIST_ITEM(job, struct record_job, job);
    if (fd_make_folders(write->folder, &write->err) == 0) {
        (void)vm_record_store(write->folder, write->text, &write->err); /* err tells */
    }
}

static void on_recorded(struct vm_entry *vm, const struct err *err);

static void record_done(struct work_job *job, int code)
{
    struct record_job *write = LIST_ITEM(job, struct record_job, job);
    struct vm_entry *vm = vm_entry_find(write->supervisor, write->uid);
    if (code < 0) {
        (void)err_sys(&write->err, code, "record of VM %" PRIu64, write->uid);
    }
    if (write->err.code != 0) {
        log_error(ROOM, "record of a VM was not written", KV_U64("uid", write->uid),
                  KV_STR("why", write->err.text));
    }
    if (vm != NULL && vm->recording && vm->order.vm.epoch == write->epoch) {
        on_recorded(vm, &write->err);
    }
    free(write->text);
    free(write);
}

/* waits: its process does, at the gate. */
static int vm_record_send(const struct vm_entry *vm, bool waits)
{
    const struct vm_record record = record_of(vm);
    struct record_job *write = calloc(1, sizeof(*write));
    int r =
        write == NULL ? -ENOMEM : vm_entry_folder(vm->supervisor, vm->uid, write->folder);
    if (r == 0) {
        write->text = vm_record_encode(&record);
        r = write->text == NULL ? -ENOMEM : 0;
    }
    if (r != 0) {
        free(write);
        return r;
    }
    write->supervisor = vm->supervisor;
    write->uid = vm->uid;
    write->epoch = waits ? vm->order.vm.epoch : 0;
    work_pool_submit(vm->supervisor->disk, &write->job, record_run, record_done);
    return 0;
}

void vm_entry_write_or_log(const struct vm_entry *vm)
{
    int r = vm->broken ? 0 : vm_record_send(vm, false);
    if (r != 0) {
        log_error(ROOM, "record of a VM was not written", KV_STR("vm", vm->order.vm.name),
                  KV_U64("uid", vm->uid), KV_STR("why", err_sentence(r)));
    }
}

/* ---- events of the engine ---- */

static uint64_t disks_bytes(const struct engine_vm *vm)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        bytes += vm->disks[i].size_bytes;
    }
    return bytes;
}

void vm_entry_limit(struct vm_entry *vm, pid_t pid)
{
    struct resource_groups *groups = vm->supervisor->host.groups;
    const struct resource_limits limits = {
        .cpu_count = engine_vm_cpus_most(&vm->order.vm),
        .cpu_weight = vm->order.vm.cpu_weight,
        .memory_bytes = vm->order.vm.memory_bytes,
        .disk_bytes = disks_bytes(&vm->order.vm),
    };
    struct err err = {0};
    if (groups == NULL || resource_groups_mode(groups) == RESOURCE_NONE) {
        return; /* warned of when it was opened */
    }
    if (resource_group_make(groups, vm->uid, &limits, &err) != 0 ||
        resource_group_put(groups, vm->uid, pid, &err) != 0) {
        log_warn(ROOM, "VM runs without its limits", KV_STR("vm", vm->order.vm.name),
                 KV_STR("why", err.text));
    }
}

/* Has the fence watch the process, if the VM obeys the lease and there is a fence. */
int vm_entry_watch(const struct vm_entry *vm, struct err *err)
{
    struct fence_client *fence = vm->supervisor->fence;
    return fence == NULL || !vm->order.fenced
               ? 0
               : fence_client_watch(fence, vm->uid, vm->order.vm.epoch, &vm->identity,
                                    err);
}

/* At the gate. The order is the promise: written down, then watched, then let through. */
static int on_spawned(void *context, const struct vm_process_identity *identity)
{
    struct vm_entry *vm = context;
    vm->identity = *identity;
    fd_close(&vm->lock); /* it is the process' now */
    vm_entry_limit(vm, identity->pid);
    int r = vm_record_send(vm, true);
    if (r != 0) {
        log_error(ROOM, "VM was not started: its record cannot be written",
                  KV_STR("vm", vm->order.vm.name), KV_STR("why", err_sentence(r)));
        return r;
    }
    vm->recording = vm->at_gate = true;
    return ENGINE_AT_GATE;
}

/* What cannot go on is ended, and says why. */
static void give_up(struct vm_entry *vm, const struct err *why)
{
    (void)snprintf(vm->kill_reason, sizeof(vm->kill_reason), "%s", why->text);
    vm->killed = true;
    vm->ops->kill(vm->run);
}

void vm_entry_release(struct vm_entry *vm)
{
    struct err err = {0};
    if (!vm->at_gate || vm->recording || vm->killed || vm->stopping) {
        return;
    }
    vm->at_gate = false;
    if (vm->ops->release(vm->run, &err) != 0) {
        give_up(vm, &err);
    }
}

static void on_recorded(struct vm_entry *vm, const struct err *written)
{
    struct err err = {0};
    vm->recording = false;
    if (vm->killed || vm->stopping) {
        return;
    }
    if (written->code != 0) {
        (void)err_set(&err, written->code, "its record cannot be written: %s",
                      written->text);
        give_up(vm, &err);
    } else if (vm_entry_watch(vm, &err) == 0) {
        vm_entry_release(vm);
    } else if (!fence_client_ready(vm->supervisor->fence)) {
        /* Replaced, or back, in a moment: no reason to end a run. */
        log_warn(ROOM, "VM waits at the gate: the fence is out of reach",
                 KV_STR("vm", vm->order.vm.name), KV_STR("why", err.text));
    } else {
        log_error(ROOM, "VM was not started: the fence does not watch it",
                  KV_STR("vm", vm->order.vm.name), KV_STR("why", err.text));
        give_up(vm, &err);
    }
}

void vm_entry_try_cont(struct vm_entry *vm)
{
    struct err err = {0};
    if (vm->machine.state != VM_HELD || vm->hold || vm->frozen || vm->cont_sent ||
        vm->killed) {
        return;
    }
    if (vm->ops->cont(vm->run, &err) == 0) {
        vm->cont_sent = true;
        return;
    }
    give_up(vm, &err);
}

static void on_held(void *context)
{
    struct vm_entry *vm = context;
    vm->cont_sent = false;
    if (vm->machine.state == VM_STARTING) {
        vm_entry_move(vm, VM_HELD, NULL);
    }
    vm_entry_try_cont(vm);
}

static void on_probed(void *context, bool ready, const char *reason)
{
    struct vm_entry *vm = context;
    if (ready && vm->machine.state == VM_RUNNING) {
        vm_entry_move(vm, VM_READY, NULL);
        if (vm->ready_wall_ms == 0) {
            vm->ready_wall_ms = vm->since_wall_ms;
        }
    } else if (!ready && vm->machine.state == VM_READY) {
        vm_entry_move(vm, VM_RUNNING, reason);
    }
}

void vm_entry_probe(struct vm_entry *vm)
{
    const struct vm_order *order = &vm->order;
    char path[sizeof(order->probe_path)];
    struct err err = {0};
    memcpy(path, order->probe_path, sizeof(path));
    const struct probe_spec spec = {
        .port = order->probe_port,
        .path = path,
        .every_ms = order->probe_every_ms,
        .timeout_ms = order->probe_timeout_ms,
        .pass = order->probe_pass,
        .fail = order->probe_fail,
    };
    if (vm->probe != NULL) {
        return;
    }
    vm->probe = ready_probe_open(vm->supervisor->host.loop, &spec, order->probe_address,
                                 on_probed, vm, &err);
    if (vm->probe == NULL) {
        log_warn(ROOM, "VM cannot be probed", KV_STR("vm", order->vm.name),
                 KV_STR("why", err.text));
    }
}

void vm_entry_say(struct vm_entry *vm, const char *reason)
{
    (void)snprintf(vm->reason, sizeof(vm->reason), "%s", reason);
    vm_entry_mark(vm);
}

static void on_running(void *context)
{
    struct vm_entry *vm = context;
    if (vm->machine.state == VM_STARTING || vm->machine.state == VM_HELD) {
        vm_entry_move(vm, VM_RUNNING, NULL);
        vm->running_wall_ms = vm->since_wall_ms;
    }
    vm->cont_sent = false;
    if (vm->waiting) {
        vm->waiting = false;
        vm_entry_say(vm, "goes on: the host's disk has room again");
    }
    if (!vm->begun) {
        vm->begun = vm->disks_used = true;
        vm_entry_write_or_log(vm);
    }
    vm_pause_over(vm);
}

static void on_waiting(void *context, const char *why)
{
    struct vm_entry *vm = context;
    vm->waiting = true;
    vm->probe = ready_probe_close(vm->probe); /* begun anew when it runs */
    if (vm->machine.state == VM_READY) {
        vm_entry_move(vm, VM_RUNNING, why);
    } else if (vm->machine.state == VM_RUNNING) {
        vm_entry_say(vm, why);
    }
    vm_entry_care(vm); /* its user's pause goes before */
}

static void on_noted(void *context, const char *what)
{
    struct vm_entry *vm = context;
    if (!vm->waiting && runs(vm)) {
        vm_entry_say(vm, what);
    }
}

/* Before it begins its record keeps what it is to begin with, for who takes it over
 * meanwhile. The reason stands until it holds no more, also behind a move. */
static void on_plugged(void *context, uint32_t cpu_count, const char *why)
{
    struct vm_entry *vm = context;
    const char *text = why == NULL ? "" : why;
    if (vm->begun && cpu_count != 0 && cpu_count != vm->order.vm.cpu_count) {
        vm->order.vm.cpu_count = cpu_count;
        vm_entry_write_or_log(vm);
    }
    if (strcmp(vm->cpus_missing, text) != 0) {
        (void)snprintf(vm->cpus_missing, sizeof(vm->cpus_missing), "%s", text);
        vm_entry_mark(vm);
    }
}

void vm_entry_end(struct vm_entry *vm, enum phase phase, const char *reason)
{
    vm->probe = ready_probe_close(vm->probe);
    vm->end_phase = phase;
    vm->frozen = false;
    if (vm->broken) { /* its epoch: the newest we have heard of */
        vm->order.vm.epoch = vm->epoch_seen;
    }
    fd_close(&vm->lock);
    vm_entry_move(vm, VM_ENDED, reason);
    vm_entry_write_or_log(vm);
    if (vm->supervisor->fence != NULL && vm->order.fenced) {
        fence_client_drop(vm->supervisor->fence, vm->uid, vm->order.vm.epoch);
    }
    if (vm->supervisor->host.groups != NULL) {
        /* Still busy when the process was not ours to reap: tried again when forgotten.
         */
        (void)resource_group_remove(vm->supervisor->host.groups, vm->uid);
    }
    log_info(ROOM, "VM has ended", KV_STR("vm", vm->order.vm.name),
             KV_U64("uid", vm->uid), KV_U64("epoch", vm->order.vm.epoch),
             KV_STR("phase", phase_names[phase]), KV_STR("reason", reason));
}

static void on_exited(void *context, const struct engine_exit *exit)
{
    struct vm_entry *vm = context;
    /* Once a stop was asked for, any end is that stop; a kill has its own reason. */
    bool clean = !vm->killed && (vm->stopping || exit->end == ENGINE_END_STOPPED ||
                                 exit->end == ENGINE_END_GUEST_SHUTDOWN);
    char reason[VM_SUPERVISOR_REASON];
    const char *text = exit->reason;
    if (vm->killed && vm->kill_reason[0] != '\0') {
        text = vm->kill_reason;
    } else if (vm->recording && !vm->stopping && exit->late) {
        text = "its record was not on the disk in time: the host's disk is slow";
    } else if (vm->at_gate && !vm->stopping && exit->late) {
        text = "the fence of its host, which is to watch it, did not come back in time";
    } else if (exit->end == ENGINE_END_KILLED && !vm->begun) {
        text = "stopped before it ran";
    } else if (exit->end == ENGINE_END_KILLED && vm->stopping) {
        text = "it did not shut down in time and was killed";
    }
    (void)snprintf(reason, sizeof(reason), "%s%s", text,
                   exit->unwritten
                       ? ", before its disks were written out: what the guest "
                         "did not flush may be missing"
                       : "");
    vm->run = vm->ops->close(vm->run);
    vm->adopt_again = vm->recording = false;
    vm_pause_on_exited(vm, reason);
    vm_entry_end(vm, clean ? PHASE_STOPPED : PHASE_FAILED, reason);
}

const struct engine_events vm_entry_events = {
    .spawned = on_spawned,
    .held = on_held,
    .running = on_running,
    .paused = vm_pause_on_paused,
    .saved = vm_pause_on_saved,
    .waiting = on_waiting,
    .noted = on_noted,
    .plugged = on_plugged,
    .exited = on_exited,
};

/* ---- the set ---- */

const struct engine_ops *vm_entry_engine(const struct vm_supervisor *supervisor,
                                         enum engine engine)
{
    for (const struct engine_ops *const *at = supervisor->engines; *at != NULL; at++) {
        if ((*at)->engine == engine) {
            return *at;
        }
    }
    return NULL;
}

struct vm_entry *vm_entry_free(struct vm_entry *vm)
{
    if (vm != NULL) {
        list_remove(&vm->dirty_link);
        vm->probe = ready_probe_close(vm->probe);
        if (vm->run != NULL) {
            vm->run = vm->ops->close(vm->run);
        }
        vm->console = console_ring_free(vm->console);
        fd_close(&vm->lock);
        free(vm);
    }
    return NULL;
}

/* Makes a VM known; NULL when out of memory. */
struct vm_entry *
vm_entry_new(struct vm_supervisor *supervisor, uint64_t uid, enum vm_state state)
{
    struct vm_entry *vm = calloc(1, sizeof(*vm));
    if (vm == NULL) {
        return NULL;
    }
    list_init(&vm->dirty_link);
    vm->supervisor = supervisor;
    vm->uid = uid;
    vm->lock = -1;
    vm->end_phase = PHASE_FAILED;
    state_machine_init(&vm->machine, &vm_machine, vm, state);
    vm->console = console_ring_new();
    if (vm->console == NULL || u64_map_put(supervisor->vms, uid, vm) != 0) {
        return vm_entry_free(vm);
    }
    return vm;
}

struct vm_entry *vm_entry_find(const struct vm_supervisor *supervisor, uint64_t uid)
{
    return uid == 0 ? NULL : u64_map_get(supervisor->vms, uid);
}

/* The next VM, or NULL at the end; *cursor starts at 0. The set must not change
 * meanwhile. */
struct vm_entry *vm_entry_next(const struct vm_supervisor *supervisor, size_t *cursor)
{
    uint64_t uid;
    void *vm;
    return u64_map_next(supervisor->vms, cursor, &uid, &vm) ? vm : NULL;
}

/* ---- ending, whatever its engine ---- */

/* As vm_remains_signal. */
int vm_entry_signal_remains(const struct vm_entry *vm,
                            const char *folder,
                            int signal_number)
{
    const struct vm_remains remains = {.groups = vm->supervisor->host.groups,
                                       .uid = vm->uid,
                                       .folder = folder,
                                       .identity = &vm->identity};
    return vm_remains_signal(&remains, signal_number);
}

void vm_entry_kill(struct vm_entry *vm, const char *reason)
{
    if (!vm->killed) {
        vm->killed = true;
        (void)snprintf(vm->kill_reason, sizeof(vm->kill_reason), "%s", reason);
    }
    vm->ops->kill(vm->run);
}
