/* Groups: as many VMs as desired, the right ones when there are too many. See step.h. */
#include "base/cleanup.h"
#include "base/plural.h"
#include "scheduler/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* VMs admitted or removed per group and step: a group of ten thousand shall not starve
 * the others. */
#define GROUP_CHANGES_MAX 256
/* New VMs of all groups in one step: the rest of the batch is for placing those there
 * are. */
#define ADMITTED_MAX (DECISIONS_MAX / 2)

static bool name_taken(const struct step *step, const char *tenant, const char *name)
{
    if (state_get(step->state, KIND_VM, tenant, name) != NULL) {
        return true;
    }
    for (uint32_t i = 0; i < step->decisions->count; i++) {
        const struct command *command = &step->decisions->commands[i];
        if (command->type == COMMAND_ADMIT_VM &&
            strcmp(command->body.admit_vm.name, name) == 0 &&
            strcmp(command->body.admit_vm.tenant, tenant) == 0) {
            return true;
        }
    }
    return false;
}

/* What this step adds to the tenant's use; NULL when too many tenants get VMs in it. The
 * entry of a tenant that is new to it counts once its first VM is admitted. */
static struct step_promise *promise_of(struct step *step, const char *tenant)
{
    for (uint32_t i = 0; i < step->promise_count; i++) {
        if (strcmp(step->promises[i].tenant, tenant) == 0) {
            return &step->promises[i];
        }
    }
    if (step->promise_count == STEP_TENANTS_MAX) {
        return NULL;
    }
    struct step_promise *promise = &step->promises[step->promise_count];
    *promise = (struct step_promise){.tenant = tenant};
    return promise;
}

static bool has_quota(struct step *step, const struct group *group)
{
    const struct template *template = state_get(
        step->state, KIND_TEMPLATE, group->meta.tenant, group->spec.template_ref.name);
    struct step_promise *promise = promise_of(step, group->meta.tenant);
    if (template == NULL || promise == NULL ||
        state_count(step->state, KIND_VM) + step->admitted >= STATE_VMS_MAX ||
        state_quota_room(step->state, group->meta.tenant, &template->spec,
                         &promise->usage, NULL) != 0) {
        return false;
    }
    if (promise == &step->promises[step->promise_count]) {
        step->promise_count++;
    }
    return true;
}

/* Those of its group, and of its template where the group does not say otherwise. A
 * failure leaves some out: there is no memory for them. */
static void
add_labels(const struct step *step, const struct group *group, struct label_list *labels)
{
    const struct template *template = state_get(
        step->state, KIND_TEMPLATE, group->meta.tenant, group->spec.template_ref.name);
    (void)labels_inherit(labels, &group->meta.labels);
    if (template != NULL) {
        (void)labels_inherit(labels, &template->meta.labels);
    }
}

/* web-1, web-2, ...: the lowest number that is free, so that names stay short and come
 * back. */
static void admit(struct step *step, const struct group *group, uint32_t count)
{
    uint32_t number = 0;
    for (uint32_t i = 0; i < count && i < GROUP_CHANGES_MAX && !step_full(step) &&
                         step->admitted < ADMITTED_MAX && has_quota(step, group);
         i++) {
        char name[NAME_SIZE];
        do {
            number++;
            (void)snprintf(name, sizeof(name), "%.52s-%u", group->meta.name, number);
        } while (name_taken(step, group->meta.tenant, name));
        struct command *command = step_add(step, COMMAND_ADMIT_VM);
        struct cmd_admit_vm *admit_vm = &command->body.admit_vm;
        memcpy(admit_vm->tenant, group->meta.tenant, NAME_SIZE);
        memcpy(admit_vm->name, name, NAME_SIZE);
        memcpy(admit_vm->template_name, group->spec.template_ref.name, NAME_SIZE);
        memcpy(admit_vm->group, group->meta.name, NAME_SIZE);
        add_labels(step, group, &admit_vm->labels);
        step->admitted++;
    }
}

/* ---- too many
 * ---------------------------------------------------------------------------------------
 */

struct victim {
    const struct vm *vm;
    unsigned worth; /* the least worth goes first */
};

static unsigned worth_of(const struct state *state, const struct vm *vm)
{
    const struct host *host =
        vm->status.host != 0 ? state_host(state, vm->status.host) : NULL;
    if (!vm_phase_on_host(vm->status.phase)) {
        return 0;
    }
    if (vm->status.phase != PHASE_READY) {
        return 1;
    }
    return host != NULL && host->spec.drain ? 2 : 3;
}

static int by_worth(const void *a, const void *b)
{
    const struct victim *left = a;
    const struct victim *right = b;
    if (left->worth != right->worth) {
        return left->worth < right->worth ? -1 : 1;
    }
    return left->vm->meta.uid > right->vm->meta.uid ? -1 : 1; /* newest first */
}

static void evict(struct step *step, const struct vm *vm, const char *reason)
{
    struct command *command = step_add(step, COMMAND_EVICT_VM);
    if (command != NULL) {
        step->vms_deleted = step->vms_deleted || vm->status.host == 0;
        command->body.evict_vm.vm = vm->meta.uid;
        command->body.evict_vm.epoch = vm->status.epoch;
        command->body.evict_vm.intent = STOP_INTENT_DELETE;
        (void)record_set_text(&command->body.evict_vm.reason, reason);
    }
}

static void
shrink(struct step *step, const struct group *group, uint32_t alive, uint32_t count)
{
    CLEANUP_FREE struct victim *victims = calloc(alive, sizeof(*victims));
    char reason[64];
    uint32_t found = 0;
    size_t cursor = 0;
    const struct vm *vm;
    if (victims == NULL) {
        return; /* the next step tries again */
    }
    while ((vm = state_vm_of_group(step->state, group, &cursor)) != NULL &&
           found < alive) {
        if (state_vm_may_go(step->state, group, vm)) {
            victims[found++] = (struct victim){vm, worth_of(step->state, vm)};
        }
    }
    qsort(victims, found, sizeof(*victims), by_worth);
    (void)snprintf(reason, sizeof(reason), "the group wants %u VM%s",
                   group->status.desired, plural_s(group->status.desired));
    for (uint32_t i = 0; i < count && i < found && i < GROUP_CHANGES_MAX; i++) {
        evict(step, victims[i].vm, reason);
    }
}

/* A group's VMs that are on their way out keep their places in it until they are gone:
 * apply admits no more than `desired`, those included. Nor does another go instead of one
 * that may not, for that one may not come back. */
static void reconcile(struct step *step, const struct group *group)
{
    uint32_t desired = group->status.deleting ? 0 : group->status.desired;
    uint32_t there = state_group_vms(step->state, group);
    if (there < desired) {
        admit(step, group, desired - there);
    }
    if (there <= desired || (step->hosts_failing && !group->status.deleting)) {
        return;
    }
    uint32_t alive = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_of_group(step->state, group, &cursor)) != NULL) {
        alive += state_vm_may_go(step->state, group, vm) ? 1U : 0U;
    }
    if (alive > desired) {
        shrink(step, group, alive, alive - desired);
    }
}

void step_groups(struct step *step)
{
    size_t cursor = 0;
    const struct group *group;
    while (!step_full(step) &&
           (group = state_next(step->state, KIND_GROUP, &cursor)) != NULL) {
        reconcile(step, group);
    }
}

void step_autoscale(struct step *step)
{
    size_t cursor = 0;
    const struct group *group;
    while (!step_full(step) &&
           (group = state_next(step->state, KIND_GROUP, &cursor)) != NULL) {
        struct autoscale_view view;
        char reason[AUTOSCALE_REASON_SIZE];
        if (group->spec.autoscale.max == 0 || group->status.deleting) {
            continue;
        }
        autoscale_look(step->loads, step->state, group, step->now_ns, &view);
        uint32_t desired =
            autoscaler_decide(step->autoscaler, group, &view, !step->hosts_failing,
                              step->now_ns, step->wall_ms, reason);
        struct command *command =
            desired != group->status.desired ? step_add(step, COMMAND_GROUP_SCALE) : NULL;
        if (command != NULL) {
            memcpy(command->body.group_scale.tenant, group->meta.tenant, NAME_SIZE);
            memcpy(command->body.group_scale.group, group->meta.name, NAME_SIZE);
            command->body.group_scale.desired = desired;
            (void)record_set_text(&command->body.group_scale.reason, reason);
        }
    }
}
