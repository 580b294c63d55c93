/* A user of the rack: switches VMs off and on, and does with VMs of their own, where a
 * seed has such, whatever else one can do to a VM.
 */
#include "base/require.h"
#include "sim.h"
#include "sim_fault.h"

#include <stdio.h>
#include <string.h>

#define THINKS_NS  (1200 * NS_PER_MS)
#define OWN_PREFIX "own-"

static void on_done(void *context, int code, const struct apply_result *result)
{
    (void)context; /* whatever came of it: the next look sees */
    (void)code;
    (void)result;
}

static void propose(struct sim_process *process, struct command *command)
{
    struct world_owner *owner = &process->machine->berthd;
    (void)snprintf(command->subject, sizeof(command->subject), "root");
    (void)control_propose(process->control, command, on_done, NULL);
    command_fini(command);
    owner->after(owner->context);
}

static void set_power(struct sim_process *process,
                      const struct vm *vm,
                      enum power power,
                      bool anywhere)
{
    struct command command;
    command_init(&command, COMMAND_SET_POWER);
    command.body.set_power.vm = vm->meta.uid;
    command.body.set_power.power = power;
    command.body.set_power.anywhere = anywhere;
    world_say(&process->machine->sim->world, "the user switches VM %llu %s%s",
              (unsigned long long)vm->meta.uid, power_names[power],
              anywhere ? ", anywhere" : "");
    propose(process, &command);
}

/* ---- VMs of any kind: off and on ---- */

/* The one of that number, of those that are off when all is well again. */
static const struct vm *vm_to_switch(struct sim *sim, const struct state *state)
{
    uint64_t skip = world_between(&sim->world, 0, SIM_VMS - 1);
    size_t cursor = 0;
    const struct vm *vm;
    const struct vm *found = NULL;
    while ((vm = state_next(state, KIND_VM, &cursor)) != NULL) {
        if ((!sim->healed || vm->spec.power == POWER_OFF) &&
            (found == NULL || skip > 0)) {
            skip -= found != NULL ? 1 : 0;
            found = vm;
        }
    }
    return found;
}

/* ---- VMs of their own ---- */

static const struct vm *own_vm(const struct state *state, uint64_t number)
{
    char name[NAME_SIZE];
    (void)snprintf(name, sizeof(name), OWN_PREFIX "%u", (unsigned)number);
    return state_get(state, KIND_VM, DEFAULT_TENANT, name);
}

/* Each second one stays with its host when that is lost. */
static void own_admit(struct sim_process *process, uint64_t number)
{
    struct command command;
    command_init(&command, COMMAND_ADMIT_VM);
    struct cmd_admit_vm *body = &command.body.admit_vm;
    (void)snprintf(body->tenant, sizeof(body->tenant), DEFAULT_TENANT);
    (void)snprintf(body->name, sizeof(body->name), OWN_PREFIX "%u", (unsigned)number);
    (void)snprintf(body->template_name, sizeof(body->template_name), "%s",
                   number % 2 == 0 ? "web" : "waits");
    propose(process, &command);
}

static void own_switch(struct sim_process *process, const struct vm *vm)
{
    set_power(process, vm, vm->spec.power == POWER_OFF ? POWER_ON : POWER_OFF, false);
}

static void own_start_anywhere(struct sim_process *process, const struct vm *vm)
{
    set_power(process, vm, POWER_ON, true);
}

static void
evict(struct sim_process *process, const struct vm *vm, enum stop_intent intent)
{
    struct command command;
    command_init(&command, COMMAND_EVICT_VM);
    command.body.evict_vm.vm = vm->meta.uid;
    command.body.evict_vm.epoch = vm->status.epoch;
    command.body.evict_vm.intent = intent;
    world_say(&process->machine->sim->world, "the user has VM %llu %s",
              (unsigned long long)vm->meta.uid,
              intent == STOP_INTENT_MOVE ? "moved" : "restarted");
    propose(process, &command);
}

static void own_move(struct sim_process *process, const struct vm *vm)
{
    evict(process, vm, STOP_INTENT_MOVE);
}

static void own_restart(struct sim_process *process, const struct vm *vm)
{
    evict(process, vm, STOP_INTENT_RESTART);
}

/* ---- pauses and snapshots of them ---- */

static void set_paused(struct sim_process *process, const struct vm *vm, bool paused)
{
    struct command command;
    command_init(&command, COMMAND_PAUSE_VM);
    command.body.pause_vm.vm = vm->meta.uid;
    command.body.pause_vm.paused = paused;
    world_say(&process->machine->sim->world, "the user has VM %llu %s",
              (unsigned long long)vm->meta.uid, paused ? "stand still" : "go on");
    propose(process, &command);
}

static void own_pause(struct sim_process *process, const struct vm *vm)
{
    set_paused(process, vm, !vm->spec.paused);
}

static void own_save(struct sim_process *process, const struct vm *vm)
{
    struct command command;
    command_init(&command, COMMAND_SNAPSHOT_MAKE);
    command.body.snapshot_make.vm = vm->meta.uid;
    world_say(&process->machine->sim->world, "the user has VM %llu saved",
              (unsigned long long)vm->meta.uid);
    propose(process, &command);
}

/* The newest of the VM that is ready, or of any phase; NULL: none. */
static const struct snapshot *
newest_of(const struct state *state, const struct vm *vm, bool ready)
{
    size_t cursor = 0;
    const struct snapshot *found = NULL;
    const struct snapshot *snapshot;
    while ((snapshot = state_next(state, KIND_SNAPSHOT, &cursor)) != NULL) {
        bool fits = snapshot->spec.vm_uid == vm->meta.uid &&
                    (!ready || snapshot->status.phase == SNAPSHOT_READY);
        if (fits && (found == NULL || snapshot->meta.uid > found->meta.uid)) {
            found = snapshot;
        }
    }
    return found;
}

static void own_restore(struct sim_process *process, const struct vm *vm)
{
    const struct snapshot *snapshot = newest_of(process->state, vm, true);
    struct command command;
    if (snapshot == NULL) {
        own_save(process, vm);
        return;
    }
    command_init(&command, COMMAND_RESTORE_VM);
    command.body.restore_vm.vm = vm->meta.uid;
    command.body.restore_vm.snapshot = snapshot->meta.uid;
    world_say(&process->machine->sim->world, "the user has VM %llu go back to %s",
              (unsigned long long)vm->meta.uid, snapshot->meta.name);
    propose(process, &command);
}

static void delete_named(struct sim_process *process, enum kind kind, const void *object)
{
    const struct metadata *meta = object_meta(object);
    struct command command;
    command_init(&command, COMMAND_DELETE);
    struct cmd_delete *body = &command.body.delete;
    body->kind = kind;
    memcpy(body->tenant, meta->tenant, sizeof(body->tenant));
    memcpy(body->name, meta->name, sizeof(body->name));
    body->expected_revision = REVISION_ANY;
    world_say(&process->machine->sim->world, "the user deletes %s %s",
              kind_info(kind)->word, meta->name);
    propose(process, &command);
}

static void own_delete(struct sim_process *process, const struct vm *vm)
{
    delete_named(process, KIND_VM, vm);
}

static void own_unsave(struct sim_process *process, const struct vm *vm)
{
    const struct snapshot *snapshot = newest_of(process->state, vm, false);
    if (snapshot != NULL) {
        delete_named(process, KIND_SNAPSHOT, snapshot);
    }
}

static const struct {
    unsigned weight;
    void (*act)(struct sim_process *process, const struct vm *vm);
} deeds[] = {
    {12, own_switch}, {3, own_start_anywhere}, {3, own_restart},
    {2, own_move},    {1, own_delete},         {4, own_pause},
    {6, own_save},    {8, own_restore},        {2, own_unsave},
};

static void use_own(struct sim *sim, struct sim_process *process)
{
    uint64_t number = world_between(&sim->world, 0, SIM_OWN_VMS - 1);
    const struct vm *vm = own_vm(process->state, number);
    unsigned all = 0;
    for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
        all += deeds[i].weight;
    }
    uint64_t draw = world_between(&sim->world, 0, all - 1);
    if (vm == NULL) {
        own_admit(process, number);
        return;
    }
    if (sim_faults_await_restore(sim) && world_chance(&sim->world, 500)) {
        own_restore(process, vm);
        return;
    }
    size_t deed = 0;
    while (draw >= deeds[deed].weight) {
        draw -= deeds[deed++].weight;
    }
    deeds[deed].act(process, vm);
}

/* When all is well again everything is to run: what stands still goes on, and what waits
 * for the host of a snapshot, which need not come back, waits no longer. */
static bool own_heal(struct sim_process *process)
{
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_next(process->state, KIND_VM, &cursor)) != NULL) {
        if (vm->spec.paused) {
            set_paused(process, vm, false);
            return true;
        }
        if (vm->status.restore != 0 && vm->status.phase == PHASE_PENDING) {
            own_start_anywhere(process, vm);
            return true;
        }
    }
    return false;
}

/* ---- one thing after another ---- */

static void on_user(void *context, uint64_t argument)
{
    struct sim *sim = context;
    (void)argument;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        struct sim_process *process = sim->machines[i].process;
        if (!sim_process_leads(process) ||
            sim->machines[i].berthd.paused_until_ns > sim->world.now_ns) {
            continue;
        }
        if (sim->config.own_vms && !sim->healed && world_chance(&sim->world, 600)) {
            use_own(sim, process);
            break;
        }
        if (sim->healed && own_heal(process)) {
            break;
        }
        const struct vm *vm = vm_to_switch(sim, process->state);
        if (vm != NULL && (vm->spec.power == POWER_OFF || sim->healed ||
                           world_chance(&sim->world, 400))) { /* most are to run */
            bool on = vm->spec.power == POWER_OFF || sim->healed;
            set_power(process, vm, on ? POWER_ON : POWER_OFF, false);
        }
        break;
    }
    uint64_t pause_ns = world_between(&sim->world, 0, THINKS_NS);
    world_at(&sim->world, sim->world.now_ns + (sim->healed ? pause_ns / 4 : pause_ns),
             NULL, on_user, sim, 0);
}

void sim_user_start(struct sim *sim)
{
    world_at(&sim->world, 2 * NS_PER_S, NULL, on_user, sim, 0);
}
