#include "sim_fault.h"

#include "base/require.h"

#include <raft.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALM_MS    1500 /* at the start: a leader is elected */
#define FULL_BYTES (UINT64_C(8) << 20)
#define HOUR_MS    3600000

static const char *const names[FAULT_KIND_COUNT] = {
    "kill",      "power off", "pause",     "cut one way",  "cut",
    "isolate",   "deaf",      "split",     "drop",         "twice",
    "reorder",   "slow net",  "slow disk", "die at write", "disk error",
    "disk full", "flip",      "lose tail", "wall jump",    "transfer"};

const char *sim_fault_name(enum sim_fault_kind kind)
{
    return names[kind];
}

void sim_fault_print(const struct sim_fault *fault, char *text, size_t size)
{
    char who[24] = "leader";
    if (fault->a < SIM_MACHINES_MAX) {
        (void)snprintf(who, sizeof(who), "m%u", fault->a);
    }
    (void)snprintf(text, size, "at %5.2f s for %5.2f s: %s %s (m%u, %llu)",
                   (double)fault->at_ms / 1000, (double)fault->for_ms / 1000,
                   names[fault->kind], who, fault->b, (unsigned long long)fault->number);
}

/* ---- making ---- */

static uint64_t between(struct random *random, uint64_t low, uint64_t high)
{
    return low + random_below(random, high - low + 1);
}

/* Mostly short, sometimes long. */
static uint64_t some_time(struct random *random, uint64_t max_ms)
{
    uint64_t ms = random_below(random, 3) == 0 ? max_ms : max_ms / 5;
    return between(random, 1, ms);
}

static void choose(struct sim_fault *fault, struct random *random)
{
    switch (fault->kind) {
    case FAULT_PAUSE:
        fault->for_ms = some_time(random, 8000);
        break;
    case FAULT_DROP:
        fault->number = between(random, 10, 300);
        break;
    case FAULT_TWICE:
        fault->number = between(random, 10, 300);
        break;
    case FAULT_REORDER:
    case FAULT_SLOW_NET:
        fault->number = between(random, 5, 400);
        break;
    case FAULT_SLOW_DISK:
        fault->number = some_time(random, 2000);
        break;
    case FAULT_DIE_AT_WRITE:
        fault->number = between(random, 1, 60);
        break;
    case FAULT_DISK_ERROR:
        fault->number = between(random, 1, 3);
        break;
    case FAULT_WALL_JUMP:
        fault->number = between(random, 0, 4 * HOUR_MS);
        break;
    default:
        fault->number = random_u64(random);
        break;
    }
}

/* Hosts that are away for longer than their lease. */
static bool may_be_long(enum sim_fault_kind kind)
{
    return kind == FAULT_PAUSE || kind == FAULT_CUT_ONE_WAY || kind == FAULT_ISOLATE ||
           kind == FAULT_DEAF || kind == FAULT_SPLIT || kind == FAULT_POWER;
}

/* A berthd that hangs while its host is cut off: what it hears afterwards is old. */
static void add_cut_behind(struct sim_fault_list *list, struct random *random)
{
    struct sim_fault pause = list->items[list->count - 1];
    if (pause.kind == FAULT_PAUSE && pause.a < SIM_MACHINES_MAX &&
        list->count < SIM_FAULTS_MAX && random_below(random, 2) == 0) {
        list->items[list->count - 1].for_ms = between(random, 1000, 5000);
        list->items[list->count++] =
            (struct sim_fault){.kind = FAULT_ISOLATE,
                               .at_ms = pause.at_ms + between(random, 10, 900),
                               .for_ms = between(random, 7000, 11000),
                               .a = pause.a,
                               .b = pause.b};
    }
}

/* Each run has a taste of its own: some kinds, and how many. */
void sim_faults_make(const struct sim_config *config, struct sim_fault_list *ret_list)
{
    struct random random;
    unsigned machines = config->voters + config->hosts;
    bool wanted[FAULT_KIND_COUNT];
    random_seed(&random, config->seed * 2 + 1);
    *ret_list = (struct sim_fault_list){0};
    for (unsigned i = 0; i < FAULT_KIND_COUNT; i++) {
        wanted[i] = random_below(&random, 100) < 45;
    }
    unsigned count = (unsigned)between(&random, 2, 26);
    for (unsigned tries = 0; ret_list->count < count && tries < 1000; tries++) {
        enum sim_fault_kind kind =
            (enum sim_fault_kind)random_below(&random, FAULT_KIND_COUNT);
        if (!wanted[kind]) {
            continue;
        }
        struct sim_fault *fault = &ret_list->items[ret_list->count++];
        fault->kind = kind;
        fault->at_ms = CALM_MS + between(&random, 0, config->faults_ms - CALM_MS);
        fault->for_ms = some_time(&random, 4000);
        fault->a = random_below(&random, 2) == 0
                       ? SIM_MACHINES_MAX
                       : (unsigned)random_below(&random, machines);
        fault->b = (unsigned)random_below(&random, machines);
        choose(fault, &random);
        if (config->rack && may_be_long(kind) && random_below(&random, 2) == 0) {
            fault->for_ms = between(&random, 4500, 10000);
            fault->at_ms = CALM_MS + between(&random, 0, config->faults_ms / 2);
            if (random_below(&random, 3) > 0) { /* so that somebody leads meanwhile */
                fault->a =
                    config->voters + (unsigned)random_below(&random, config->hosts);
            }
            add_cut_behind(ret_list, &random);
        }
    }
}

/* ---- applying ---- */

static struct sim_machine *target_of(struct sim *sim, const struct sim_fault *fault)
{
    if (fault->a < SIM_MACHINES_MAX) {
        return &sim->machines[fault->a];
    }
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim_process_leads(sim->machines[i].process)) {
            return &sim->machines[i];
        }
    }
    return &sim->machines[fault->b];
}

static unsigned places(const struct sim *sim)
{
    (void)sim;
    return SIM_MACHINES_MAX + SIM_CLIENTS_MAX;
}

static void cut(struct sim *sim, unsigned from, unsigned to, bool is_cut)
{
    if (from != to) {
        sim->links[from][to].cut = is_cut;
    }
}

/* Between machines only: clients sit elsewhere. */
static void
cut_around(struct sim *sim, unsigned machine, bool inward, bool outward, bool on)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (inward) {
            cut(sim, i, machine, on);
        }
        if (outward) {
            cut(sim, machine, i, on);
        }
    }
}

static void split(struct sim *sim, uint64_t sides, bool on)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        for (unsigned j = 0; j < sim->machine_count; j++) {
            if ((sides >> i & 1) != (sides >> j & 1)) {
                cut(sim, i, j, on);
            }
        }
    }
}

static void all_links(struct sim *sim, const struct sim_fault *fault, bool on)
{
    for (unsigned i = 0; i < places(sim); i++) {
        for (unsigned j = 0; j < places(sim); j++) {
            struct sim_link_state *link = &sim->links[i][j];
            switch (fault->kind) {
            case FAULT_DROP:
                link->drop_permille = on ? (unsigned)fault->number : 0;
                break;
            case FAULT_TWICE:
                link->twice_permille = on ? (unsigned)fault->number : 0;
                break;
            case FAULT_REORDER:
                link->reorder = on;
                link->slow_ns = on ? fault->number * NS_PER_MS / 20 : 0;
                break;
            default:
                link->slow_ns = on ? fault->number * NS_PER_MS : 0;
                break;
            }
        }
    }
}

/* Damaged disks have to stay a minority: with more of them no promise can be kept. */
static bool may_tamper(const struct sim *sim, const struct sim_machine *machine)
{
    unsigned tampered = 0;
    if (machine->tampered || !machine->has_log || sim->config.voters < 3) {
        return false;
    }
    for (unsigned i = 0; i < sim->machine_count; i++) {
        tampered += sim->machines[i].tampered ? 1U : 0U;
    }
    return tampered < (sim->config.voters - 1) / 2;
}

/* What lies behind the sealed index may be lost without a trace: no fault of this kind is
 * put there, see docs/reliability.md. */
static void
tamper(struct sim *sim, struct sim_machine *machine, const struct sim_fault *fault)
{
    struct sim_disk *disk = &machine->disk;
    uint64_t sealed = sim_raft_sealed_index(machine);
    if (!may_tamper(sim, machine) || sealed < disk->start) {
        return;
    }
    machine->tampered = true;
    sim_machine_kill(machine, "power failed", (1 + fault->number % 3) * NS_PER_S);
    sealed = sim_raft_sealed_index(machine);
    uint64_t at = disk->start + fault->number % (sealed - disk->start + 1);
    if (fault->kind == FAULT_LOSE_TAIL) {
        sim_disk_lose_tail(disk, at);
    } else if (fault->number % 5 == 0) {
        disk->vote ^= fault->number | 1;
    } else if (at - disk->start < disk->count) {
        disk->log[at - disk->start].rotten = true;
    }
}

static void power(struct sim_machine *machine, bool on)
{
    machine->down = !on;
    if (on) {
        sim_machine_start(machine);
    } else {
        sim_machine_kill(machine, "power off", WORLD_NEVER);
        sim_host_power_off(machine);
    }
}

static void pause_process(struct sim *sim, struct sim_machine *machine, uint64_t ms)
{
    if (machine->process != NULL) {
        uint64_t until = sim->world.now_ns + ms * NS_PER_MS;
        struct world_owner *owner = &machine->process->machine->berthd;
        owner->paused_until_ns =
            until > owner->paused_until_ns ? until : owner->paused_until_ns;
    }
}

static void ignore_status(void *context, int status)
{
    (void)context;
    (void)status;
}

static void transfer(struct sim_machine *machine)
{
    struct sim_process *process = machine->process;
    if (sim_process_leads(process) && process->machine->berthd.paused_until_ns == 0) {
        (void)consensus_transfer(control_consensus(process->control), 0, ignore_status,
                                 NULL);
    }
}

static void
turn_on(struct sim *sim, const struct sim_fault *fault, struct sim_machine *machine)
{
    struct sim_disk *disk = &machine->disk;
    switch (fault->kind) {
    case FAULT_KILL:
        sim_machine_kill(machine, "killed", fault->for_ms * NS_PER_MS);
        break;
    case FAULT_POWER:
        power(machine, false);
        break;
    case FAULT_PAUSE:
        pause_process(sim, machine, fault->for_ms);
        break;
    case FAULT_SLOW_DISK:
        disk->slow_ns = fault->number * NS_PER_MS;
        break;
    case FAULT_DIE_AT_WRITE:
        disk->death_in = (unsigned)fault->number;
        disk->death = fault->at_ms % 2 == 0 ? SIM_DEATH_BEFORE : SIM_DEATH_AFTER;
        break;
    case FAULT_DISK_ERROR:
        disk->fail_writes = (unsigned)fault->number;
        disk->fail_status = fault->at_ms % 2 == 0 ? RAFT_IOERR : RAFT_NOSPACE;
        break;
    case FAULT_DISK_FULL:
        disk->free_bytes = FULL_BYTES;
        break;
    case FAULT_FLIP:
    case FAULT_LOSE_TAIL:
        tamper(sim, machine, fault);
        break;
    case FAULT_WALL_JUMP:
        machine->wall_offset_ms += (int64_t)fault->number - 2 * HOUR_MS;
        break;
    case FAULT_TRANSFER:
        transfer(machine);
        break;
    default:
        break;
    }
}

static void set_links(struct sim *sim, const struct sim_fault *fault, unsigned a, bool on)
{
    switch (fault->kind) {
    case FAULT_CUT_ONE_WAY:
        cut(sim, a, fault->b, on);
        break;
    case FAULT_CUT:
        cut(sim, a, fault->b, on);
        cut(sim, fault->b, a, on);
        break;
    case FAULT_ISOLATE:
        cut_around(sim, a, true, true, on);
        break;
    case FAULT_DEAF:
        cut_around(sim, a, true, false, on);
        break;
    case FAULT_SPLIT:
        split(sim, fault->number, on);
        break;
    case FAULT_DROP:
    case FAULT_TWICE:
    case FAULT_REORDER:
    case FAULT_SLOW_NET:
        all_links(sim, fault, on);
        break;
    default:
        break;
    }
}

static void on_end(void *context, uint64_t machine_index)
{
    const struct sim_booked *booked = context;
    struct sim *sim = booked->sim;
    const struct sim_fault *fault = booked->fault;
    struct sim_machine *machine = &sim->machines[machine_index];
    if (sim->healed) {
        return;
    }
    world_say(&sim->world, "end of: %s m%u", names[fault->kind], machine->index);
    set_links(sim, fault, machine->index, false);
    if (fault->kind == FAULT_POWER) {
        power(machine, true);
    } else if (fault->kind == FAULT_SLOW_DISK) {
        machine->disk.slow_ns = 0;
    } else if (fault->kind == FAULT_DISK_FULL) {
        machine->disk.free_bytes = UINT64_MAX;
    }
}

static void on_begin(void *context, uint64_t argument)
{
    struct sim_booked *booked = context;
    struct sim *sim = booked->sim;
    const struct sim_fault *fault = booked->fault;
    struct sim_machine *machine = target_of(sim, fault);
    char text[128];
    (void)argument;
    sim_fault_print(fault, text, sizeof(text));
    world_say(&sim->world, "fault %s -> m%u", text, machine->index);
    sim->stats.faults++;
    turn_on(sim, fault, machine);
    set_links(sim, fault, machine->index, true);
    world_at(&sim->world, sim->world.now_ns + fault->for_ms * NS_PER_MS, NULL, on_end,
             booked, machine->index);
}

void sim_faults_book(struct sim *sim, const struct sim_fault_list *list, uint64_t mask)
{
    for (unsigned i = 0; i < list->count; i++) {
        if ((mask >> i & 1) == 0) {
            continue;
        }
        struct sim_booked *booked = &sim->booked[i];
        booked->sim = sim;
        booked->fault = &list->items[i];
        world_at(&sim->world, list->items[i].at_ms * NS_PER_MS, NULL, on_begin, booked,
                 0);
    }
}

void sim_faults_heal(struct sim *sim)
{
    sim->healed = true;
    world_say(&sim->world, "everything heals");
    for (unsigned i = 0; i < places(sim); i++) {
        for (unsigned j = 0; j < places(sim); j++) {
            sim->links[i][j] =
                (struct sim_link_state){.last_ns = sim->links[i][j].last_ns};
        }
    }
    for (unsigned i = 0; i < sim->machine_count; i++) {
        struct sim_machine *machine = &sim->machines[i];
        machine->disk.slow_ns = 0;
        machine->disk.free_bytes = UINT64_MAX;
        machine->disk.fail_writes = 0;
        machine->disk.death_in = 0;
        machine->down = false;
        sim_machine_start(machine);
    }
}
