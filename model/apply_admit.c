#include "base/plural.h"
#include "base/require.h"
#include "model/state_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int admit_check_group(struct apply *apply,
                             const struct cmd_admit_vm *admit,
                             const struct entry *group)
{
    if (group == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "group %s of tenant %s does not exist", admit->group,
                            admit->tenant);
    }
    const struct group *owner = group_of(group);
    if (owner->status.deleting) {
        return apply_refuse(apply, BERTH_EPHASE, "group %s is being deleted",
                            admit->group);
    }
    if (strcmp(owner->spec.template_ref.name, admit->template_name) != 0) {
        return apply_refuse(
            apply, BERTH_EINVALID, "VMs of group %s are made from template %s, not %s",
            admit->group, owner->spec.template_ref.name, admit->template_name);
    }
    if (group->owner.vms.count >= owner->status.desired) {
        return apply_refuse(
            apply, BERTH_ECONFLICT, "group %s has the %" PRIu32 " VM%s it wants already",
            admit->group, owner->status.desired, plural_s(owner->status.desired));
    }
    return 0;
}

static struct vm *vm_build(const struct cmd_admit_vm *admit,
                           const struct template *template)
{
    struct vm *vm = object_new(KIND_VM);
    REQUIRE(vm != NULL);
    (void)snprintf(vm->meta.name, sizeof(vm->meta.name), "%s", admit->name);
    (void)snprintf(vm->meta.tenant, sizeof(vm->meta.tenant), "%s", admit->tenant);
    (void)snprintf(vm->spec.group, sizeof(vm->spec.group), "%s", admit->group);
    (void)snprintf(vm->spec.template_ref.name, sizeof(vm->spec.template_ref.name), "%s",
                   admit->template_name);
    vm->spec.power = admit->power;
    record_fini(&machine_spec_record, &vm->spec.machine);
    int r = record_copy(&machine_spec_record, &template->spec, &vm->spec.machine);
    REQUIRE(r == 0);
    apply_take_labels(&vm->meta, &admit->labels);
    vm->status.template_version = template->status.version;
    return vm;
}

/* Its NICs have their MACs from the uid, which it has only now. */
static void vm_add_nics(struct vm *vm, uint64_t uid)
{
    const struct nic_spec_list *nics = &vm->spec.machine.nics;
    struct record_list list = {0};
    for (uint32_t i = 0; i < nics->count; i++) {
        struct vm_nic *nic = record_list_add(&vm_nic_record, &list);
        REQUIRE(nic != NULL);
        memcpy(nic->name, nics->items[i].name, sizeof(nic->name));
        memcpy(nic->network, nics->items[i].network, sizeof(nic->network));
        nic->mac = vm_mac(uid, i);
    }
    vm->status.nics.items = list.items;
    vm->status.nics.count = list.count;
}

/* The next name a scheduler should try: one above the highest "GROUP-N" seen. */
static void group_count_index(struct group *group, const char *vm_name)
{
    size_t length = strlen(group->meta.name);
    uint32_t next = group->status.next_index;
    char *end = NULL;
    if (strncmp(vm_name, group->meta.name, length) == 0 && vm_name[length] == '-' &&
        vm_name[length + 1] >= '0' && vm_name[length + 1] <= '9') {
        unsigned long long index = strtoull(vm_name + length + 1, &end, 10);
        if (*end == '\0' && index >= next && index < UINT32_MAX) {
            group->status.next_index = (uint32_t)index + 1;
        }
    }
}

static int admit_check(struct apply *apply,
                       const struct cmd_admit_vm *admit,
                       struct entry **ret_tenant,
                       const struct template **ret_template,
                       struct entry **ret_group)
{
    int r = apply_find_tenant(apply, admit->tenant, ret_tenant);
    if (r != 0) {
        return r;
    }
    if (state_entry_named(apply->state, KIND_VM, admit->tenant, admit->name) != NULL) {
        return apply_refuse(apply, BERTH_EEXISTS, "vm %s of tenant %s exists already",
                            admit->name, admit->tenant);
    }
    if (state_count(apply->state, KIND_VM) >= STATE_VMS_MAX) {
        return apply_refuse(apply, BERTH_EFULL, "the cluster has %d VMs already",
                            STATE_VMS_MAX);
    }
    *ret_template =
        state_get(apply->state, KIND_TEMPLATE, admit->tenant, admit->template_name);
    if (*ret_template == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "template %s of tenant %s does not exist",
                            admit->template_name, admit->tenant);
    }
    if (admit->group[0] != '\0') {
        *ret_group =
            state_entry_named(apply->state, KIND_GROUP, admit->tenant, admit->group);
        r = admit_check_group(apply, admit, *ret_group);
    }
    if (r == 0) {
        struct usage more = machine_usage(&(*ret_template)->spec);
        r = quota_check(apply, *ret_tenant, &more);
    }
    return r;
}

int apply_admit_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_admit_vm *admit = &command->body.admit_vm;
    struct entry *tenant = NULL;
    struct entry *group = NULL;
    const struct template *template = NULL;
    int r = admit_check(apply, admit, &tenant, &template, &group);
    if (r != 0) {
        return r;
    }
    struct vm *vm = vm_build(admit, template);
    r = apply_check_object(apply, KIND_VM, vm);
    if (r != 0) {
        object_free(KIND_VM, vm);
        return r;
    }
    vm_add_nics(vm, apply->state->next_uid);
    vm->status.phase = vm->spec.power == POWER_ON ? PHASE_PENDING : PHASE_STOPPED;
    vm->status.pending_wall_ms = vm->spec.power == POWER_ON ? command->wall_ms : 0;
    struct usage more = machine_usage(&vm->spec.machine);
    struct entry *entry = apply_create(apply, KIND_VM, vm);
    apply->result->uid = vm->meta.uid;
    quota_take(apply, tenant, &more);
    apply_changed(apply, entry,
                  &(struct change_note){.verb = "created",
                                        .phase_from = vm->status.phase,
                                        .phase_to = vm->status.phase,
                                        .created = true});
    if (group != NULL) {
        uint32_t before = group_of(group)->status.next_index;
        group_count_index(group_of(group), vm->meta.name);
        if (group_of(group)->status.next_index != before) {
            apply_changed(apply, group, &(struct change_note){0});
        }
    }
    return 0;
}
