/* Snapshots of VMs on the machines' disks, as agent/vm_supervisor.h has them: they
 * outlive berthd and power. One that berthd was making, or could not make, is known to
 * that berthd alone. A copy takes a while, and its VM may end meanwhile; so does the way
 * back, which may be called off; whoever goes back to one finds it whole, and its own. In
 * some seeds a new berthd finds now and then that the disk has damaged one.
 */
#include "agent/vm_supervisor.h"
#include "base/require.h"
#include "sim.h"
#include "sim_fault.h"

#include <stdlib.h>
#include <string.h>

#define SAVED_MAX        HOST_SNAPSHOTS_MAX
#define SAVE_MAX_NS      (800 * NS_PER_MS)
#define SAVED_BYTES      (5 * MIB)
#define RESTORES_MAX     64
#define RESTORE_SHORT_NS (300 * NS_PER_MS)
#define RESTORE_LONG_NS  (9 * NS_PER_S) /* longer than it takes to give a host up */
#define CALL_OFF_MAX_NS  (200 * NS_PER_MS)
#define DAMAGE_PERMILLE  250 /* of those that are there when berthd starts */
#define DAMAGE_SEEDS     3   /* one of so many */

/* uid 0: none */
struct saved {
    struct snapshot_wish wish;
    enum snapshot_phase phase;
    uint64_t at_wall_ms;
};

/* Disks on their way to a run; vm 0: none. They are berthd's: gone with it. */
struct restoring {
    uint64_t vm, epoch, snapshot;
    bool busy;
    bool called_off;
};

struct sim_saved {
    struct saved items[SAVED_MAX];
    struct restoring restores[RESTORES_MAX];
};

static struct saved *saved_of(const struct sim_machine *machine, uint64_t uid)
{
    struct sim_saved *all = machine->saved;
    struct saved *free_one = NULL;
    for (unsigned i = 0; i < SAVED_MAX; i++) {
        if (all->items[i].wish.uid == uid) {
            return &all->items[i];
        }
        free_one = all->items[i].wish.uid == 0 ? &all->items[i] : free_one;
    }
    return uid == 0 ? NULL : free_one;
}

void sim_saved_init(struct sim_machine *machine)
{
    machine->saved = calloc(1, sizeof(*machine->saved));
    REQUIRE(machine->saved != NULL);
}

void sim_saved_fini(struct sim_machine *machine)
{
    free(machine->saved);
    machine->saved = NULL;
}

void sim_saved_opened(struct sim_machine *machine)
{
    struct sim *sim = machine->sim;
    const bool damages = sim->config.seed % DAMAGE_SEEDS == 0;
    memset(machine->saved->restores, 0, sizeof(machine->saved->restores));
    for (unsigned i = 0; i < SAVED_MAX; i++) {
        struct saved *saved = &machine->saved->items[i];
        const bool is_there = saved->wish.uid != 0 && saved->phase == SNAPSHOT_READY;
        if (is_there && damages && world_chance(&sim->world, DAMAGE_PERMILLE)) {
            saved->phase = SNAPSHOT_LOST;
            sim->stats.snapshots_damaged++;
            world_say(&sim->world, "m%u finds snapshot %llu of VM %llu damaged",
                      machine->index, (unsigned long long)saved->wish.uid,
                      (unsigned long long)saved->wish.vm);
        } else if (saved->phase != SNAPSHOT_READY && saved->phase != SNAPSHOT_LOST) {
            *saved = (struct saved){0};
        }
    }
}

static bool is_whole(const struct sim_machine *machine, uint64_t snapshot)
{
    const struct saved *saved = saved_of(machine, snapshot);
    return saved != NULL && saved->wish.uid == snapshot && saved->phase == SNAPSHOT_READY;
}

bool sim_saved_agree(struct sim *sim)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_process *process = sim->machines[i].process;
        size_t cursor = 0;
        const struct snapshot *snapshot;
        while (sim_process_leads(process) &&
               (snapshot = state_next(process->state, KIND_SNAPSHOT, &cursor)) != NULL) {
            const struct sim_machine *host =
                sim_machine_of_uid(sim, snapshot->status.host);
            if (snapshot->status.phase == SNAPSHOT_READY && host->process != NULL &&
                !host->condemned && !is_whole(host, snapshot->meta.uid)) {
                return false;
            }
        }
    }
    return true;
}

bool sim_saved_holds(const struct sim_machine *machine,
                     uint64_t snapshot,
                     uint64_t vm,
                     uint64_t epoch)
{
    const struct saved *saved = saved_of(machine, snapshot);
    if (saved == NULL || saved->wish.uid != snapshot || saved->phase != SNAPSHOT_READY) {
        return false;
    }
    if (saved->wish.vm != vm || saved->wish.epoch >= epoch) {
        world_fail(&machine->sim->world,
                   "VM %llu goes back in epoch %llu to a snapshot of VM %llu of %llu",
                   (unsigned long long)vm, (unsigned long long)epoch,
                   (unsigned long long)saved->wish.vm,
                   (unsigned long long)saved->wish.epoch);
    }
    return true;
}

static void on_saved(void *context, uint64_t uid)
{
    struct sim_machine *machine = context;
    struct saved *saved = saved_of(machine, uid);
    if (saved == NULL || saved->wish.uid != uid || saved->phase != SNAPSHOT_MAKING) {
        return; /* it was called off */
    }
    bool made = sim_vms_runs(machine, saved->wish.vm, saved->wish.epoch);
    saved->phase = made ? SNAPSHOT_READY : SNAPSHOT_FAILED;
    saved->at_wall_ms = sim_machine_wall_ms(machine);
    machine->sim->stats.snapshots += made ? 1U : 0U;
    world_say(&machine->sim->world, "m%u snapshot %llu of VM %llu epoch %llu %s",
              machine->index, (unsigned long long)uid, (unsigned long long)saved->wish.vm,
              (unsigned long long)saved->wish.epoch, snapshot_phase_names[saved->phase]);
}

int vm_supervisor_snapshot_make(struct vm_supervisor *supervisor,
                                const struct snapshot_wish *wish,
                                struct err *err)
{
    struct sim_machine *machine = sim_vms_machine(supervisor);
    struct world *world = &machine->sim->world;
    struct saved *saved = saved_of(machine, wish->uid);
    if (saved == NULL) {
        return err_set(err, BERTH_EFULL, "more snapshots than there may be");
    }
    if (saved->wish.uid == wish->uid) {
        return 0;
    }
    bool here = sim_vms_runs(machine, wish->vm, wish->epoch);
    *saved =
        (struct saved){.wish = *wish, .phase = here ? SNAPSHOT_MAKING : SNAPSHOT_FAILED};
    if (here) {
        world_at(world, world->now_ns + world_between(world, 0, SAVE_MAX_NS),
                 &machine->berthd, on_saved, machine, wish->uid);
    }
    return 0;
}

void vm_supervisor_snapshot_remove(struct vm_supervisor *supervisor, uint64_t uid)
{
    struct saved *saved = saved_of(sim_vms_machine(supervisor), uid);
    if (saved != NULL && saved->wish.uid == uid) {
        *saved = (struct saved){0};
    }
}

bool vm_supervisor_snapshot_is_here(const struct vm_supervisor *supervisor, uint64_t uid)
{
    const struct sim_saved *all = sim_vms_machine(supervisor)->saved;
    bool is_here = false;
    for (unsigned i = 0; uid != 0 && i < SAVED_MAX; i++) {
        is_here |= all->items[i].wish.uid == uid;
    }
    return is_here;
}

/* ---- the way back ---- */

static struct restoring *restoring_of(const struct sim_machine *machine, uint64_t vm)
{
    for (unsigned i = 0; i < RESTORES_MAX; i++) {
        if (machine->saved->restores[i].vm == vm) {
            return &machine->saved->restores[i];
        }
    }
    return NULL;
}

/* Of one that was called off the thread ends sooner: the later event finds nothing. */
static void on_restored(void *context, uint64_t vm)
{
    struct sim_machine *machine = context;
    struct restoring *restoring = restoring_of(machine, vm);
    if (restoring == NULL || !restoring->busy) {
        return;
    }
    restoring->busy = false;
    if (restoring->called_off) {
        *restoring = (struct restoring){0};
    }
    sim_vms_snapshots_changed(machine);
}

static void restored_at(struct sim_machine *machine, uint64_t vm, uint64_t most_ns)
{
    struct world *world = &machine->sim->world;
    world_at(world, world->now_ns + world_between(world, 0, most_ns), &machine->berthd,
             on_restored, machine, vm);
}

static void call_off(struct sim_machine *machine, struct restoring *restoring)
{
    if (!restoring->called_off) {
        restoring->called_off = true;
        machine->sim->stats.restores_called_off++;
        restored_at(machine, restoring->vm, CALL_OFF_MAX_NS);
    }
}

int sim_saved_restore(struct sim_machine *machine,
                      uint64_t snapshot,
                      uint64_t vm,
                      uint64_t epoch)
{
    struct restoring *restoring = restoring_of(machine, vm);
    if (!sim_saved_holds(machine, snapshot, vm, epoch)) {
        return BERTH_ENOTFOUND;
    }
    const bool same = restoring != NULL && !restoring->called_off &&
                      restoring->epoch == epoch && restoring->snapshot == snapshot;
    if (restoring != NULL && restoring->busy) {
        if (!same) {
            call_off(machine, restoring);
        }
        return 1;
    }
    if (same) {
        *restoring = (struct restoring){0};
        return 0;
    }
    restoring = restoring != NULL ? restoring : restoring_of(machine, 0);
    REQUIRE(restoring != NULL);
    *restoring =
        (struct restoring){.vm = vm, .epoch = epoch, .snapshot = snapshot, .busy = true};
    restored_at(machine, vm,
                world_chance(&machine->sim->world, 300) ? RESTORE_LONG_NS
                                                        : RESTORE_SHORT_NS);
    sim_faults_restoring(machine->sim, machine->index);
    return 1;
}

bool vm_supervisor_restore_call_off(struct vm_supervisor *supervisor, uint64_t uid)
{
    struct sim_machine *machine = sim_vms_machine(supervisor);
    struct restoring *restoring = restoring_of(machine, uid);
    if (restoring != NULL && restoring->busy) {
        call_off(machine, restoring);
        return true;
    }
    if (restoring != NULL) {
        *restoring = (struct restoring){0};
    }
    return false;
}

void vm_supervisor_restores_keep(struct vm_supervisor *supervisor,
                                 bool (*is_known)(void *context, uint64_t uid),
                                 void *context)
{
    struct sim_machine *machine = sim_vms_machine(supervisor);
    for (unsigned i = 0; i < RESTORES_MAX; i++) {
        struct restoring *restoring = &machine->saved->restores[i];
        if (restoring->vm != 0 && !is_known(context, restoring->vm)) {
            (void)vm_supervisor_restore_call_off(supervisor, restoring->vm);
        }
    }
}

/* ---- looking ---- */

void vm_supervisor_snapshots_each(const struct vm_supervisor *supervisor,
                                  void (*visit)(void *context,
                                                const struct snapshot_report *report),
                                  void *context)
{
    const struct sim_saved *all = sim_vms_machine(supervisor)->saved;
    for (unsigned i = 0; i < SAVED_MAX; i++) {
        const struct saved *saved = &all->items[i];
        const bool unread = saved->phase == SNAPSHOT_LOST; /* whose it was, too */
        const struct snapshot_report report = {.uid = saved->wish.uid,
                                               .vm = unread ? 0 : saved->wish.vm,
                                               .epoch = unread ? 0 : saved->wish.epoch,
                                               .phase = saved->phase,
                                               .bytes = SAVED_BYTES,
                                               .at_wall_ms = saved->at_wall_ms};
        if (report.uid != 0) {
            visit(context, &report);
        }
    }
}

bool vm_supervisor_snapshot_base(const struct vm_supervisor *supervisor,
                                 uint64_t uid,
                                 char ret_path[ENGINE_PATH_SIZE])
{
    (void)supervisor;
    (void)uid;
    (void)ret_path;
    return false;
}
