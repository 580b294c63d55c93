/* Snapshots of VMs on the machines' disks, as agent/vm_supervisor.h has them: they
 * outlive berthd and power. One that berthd was making, or could not make, is known to
 * that berthd alone. A copy takes a while, and its VM may end meanwhile; whoever goes
 * back to one finds it whole, and its own.
 */
#include "agent/vm_supervisor.h"
#include "base/require.h"
#include "sim.h"

#include <stdlib.h>

#define SAVED_MAX   HOST_SNAPSHOTS_MAX
#define SAVE_MAX_NS (800 * NS_PER_MS)
#define SAVED_BYTES (5 * MIB)

/* uid 0: none */
struct saved {
    struct snapshot_wish wish;
    enum snapshot_phase phase;
    uint64_t at_wall_ms;
};

struct sim_saved {
    struct saved items[SAVED_MAX];
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
    for (unsigned i = 0; i < SAVED_MAX; i++) {
        if (machine->saved->items[i].phase != SNAPSHOT_READY) {
            machine->saved->items[i] = (struct saved){0};
        }
    }
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

/* Here a restore takes no time: none is under way. */
bool vm_supervisor_restore_call_off(struct vm_supervisor *supervisor, uint64_t uid)
{
    (void)supervisor;
    (void)uid;
    return false;
}

void vm_supervisor_restores_keep(struct vm_supervisor *supervisor,
                                 bool (*is_known)(void *context, uint64_t uid),
                                 void *context)
{
    (void)supervisor;
    (void)is_known;
    (void)context;
}

void vm_supervisor_snapshots_each(const struct vm_supervisor *supervisor,
                                  void (*visit)(void *context,
                                                const struct snapshot_report *report),
                                  void *context)
{
    const struct sim_saved *all = sim_vms_machine(supervisor)->saved;
    for (unsigned i = 0; i < SAVED_MAX; i++) {
        const struct saved *saved = &all->items[i];
        const struct snapshot_report report = {.uid = saved->wish.uid,
                                               .vm = saved->wish.vm,
                                               .epoch = saved->wish.epoch,
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
