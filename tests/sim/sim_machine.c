#include "base/require.h"
#include "sim.h"
#include "sim_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RESTART_NS    (NS_PER_S) /* of a supervisor like systemd */
#define CLOCK_PPM_MAX 9990       /* a little less than d, for rounding */
#define DOWN_TURNS    32         /* enough for all that closing tells */

/* ---- clocks ---- */

uint64_t sim_machine_clock_ns(const struct sim_machine *machine)
{
    uint64_t now = machine->sim->world.now_ns;
    int64_t error = (int64_t)(now / 1000000) * machine->clock_ppm;
    return machine->clock_base_ns + now + (uint64_t)error;
}

uint64_t sim_machine_true_ns(const struct sim_machine *machine, uint64_t clock_ns)
{
    int64_t error = (int64_t)(clock_ns / 1000000) * machine->clock_ppm;
    uint64_t ns = clock_ns - (uint64_t)error;
    return ns > 0 ? ns : 1;
}

uint64_t sim_machine_wall_ms(const struct sim_machine *machine)
{
    uint64_t ms = UINT64_C(1764000000000) + sim_machine_clock_ns(machine) / NS_PER_MS;
    return ms + (uint64_t)machine->wall_offset_ms;
}

static uint64_t clock_ns(void *context)
{
    return sim_machine_clock_ns(context);
}

static uint64_t wall_ms(void *context)
{
    return sim_machine_wall_ms(context);
}

/* ---- look-ups ---- */

struct sim_machine *sim_machine_of_uid(struct sim *sim, uint64_t uid)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim->machines[i].uid == uid) {
            return &sim->machines[i];
        }
    }
    return NULL;
}

struct sim_machine *sim_machine_of_raft(struct sim *sim, uint64_t raft_id)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim->machines[i].raft_id == raft_id) {
            return &sim->machines[i];
        }
    }
    return NULL;
}

bool sim_process_leads(const struct sim_process *process)
{
    return process != NULL && !process->doomed && process->control != NULL &&
           consensus_is_leader(control_consensus(process->control));
}

/* ---- berthd ---- */

static void on_leadership(void *context, bool is_leader, uint64_t term)
{
    struct sim_process *process = context;
    struct sim *sim = process->machine->sim;
    sim->stats.leaders += is_leader ? 1U : 0U;
    world_say(&sim->world, "m%u %s term %llu", process->machine->index,
              is_leader ? "leads in" : "no longer leads in", (unsigned long long)term);
    sim_host_leadership(process, is_leader, term);
}

static void on_change(void *context, const struct change *change)
{
    struct sim_process *process = context;
    sim_news_seen(process, change);
    sim_api_changed(process);
    sim_host_change(process, change);
}

static void on_restored(void *context)
{
    sim_host_restored(context);
    sim_api_reset(context);
}

static void on_fatal(void *context, const struct err *why)
{
    struct sim_process *process = context;
    process->fatal = true;
    sim_process_doom(process, why->text);
}

static void ignore_closed(void *context)
{
    bool *closed = context;
    *closed = true;
}

static void on_restart(void *context, uint64_t argument)
{
    (void)argument;
    sim_machine_start(context);
}

/* Everything that the process held is freed; what it had told the disk stays. */
static void bury(struct sim_process *process)
{
    struct sim_machine *machine = process->machine;
    bool closed = process->control == NULL;
    sim_loop_cut(process);
    process->doomed = true;
    machine->berthd.life++;
    machine->disk_threads.life++;
    sim_disk_orphan(&machine->disk);
    sim_host_close(process);
    sim_api_close(process);
    if (process->control != NULL) {
        control_close(process->control, false, ignore_closed, &closed);
    }
    for (unsigned i = 0; i < DOWN_TURNS && !closed; i++) {
        sim_loop_turn(process);
    }
    REQUIRE(closed);
    sim_host_closed(process);
    sim_loop_free(process);
    sim_disk_crash(&machine->disk);
    machine->berthd.life++; /* what closing has booked dies, too */
    machine->disk_threads.life++;
    machine->process = NULL;
    if (machine->sim->running == process) {
        machine->sim->running = NULL;
    }
    members_fini(&process->members);
    free(process->news);
    free(process);
}

void sim_machine_kill(struct sim_machine *machine, const char *why, uint64_t restart_ns)
{
    struct sim *sim = machine->sim;
    if (machine->process == NULL) {
        return;
    }
    world_say(&sim->world, "m%u berthd dies: %s", machine->index, why);
    sim->stats.crashes++;
    bury(machine->process);
    if (restart_ns != WORLD_NEVER) {
        world_at(&sim->world, sim->world.now_ns + restart_ns, NULL, on_restart, machine,
                 0);
    }
}

void sim_process_hold(struct sim_process *process, uint64_t until_ns)
{
    struct world_owner *owner = &process->machine->berthd;
    owner->paused_until_ns =
        until_ns > owner->paused_until_ns ? until_ns : owner->paused_until_ns;
}

void sim_process_doom(struct sim_process *process, const char *why)
{
    if (!process->doomed) {
        process->doomed = true;
        (void)snprintf(process->why, sizeof(process->why), "%s", why);
    }
}

/* After each event of the process. */
static void after_event(void *context)
{
    struct sim_process *process = context;
    struct sim *sim = process->machine->sim;
    if (!process->doomed) {
        sim_loop_turn(process);
    }
    if (!process->doomed) {
        oracle_look(sim, process);
        sim_members_look(process);
    }
    if (process->doomed) {
        sim_machine_kill(process->machine, process->why,
                         RESTART_NS + world_between(&sim->world, 0, RESTART_NS));
    }
}

int sim_machine_open_log(struct sim_process *process, struct err *err)
{
    struct sim_machine *machine = process->machine;
    if (!machine->has_log) {
        sim_members_begin(machine);
    }
    const struct control_config config = {.loop = (uv_loop_t *)(void *)process,
                                          .clock = &process->clock,
                                          .levels = level_range_up_to(0),
                                          .folder = "raft",
                                          .raft_id = machine->raft_id,
                                          .cluster_id = SIM_CLUSTER_ID,
                                          .address = machine->address,
                                          .secret_key = machine->key.bytes,
                                          .members = &process->members};
    const struct control_events events = {.context = process,
                                          .on_leadership = on_leadership,
                                          .on_change = on_change,
                                          .on_restored = on_restored,
                                          .on_fatal = on_fatal};
    int r = control_open(&config, &events, false, &process->control, err);
    machine->log_sealed = machine->log_sealed || r == 0;
    return r;
}

/* A log that was found damaged is never voted with: the machine stays out. */
static void refuse(struct sim_process *process, const struct err *err)
{
    struct sim_machine *machine = process->machine;
    struct sim *sim = machine->sim;
    world_say(&sim->world, "m%u does not start: %s", machine->index, err->text);
    sim->stats.refusals_to_start++;
    bury(process);
    if (err->code == BERTH_ECORRUPT) {
        oracle_condemned(sim, machine);
        machine->condemned = true;
        return;
    }
    world_at(&sim->world, sim->world.now_ns + RESTART_NS, NULL, on_restart, machine, 0);
}

void sim_machine_start(struct sim_machine *machine)
{
    struct sim *sim = machine->sim;
    struct err err = {0};
    if (machine->process != NULL || machine->condemned || machine->down) {
        return;
    }
    struct sim_process *process = calloc(1, sizeof(*process));
    REQUIRE(process != NULL);
    process->machine = machine;
    machine->berthd = (struct world_owner){
        .life = machine->berthd.life + 1, .after = after_event, .context = process};
    process->clock =
        (struct clock){.now_ns = clock_ns, .wall_ms = wall_ms, .context = machine};
    list_init(&process->timers);
    list_init(&process->posts);
    list_init(&process->turns);
    list_init(&process->closings);
    list_init(&process->pools);
    sim_api_prepare(process);
    process->place = SIZE_MAX;
    machine->process = process;
    sim->running = process;
    world_say(&sim->world, "m%u berthd starts", machine->index);
    sim_host_prepare(process);
    int r = sim_host_open(process, &err);
    sim->running = NULL;
    if (r < 0) {
        refuse(process, &err);
    } else {
        after_event(process);
    }
}

/* ---- life ---- */

static void on_disk_death(void *context)
{
    struct sim_machine *machine = context;
    if (machine->process != NULL) {
        sim_process_doom(machine->process, "killed at a write");
        world_at(&machine->sim->world, machine->sim->world.now_ns,
                 &machine->process->machine->berthd, sim_nothing, NULL, 0);
    }
}

void sim_machine_watch_disk(struct sim_machine *machine)
{
    machine->disk.die = on_disk_death;
    machine->disk.die_context = machine;
}

void sim_nothing(void *context, uint64_t argument)
{
    (void)context;
    (void)argument;
}

/* Every second clock runs as wrong as is allowed. */
static int32_t clock_error(struct sim *sim)
{
    int32_t ppm = (int32_t)world_between(&sim->world, 0, 2 * CLOCK_PPM_MAX);
    bool extreme = world_chance(&sim->world, 500);
    return !extreme ? ppm - CLOCK_PPM_MAX : ppm % 2 == 0 ? CLOCK_PPM_MAX : -CLOCK_PPM_MAX;
}

void sim_machine_init(struct sim *sim, unsigned index)
{
    struct sim_machine *machine = &sim->machines[index];
    *machine = (struct sim_machine){.sim = sim, .index = index, .lease_fd = -1};
    machine->uid = index + 1; /* set again once the state has named it */
    for (size_t i = 0; i < sizeof(machine->key.bytes); i++) {
        machine->key.bytes[i] = (uint8_t)(index * 37 + i + 1);
    }
    machine->raft_id = identity_raft_id(&machine->key);
    (void)snprintf(machine->address, sizeof(machine->address), "10.0.0.%u:%d", index + 1,
                   SIM_PORT_RAFT);
    machine->clock_ppm = clock_error(sim);
    machine->clock_base_ns = (100 + world_between(&sim->world, 0, 1000000)) * NS_PER_S;
    sim_disk_init(&machine->disk, &sim->world);
    sim_machine_watch_disk(machine);
    if (sim->config.rack) {
        sim_vms_init(machine);
    }
    machine->disk.lies = sim->config.bug == SIM_BUG_ACK_BEFORE_FSYNC;
}

void sim_machine_fini(struct sim_machine *machine)
{
    if (machine->process != NULL) {
        bury(machine->process);
    }
    if (machine->vms != NULL) {
        sim_vms_fini(machine);
    }
    if (machine->lease_fd >= 0) {
        close(machine->lease_fd);
    }
    free(machine->members_file.data);
    sim_disk_fini(&machine->disk);
}
