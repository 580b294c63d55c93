#include "agent/vm_supervisor.h"

#include "agent/ready_probe.h"
#include "agent/snapshot_store.h"
#include "agent/vm_disks.h"
#include "agent/vm_entry.h"
#include "agent/vm_lock.h"
#include "agent/vm_pause.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/plural.h"
#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM      "agent"
#define UPKEEP_MS 10000 /* unless the configuration says another */
/* Records that may wait for a disk that hangs: a VM's life has five. */
#define DISK_QUEUE (5 * VM_SUPERVISOR_VMS_MAX)
/* Threads that make disks: a large one holds up no other. And how many wait for them: of
 * a VM that one start is given up, and a next one is under way. */
#define MAKING_THREADS 2
#define MAKING_QUEUE   (2 * VM_SUPERVISOR_VMS_MAX)

/* ---- what an action means ---- */

/* The VM an action means: BERTH_ENOTFOUND, or BERTH_ESTALE when its epoch is below the
 * highest seen. */
static int vm_for_action(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint64_t epoch,
                         struct vm_entry **ret_vm,
                         struct err *err)
{
    struct vm_entry *vm = vm_entry_find(supervisor, uid);
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

/* May this epoch be started? 1: it is under way already. */
static int start_allowed(const struct vm_entry *vm, uint64_t epoch, struct err *err)
{
    if (vm->leaving) {
        return err_set(err, BERTH_EINUSE, "VM %" PRIu64 ": its last run is being removed",
                       vm->uid);
    }
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
    /* One that goes on with what an earlier run left has disks if that one had. */
    vm->diskless =
        (order->disk_epoch == 0 || vm->diskless) && !engine_vm_keeps_disks(&order->vm);
    vm->order = *order;
    vm->limits = order->vm.limits;
    vm->limits_known = true;
    vm->cpus_told = order->vm.cpu_count;
    vm->devices_due = false;
    vm->epoch_seen = order->vm.epoch;
    vm->identity = (struct vm_process_identity){0};
    vm->hold = hold;
    vm->cont_sent = vm->begun = vm->stopping = vm->killed = vm->at_gate = false;
    vm->recording = false;
    vm->frozen = vm->adopted = vm->waiting = vm->broken = false;
    vm->user_paused = vm->saving = vm->standing = vm->heard = false;
    vm->start_wall_ms = now_ms;
    vm->running_wall_ms = vm->ready_wall_ms = 0;
    /* What cannot be made anew was used, before it was in a snapshot. */
    vm->disks_used = order->restore != 0 || (vm->disks_used && order->disk_epoch != 0);
    vm->sampled_ns = 0;
    vm->kill_reason[0] = vm->cpus_missing[0] = '\0';
}

/* With the lock held: new disks for an order that wants such, and what they lie on, for a
 * later run with the same ones. */
static int vm_disks_begin(const struct vm_order *order, struct err *err)
{
    int r = vm_disks_settle(order->vm.folder, err);
    return r < 0 || order->disk_epoch != 0 || order->restore != 0
               ? r
               : vm_disks_renew(order->vm.folder, order->vm.disk_path, err);
}

/* Before its disks are touched the folder is ours: no process of this VM lives. */
static int vm_launch(struct vm_entry *vm,
                     struct vm_order *order,
                     bool hold,
                     const struct engine_ops *ops,
                     struct err *err)
{
    struct vm_supervisor *supervisor = vm->supervisor;
    char log[ENGINE_PATH_SIZE];
    CLEANUP_FD int lock = vm_lock_take(order->vm.folder, order->vm.epoch, err);
    if (lock < 0) {
        return lock;
    }
    order->vm.lock = lock;
    int r = vm_disks_begin(order, err);
    vm_disks_sweep_by(supervisor->removing, order->vm.folder);
    if (r < 0) {
        return r;
    }
    (void)snprintf(log, sizeof(log), "%.*s/engine.log", ENGINE_FOLDER_MAX,
                   order->vm.folder);
    vm_process_log_begin(log);
    struct engine_run *run =
        ops->start(&supervisor->host, &order->vm, vm->console, &vm_entry_events, vm, err);
    if (run == NULL) {
        return err == NULL ? BERTH_EBUG : err->code;
    }
    vm->ops = ops;
    vm->run = run;
    vm->lock = TAKE_FD(lock);
    vm_begin(vm, order, hold);
    vm_entry_move(vm, VM_STARTING, NULL);
    return 0;
}

/* The VM, made known now if it is not yet, with what a tombstone remembers of it. */
static int vm_ensure(struct vm_supervisor *supervisor,
                     uint64_t uid,
                     struct vm_entry **ret_vm,
                     struct err *err)
{
    struct vm_entry *vm = vm_entry_find(supervisor, uid);
    if (vm == NULL) {
        if (u64_map_count(supervisor->vms) >= VM_SUPERVISOR_VMS_MAX) {
            return err_set(err, BERTH_EFULL, "this host holds %u VMs, the most",
                           VM_SUPERVISOR_VMS_MAX);
        }
        vm = vm_entry_new(supervisor, uid, VM_IDLE);
        if (vm == NULL) {
            return err_set(err, -ENOMEM, "VM %" PRIu64 ": out of memory", uid);
        }
        const struct tombstone *tombstone = tombstones_get(supervisor->tombstones, uid);
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
    const struct tombstone *tombstone = tombstones_get(supervisor->tombstones, vm->uid);
    if (!vm_has_run(vm) && !vm->broken &&
        vm->epoch_seen == (tombstone == NULL ? 0 : tombstone->epoch_seen)) {
        (void)u64_map_remove(supervisor->vms, vm->uid);
        (void)vm_entry_free(vm);
    }
}

/* Of a run that we know nothing of: gone at the next try. */
static int launch_blocked(const struct vm_entry *vm,
                          const struct vm_order *order,
                          const char *folder,
                          int code)
{
    if (code == BERTH_EINUSE) {
        log_warn(ROOM, "VM waits for what is left of an earlier run of it",
                 KV_STR("vm", order->vm.name), KV_U64("uid", vm->uid));
        (void)vm_entry_signal_remains(vm, folder, SIGKILL);
    }
    return code;
}

static int start_with(struct vm_entry *vm,
                      struct vm_order *order,
                      const char *folder,
                      bool hold,
                      struct err *err)
{
    struct vm_supervisor *supervisor = vm->supervisor;
    const struct engine_ops *ops =
        engine_choose(supervisor->engines, order->engine, &supervisor->host, &order->vm);
    if (ops == NULL) {
        return err_set(err, BERTH_EUNSUPPORTED, "engine %s is not on this host",
                       engine_names[order->engine]);
    }
    order->engine = ops->engine;
    int r = ops->check(&supervisor->host, &order->vm, err);
    r = r != 0 ? r : fd_make_folders(folder, err);
    r = r != 0 ? r : vm_launch(vm, order, hold, ops, err);
    return launch_blocked(vm, order, folder, r);
}

static int start_checked(struct vm_entry *vm,
                         const struct vm_order *given,
                         bool hold,
                         struct err *err)
{
    struct vm_supervisor *supervisor = vm->supervisor;
    struct vm_order order = *given;
    char folder[ENGINE_PATH_SIZE];
    int r = vm_entry_folder(supervisor, vm->uid, folder);
    if (r != 0 || strlen(folder) > ENGINE_FOLDER_MAX) {
        return err_set(err, -ENAMETOOLONG,
                       "folder of VM %" PRIu64
                       ": longer than %d bytes, too long for its sockets",
                       vm->uid, ENGINE_FOLDER_MAX);
    }
    memcpy(order.vm.folder, folder, strlen(folder) + 1);
    if (order.restore != 0) {
        r = fd_make_folders(folder, err);
        r = r != 0 ? r : vm_snapshots_restore(supervisor->snapshots, &order, folder, err);
        return r != 0 ? launch_blocked(vm, &order, folder, r)
                      : start_with(vm, &order, folder, hold, err);
    }
    if (vm_supervisor_restore_call_off(supervisor, vm->uid)) {
        return 1;
    }
    if (order.disk_epoch != 0 && !vm_has_run(vm)) {
        return err_set(err, BERTH_ENOTFOUND,
                       "its disks, of epoch %" PRIu64 ", are not on this host any more",
                       order.disk_epoch);
    }
    if (order.disk_epoch != 0 && order.disk_epoch != vm->order.vm.epoch) {
        /* The log says they are here, and a folder has one set of them. The numbers part
         * when a record could not be written or the end of the log was lost. */
        log_warn(ROOM, "VM starts with disks of another epoch than the log says",
                 KV_STR("vm", order.vm.name), KV_U64("uid", vm->uid),
                 KV_U64("disks", vm->order.vm.epoch), KV_U64("said", order.disk_epoch));
    }
    order.vm.disks_are_there = order.disk_epoch != 0 && vm->disks_used;
    return start_with(vm, &order, folder, hold, err);
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
    if (r != 0) {
        vm_drop_unused(vm);
    }
    if (r > 0) { /* its disks are on their way */
        return 0;
    }
    if (r < 0) {
        return err_set(err, r, "start VM %s: %s", order->vm.name, own.text);
    }
    vm_tombstone_remove(supervisor, order->vm.uid);
    vm_snapshots_restored(supervisor->snapshots, order->vm.uid);
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
        vm_entry_mark(vm);
    }
    vm_entry_try_cont(vm);
    return 0;
}

int vm_supervisor_limit(struct vm_supervisor *supervisor,
                        uint64_t uid,
                        uint64_t epoch,
                        const struct machine_spec *machine,
                        struct err *err)
{
    struct vm_entry *vm;
    struct engine_limits limits;
    int r = vm_for_action(supervisor, uid, epoch, &vm, err);
    if (r != 0) {
        return r;
    }
    engine_limits_of(machine, &limits);
    if (epoch != vm->order.vm.epoch || vm->run == NULL ||
        (vm->limits_known && engine_limits_equal(&limits, &vm->limits))) {
        return 0;
    }
    if (vm->limits_known) { /* else they are those that it has, as far as we know */
        log_info(ROOM, "VM has other limits", KV_STR("vm", vm->order.vm.name),
                 KV_U64("uid", vm->uid));
    }
    vm->limits = limits;
    vm->limits_known = true;
    vm->ops->limit(vm->run, &limits);
    return 0;
}

int vm_supervisor_devices(struct vm_supervisor *supervisor,
                          uint64_t uid,
                          uint64_t epoch,
                          const struct engine_vm *devices,
                          struct err *err)
{
    struct vm_entry *vm;
    int r = vm_for_action(supervisor, uid, epoch, &vm, err);
    if (r == 0 && epoch == vm->order.vm.epoch && vm->run != NULL && vm->devices_due) {
        vm->devices_due = false;
        vm->ops->know(vm->run, devices);
    }
    return r;
}

/* None goes while it runs, and some engines add none: those are for its next start. */
static void tell_cpus_later(struct vm_entry *vm, uint32_t count)
{
    char text[VM_SUPERVISOR_REASON];
    (void)snprintf(text, sizeof(text),
                   "it has %" PRIu32 " CPU%s, and %" PRIu32
                   " from its next start on: engine %s %s none while it runs",
                   vm->order.vm.cpu_count, plural_s(vm->order.vm.cpu_count), count,
                   vm->ops->name, count > vm->order.vm.cpu_count ? "adds" : "takes away");
    vm_entry_say(vm, text);
}

/* What it has then its engine tells. */
static void plug(struct vm_entry *vm, uint32_t count)
{
    if (count > vm->order.vm.cpu_count) {
        log_info(ROOM, "VM gets more CPUs", KV_STR("vm", vm->order.vm.name),
                 KV_U64("uid", vm->uid), KV_U64("cpus", count));
    }
    vm->ops->plug(vm->run, count); /* a process that was taken over is told again */
}

static bool is_for_its_next_start(const struct vm_entry *vm, uint32_t count)
{
    const uint32_t has = vm->order.vm.cpu_count;
    return count < has || (count > has && vm->ops->plug == NULL);
}

int vm_supervisor_cpus(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       const struct cpu_spec *cpu,
                       struct err *err)
{
    struct vm_entry *vm;
    int r = vm_for_action(supervisor, uid, epoch, &vm, err);
    if (r != 0) {
        return r;
    }
    bool runs = vm->machine.state == VM_RUNNING || vm->machine.state == VM_READY;
    if (cpu->max == 0 || epoch != vm->order.vm.epoch || vm->run == NULL || !runs ||
        vm->waiting || vm->cpus_told == cpu->count) {
        return 0;
    }
    if (vm->cpus_told != 0 && is_for_its_next_start(vm, vm->cpus_told)) {
        vm_entry_say(vm, ""); /* it holds no more */
    }
    vm->cpus_told = cpu->count;
    if (is_for_its_next_start(vm, cpu->count)) {
        tell_cpus_later(vm, cpu->count);
    }
    if (vm->ops->plug != NULL) {
        plug(vm, cpu->count); /* if fewer, none that is still to come does */
    }
    return 0;
}

/* ---- ending ---- */

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
        vm_entry_move(vm, VM_STOPPING, NULL);
    }
    vm_pause_stop(vm);
    if (first) {
        vm_entry_write_or_log(vm); /* so that its end is understood if we are away then */
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
        vm_entry_write_or_log(vm);
    }
    vm_entry_kill(vm, reason);
    return 0;
}

int vm_supervisor_end(struct vm_supervisor *supervisor,
                      uint64_t uid,
                      uint64_t epoch,
                      const char *reason,
                      struct err *err)
{
    struct vm_entry *vm;
    int r = vm_for_action(supervisor, uid, epoch, &vm, err);
    if (r != 0 || vm->run == NULL || vm->killed) {
        return r;
    }
    if ((!vm->begun && !vm->adopted) || vm->frozen) {
        return vm_supervisor_kill(supervisor, uid, epoch, reason, err);
    }
    if (!vm->disks_used) { /* they may be: the record may lag behind one taken over */
        vm->disks_used = true;
        vm_entry_write_or_log(vm);
    }
    if (!vm->stopping) {
        vm->killed = true;
        (void)snprintf(vm->kill_reason, sizeof(vm->kill_reason), "%s", reason);
    }
    vm->ops->stop(vm->run, 0);
    return 0;
}

int vm_supervisor_forget(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint64_t epoch,
                         struct err *err)
{
    struct vm_entry *vm;
    if (vm_entry_find(supervisor, uid) == NULL ||
        !vm_has_run(vm_entry_find(supervisor, uid))) {
        return 0;
    }
    int r = vm_for_action(supervisor, uid, epoch, &vm, err);
    if (r != 0 || vm->leaving) {
        return r;
    }
    char folder[ENGINE_PATH_SIZE];
    bool held = vm_entry_folder(supervisor, uid, folder) == 0 && vm_lock_is_held(folder);
    if (vm->run != NULL || held) {
        return err_set(err, BERTH_EPHASE, "VM %" PRIu64 " still has a process", uid);
    }
    if (supervisor->host.groups != NULL) {
        (void)resource_group_remove(supervisor->host.groups, uid); /* only a folder */
    }
    return vm_entry_bury(vm, epoch, err);
}

/* ---- looking ---- */

bool vm_supervisor_base(const struct vm_supervisor *supervisor,
                        uint64_t uid,
                        char ret_path[ENGINE_PATH_SIZE])
{
    const struct vm_entry *vm = vm_entry_find(supervisor, uid);
    char folder[ENGINE_PATH_SIZE];
    return vm != NULL && vm_has_run(vm) &&
           vm_entry_folder(supervisor, uid, folder) == 0 &&
           vm_disks_base(folder, ret_path);
}

bool vm_supervisor_report(const struct vm_supervisor *supervisor,
                          uint64_t uid,
                          struct vm_report *ret_report)
{
    const struct vm_entry *vm = vm_entry_find(supervisor, uid);
    if (vm == NULL || !vm_has_run(vm)) {
        return false;
    }
    vm_entry_fill_report(vm, ret_report);
    return true;
}

void vm_supervisor_each(const struct vm_supervisor *supervisor,
                        void (*visit)(void *context, const struct vm_report *report),
                        void *context)
{
    size_t cursor = 0;
    struct vm_entry *vm;
    while ((vm = vm_entry_next(supervisor, &cursor)) != NULL) {
        if (vm_has_run(vm)) {
            struct vm_report report;
            vm_entry_fill_report(vm, &report);
            visit(context, &report);
        }
    }
}

int vm_supervisor_sample(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint32_t *ret_cpu_permille,
                         uint64_t *ret_memory_bytes)
{
    struct vm_entry *vm = vm_entry_find(supervisor, uid);
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

const struct vm_stats *vm_supervisor_stats(const struct vm_supervisor *supervisor,
                                           uint64_t uid)
{
    const struct vm_entry *vm = vm_entry_find(supervisor, uid);
    return vm == NULL || vm->run == NULL || vm->ops->stats == NULL
               ? NULL
               : vm->ops->stats(vm->run);
}

struct console_ring *vm_supervisor_console(struct vm_supervisor *supervisor, uint64_t uid)
{
    const struct vm_entry *vm = vm_entry_find(supervisor, uid);
    return vm == NULL || !vm_has_run(vm) ? NULL : vm->console;
}

int vm_supervisor_console_write(struct vm_supervisor *supervisor,
                                uint64_t uid,
                                const void *data,
                                size_t size,
                                struct err *err)
{
    const struct vm_entry *vm = vm_entry_find(supervisor, uid);
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
    while ((vm = vm_entry_next(supervisor, &cursor)) != NULL) {
        if (vm->run != NULL && vm->order.fenced) {
            vm->frozen = true; /* also keeps one that is only starting from running */
            bool reached =
                vm->ops->freeze(vm->run, true) == 0 ||
                (vm->identity.pid != 0 && supervisor->host.groups != NULL &&
                 resource_group_freeze(supervisor->host.groups, vm->uid, true) == 0);
            count += reached;
            vm_entry_mark(vm);
        }
    }
    return count;
}

unsigned vm_supervisor_resume_all(struct vm_supervisor *supervisor)
{
    size_t cursor = 0;
    struct vm_entry *vm;
    unsigned count = 0;
    while ((vm = vm_entry_next(supervisor, &cursor)) != NULL) {
        if (vm->run != NULL && vm->frozen) {
            vm->frozen = false;
            if (supervisor->host.groups != NULL) {
                /* Fails where nothing was frozen that way. */
                (void)resource_group_freeze(supervisor->host.groups, vm->uid, false);
            }
            count += vm->ops->freeze(vm->run, false) == 0;
            vm_entry_try_cont(vm);
            vm_entry_care(vm);
            vm_entry_mark(vm);
        }
    }
    return count;
}

unsigned vm_supervisor_kill_all(struct vm_supervisor *supervisor, const char *reason)
{
    size_t cursor = 0;
    struct vm_entry *vm;
    unsigned count = 0;
    while ((vm = vm_entry_next(supervisor, &cursor)) != NULL) {
        if (vm->run != NULL && vm->order.fenced) {
            count += !vm->killed;
            vm_entry_kill(vm, reason);
        }
    }
    return count;
}

void vm_supervisor_watch_all(struct vm_supervisor *supervisor)
{
    size_t cursor = 0;
    struct vm_entry *vm;
    while ((vm = vm_entry_next(supervisor, &cursor)) != NULL) {
        struct err err = {0};
        if (vm->run == NULL || vm->identity.pid == 0) {
            continue;
        }
        if (vm_entry_watch(vm, &err) == 0) {
            vm_entry_release(vm);
        } else {
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
    const struct vm_entry *vm = vm_entry_find(supervisor, uid);
    return vm != NULL && (vm->broken || (vm->run != NULL && vm->order.vm.epoch == epoch &&
                                         vm->identity.pid == pid));
}

/* ---- upkeep, opening and closing ---- */

static void upkeep(void *context)
{
    static const char *const logs[] = {"engine.log", ENGINE_SERIAL_LOG};
    size_t cursor = 0;
    struct vm_entry *vm;
    struct vm_supervisor *supervisor = context;
    while ((vm = vm_entry_next(supervisor, &cursor)) != NULL) {
        for (unsigned i = 0; vm->run != NULL && i < ARRAY_COUNT(logs); i++) {
            char path[ENGINE_PATH_SIZE];
            (void)snprintf(path, sizeof(path), "%.*s/%s", ENGINE_FOLDER_MAX,
                           vm->order.vm.folder, logs[i]);
            vm_process_log_trim(path);
        }
    }
    vm_tombstones_prune(supervisor);
    vm_snapshots_look(supervisor->snapshots);
}

static int
snapshots_open(struct vm_supervisor *supervisor, const char *state, struct err *err)
{
    char folder[ENGINE_PATH_SIZE];
    (void)snprintf(folder, sizeof(folder), "%s/" SNAPSHOT_STORE_FOLDER, state);
    if (strlen(state) + sizeof(SNAPSHOT_STORE_FOLDER) + 1 > sizeof(folder)) {
        return err_set(err, -ENAMETOOLONG, "state folder %s: path too long", state);
    }
    supervisor->snapshots = vm_snapshots_open(supervisor, folder, err);
    return supervisor->snapshots != NULL ? 0 : err != NULL ? err->code : -ENOMEM;
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
    supervisor->epochs_max =
        config->epochs_max != 0 ? config->epochs_max : VM_SUPERVISOR_EPOCHS_MAX;
    supervisor->changed = config->changed;
    supervisor->snapshots_changed = config->snapshots_changed;
    supervisor->reserve_bytes = config->reserve_bytes;
    supervisor->context = config->context;
    list_init(&supervisor->dirty);
    supervisor->vms = u64_map_new();
    supervisor->tombstones = tombstones_new();
    supervisor->post =
        loop_post_new(config->host.loop, vm_entry_tell_changes, supervisor);
    supervisor->disk = work_pool_new(config->host.loop, 1, DISK_QUEUE);
    supervisor->removing = work_pool_new(config->host.loop, 1, VM_SUPERVISOR_VMS_MAX);
    supervisor->making = work_pool_new(config->host.loop, MAKING_THREADS, MAKING_QUEUE);
    supervisor->host.pool = supervisor->making;
    uint64_t upkeep_ms = config->upkeep_ms != 0 ? config->upkeep_ms : UPKEEP_MS;
    supervisor->upkeep =
        loop_timer_new(config->host.loop, upkeep_ms, upkeep_ms, upkeep, supervisor);
    int r = supervisor->vms == NULL || supervisor->tombstones == NULL ||
                    supervisor->post == NULL || supervisor->upkeep == NULL ||
                    supervisor->disk == NULL || supervisor->removing == NULL ||
                    supervisor->making == NULL
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
    r = r != 0 ? r : snapshots_open(supervisor, absolute, err);
    free(absolute);
    r = r != 0 ? r : fd_make_folders(supervisor->folder, err);
    r = r != 0 ? r : vm_adopt_all(supervisor, err);
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
    supervisor->snapshots = vm_snapshots_close(supervisor->snapshots);
    if (supervisor->disk != NULL && supervisor->removing != NULL) {
        work_pool_drain(supervisor->disk); /* may ask for removals */
        work_pool_cancel_all(supervisor->removing);
        work_pool_drain(supervisor->removing);
    }
    supervisor->removing = work_pool_close(supervisor->removing);
    supervisor->disk = work_pool_close(supervisor->disk);
    while (supervisor->vms != NULL &&
           u64_map_next(supervisor->vms, &cursor, &uid, &value)) {
        (void)vm_entry_free(value);
    }
    supervisor->vms = u64_map_free(supervisor->vms);
    supervisor->making = work_pool_close(supervisor->making); /* their runs are over */
    supervisor->tombstones = tombstones_free(supervisor->tombstones);
    supervisor->upkeep = loop_timer_close(supervisor->upkeep);
    supervisor->adopt_again = loop_timer_close(supervisor->adopt_again);
    if (supervisor->post != NULL) {
        supervisor->post = loop_post_close(supervisor->post);
    }
    free(supervisor);
    return NULL;
}
