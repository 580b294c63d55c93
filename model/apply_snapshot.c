#include "base/parse_number.h"
#include "base/require.h"
#include "model/apply_vm.h"
#include "model/object_rules.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REASON_SIZE 256
#define STEM_MAX    50 /* bytes of the VM's name in one that is made up */

/* ---- what all rows share ---- */

struct usage snapshot_usage(const struct snapshot *snapshot)
{
    return (struct usage){.disk_bytes = snapshot->status.bytes, .snapshots = 1};
}

static struct entry *tenant_of_snapshot(struct apply *apply, const struct entry *snapshot)
{
    struct entry *tenant =
        state_entry_named(apply->state, KIND_TENANT, "", meta_of(snapshot)->tenant);
    REQUIRE(tenant != NULL); /* it cannot go before its snapshots */
    return tenant;
}

/* Where it is and what it takes there from now on: never more than before. */
static void
move_to(struct apply *apply, struct entry *snapshot, struct entry *host, uint64_t bytes)
{
    uint64_t before = snapshot_of(snapshot)->status.bytes;
    REQUIRE(bytes <= before);
    if (bytes < before) {
        const struct usage less = {.disk_bytes = before - bytes};
        quota_give(apply, tenant_of_snapshot(apply, snapshot), &less);
    }
    snapshot_entry_set_host(snapshot, host, bytes);
}

static void snapshot_move(struct apply *apply,
                          struct entry *snapshot,
                          enum snapshot_phase phase,
                          const char *reason)
{
    struct snapshot_status *status = &snapshot_of(snapshot)->status;
    status->phase = phase;
    int r = record_set_text(&status->reason, reason);
    REQUIRE(r == 0);
    apply_changed(
        apply, snapshot,
        &(struct change_note){.verb = snapshot_phase_names[phase], .reason = reason});
}

/* A VM that waits to begin from it waits no longer. */
static void
release_vm(struct apply *apply, const struct entry *snapshot, const char *reason)
{
    struct entry *vm =
        state_entry(apply->state, KIND_VM, snapshot_of(snapshot)->spec.vm_uid);
    if (vm == NULL || vm_of(vm)->status.restore != meta_of(snapshot)->uid) {
        return;
    }
    enum phase phase = vm_of(vm)->status.phase;
    vm_restore_end(vm_of(vm));
    vm_set_reason(vm_of(vm), reason);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "not restored",
                                        .reason = reason,
                                        .phase_from = phase,
                                        .phase_to = phase});
}

/* Its data are nowhere any more. */
static void snapshot_end(struct apply *apply,
                         struct entry *snapshot,
                         enum snapshot_phase phase,
                         const char *reason)
{
    char text[REASON_SIZE];
    (void)snprintf(text, sizeof(text), "snapshot %s is %s", meta_of(snapshot)->name,
                   snapshot_phase_names[phase]);
    move_to(apply, snapshot, NULL, 0);
    snapshot_move(apply, snapshot, phase, reason);
    const struct entry *vm =
        state_entry(apply->state, KIND_VM, snapshot_of(snapshot)->spec.vm_uid);
    if (vm != NULL && vm->vm.host == NULL) {
        release_vm(apply, snapshot, text);
    } /* else its host says what becomes of it */
}

static void
snapshot_remove(struct apply *apply, struct entry *snapshot, const char *reason)
{
    char text[REASON_SIZE];
    (void)snprintf(text, sizeof(text), "snapshot %s is gone", meta_of(snapshot)->name);
    const struct usage less = snapshot_usage(snapshot_of(snapshot));
    quota_give(apply, tenant_of_snapshot(apply, snapshot), &less);
    release_vm(apply, snapshot, text);
    apply_removed(apply, snapshot,
                  &(struct change_note){.verb = "deleted", .reason = reason});
}

/* Has its host remove it; at once where that one has nothing of it, or is not there to
 * ask: a host that comes back removes what it is not told of. */
static void snapshot_drop(struct apply *apply, struct entry *snapshot, const char *reason)
{
    const struct entry *host = snapshot->snapshot.host;
    if (host == NULL || host_of(host)->status.phase == HOST_PHASE_LOST) {
        snapshot_remove(apply, snapshot, reason);
    } else if (snapshot_of(snapshot)->status.phase != SNAPSHOT_DELETING) {
        snapshot_move(apply, snapshot, SNAPSHOT_DELETING, reason);
    }
}

/* ---- make ---- */

static int check_engine(struct apply *apply, const struct vm *vm)
{
    enum engine engine = vm->status.engine;
    if (engine == ENGINE_AUTO) {
        return apply_refuse(apply, BERTH_EPHASE,
                            "vm %s: its host has not said yet which engine runs it: try "
                            "again",
                            vm->meta.name);
    }
    return engine == ENGINE_KVM || engine == ENGINE_FAKE
               ? 0
               : apply_refuse(apply, BERTH_EUNSUPPORTED,
                              "vm %s runs under %s: only the engine kvm makes snapshots",
                              vm->meta.name, engine_names[engine]);
}

static int check_vm(struct apply *apply, const struct entry *entry)
{
    const struct vm *vm = vm_of(entry);
    enum phase phase = vm->status.phase;
    if (vm->spec.group[0] != '\0') {
        return apply_refuse(apply, BERTH_EUNSUPPORTED,
                            "vm %s is of group %s: another takes its work at any time, "
                            "so it has no snapshots",
                            vm->meta.name, vm->spec.group);
    }
    if (phase == PHASE_LOST) {
        return apply_refuse_while_lost(apply, entry);
    }
    if (phase != PHASE_RUNNING && phase != PHASE_READY) {
        return apply_refuse_phase(apply, entry, "be saved in a snapshot");
    }
    return check_engine(apply, vm);
}

static int check_host_room(struct apply *apply, const struct entry *host, uint64_t bytes)
{
    uint64_t have = host_of(host)->status.disk_bytes;
    uint64_t used = host->owner.disk_bytes;
    if (host->owner.snapshots.count >= HOST_SNAPSHOTS_MAX) {
        return apply_refuse(apply, BERTH_EFULL, "host %s has %d snapshots already",
                            meta_of(host)->name, HOST_SNAPSHOTS_MAX);
    }
    if (have == 0 || (used <= have && bytes <= have - used)) { /* 0: not known */
        return 0;
    }
    char bytes_text[NUMBER_TEXT_SIZE];
    char used_text[NUMBER_TEXT_SIZE];
    char have_text[NUMBER_TEXT_SIZE];
    format_bytes(bytes, bytes_text);
    format_bytes(used, used_text);
    format_bytes(have, have_text);
    return apply_refuse(apply, BERTH_ENOCAPACITY,
                        "host %s: disk %s of %s promised, a snapshot may take %s more "
                        "(memory and disks)",
                        meta_of(host)->name, used_text, have_text, bytes_text);
}

/* The name that was asked for, or the VM's with the first number that is free. */
static int choose_name(struct apply *apply,
                       const struct metadata *vm,
                       const char *wanted,
                       char ret_name[NAME_SIZE])
{
    uint32_t number = 0;
    (void)snprintf(ret_name, NAME_SIZE, "%s", wanted);
    while (ret_name[0] == '\0' ||
           (wanted[0] == '\0' && state_entry_named(apply->state, KIND_SNAPSHOT,
                                                   vm->tenant, ret_name) != NULL)) {
        (void)snprintf(ret_name, NAME_SIZE, "%.*s-%" PRIu32, STEM_MAX, vm->name,
                       ++number);
    }
    const struct entry *there =
        state_entry_named(apply->state, KIND_SNAPSHOT, vm->tenant, ret_name);
    if (there != NULL) {
        return apply_refuse(apply, BERTH_EEXISTS,
                            "snapshot %s of tenant %s exists already, of vm %s", ret_name,
                            vm->tenant, snapshot_of(there)->spec.vm);
    }
    return name_valid(ret_name)
               ? 0
               : apply_refuse(apply, BERTH_EINVALID,
                              "name: wanted 1-63 of a-z, 0-9 and -, starting with a "
                              "letter, not ending with -");
}

int apply_snapshot_make(struct apply *apply, const struct command *command)
{
    const struct cmd_snapshot_make *make = &command->body.snapshot_make;
    struct entry *vm = NULL;
    struct entry *tenant = NULL;
    char name[NAME_SIZE] = "";
    uint64_t bytes = 0;
    int r = apply_find_changeable(apply, make->vm, make->expected_revision, &vm);
    r = r == 0 ? check_vm(apply, vm) : r;
    r = r == 0 ? choose_name(apply, meta_of(vm), make->name, name) : r;
    r = r == 0 ? apply_check_room(apply, KIND_SNAPSHOT) : r;
    if (r == 0) {
        bytes = machine_snapshot_bytes(&vm_of(vm)->spec.machine);
        r = check_host_room(apply, vm->vm.host, bytes);
    }
    r = r == 0 ? apply_find_tenant(apply, meta_of(vm)->tenant, &tenant) : r;
    const struct usage more = {.disk_bytes = bytes, .snapshots = 1};
    r = r == 0 ? quota_check(apply, tenant, &more) : r;
    if (r != 0) {
        return r;
    }
    struct snapshot *snapshot = object_new(KIND_SNAPSHOT);
    REQUIRE(snapshot != NULL);
    memcpy(snapshot->meta.name, name, NAME_SIZE);
    memcpy(snapshot->meta.tenant, meta_of(vm)->tenant, NAME_SIZE);
    memcpy(snapshot->spec.vm, meta_of(vm)->name, NAME_SIZE);
    snapshot->spec.vm_uid = make->vm;
    snapshot->status.host = vm_of(vm)->status.host;
    snapshot->status.epoch = vm_of(vm)->status.epoch;
    snapshot->status.bytes = bytes;
    struct entry *entry = apply_create(apply, KIND_SNAPSHOT, snapshot);
    apply->result->uid = snapshot->meta.uid;
    quota_take(apply, tenant, &more);
    apply_changed(apply, entry, &(struct change_note){.verb = "making", .created = true});
    return 0;
}

/* ---- what its host says ---- */

static int check_step(struct apply *apply,
                      const struct entry *entry,
                      const struct cmd_snapshot_step *step)
{
    const struct snapshot *snapshot = snapshot_of(entry);
    if (step->host != snapshot->status.host || step->epoch != snapshot->status.epoch) {
        return apply_refuse(apply, BERTH_ESTALE,
                            "snapshot %s is of epoch %" PRIu64 " on host uid %" PRIu64
                            ", not of %" PRIu64 " on %" PRIu64,
                            snapshot->meta.name, snapshot->status.epoch,
                            snapshot->status.host, step->epoch, step->host);
    }
    return 0;
}

static void step_making(struct apply *apply,
                        struct entry *snapshot,
                        const struct cmd_snapshot_step *step)
{
    struct snapshot_status *status = &snapshot_of(snapshot)->status;
    switch (step->phase) {
    case SNAPSHOT_MAKING:
        if (status->permille != step->permille) {
            status->permille = step->permille;
            apply_changed(apply, snapshot, &(struct change_note){0});
        }
        break;
    case SNAPSHOT_READY:
        status->permille = 0;
        status->at_wall_ms =
            step->at_wall_ms != 0 ? step->at_wall_ms : apply->command->wall_ms;
        move_to(apply, snapshot, snapshot->snapshot.host,
                step->bytes < status->bytes ? step->bytes : status->bytes);
        snapshot_move(apply, snapshot, SNAPSHOT_READY, step->reason);
        break;
    case SNAPSHOT_FAILED:
    case SNAPSHOT_LOST:
        status->permille = 0;
        snapshot_end(apply, snapshot, SNAPSHOT_FAILED, step->reason);
        break;
    default: /* it is not to be removed */
        break;
    }
}

int apply_snapshot_step(struct apply *apply, const struct command *command)
{
    const struct cmd_snapshot_step *step = &command->body.snapshot_step;
    struct entry *snapshot = state_entry(apply->state, KIND_SNAPSHOT, step->snapshot);
    if (snapshot == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "there is no snapshot with uid %" PRIu64, step->snapshot);
    }
    int r = check_step(apply, snapshot, step);
    if (r != 0) {
        return r;
    }
    apply->result->uid = step->snapshot;
    switch (snapshot_of(snapshot)->status.phase) {
    case SNAPSHOT_MAKING:
        step_making(apply, snapshot, step);
        break;
    case SNAPSHOT_READY:
        if (step->phase == SNAPSHOT_LOST) {
            snapshot_end(apply, snapshot, SNAPSHOT_LOST, step->reason);
        }
        break;
    case SNAPSHOT_DELETING:
        if (step->phase == SNAPSHOT_LOST) {
            snapshot_remove(apply, snapshot, "its host has removed it");
        }
        break;
    default: /* of these no host has anything */
        break;
    }
    return 0;
}

/* ---- restore ---- */

static int check_restore(struct apply *apply,
                         const struct entry *vm,
                         const struct cmd_restore_vm *restore,
                         const struct entry **ret_snapshot)
{
    const struct entry *entry =
        state_entry(apply->state, KIND_SNAPSHOT, restore->snapshot);
    if (entry == NULL || snapshot_of(entry)->spec.vm_uid != restore->vm) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "vm %s has no snapshot with uid %" PRIu64, meta_of(vm)->name,
                            restore->snapshot);
    }
    const struct snapshot *snapshot = snapshot_of(entry);
    if (snapshot->status.phase != SNAPSHOT_READY) {
        return apply_refuse(
            apply, BERTH_EPHASE, "snapshot %s is %s%s%s: wanted ready",
            snapshot->meta.name, snapshot_phase_names[snapshot->status.phase],
            snapshot->status.reason != NULL ? ": " : "",
            snapshot->status.reason != NULL ? snapshot->status.reason : "");
    }
    const struct host *host = host_of(entry->snapshot.host);
    if (host->status.phase != HOST_PHASE_READY || host->spec.drain) {
        bool drained = host->status.phase == HOST_PHASE_READY;
        return apply_refuse(
            apply, BERTH_EPHASE,
            "snapshot %s is on host %s, which is %s: a VM starts from it there and "
            "nowhere else%s%s",
            snapshot->meta.name, host->meta.name,
            drained ? "drained" : host_phase_names[host->status.phase],
            drained ? "; next: berth undrain " : "", drained ? host->meta.name : "");
    }
    if (vm_of(vm)->status.phase == PHASE_LOST) {
        return apply_refuse_while_lost(apply, vm);
    }
    *ret_snapshot = entry;
    return 0;
}

int apply_restore_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_restore_vm *restore = &command->body.restore_vm;
    struct entry *vm = NULL;
    const struct entry *snapshot = NULL;
    int r = apply_find_changeable(apply, restore->vm, restore->expected_revision, &vm);
    r = r == 0 ? check_restore(apply, vm, restore, &snapshot) : r;
    r = r == 0 ? apply_check_place_known(apply, vm) : r;
    if (r != 0) {
        return r;
    }
    REQUIRE(snapshot != NULL);
    struct vm_status *status = &vm_of(vm)->status;
    char reason[REASON_SIZE];
    (void)snprintf(reason, sizeof(reason), "goes back to snapshot %s",
                   meta_of(snapshot)->name);
    vm_of(vm)->spec.power = POWER_ON;
    status->restore = restore->snapshot;
    status->restore_epoch = status->epoch;
    status->restore_lazy = restore->lazy;
    status->restarts = 0;
    status->retry_wall_ms = 0;
    if (status->phase == PHASE_STOPPING && status->intent == STOP_INTENT_STOP) {
        status->intent = STOP_INTENT_RESTART;
    }
    r = vm_evict(apply, vm, STOP_INTENT_RESTART, reason);
    REQUIRE(r == 0); /* it is not lost */
    enum phase phase = status->phase;
    vm_set_reason(vm_of(vm), reason);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "restoring",
                                        .reason = restore->reason,
                                        .phase_from = phase,
                                        .phase_to = phase});
    return 0;
}

/* ---- the ends of a snapshot ---- */

int snapshot_delete(struct apply *apply, struct entry *snapshot)
{
    const struct entry *vm =
        state_entry(apply->state, KIND_VM, snapshot_of(snapshot)->spec.vm_uid);
    if (vm != NULL && vm_of(vm)->status.restore == meta_of(snapshot)->uid) {
        return apply_refuse(apply, BERTH_EINUSE,
                            "vm %s is about to start from snapshot %s", meta_of(vm)->name,
                            meta_of(snapshot)->name);
    }
    snapshot_drop(apply, snapshot, "deleted by its user");
    return 0;
}

void snapshots_delete_of(struct apply *apply, const struct entry *vm)
{
    const struct table *table = &apply->state->tables[KIND_SNAPSHOT];
    struct entry_set found = {0};
    for (uint32_t i = 0; vm->vm.snapshots > 0 && i < table->count; i++) {
        if (snapshot_of(table->items[i])->spec.vm_uid == meta_of(vm)->uid) {
            entry_set_add(&found, table->items[i]);
        }
    }
    struct entry_set sorted = entry_set_sorted(&found);
    for (uint32_t i = 0; i < sorted.count; i++) {
        snapshot_drop(apply, sorted.items[i], "its VM is deleted");
    }
    entry_set_fini(&sorted);
    entry_set_fini(&found);
}

void snapshots_lose(struct apply *apply, struct entry *host, const char *reason)
{
    struct entry_set here = entry_set_sorted(&host->owner.snapshots);
    for (uint32_t i = 0; i < here.count; i++) {
        enum snapshot_phase phase = snapshot_of(here.items[i])->status.phase;
        if (phase == SNAPSHOT_MAKING) {
            snapshot_of(here.items[i])->status.permille = 0;
            snapshot_end(apply, here.items[i], SNAPSHOT_FAILED, reason);
        } else if (phase == SNAPSHOT_DELETING) {
            snapshot_remove(apply, here.items[i], reason);
        }
    }
    entry_set_fini(&here);
}

void snapshots_forget(struct apply *apply, struct entry *host, const char *reason)
{
    struct entry_set here = entry_set_sorted(&host->owner.snapshots);
    for (uint32_t i = 0; i < here.count; i++) {
        snapshot_remove(apply, here.items[i], reason);
    }
    entry_set_fini(&here);
}

uint32_t snapshots_kept(const struct entry *host)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < host->owner.snapshots.count; i++) {
        kept +=
            snapshot_of(host->owner.snapshots.items[i])->status.phase != SNAPSHOT_DELETING
                ? 1U
                : 0U;
    }
    return kept;
}
