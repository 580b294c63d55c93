#include "model/apply_vm.h"

#include "base/require.h"

#include <inttypes.h>
#include <stdio.h>

#define BIT(phase) (UINT32_C(1) << (phase))

int apply_find_vm(struct apply *apply, uint64_t uid, struct entry **ret_vm)
{
    struct entry *vm = state_entry(apply->state, KIND_VM, uid);
    if (vm == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND, "there is no VM with uid %" PRIu64,
                            uid);
    }
    *ret_vm = vm;
    return 0;
}

static int check_epoch(struct apply *apply, const struct entry *vm, uint64_t epoch)
{
    uint64_t now = vm_of(vm)->status.epoch;
    if (epoch != now) {
        return apply_refuse(apply, BERTH_ESTALE,
                            "vm %s is at epoch %" PRIu64 ", not %" PRIu64,
                            meta_of(vm)->name, now, epoch);
    }
    return 0;
}

int apply_find_vm_at(struct apply *apply,
                     uint64_t uid,
                     uint64_t epoch,
                     struct entry **ret_vm)
{
    int r = apply_find_vm(apply, uid, ret_vm);
    return r == 0 ? check_epoch(apply, *ret_vm, epoch) : r;
}

int apply_find_changeable(struct apply *apply,
                          uint64_t uid,
                          uint64_t expected_revision,
                          struct entry **ret_vm)
{
    int r = apply_find_vm(apply, uid, ret_vm);
    if (r == 0) {
        char what[NAME_SIZE + 8];
        (void)snprintf(what, sizeof(what), "vm %s", meta_of(*ret_vm)->name);
        r = apply_check_revision(apply, *ret_vm, what, expected_revision);
    }
    if (r == 0 && vm_of(*ret_vm)->status.intent == STOP_INTENT_DELETE) {
        r = apply_refuse(apply, BERTH_EPHASE, "vm %s is being deleted",
                         meta_of(*ret_vm)->name);
    }
    return r;
}

int apply_refuse_phase(struct apply *apply, const struct entry *vm, const char *what)
{
    return apply_refuse(apply, BERTH_EPHASE, "vm %s is %s: it cannot %s",
                        meta_of(vm)->name, phase_names[vm_of(vm)->status.phase], what);
}

int apply_refuse_while_lost(struct apply *apply, const struct entry *vm)
{
    return apply_refuse(apply, BERTH_EPHASE,
                        "vm %s may still run on lost host %s: bring the host back, "
                        "or remove it once it is surely off",
                        meta_of(vm)->name, meta_of(vm->vm.host)->name);
}

void vm_set_reason(struct vm *vm, const char *reason)
{
    int r = record_set_text(&vm->status.reason, reason);
    REQUIRE(r == 0);
}

void vm_restore_end(struct vm *vm)
{
    vm->status.restore = 0;
    vm->status.restore_lazy = false;
}

void vm_switch_off(struct vm *vm)
{
    vm->spec.power = POWER_OFF;
    vm_restore_end(vm); /* its next start is the user's, from the disks there are */
}

static void stamp_once(uint64_t *stamp_ms, uint64_t at_wall_ms)
{
    if (*stamp_ms == 0) {
        *stamp_ms = at_wall_ms;
    }
}

/* The boot timeline: one value per step of the present life, from pending on. */
static void stamp(struct vm_status *status, enum phase phase, uint64_t at_wall_ms)
{
    switch (phase) {
    case PHASE_PENDING:
        status->pending_wall_ms = at_wall_ms;
        status->placed_wall_ms = 0;
        status->starting_wall_ms = 0;
        status->running_wall_ms = 0;
        status->ready_wall_ms = 0;
        break;
    case PHASE_PLACED:
        stamp_once(&status->placed_wall_ms, at_wall_ms);
        break;
    case PHASE_STARTING:
        stamp_once(&status->starting_wall_ms, at_wall_ms);
        break;
    case PHASE_RUNNING:
        stamp_once(&status->running_wall_ms, at_wall_ms);
        break;
    case PHASE_READY:
        stamp_once(&status->ready_wall_ms, at_wall_ms);
        break;
    default:
        break;
    }
}

/* A user's pause is one of a run: it ends with it. */
static void end_pause(struct vm *vm, enum phase phase)
{
    static const uint32_t of_run =
        BIT(PHASE_RUNNING) | BIT(PHASE_READY) | BIT(PHASE_MIGRATING) | BIT(PHASE_LOST);
    if ((of_run & BIT(phase)) == 0) {
        vm->spec.paused = false;
        vm->status.paused = false;
    }
}

void vm_move(struct apply *apply,
             struct entry *vm,
             enum phase phase,
             const char *reason,
             uint64_t at_wall_ms)
{
    struct vm_status *status = &vm_of(vm)->status;
    enum phase from = status->phase;
    REQUIRE(vm_phase_allowed(from, phase));
    REQUIRE_IF(vm_phase_on_host(phase), vm->vm.host != NULL);
    REQUIRE_IF(phase != PHASE_LOST && !vm_phase_on_host(phase), vm->vm.host == NULL);
    status->phase = phase;
    end_pause(vm_of(vm), phase);
    vm_set_reason(vm_of(vm), reason);
    stamp(status, phase, at_wall_ms != 0 ? at_wall_ms : apply->command->wall_ms);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = phase_names[phase],
                                        .reason = reason,
                                        .phase_from = from,
                                        .phase_to = phase});
}

void vm_remove(struct apply *apply, struct entry *vm, const char *reason)
{
    struct entry *tenant =
        state_entry_named(apply->state, KIND_TENANT, "", meta_of(vm)->tenant);
    REQUIRE(tenant != NULL); /* it cannot go before its VMs */
    struct usage less = machine_usage(&vm_of(vm)->spec.machine);
    quota_give(apply, tenant, &less);
    vm_restore_end(vm_of(vm));
    snapshots_delete_of(apply, vm);
    struct entry *group = vm->vm.group;
    uint32_t phase = vm_of(vm)->status.phase;
    apply_removed(
        apply, vm,
        &(struct change_note){
            .verb = "deleted", .reason = reason, .phase_from = phase, .phase_to = phase});
    if (group != NULL && group_of(group)->status.deleting &&
        group->owner.vms.count == 0) {
        apply_removed(
            apply, group,
            &(struct change_note){.verb = "deleted", .reason = "its last VM is gone"});
    }
}

void vm_settle_intent(struct apply *apply,
                      struct entry *vm,
                      enum stop_intent intent,
                      const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    status->intent = STOP_INTENT_NONE;
    status->restarts = 0;
    status->retry_wall_ms = 0;
    if (intent == STOP_INTENT_DELETE) {
        vm_remove(apply, vm, reason);
        return;
    }
    if (intent == STOP_INTENT_STOP) {
        vm_switch_off(vm_of(vm));
    }
    if (status->phase != PHASE_STOPPED) {
        vm_move(apply, vm, PHASE_STOPPED, reason, 0);
    }
    if (intent == STOP_INTENT_MOVE || intent == STOP_INTENT_RESTART) {
        vm_move(apply, vm, PHASE_PENDING, reason, 0);
    }
}

void vm_lose(struct apply *apply, struct entry *vm, const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    enum stop_intent intent = status->intent;
    vm_entry_set_target(vm, NULL);
    if (intent == STOP_INTENT_DELETE) {
        vm_entry_set_host(apply->state, vm, NULL);
        vm_remove(apply, vm, reason);
        return;
    }
    vm_move(apply, vm, PHASE_LOST, reason, 0);
    if (vm_of(vm)->spec.machine.lifecycle.host_failure == HOST_FAILURE_WAIT) {
        return; /* it may still run there: host, epoch and intent stay */
    }
    vm_release(apply, vm, reason);
}

void vm_release(struct apply *apply, struct entry *vm, const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    REQUIRE(status->phase == PHASE_LOST);
    const bool unknown = state_place_unknown(apply->state, vm_of(vm));
    const bool stays_off = vm_stays_off(vm_of(vm));
    struct entry *host = vm->vm.host;
    uint64_t disk_epoch =
        vm_status_has_run(status) && !unknown ? status->epoch : status->disk_epoch;
    bool stay = (stays_off || unknown) && disk_epoch != 0;
    vm_entry_set_host(apply->state, vm, NULL);
    if (vm->vm.keeper == NULL) { /* else those of before are elsewhere */
        vm_entry_keep(vm, stay ? host : NULL, stay ? disk_epoch : 0);
    }
    status->intent = STOP_INTENT_NONE;
    status->retry_wall_ms = 0;
    if (stays_off) {
        vm_switch_off(vm_of(vm));
    }
    if (unknown) {
        vm_tell_unknown(apply, vm, reason);
        return;
    }
    vm_move(apply, vm, stays_off ? PHASE_STOPPED : PHASE_PENDING, reason, 0);
}

void vm_disks_lose(struct apply *apply, struct entry *vm, const char *reason)
{
    enum phase phase = vm_of(vm)->status.phase;
    const bool unknown = state_place_unknown(apply->state, vm_of(vm));
    vm_entry_keep(vm, NULL, unknown ? vm_of(vm)->status.disk_epoch : 0);
    if (unknown && vm->vm.host == NULL) { /* else it waits on for that host */
        vm_tell_unknown(apply, vm, reason);
        return;
    }
    vm_set_reason(vm_of(vm), reason);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "disks lost",
                                        .reason = reason,
                                        .phase_from = phase,
                                        .phase_to = phase});
}

void vm_migration_end(struct apply *apply, struct entry *vm, const char *reason)
{
    vm_entry_set_target(vm, NULL);
    vm_move(apply, vm, PHASE_RUNNING, reason, 0);
}
