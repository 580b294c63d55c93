/* Hosts that fail, are drained, or no longer need a network's address. See step.h. */
#include "scheduler/step.h"

#include <stdio.h>
#include <string.h>

#define DRAIN_AT_ONCE 4 /* VMs of one host that stop at the same time */

void step_watch_hosts(struct step *step)
{
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(step->state, KIND_HOST, &cursor)) != NULL) {
        char reason[256] = "";
        enum host_phase phase = host_watch_judge(step->watch, host, step->now_ns, reason);
        step->hosts_failing = step->hosts_failing || phase == HOST_PHASE_SUSPECT;
        if (phase == (enum host_phase)host->status.phase || step_full(step) ||
            (phase == HOST_PHASE_LOST &&
             host_watch_give_up(step->watch, host->meta.uid) < 0)) {
            continue;
        }
        struct command *command = step_add(step, COMMAND_HOST_PHASE);
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
    int64_t best = step_best(step, vm);
    return best >= 0 && step_take(step, (uint32_t)best) == 0;
}

/* By this step: its group has become smaller. */
static bool is_leaving(const struct step *step, uint64_t vm)
{
    for (uint32_t i = 0; i < step->decisions->count; i++) {
        const struct command *command = &step->decisions->commands[i];
        if (command->type == COMMAND_EVICT_VM && command->body.evict_vm.vm == vm) {
            return true;
        }
    }
    return false;
}

static bool is_drained(const struct host *host)
{
    return host->spec.drain && host->status.phase == HOST_PHASE_READY;
}

bool host_sends_away(const struct host *host, const struct vm *vm)
{
    return is_drained(host) && vm_phase_on_host(vm->status.phase) &&
           vm->status.phase != PHASE_STOPPING;
}

static bool drain_vm(struct step *step, const struct host *host, const struct vm *vm)
{
    bool moves = vm->spec.machine.lifecycle.host_drain == HOST_DRAIN_RESTART;
    if (step_full(step) || is_leaving(step, vm->meta.uid) ||
        (moves && !has_room_elsewhere(step, vm))) {
        return false;
    }
    struct command *command = step_add(step, COMMAND_EVICT_VM);
    char reason[128];
    (void)snprintf(reason, sizeof(reason), "host %s is drained", host->meta.name);
    command->body.evict_vm.vm = vm->meta.uid;
    command->body.evict_vm.epoch = vm->status.epoch;
    command->body.evict_vm.intent = moves ? STOP_INTENT_MOVE : STOP_INTENT_STOP;
    (void)record_set_text(&command->body.evict_vm.reason, reason);
    return true;
}

static uint32_t stopping_on(const struct step *step, const struct host *host)
{
    uint32_t stopping = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_on_host(step->state, host->meta.uid, &cursor)) != NULL) {
        stopping += vm->status.phase == PHASE_STOPPING ? 1U : 0U;
    }
    return stopping;
}

static void drain_host(struct step *step, const struct host *host)
{
    uint32_t stopping = stopping_on(step, host);
    size_t cursor = 0;
    const struct vm *vm;
    while (stopping < DRAIN_AT_ONCE &&
           (vm = state_vm_on_host(step->state, host->meta.uid, &cursor)) != NULL) {
        if (host_sends_away(host, vm)) {
            stopping += drain_vm(step, host, vm) ? 1U : 0U;
        }
    }
}

/* VMs that are on their way keep the room they were sent away for. */
static void keep_room(struct step *step, const struct host *host)
{
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_on_host(step->state, host->meta.uid, &cursor)) != NULL) {
        if (vm->status.phase == PHASE_STOPPING && vm->status.intent == STOP_INTENT_MOVE) {
            (void)has_room_elsewhere(step, vm); /* or not any more: then it waits */
        }
    }
}

static void each_drained(struct step *step,
                         void (*visit)(struct step *step, const struct host *host))
{
    for (uint32_t i = 0; i < step->overlay->count && !step_full(step); i++) {
        const struct host *host = step->overlay->hosts[i];
        if (is_drained(host)) {
            visit(step, host);
        }
    }
}

void step_keep_room(struct step *step)
{
    each_drained(step, keep_room);
}

void step_drain(struct step *step)
{
    each_drained(step, drain_host);
}

/* ---- networks
 * ---------------------------------------------------------------------------------------
 */

static bool uses(const struct vm *vm, const struct network *network)
{
    if (strcmp(vm->meta.tenant, network->meta.tenant) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < vm->status.nics.count; i++) {
        if (strcmp(vm->status.nics.items[i].network, network->meta.name) == 0) {
            return true;
        }
    }
    return false;
}

static bool
network_used_on(const struct step *step, const struct network *network, uint64_t host)
{
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_on_host(step->state, host, &cursor)) != NULL) {
        if (uses(vm, network)) {
            return true;
        }
    }
    cursor = 0;
    while ((vm = state_vm_incoming(step->state, host, &cursor)) != NULL) {
        if (uses(vm, network)) {
            return true;
        }
    }
    /* One that the host may run still, as it has yet to say, goes on only with the host's
     * address: without it that run would be ended. */
    cursor = 0;
    while ((vm = state_vm_kept(step->state, host, &cursor)) != NULL) {
        if (state_place_unknown(step->state, vm) && uses(vm, network)) {
            return true;
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
