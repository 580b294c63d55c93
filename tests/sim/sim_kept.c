/* What becomes of the disks of VMs: the log's word against what the hosts have.
 *
 * Rules of its own, beside those of the model: after each command that is new to the rack
 * whoever the log names has the disks that it is named for; the log gives disks up only
 * by a command that may do so; a host removes only what the log has given up.
 */
#include "base/require.h"
#include "model/command.h"
#include "sim.h"

#include <string.h>

static uint64_t keeper_of(const struct sim_kept *kept)
{
    return kept->disk_epoch == 0  ? 0
           : kept->disk_host != 0 ? kept->disk_host
                                  : kept->host;
}

const struct sim_kept *sim_kept_find(const struct sim *sim, uint64_t vm)
{
    for (unsigned i = 0; i < sim->kept_count; i++) {
        if (sim->kept[i].vm == vm) {
            return &sim->kept[i];
        }
    }
    return NULL;
}

static struct sim_kept kept_of(const struct vm *vm)
{
    return (struct sim_kept){
        .vm = vm->meta.uid,
        .host = vm->status.host,
        .epoch = vm->status.epoch,
        .disk_host = vm->status.disk_host,
        .disk_epoch = vm->status.disk_epoch,
        .intent = vm->status.intent,
        .has_run = vm->status.running_wall_ms != 0 || vm->status.ready_wall_ms != 0,
        .grouped = vm->spec.group[0] != '\0',
        .restore = vm->status.restore,
        .waits = vm->spec.machine.lifecycle.host_failure == HOST_FAILURE_WAIT,
    };
}

/* ---- what the log may do ---- */

static bool host_is_lost(const struct state *state, uint64_t uid)
{
    const struct host *host = state_host(state, uid);
    return host == NULL || host->status.phase == HOST_PHASE_LOST;
}

/* May the command give up the disks that the log spoke of before it? */
static bool may_give_up(struct sim *sim,
                        const struct state *state,
                        const struct sim_kept *before,
                        bool is_gone,
                        const struct command *command)
{
    if (is_gone) {
        return before->intent == STOP_INTENT_DELETE || command->type == COMMAND_DELETE ||
               (command->type == COMMAND_EVICT_VM &&
                command->body.evict_vm.intent == STOP_INTENT_DELETE);
    }
    switch (command->type) {
    case COMMAND_SET_POWER:
        return command->body.set_power.anywhere;
    case COMMAND_VM_PHASE: /* it was to go elsewhere, or has had its chance here */
        if (before->host != 0 && before->disk_host != 0) { /* begun from its snapshot */
            return sim_vms_has_begun(sim_machine_of_uid(sim, before->host), before->vm,
                                     before->epoch);
        }
        return before->intent == STOP_INTENT_MOVE ||
               (before->intent == STOP_INTENT_NONE && before->has_run && !before->waits);
    case COMMAND_HOST_PHASE: /* it ran there, and is to run elsewhere */
        return before->host != 0 && before->intent != STOP_INTENT_STOP && !before->waits;
    case COMMAND_PLACE_VM: /* its group goes on */
        return before->grouped && !before->waits &&
               host_is_lost(state, before->disk_host);
    default:
        return false;
    }
}

static void check_given_up(struct sim *sim,
                           const struct state *state,
                           const struct sim_kept *before,
                           const struct command *command)
{
    const struct sim_kept *after = sim_kept_find(sim, before->vm);
    bool stays = after != NULL && keeper_of(after) == keeper_of(before) &&
                 after->disk_epoch >= before->disk_epoch;
    if (keeper_of(before) == 0 || stays) {
        return;
    }
    sim->stats.disks_given_up++;
    if (!may_give_up(sim, state, before, after == NULL, command)) {
        world_fail(&sim->world,
                   "the log gives up the disks of VM %llu, of epoch %llu on m%u, by a %s",
                   (unsigned long long)before->vm, (unsigned long long)before->disk_epoch,
                   sim_machine_of_uid(sim, keeper_of(before))->index,
                   command_name(command->type));
    }
}

/* A run has ended: its host says whether it has the disks, and is heard. */
static void check_end(struct sim *sim,
                      const struct sim_kept *before,
                      const struct cmd_vm_phase *report)
{
    const struct sim_machine *host = sim_machine_of_uid(sim, report->host);
    const struct sim_kept *after = sim_kept_find(sim, report->vm);
    bool ended = report->phase == PHASE_STOPPED || report->phase == PHASE_FAILED;
    bool stays =
        before->intent == STOP_INTENT_STOP || before->intent == STOP_INTENT_RESTART;
    if (!ended || before->host == 0) {
        return; /* no news */
    }
    if (before->disk_host != 0 && after != NULL &&
        after->disk_host == before->disk_host) {
        return; /* it has not begun from its snapshot: those elsewhere are the VM's */
    }
    if (report->disk_epoch == 0 && sim_vms_holds(host, report->vm, report->epoch)) {
        world_fail(&sim->world, "m%u does not say that it has the disks of VM %llu",
                   host->index, (unsigned long long)report->vm);
    } else if (stays && report->disk_epoch != 0 &&
               (after == NULL || keeper_of(after) != report->host ||
                after->disk_epoch != report->disk_epoch)) {
        world_fail(&sim->world,
                   "VM %llu was stopped by its user, but the log does not keep its disks "
                   "of epoch %llu on m%u",
                   (unsigned long long)report->vm, (unsigned long long)report->disk_epoch,
                   host->index);
    }
}

/* ---- what the hosts have ---- */

static void check_there(struct sim *sim, const struct sim_kept *kept)
{
    uint64_t keeper = keeper_of(kept);
    const struct sim_machine *machine =
        keeper != 0 ? sim_machine_of_uid(sim, keeper) : NULL;
    if (machine != NULL && !sim_vms_holds(machine, kept->vm, kept->disk_epoch)) {
        world_fail(&sim->world,
                   "the log says that m%u keeps the disks of VM %llu, of epoch %llu: it "
                   "has none such",
                   machine->index, (unsigned long long)kept->vm,
                   (unsigned long long)kept->disk_epoch);
    }
}

/* What the log itself does not remember. */
static void
carry_on(struct sim *sim, const struct sim_kept *before, const struct command *command)
{
    for (unsigned i = 0; i < sim->kept_count; i++) {
        struct sim_kept *kept = &sim->kept[i];
        if (kept->vm != before->vm) {
            continue;
        }
        const bool wish = command->type == COMMAND_RESTORE_VM &&
                          command->body.restore_vm.vm == kept->vm &&
                          command->body.restore_vm.snapshot == kept->restore;
        const bool unheard =
            before->host != 0 && kept->host == 0 && command->type != COMMAND_VM_PHASE;
        kept->wished = wish ? kept->epoch : before->wished;
        kept->unheard = unheard ? before->epoch : before->unheard;
    }
}

void sim_kept_applied(struct sim *sim,
                      const struct state *state,
                      const struct command *command)
{
    struct sim_kept before[SIM_KEPT_MAX];
    unsigned count = sim->kept_count;
    size_t cursor = 0;
    const struct vm *vm;
    memcpy(before, sim->kept, sizeof(before));
    sim->kept_count = 0;
    while ((vm = state_next(state, KIND_VM, &cursor)) != NULL) {
        REQUIRE(sim->kept_count < SIM_KEPT_MAX);
        sim->kept[sim->kept_count++] = kept_of(vm);
    }
    for (unsigned i = 0; i < count; i++) {
        carry_on(sim, &before[i], command);
    }
    for (unsigned i = 0; i < count; i++) {
        check_given_up(sim, state, &before[i], command);
        if (command->type == COMMAND_VM_PHASE &&
            command->body.vm_phase.vm == before[i].vm) {
            check_end(sim, &before[i], &command->body.vm_phase);
        }
    }
    for (unsigned i = 0; i < sim->kept_count; i++) {
        check_there(sim, &sim->kept[i]);
    }
}

void sim_kept_removed(struct sim_machine *machine, uint64_t vm, uint64_t epoch)
{
    struct sim *sim = machine->sim;
    const struct sim_kept *kept = sim_kept_find(sim, vm);
    sim->stats.disks_removed++;
    if (kept == NULL) {
        return;
    }
    if (keeper_of(kept) == machine->uid) {
        world_fail(&sim->world,
                   "m%u removes the disks of VM %llu, but the log has it keep those of "
                   "epoch %llu",
                   machine->index, (unsigned long long)vm,
                   (unsigned long long)kept->disk_epoch);
    } else if (kept->host == machine->uid && kept->epoch == epoch) {
        world_fail(&sim->world,
                   "m%u removes the disks of VM %llu, whose epoch %llu has not ended in "
                   "the log",
                   machine->index, (unsigned long long)vm, (unsigned long long)epoch);
    }
}
