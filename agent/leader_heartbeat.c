/* What hosts say of themselves and their VMs, taken into the log and the scheduler. */
#include "agent/leader_internal.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/require.h"

#include <stdio.h>

#define PHASES_MAX                                                              \
    256 /* observed phases of one host proposed at once; the rest with the next \
           heartbeat */

static void phase_proposed(void *context, int code, const struct apply_result *result)
{
    struct heard *heard = context;
    (void)code;   /* whatever came of it: */
    (void)result; /* the next heartbeat shows whether it is still wanted */
    REQUIRE(heard->phases_under_way > 0);
    heard->phases_under_way--;
}

/* Phases on the way up are reported one by one, so that the boot timeline has them all.
 */
static enum phase next_phase(enum phase from, enum phase seen)
{
    static const enum phase up[] = {PHASE_PLACED, PHASE_STARTING, PHASE_RUNNING,
                                    PHASE_READY};
    for (unsigned i = 0; i + 1 < ARRAY_COUNT(up); i++) {
        if (from == up[i] && seen > from && seen <= PHASE_READY) {
            return up[i + 1];
        }
    }
    return seen;
}

/* What came with a level is said from then on. */
static bool says_runs(const struct state *state)
{
    return state_level(state) >= LEVEL_SNAPSHOTS;
}

/* What the log is told, but for words. */
static struct cmd_vm_phase report_of(const struct state *state,
                                     uint64_t host,
                                     const struct msg_vm_seen *seen,
                                     enum phase to)
{
    struct cmd_vm_phase report = {
        .vm = seen->vm, .host = host, .epoch = seen->epoch, .phase = to};
    report.at_wall_ms =
        to == PHASE_STARTING && seen->starting_wall_ms != 0 ? seen->starting_wall_ms
        : to == PHASE_RUNNING && seen->running_wall_ms != 0 ? seen->running_wall_ms
                                                            : seen->at_wall_ms;
    report.disk_epoch = to == PHASE_STOPPED || to == PHASE_FAILED ? seen->disk_epoch : 0;
    if (says_runs(state)) {
        report.engine = seen->engine;
        report.paused = to == (enum phase)seen->phase && seen->paused;
        /* Also of one that has ended by now: the next would begin from its snapshot
         * again, and give up what it has written. */
        report.begun =
            seen->running_wall_ms != 0 && to != PHASE_PLACED && to != PHASE_STARTING;
    }
    return report;
}

static int phase_propose_one(struct leader *leader,
                             struct heard *heard,
                             const struct msg_vm_seen *seen,
                             enum phase to)
{
    struct command command;
    command_init(&command, COMMAND_VM_PHASE);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    command.body.vm_phase =
        report_of(control_state(leader->config.control), heard->uid, seen, to);
    if (to == (enum phase)seen->phase && seen->reason != NULL) {
        (void)record_set_text(&command.body.vm_phase.reason, seen->reason);
    }
    int r = control_propose(leader->config.control, &command, phase_proposed, heard);
    command_fini(&command);
    heard->phases_under_way += r < 0 ? 0U : 1U;
    return r;
}

/* As the log will judge it: what it refused would hold orders back for ever. */
static struct found_run
run_of(const struct state *state, uint64_t host, const struct msg_vm_seen *seen)
{
    const struct cmd_vm_phase report = report_of(state, host, seen, seen->phase);
    return state_found_run(&report);
}

/* Orders that may be on their way still, or at work, end such a run with its disks: it is
 * no place to go on, nor a reason to give up disks that are kept elsewhere. A run that
 * the host had before it was given any is found before that. */
static bool is_ordered_away(const struct heard *heard, const struct vm *vm)
{
    return heard->orders_sent_ms != 0 && vm->status.host != heard->uid &&
           vm->status.disk_host != heard->uid;
}

/* The VM of a run of before the cluster began again, if the log does not know where that
 * is and the run may tell; else NULL. */
static const struct vm *told_of(const struct heard *heard,
                                const struct state *state,
                                const struct msg_vm_seen *seen)
{
    const struct vm *vm = state_vm(state, seen->vm);
    return vm != NULL && state_place_unknown(state, vm) && !is_ordered_away(heard, vm)
               ? vm
               : NULL;
}

static bool is_found(const struct heard *heard,
                     const struct state *state,
                     const struct msg_vm_seen *seen)
{
    const struct vm *vm = told_of(heard, state, seen);
    const struct found_run run = run_of(state, heard->uid, seen);
    return vm != NULL && state_found_is_news(state, vm, &run);
}

static bool is_to_begin(const struct heard *heard,
                        const struct state *state,
                        const struct msg_vm_seen *seen)
{
    const struct vm *vm = told_of(heard, state, seen);
    const struct found_run run = run_of(state, heard->uid, seen);
    return vm != NULL && state_found_may_begin(state, vm, &run);
}

/* One that is to begin may write before its orders end it; but not for ever: without
 * orders a host that was started anew lets nothing begin. Once they are given, one that
 * begins all the same has not. */
void leader_take_finds(struct heard *heard,
                       const struct state *state,
                       const struct msg_vm_seen_list *vms,
                       uint64_t now_ms)
{
    bool finds = false;
    bool begins = false;
    for (uint32_t i = 0; i < vms->count; i++) {
        finds = finds || is_found(heard, state, &vms->items[i]);
        begins = begins || is_to_begin(heard, state, &vms->items[i]);
    }
    if (!begins || heard->begins_ms == 0) {
        heard->begins_ms = begins ? now_ms : 0;
    }
    heard->finds = finds || (begins && now_ms - heard->begins_ms < LEADER_BEGINS_MS);
}

static void
phase_propose(struct leader *leader, struct heard *heard, const struct msg_vm_seen *seen)
{
    const struct state *state = control_state(leader->config.control);
    const struct vm *vm = state_vm(state, seen->vm);
    if (is_found(heard, state, seen)) {
        (void)phase_propose_one(leader, heard, seen, seen->phase); /* see below */
        return;
    }
    if (vm == NULL || vm->status.host != heard->uid || vm->status.epoch != seen->epoch) {
        return; /* not its VM any more: its orders say so */
    }
    enum phase from = vm->status.phase;
    enum phase last = seen->phase;
    bool news =
        vm_reason_is_news(vm, last, seen->reason) ||
        (says_runs(state) && vm_run_is_news(vm, last, seen->engine, seen->paused));
    if (news && heard->phases_under_way < PHASES_MAX) {
        (void)phase_propose_one(leader, heard, seen, last); /* the next heartbeat again */
    }
    while (from != last && heard->phases_under_way < PHASES_MAX) {
        enum phase to = next_phase(from, last);
        if (!vm_phase_allowed(from, to) ||
            phase_propose_one(leader, heard, seen, to) < 0) {
            return;
        }
        from = to;
    }
}

static void take_vms(struct leader *leader,
                     struct heard *heard,
                     const struct msg_heartbeat *heartbeat,
                     uint64_t now_ns,
                     bool may_propose)
{
    leader_take_finds(heard, control_state(leader->config.control), &heartbeat->vms,
                      now_ns / NS_PER_MS);
    for (uint32_t i = 0; i < heartbeat->vms.count; i++) {
        const struct msg_vm_seen *seen = &heartbeat->vms.items[i];
        if (seen->sampled) {
            scheduler_vm_load(leader->scheduler, seen->vm, seen->cpu_permille,
                              seen->phase == PHASE_READY, now_ns);
        }
        vm_rates_take(leader->rates, heard->uid, seen, now_ns);
        if (may_propose) {
            phase_propose(leader, heard, seen);
        }
    }
}

/* Ten steps of it are told, not each per mille. */
static bool snapshot_is_news(const struct snapshot *known,
                             const struct msg_snapshot_seen *seen)
{
    switch (known->status.phase) {
    case SNAPSHOT_MAKING:
        return seen->phase == SNAPSHOT_READY || seen->phase == SNAPSHOT_FAILED ||
               seen->phase == SNAPSHOT_LOST ||
               (seen->phase == SNAPSHOT_MAKING &&
                seen->permille / 100 != known->status.permille / 100);
    case SNAPSHOT_READY:
    case SNAPSHOT_DELETING:
        return seen->phase == SNAPSHOT_LOST;
    default:
        return false;
    }
}

static int snapshot_propose(struct leader *leader,
                            struct heard *heard,
                            const struct msg_snapshot_seen *seen)
{
    struct command command;
    command_init(&command, COMMAND_SNAPSHOT_STEP);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    struct cmd_snapshot_step *body = &command.body.snapshot_step;
    body->snapshot = seen->snapshot;
    body->host = heard->uid;
    body->epoch = seen->epoch;
    body->phase = seen->phase;
    body->bytes = seen->bytes;
    body->permille = seen->permille;
    body->at_wall_ms = seen->at_wall_ms;
    (void)record_set_text(&body->reason, seen->reason);
    int r = control_propose(leader->config.control, &command, phase_proposed, heard);
    command_fini(&command);
    heard->phases_under_way += r < 0 ? 0U : 1U;
    return r;
}

/* A snapshot is known by its uid and its run: another host's, or one that the log does
 * not have, its orders say to remove. */
static void take_snapshots(struct leader *leader,
                           struct heard *heard,
                           const struct msg_snapshot_seen_list *list)
{
    const struct state *state = control_state(leader->config.control);
    for (uint32_t i = 0; i < list->count && says_runs(state); i++) {
        const struct msg_snapshot_seen *seen = &list->items[i];
        const struct snapshot *known = state_snapshot(state, seen->snapshot);
        if (known == NULL || known->status.host != heard->uid ||
            known->status.epoch != seen->epoch || !snapshot_is_news(known, seen)) {
            continue;
        }
        if (heard->phases_under_way >= PHASES_MAX ||
            snapshot_propose(leader, heard, seen) < 0) {
            return; /* the next heartbeat again */
        }
    }
}

static void update_proposed(void *context, int code, const struct apply_result *result)
{
    struct heard *heard = context;
    heard->update_under_way = false;
    if (code == 0 && result->code < 0) {
        log_warn("leader", "host's news were refused", KV_U64("host", heard->uid),
                 KV_STR("why", result->text));
    }
}

/* It is in and stays in: people have to hear of it, also in leader_host_live. */
static void address_warn(const struct leader *leader,
                         const struct host *host,
                         const struct host_status *said)
{
    char clash[ADMISSION_CLASH_SIZE];
    if (said->address != host->status.address &&
        admission_address_clash(control_state(leader->config.control), host->meta.name,
                                said->address, clash)) {
        log_warn("leader", "a host came back with an address that a network has taken",
                 KV_STR("host", host->meta.name), KV_STR("why", clash));
    }
}

/* Addresses and inventory as the host says now; phase, key and role are not its to say.
 */
static void take_status(struct leader *leader,
                        struct heard *heard,
                        const struct msg_heartbeat *heartbeat)
{
    const struct host *host =
        state_host(control_state(leader->config.control), heard->uid);
    struct host_status said;
    if (host == NULL || heard->update_under_way || heartbeat->status.address == 0 ||
        record_copy(&host_status_record, &heartbeat->status, &said) < 0) {
        return;
    }
    record_limit(&host_status_record, &said,
                 state_level(control_state(leader->config.control)));
    said.phase = host->status.phase;
    said.voter = host->status.voter;
    said.public_key = host->status.public_key;
    bool same_reason = record_set_text(&said.reason, host->status.reason) == 0;
    if (same_reason && !record_equal(&host_status_record, &said, &host->status)) {
        struct command command;
        command_init(&command, COMMAND_HOST_UPDATE);
        (void)snprintf(command.subject, sizeof(command.subject), "host:%.50s",
                       host->meta.name);
        command.body.host_update.host = heard->uid;
        record_fini(&host_status_record, &command.body.host_update.status);
        if (record_copy(&host_status_record, &said, &command.body.host_update.status) ==
                0 &&
            control_propose(leader->config.control, &command, update_proposed, heard) ==
                0) {
            address_warn(leader, host, &said);
            heard->update_under_way = true;
        }
        command_fini(&command);
    }
    record_fini(&host_status_record, &said);
}

/* Which networks it cannot carry. Out of memory it is found out when one is made there.
 */
static void take_ranges(struct leader *leader,
                        uint64_t host,
                        const struct msg_taken_list *taken,
                        const struct msg_carried_list *carried)
{
    uint32_t vnis[HOST_CARRIED_MAX];
    struct host_range ranges[HOST_RANGES_MAX] = {0};
    for (uint32_t i = 0; i < taken->count; i++) {
        const struct msg_taken *item = &taken->items[i];
        ranges[i].ipv4 = item->ipv4;
        ranges[i].prefix_bits = item->prefix_bits;
        (void)snprintf(ranges[i].text, sizeof(ranges[i].text), "%s",
                       item->text != NULL ? item->text : "what it needs for itself");
    }
    (void)scheduler_host_ranges(leader->scheduler, host, ranges, taken->count);
    for (uint32_t i = 0; i < carried->count; i++) {
        vnis[i] = carried->items[i].vni;
    }
    (void)scheduler_host_carries(leader->scheduler, host, vnis, carried->count);
}

/* False for a host that takes no part at the cluster's level: its lease is not renewed,
 * it gets no orders, and it is told why. */
static bool level_fits(struct leader *leader,
                       struct heard *heard,
                       const struct msg_member *from,
                       const struct msg_heartbeat *heartbeat)
{
    const struct level_range range = {heartbeat->level_min, heartbeat->level_max};
    uint32_t level = state_level(control_state(leader->config.control));
    if (level_watch_heard(leader->levels, from->uid, range,
                          clock_now_ms(leader->config.clock)) < 0) {
        return false; /* it asks again */
    }
    if (level_in_range(range, level)) {
        heard->outdated = false;
        return true;
    }
    if (!heard->outdated) {
        log_warn("leader", "a host takes no part: its berthd does not know the level",
                 KV_STR("host", from->name), KV_U64("level", level),
                 KV_U64("knows up to", range.max));
        heard->outdated = true;
    }
    const struct msg_outdated answer = {.term = leader->term, .level = level};
    (void)link_send(leader->config.link, from->uid, MESSAGE_OUTDATED,
                    &answer); /* the next heartbeat asks again */
    return false;
}

void leader_on_heartbeat(struct leader *leader,
                         const struct msg_member *from,
                         const struct msg_heartbeat *heartbeat)
{
    struct heard *heard = leader->leads ? leader_heard_of(leader, from->uid) : NULL;
    if (heard == NULL || heartbeat->host != from->uid ||
        !level_fits(leader, heard, from, heartbeat)) {
        return;
    }
    if (heard->boot != heartbeat->boot) {
        heard->boot = heartbeat->boot;
        heard->sequence = 0;
        heard->round_covers = 0;
        heard->acked = 0;
        heard->orders_hash = 0;
        heard->orders_sent_ms = 0;
    }
    if (heartbeat->sequence <= heard->sequence) {
        return;
    }
    uint64_t now_ns = clock_now_ns(leader->config.clock);
    const struct host_load load = {.cpu_used_mcpu = heartbeat->cpu_used_mcpu,
                                   .memory_used_bytes = heartbeat->memory_used_bytes,
                                   .disk_free_bytes = heartbeat->disk_free_bytes};
    if (scheduler_host_heard(leader->scheduler, from->uid, &load, now_ns,
                             clock_wall_ms(leader->config.clock)) < 0) {
        return; /* a lease renewed unnoticed would be given away too soon */
    }
    take_ranges(leader, heard->uid, &heartbeat->taken, &heartbeat->carried);
    heard->sequence = heartbeat->sequence;
    heard->orders_taken = heartbeat->desired_hash;
    bool may_propose = heard->phases_under_way == 0;
    bool held = heard->finds; /* its orders, until the log had heard of them */
    take_vms(leader, heard, heartbeat, now_ns, may_propose);
    if (may_propose) {
        take_snapshots(leader, heard, &heartbeat->snapshots);
    }
    take_status(leader, heard, heartbeat);
    orders_book_holds(leader->book, heard->uid, heartbeat->blobs.items,
                      heartbeat->blobs.count); /* others may fetch from there now */
    heard->fence = heartbeat->fence;
    bool first = heard->orders_hash == 0 && !heard->orders_owed;
    if (first || (held && !heard->finds)) {
        orders_book_touch(leader->book, heard->uid);
        loop_post_send(leader->wake);
    }
    if (!leader->confirm.active) {
        leader_round_gather(leader);
    }
}
