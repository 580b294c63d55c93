/* VMs of which a state that began again cannot say where they are.
 *
 * A VM that waits for its host needs no lease, so hosts of before go on running it while
 * the state is reborn, and the state may not have its last moves. Its run is then older
 * than its epoch by a rebirth's jump, and the log starts it nowhere by itself: a host
 * says that it runs there, or its user says that it may start. state_rebirth.h makes
 * them, docs/decisions/0033 says why. */
#include "base/require.h"
#include "model/apply_vm.h"
#include "model/state_rebirth.h"

#include <inttypes.h>
#include <stdio.h>

#define REASON_SIZE 256
#define BIT(phase)  (UINT32_C(1) << (phase))

static const uint32_t alive =
    BIT(PHASE_STARTING) | BIT(PHASE_RUNNING) | BIT(PHASE_READY) | BIT(PHASE_STOPPING);
static const uint32_t at_rest = BIT(PHASE_STOPPED) | BIT(PHASE_FAILED) | BIT(PHASE_LOST);

bool state_place_unknown(const struct state *state, const struct vm *vm)
{
    const struct vm_status *status = &vm->status;
    return state->level >= LEVEL_PLACE_UNKNOWN &&
           vm->spec.machine.lifecycle.host_failure == HOST_FAILURE_WAIT &&
           (at_rest & BIT(status->phase)) != 0 && status->disk_epoch != 0 &&
           status->epoch - status->disk_epoch >= REBIRTH_STEP;
}

bool state_vm_may_go(const struct state *state,
                     const struct group *group,
                     const struct vm *vm)
{
    const bool may_run = vm->status.phase == PHASE_LOST || state_place_unknown(state, vm);
    return vm->status.intent != STOP_INTENT_DELETE &&
           (group->status.deleting || !may_run);
}

/* It has an address in its networks, and the host has one. */
static bool
networks_are_there(const struct state *state, const struct vm *vm, uint64_t host_uid)
{
    for (uint32_t i = 0; i < vm->status.nics.count; i++) {
        const struct vm_nic *nic = &vm->status.nics.items[i];
        const struct entry *network =
            state_entry_named(state, KIND_NETWORK, vm->meta.tenant, nic->network);
        if (nic->ipv4 == 0 || network == NULL ||
            network_entry_host_index(network, host_uid) < 0) {
            return false;
        }
    }
    return true;
}

/* It can go on where it runs; else only its disks count. */
static bool
goes_on(const struct state *state, const struct vm *vm, const struct found_run *run)
{
    return (alive & BIT(run->phase)) != 0 && networks_are_there(state, vm, run->host);
}

/* The run whose disks it goes on with, or has left. */
static uint64_t disks_of(const struct found_run *run)
{
    return (alive & BIT(run->phase)) != 0 ? run->epoch : run->disk_epoch;
}

/* What runs is where it is: it ran nowhere else. Of disks only those of a later run than
 * the one that is known tell more. */
static bool
tells(const struct state *state, const struct vm *vm, const struct found_run *run)
{
    const struct vm_status *status = &vm->status;
    if (!state_place_unknown(state, vm) || run->epoch >= status->epoch ||
        run->epoch < status->disk_epoch || run->phase >= PHASE_COUNT) {
        return false;
    }
    bool runs = (alive & BIT(run->phase)) != 0;
    bool has_disks = (at_rest & BIT(run->phase)) != 0 && run->disk_epoch != 0 &&
                     run->disk_epoch >= status->disk_epoch &&
                     run->disk_epoch <= run->epoch;
    bool newest = disks_of(run) > status->disk_epoch ||
                  (status->host == 0 && status->disk_host == 0);
    return goes_on(state, vm, run) || (runs && status->disk_host != run->host) ||
           ((runs || has_disks) && newest);
}

static bool has_begun(const struct found_run *run)
{
    return run->begun || run->phase == PHASE_RUNNING || run->phase == PHASE_READY;
}

/* It was to begin from a snapshot and has not: what another host keeps is no price for
 * that. Disks of an earlier run are none of the snapshot's. */
static bool is_a_try(const struct vm *vm, const struct found_run *run)
{
    const struct vm_status *status = &vm->status;
    return status->restore != 0 && run->epoch > status->restore_epoch &&
           status->disk_host != 0 && status->disk_host != run->host && !has_begun(run) &&
           disks_of(run) == run->epoch;
}

struct found_run state_found_run(const struct cmd_vm_phase *report)
{
    return (struct found_run){.host = report->host,
                              .epoch = report->epoch,
                              .disk_epoch = report->disk_epoch,
                              .phase = report->phase,
                              .begun = report->begun};
}

bool state_found_is_news(const struct state *state,
                         const struct vm *vm,
                         const struct found_run *run)
{
    return tells(state, vm, run) && !is_a_try(vm, run);
}

bool state_found_may_begin(const struct state *state,
                           const struct vm *vm,
                           const struct found_run *run)
{
    return tells(state, vm, run) && is_a_try(vm, run) && (alive & BIT(run->phase)) != 0;
}

void vm_tell_unknown(struct apply *apply, struct entry *vm, const char *because)
{
    char reason[REASON_SIZE];
    (void)snprintf(reason, sizeof(reason),
                   "%.120s; where it runs is not known: berth explain vm/%s", because,
                   meta_of(vm)->name);
    enum phase from = vm_of(vm)->status.phase;
    if (from != PHASE_STOPPED && from != PHASE_FAILED) {
        vm_move(apply, vm, PHASE_STOPPED, reason, 0);
        return;
    }
    vm_set_reason(vm_of(vm), reason);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "not known where",
                                        .reason = reason,
                                        .phase_from = from,
                                        .phase_to = from});
}

/* Its next run is with the disks that its keeper has, whatever their number, or new ones.
 */
void vm_place_settle(struct apply *apply, struct entry *vm)
{
    if (state_place_unknown(apply->state, vm_of(vm)) && vm->vm.host == NULL) {
        vm_entry_keep(vm, vm->vm.keeper,
                      vm->vm.keeper != NULL ? vm_of(vm)->status.epoch : 0);
    }
}

/* A host that is heard has disks of it. */
static bool keeper_is_heard(const struct entry *vm)
{
    const struct entry *keeper = vm->vm.keeper;
    return keeper != NULL && host_of(keeper)->status.phase != HOST_PHASE_LOST;
}

static int refuse_unknown(struct apply *apply, const struct entry *vm, const char *way)
{
    const bool heard = keeper_is_heard(vm);
    return apply_refuse(
        apply, BERTH_EPHASE,
        "vm %s may run on a host of before the cluster began again, where nobody has "
        "looked: once it surely does not, berth start %s%s %s",
        meta_of(vm)->name, meta_of(vm)->name, heard ? "" : " --anywhere", way);
}

int apply_check_place_known(struct apply *apply, const struct entry *vm)
{
    return state_place_unknown(apply->state, vm_of(vm))
               ? refuse_unknown(apply, vm, "starts it")
               : 0;
}

int apply_check_may_start(struct apply *apply,
                          const struct entry *vm,
                          const struct cmd_set_power *set)
{
    if (vm->vm.host != NULL || !state_place_unknown(apply->state, vm_of(vm))) {
        return 0;
    }
    if (!set->anywhere && !keeper_is_heard(vm)) {
        return refuse_unknown(apply, vm, "starts it with new disks");
    }
    return set->surely_off ? 0
                           : refuse_unknown(apply, vm, "asks (--yes; API: surelyOff)");
}

/* There by the log, too, in the epoch that it has by now: what is older ends there. */
static void go_on(struct apply *apply, struct entry *vm, struct entry *host)
{
    char reason[REASON_SIZE];
    (void)snprintf(reason, sizeof(reason),
                   "found on host %s, where it ran when the cluster began again",
                   meta_of(host)->name);
    bool off = vm_stays_off(vm_of(vm)) || vm_of(vm)->spec.power == POWER_OFF;
    vm_of(vm)->status.intent = STOP_INTENT_NONE;
    vm_move(apply, vm, PHASE_PENDING, reason, 0);
    vm_entry_keep(vm, NULL, vm_of(vm)->status.epoch);
    vm_entry_set_host(apply->state, vm, host);
    vm_move(apply, vm, PHASE_PLACED, reason, 0);
    /* What it is to begin from is on no host but its own. */
    const struct host *begins = state_restore_host(apply->state, vm_of(vm));
    const bool elsewhere = begins != NULL && begins->meta.uid != meta_of(host)->uid;
    if (off || elsewhere) {
        int r = vm_evict(apply, vm, off ? STOP_INTENT_STOP : STOP_INTENT_RESTART, reason);
        REQUIRE(r == 0); /* it is on a host */
    }
}

static void
rest_there(struct apply *apply, struct entry *vm, struct entry *host, uint64_t disk_epoch)
{
    char reason[REASON_SIZE];
    (void)snprintf(reason, sizeof(reason),
                   "the newest disks of it that were found are on host %s",
                   meta_of(host)->name);
    const bool off = vm_stays_off(vm_of(vm));
    vm_entry_keep(vm, host, disk_epoch);
    vm_of(vm)->status.intent = STOP_INTENT_NONE;
    if (off) {
        vm_switch_off(vm_of(vm));
    }
    vm_tell_unknown(apply, vm, reason);
}

/* The snapshot has done its part: the next run goes on with what this one has written.
 * A start that has failed does not say whether the run had begun whose disks it was to
 * have. Where others were kept elsewhere it had: before that nothing is ordered to start
 * with its disks. */
static bool is_past_snapshot(const struct vm *vm, const struct found_run *run)
{
    const struct vm_status *status = &vm->status;
    const bool took_over = status->disk_host != 0 && status->disk_host != run->host &&
                           disks_of(run) > status->restore_epoch &&
                           disks_of(run) < run->epoch;
    return took_over || (has_begun(run) && run->epoch > status->restore_epoch);
}

void vm_find(struct apply *apply,
             struct entry *vm,
             struct entry *host,
             const struct found_run *run)
{
    const bool on = goes_on(apply->state, vm_of(vm), run);
    vm_entry_set_host(apply->state, vm, NULL);
    vm_of(vm)->status.retry_wall_ms = 0;
    if (is_past_snapshot(vm_of(vm), run)) {
        vm_restore_end(vm_of(vm));
    }
    if (on) {
        go_on(apply, vm, host);
    } else {
        rest_there(apply, vm, host, disks_of(run));
    }
}
