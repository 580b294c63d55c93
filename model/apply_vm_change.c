#include "base/require.h"
#include "model/apply_vm.h"

#include <stdio.h>

#define SWITCHED_ON "switched on by its user"

/* Gives up disks that are kept, and tells that it now waits for any host. */
static void give_disks_up(struct apply *apply, struct entry *vm)
{
    enum phase phase = vm_of(vm)->status.phase;
    const bool unknown = state_place_unknown(apply->state, vm_of(vm));
    bool begins = vm->vm.host != NULL && phase != PHASE_STOPPING; /* from a snapshot */
    if (begins || (vm->vm.keeper == NULL && !(unknown && vm->vm.host == NULL))) {
        return;
    }
    vm_entry_keep(vm, NULL, 0);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "disks given up",
                                        .reason = "started anywhere by its user",
                                        .phase_from = phase,
                                        .phase_to = phase});
}

/* Nor does it wait for the host of a snapshot, unless it begins from that already. */
static void call_restore_off(struct apply *apply, struct entry *vm)
{
    struct vm_status *status = &vm_of(vm)->status;
    if (status->restore == 0 ||
        (vm->vm.host != NULL && status->phase != PHASE_STOPPING)) {
        return;
    }
    vm_restore_end(vm_of(vm));
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "not restored",
                                        .reason = "started anywhere by its user",
                                        .phase_from = status->phase,
                                        .phase_to = status->phase});
}

/* A VM on its way to a stop is switched on: it is to restart. A lost one may have stopped
 * already, or runs still, and has to be where it is found. */
static enum stop_intent
intent_instead_of_stop(const struct apply *apply, enum phase phase, bool anywhere)
{
    if (phase != PHASE_LOST) {
        return anywhere ? STOP_INTENT_MOVE : STOP_INTENT_RESTART;
    }
    return apply->state->level >= LEVEL_LOST_RESTARTS ? STOP_INTENT_RESTART
                                                      : STOP_INTENT_NONE;
}

static void power_on(struct apply *apply, struct entry *vm, bool anywhere)
{
    struct vm_status *status = &vm_of(vm)->status;
    bool was_off = vm_of(vm)->spec.power == POWER_OFF;
    vm_of(vm)->spec.power = POWER_ON;
    if (status->phase == PHASE_STOPPED || status->phase == PHASE_FAILED) {
        vm_place_settle(apply, vm);
        status->restarts = 0;
        vm_restore_end(vm_of(vm)); /* with the disks that there are */
        status->retry_wall_ms = 0;
        char reason[128];
        (void)snprintf(reason, sizeof(reason), SWITCHED_ON "%s%s",
                       vm->vm.keeper != NULL ? "; its disks are on host " : "",
                       vm->vm.keeper != NULL ? meta_of(vm->vm.keeper)->name : "");
        vm_move(apply, vm, PHASE_PENDING, reason, 0);
        return;
    }
    if (!was_off) {
        if (anywhere && status->intent == STOP_INTENT_RESTART) {
            status->intent = STOP_INTENT_MOVE;
            apply_changed(apply, vm,
                          &(struct change_note){.reason = SWITCHED_ON ", anywhere",
                                                .phase_from = status->phase,
                                                .phase_to = status->phase});
        }
        return;
    }
    if (status->intent == STOP_INTENT_STOP) {
        status->intent = intent_instead_of_stop(apply, status->phase, anywhere);
    }
    apply_changed(apply, vm,
                  &(struct change_note){.reason = SWITCHED_ON,
                                        .phase_from = status->phase,
                                        .phase_to = status->phase});
}

int apply_change_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_change_vm *change = &command->body.change_vm;
    struct entry *vm = NULL;
    int r = apply_find_changeable(apply, change->vm, change->expected_revision, &vm);
    if (r != 0) {
        return r;
    }
    enum phase phase = vm_of(vm)->status.phase;
    if (change->power == POWER_ON && vm_of(vm)->spec.power == POWER_OFF &&
        phase != PHASE_LOST) {
        r = apply_check_place_known(apply, vm);
        if (r != 0) {
            return r;
        }
    }
    apply->result->uid = change->vm;
    r = apply_relabel(apply, vm, &change->labels, &change->removed,
                      &(struct change_note){.verb = "labelled",
                                            .reason = "by its user",
                                            .phase_from = phase,
                                            .phase_to = phase});
    if (r != 0) {
        return r;
    }
    if (vm_of(vm)->spec.power == change->power) {
        return 0;
    }
    if (change->power == POWER_OFF) {
        return vm_evict(apply, vm, STOP_INTENT_STOP, "switched off by its user");
    }
    power_on(apply, vm, false);
    return 0;
}

int apply_set_power(struct apply *apply, const struct command *command)
{
    const struct cmd_set_power *set = &command->body.set_power;
    struct entry *vm = NULL;
    int r = apply_find_changeable(apply, set->vm, set->expected_revision, &vm);
    if (r != 0) {
        return r;
    }
    apply->result->uid = set->vm;
    if (set->power == POWER_OFF) {
        return vm_evict(apply, vm, STOP_INTENT_STOP, "switched off by its user");
    }
    r = apply_check_may_start(apply, vm, set);
    if (r != 0) {
        return r;
    }
    if (set->anywhere) {
        give_disks_up(apply, vm);
        call_restore_off(apply, vm);
    }
    power_on(apply, vm, set->anywhere);
    return 0;
}
