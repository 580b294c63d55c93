#include "base/parse_number.h"
#include "base/require.h"
#include "model/state_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A VM that was ready this long has recovered: its restarts count from zero again. */
#define RESTART_RESET_MS  (UINT64_C(10) * 60 * 1000)
#define BACKOFF_SHIFT_MAX 20 /* beyond it every back-off is at its maximum */
#define BIT(phase)        (UINT32_C(1) << (phase))

/* ---- common checks ---- */

static int find_vm(struct apply *apply, uint64_t uid, struct entry **ret_vm)
{
    struct entry *vm = state_entry(apply->state, KIND_VM, uid);
    if (vm == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND, "there is no VM with uid %" PRIu64,
                            uid);
    }
    *ret_vm = vm;
    return 0;
}

static int check_epoch(struct apply *apply, const struct entry *vm, uint64_t epoch)
{
    uint64_t now = vm_of(vm)->status.epoch;
    if (epoch != now) {
        return apply_refuse(apply, BERTH_ESTALE,
                            "vm %s is at epoch %" PRIu64 ", not %" PRIu64,
                            meta_of(vm)->name, now, epoch);
    }
    return 0;
}

static int
find_vm_at(struct apply *apply, uint64_t uid, uint64_t epoch, struct entry **ret_vm)
{
    int r = find_vm(apply, uid, ret_vm);
    return r == 0 ? check_epoch(apply, *ret_vm, epoch) : r;
}

static int refuse_phase(struct apply *apply, const struct entry *vm, const char *what)
{
    return apply_refuse(apply, BERTH_EPHASE, "vm %s is %s: it cannot %s",
                        meta_of(vm)->name, phase_names[vm_of(vm)->status.phase], what);
}

static void set_reason(struct vm *vm, const char *reason)
{
    int r = record_set_text(&vm->status.reason, reason);
    REQUIRE(r == 0);
}

/* ---- moves ---- */

static void stamp_once(uint64_t *stamp_ms, uint64_t at_wall_ms)
{
    if (*stamp_ms == 0) {
        *stamp_ms = at_wall_ms;
    }
}

/* The boot timeline: one value per step of the present life, from pending on. */
static void stamp(struct vm_status *status, enum phase phase, uint64_t at_wall_ms)
{
    switch (phase) {
    case PHASE_PENDING:
        status->pending_wall_ms = at_wall_ms;
        status->placed_wall_ms = 0;
        status->starting_wall_ms = 0;
        status->running_wall_ms = 0;
        status->ready_wall_ms = 0;
        break;
    case PHASE_PLACED:
        stamp_once(&status->placed_wall_ms, at_wall_ms);
        break;
    case PHASE_STARTING:
        stamp_once(&status->starting_wall_ms, at_wall_ms);
        break;
    case PHASE_RUNNING:
        stamp_once(&status->running_wall_ms, at_wall_ms);
        break;
    case PHASE_READY:
        stamp_once(&status->ready_wall_ms, at_wall_ms);
        break;
    default:
        break;
    }
}

void vm_move(struct apply *apply,
             struct entry *vm,
             enum phase phase,
             const char *reason,
             uint64_t at_wall_ms)
{
    struct vm_status *status = &vm_of(vm)->status;
    enum phase from = status->phase;
    REQUIRE(vm_phase_allowed(from, phase));
    REQUIRE_IF(vm_phase_on_host(phase), vm->vm.host != NULL);
    REQUIRE_IF(phase != PHASE_LOST && !vm_phase_on_host(phase), vm->vm.host == NULL);
    status->phase = phase;
    set_reason(vm_of(vm), reason);
    stamp(status, phase, at_wall_ms != 0 ? at_wall_ms : apply->command->wall_ms);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = phase_names[phase],
                                        .reason = reason,
                                        .phase_from = from,
                                        .phase_to = phase});
}

void vm_remove(struct apply *apply, struct entry *vm, const char *reason)
{
    struct entry *tenant =
        state_entry_named(apply->state, KIND_TENANT, "", meta_of(vm)->tenant);
    REQUIRE(tenant != NULL); /* it cannot go before its VMs */
    struct usage less = machine_usage(&vm_of(vm)->spec.machine);
    quota_give(apply, tenant, &less);
    struct entry *group = vm->vm.group;
    uint32_t phase = vm_of(vm)->status.phase;
    apply_removed(
        apply, vm,
        &(struct change_note){
            .verb = "deleted", .reason = reason, .phase_from = phase, .phase_to = phase});
    if (group != NULL && group_of(group)->status.deleting &&
        group->owner.vms.count == 0) {
        apply_removed(
            apply, group,
            &(struct change_note){.verb = "deleted", .reason = "its last VM is gone"});
    }
}

/* The end of a way out whose process is gone: what the intent asked for. Removes the VM
 * when the intent is to delete it. */
static void settle_intent(struct apply *apply,
                          struct entry *vm,
                          enum stop_intent intent,
                          const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    status->intent = STOP_INTENT_NONE;
    status->restarts = 0;
    status->retry_wall_ms = 0;
    if (intent == STOP_INTENT_DELETE) {
        vm_remove(apply, vm, reason);
        return;
    }
    if (intent == STOP_INTENT_STOP) {
        vm_of(vm)->spec.power = POWER_OFF;
    }
    if (status->phase != PHASE_STOPPED) {
        vm_move(apply, vm, PHASE_STOPPED, reason, 0);
    }
    if (intent == STOP_INTENT_MOVE || intent == STOP_INTENT_RESTART) {
        vm_move(apply, vm, PHASE_PENDING, reason, 0);
    }
}

void vm_lose(struct apply *apply, struct entry *vm, const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    enum stop_intent intent = status->intent;
    vm_entry_set_target(vm, NULL);
    if (intent == STOP_INTENT_DELETE) {
        vm_entry_set_host(apply->state, vm, NULL);
        vm_remove(apply, vm, reason);
        return;
    }
    vm_move(apply, vm, PHASE_LOST, reason, 0);
    if (vm_of(vm)->spec.machine.lifecycle.host_failure == HOST_FAILURE_WAIT) {
        return; /* it may still run there: host, epoch and intent stay */
    }
    vm_release(apply, vm, reason);
}

void vm_release(struct apply *apply, struct entry *vm, const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    REQUIRE(status->phase == PHASE_LOST);
    enum stop_intent intent = status->intent;
    struct entry *host = vm->vm.host;
    uint64_t disk_epoch = vm_status_has_run(status) ? status->epoch : status->disk_epoch;
    bool stay = intent == STOP_INTENT_STOP && disk_epoch != 0;
    vm_entry_set_host(apply->state, vm, NULL);
    vm_entry_keep(vm, stay ? host : NULL, stay ? disk_epoch : 0);
    status->intent = STOP_INTENT_NONE;
    status->retry_wall_ms = 0;
    if (intent == STOP_INTENT_STOP) {
        vm_of(vm)->spec.power = POWER_OFF;
    }
    vm_move(apply, vm, intent == STOP_INTENT_STOP ? PHASE_STOPPED : PHASE_PENDING, reason,
            0);
}

void vm_disks_lose(struct apply *apply, struct entry *vm, const char *reason)
{
    enum phase phase = vm_of(vm)->status.phase;
    vm_entry_keep(vm, NULL, 0);
    set_reason(vm_of(vm), reason);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "disks lost",
                                        .reason = reason,
                                        .phase_from = phase,
                                        .phase_to = phase});
}

void vm_migration_end(struct apply *apply, struct entry *vm, const char *reason)
{
    vm_entry_set_target(vm, NULL);
    vm_move(apply, vm, PHASE_RUNNING, reason, 0);
}

/* ---- the way out ---- */

/* It has no process anywhere. */
static int evict_nowhere(struct apply *apply,
                         struct entry *vm,
                         enum stop_intent intent,
                         const char *reason)
{
    enum phase phase = vm_of(vm)->status.phase;
    bool off = vm_of(vm)->spec.power == POWER_OFF;
    if (intent == STOP_INTENT_STOP && phase == PHASE_STOPPED) {
        if (!off) { /* it had ended by itself; now it is to stay so */
            vm_of(vm)->spec.power = POWER_OFF;
            set_reason(vm_of(vm), reason);
            apply_changed(apply, vm,
                          &(struct change_note){
                              .reason = reason, .phase_from = phase, .phase_to = phase});
        }
        return 0;
    }
    if (intent == STOP_INTENT_MOVE || intent == STOP_INTENT_RESTART) {
        if (phase != PHASE_PENDING && !off) {
            vm_of(vm)->status.retry_wall_ms = 0;
            vm_move(apply, vm, PHASE_PENDING, reason, 0);
        }
        return 0;
    }
    settle_intent(apply, vm, intent, reason);
    return 0;
}

/* Deletion wins over stopping, stopping over moving, moving over starting again here. */
static enum stop_intent stronger(enum stop_intent a, enum stop_intent b)
{
    static const unsigned strength[] = {
        [STOP_INTENT_NONE] = 0, [STOP_INTENT_RESTART] = 1, [STOP_INTENT_MOVE] = 2,
        [STOP_INTENT_STOP] = 3, [STOP_INTENT_DELETE] = 4,
    };
    return strength[a] >= strength[b] ? a : b;
}

static void note_intent(struct apply *apply,
                        struct entry *vm,
                        enum stop_intent intent,
                        const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    enum stop_intent merged = stronger(status->intent, intent);
    if (merged == status->intent) {
        return;
    }
    status->intent = merged;
    if (merged == STOP_INTENT_STOP) {
        vm_of(vm)->spec.power = POWER_OFF;
    }
    set_reason(vm_of(vm), reason);
    apply_changed(apply, vm,
                  &(struct change_note){.reason = reason,
                                        .phase_from = status->phase,
                                        .phase_to = status->phase});
}

/* It waits for its lost host, where it may still run: nothing may start it elsewhere
 * until that host is back or removed for good. */
static int evict_lost(struct apply *apply,
                      struct entry *vm,
                      enum stop_intent intent,
                      const char *reason)
{
    if (intent == STOP_INTENT_DELETE) {
        vm_entry_set_host(apply->state, vm, NULL);
        vm_remove(apply, vm, reason);
        return 0;
    }
    if (intent == STOP_INTENT_MOVE || intent == STOP_INTENT_RESTART) {
        return apply_refuse(apply, BERTH_EPHASE,
                            "vm %s may still run on lost host %s: bring the host back, "
                            "or remove it once it is surely off",
                            meta_of(vm)->name, meta_of(vm->vm.host)->name);
    }
    note_intent(apply, vm, intent, reason);
    return 0;
}

static int evict_on_host(struct apply *apply,
                         struct entry *vm,
                         enum stop_intent intent,
                         const char *reason)
{
    struct vm_status *status = &vm_of(vm)->status;
    if (status->phase == PHASE_STOPPING) {
        note_intent(apply, vm, intent, reason);
        return 0;
    }
    status->intent = intent;
    if (intent == STOP_INTENT_STOP) {
        vm_of(vm)->spec.power = POWER_OFF;
    }
    vm_entry_set_target(vm, NULL); /* a migration under way is off */
    vm_move(apply, vm, PHASE_STOPPING, reason, 0);
    return 0;
}

int vm_evict(struct apply *apply,
             struct entry *vm,
             enum stop_intent intent,
             const char *reason)
{
    REQUIRE(intent != STOP_INTENT_NONE);
    apply->result->uid = meta_of(vm)->uid;
    enum phase phase = vm_of(vm)->status.phase;
    if (phase == PHASE_LOST) {
        return evict_lost(apply, vm, intent, reason);
    }
    return vm_phase_on_host(phase) ? evict_on_host(apply, vm, intent, reason)
                                   : evict_nowhere(apply, vm, intent, reason);
}

int apply_evict_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_evict_vm *evict = &command->body.evict_vm;
    struct entry *vm = NULL;
    int r = find_vm_at(apply, evict->vm, evict->epoch, &vm);
    if (r != 0) {
        return r;
    }
    if (evict->intent == STOP_INTENT_NONE || evict->intent > STOP_INTENT_RESTART) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "intent: stop, move, delete or restart");
    }
    return vm_evict(apply, vm, evict->intent, evict->reason);
}

/* ---- power ---- */

/* Gives up disks that are kept, and tells that it now waits for any host. */
static void give_disks_up(struct apply *apply, struct entry *vm)
{
    enum phase phase = vm_of(vm)->status.phase;
    if (vm->vm.keeper == NULL) {
        return;
    }
    vm_entry_keep(vm, NULL, 0);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "disks given up",
                                        .reason = "started anywhere by its user",
                                        .phase_from = phase,
                                        .phase_to = phase});
}

#define SWITCHED_ON "switched on by its user"

/* A VM on its way to a stop is switched on: it is to restart. A lost one may have stopped
 * already, or runs still, and has to be where it is found. */
static enum stop_intent
intent_instead_of_stop(const struct apply *apply, enum phase phase, bool anywhere)
{
    if (phase != PHASE_LOST) {
        return anywhere ? STOP_INTENT_MOVE : STOP_INTENT_RESTART;
    }
    return apply->state->level >= LEVEL_LOST_RESTARTS ? STOP_INTENT_RESTART
                                                      : STOP_INTENT_NONE;
}

static void power_on(struct apply *apply, struct entry *vm, bool anywhere)
{
    struct vm_status *status = &vm_of(vm)->status;
    bool was_off = vm_of(vm)->spec.power == POWER_OFF;
    vm_of(vm)->spec.power = POWER_ON;
    if (status->phase == PHASE_STOPPED || status->phase == PHASE_FAILED) {
        status->restarts = 0;
        status->retry_wall_ms = 0;
        char reason[128];
        (void)snprintf(reason, sizeof(reason), SWITCHED_ON "%s%s",
                       vm->vm.keeper != NULL ? "; its disks are on host " : "",
                       vm->vm.keeper != NULL ? meta_of(vm->vm.keeper)->name : "");
        vm_move(apply, vm, PHASE_PENDING, reason, 0);
        return;
    }
    if (!was_off) {
        if (anywhere && status->intent == STOP_INTENT_RESTART) {
            status->intent = STOP_INTENT_MOVE;
            apply_changed(apply, vm,
                          &(struct change_note){.reason = SWITCHED_ON ", anywhere",
                                                .phase_from = status->phase,
                                                .phase_to = status->phase});
        }
        return;
    }
    if (status->intent == STOP_INTENT_STOP) {
        status->intent = intent_instead_of_stop(apply, status->phase, anywhere);
    }
    apply_changed(apply, vm,
                  &(struct change_note){.reason = SWITCHED_ON,
                                        .phase_from = status->phase,
                                        .phase_to = status->phase});
}

/* A VM that its user may change. */
static int find_changeable(struct apply *apply,
                           uint64_t uid,
                           uint64_t expected_revision,
                           struct entry **ret_vm)
{
    int r = find_vm(apply, uid, ret_vm);
    if (r == 0) {
        char what[NAME_SIZE + 8];
        (void)snprintf(what, sizeof(what), "vm %s", meta_of(*ret_vm)->name);
        r = apply_check_revision(apply, *ret_vm, what, expected_revision);
    }
    if (r == 0 && vm_of(*ret_vm)->status.intent == STOP_INTENT_DELETE) {
        r = apply_refuse(apply, BERTH_EPHASE, "vm %s is being deleted",
                         meta_of(*ret_vm)->name);
    }
    return r;
}

/* What the labels are with those that are named; 0 or BERTH_ETOOLARGE. */
static int labels_with(const struct label_list *has,
                       const struct label_list *named,
                       struct metadata *ret_merged)
{
    const struct metadata before = {.labels = *has};
    int r = record_copy(&metadata_record, &before, ret_merged);
    for (uint32_t i = 0; i < named->count && r == 0; i++) {
        const char *value = named->items[i].value;
        r = label_set(&ret_merged->labels, named->items[i].key,
                      value != NULL ? value : "");
    }
    REQUIRE(r == 0 || r == BERTH_ETOOLARGE);
    return r == 0 && ret_merged->labels.count > LABELS_MAX ? BERTH_ETOOLARGE : r;
}

int apply_change_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_change_vm *change = &command->body.change_vm;
    struct entry *vm = NULL;
    int r = find_changeable(apply, change->vm, change->expected_revision, &vm);
    if (r != 0) {
        return r;
    }
    apply->result->uid = change->vm;
    const struct metadata has = {.labels = meta_of(vm)->labels};
    enum phase phase = vm_of(vm)->status.phase;
    struct metadata wanted;
    r = labels_with(&has.labels, &change->labels, &wanted);
    if (r != 0) {
        record_fini(&metadata_record, &wanted);
        return apply_refuse(apply, r, "vm %s would have more than %d labels",
                            meta_of(vm)->name, LABELS_MAX);
    }
    bool labelled = !record_equal(&metadata_record, &has, &wanted);
    if (labelled) {
        apply_take_labels(meta_of(vm), &wanted.labels);
    }
    record_fini(&metadata_record, &wanted);
    if (labelled) {
        apply_changed(apply, vm,
                      &(struct change_note){.verb = "labelled",
                                            .reason = "by its user",
                                            .phase_from = phase,
                                            .phase_to = phase});
    }
    if (vm_of(vm)->spec.power == change->power) {
        return 0;
    }
    if (change->power == POWER_OFF) {
        return vm_evict(apply, vm, STOP_INTENT_STOP, "switched off by its user");
    }
    power_on(apply, vm, false);
    return 0;
}

int apply_set_power(struct apply *apply, const struct command *command)
{
    const struct cmd_set_power *set = &command->body.set_power;
    struct entry *vm = NULL;
    int r = find_changeable(apply, set->vm, set->expected_revision, &vm);
    if (r != 0) {
        return r;
    }
    apply->result->uid = set->vm;
    if (set->power == POWER_OFF) {
        return vm_evict(apply, vm, STOP_INTENT_STOP, "switched off by its user");
    }
    if (set->anywhere) {
        give_disks_up(apply, vm);
    }
    power_on(apply, vm, set->anywhere);
    return 0;
}

/* ---- place ---- */

/* Whether a host may take this VM: as the target of a placement or a migration. */
static int check_host(struct apply *apply,
                      const struct entry *vm,
                      uint64_t host_uid,
                      struct entry **ret_host)
{
    struct entry *entry = state_entry(apply->state, KIND_HOST, host_uid);
    if (entry == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND, "there is no host with uid %" PRIu64,
                            host_uid);
    }
    const struct host *host = host_of(entry);
    if (host->status.phase != HOST_PHASE_READY) {
        return apply_refuse(apply, BERTH_EPHASE, "host %s is %s: it takes no VMs",
                            host->meta.name, host_phase_names[host->status.phase]);
    }
    if (host->spec.drain) {
        return apply_refuse(apply, BERTH_EPHASE, "host %s is drained: it takes no VMs",
                            host->meta.name);
    }
    uint64_t need = vm_of(vm)->spec.machine.memory.size_bytes;
    uint64_t used = entry->owner.memory_bytes;
    uint64_t have = host->status.memory_bytes;
    if (used > have || need > have - used) {
        char need_text[NUMBER_TEXT_SIZE];
        char used_text[NUMBER_TEXT_SIZE];
        char have_text[NUMBER_TEXT_SIZE];
        format_bytes(need, need_text);
        format_bytes(used, used_text);
        format_bytes(have, have_text);
        return apply_refuse(apply, BERTH_ENOCAPACITY,
                            "host %s: memory %s of %s in use, vm %s needs %s more",
                            host->meta.name, used_text, have_text, meta_of(vm)->name,
                            need_text);
    }
    *ret_host = entry;
    return 0;
}

static const struct entry *
network_of_nic(const struct apply *apply, const struct entry *vm, unsigned nic)
{
    const struct entry *network =
        state_entry_named(apply->state, KIND_NETWORK, meta_of(vm)->tenant,
                          vm_of(vm)->status.nics.items[nic].network);
    REQUIRE(network != NULL); /* it cannot go before its VMs */
    return network;
}

static int
check_networks(struct apply *apply, const struct entry *vm, const struct entry *host)
{
    for (uint32_t i = 0; i < vm_of(vm)->status.nics.count; i++) {
        const struct entry *network = network_of_nic(apply, vm, i);
        if (network_entry_host_index(network, meta_of(host)->uid) < 0) {
            return apply_refuse(
                apply, BERTH_ECONFLICT, "network %s of tenant %s is not on host %s yet",
                meta_of(network)->name, meta_of(vm)->tenant, meta_of(host)->name);
        }
    }
    return 0;
}

/* One NIC's address: kept, or new and free. */
static int check_address(struct apply *apply,
                         const struct entry *vm,
                         const struct cmd_place_vm *place,
                         unsigned nic)
{
    const struct network *network = network_of(network_of_nic(apply, vm, nic));
    uint32_t now = vm_of(vm)->status.nics.items[nic].ipv4;
    uint32_t wanted = place->addresses.items[nic].ipv4;
    char text[IPV4_TEXT_SIZE];
    format_ipv4(wanted, text);
    if (now != 0) {
        return wanted == now ? 0
                             : apply_refuse(apply, BERTH_ECONFLICT,
                                            "vm %s keeps its address in network %s: %s "
                                            "is another",
                                            meta_of(vm)->name, network->meta.name, text);
    }
    if (!cidr_contains(network->spec.ipv4.cidr, wanted)) {
        return apply_refuse(apply, BERTH_EINVALID, "address %s is not in network %s",
                            text, network->meta.name);
    }
    if (state_address_count(apply->state, network) + nic >= NETWORK_ADDRESSES_MAX) {
        return apply_refuse(apply, BERTH_EFULL,
                            "network %s has given away its %d addresses",
                            network->meta.name, NETWORK_ADDRESSES_MAX);
    }
    bool used = state_address_used(apply->state, network, wanted);
    for (unsigned i = 0; i < nic; i++) {
        used = used || place->addresses.items[i].ipv4 == wanted;
    }
    return used
               ? apply_refuse(apply, BERTH_ECONFLICT, "address %s of network %s is taken",
                              text, network->meta.name)
               : 0;
}

static int check_addresses(struct apply *apply,
                           const struct entry *vm,
                           const struct cmd_place_vm *place)
{
    const struct vm_nic_list *nics = &vm_of(vm)->status.nics;
    if (place->addresses.count == 0) {
        for (uint32_t i = 0; i < nics->count; i++) {
            if (nics->items[i].ipv4 == 0) {
                return apply_refuse(apply, BERTH_EINVALID,
                                    "NIC %s of vm %s has no address yet: give one",
                                    nics->items[i].name, meta_of(vm)->name);
            }
        }
        return 0;
    }
    if (place->addresses.count != nics->count) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "vm %s has %" PRIu32 " NICs, %" PRIu32 " addresses are given",
                            meta_of(vm)->name, nics->count, place->addresses.count);
    }
    for (uint32_t i = 0; i < nics->count; i++) {
        int r = check_address(apply, vm, place, i);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

static int check_placeable(struct apply *apply, const struct entry *vm, uint64_t epoch)
{
    const struct vm *placed = vm_of(vm);
    if (epoch != placed->status.epoch + 1) {
        return apply_refuse(apply, BERTH_ESTALE,
                            "vm %s is at epoch %" PRIu64 ": the next is not %" PRIu64,
                            placed->meta.name, placed->status.epoch, epoch);
    }
    if (placed->status.phase != PHASE_PENDING) {
        return refuse_phase(apply, vm, "be placed");
    }
    REQUIRE(placed->spec.power == POWER_ON); /* or it would be stopped */
    return 0;
}

static int check_disks(struct apply *apply, const struct entry *vm, uint64_t host_uid)
{
    const struct host *bound = state_disks_bind(apply->state, vm_of(vm));
    return bound == NULL || bound->meta.uid == host_uid
               ? 0
               : apply_refuse(apply, BERTH_ECONFLICT,
                              "the disks of vm %s are on host %s: it starts nowhere else",
                              meta_of(vm)->name, bound->meta.name);
}

int apply_place_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_place_vm *place = &command->body.place_vm;
    struct entry *vm = NULL;
    struct entry *host = NULL;
    int r = find_vm(apply, place->vm, &vm);
    if (r == 0) {
        r = check_placeable(apply, vm, place->epoch);
    }
    if (r == 0) {
        r = check_disks(apply, vm, place->host);
    }
    if (r == 0) {
        r = check_host(apply, vm, place->host, &host);
    }
    if (r == 0) {
        r = check_networks(apply, vm, host);
    }
    if (r == 0) {
        r = check_addresses(apply, vm, place);
    }
    if (r != 0) {
        return r;
    }
    apply->result->uid = place->vm;
    for (uint32_t i = 0; i < place->addresses.count; i++) {
        if (vm_of(vm)->status.nics.items[i].ipv4 == 0) {
            vm_entry_set_address(apply->state, vm, i, place->addresses.items[i].ipv4);
        }
    }
    vm_entry_keep(vm, NULL, vm->vm.keeper == host ? vm_of(vm)->status.disk_epoch : 0);
    vm_entry_set_host(apply->state, vm, host);
    vm_of(vm)->status.epoch = place->epoch;
    vm_of(vm)->status.retry_wall_ms = 0;
    vm_move(apply, vm, PHASE_PLACED, place->reason, 0);
    return 0;
}

/* ---- what hosts report ---- */

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
    uint64_t disk_epoch = vm_disks_left(&vm_of(vm)->status, report);
    bool stay = disk_epoch != 0 && vm_disks_stay(vm_of(vm), report->phase);
    vm_entry_set_target(vm, NULL);
    vm_entry_keep(vm, stay ? vm->vm.host : NULL, stay ? disk_epoch : 0);
    vm_entry_set_host(apply->state, vm, NULL);
    if (intent != STOP_INTENT_NONE) {
        settle_intent(apply, vm, intent, report->reason);
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

int apply_vm_phase(struct apply *apply, const struct command *command)
{
    const struct cmd_vm_phase *report = &command->body.vm_phase;
    struct entry *vm = NULL;
    int r = find_vm(apply, report->vm, &vm);
    if (r == 0) {
        r = check_report(apply, vm, report);
    }
    if (r != 0) {
        return r;
    }
    apply->result->uid = report->vm;
    struct vm_status *status = &vm_of(vm)->status;
    if (vm_reason_is_news(vm_of(vm), report->phase, report->reason)) {
        set_reason(vm_of(vm), report->reason);
        apply_changed(apply, vm,
                      &(struct change_note){.verb = phase_names[status->phase],
                                            .reason = report->reason,
                                            .phase_from = status->phase,
                                            .phase_to = status->phase});
    }
    if (report->phase == status->phase) {
        return 0; /* known */
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
    int r = find_vm_at(apply, retry->vm, retry->epoch, &vm);
    if (r != 0) {
        return r;
    }
    enum phase phase = vm_of(vm)->status.phase;
    if (phase == PHASE_LOST) {
        return evict_lost(apply, vm, STOP_INTENT_MOVE, retry->reason);
    }
    if (phase != PHASE_FAILED && phase != PHASE_STOPPED) {
        return refuse_phase(apply, vm, "be started again");
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

/* ---- migration ---- */

int apply_migrate_prepare(struct apply *apply, const struct command *command)
{
    const struct cmd_migrate_prepare *prepare = &command->body.migrate_prepare;
    struct entry *vm = NULL;
    struct entry *target = NULL;
    int r = find_vm_at(apply, prepare->vm, prepare->epoch, &vm);
    if (r != 0) {
        return r;
    }
    enum phase phase = vm_of(vm)->status.phase;
    if (phase != PHASE_RUNNING && phase != PHASE_READY) {
        return refuse_phase(apply, vm, "migrate");
    }
    if (prepare->target == vm_of(vm)->status.host) {
        return apply_refuse(apply, BERTH_EINVALID, "vm %s is on that host already",
                            meta_of(vm)->name);
    }
    r = check_host(apply, vm, prepare->target, &target);
    if (r == 0) {
        r = check_networks(apply, vm, target);
    }
    if (r != 0) {
        return r;
    }
    apply->result->uid = prepare->vm;
    vm_entry_set_target(vm, target);
    vm_move(apply, vm, PHASE_MIGRATING, prepare->reason, 0);
    return 0;
}

/* The point of no return: from here the target owns it, and the source's epoch is old. */
int apply_migrate_switch(struct apply *apply, const struct command *command)
{
    const struct cmd_migrate_switch *change = &command->body.migrate_switch;
    struct entry *vm = NULL;
    int r = find_vm_at(apply, change->vm, change->epoch, &vm);
    if (r != 0) {
        return r;
    }
    struct entry *target = vm->vm.target;
    if (vm_of(vm)->status.phase != PHASE_MIGRATING || target == NULL) {
        return refuse_phase(apply, vm, "be switched to another host");
    }
    apply->result->uid = change->vm;
    vm_entry_set_target(vm, NULL);
    vm_entry_set_host(apply->state, vm, target);
    vm_of(vm)->status.epoch++;
    set_reason(vm_of(vm), change->reason);
    apply_changed(apply, vm,
                  &(struct change_note){.verb = "switched",
                                        .reason = change->reason,
                                        .phase_from = PHASE_MIGRATING,
                                        .phase_to = PHASE_MIGRATING});
    return 0;
}

int apply_migrate_commit(struct apply *apply, const struct command *command)
{
    const struct cmd_migrate_commit *commit = &command->body.migrate_commit;
    struct entry *vm = NULL;
    int r = find_vm_at(apply, commit->vm, commit->epoch, &vm);
    if (r != 0) {
        return r;
    }
    if (vm_of(vm)->status.phase != PHASE_MIGRATING || vm->vm.target != NULL) {
        return refuse_phase(apply, vm, "end a migration that was not switched");
    }
    apply->result->uid = commit->vm;
    vm_migration_end(apply, vm, commit->reason);
    return 0;
}

int apply_migrate_abort(struct apply *apply, const struct command *command)
{
    const struct cmd_migrate_abort *abort = &command->body.migrate_abort;
    struct entry *vm = NULL;
    int r = find_vm_at(apply, abort->vm, abort->epoch, &vm);
    if (r != 0) {
        return r;
    }
    if (vm_of(vm)->status.phase != PHASE_MIGRATING || vm->vm.target == NULL) {
        return refuse_phase(apply, vm, "go back: nothing is being copied");
    }
    apply->result->uid = abort->vm;
    vm_migration_end(apply, vm, abort->reason);
    return 0;
}
