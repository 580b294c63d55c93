/* VMs that ended, and VMs that wait for a place. See step.h. */
#include "scheduler/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- restart
 * ----------------------------------------------------------------------------------------
 */

bool vm_has_ended(const struct vm *vm)
{
    return vm->status.phase == PHASE_FAILED || vm->status.phase == PHASE_STOPPED;
}

/* Failed and stopped VMs are nowhere. */
bool vm_restarts(const struct state *state, const struct vm *vm)
{
    const struct restart_spec *restart = &vm->spec.machine.lifecycle.restart;
    if (!vm_has_ended(vm) || state_place_unknown(state, vm) ||
        vm->spec.power != POWER_ON || vm->status.intent != STOP_INTENT_NONE ||
        restart->policy == RESTART_NEVER) {
        return false;
    }
    if (vm->status.phase == PHASE_STOPPED && restart->policy != RESTART_ALWAYS) {
        return false;
    }
    return vm->status.restarts <= restart->attempts;
}

bool vm_backoff_over(const struct vm *vm, uint64_t wall_ms)
{
    uint64_t retry_ms = vm->status.retry_wall_ms;
    return retry_ms <= wall_ms ||
           retry_ms - wall_ms > vm->spec.machine.lifecycle.restart.backoff_max_ms;
}

static void restart_vm(struct step *step, const struct vm *vm)
{
    struct command *command = step_add(step, COMMAND_RETRY_VM);
    if (command != NULL) {
        char reason[128];
        (void)snprintf(reason, sizeof(reason), "restart %u of %u after it %s",
                       vm->status.restarts, vm->spec.machine.lifecycle.restart.attempts,
                       vm->status.phase == PHASE_FAILED ? "failed" : "ended");
        command->body.retry_vm.vm = vm->meta.uid;
        command->body.retry_vm.epoch = vm->status.epoch;
        (void)record_set_text(&command->body.retry_vm.reason, reason);
    }
}

void step_restart(struct step *step)
{
    size_t cursor = 0;
    const struct vm *vm;
    while (!step_full(step) && (vm = state_vm_nowhere(step->state, &cursor)) != NULL) {
        if (!vm_restarts(step->state, vm)) {
            continue;
        }
        if (vm_backoff_over(vm, step->wall_ms)) {
            restart_vm(step, vm);
        } else {
            step_due_wall(step, vm->status.retry_wall_ms);
        }
    }
}

/* ---- placement
 * --------------------------------------------------------------------------------------
 */

/* How few hosts a VM may go to: one, those that its rules leave, any. */
enum bound { BOUND_HOME = 0, BOUND_RULES, BOUND_NOWHERE };

struct pending {
    const struct vm *vm;
    enum bound bound;
};

static enum bound bound_of(const struct state *state, const struct vm *vm)
{
    struct place_request request = {0};
    if (vm->status.disk_host != 0 ||
        vm->status.restore != 0) { /* else there is no need to ask: many may wait */
        place_request_of(state, vm, &request);
    }
    return request.home != 0                              ? BOUND_HOME
           : vm->spec.machine.placement.require.count > 0 ? BOUND_RULES
                                                          : BOUND_NOWHERE;
}

static int by_priority(const void *a, const void *b)
{
    const struct vm *left = ((const struct pending *)a)->vm;
    const struct vm *right = ((const struct pending *)b)->vm;
    uint32_t left_priority = left->spec.machine.placement.priority;
    uint32_t right_priority = right->spec.machine.placement.priority;
    enum bound left_bound = ((const struct pending *)a)->bound;
    enum bound right_bound = ((const struct pending *)b)->bound;
    if (left_priority != right_priority) {
        return left_priority > right_priority ? -1 : 1;
    }
    if (left_bound != right_bound) {
        return left_bound < right_bound ? -1 : 1; /* who has a choice comes after */
    }
    if (left->spec.machine.memory.size_bytes != right->spec.machine.memory.size_bytes) {
        /* Larger ones first: what is left over then fits small ones. */
        return left->spec.machine.memory.size_bytes >
                       right->spec.machine.memory.size_bytes
                   ? -1
                   : 1;
    }
    return left->meta.uid < right->meta.uid ? -1 : 1;
}

/* Pending VMs that may be placed now, in a fresh array. */
static struct pending *pending_list(struct step *step, uint32_t *ret_count)
{
    struct pending *list = NULL;
    uint32_t count = 0;
    uint32_t capacity = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_nowhere(step->state, &cursor)) != NULL) {
        if (vm->status.phase != PHASE_PENDING || vm->spec.power != POWER_ON) {
            continue;
        }
        if (count == capacity) {
            capacity = capacity == 0 ? 64 : capacity * 2;
            struct pending *grown = realloc(list, capacity * sizeof(*list));
            if (grown == NULL) {
                break; /* these are enough for one step */
            }
            list = grown;
        }
        list[count++] = (struct pending){.vm = vm, .bound = bound_of(step->state, vm)};
    }
    if (count > 1) {
        qsort(list, count, sizeof(*list), by_priority);
    }
    *ret_count = count;
    return list;
}

/* The host's own address in each network of the VM, before its first VM there. */
static bool networks_prepare(struct step *step, const struct vm *vm, uint64_t host)
{
    for (uint32_t i = 0; i < vm->status.nics.count; i++) {
        const struct network *network = state_get(
            step->state, KIND_NETWORK, vm->meta.tenant, vm->status.nics.items[i].network);
        uint32_t ipv4 = 0;
        if (network == NULL) {
            return false;
        }
        if (overlay_has_network_host(step->overlay, network, host)) {
            continue;
        }
        struct command *command = step_add(step, COMMAND_NETWORK_HOST);
        if (command == NULL || overlay_address(step->overlay, network, &ipv4) < 0 ||
            overlay_add_network_host(step->overlay, network, host) < 0) {
            return false;
        }
        command->body.network_host.network = network->meta.uid;
        command->body.network_host.host = host;
        command->body.network_host.ipv4 = ipv4;
        if (ipv4 == 0) {
            return false;
        }
    }
    return true;
}

/* Addresses are given at the first placement and kept ever after. */
static bool
addresses_give(struct step *step, const struct vm *vm, struct cmd_place_vm *place)
{
    struct record_list list = {0};
    if (vm->status.nics.count == 0 || vm->status.nics.items[0].ipv4 != 0) {
        return true;
    }
    for (uint32_t i = 0; i < vm->status.nics.count; i++) {
        const struct network *network = state_get(
            step->state, KIND_NETWORK, vm->meta.tenant, vm->status.nics.items[i].network);
        struct cmd_address *address = record_list_add(&cmd_address_record, &list);
        if (address == NULL || network == NULL ||
            overlay_address(step->overlay, network, &address->ipv4) < 0 ||
            address->ipv4 == 0) {
            free(list.items);
            return false;
        }
    }
    place->addresses.items = list.items;
    place->addresses.count = list.count;
    return true;
}

/* Takes back what the batch got for a VM that cannot be placed after all. */
static void retract(struct step *step, uint32_t decisions, uint32_t mark)
{
    while (step->decisions->count > decisions) {
        command_fini(&step->decisions->commands[--step->decisions->count]);
    }
    overlay_undo(step->overlay, mark);
}

static const char *place_reason(const struct vm *vm, uint64_t host)
{
    if (vm->status.restore != 0) {
        return "its snapshot is there";
    }
    if (vm->status.disk_host != 0) {
        return vm->status.disk_host == host
                   ? "its disks are there"
                   : "fewest of its group, with new disks: its own are on a "
                     "host that is lost";
    }
    return vm->spec.group[0] != '\0' ? "fewest of its group, then best fit" : "best fit";
}

static bool place_at(struct step *step, const struct vm *vm, uint32_t index)
{
    const struct host *host = step->overlay->hosts[index];
    struct command *command;
    if (!networks_prepare(step, vm, host->meta.uid) ||
        (command = step_add(step, COMMAND_PLACE_VM)) == NULL) {
        return false;
    }
    struct cmd_place_vm *place = &command->body.place_vm;
    place->vm = vm->meta.uid;
    place->host = host->meta.uid;
    place->epoch = vm->status.epoch + 1;
    (void)record_set_text(&place->reason, place_reason(vm, host->meta.uid));
    return addresses_give(step, vm, place) && step_take(step, index) == 0;
}

static void place_vm(struct step *step, const struct vm *vm)
{
    uint32_t decisions = step->decisions->count;
    uint32_t mark = overlay_mark(step->overlay);
    int64_t best = step_best(step, vm);
    if (best >= 0 && !place_at(step, vm, (uint32_t)best)) {
        retract(step, decisions, mark);
    }
}

void step_place(struct step *step)
{
    if (step->vms_deleted) {
        return; /* some of them are not there any more */
    }
    uint32_t count = 0;
    struct pending *list = pending_list(step, &count);
    for (uint32_t i = 0; i < count && !step_full(step); i++) {
        place_vm(step, list[i].vm);
    }
    free(list);
}
