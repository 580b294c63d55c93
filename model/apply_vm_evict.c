#include "base/require.h"
#include "model/apply_vm.h"

/* It has no process anywhere. */
static int evict_nowhere(struct apply *apply,
                         struct entry *vm,
                         enum stop_intent intent,
                         const char *reason)
{
    enum phase phase = vm_of(vm)->status.phase;
    bool off = vm_of(vm)->spec.power == POWER_OFF;
    if (intent == STOP_INTENT_STOP && phase == PHASE_STOPPED) {
        if (!off) { /* it had ended by itself; now it is to stay so */
            vm_switch_off(vm_of(vm));
            vm_set_reason(vm_of(vm), reason);
            apply_changed(apply, vm,
                          &(struct change_note){
                              .reason = reason, .phase_from = phase, .phase_to = phase});
        }
        return 0;
    }
    if (intent == STOP_INTENT_MOVE || intent == STOP_INTENT_RESTART) {
        if (phase != PHASE_PENDING && !off) {
            int r = apply_check_place_known(apply, vm);
            if (r != 0) {
                return r;
            }
            vm_place_settle(apply, vm);
            vm_of(vm)->status.retry_wall_ms = 0;
            vm_move(apply, vm, PHASE_PENDING, reason, 0);
        }
        return 0;
    }
    vm_settle_intent(apply, vm, intent, reason);
    return 0;
}

/* Deletion wins over stopping, stopping over moving, moving over starting again here. */
static enum stop_intent stronger(enum stop_intent a, enum stop_intent b)
{
    static const unsigned strength[] = {
        [STOP_INTENT_NONE] = 0, [STOP_INTENT_RESTART] = 1, [STOP_INTENT_MOVE] = 2,
        [STOP_INTENT_STOP] = 3, [STOP_INTENT_DELETE] = 4,
    };
    return strength[a] >= strength[b] ? a : b;
}

static void note_intent(struct apply *apply,
                        struct entry *vm,
                        enum stop_intent intent,
                        const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    enum stop_intent merged = stronger(status->intent, intent);
    if (merged == status->intent) {
        return;
    }
    status->intent = merged;
    if (merged == STOP_INTENT_STOP) {
        vm_switch_off(vm_of(vm));
    }
    vm_set_reason(vm_of(vm), reason);
    apply_changed(apply, vm,
                  &(struct change_note){.reason = reason,
                                        .phase_from = status->phase,
                                        .phase_to = status->phase});
}

/* It waits for its lost host, where it may still run: nothing may start it elsewhere
 * until that host is back or removed for good. */
static int evict_lost(struct apply *apply,
                      struct entry *vm,
                      enum stop_intent intent,
                      const char *reason)
{
    if (intent == STOP_INTENT_DELETE) {
        vm_entry_set_host(apply->state, vm, NULL);
        vm_remove(apply, vm, reason);
        return 0;
    }
    if (intent == STOP_INTENT_MOVE || intent == STOP_INTENT_RESTART) {
        return apply_refuse_while_lost(apply, vm);
    }
    note_intent(apply, vm, intent, reason);
    return 0;
}

static int evict_on_host(struct apply *apply,
                         struct entry *vm,
                         enum stop_intent intent,
                         const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    if (status->phase == PHASE_STOPPING) {
        note_intent(apply, vm, intent, reason);
        return 0;
    }
    status->intent = intent;
    if (intent == STOP_INTENT_STOP) {
        vm_switch_off(vm_of(vm));
    }
    vm_entry_set_target(vm, NULL); /* a migration under way is off */
    vm_move(apply, vm, PHASE_STOPPING, reason, 0);
    return 0;
}

int vm_evict(struct apply *apply,
             struct entry *vm,
             enum stop_intent intent,
             const char *reason)
{
    REQUIRE(intent != STOP_INTENT_NONE);
    apply->result->uid = meta_of(vm)->uid;
    enum phase phase = vm_of(vm)->status.phase;
    if (phase == PHASE_LOST) {
        return evict_lost(apply, vm, intent, reason);
    }
    return vm_phase_on_host(phase) ? evict_on_host(apply, vm, intent, reason)
                                   : evict_nowhere(apply, vm, intent, reason);
}

int apply_evict_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_evict_vm *evict = &command->body.evict_vm;
    struct entry *vm = NULL;
    int r = apply_find_vm_at(apply, evict->vm, evict->epoch, &vm);
    if (r != 0) {
        return r;
    }
    if (evict->intent == STOP_INTENT_NONE || evict->intent > STOP_INTENT_RESTART) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "intent: stop, move, delete or restart");
    }
    return vm_evict(apply, vm, evict->intent, evict->reason);
}
