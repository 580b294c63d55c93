/* VMs that an earlier daemon left running or ended: taken over, or said to be gone. */
#include "agent/engine_remains.h"
#include "agent/vm_disks.h"
#include "agent/vm_entry.h"
#include "agent/vm_lock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM           "agent"
#define ADOPT_AGAIN_MS 500 /* what could not be taken over for lack of something */

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
    if (record->state == VM_RECORD_STARTING) {
        return "its process ended before it ran, while the agent was away";
    }
    return record->order.fenced
               ? "its process ended while the agent was away, as the fence ends all that "
                 "obey the lease once that is over"
               : "its process ended while the agent was away";
}

/* Has its process under our hand as far as that goes without its engine. */
static int vm_watch_remains(struct vm_entry *vm)
{
    struct err err = {0};
    vm->ops = &engine_remains;
    vm->run = engine_remains.adopt(&vm->supervisor->host, &vm->order.vm, &vm->identity,
                                   vm->console, &vm_entry_events, vm, &err);
    return vm->run == NULL ? err.code : 0;
}

/* Ends what may be left of a VM; only then it is said to have ended. */
static int vm_end_remains(struct vm_entry *vm, enum phase phase, const char *reason)
{
    if (vm_entry_signal_remains(vm, vm->order.vm.folder, 0) == 0) {
        vm_entry_end(vm, phase, reason);
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
        vm_entry_kill(vm, reason);
    }
    return 0;
}

/* Its process is not there any more: says so, with the engine's last words. */
static int vm_gone(struct vm_entry *vm, const struct vm_record *record)
{
    char path[ENGINE_PATH_SIZE];
    char line[128] = "";
    char reason[VM_SUPERVISOR_REASON];
    enum phase phase = record->state == VM_RECORD_STOPPING ? PHASE_STOPPED : PHASE_FAILED;
    (void)snprintf(path, sizeof(path), "%.*s/engine.log", ENGINE_FOLDER_MAX,
                   vm->order.vm.folder);
    if (record->identity.pid != 0) { /* else the log may still be of the run before */
        vm_process_log_last_line(path, line, sizeof(line));
    }
    (void)snprintf(reason, sizeof(reason), "%s%s%s", gone_reason(record),
                   line[0] == '\0' ? "" : "; engine log: ", line);
    /* Its guest may have begun with them, and nobody was there to write that down. */
    vm->disks_used = vm->disks_used || record->identity.pid != 0;
    if (is_of_another_boot(record)) { /* then nothing can be left */
        vm_entry_end(vm, phase, reason);
        return 0;
    }
    return vm_end_remains(vm, phase, reason);
}

/* BERTH_ENOTFOUND: its process is certainly gone. */
static int vm_adopt(struct vm_entry *vm, const struct engine_ops *ops, struct err *err)
{
    struct engine_run *run =
        ops->adopt(&vm->supervisor->host, &vm->order.vm, &vm->identity, vm->console,
                   &vm_entry_events, vm, err);
    if (run == NULL) {
        return err->code;
    }
    if (vm->run != NULL) { /* watched until now */
        vm->run = vm->ops->close(vm->run);
    }
    vm->ops = ops;
    vm->run = run;
    vm->limits_known = vm->heard = false;
    vm->cpus_told = 0;
    vm->cpus_missing[0] = '\0';
    vm->devices_due = ops->know != NULL;
    vm->adopt_again = false;
    return 0;
}

static void vm_adopted(struct vm_entry *vm)
{
    struct resource_groups *groups = vm->supervisor->host.groups;
    vm->adopted = true;
    vm->frozen = vm_process_pid_is_stopped(vm->identity.pid);
    if (groups != NULL && !resource_group_holds(groups, vm->uid, vm->identity.pid)) {
        vm_entry_limit(vm, vm->identity.pid); /* we are in another group than before */
    }
    if (vm->stopping) {
        vm->ops->stop(vm->run, vm->order.stop_grace_ms);
    } else if (vm->begun && !vm->user_paused) { /* else its engine tells how it is */
        vm_entry_probe(vm);
    }
    vm_entry_mark(vm);
}

static void adopt_again(void *context)
{
    struct vm_supervisor *supervisor = context;
    size_t cursor = 0;
    unsigned waiting = 0;
    struct vm_entry *vm;
    while ((vm = vm_entry_next(supervisor, &cursor)) != NULL) {
        struct err err = {0};
        if (!vm->adopt_again) {
            continue;
        }
        int r = vm_adopt(vm, vm_entry_engine(supervisor, vm->order.engine), &err);
        if (r == BERTH_ENOTFOUND) {
            vm->adopt_again = false;
            vm_entry_kill(vm, "its process ended while the agent was away");
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
    const struct engine_ops *ops = vm_entry_engine(vm->supervisor, vm->order.engine);
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
            vm_entry_kill(vm, "its engine is not on this host any more");
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
        vm_entry_new(supervisor, record->order.vm.uid, state_of_record[record->state]);
    if (vm == NULL) {
        return -ENOMEM;
    }
    vm->epoch_seen = record->epoch_seen;
    vm->since_wall_ms = record->since_wall_ms;
    vm_disks_sweep_by(supervisor->removing, folder); /* that was cut off */
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
    vm->disks_used = record->disks_used;
    vm->diskless = record->diskless;
    vm->user_paused = record->paused;
    memcpy(vm->reason, record->reason, sizeof(vm->reason));
    if (vm->machine.state == VM_ENDED) {
        vm->end_phase = record->state == VM_RECORD_STOPPED ? PHASE_STOPPED : PHASE_FAILED;
        vm_entry_mark(vm);
        return 0;
    }
    return vm_take_over(vm, record);
}

/* A record that says nothing any more: who runs is found without it. */
static int
adopt_broken(struct vm_supervisor *supervisor, uint64_t uid, const char *folder)
{
    struct vm_entry *vm = vm_entry_new(supervisor, uid, VM_STOPPING);
    if (vm == NULL) {
        return -ENOMEM;
    }
    vm->broken = true;
    vm->order.vm.uid = uid;
    vm->order.fenced = true; /* for all we know, and likewise: */
    vm->disks_used = true;   /* none of them is to be made anew in silence */
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

static int adopt_folder(struct vm_supervisor *supervisor, uint64_t uid)
{
    char folder[ENGINE_PATH_SIZE];
    struct vm_record record;
    struct err err = {0};
    int r = vm_entry_folder(supervisor, uid, folder);
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
        if (vm_tombstone_is_old(supervisor, record.since_wall_ms)) {
            (void)fd_remove_tree(folder, NULL); /* tried again at the next start */
            return 0;
        }
        if (!vm_lock_is_held(folder)) {
            vm_folder_empty(folder); /* a crash may have left something */
        }
        const struct tombstone tombstone = {.epoch_seen = record.epoch_seen,
                                            .epoch_ended = record.order.vm.epoch,
                                            .since_wall_ms = record.since_wall_ms};
        return vm_tombstone_put(supervisor, uid, &tombstone);
    }
    return adopt_record(supervisor, folder, &record);
}

int vm_adopt_all(struct vm_supervisor *supervisor, struct err *err)
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
