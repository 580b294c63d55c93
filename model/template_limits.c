/* VMs follow the rate limits of their template, and the number of CPUs up to the maximum
 * that they were made with.
 *
 * All else of a VM's machine stays as the template was when the VM was made: it would
 * take another machine. Limits do not, so they are those of the template as it is, for
 * each disk and NIC that both have by that name, and VMs that run take them on. Nor do
 * CPUs that a VM's machine has places for; its maximum was counted when it was made, so
 * nothing is counted anew. */
#include "model/state_internal.h"

#include <string.h>

static const struct template *template_of(const struct entry *entry)
{
    return entry->object;
}

static bool is_made_of(const struct entry *vm, const struct entry *template)
{
    return strcmp(meta_of(vm)->tenant, meta_of(template)->tenant) == 0 &&
           strcmp(vm_of(vm)->spec.template_ref.name, meta_of(template)->name) == 0;
}

/* Flat records: true when that is news. */
static bool disk_follow(const struct disk_limit *from, struct disk_limit *to)
{
    bool same = record_equal(&disk_limit_record, from, to);
    *to = *from;
    return !same;
}

static bool nic_follow(const struct nic_limit *from, struct nic_limit *to)
{
    bool same = record_equal(&nic_limit_record, from, to);
    *to = *from;
    return !same;
}

static bool disks_follow(const struct disk_spec_list *from, struct disk_spec_list *to)
{
    bool news = false;
    for (uint32_t i = 0; i < to->count; i++) {
        for (uint32_t k = 0; k < from->count; k++) {
            if (strcmp(from->items[k].name, to->items[i].name) == 0) {
                news = disk_follow(&from->items[k].limit, &to->items[i].limit) || news;
            }
        }
    }
    return news;
}

static bool nics_follow(const struct nic_spec_list *from, struct nic_spec_list *to)
{
    bool news = false;
    for (uint32_t i = 0; i < to->count; i++) {
        for (uint32_t k = 0; k < from->count; k++) {
            if (strcmp(from->items[k].name, to->items[i].name) == 0) {
                news = nic_follow(&from->items[k].limit, &to->items[i].limit) || news;
            }
        }
    }
    return news;
}

static bool cpus_follow(const struct cpu_spec *from, struct cpu_spec *to)
{
    const uint32_t count = from->count < to->max ? from->count : to->max;
    bool news = to->max != 0 && count != to->count;
    to->count = news ? count : to->count;
    return news;
}

static void
vm_follow(struct apply *apply, struct entry *entry, const struct template *template)
{
    struct vm *vm = vm_of(entry);
    bool disks = disks_follow(&template->spec.disks, &vm->spec.machine.disks);
    bool nics = nics_follow(&template->spec.nics, &vm->spec.machine.nics);
    bool cpus = cpus_follow(&template->spec.cpu, &vm->spec.machine.cpu);
    if (!disks && !nics && !cpus) {
        return;
    }
    if (record_equal(&machine_spec_record, &template->spec, &vm->spec.machine)) {
        vm->status.template_version = template->status.version;
    }
    apply_changed(apply, entry,
                  &(struct change_note){.verb = cpus ? "CPUs changed" : "limits changed",
                                        .reason = "as its template's were",
                                        .phase_from = vm->status.phase,
                                        .phase_to = vm->status.phase});
}

void template_spread_limits(struct apply *apply, const struct entry *template)
{
    const struct table *table = &apply->state->tables[KIND_VM];
    struct entry_set made = {0};
    if (apply->state->level < LEVEL_LIMITS) {
        return; /* there are none */
    }
    for (uint32_t i = 0; i < table->count; i++) {
        if (is_made_of(table->items[i], template)) {
            entry_set_add(&made, table->items[i]);
        }
    }
    struct entry_set sorted = entry_set_sorted(&made);
    for (uint32_t i = 0; i < sorted.count; i++) {
        vm_follow(apply, sorted.items[i], template_of(template));
    }
    entry_set_fini(&sorted);
    entry_set_fini(&made);
}
