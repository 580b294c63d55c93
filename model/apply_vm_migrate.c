#include "model/apply_vm.h"

int apply_migrate_prepare(struct apply *apply, const struct command *command)
{
    const struct cmd_migrate_prepare *prepare = &command->body.migrate_prepare;
    struct entry *vm = NULL;
    struct entry *target = NULL;
    int r = apply_find_vm_at(apply, prepare->vm, prepare->epoch, &vm);
    if (r != 0) {
        return r;
    }
    enum phase phase = vm_of(vm)->status.phase;
    if (phase != PHASE_RUNNING && phase != PHASE_READY) {
        return apply_refuse_phase(apply, vm, "migrate");
    }
    if (prepare->target == vm_of(vm)->status.host) {
        return apply_refuse(apply, BERTH_EINVALID, "vm %s is on that host already",
                            meta_of(vm)->name);
    }
    r = apply_find_vm_host(apply, vm, prepare->target, &target);
    if (r != 0) {
        return r;
    }
    apply->result->uid = prepare->vm;
    vm_entry_set_target(vm, target);
    vm_move(apply, vm, PHASE_MIGRATING, prepare->reason, 0);
    return 0;
}

/* The point of no return: from here the target owns it, and the source's epoch is old. */
int apply_migrate_switch(struct apply *apply, const struct command *command)
{
    const struct cmd_migrate_switch *change = &command->body.migrate_switch;
    struct entry *vm = NULL;
    int r = apply_find_vm_at(apply, change->vm, change->epoch, &vm);
    if (r != 0) {
        return r;
    }
    struct entry *target = vm->vm.target;
    if (vm_of(vm)->status.phase != PHASE_MIGRATING || target == NULL) {
        return apply_refuse_phase(apply, vm, "be switched to another host");
    }
    apply->result->uid = change->vm;
    vm_entry_set_target(vm, NULL);
    vm_entry_set_host(apply->state, vm, target);
    vm_of(vm)->status.epoch++;
    vm_set_reason(vm_of(vm), change->reason);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "switched",
                                        .reason = change->reason,
                                        .phase_from = PHASE_MIGRATING,
                                        .phase_to = PHASE_MIGRATING});
    return 0;
}

int apply_migrate_commit(struct apply *apply, const struct command *command)
{
    const struct cmd_migrate_commit *commit = &command->body.migrate_commit;
    struct entry *vm = NULL;
    int r = apply_find_vm_at(apply, commit->vm, commit->epoch, &vm);
    if (r != 0) {
        return r;
    }
    if (vm_of(vm)->status.phase != PHASE_MIGRATING || vm->vm.target != NULL) {
        return apply_refuse_phase(apply, vm, "end a migration that was not switched");
    }
    apply->result->uid = commit->vm;
    vm_migration_end(apply, vm, commit->reason);
    return 0;
}

int apply_migrate_abort(struct apply *apply, const struct command *command)
{
    const struct cmd_migrate_abort *abort = &command->body.migrate_abort;
    struct entry *vm = NULL;
    int r = apply_find_vm_at(apply, abort->vm, abort->epoch, &vm);
    if (r != 0) {
        return r;
    }
    if (vm_of(vm)->status.phase != PHASE_MIGRATING || vm->vm.target == NULL) {
        return apply_refuse_phase(apply, vm, "go back: nothing is being copied");
    }
    apply->result->uid = abort->vm;
    vm_migration_end(apply, vm, abort->reason);
    return 0;
}
