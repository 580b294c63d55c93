#include "agent/vm_pause.h"

#include "agent/ready_probe.h"
#include "agent/vm_entry.h"
#include "base/log.h"

#include <inttypes.h>
#include <string.h>

#define ROOM   "agent"
#define REASON "paused by its user"

static bool can_be_told(const struct vm_entry *vm)
{
    return vm->run != NULL && vm->begun && !vm->killed && !vm->frozen;
}

void vm_entry_care(struct vm_entry *vm)
{
    struct err err = {0};
    if (!can_be_told(vm)) {
        return;
    }
    if (vm->standing && !vm->user_paused && !vm->saving && !vm->cont_sent) {
        vm->cont_sent = vm->ops->cont(vm->run, &err) == 0;
    } else if ((!vm->standing || vm->cont_sent) && vm->user_paused && !vm->saving) {
        vm->cont_sent = false; /* it may have been lost, and is not to be said again */
        (void)vm->ops->pause(vm->run, &err); /* paused tells; asked for again */
    }
    if (err.code != 0) {
        log_debug(ROOM, "a VM's engine cannot be told now",
                  KV_STR("vm", vm->order.vm.name), KV_STR("why", err.text));
    }
}

static void say_paused(struct vm_entry *vm)
{
    if (strcmp(vm->reason, REASON) == 0) {
        return;
    }
    if (vm->machine.state == VM_READY) {
        vm_entry_move(vm, VM_RUNNING, REASON);
    } else if (vm->machine.state == VM_RUNNING) {
        vm_entry_say(vm, REASON);
    }
}

void vm_pause_on_paused(void *context)
{
    struct vm_entry *vm = context;
    vm->standing = vm->heard = true;
    vm->waiting = false; /* for its disk no more: it goes on when it is told to */
    vm->probe = ready_probe_close(vm->probe); /* begun anew when it runs */
    if (vm->saving) {
        vm_snapshots_paused(vm);
    }
    if (vm->user_paused) {
        say_paused(vm);
    }
    vm_entry_care(vm);
}

void vm_pause_on_saved(void *context, const struct err *why)
{
    struct vm_entry *vm = context;
    vm_snapshots_saved(vm, why);
    vm_entry_care(vm);
}

void vm_pause_over(struct vm_entry *vm)
{
    vm->standing = false;
    vm->heard = true;
    if (vm->user_paused) {
        vm_entry_care(vm); /* of a run that has just begun, say */
        return;
    }
    if (strcmp(vm->reason, REASON) == 0) {
        vm_entry_say(vm, "");
    }
    if (vm->machine.state == VM_RUNNING || vm->machine.state == VM_READY) {
        vm_entry_probe(vm);
    }
}

void vm_pause_on_exited(struct vm_entry *vm, const char *reason)
{
    vm_snapshots_ended(vm, reason);
    vm->user_paused = vm->standing = vm->saving = vm->heard = false;
}

void vm_pause_stop(struct vm_entry *vm)
{
    vm->user_paused = false;
    vm_snapshots_give_up(vm);
    vm_entry_care(vm);
}

int vm_supervisor_pause(struct vm_supervisor *supervisor,
                        uint64_t uid,
                        uint64_t epoch,
                        bool paused,
                        struct err *err)
{
    struct vm_entry *vm = vm_entry_find(supervisor, uid);
    if (vm == NULL || !vm_has_run(vm)) {
        return err_set(err, BERTH_ENOTFOUND, "VM %" PRIu64 " is not on this host", uid);
    }
    if (epoch != vm->order.vm.epoch || vm->run == NULL || vm->stopping) {
        return 0; /* another run has another order */
    }
    if (vm->user_paused != paused) {
        log_info(ROOM, paused ? "VM is paused" : "VM is resumed",
                 KV_STR("vm", vm->order.vm.name), KV_U64("uid", uid));
        vm->user_paused = paused;
        vm_entry_write_or_log(vm);
        vm_entry_mark(vm);
    }
    if (paused && vm->standing) { /* for a snapshot, or the user's before */
        say_paused(vm);
    }
    vm_entry_care(vm);
    return 0;
}
