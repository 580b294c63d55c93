#include "agent/vm_supervisor.h"

#include "agent/engine_remains.h"
#include "agent/ready_probe.h"
#include "agent/vm_lock.h"
#include "agent/vm_record.h"
#include "agent/vm_remains.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/require.h"
#include "base/state_machine.h"
#include "base/u64_map.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM           "agent"
#define UPKEEP_MS      10000 /* between looks at log sizes and old epochs */
#define ADOPT_AGAIN_MS 500   /* what could not be taken over for lack of something */
#define PRUNE_MAX      256   /* of a turn: two millions a day, ten milliseconds at most */
#define TOMBSTONES_MAX 65536 /* forgotten VMs whose epoch is remembered */

enum vm_state {
    VM_IDLE = 0, /* known by its epoch only */
    VM_STARTING,
    VM_HELD,
    VM_RUNNING,
    VM_READY,
    VM_STOPPING,
    VM_ENDED,
    VM_STATE_COUNT
};

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

struct vm_entry {
    struct vm_supervisor *supervisor;
    struct list dirty_link; /* in supervisor->dirty when a change is to be told */
    struct state_machine machine;
    struct vm_order order; /* of the run; uid 0 in it: never run here */
    uint64_t uid;
    uint64_t epoch_seen;
    uint64_t epoch_ended;   /* of the newest run that was forgotten; 0: none */
    struct engine_run *run; /* NULL: no process */
    const struct engine_ops *ops;
    struct vm_process_identity identity; /* pid 0: not spawned */
    int lock; /* of its folder, until the process has it; -1: none */
    struct console_ring *console;
    struct ready_probe *probe;
    bool hold;      /* stay held until vm_supervisor_cont */
    bool cont_sent; /* its answer is the running event */
    bool begun;     /* ran at least once */
    bool stopping;  /* a stop was asked for */
    bool killed;    /* the kill was sent */
    bool frozen;
    bool adopted;
    bool waiting;     /* stands still until its host's disk has room */
    bool broken;      /* its record cannot be read, and is left for people to look at */
    bool adopt_again; /* its process is only watched until it can be taken over */
    enum phase end_phase;
    uint64_t since_wall_ms, start_wall_ms, running_wall_ms, ready_wall_ms;
    uint64_t sampled_ns; /* 0: never */
    uint64_t sampled_cpu_ns;
    char reason[VM_SUPERVISOR_REASON];
    char kill_reason[VM_SUPERVISOR_REASON];
};

struct tombstone {
    uint64_t epoch_seen;
    uint64_t epoch_ended;
    uint64_t since_wall_ms;
};

struct vm_supervisor {
    struct engine_host host;
    const struct engine_ops *const *engines;
    struct fence_client *fence; /* may be NULL */
    void (*changed)(void *context, const struct vm_report *report);
    void *context;
    struct u64_map *vms;
    struct u64_map *tombstones;
    struct list dirty;
    struct loop_post *post;
    struct loop_timer *upkeep;
    struct loop_timer *adopt_again; /* NULL: nothing waits for it */
    char folder[ENGINE_PATH_SIZE];  /* <state>/vms */
};

/* What has run, or ought to run. */
static bool vm_has_run(const struct vm_entry *vm)
{
    return vm->order.vm.uid != 0;
}

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

static void vm_fill_report(const struct vm_entry *vm, struct vm_report *ret_report)
{
    *ret_report = (struct vm_report){
        .uid = vm->uid,
        .epoch = vm->order.vm.epoch,
        .epoch_seen = vm->epoch_seen,
        .phase = vm_phase(vm),
        .held = vm->machine.state == VM_HELD && vm->hold,
        .frozen = vm->frozen,
        .fenced = vm->order.fenced,
        .adopted = vm->adopted,
        .alive = vm->run != NULL,
        .pid = vm->run == NULL ? 0 : vm->identity.pid,
        .since_wall_ms = vm->since_wall_ms,
        .start_wall_ms = vm->start_wall_ms,
        .running_wall_ms = vm->running_wall_ms,
        .ready_wall_ms = vm->ready_wall_ms,
    };
    memcpy(ret_report->name, vm->order.vm.name, sizeof(ret_report->name));
    memcpy(ret_report->tenant, vm->order.vm.tenant, sizeof(ret_report->tenant));
    memcpy(ret_report->reason, vm->reason, sizeof(ret_report->reason));
}

static void vm_mark(struct vm_entry *vm)
{
    if (list_empty(&vm->dirty_link)) {
        list_push_back(&vm->supervisor->dirty, &vm->dirty_link);
        loop_post_send(vm->supervisor->post);
    }
}

static void tell_changes(void *context)
{
    struct vm_supervisor *supervisor = context;
    struct list pending;
    list_init(&pending);
    list_move_all(&pending, &supervisor->dirty);
    while (!list_empty(&pending)) {
        struct vm_entry *vm = LIST_ITEM(pending.next, struct vm_entry, dirty_link);
        struct vm_report report;
        list_remove(&vm->dirty_link);
        vm_fill_report(vm, &report);
        supervisor->changed(supervisor->context, &report); /* may forget any VM */
    }
}

static void vm_move(struct vm_entry *vm, enum vm_state state, const char *reason)
{
    state_machine_move(&vm->machine, state, vm->order.vm.name, reason);
    vm->since_wall_ms = clock_wall_ms(vm->supervisor->host.clock);
    (void)snprintf(vm->reason, sizeof(vm->reason), "%s", reason == NULL ? "" : reason);
    vm_mark(vm);
}

/* ---- the record ---- */

static int vm_folder(const struct vm_supervisor *supervisor,
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

static int vm_write(const struct vm_entry *vm, struct err *err)
{
    char folder[ENGINE_PATH_SIZE];
    struct vm_record record = {
        .state = record_state_of(vm),
        .epoch_seen = vm->epoch_seen,
        .order = vm->order,
        .identity = vm->identity,
        .hold = vm->hold,
        .since_wall_ms = vm->since_wall_ms,
        .start_wall_ms = vm->start_wall_ms,
        .running_wall_ms = vm->running_wall_ms,
    };
    record.order.vm.uid = vm->uid;
    (void)snprintf(record.reason, sizeof(record.reason), "%s", vm->reason);
    int r = vm_folder(vm->supervisor, vm->uid, folder);
    if (r == 0) {
        r = fd_make_folders(folder, err);
    }
    return r != 0 ? r : vm_record_write(folder, &record, err);
}

/* For records whose loss does no harm: the next start is refused or adopted anyway. */
static void vm_write_or_log(const struct vm_entry *vm)
{
    struct err err = {0};
    if (!vm->broken && vm_write(vm, &err) != 0) {
        log_error(ROOM, "record of a VM was not written", KV_STR("vm", vm->order.vm.name),
                  KV_U64("uid", vm->uid), KV_STR("why", err.text));
    }
}

/* ---- events of the engine ---- */

static void vm_limit(struct vm_entry *vm, pid_t pid)
{
    struct resource_groups *groups = vm->supervisor->host.groups;
    const struct resource_limits limits = {
        .cpu_count = vm->order.vm.cpu_count,
        .cpu_weight = vm->order.vm.cpu_weight,
        .memory_bytes = vm->order.vm.memory_bytes,
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
static int vm_watch(const struct vm_entry *vm, struct err *err)
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
    struct err err = {0};
    vm->identity = *identity;
    fd_close(&vm->lock); /* it is the process' now */
    vm_limit(vm, identity->pid);
    int r = vm_write(vm, &err);
    if (r != 0) {
        log_error(ROOM, "VM was not started: its record cannot be written",
                  KV_STR("vm", vm->order.vm.name), KV_STR("why", err.text));
        return r;
    }
    r = vm_watch(vm, &err);
    if (r != 0) {
        log_error(ROOM, "VM was not started: the fence does not watch it",
                  KV_STR("vm", vm->order.vm.name), KV_STR("why", err.text));
    }
    return r;
}

static void vm_try_cont(struct vm_entry *vm)
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
    (void)snprintf(vm->kill_reason, sizeof(vm->kill_reason), "%s", err.text);
    vm->killed = true;
    vm->ops->kill(vm->run);
}

static void on_held(void *context)
{
    struct vm_entry *vm = context;
    vm->cont_sent = false;
    if (vm->machine.state == VM_STARTING) {
        vm_move(vm, VM_HELD, NULL);
    }
    vm_try_cont(vm);
}

static void on_probed(void *context, bool ready, const char *reason)
{
    struct vm_entry *vm = context;
    if (ready && vm->machine.state == VM_RUNNING) {
        vm_move(vm, VM_READY, NULL);
        if (vm->ready_wall_ms == 0) {
            vm->ready_wall_ms = vm->since_wall_ms;
        }
    } else if (!ready && vm->machine.state == VM_READY) {
        vm_move(vm, VM_RUNNING, reason);
    }
}

static void vm_probe(struct vm_entry *vm)
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

/* News of a VM whose phase stays the same. */
static void vm_say(struct vm_entry *vm, const char *reason)
{
    (void)snprintf(vm->reason, sizeof(vm->reason), "%s", reason);
    vm_mark(vm);
}

static void on_running(void *context)
{
    struct vm_entry *vm = context;
    if (vm->machine.state == VM_STARTING || vm->machine.state == VM_HELD) {
        vm_move(vm, VM_RUNNING, NULL);
        vm->running_wall_ms = vm->since_wall_ms;
    }
    vm->cont_sent = false;
    if (vm->waiting) {
        vm->waiting = false;
        vm_say(vm, "goes on: the host's disk has room again");
    }
    if (!vm->begun) {
        vm->begun = true;
        vm_write_or_log(vm);
    }
    if (vm->machine.state == VM_RUNNING) {
        vm_probe(vm);
    }
}

static void on_paused(void *context)
{
    (void)context; /* nothing here pauses through the engine */
}

static void on_waiting(void *context, const char *why)
{
    struct vm_entry *vm = context;
    vm->waiting = true;
    vm->probe = ready_probe_close(vm->probe); /* begun anew when it runs */
    if (vm->machine.state == VM_READY) {
        vm_move(vm, VM_RUNNING, why);
    } else if (vm->machine.state == VM_RUNNING) {
        vm_say(vm, why);
    }
}

static void on_noted(void *context, const char *what)
{
    struct vm_entry *vm = context;
    if (!vm->waiting &&
        (vm->machine.state == VM_RUNNING || vm->machine.state == VM_READY)) {
        vm_say(vm, what);
    }
}

static void vm_end(struct vm_entry *vm, enum phase phase, const char *reason)
{
    vm->probe = ready_probe_close(vm->probe);
    vm->end_phase = phase;
    vm->frozen = false;
    if (vm->broken) { /* its epoch: the newest we have heard of */
        vm->order.vm.epoch = vm->epoch_seen;
    }
    fd_close(&vm->lock);
    vm_move(vm, VM_ENDED, reason);
    vm_write_or_log(vm);
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
    } else if (exit->end == ENGINE_END_KILLED && !vm->begun) {
        text = "stopped before it ran";
    } else if (exit->end == ENGINE_END_KILLED && vm->stopping) {
        text = "it did not shut down in time and was killed";
    }
    (void)snprintf(reason, sizeof(reason), "%s", text);
    vm->run = vm->ops->close(vm->run);
    vm->adopt_again = false;
    vm_end(vm, clean ? PHASE_STOPPED : PHASE_FAILED, reason);
}

static const struct engine_events vm_events = {
    .spawned = on_spawned,
    .held = on_held,
    .running = on_running,
    .paused = on_paused,
    .waiting = on_waiting,
    .noted = on_noted,
    .exited = on_exited,
};

/* ---- the set ---- */

static const struct engine_ops *engine_by_number(const struct vm_supervisor *supervisor,
                                                 enum engine engine)
{
    enum engine wanted = engine == ENGINE_AUTO ? ENGINE_QEMU : engine;
    for (const struct engine_ops *const *at = supervisor->engines; *at != NULL; at++) {
        if ((*at)->engine == wanted) {
            return *at;
        }
    }
    return NULL;
}

static struct vm_entry *vm_free(struct vm_entry *vm)
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
static struct vm_entry *
vm_new(struct vm_supervisor *supervisor, uint64_t uid, enum vm_state state)
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
        return vm_free(vm);
    }
    return vm;
}

static struct vm_entry *vm_find(const struct vm_supervisor *supervisor, uint64_t uid)
{
    return uid == 0 ? NULL : u64_map_get(supervisor->vms, uid);
}

/* The VM an action means: BERTH_ENOTFOUND, or BERTH_ESTALE when its epoch is below the
 * highest seen. */
static int vm_for_action(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint64_t epoch,
                         struct vm_entry **ret_vm,
                         struct err *err)
{
    struct vm_entry *vm = vm_find(supervisor, uid);
    if (vm == NULL || !vm_has_run(vm)) {
        return err_set(err, BERTH_ENOTFOUND, "VM %" PRIu64 " is not on this host", uid);
    }
    if (epoch < vm->epoch_seen) {
        return err_set(err, BERTH_ESTALE,
                       "VM %" PRIu64 ": epoch %" PRIu64 " is below %" PRIu64
                       ", the highest seen",
                       uid, epoch, vm->epoch_seen);
    }
    *ret_vm = vm;
    return 0;
}

/* ---- starting ---- */

int vm_order_set_machine(struct vm_order *order,
                         const struct machine_spec *machine,
                         const char *image_cmdline,
                         struct err *err)
{
    const struct probe_spec *ready = &machine->health.ready;
    const char *path = ready->path == NULL ? "" : ready->path;
    if (strlen(path) >= sizeof(order->probe_path)) {
        return err_set(err, BERTH_EINVALID, "probe path: too long");
    }
    memcpy(order->probe_path, path, strlen(path) + 1);
    order->engine = (enum engine)machine->engine;
    order->fenced = machine->lifecycle.host_failure == HOST_FAILURE_RESTART;
    order->stop_grace_ms = machine->lifecycle.stop_grace_ms;
    order->probe_port = ready->port;
    order->probe_every_ms = ready->every_ms;
    order->probe_timeout_ms = ready->timeout_ms;
    order->probe_pass = ready->pass;
    order->probe_fail = ready->fail;
    return engine_vm_set_machine(&order->vm, machine, image_cmdline, err);
}

/* As vm_remains_signal. */
static int
vm_signal_remains(const struct vm_entry *vm, const char *folder, int signal_number)
{
    const struct vm_remains remains = {.groups = vm->supervisor->host.groups,
                                       .uid = vm->uid,
                                       .folder = folder,
                                       .identity = &vm->identity};
    return vm_remains_signal(&remains, signal_number);
}

/* May this epoch be started? 1: it is under way already. */
static int start_allowed(const struct vm_entry *vm, uint64_t epoch, struct err *err)
{
    if (vm->broken && vm->run != NULL) {
        return err_set(err, BERTH_EINUSE,
                       "VM %" PRIu64 ": what still runs of it is being ended", vm->uid);
    }
    if (vm->broken && vm->epoch_seen == 0) {
        return err_set(err, BERTH_ECORRUPT,
                       "VM %" PRIu64 ": its record cannot be read, so nobody knows which "
                       "epochs have run; see the log, and remove its folder",
                       vm->uid);
    }
    if (epoch < vm->epoch_seen) {
        return err_set(err, BERTH_ESTALE,
                       "VM %" PRIu64 ": epoch %" PRIu64 " is below %" PRIu64
                       ", the highest seen",
                       vm->uid, epoch, vm->epoch_seen);
    }
    if (vm->run != NULL) {
        return epoch == vm->order.vm.epoch
                   ? 1
                   : err_set(err, BERTH_EPHASE,
                             "VM %" PRIu64 ": epoch %" PRIu64 " still runs here", vm->uid,
                             vm->order.vm.epoch);
    }
    if (epoch <= vm->epoch_ended || (vm_has_run(vm) && epoch == vm->order.vm.epoch)) {
        return err_set(err, BERTH_EPHASE,
                       "VM %" PRIu64 ": epoch %" PRIu64 " has ended here", vm->uid,
                       epoch);
    }
    return 0;
}

/* Everything of the last run but console, epochs and record is set back. */
static void vm_begin(struct vm_entry *vm, const struct vm_order *order, bool hold)
{
    uint64_t now_ms = clock_wall_ms(vm->supervisor->host.clock);
    vm->order = *order;
    vm->epoch_seen = order->vm.epoch;
    vm->identity = (struct vm_process_identity){0};
    vm->hold = hold;
    vm->cont_sent = vm->begun = vm->stopping = vm->killed = false;
    vm->frozen = vm->adopted = vm->waiting = vm->broken = false;
    vm->start_wall_ms = now_ms;
    vm->running_wall_ms = vm->ready_wall_ms = 0;
    vm->sampled_ns = 0;
    vm->kill_reason[0] = '\0';
}

/* Before its disks are touched the folder is ours: no process of this VM lives. */
static int vm_launch(struct vm_entry *vm,
                     struct vm_order *order,
                     bool hold,
                     const struct engine_ops *ops,
                     struct err *err)
{
    struct vm_supervisor *supervisor = vm->supervisor;
    CLEANUP_FD int lock = vm_lock_take(order->vm.folder, order->vm.epoch, err);
    if (lock < 0) {
        return lock;
    }
    order->vm.lock = lock;
    struct engine_run *run =
        ops->start(&supervisor->host, &order->vm, vm->console, &vm_events, vm, err);
    if (run == NULL) {
        return err == NULL ? BERTH_EBUG : err->code;
    }
    vm->ops = ops;
    vm->run = run;
    vm->lock = TAKE_FD(lock);
    vm_begin(vm, order, hold);
    vm_move(vm, VM_STARTING, NULL);
    return 0;
}

static void tombstone_remove(struct vm_supervisor *supervisor, uint64_t uid)
{
    free(u64_map_remove(supervisor->tombstones, uid));
}

/* The VM, made known now if it is not yet, with what a tombstone remembers of it. */
static int vm_ensure(struct vm_supervisor *supervisor,
                     uint64_t uid,
                     struct vm_entry **ret_vm,
                     struct err *err)
{
    struct vm_entry *vm = vm_find(supervisor, uid);
    if (vm == NULL) {
        if (u64_map_count(supervisor->vms) >= VM_SUPERVISOR_VMS_MAX) {
            return err_set(err, BERTH_EFULL, "this host holds %u VMs, the most",
                           VM_SUPERVISOR_VMS_MAX);
        }
        vm = vm_new(supervisor, uid, VM_IDLE);
        if (vm == NULL) {
            return err_set(err, -ENOMEM, "VM %" PRIu64 ": out of memory", uid);
        }
        const struct tombstone *tombstone = u64_map_get(supervisor->tombstones, uid);
        vm->epoch_seen = tombstone == NULL ? 0 : tombstone->epoch_seen;
        vm->epoch_ended = tombstone == NULL ? 0 : tombstone->epoch_ended;
    }
    *ret_vm = vm;
    return 0;
}

/* Takes back a VM that vm_ensure made and nothing came of. */
static void vm_drop_unused(struct vm_entry *vm)
{
    struct vm_supervisor *supervisor = vm->supervisor;
    const struct tombstone *tombstone = u64_map_get(supervisor->tombstones, vm->uid);
    if (!vm_has_run(vm) && !vm->broken &&
        vm->epoch_seen == (tombstone == NULL ? 0 : tombstone->epoch_seen)) {
        (void)u64_map_remove(supervisor->vms, vm->uid);
        (void)vm_free(vm);
    }
}

static int start_checked(struct vm_entry *vm,
                         const struct vm_order *given,
                         bool hold,
                         struct err *err)
{
    struct vm_supervisor *supervisor = vm->supervisor;
    struct vm_order order = *given;
    char folder[ENGINE_PATH_SIZE];
    const struct engine_ops *ops = engine_by_number(supervisor, order.engine);
    if (ops == NULL) {
        return err_set(err, BERTH_EUNSUPPORTED, "engine %s is not on this host",
                       engine_names[order.engine]);
    }
    order.engine = ops->engine;
    int r = vm_folder(supervisor, vm->uid, folder);
    if (r != 0 || strlen(folder) > ENGINE_FOLDER_MAX) {
        return err_set(err, -ENAMETOOLONG,
                       "folder of VM %" PRIu64
                       ": longer than %d bytes, too long for its sockets",
                       vm->uid, ENGINE_FOLDER_MAX);
    }
    memcpy(order.vm.folder, folder, strlen(folder) + 1);
    r = ops->check(&supervisor->host, &order.vm, err);
    r = r != 0 ? r : fd_make_folders(folder, err);
    r = r != 0 ? r : vm_launch(vm, &order, hold, ops, err);
    if (r == BERTH_EINUSE) { /* of a run that we know nothing of: gone at the next try */
        log_warn(ROOM, "VM waits for what is left of an earlier run of it",
                 KV_STR("vm", order.vm.name), KV_U64("uid", vm->uid));
        (void)vm_signal_remains(vm, folder, SIGKILL);
    }
    return r;
}

int vm_supervisor_start(struct vm_supervisor *supervisor,
                        const struct vm_order *order,
                        bool hold,
                        struct err *err)
{
    REQUIRE(order->vm.uid != 0 && order->vm.epoch != 0);
    REQUIRE((unsigned)order->engine < ENGINE_COUNT);
    struct vm_entry *vm;
    struct err own = {0};
    int r = vm_ensure(supervisor, order->vm.uid, &vm, err);
    if (r != 0) {
        return r;
    }
    r = start_allowed(vm, order->vm.epoch, &own);
    if (r > 0) { /* under way: the hold can only be lifted by cont */
        return 0;
    }
    r = r < 0 ? r : start_checked(vm, order, hold, &own);
    if (r < 0) {
        vm_drop_unused(vm);
        return err_set(err, r, "start VM %s: %s", order->vm.name, own.text);
    }
    tombstone_remove(supervisor, order->vm.uid);
    log_info(ROOM, "VM is starting", KV_STR("vm", order->vm.name),
             KV_U64("uid", order->vm.uid), KV_U64("epoch", order->vm.epoch),
             KV_STR("engine", vm->ops->name));
    return 0;
}

int vm_supervisor_cont(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       struct err *err)
{
    struct vm_entry *vm;
    int r = vm_for_action(supervisor, uid, epoch, &vm, err);
    if (r != 0) {
        return r;
    }
    if (epoch != vm->order.vm.epoch || vm->run == NULL ||
        vm->machine.state == VM_STOPPING) {
        return err_set(err, BERTH_EPHASE,
                       "VM %" PRIu64 ": epoch %" PRIu64 " is not waiting here", uid,
                       epoch);
    }
    if (vm->hold) {
        vm->hold = false;
        vm_mark(vm);
    }
    vm_try_cont(vm);
    return 0;
}

/* ---- ending ---- */

static void vm_kill(struct vm_entry *vm, const char *reason)
{
    if (!vm->killed) {
        vm->killed = true;
        (void)snprintf(vm->kill_reason, sizeof(vm->kill_reason), "%s", reason);
    }
    vm->ops->kill(vm->run);
}

int vm_supervisor_stop(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       uint64_t grace_ms,
                       struct err *err)
{
    struct vm_entry *vm;
    int r = vm_for_action(supervisor, uid, epoch, &vm, err);
    if (r != 0 || vm->run == NULL) {
        return r;
    }
    grace_ms = grace_ms == UINT64_MAX ? vm->order.stop_grace_ms : grace_ms;
    vm->epoch_seen = epoch;
    bool first = !vm->stopping;
    vm->stopping = true;
    if (vm->machine.state != VM_STOPPING) {
        vm->probe = ready_probe_close(vm->probe);
        vm_move(vm, VM_STOPPING, NULL);
    }
    if (first) {
        vm_write_or_log(vm); /* so that its end is understood if we are away then */
    }
    if (vm->begun) {
        vm->ops->stop(vm->run, grace_ms);
    } else { /* no guest that could be asked */
        vm->ops->kill(vm->run);
    }
    return 0;
}

int vm_supervisor_kill(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       const char *reason,
                       struct err *err)
{
    struct vm_entry *vm;
    int r = vm_for_action(supervisor, uid, epoch, &vm, err);
    if (r != 0 || vm->run == NULL) {
        return r;
    }
    if (epoch > vm->epoch_seen) {
        vm->epoch_seen = epoch;
        vm_write_or_log(vm);
    }
    vm_kill(vm, reason);
    return 0;
}

/* Everything in a VM's folder but its record; nobody may hold its lock. */
static void folder_empty(const char *folder)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        char path[ENGINE_PATH_SIZE];
        int length = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            strcmp(entry->d_name, VM_RECORD_FILE) == 0 || length < 0 ||
            (size_t)length >= sizeof(path)) {
            continue;
        }
        struct err err = {0};
        if (unlink(path) != 0 && fd_remove_tree(path, &err) != 0) {
            log_warn(ROOM, "file of a VM was not removed", KV_STR("why", err.text));
        }
    }
    if (entries != NULL) {
        (void)closedir(entries); /* only read */
    }
}

static int tombstone_put(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         const struct tombstone *given)
{
    if (u64_map_count(supervisor->tombstones) >= TOMBSTONES_MAX) {
        return BERTH_EFULL;
    }
    struct tombstone *tombstone = malloc(sizeof(*tombstone));
    if (tombstone == NULL) {
        return -ENOMEM;
    }
    *tombstone = *given;
    tombstone_remove(supervisor, uid);
    if (u64_map_put(supervisor->tombstones, uid, tombstone) != 0) {
        free(tombstone);
        return -ENOMEM;
    }
    return 0;
}

static int vm_bury(struct vm_entry *vm, uint64_t epoch, struct err *err)
{
    struct vm_supervisor *supervisor = vm->supervisor;
    char folder[ENGINE_PATH_SIZE];
    const struct tombstone tombstone = {
        .epoch_seen = epoch > vm->epoch_seen ? epoch : vm->epoch_seen,
        .epoch_ended = vm->order.vm.epoch,
        .since_wall_ms = clock_wall_ms(supervisor->host.clock),
    };
    const struct vm_record record = {
        .state = VM_RECORD_FORGOTTEN,
        .epoch_seen = tombstone.epoch_seen,
        .order = {.vm = {.uid = vm->uid, .epoch = tombstone.epoch_ended}},
        .since_wall_ms = tombstone.since_wall_ms,
    };
    int r = vm_folder(supervisor, vm->uid, folder);
    r = r != 0 ? r : fd_make_folders(folder, err);
    r = r != 0 ? r : vm_record_write(folder, &record, err);
    if (r == BERTH_EDISKFULL) { /* its disks are what it is full of */
        folder_empty(folder);
        r = vm_record_write(folder, &record, err);
    }
    r = r != 0 ? r : tombstone_put(supervisor, vm->uid, &tombstone);
    if (r != 0) {
        return err_sys(err, r, "forget VM %" PRIu64, vm->uid);
    }
    folder_empty(folder);
    return 0;
}

int vm_supervisor_forget(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint64_t epoch,
                         struct err *err)
{
    struct vm_entry *vm;
    if (vm_find(supervisor, uid) == NULL || !vm_has_run(vm_find(supervisor, uid))) {
        return 0;
    }
    int r = vm_for_action(supervisor, uid, epoch, &vm, err);
    if (r != 0) {
        return r;
    }
    char folder[ENGINE_PATH_SIZE];
    bool held = vm_folder(supervisor, uid, folder) == 0 && vm_lock_is_held(folder);
    if (vm->run != NULL || held) {
        return err_set(err, BERTH_EPHASE, "VM %" PRIu64 " still has a process", uid);
    }
    if (supervisor->host.groups != NULL) {
        (void)resource_group_remove(supervisor->host.groups, uid); /* only a folder */
    }
    r = vm_bury(vm, epoch, err);
    if (r == 0) {
        (void)u64_map_remove(supervisor->vms, uid);
        (void)vm_free(vm);
    }
    return r;
}

int vm_supervisor_note_epoch(struct vm_supervisor *supervisor,
                             uint64_t uid,
                             uint64_t epoch,
                             struct err *err)
{
    REQUIRE(uid != 0);
    struct vm_entry *vm;
    int r = vm_ensure(supervisor, uid, &vm, err);
    if (r != 0) {
        return r;
    }
    if (epoch > vm->epoch_seen && !vm->broken) {
        uint64_t before = vm->epoch_seen;
        vm->epoch_seen = epoch;
        r = vm_write(vm, err);
        vm->epoch_seen = r == 0 ? epoch : before;
        if (r == 0) {
            tombstone_remove(supervisor, uid);
        }
    }
    vm_drop_unused(vm);
    return r;
}

/* ---- looking ---- */

bool vm_supervisor_report(const struct vm_supervisor *supervisor,
                          uint64_t uid,
                          struct vm_report *ret_report)
{
    const struct vm_entry *vm = vm_find(supervisor, uid);
    if (vm == NULL || !vm_has_run(vm)) {
        return false;
    }
    vm_fill_report(vm, ret_report);
    return true;
}

/* The next VM, or NULL at the end; *cursor starts at 0. The set must not change
 * meanwhile. */
static struct vm_entry *vm_next(const struct vm_supervisor *supervisor, size_t *cursor)
{
    uint64_t uid;
    void *vm;
    return u64_map_next(supervisor->vms, cursor, &uid, &vm) ? vm : NULL;
}

void vm_supervisor_each(const struct vm_supervisor *supervisor,
                        void (*visit)(void *context, const struct vm_report *report),
                        void *context)
{
    size_t cursor = 0;
    struct vm_entry *vm;
    while ((vm = vm_next(supervisor, &cursor)) != NULL) {
        if (vm_has_run(vm)) {
            struct vm_report report;
            vm_fill_report(vm, &report);
            visit(context, &report);
        }
    }
}

int vm_supervisor_sample(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint32_t *ret_cpu_permille,
                         uint64_t *ret_memory_bytes)
{
    struct vm_entry *vm = vm_find(supervisor, uid);
    struct engine_sample sample;
    if (vm == NULL || vm->run == NULL || vm->identity.pid == 0) {
        return BERTH_ENOTFOUND;
    }
    int r = vm->ops->sample(vm->run, &sample);
    if (r != 0) {
        return r;
    }
    uint64_t now_ns = clock_now_ns(supervisor->host.clock);
    uint64_t past_ns = now_ns - vm->sampled_ns;
    bool first = vm->sampled_ns == 0 || past_ns == 0;
    uint64_t used_ns =
        sample.cpu_ns > vm->sampled_cpu_ns ? sample.cpu_ns - vm->sampled_cpu_ns : 0;
    vm->sampled_ns = now_ns;
    vm->sampled_cpu_ns = sample.cpu_ns;
    if (first) {
        return BERTH_EBUSY;
    }
    uint32_t cpus = vm->order.vm.cpu_count > 0 ? vm->order.vm.cpu_count : 1;
    *ret_cpu_permille = (uint32_t)((double)used_ns * 1000.0 / (double)past_ns / cpus);
    *ret_memory_bytes = sample.memory_bytes;
    return 0;
}

struct console_ring *vm_supervisor_console(struct vm_supervisor *supervisor, uint64_t uid)
{
    const struct vm_entry *vm = vm_find(supervisor, uid);
    return vm == NULL || !vm_has_run(vm) ? NULL : vm->console;
}

int vm_supervisor_console_write(struct vm_supervisor *supervisor,
                                uint64_t uid,
                                const void *data,
                                size_t size,
                                struct err *err)
{
    const struct vm_entry *vm = vm_find(supervisor, uid);
    if (vm == NULL || vm->run == NULL) {
        return err_set(err, BERTH_ENOTFOUND, "VM %" PRIu64 " has no console now", uid);
    }
    int r = vm->ops->console_write(vm->run, data, size);
    return r == 0 ? 0 : err_sys(err, r, "console of VM %" PRIu64, uid);
}

/* ---- self-fencing ---- */

unsigned vm_supervisor_freeze_all(struct vm_supervisor *supervisor)
{
    size_t cursor = 0;
    struct vm_entry *vm;
    unsigned count = 0;
    while ((vm = vm_next(supervisor, &cursor)) != NULL) {
        if (vm->run != NULL && vm->order.fenced) {
            vm->frozen = true; /* also keeps one that is only starting from running */
            bool reached =
                vm->ops->freeze(vm->run, true) == 0 ||
                (vm->identity.pid != 0 && supervisor->host.groups != NULL &&
                 resource_group_freeze(supervisor->host.groups, vm->uid, true) == 0);
            count += reached;
            vm_mark(vm);
        }
    }
    return count;
}

unsigned vm_supervisor_resume_all(struct vm_supervisor *supervisor)
{
    size_t cursor = 0;
    struct vm_entry *vm;
    unsigned count = 0;
    while ((vm = vm_next(supervisor, &cursor)) != NULL) {
        if (vm->run != NULL && vm->frozen) {
            vm->frozen = false;
            if (supervisor->host.groups != NULL) {
                /* Fails where nothing was frozen that way. */
                (void)resource_group_freeze(supervisor->host.groups, vm->uid, false);
            }
            count += vm->ops->freeze(vm->run, false) == 0;
            vm_try_cont(vm);
            vm_mark(vm);
        }
    }
    return count;
}

unsigned vm_supervisor_kill_all(struct vm_supervisor *supervisor, const char *reason)
{
    size_t cursor = 0;
    struct vm_entry *vm;
    unsigned count = 0;
    while ((vm = vm_next(supervisor, &cursor)) != NULL) {
        if (vm->run != NULL && vm->order.fenced) {
            count += !vm->killed;
            vm_kill(vm, reason);
        }
    }
    return count;
}

void vm_supervisor_watch_all(struct vm_supervisor *supervisor)
{
    size_t cursor = 0;
    const struct vm_entry *vm;
    while ((vm = vm_next(supervisor, &cursor)) != NULL) {
        struct err err = {0};
        if (vm->run != NULL && vm->identity.pid != 0 && vm_watch(vm, &err) != 0) {
            log_warn(ROOM, "VM is fenced by this daemon alone",
                     KV_STR("vm", vm->order.vm.name), KV_STR("why", err.text));
        }
    }
}

bool vm_supervisor_knows(const struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint64_t epoch,
                         pid_t pid)
{
    const struct vm_entry *vm = vm_find(supervisor, uid);
    return vm != NULL && (vm->broken || (vm->run != NULL && vm->order.vm.epoch == epoch &&
                                         vm->identity.pid == pid));
}

/* ---- adoption ---- */

/* Has whatever a record speaks of ended with the host? */
static bool is_of_another_boot(const struct vm_record *record)
{
    struct vm_process_identity self;
    return record->identity.pid != 0 && vm_process_identify(getpid(), &self) == 0 &&
           strcmp(self.boot, record->identity.boot) != 0;
}

static const char *gone_reason(const struct vm_record *record)
{
    if (record->identity.pid == 0) {
        return "the agent ended before the VM's process was there";
    }
    if (is_of_another_boot(record)) {
        return "the host was restarted";
    }
    return record->state == VM_RECORD_STARTING
               ? "its process ended before it ran, while the agent was away"
               : "its process ended while the agent was away";
}

/* Has its process under our hand as far as that goes without its engine. */
static int vm_watch_remains(struct vm_entry *vm)
{
    struct err err = {0};
    vm->ops = &engine_remains;
    vm->run = engine_remains.adopt(&vm->supervisor->host, &vm->order.vm, &vm->identity,
                                   vm->console, &vm_events, vm, &err);
    return vm->run == NULL ? err.code : 0;
}

/* Ends what may be left of a VM; only then it is said to have ended. */
static int vm_end_remains(struct vm_entry *vm, enum phase phase, const char *reason)
{
    if (vm_signal_remains(vm, vm->order.vm.folder, 0) == 0) {
        vm_end(vm, phase, reason);
        return 0;
    }
    int r = vm_watch_remains(vm);
    if (r != 0) {
        return r;
    }
    log_warn(ROOM, "processes of a VM are left and are ended",
             KV_STR("vm", vm->order.vm.name), KV_U64("uid", vm->uid),
             KV_STR("why", reason));
    if (vm->stopping) { /* then this is its end, and no failure */
        vm->ops->kill(vm->run);
    } else {
        vm_kill(vm, reason);
    }
    return 0;
}

/* Its process is not there any more: says so, with the engine's last words. */
static int vm_gone(struct vm_entry *vm, const struct vm_record *record)
{
    char path[ENGINE_PATH_SIZE];
    char line[128];
    char reason[VM_SUPERVISOR_REASON];
    enum phase phase = record->state == VM_RECORD_STOPPING ? PHASE_STOPPED : PHASE_FAILED;
    (void)snprintf(path, sizeof(path), "%.*s/engine.log", ENGINE_FOLDER_MAX,
                   vm->order.vm.folder);
    vm_process_log_last_line(path, line, sizeof(line));
    (void)snprintf(reason, sizeof(reason), "%s%s%s", gone_reason(record),
                   line[0] == '\0' ? "" : "; engine log: ", line);
    if (is_of_another_boot(record)) { /* then nothing can be left */
        vm_end(vm, phase, reason);
        return 0;
    }
    return vm_end_remains(vm, phase, reason);
}

/* BERTH_ENOTFOUND: its process is certainly gone. */
static int vm_adopt(struct vm_entry *vm, const struct engine_ops *ops, struct err *err)
{
    struct engine_run *run = ops->adopt(&vm->supervisor->host, &vm->order.vm,
                                        &vm->identity, vm->console, &vm_events, vm, err);
    if (run == NULL) {
        return err->code;
    }
    if (vm->run != NULL) { /* watched until now */
        vm->run = vm->ops->close(vm->run);
    }
    vm->ops = ops;
    vm->run = run;
    vm->adopt_again = false;
    return 0;
}

static void vm_adopted(struct vm_entry *vm)
{
    struct resource_groups *groups = vm->supervisor->host.groups;
    vm->adopted = true;
    vm->frozen = vm_process_pid_is_stopped(vm->identity.pid);
    if (groups != NULL && !resource_group_holds(groups, vm->uid, vm->identity.pid)) {
        vm_limit(vm, vm->identity.pid); /* we are in another group than before */
    }
    if (vm->stopping) {
        vm->ops->stop(vm->run, vm->order.stop_grace_ms);
    } else if (vm->begun) {
        vm_probe(vm);
    }
    vm_mark(vm);
}

static void adopt_again(void *context)
{
    struct vm_supervisor *supervisor = context;
    size_t cursor = 0;
    unsigned waiting = 0;
    struct vm_entry *vm;
    while ((vm = vm_next(supervisor, &cursor)) != NULL) {
        struct err err = {0};
        if (!vm->adopt_again) {
            continue;
        }
        int r = vm_adopt(vm, engine_by_number(supervisor, vm->order.engine), &err);
        if (r == BERTH_ENOTFOUND) {
            vm->adopt_again = false;
            vm_kill(vm, "its process ended while the agent was away");
        } else if (r == 0 && vm->killed) {
            vm->ops->kill(vm->run);
        } else if (r == 0 && vm->stopping) {
            vm->ops->stop(vm->run, vm->order.stop_grace_ms);
        }
        waiting += vm->adopt_again;
    }
    if (waiting == 0) {
        supervisor->adopt_again = loop_timer_close(supervisor->adopt_again);
    }
}

/* Its process may live, but cannot be taken over now: it is watched meanwhile. */
static int vm_adopt_later(struct vm_entry *vm, const struct err *why)
{
    struct vm_supervisor *supervisor = vm->supervisor;
    log_warn(ROOM, "VM cannot be taken over yet", KV_STR("vm", vm->order.vm.name),
             KV_U64("uid", vm->uid), KV_STR("why", why->text));
    if (supervisor->adopt_again == NULL) {
        supervisor->adopt_again = loop_timer_new(supervisor->host.loop, ADOPT_AGAIN_MS,
                                                 ADOPT_AGAIN_MS, adopt_again, supervisor);
    }
    vm->adopt_again = true;
    return supervisor->adopt_again == NULL ? -ENOMEM : vm_watch_remains(vm);
}

static int vm_take_over(struct vm_entry *vm, const struct vm_record *record)
{
    const struct engine_ops *ops = engine_by_number(vm->supervisor, vm->order.engine);
    struct err err = {0};
    int r = ops == NULL ? vm_watch_remains(vm) : vm_adopt(vm, ops, &err);
    if (r == BERTH_ENOTFOUND) {
        return vm_gone(vm, record);
    }
    if (r != 0 && ops != NULL) {
        r = vm_adopt_later(vm, &err);
    }
    if (r != 0) {
        return r;
    }
    vm_adopted(vm);
    if (ops == NULL) {
        log_error(ROOM, "engine of a VM is not here any more; it is only watched",
                  KV_STR("vm", vm->order.vm.name), KV_U64("uid", vm->uid));
        if (record->state == VM_RECORD_STARTING) { /* nobody could let it run */
            vm_kill(vm, "its engine is not on this host any more");
        }
    }
    log_info(ROOM, "VM was taken over", KV_STR("vm", vm->order.vm.name),
             KV_U64("uid", vm->uid), KV_U64("epoch", vm->order.vm.epoch),
             KV_I64("pid", vm->identity.pid), KV_BOOL("frozen", vm->frozen));
    return 0;
}

static const enum vm_state state_of_record[VM_RECORD_STATE_COUNT] = {
    [VM_RECORD_NOTED] = VM_IDLE,      [VM_RECORD_STARTING] = VM_STARTING,
    [VM_RECORD_RUNNING] = VM_RUNNING, [VM_RECORD_STOPPING] = VM_STOPPING,
    [VM_RECORD_STOPPED] = VM_ENDED,   [VM_RECORD_FAILED] = VM_ENDED,
    [VM_RECORD_FORGOTTEN] = VM_IDLE,
};

static int adopt_record(struct vm_supervisor *supervisor,
                        const char *folder,
                        const struct vm_record *record)
{
    struct vm_entry *vm =
        vm_new(supervisor, record->order.vm.uid, state_of_record[record->state]);
    if (vm == NULL) {
        return -ENOMEM;
    }
    vm->epoch_seen = record->epoch_seen;
    vm->since_wall_ms = record->since_wall_ms;
    if (record->state == VM_RECORD_NOTED) {
        return 0;
    }
    vm->order = record->order;
    (void)snprintf(vm->order.vm.folder, sizeof(vm->order.vm.folder), "%s", folder);
    vm->identity = record->identity;
    /* One that was not let run yet waits for a new word: much may have changed. */
    vm->hold = record->hold || record->state == VM_RECORD_STARTING;
    vm->begun = record->state == VM_RECORD_RUNNING ||
                (record->state == VM_RECORD_STOPPING && record->running_wall_ms != 0);
    vm->stopping = record->state == VM_RECORD_STOPPING;
    vm->start_wall_ms = record->start_wall_ms;
    vm->running_wall_ms = record->running_wall_ms;
    memcpy(vm->reason, record->reason, sizeof(vm->reason));
    if (vm->machine.state == VM_ENDED) {
        vm->end_phase = record->state == VM_RECORD_STOPPED ? PHASE_STOPPED : PHASE_FAILED;
        vm_mark(vm);
        return 0;
    }
    return vm_take_over(vm, record);
}

/* A record that says nothing any more: who runs is found without it. */
static int
adopt_broken(struct vm_supervisor *supervisor, uint64_t uid, const char *folder)
{
    struct vm_entry *vm = vm_new(supervisor, uid, VM_STOPPING);
    if (vm == NULL) {
        return -ENOMEM;
    }
    vm->broken = true;
    vm->order.vm.uid = uid;
    vm->order.fenced = true; /* for all we know */
    vm->epoch_seen = vm_lock_epoch(folder);
    (void)snprintf(vm->order.vm.name, sizeof(vm->order.vm.name), "uid-%" PRIu64, uid);
    (void)snprintf(vm->order.vm.folder, sizeof(vm->order.vm.folder), "%s", folder);
    return vm_end_remains(vm, PHASE_FAILED,
                          "its record is damaged, so what ran of it was ended");
}

/* What may be better in a moment: no reason to end a VM. */
static bool is_shortage(int code)
{
    return code == -ENOMEM || code == -EMFILE || code == -ENFILE;
}

static bool tombstone_is_old(const struct vm_supervisor *supervisor,
                             uint64_t since_wall_ms)
{
    return clock_wall_ms(supervisor->host.clock) >
           since_wall_ms + VM_SUPERVISOR_EPOCHS_MS;
}

static int adopt_folder(struct vm_supervisor *supervisor, uint64_t uid)
{
    char folder[ENGINE_PATH_SIZE];
    struct vm_record record;
    struct err err = {0};
    int r = vm_folder(supervisor, uid, folder);
    r = r != 0 ? r : vm_record_read(folder, &record, &err);
    if (r == 0 && record.order.vm.uid != uid) {
        r = err_set(&err, BERTH_ECORRUPT, "%s: record of another VM", folder);
    }
    if (r == BERTH_ENOTFOUND && !vm_lock_is_held(folder)) {
        (void)fd_remove_tree(folder, NULL); /* of a start that never got to a process */
        return 0;
    }
    if (r != 0 && !is_shortage(r)) {
        log_error(ROOM, "record of a VM cannot be read; what runs of it is ended",
                  KV_U64("uid", uid), KV_STR("why", err.text));
        return adopt_broken(supervisor, uid, folder);
    }
    if (r != 0) {
        return r; /* the whole daemon tries again */
    }
    if (record.state == VM_RECORD_FORGOTTEN) {
        if (tombstone_is_old(supervisor, record.since_wall_ms)) {
            (void)fd_remove_tree(folder, NULL); /* tried again at the next start */
            return 0;
        }
        if (!vm_lock_is_held(folder)) {
            folder_empty(folder); /* a crash may have left something */
        }
        const struct tombstone tombstone = {.epoch_seen = record.epoch_seen,
                                            .epoch_ended = record.order.vm.epoch,
                                            .since_wall_ms = record.since_wall_ms};
        return tombstone_put(supervisor, uid, &tombstone);
    }
    return adopt_record(supervisor, folder, &record);
}

static int adopt_all(struct vm_supervisor *supervisor, struct err *err)
{
    DIR *entries = opendir(supervisor->folder);
    if (entries == NULL) {
        return err_sys(err, -errno, "open %s", supervisor->folder);
    }
    const struct dirent *entry;
    int r = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (r == 0 && (entry = readdir(entries)) != NULL) {
        char *end;
        errno = 0;
        uint64_t uid = strtoull(entry->d_name, &end, 10);
        if (errno == 0 && uid != 0 && *end == '\0' && entry->d_name[0] != '-') {
            r = adopt_folder(supervisor, uid);
        }
    }
    (void)closedir(entries); /* only read */
    return r == 0 ? 0 : err_sys(err, r, "take over VMs of %s", supervisor->folder);
}

/* ---- upkeep, opening and closing ---- */

static void tombstones_prune(struct vm_supervisor *supervisor)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    uint64_t old[PRUNE_MAX]; /* the map must not change while it is walked */
    unsigned count = 0;
    while (count < PRUNE_MAX &&
           u64_map_next(supervisor->tombstones, &cursor, &uid, &value)) {
        const struct tombstone *tombstone = value;
        if (tombstone_is_old(supervisor, tombstone->since_wall_ms)) {
            old[count++] = uid;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        char folder[ENGINE_PATH_SIZE];
        tombstone_remove(supervisor, old[i]);
        if (vm_folder(supervisor, old[i], folder) == 0) {
            (void)fd_remove_tree(folder, NULL); /* tried again when we are started */
        }
    }
}

static void upkeep(void *context)
{
    static const char *const logs[] = {"engine.log", ENGINE_SERIAL_LOG};
    size_t cursor = 0;
    struct vm_entry *vm;
    struct vm_supervisor *supervisor = context;
    while ((vm = vm_next(supervisor, &cursor)) != NULL) {
        for (unsigned i = 0; vm->run != NULL && i < ARRAY_COUNT(logs); i++) {
            char path[ENGINE_PATH_SIZE];
            (void)snprintf(path, sizeof(path), "%.*s/%s", ENGINE_FOLDER_MAX,
                           vm->order.vm.folder, logs[i]);
            vm_process_log_trim(path);
        }
    }
    tombstones_prune(supervisor);
}

struct vm_supervisor *vm_supervisor_open(const struct vm_supervisor_config *config,
                                         struct err *err)
{
    REQUIRE(config->changed != NULL && config->engines != NULL);
    struct vm_supervisor *supervisor = calloc(1, sizeof(*supervisor));
    if (supervisor == NULL) {
        err_set(err, -ENOMEM, "VMs: out of memory");
        return NULL;
    }
    supervisor->host = config->host;
    supervisor->engines = config->engines;
    supervisor->fence = config->fence;
    supervisor->changed = config->changed;
    supervisor->context = config->context;
    list_init(&supervisor->dirty);
    supervisor->vms = u64_map_new();
    supervisor->tombstones = u64_map_new();
    supervisor->post = loop_post_new(config->host.loop, tell_changes, supervisor);
    supervisor->upkeep =
        loop_timer_new(config->host.loop, UPKEEP_MS, UPKEEP_MS, upkeep, supervisor);
    int r = supervisor->vms == NULL || supervisor->tombstones == NULL ||
                    supervisor->post == NULL || supervisor->upkeep == NULL
                ? err_set(err, -ENOMEM, "VMs: out of memory")
                : 0;
    char *absolute = realpath(config->folder, NULL);
    if (r == 0 && absolute == NULL) {
        r = err_sys(err, -errno, "open state folder %s", config->folder);
    }
    if (r == 0 && (size_t)snprintf(supervisor->folder, sizeof(supervisor->folder),
                                   "%s/vms", absolute) >= sizeof(supervisor->folder)) {
        r = err_set(err, -ENAMETOOLONG, "state folder %s: path too long", absolute);
    }
    free(absolute);
    r = r != 0 ? r : fd_make_folders(supervisor->folder, err);
    r = r != 0 ? r : adopt_all(supervisor, err);
    return r == 0 ? supervisor : vm_supervisor_close(supervisor);
}

struct vm_supervisor *vm_supervisor_close(struct vm_supervisor *supervisor)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    if (supervisor == NULL) {
        return NULL;
    }
    while (supervisor->vms != NULL &&
           u64_map_next(supervisor->vms, &cursor, &uid, &value)) {
        (void)vm_free(value);
    }
    cursor = 0;
    while (supervisor->tombstones != NULL &&
           u64_map_next(supervisor->tombstones, &cursor, &uid, &value)) {
        free(value);
    }
    supervisor->vms = u64_map_free(supervisor->vms);
    supervisor->tombstones = u64_map_free(supervisor->tombstones);
    supervisor->upkeep = loop_timer_close(supervisor->upkeep);
    supervisor->adopt_again = loop_timer_close(supervisor->adopt_again);
    if (supervisor->post != NULL) {
        supervisor->post = loop_post_close(supervisor->post);
    }
    free(supervisor);
    return NULL;
}
