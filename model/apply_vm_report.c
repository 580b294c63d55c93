#include "model/apply_vm.h"

#include <inttypes.h>

/* A VM that was ready this long has recovered: its restarts count from zero again. */
#define RESTART_RESET_MS  (UINT64_C(10) * 60 * 1000)
#define BACKOFF_SHIFT_MAX 20 /* beyond it every back-off is at its maximum */
#define BIT(phase)        (UINT32_C(1) << (phase))

/* Books a restart to come: the wait doubles with each one in a row. */
static void book_restart(struct apply *apply, struct vm *vm, uint64_t at_wall_ms)
{
    const struct restart_spec *restart = &vm->spec.machine.lifecycle.restart;
    struct vm_status *status = &vm->status;
    if (status->phase == PHASE_READY && status->ready_wall_ms != 0 &&
        at_wall_ms >= status->ready_wall_ms &&
        at_wall_ms - status->ready_wall_ms >= RESTART_RESET_MS) {
        status->restarts = 0;
    }
    unsigned shift =
        status->restarts < BACKOFF_SHIFT_MAX ? status->restarts : BACKOFF_SHIFT_MAX;
    uint64_t wait_ms = restart->backoff_ms << shift;
    if (wait_ms > restart->backoff_max_ms) {
        wait_ms = restart->backoff_max_ms;
    }
    status->retry_wall_ms = apply->command->wall_ms + wait_ms;
    if (status->restarts < UINT32_MAX) {
        status->restarts++;
    }
}

/* Its process is gone. */
static void
vm_end(struct apply *apply, struct entry *vm, const struct cmd_vm_phase *report)
{
    enum stop_intent intent = vm_of(vm)->status.intent;
    uint64_t at_wall_ms =
        report->at_wall_ms != 0 ? report->at_wall_ms : apply->command->wall_ms;
    uint64_t disk_epoch = vm_disks_left(apply->state, &vm_of(vm)->status, report);
    bool stay = disk_epoch != 0 && vm_disks_stay(vm_of(vm), report->phase);
    bool elsewhere =
        vm->vm.keeper != NULL; /* it never began, and has left nothing here */
    const struct snapshot *begins =
        state_snapshot(apply->state, vm_of(vm)->status.restore);
    if (begins == NULL || begins->status.phase != SNAPSHOT_READY) {
        vm_restore_end(vm_of(vm)); /* nothing to try again with */
    }
    vm_entry_set_target(vm, NULL);
    if (!elsewhere) {
        vm_entry_keep(vm, stay ? vm->vm.host : NULL, stay ? disk_epoch : 0);
    }
    vm_entry_set_host(apply->state, vm, NULL);
    if (intent != STOP_INTENT_NONE) {
        vm_settle_intent(apply, vm, intent, report->reason);
        return;
    }
    book_restart(apply, vm_of(vm), at_wall_ms);
    vm_move(apply, vm, report->phase, report->reason, at_wall_ms);
}

static int check_report(struct apply *apply,
                        const struct entry *vm,
                        const struct cmd_vm_phase *report)
{
    static const uint32_t reportable = BIT(PHASE_STARTING) | BIT(PHASE_RUNNING) |
                                       BIT(PHASE_READY) | BIT(PHASE_STOPPING) |
                                       BIT(PHASE_STOPPED) | BIT(PHASE_FAILED);
    const struct vm_status *status = &vm_of(vm)->status;
    if (report->host != status->host || report->epoch != status->epoch) {
        return apply_refuse(apply, BERTH_ESTALE,
                            "vm %s belongs to host uid %" PRIu64 " in epoch %" PRIu64
                            ", not to %" PRIu64 " in %" PRIu64,
                            meta_of(vm)->name, status->host, status->epoch, report->host,
                            report->epoch);
    }
    if (report->phase >= PHASE_COUNT || (reportable & BIT(report->phase)) == 0) {
        return apply_refuse(apply, BERTH_EPHASE, "a host does not decide that a VM is %s",
                            report->phase < PHASE_COUNT ? phase_names[report->phase]
                                                        : "in an unknown phase");
    }
    if (status->phase == PHASE_LOST &&
        host_of(vm->vm.host)->status.phase == HOST_PHASE_LOST) {
        return apply_refuse(apply, BERTH_EPHASE,
                            "host %s is lost: it has to join again before it reports",
                            meta_of(vm->vm.host)->name);
    }
    if (report->disk_epoch > status->epoch) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "vm %s is at epoch %" PRIu64 ": it has no disks of %" PRIu64,
                            meta_of(vm)->name, status->epoch, report->disk_epoch);
    }
    /* Until the switch the source goes on running: that it does so is no news. */
    bool copying = status->phase == PHASE_MIGRATING && status->target != 0;
    bool runs = report->phase == PHASE_RUNNING || report->phase == PHASE_READY;
    if (report->phase != status->phase &&
        (!vm_phase_allowed(status->phase, report->phase) || (copying && runs))) {
        return apply_refuse(apply, BERTH_EPHASE, "vm %s is %s: it cannot become %s",
                            meta_of(vm)->name, phase_names[status->phase],
                            phase_names[report->phase]);
    }
    return 0;
}

/* What the host says of the run beside its phase; of one that has begun. */
static void take_run(struct entry *vm, const struct cmd_vm_phase *report)
{
    struct vm_status *status = &vm_of(vm)->status;
    bool runs = report->phase == PHASE_RUNNING || report->phase == PHASE_READY;
    status->engine = report->engine != ENGINE_AUTO ? report->engine : status->engine;
    status->paused = runs && report->paused;
    /* The next run goes on with what this one has written, however this one is found. One
     * that was there before the wish to go back is not the snapshot's. */
    if ((runs || report->begun) && report->epoch > status->restore_epoch) {
        vm_restore_end(vm_of(vm));
    }
    if ((runs || report->begun) && vm->vm.keeper != NULL) {
        vm_entry_keep(vm, NULL, 0); /* those of before, elsewhere: this run's are newer */
    }
}

/* Of a VM whose place is unknown: the run of before, wherever it is. */
static int find_vm(struct apply *apply, struct entry *vm, const struct found_run *run)
{
    const struct cmd_vm_phase *report = &apply->command->body.vm_phase;
    struct entry *host = state_entry(apply->state, KIND_HOST, report->host);
    if (host == NULL || host_of(host)->status.phase == HOST_PHASE_LOST) {
        return apply_refuse(apply, BERTH_ESTALE,
                            "vm %s is found on a host that is lost or gone",
                            meta_of(vm)->name);
    }
    apply->result->uid = report->vm;
    vm_find(apply, vm, host, run);
    return 0;
}

int apply_vm_phase(struct apply *apply, const struct command *command)
{
    const struct cmd_vm_phase *report = &command->body.vm_phase;
    const struct found_run run = state_found_run(report);
    struct entry *vm = NULL;
    int r = apply_find_vm(apply, report->vm, &vm);
    if (r == 0 && state_found_is_news(apply->state, vm_of(vm), &run)) {
        return find_vm(apply, vm, &run);
    }
    if (r == 0) {
        r = check_report(apply, vm, report);
    }
    if (r != 0) {
        return r;
    }
    apply->result->uid = report->vm;
    struct vm_status *status = &vm_of(vm)->status;
    bool goes_on = status->paused && !report->paused;
    bool news = vm_run_is_news(vm_of(vm), report->phase, report->engine, report->paused);
    news = news || vm_reason_is_news(vm_of(vm), report->phase, report->reason);
    if (!news && report->phase == status->phase) {
        return 0; /* known */
    }
    take_run(vm, report);
    if (news) {
        if (goes_on || (report->reason != NULL && report->reason[0] != '\0')) {
            vm_set_reason(vm_of(vm), report->reason);
        }
        apply_changed(apply, vm,
                      &(struct change_note){.verb = phase_names[status->phase],
                                            .reason = report->reason,
                                            .phase_from = status->phase,
                                            .phase_to = status->phase});
    }
    if (report->phase == status->phase) {
        return 0;
    }
    uint64_t at_wall_ms = report->at_wall_ms != 0 ? report->at_wall_ms : command->wall_ms;
    if (report->phase == PHASE_STOPPED || report->phase == PHASE_FAILED) {
        vm_end(apply, vm, report);
        return 0;
    }
    enum phase phase = report->phase;
    if (status->phase == PHASE_LOST && status->intent != STOP_INTENT_NONE) {
        phase = PHASE_STOPPING; /* found alive, but its end was decided meanwhile */
    }
    if (phase == PHASE_STOPPING) {
        vm_entry_set_target(vm, NULL); /* it shuts down by itself: no migration */
    }
    vm_move(apply, vm, phase, report->reason, at_wall_ms);
    return 0;
}

int apply_retry_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_retry_vm *retry = &command->body.retry_vm;
    struct entry *vm = NULL;
    int r = apply_find_vm_at(apply, retry->vm, retry->epoch, &vm);
    if (r != 0) {
        return r;
    }
    enum phase phase = vm_of(vm)->status.phase;
    if (phase == PHASE_LOST) {
        return apply_refuse_while_lost(apply, vm);
    }
    if (phase != PHASE_FAILED && phase != PHASE_STOPPED) {
        return apply_refuse_phase(apply, vm, "be started again");
    }
    if (state_place_unknown(apply->state, vm_of(vm))) {
        return apply_refuse(apply, BERTH_EPHASE,
                            "vm %s may run on a host of before the cluster began again: "
                            "its user starts it",
                            meta_of(vm)->name);
    }
    if (vm_of(vm)->spec.power == POWER_OFF) {
        return apply_refuse(apply, BERTH_EPHASE, "vm %s is switched off",
                            meta_of(vm)->name);
    }
    apply->result->uid = retry->vm;
    vm_of(vm)->status.retry_wall_ms = 0;
    vm_move(apply, vm, PHASE_PENDING, retry->reason, 0);
    return 0;
}
