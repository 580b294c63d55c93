/* agent/vm_supervisor.h with VM processes that are small state machines, and the fence
 * beside them. Both belong to the machine: they outlive its berthd.
 *
 *     STARTING -> RUNNING -> READY -> (STOPPING) -> ended       frozen: at any time
 *                 RUNNING <-> paused                            as its user wishes
 *
 * A start takes a while, may fail, and may hang until it is killed. The checked promise:
 * of one VM at most one copy in the whole rack has vCPUs that run.
 */
#include "agent/fence_client.h"
#include "agent/lease.h"
#include "agent/vm_supervisor.h"
#include "base/require.h"
#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_MIN_NS  (40 * NS_PER_MS)
#define START_MAX_NS  (900 * NS_PER_MS)
#define READY_MAX_NS  (300 * NS_PER_MS)
#define STOP_MAX_NS   (600 * NS_PER_MS)
#define FAIL_PERMILLE 10
#define HANG_PERMILLE 10
#define FENCE_NS      (50 * NS_PER_MS) /* between two looks of the fence */
#define HANG_NS       (5 * NS_PER_S)   /* then a start that hangs is given up */
#define COPIES_MAX    64               /* of VMs that a machine remembers */

struct copy {
    struct sim_machine *machine;
    uint64_t uid;
    uint64_t epoch; /* of the run, or of the last one */
    uint64_t epoch_seen;
    uint64_t life; /* of its timed steps */
    bool alive;
    bool frozen;
    bool paused; /* by its user */
    bool fenced;
    uint64_t disks_from; /* the run that its disks were made for; 0: it has none here */
    uint64_t restored;   /* the snapshot that the run began from; 0: it booted */
    uint64_t up_from; /* the snapshot of the last run that was up from one, and which: */
    uint64_t up_epoch;
    enum phase phase;
    uint64_t since_wall_ms;
    uint64_t start_wall_ms;
    uint64_t running_wall_ms;
    char name[NAME_SIZE];
    char tenant[NAME_SIZE];
    char reason[64];
};

struct sim_vms {
    struct copy copies[COPIES_MAX];
    unsigned count;
    struct lease fence;               /* what the fence was told */
    struct vm_supervisor *supervisor; /* NULL: no berthd looks */
};

struct vm_supervisor {
    struct sim_process *process;
    struct vm_supervisor_config config;
};

static struct world *world_of(const struct copy *copy)
{
    return &copy->machine->sim->world;
}

static bool has_bug(const struct sim_machine *machine, enum sim_bug bug)
{
    return machine->sim->config.bug == bug;
}

/* ---- the promise ---- */

static bool runs(const struct copy *copy)
{
    return copy->alive && !copy->frozen && !copy->paused && copy->phase != PHASE_STARTING;
}

static void check_single(const struct copy *copy)
{
    struct sim *sim = copy->machine->sim;
    for (unsigned i = 0; runs(copy) && i < sim->machine_count; i++) {
        const struct sim_vms *vms = sim->machines[i].vms;
        for (unsigned j = 0; vms != NULL && j < vms->count; j++) {
            const struct copy *other = &vms->copies[j];
            if (other != copy && other->uid == copy->uid && runs(other)) {
                world_fail(
                    &sim->world,
                    "VM %llu runs twice: on m%u in epoch %llu and on m%u in epoch %llu",
                    (unsigned long long)copy->uid, copy->machine->index,
                    (unsigned long long)copy->epoch, other->machine->index,
                    (unsigned long long)other->epoch);
            }
        }
    }
}

/* One epoch, one run: whatever starts does so in an epoch above all that have run, and
 * none of them is left, not even frozen. */
static void check_epoch(const struct copy *copy, uint64_t epoch)
{
    struct sim *sim = copy->machine->sim;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_vms *vms = sim->machines[i].vms;
        for (unsigned j = 0; vms != NULL && j < vms->count; j++) {
            const struct copy *other = &vms->copies[j];
            if (other->uid == copy->uid && other->life > 0 && other->epoch >= epoch) {
                world_fail(
                    &sim->world,
                    "VM %llu starts on m%u in epoch %llu, but epoch %llu has run on "
                    "m%u",
                    (unsigned long long)copy->uid, copy->machine->index,
                    (unsigned long long)epoch, (unsigned long long)other->epoch,
                    other->machine->index);
            } else if (other->uid == copy->uid && other != copy && other->alive) {
                world_fail(
                    &sim->world,
                    "VM %llu starts on m%u in epoch %llu, but epoch %llu has not ended "
                    "on m%u",
                    (unsigned long long)copy->uid, copy->machine->index,
                    (unsigned long long)epoch, (unsigned long long)other->epoch,
                    other->machine->index);
            }
        }
    }
}

/* One that was to begin from a snapshot and was never up, as far as the log has heard:
 * the disks of before are the VM's. */
static bool is_called_off(const struct copy *copy)
{
    const struct sim_kept *kept = sim_kept_find(copy->machine->sim, copy->uid);
    return copy->restored != 0 &&
           (copy->running_wall_ms == 0 || (kept != NULL && kept->unheard >= copy->epoch));
}

/* Whoever starts with disks that were kept has the newest there are: no run anywhere else
 * has been after the one that left them. */
static void check_disks(const struct copy *copy, uint64_t disk_epoch)
{
    struct sim *sim = copy->machine->sim;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_vms *vms = sim->machines[i].vms;
        for (unsigned j = 0; vms != NULL && j < vms->count; j++) {
            const struct copy *other = &vms->copies[j];
            if (other != copy && other->uid == copy->uid && other->life > 0 &&
                (other->alive || (other->epoch > disk_epoch && !is_called_off(other)))) {
                world_fail(
                    &sim->world,
                    "VM %llu starts on m%u with disks of epoch %llu, but epoch "
                    "%llu %s on m%u",
                    (unsigned long long)copy->uid, copy->machine->index,
                    (unsigned long long)disk_epoch, (unsigned long long)other->epoch,
                    other->alive ? "has them open" : "has run", other->machine->index);
            }
        }
    }
}

/* To go back to a snapshot is to give up what was written since: once for each wish. A
 * run that was up counts, unless the log has given it up without a word of its host. */
static void check_once(const struct copy *copy, uint64_t snapshot, uint64_t epoch)
{
    struct sim *sim = copy->machine->sim;
    const struct sim_kept *kept = sim_kept_find(sim, copy->uid);
    if (kept != NULL && copy->up_from == snapshot && copy->up_epoch > kept->wished &&
        copy->up_epoch > kept->unheard) {
        world_fail(&sim->world,
                   "VM %llu begins on m%u in epoch %llu from a snapshot that epoch %llu "
                   "has begun from since its user wished so",
                   (unsigned long long)copy->uid, copy->machine->index,
                   (unsigned long long)epoch, (unsigned long long)copy->up_epoch);
    }
}

/* ---- one process ---- */

static void on_told(void *context, uint64_t index)
{
    struct sim_machine *machine = context;
    struct vm_supervisor *supervisor = machine->vms->supervisor;
    struct vm_report report;
    if (supervisor != NULL &&
        vm_supervisor_report(supervisor, machine->vms->copies[index].uid, &report)) {
        supervisor->config.changed(supervisor->config.context, &report);
    }
}

static void move(struct copy *copy, enum phase phase, const char *reason)
{
    struct sim_machine *machine = copy->machine;
    copy->phase = phase;
    copy->since_wall_ms = sim_machine_wall_ms(machine);
    (void)snprintf(copy->reason, sizeof(copy->reason), "%s", reason);
    world_say(world_of(copy), "m%u VM %llu epoch %llu %s%s%s", machine->index,
              (unsigned long long)copy->uid, (unsigned long long)copy->epoch,
              phase_names[phase], reason[0] != '\0' ? ": " : "", reason);
    check_single(copy);
    if (machine->vms->supervisor != NULL) {
        world_at(world_of(copy), world_of(copy)->now_ns, &machine->berthd, on_told,
                 machine, (uint64_t)(copy - machine->vms->copies));
    }
}

static void end(struct copy *copy, enum phase phase, const char *reason)
{
    copy->alive = false;
    copy->frozen = false;
    copy->paused = false;
    copy->life++;
    move(copy, phase, reason);
}

static void on_stopped(void *context, uint64_t life)
{
    struct copy *copy = context;
    if (copy->alive && copy->life == life) {
        end(copy, PHASE_STOPPED, "");
    }
}

/* A frozen process gets nowhere. */
static void on_step(void *context, uint64_t life)
{
    struct copy *copy = context;
    struct world *world = world_of(copy);
    if (!copy->alive || copy->life != life) {
        return;
    }
    if (copy->frozen) {
        world_at(world, world->now_ns + START_MIN_NS, NULL, on_step, copy, life);
    } else if (copy->phase == PHASE_STARTING && world_chance(world, FAIL_PERMILLE)) {
        end(copy, PHASE_FAILED, "the engine gave up");
    } else if (copy->phase == PHASE_STARTING) {
        copy->running_wall_ms = sim_machine_wall_ms(copy->machine);
        if (copy->restored != 0) {
            copy->up_from = copy->restored;
            copy->up_epoch = copy->epoch;
        }
        move(copy, PHASE_RUNNING, "");
        world_at(world, world->now_ns + world_between(world, 0, READY_MAX_NS), NULL,
                 on_step, copy, life);
    } else if (copy->phase == PHASE_RUNNING && !copy->paused) {
        move(copy, PHASE_READY, "");
    }
}

static void on_hung(void *context, uint64_t life)
{
    struct copy *copy = context;
    if (copy->alive && copy->life == life) {
        end(copy, PHASE_FAILED, "the engine did not start in time");
    }
}

static void freeze(struct copy *copy, bool frozen)
{
    copy->frozen = frozen;
    world_say(world_of(copy), "m%u VM %llu epoch %llu %s", copy->machine->index,
              (unsigned long long)copy->uid, (unsigned long long)copy->epoch,
              frozen ? "frozen" : "thawed");
    check_single(copy);
}

/* ---- the fence ---- */

static void on_fence(void *context, uint64_t argument)
{
    struct sim_machine *machine = context;
    struct sim *sim = machine->sim;
    struct sim_vms *vms = machine->vms;
    enum lease_state state = lease_state(&vms->fence, sim_machine_clock_ns(machine));
    (void)argument;
    for (unsigned i = 0; i < vms->count; i++) {
        struct copy *copy = &vms->copies[i];
        if (!copy->alive || !copy->fenced || has_bug(machine, SIM_BUG_NO_FENCE)) {
            continue;
        }
        if (state == LEASE_KILL && !has_bug(machine, SIM_BUG_RESUME_LATE)) {
            sim->stats.vm_kills++;
            end(copy, PHASE_FAILED, "ended by the fence");
        } else if (state != LEASE_OK && !copy->frozen) {
            sim->stats.vm_freezes++;
            freeze(copy, true);
        }
    }
    world_at(&sim->world, sim->world.now_ns + sim_machine_true_ns(machine, FENCE_NS),
             NULL, on_fence, machine, 0);
}

/* ---- the machine's part ---- */

void sim_vms_init(struct sim_machine *machine)
{
    const struct lease_config config = lease_config_default();
    machine->vms = calloc(1, sizeof(*machine->vms));
    REQUIRE(machine->vms != NULL);
    sim_saved_init(machine);
    lease_init(&machine->vms->fence, &config, 1);
    on_fence(machine, 0);
}

void sim_vms_fini(struct sim_machine *machine)
{
    free(machine->vms);
    machine->vms = NULL;
    sim_saved_fini(machine);
}

void sim_vms_power_off(struct sim_machine *machine)
{
    const struct lease_config config = lease_config_default();
    lease_init(&machine->vms->fence, &config, 1);
    for (unsigned i = 0; i < machine->vms->count; i++) {
        if (machine->vms->copies[i].alive) {
            end(&machine->vms->copies[i], PHASE_FAILED, "power off");
        }
    }
}

unsigned sim_vms_alive(const struct sim_machine *machine)
{
    unsigned alive = 0;
    for (unsigned i = 0; i < machine->vms->count; i++) {
        alive += runs(&machine->vms->copies[i]) ? 1U : 0U;
    }
    return alive;
}

bool sim_vms_holds(const struct sim_machine *machine, uint64_t uid, uint64_t epoch)
{
    for (unsigned i = 0; i < machine->vms->count; i++) {
        const struct copy *copy = &machine->vms->copies[i];
        if (copy->uid == uid) {
            return copy->disks_from != 0 && copy->disks_from <= epoch &&
                   epoch <= copy->epoch;
        }
    }
    return false;
}

bool sim_vms_has_begun(const struct sim_machine *machine, uint64_t uid, uint64_t epoch)
{
    for (unsigned i = 0; i < machine->vms->count; i++) {
        const struct copy *copy = &machine->vms->copies[i];
        if (copy->uid == uid && copy->epoch == epoch) {
            return copy->running_wall_ms != 0;
        }
    }
    return false;
}

bool sim_vms_runs(const struct sim_machine *machine, uint64_t uid, uint64_t epoch)
{
    for (unsigned i = 0; i < machine->vms->count; i++) {
        const struct copy *copy = &machine->vms->copies[i];
        if (copy->uid == uid && copy->epoch == epoch) {
            return copy->alive &&
                   (copy->phase == PHASE_RUNNING || copy->phase == PHASE_READY);
        }
    }
    return false;
}

void sim_vms_snapshots_changed(const struct sim_machine *machine)
{
    const struct vm_supervisor *supervisor = machine->vms->supervisor;
    if (supervisor != NULL) {
        supervisor->config.snapshots_changed(supervisor->config.context);
    }
}

struct sim_machine *sim_vms_machine(const struct vm_supervisor *supervisor)
{
    return supervisor->process->machine;
}

/* ---- the fence as worker knows it ---- */

struct fence_client {
    struct sim_process *process;
    struct fence_client_config config;
};

static void on_connected(void *context, uint64_t argument)
{
    const struct fence_client *client = context;
    (void)argument;
    client->config.connected(client->config.context);
}

struct fence_client *fence_client_open(const struct fence_client_config *config,
                                       struct err *err)
{
    struct fence_client *client = calloc(1, sizeof(*client));
    (void)err;
    REQUIRE(client != NULL);
    client->process = (struct sim_process *)(void *)config->loop;
    client->config = *config;
    struct sim_machine *machine = client->process->machine;
    world_at(&machine->sim->world, machine->sim->world.now_ns, &machine->berthd,
             on_connected, client, 0);
    return client;
}

struct fence_client *fence_client_close(struct fence_client *client)
{
    free(client);
    return NULL;
}

bool fence_client_ready(const struct fence_client *client)
{
    (void)client;
    return true;
}

uint64_t fence_client_granted_ns(const struct fence_client *client)
{
    return lease_granted_ns(&client->process->machine->vms->fence);
}

enum fence_health fence_client_health(const struct fence_client *client)
{
    (void)client;
    return FENCE_HEALTH_RUNNING;
}

void fence_client_lease(struct fence_client *client, uint64_t granted_ns)
{
    struct sim_machine *machine = client->process->machine;
    lease_restore(&machine->vms->fence, granted_ns, sim_machine_clock_ns(machine));
}

/* ---- the supervisor as worker knows it ---- */

static struct copy *copy_of(const struct vm_supervisor *supervisor, uint64_t uid)
{
    struct sim_vms *vms = supervisor->process->machine->vms;
    for (unsigned i = 0; i < vms->count; i++) {
        if (vms->copies[i].uid == uid) {
            return &vms->copies[i];
        }
    }
    return NULL;
}

struct vm_supervisor *vm_supervisor_open(const struct vm_supervisor_config *config,
                                         struct err *err)
{
    struct vm_supervisor *supervisor = calloc(1, sizeof(*supervisor));
    (void)err;
    REQUIRE(supervisor != NULL);
    supervisor->process = (struct sim_process *)(void *)config->host.loop;
    supervisor->config = *config;
    struct sim_machine *machine = supervisor->process->machine;
    machine->vms->supervisor = supervisor;
    sim_saved_opened(machine);
    for (unsigned i = 0; i < machine->vms->count; i++) {
        world_at(&machine->sim->world, machine->sim->world.now_ns, &machine->berthd,
                 on_told, machine, i);
    }
    return supervisor;
}

struct vm_supervisor *vm_supervisor_close(struct vm_supervisor *supervisor)
{
    if (supervisor != NULL) {
        supervisor->process->machine->vms->supervisor = NULL;
        free(supervisor);
    }
    return NULL;
}

int vm_order_set_machine(struct vm_order *order,
                         const struct machine_spec *machine,
                         const char *image_cmdline,
                         struct err *err)
{
    (void)image_cmdline;
    (void)err;
    order->fenced = machine->lifecycle.host_failure == HOST_FAILURE_RESTART;
    order->stop_grace_ms = machine->lifecycle.stop_grace_ms;
    return 0;
}

static struct copy *copy_new(struct vm_supervisor *supervisor, uint64_t uid)
{
    struct sim_vms *vms = supervisor->process->machine->vms;
    for (unsigned i = 0; i < vms->count; i++) {
        if (vms->copies[i].uid == 0) {
            vms->copies[i].uid = uid;
            return &vms->copies[i];
        }
    }
    if (vms->count == COPIES_MAX) {
        return NULL;
    }
    vms->copies[vms->count] =
        (struct copy){.machine = supervisor->process->machine, .uid = uid};
    return &vms->copies[vms->count++];
}

/* As the real one: no epoch twice, none below the highest seen. */
static int start_allowed(const struct copy *copy, uint64_t epoch)
{
    if (copy->alive) {
        return copy->epoch == epoch ? 1 : BERTH_EPHASE;
    }
    if (has_bug(copy->machine, SIM_BUG_NO_EPOCH_CHECK)) {
        return 0;
    }
    if (epoch < copy->epoch_seen) {
        return BERTH_ESTALE;
    }
    return copy->epoch == epoch ? BERTH_EPHASE : 0;
}

static void disks_remove(struct copy *copy)
{
    if (copy->disks_from != 0) {
        sim_kept_removed(copy->machine, copy->uid, copy->epoch);
        copy->disks_from = 0;
    }
}

/* Disks of a snapshot take the place of those that there are. 1: they are on their way.
 */
static int restore_begin(struct copy *copy, const struct vm_order *order, struct err *err)
{
    int r = sim_saved_restore(copy->machine, order->restore, copy->uid, order->vm.epoch);
    if (r != 0) {
        return r > 0 ? r : err_set(err, r, "its snapshot is not here");
    }
    check_once(copy, order->restore, order->vm.epoch);
    copy->machine->sim->stats.vm_restores++;
    if (order->disk_epoch == 0 || copy->disks_from == 0) {
        disks_remove(copy);
        copy->disks_from = order->vm.epoch;
    }
    return 0;
}

/* As the real one: whatever set of disks there is, or new ones. */
static int disks_begin(struct copy *copy, const struct vm_order *order, struct err *err)
{
    if (order->disk_epoch == 0) {
        disks_remove(copy);
        copy->disks_from = order->vm.epoch;
        return 0;
    }
    if (copy->disks_from == 0) {
        return err_set(err, BERTH_ENOTFOUND, "its disks are not here");
    }
    check_disks(copy, order->disk_epoch);
    if (has_bug(copy->machine, SIM_BUG_DISKS_ANEW)) {
        copy->disks_from = order->vm.epoch;
    }
    copy->machine->sim->stats.vm_disk_starts++;
    return 0;
}

int vm_supervisor_start(struct vm_supervisor *supervisor,
                        const struct vm_order *order,
                        bool hold,
                        struct err *err)
{
    struct sim_machine *machine = supervisor->process->machine;
    struct world *world = &machine->sim->world;
    struct copy *copy = copy_of(supervisor, order->vm.uid);
    REQUIRE(!hold);
    if (copy == NULL && (copy = copy_new(supervisor, order->vm.uid)) == NULL) {
        return BERTH_EFULL;
    }
    int r = start_allowed(copy, order->vm.epoch);
    if (r != 0) {
        return r < 0 ? err_set(err, r, "epoch %llu", (unsigned long long)order->vm.epoch)
                     : 0;
    }
    check_epoch(copy, order->vm.epoch);
    r = order->restore != 0 ? restore_begin(copy, order, err)
                            : disks_begin(copy, order, err);
    if (r != 0) {
        return r > 0 ? 0 : r;
    }
    copy->restored = order->restore;
    copy->epoch = order->vm.epoch;
    copy->epoch_seen =
        order->vm.epoch > copy->epoch_seen ? order->vm.epoch : copy->epoch_seen;
    copy->alive = true;
    copy->frozen = false;
    copy->paused = false;
    copy->fenced = order->fenced;
    copy->life++;
    copy->start_wall_ms = sim_machine_wall_ms(machine);
    copy->running_wall_ms = 0;
    (void)snprintf(copy->name, sizeof(copy->name), "%s", order->vm.name);
    (void)snprintf(copy->tenant, sizeof(copy->tenant), "%s", order->vm.tenant);
    machine->sim->stats.vm_starts++;
    move(copy, PHASE_STARTING, "");
    if (world_chance(world, HANG_PERMILLE)) {
        world_at(world, world->now_ns + HANG_NS, NULL, on_hung, copy, copy->life);
    } else {
        world_at(world, world->now_ns + world_between(world, START_MIN_NS, START_MAX_NS),
                 NULL, on_step, copy, copy->life);
    }
    return 0;
}

int vm_supervisor_cont(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       struct err *err)
{
    (void)supervisor; /* nothing is ever held */
    (void)uid;
    (void)epoch;
    (void)err;
    return 0;
}

int vm_supervisor_limit(struct vm_supervisor *supervisor,
                        uint64_t uid,
                        uint64_t epoch,
                        const struct machine_spec *machine,
                        struct err *err)
{
    (void)supervisor; /* no guest here is fast or slow */
    (void)uid;
    (void)epoch;
    (void)machine;
    (void)err;
    return 0;
}

int vm_supervisor_devices(struct vm_supervisor *supervisor,
                          uint64_t uid,
                          uint64_t epoch,
                          const struct engine_vm *devices,
                          struct err *err)
{
    (void)supervisor; /* nor is anything counted */
    (void)uid;
    (void)epoch;
    (void)devices;
    (void)err;
    return 0;
}

int vm_supervisor_cpus(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       const struct cpu_spec *cpu,
                       struct err *err)
{
    (void)supervisor; /* nor wide or narrow */
    (void)uid;
    (void)epoch;
    (void)cpu;
    (void)err;
    return 0;
}

/* As the real one: said again and again, and meant for a run that has begun. */
int vm_supervisor_pause(struct vm_supervisor *supervisor,
                        uint64_t uid,
                        uint64_t epoch,
                        bool paused,
                        struct err *err)
{
    struct copy *copy = copy_of(supervisor, uid);
    (void)err;
    if (copy == NULL || !copy->alive || copy->epoch != epoch || copy->paused == paused ||
        (copy->phase != PHASE_RUNNING && copy->phase != PHASE_READY)) {
        return 0;
    }
    copy->paused = paused;
    copy->machine->sim->stats.vm_pauses += paused ? 1U : 0U;
    move(copy, PHASE_RUNNING, paused ? "paused by its user" : "");
    if (!paused) {
        struct world *world = world_of(copy);
        world_at(world, world->now_ns + world_between(world, 0, READY_MAX_NS), NULL,
                 on_step, copy, copy->life);
    }
    return 0;
}

static struct copy *
copy_for(struct vm_supervisor *supervisor, uint64_t uid, uint64_t epoch, int *ret_code)
{
    struct copy *copy = copy_of(supervisor, uid);
    *ret_code = copy == NULL ? BERTH_ENOTFOUND : epoch < copy->epoch ? BERTH_ESTALE : 0;
    return *ret_code == 0 && copy->alive ? copy : NULL;
}

int vm_supervisor_stop(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       uint64_t grace_ms,
                       struct err *err)
{
    int r = 0;
    struct copy *copy = copy_for(supervisor, uid, epoch, &r);
    (void)grace_ms;
    (void)err;
    if (copy != NULL && copy->phase != PHASE_STOPPING) {
        struct world *world = world_of(copy);
        move(copy, PHASE_STOPPING, "");
        world_at(world, world->now_ns + world_between(world, 0, STOP_MAX_NS), NULL,
                 on_stopped, copy, copy->life);
    }
    return r;
}

int vm_supervisor_kill(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       const char *reason,
                       struct err *err)
{
    int r = 0;
    struct copy *copy = copy_for(supervisor, uid, epoch, &r);
    (void)err;
    if (copy != NULL) {
        copy->epoch_seen = epoch > copy->epoch_seen ? epoch : copy->epoch_seen;
        end(copy, PHASE_FAILED, reason);
    }
    return r;
}

/* Its epoch is remembered. */
int vm_supervisor_forget(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint64_t epoch,
                         struct err *err)
{
    struct copy *copy = copy_of(supervisor, uid);
    (void)epoch;
    (void)err;
    if (copy == NULL) {
        return 0;
    }
    if (copy->alive) {
        return BERTH_EPHASE;
    }
    disks_remove(copy);
    copy->name[0] = '\0';
    return 0;
}

static bool is_shown(const struct copy *copy)
{
    return copy->name[0] != '\0' &&
           (copy->alive || !has_bug(copy->machine, SIM_BUG_NO_EPOCH_CHECK));
}

static void report_of(const struct copy *copy, struct vm_report *ret_report)
{
    *ret_report = (struct vm_report){.uid = copy->uid,
                                     .epoch = copy->epoch,
                                     .epoch_seen = copy->epoch_seen,
                                     .phase = copy->phase,
                                     .engine = ENGINE_FAKE,
                                     .frozen = copy->frozen,
                                     .paused = copy->paused,
                                     .fenced = copy->fenced,
                                     .alive = copy->alive,
                                     .pid = copy->alive ? (pid_t)copy->uid + 1 : 0,
                                     .since_wall_ms = copy->since_wall_ms,
                                     .start_wall_ms = copy->start_wall_ms,
                                     .running_wall_ms = copy->running_wall_ms};
    memcpy(ret_report->name, copy->name, sizeof(copy->name));
    memcpy(ret_report->tenant, copy->tenant, sizeof(copy->tenant));
    memcpy(ret_report->reason, copy->reason, sizeof(copy->reason));
}

bool vm_supervisor_base(const struct vm_supervisor *supervisor,
                        uint64_t uid,
                        char ret_path[ENGINE_PATH_SIZE])
{
    (void)supervisor; /* disks are no files here */
    (void)uid;
    (void)ret_path;
    return false;
}

bool vm_supervisor_report(const struct vm_supervisor *supervisor,
                          uint64_t uid,
                          struct vm_report *ret_report)
{
    const struct copy *copy = copy_of(supervisor, uid);
    if (copy == NULL || !is_shown(copy)) {
        return false;
    }
    report_of(copy, ret_report);
    return true;
}

void vm_supervisor_each(const struct vm_supervisor *supervisor,
                        void (*visit)(void *context, const struct vm_report *report),
                        void *context)
{
    const struct sim_vms *vms = supervisor->process->machine->vms;
    for (unsigned i = 0; i < vms->count; i++) {
        struct vm_report report;
        if (is_shown(&vms->copies[i])) {
            report_of(&vms->copies[i], &report);
            visit(context, &report);
        }
    }
}

/* VMs that are none count nothing. */
const struct vm_stats *vm_supervisor_stats(const struct vm_supervisor *supervisor,
                                           uint64_t uid)
{
    (void)supervisor;
    (void)uid;
    return NULL;
}

int vm_supervisor_sample(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint32_t *ret_cpu_permille,
                         uint64_t *ret_memory_bytes)
{
    (void)supervisor;
    *ret_cpu_permille = (uint32_t)(uid % 10) * 50;
    *ret_memory_bytes = UINT64_C(64) << 20;
    return 0;
}

void vm_supervisor_watch_all(struct vm_supervisor *supervisor)
{
    (void)supervisor; /* the fence sees the machine's processes by itself */
}

bool vm_supervisor_knows(const struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint64_t epoch,
                         pid_t pid)
{
    const struct copy *copy = copy_of(supervisor, uid);
    (void)pid;
    return copy != NULL && copy->epoch == epoch;
}

unsigned vm_supervisor_freeze_all(struct vm_supervisor *supervisor)
{
    struct sim_vms *vms = supervisor->process->machine->vms;
    unsigned count = 0;
    for (unsigned i = 0; i < vms->count; i++) {
        struct copy *copy = &vms->copies[i];
        if (copy->alive && copy->fenced && !copy->frozen) {
            freeze(copy, true);
            count++;
        }
    }
    supervisor->process->machine->sim->stats.vm_freezes += count;
    return count;
}

unsigned vm_supervisor_resume_all(struct vm_supervisor *supervisor)
{
    struct sim_vms *vms = supervisor->process->machine->vms;
    unsigned count = 0;
    for (unsigned i = 0; i < vms->count; i++) {
        struct copy *copy = &vms->copies[i];
        if (copy->alive && copy->frozen) {
            freeze(copy, false);
            count++;
        }
    }
    return count;
}

unsigned vm_supervisor_kill_all(struct vm_supervisor *supervisor, const char *reason)
{
    struct sim_vms *vms = supervisor->process->machine->vms;
    unsigned count = 0;
    if (has_bug(supervisor->process->machine, SIM_BUG_RESUME_LATE)) {
        return 0;
    }
    for (unsigned i = 0; i < vms->count; i++) {
        struct copy *copy = &vms->copies[i];
        if (copy->alive && copy->fenced) {
            end(copy, PHASE_FAILED, reason);
            count++;
        }
    }
    supervisor->process->machine->sim->stats.vm_kills += count;
    return count;
}
