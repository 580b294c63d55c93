#include "sim_fault.h"

#include "base/require.h"

#include <raft.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNHEARD_SEEDS  4 /* one of so many, an odd one: there a user has VMs */
#define UNHEARD_MIN_NS (2 * NS_PER_S)
#define UNHEARD_MAX_NS (9 * NS_PER_S) /* longer than it takes to give a host up */
#define UNHEARD_OFF_NS (800 * NS_PER_MS)
#define SAID_NS        (60 * NS_PER_MS) /* until it is written, or said to all */
#define FULL_BYTES     (UINT64_C(8) << 20)
#define HOUR_MS        3600000

static const char *const names[FAULT_KIND_COUNT] = {
    "kill",      "power off",    "pause",      "cut one way", "cut",     "isolate",
    "deaf",      "split",        "drop",       "twice",       "reorder", "slow net",
    "slow disk", "die at write", "disk error", "disk full",   "flip",    "lose tail",
    "wall jump", "transfer",     "mute",       "hold",        "unready", "gone",
    "log gone",  "join",         "orphan",     "last word"};

const char *sim_fault_name(enum sim_fault_kind kind)
{
    return names[kind];
}

static void who(unsigned machine, char *text, size_t size)
{
    (void)snprintf(text, size,
                   machine < SIM_MACHINES_MAX    ? "m%u"
                   : machine == SIM_MACHINES_MAX ? "leader"
                                                 : "whoever changes",
                   machine);
}

void sim_fault_print(const struct sim_fault *fault, char *text, size_t size)
{
    char a[24];
    char b[24];
    who(fault->a, a, sizeof(a));
    who(fault->b, b, sizeof(b));
    (void)snprintf(text, size, "at %5.2f s%s for %5.2f s: %s %s (%s, %llu)",
                   (double)fault->at_ms / 1000,
                   fault->at_change ? " or when members change," : "",
                   (double)fault->for_ms / 1000, names[fault->kind], a, b,
                   (unsigned long long)fault->number);
}

/* ---- applying ---- */

static unsigned leader_or(const struct sim *sim, unsigned other)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim_process_leads(sim->machines[i].process)) {
            return i;
        }
    }
    return other;
}

static unsigned places(const struct sim *sim)
{
    (void)sim;
    return SIM_MACHINES_MAX + SIM_CLIENTS_MAX;
}

static void cut(struct sim *sim, unsigned from, unsigned to, bool is_cut)
{
    if (from != to) {
        unsigned *cuts = &sim->links[from][to].cuts;
        *cuts = is_cut ? *cuts + 1 : *cuts > 0 ? *cuts - 1 : 0;
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

/* Never beyond healing. */
static void hold(const struct sim_booked *booked)
{
    struct sim *sim = booked->sim;
    const struct sim_fault *fault = booked->fault;
    unsigned a = booked->a;
    uint64_t until_ms = sim->world.now_ns / NS_PER_MS + fault->for_ms;
    until_ms = until_ms < sim->config.faults_ms ? until_ms : sim->config.faults_ms;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (i == a || (fault->number == HOLD_FROM && i != booked->b)) {
            continue;
        }
        if (fault->number != HOLD_OUT) {
            sim->links[i][a].held_until_ns = until_ms * NS_PER_MS;
        }
        if (fault->number == HOLD_OUT || fault->number == HOLD_BOTH) {
            sim->links[a][i].held_until_ns = until_ms * NS_PER_MS;
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
static bool may_tamper(struct sim *sim, const struct sim_machine *machine)
{
    return machine->has_log && sim_members_can_spare(sim, machine);
}

/* One is as much as there is room for its VMs elsewhere. */
static void lose(struct sim *sim, struct sim_machine *machine, enum sim_fault_kind kind)
{
    if (sim->stats.gone > 0 || !machine->joined || !sim_members_can_spare(sim, machine)) {
        return;
    }
    if (kind == FAULT_GONE) {
        sim_members_lose(machine);
        return;
    }
    if (machine->has_log) {
        sim_members_lose_log(machine);
    }
}

/* What lies behind the sealed index may be lost without a trace: no tail is cut off
 * there, see docs/reliability.md. A bit that turns over is noticed there, too. */
static void
tamper(struct sim *sim, struct sim_machine *machine, const struct sim_fault *fault)
{
    struct sim_disk *disk = &machine->disk;
    uint64_t sealed = sim_raft_sealed_index(machine);
    if (!may_tamper(sim, machine) || sealed < disk->start) {
        return;
    }
    sim_machine_kill(machine, "power failed", (1 + fault->number % 3) * NS_PER_S);
    sealed = sim_raft_sealed_index(machine);
    if (sealed < disk->start) {
        return; /* the seal that was being written went with the power */
    }
    machine->tampered = true;
    uint64_t at = disk->start + fault->number % (sealed - disk->start + 1);
    if (fault->kind == FAULT_FLIP && fault->number % 2 == 1 &&
        sim_disk_last_index(disk) > sealed) {
        at = sealed + 1 + fault->number / 2 % (sim_disk_last_index(disk) - sealed);
    }
    if (fault->kind == FAULT_LOSE_TAIL) {
        sim_disk_lose_tail(disk, at);
    } else if (fault->number % 5 == 0) {
        disk->vote ^= fault->number | 1;
    } else if (at - disk->start < disk->count) {
        disk->log[at - disk->start].rotten = fault->number;
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

static void on_off(void *context, uint64_t machine)
{
    struct sim *sim = context;
    if (!sim->healed) {
        power(&sim->machines[machine], false);
    }
}

static void power_off_soon(struct sim *sim, const struct sim_machine *machine)
{
    world_at(&sim->world, sim->world.now_ns + SAID_NS, NULL, on_off, sim, machine->index);
}

static void slow_others(struct sim *sim, unsigned machine, uint64_t ms)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (i != machine) {
            sim->machines[i].disk.slow_ns = ms * NS_PER_MS;
        }
    }
}

static void turn_on(const struct sim_booked *booked)
{
    struct sim *sim = booked->sim;
    const struct sim_fault *fault = booked->fault;
    struct sim_machine *machine = &sim->machines[booked->a];
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
    case FAULT_HOLD:
        hold(booked);
        break;
    case FAULT_UNREADY:
        machine->unready++;
        break;
    case FAULT_GONE:
    case FAULT_LOG_GONE:
        lose(sim, machine, fault->kind);
        break;
    case FAULT_JOIN:
        power(machine, true);
        break;
    case FAULT_ORPHAN:
        power_off_soon(sim, machine);
        break;
    case FAULT_LAST_WORD:
        slow_others(sim, machine->index, fault->number);
        power_off_soon(sim, machine);
        break;
    default:
        break;
    }
}

static void set_links(const struct sim_booked *booked, bool on)
{
    struct sim *sim = booked->sim;
    const struct sim_fault *fault = booked->fault;
    unsigned a = booked->a;
    unsigned b = booked->b;
    switch (fault->kind) {
    case FAULT_CUT_ONE_WAY:
        cut(sim, a, b, on);
        break;
    case FAULT_CUT:
        cut(sim, a, b, on);
        cut(sim, b, a, on);
        break;
    case FAULT_ISOLATE:
    case FAULT_ORPHAN:
        cut_around(sim, a, true, true, on);
        break;
    case FAULT_DEAF:
        cut_around(sim, a, true, false, on);
        break;
    case FAULT_MUTE:
        cut_around(sim, a, false, true, on);
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

static void on_end(void *context, uint64_t argument)
{
    const struct sim_booked *booked = context;
    struct sim *sim = booked->sim;
    const struct sim_fault *fault = booked->fault;
    struct sim_machine *machine = &sim->machines[booked->a];
    (void)argument;
    if (sim->healed) {
        return;
    }
    world_say(&sim->world, "end of: %s m%u", names[fault->kind], machine->index);
    set_links(booked, false);
    if (fault->kind == FAULT_POWER || fault->kind == FAULT_ORPHAN) {
        power(machine, true);
    } else if (fault->kind == FAULT_LAST_WORD) {
        slow_others(sim, machine->index, 0);
        power(machine, true);
    } else if (fault->kind == FAULT_SLOW_DISK) {
        machine->disk.slow_ns = 0;
    } else if (fault->kind == FAULT_DISK_FULL) {
        machine->disk.free_bytes = UINT64_MAX;
    } else if (fault->kind == FAULT_UNREADY) {
        machine->unready--;
    }
}

static void on_begin(void *context, uint64_t argument)
{
    struct sim_booked *booked = context;
    struct sim *sim = booked->sim;
    const struct sim_fault *fault = booked->fault;
    char text[128];
    (void)argument;
    if (sim->healed) {
        return;
    }
    if (fault->at_change && !booked->changing) {
        booked->armed = true;
        return;
    }
    booked->a = fault->a < SIM_MACHINES_MAX    ? fault->a
                : fault->a == FAULT_OF_CHANGED ? booked->changed
                                               : leader_or(sim, fault->spare);
    booked->b = fault->b < SIM_MACHINES_MAX ? fault->b : leader_or(sim, fault->spare);
    sim_fault_print(fault, text, sizeof(text));
    world_say(&sim->world, "fault %s -> m%u, m%u", text, booked->a, booked->b);
    sim->stats.faults++;
    sim->faults_of_kind[fault->kind]++;
    turn_on(booked);
    set_links(booked, true);
    world_at(&sim->world, sim->world.now_ns + fault->for_ms * NS_PER_MS, NULL, on_end,
             booked, 0);
}

/* Some before the change is committed, some after; every second one waits for a vote that
 * is given or taken. */
void sim_faults_changing(struct sim *sim, unsigned machine, bool votes)
{
    for (unsigned i = 0; i < SIM_BOOKED_MAX; i++) {
        struct sim_booked *booked = &sim->booked[i];
        if (!booked->armed || (booked->fault->number / 2 % 2 == 1 && !votes)) {
            continue;
        }
        booked->armed = false;
        booked->changing = true;
        booked->changed = machine;
        uint64_t after_ns =
            booked->fault->number % 4 * (booked->fault->number % 100) * NS_PER_MS;
        world_at(&sim->world, sim->world.now_ns + after_ns / 2, NULL, on_begin, booked,
                 0);
        break;
    }
}

static void on_heard(void *context, uint64_t machine)
{
    struct sim *sim = context;
    if (!sim->healed) {
        cut_around(sim, (unsigned)machine, true, true, false);
        power(&sim->machines[machine], true);
    }
}

static void on_unheard(void *context, uint64_t machine)
{
    struct sim *sim = context;
    if (!sim->healed) {
        power(&sim->machines[machine], false);
        world_at(&sim->world, sim->world.now_ns + UNHEARD_OFF_NS, NULL, on_heard, sim,
                 machine);
    }
}

bool sim_faults_await_restore(const struct sim *sim)
{
    return !sim->healed && !sim->unheard && sim->config.seed % UNHEARD_SEEDS == 1;
}

void sim_faults_restoring(struct sim *sim, unsigned machine)
{
    if (!sim_faults_await_restore(sim)) {
        return;
    }
    sim->unheard = true; /* once in a run */
    world_say(&sim->world, "m%u is alone while it restores, then without power", machine);
    sim->stats.faults++;
    cut_around(sim, machine, true, true, true);
    world_at(&sim->world,
             sim->world.now_ns +
                 world_between(&sim->world, UNHEARD_MIN_NS, UNHEARD_MAX_NS),
             NULL, on_unheard, sim, machine);
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
        machine->unready = 0;
        sim_machine_start(machine);
    }
}
