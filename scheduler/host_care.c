/* Hosts that fail, are drained, or no longer need a network's address. See step.h. */
#include "scheduler/step.h"

#include <stdio.h>

#define DRAIN_AT_ONCE 4 /* VMs of one host that stop at the same time */

void step_watch_hosts(struct step *step)
{
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(step->state, KIND_HOST, &cursor)) != NULL) {
        char reason[256] = "";
        enum host_phase phase = host_watch_judge(step->watch, host, step->now_ns, reason);
        step->hosts_failing = step->hosts_failing || phase == HOST_PHASE_SUSPECT;
        struct command *command = phase != (enum host_phase)host->status.phase
                                      ? step_add(step, COMMAND_HOST_PHASE)
                                      : NULL;
        if (command != NULL) {
            command->body.host_phase.host = host->meta.uid;
            command->body.host_phase.phase = phase;
            (void)record_set_text(&command->body.host_phase.reason, reason);
        }
    }
}

/* ---- drain
 * ------------------------------------------------------------------------------------------
 */

/* A VM leaves only when there is somewhere to go: else it would be down for nothing. */
static bool has_room_elsewhere(struct step *step, const struct vm *vm)
{
    struct placement placement;
    const struct group *group =
        vm->spec.group[0] != '\0'
            ? state_get(step->state, KIND_GROUP, vm->meta.tenant, vm->spec.group)
            : NULL;
    int64_t best = -1;
    if (placement_init(&placement, step->overlay, step->state, &vm->spec.machine,
                       group) == 0) {
        best = placement_best(&placement, step->overlay);
    }
    placement_fini(&placement);
    return best >= 0 && overlay_take(step->overlay, (uint32_t)best, &vm->spec.machine,
                                     group != NULL ? group->meta.uid : 0) == 0;
}

static void drain_vm(struct step *step, const struct host *host, const struct vm *vm)
{
    bool moves = vm->spec.machine.lifecycle.host_drain == HOST_DRAIN_RESTART;
    uint32_t mark = overlay_mark(step->overlay);
    if (moves && !has_room_elsewhere(step, vm)) {
        overlay_undo(step->overlay, mark);
        return;
    }
    struct command *command = step_add(step, COMMAND_EVICT_VM);
    if (command == NULL) {
        return;
    }
    char reason[128];
    (void)snprintf(reason, sizeof(reason), "host %s is drained", host->meta.name);
    command->body.evict_vm.vm = vm->meta.uid;
    command->body.evict_vm.epoch = vm->status.epoch;
    command->body.evict_vm.intent = moves ? STOP_INTENT_MOVE : STOP_INTENT_STOP;
    (void)record_set_text(&command->body.evict_vm.reason, reason);
}

static void drain_host(struct step *step, const struct host *host)
{
    unsigned stopping = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_on_host(step->state, host->meta.uid, &cursor)) != NULL) {
        stopping += vm->status.phase == PHASE_STOPPING ? 1U : 0U;
    }
    cursor = 0;
    while (stopping < DRAIN_AT_ONCE &&
           (vm = state_vm_on_host(step->state, host->meta.uid, &cursor)) != NULL) {
        if (vm_phase_on_host(vm->status.phase) && vm->status.phase != PHASE_STOPPING) {
            uint32_t before = step->decisions->count;
            drain_vm(step, host, vm);
            stopping += step->decisions->count - before;
        }
    }
}

void step_drain(struct step *step)
{
    size_t cursor = 0;
    const struct host *host;
    while (!step_full(step) &&
           (host = state_next(step->state, KIND_HOST, &cursor)) != NULL) {
        if (host->spec.drain && host->status.phase == HOST_PHASE_READY) {
            drain_host(step, host);
        }
    }
}

/* ---- networks
 * ---------------------------------------------------------------------------------------
 */

static bool
network_used_on(const struct step *step, const struct network *network, uint64_t host)
{
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_on_host(step->state, host, &cursor)) != NULL) {
        for (uint32_t i = 0; i < vm->status.nics.count; i++) {
            if (state_get(step->state, KIND_NETWORK, vm->meta.tenant,
                          vm->status.nics.items[i].network) == network) {
                return true;
            }
        }
    }
    return false;
}

static bool placed_now(const struct step *step, uint64_t host)
{
    for (uint32_t i = 0; i < step->decisions->count; i++) {
        const struct command *command = &step->decisions->commands[i];
        if (command->type == COMMAND_PLACE_VM && command->body.place_vm.host == host) {
            return true;
        }
    }
    return false;
}

void step_network_hosts(struct step *step)
{
    size_t cursor = 0;
    const struct network *network;
    while ((network = state_next(step->state, KIND_NETWORK, &cursor)) != NULL) {
        for (uint32_t i = 0; i < network->status.hosts.count; i++) {
            uint64_t host = network->status.hosts.items[i].host;
            if (network_used_on(step, network, host) || placed_now(step, host)) {
                continue;
            }
            struct command *command = step_add(step, COMMAND_NETWORK_HOST);
            if (command == NULL) {
                return;
            }
            command->body.network_host.network = network->meta.uid;
            command->body.network_host.host = host;
        }
    }
}
