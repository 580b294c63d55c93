#include "model/state_internal.h"

bool vm_status_has_run(const struct vm_status *status)
{
    return status->running_wall_ms != 0 || status->ready_wall_ms != 0;
}

/* A run with the disks of an earlier one that never got to them. */
static bool never_began(const struct vm_status *status)
{
    return status->disk_epoch != 0 && !vm_status_has_run(status);
}

/* Does a VM that has ended stay bound to the disks that its host keeps? One that failed
 * had its chance there and may start anywhere, but not where nothing starts it again or
 * where its owner has said that disks come first, and not at the price of disks that this
 * run never got to. */
bool vm_disks_stay(const struct vm *vm, enum phase phase)
{
    const struct lifecycle_spec *lifecycle = &vm->spec.machine.lifecycle;
    const struct restart_spec *restart = &lifecycle->restart;
    switch (vm->status.intent) {
    case STOP_INTENT_NONE:
        return phase == PHASE_STOPPED
                   ? restart->policy != RESTART_ALWAYS
                   : never_began(&vm->status) || restart->policy == RESTART_NEVER ||
                         vm->status.restarts >= restart->attempts ||
                         lifecycle->host_failure == HOST_FAILURE_WAIT;
    case STOP_INTENT_STOP:
    case STOP_INTENT_RESTART:
        return true;
    default:
        return false;
    }
}

/* The disks that are left to the next run. A host that could not start a run with kept
 * disks does not give them up for the user, even if it says that it has none. After a
 * rebirth it names an earlier run than the log, which has named them by the epoch that
 * they were found in: they are the same, and known to be there. */
uint64_t vm_disks_left(const struct state *state,
                       const struct vm_status *status,
                       const struct cmd_vm_phase *report)
{
    if (!never_began(status)) {
        return report->disk_epoch;
    }
    const bool given_up = report->disk_epoch == 0 && report->phase == PHASE_FAILED;
    const bool renamed = report->disk_epoch != 0 &&
                         report->disk_epoch < status->disk_epoch &&
                         state->level >= LEVEL_PLACE_UNKNOWN;
    return given_up || renamed ? status->disk_epoch : report->disk_epoch;
}
