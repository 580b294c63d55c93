#include "model/apply_vm.h"

int apply_pause_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_pause_vm *pause = &command->body.pause_vm;
    struct entry *entry = NULL;
    int r = apply_find_changeable(apply, pause->vm, pause->expected_revision, &entry);
    if (r != 0) {
        return r;
    }
    struct vm *vm = vm_of(entry);
    enum phase phase = vm->status.phase;
    bool runs = phase == PHASE_RUNNING || phase == PHASE_READY;
    if (pause->paused && phase == PHASE_LOST) {
        return apply_refuse_while_lost(apply, entry);
    }
    if (pause->paused && !runs) {
        return apply_refuse_phase(apply, entry, "be paused");
    }
    if (!vm->spec.paused && !runs && phase != PHASE_LOST) {
        return apply_refuse_phase(apply, entry, "go on");
    }
    apply->result->uid = pause->vm;
    if (vm->spec.paused == pause->paused) {
        return 0; /* as it is */
    }
    vm->spec.paused = pause->paused;
    if (!pause->paused && runs && vm->status.paused) {
        vm_set_reason(vm, NULL); /* why it stands still */
    }
    apply_changed(apply, entry,
                  &(struct change_note){.verb = pause->paused ? "pausing" : "resuming",
                                        .reason = "by its user",
                                        .phase_from = phase,
                                        .phase_to = phase});
    return 0;
}
