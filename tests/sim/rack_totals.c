#include "rack_totals.h"

#include "sim_fault.h"

#include <stdio.h>

_Static_assert(FAULT_KIND_COUNT <= SIM_FAULT_KINDS_MAX, "each kind is counted");

typedef unsigned long long wide;

void rack_totals_add(struct rack_totals *totals, const struct rack_totals *more)
{
    uint64_t *to = (uint64_t *)totals;
    const uint64_t *from = (const uint64_t *)more;
    for (size_t i = 0; i < RACK_TOTALS_COUNT; i++) {
        to[i] += from[i];
    }
}

void rack_totals_add_run(struct rack_totals *totals, struct sim *sim, bool good)
{
    struct rack_totals run = {.runs = 1,
                              .failed = good ? 0 : 1,
                              .virtual_ns = sim->world.now_ns,
                              .events = sim->world.events_run,
                              .stats = sim->stats,
                              .traces = sim_trace(sim)};
    for (size_t i = 0; i < SIM_FAULT_KINDS_MAX; i++) {
        run.faults[i] = sim->faults_of_kind[i];
    }
    rack_totals_add(totals, &run);
}

/* ---- words ---- */

static void print_speed(const struct rack_totals *totals)
{
    double took = totals->cpu_us > 0 ? (double)totals->cpu_us / 1e6 : 1e-6;
    double virtual_s = (double)totals->virtual_ns / 1e9;
    printf("%llu runs, %llu failed; %.1f s of rack time in %.2f s of CPU: %.0f times "
           "real time, %.1f runs/s, %.0f events/s\n",
           (wide)totals->runs, (wide)totals->failed, virtual_s, took, virtual_s / took,
           (double)totals->runs / took, (double)totals->events / took);
    printf("trace of all %016llx: the same seeds give the same\n", (wide)totals->traces);
}

static void print_faults(const struct rack_totals *totals)
{
    const char *comma = "";
    for (unsigned i = 0; i < FAULT_KIND_COUNT; i++) {
        if (totals->faults[i] > 0) {
            printf("%s%s %llu", comma, sim_fault_name((enum sim_fault_kind)i),
                   (wide)totals->faults[i]);
            comma = ", ";
        }
    }
    printf("\n");
}

void rack_totals_print(const struct rack_totals *totals)
{
    const struct sim_stats *stats = &totals->stats;
    print_speed(totals);
    printf("faults %llu, deaths %llu, leaders %llu, packets %llu; writes acked %llu, "
           "reads %llu, retries %llu, unknown %llu, logs refused %llu\n",
           (wide)stats->faults, (wide)stats->crashes, (wide)stats->leaders,
           (wide)stats->packets, (wide)stats->acked, (wide)stats->reads,
           (wide)stats->retries, (wide)stats->unknown, (wide)stats->refusals_to_start);
    printf("VMs started %llu (%llu with kept disks), frozen %llu, ended by lease %llu; "
           "kept disks given up %llu, disks removed %llu; paused %llu, saved %llu "
           "(%llu damaged), gone back %llu (called off %llu)\n",
           (wide)stats->vm_starts, (wide)stats->vm_disk_starts, (wide)stats->vm_freezes,
           (wide)stats->vm_kills, (wide)stats->disks_given_up, (wide)stats->disks_removed,
           (wide)stats->vm_pauses, (wide)stats->snapshots, (wide)stats->snapshots_damaged,
           (wide)stats->vm_restores, (wide)stats->restores_called_off);
    printf("changes told to watches %llu; watches gone on %llu, reset %llu; histories "
           "%llu, undecided %llu\n",
           (wide)stats->watch_events, (wide)stats->watch_resumes,
           (wide)stats->watch_resets, (wide)stats->histories, (wide)stats->undecided);
    printf("machines or logs gone %llu, machines joined %llu, changes of voters %llu "
           "(%llu new ones), hosts helped by a token %llu\n",
           (wide)stats->gone, (wide)stats->joined, (wide)stats->changes,
           (wide)stats->replaced, (wide)stats->helped);
    print_faults(totals);
}

/* ---- tables ---- */

static void print_row(const char *what, uint64_t number, double cpu_s)
{
    printf("| %s | %llu | %.1f |\n", what, (wide)number, (double)number / cpu_s);
}

void rack_totals_print_tables(const struct rack_totals *totals)
{
    const struct sim_stats *stats = &totals->stats;
    double cpu_s = totals->cpu_us > 0 ? (double)totals->cpu_us / 1e6 : 1e-6;
    printf("\n| what | number | a second of one core |\n| --- | --- | --- |\n");
    print_row("runs", totals->runs, cpu_s);
    print_row("runs that failed", totals->failed, cpu_s);
    printf("| hours of rack time | %.1f | %.4f |\n", (double)totals->virtual_ns / 3.6e12,
           (double)totals->virtual_ns / 3.6e12 / cpu_s);
    print_row("messages", stats->packets, cpu_s);
    print_row("elections", stats->leaders, cpu_s);
    print_row("deaths of a process", stats->crashes, cpu_s);
    print_row("writes acknowledged", stats->acked, cpu_s);
    print_row("reads checked", stats->reads, cpu_s);
    print_row("changes told to watches", stats->watch_events, cpu_s);
    print_row("histories explained", stats->histories - stats->undecided, cpu_s);
    print_row("histories undecided", stats->undecided, cpu_s);
    print_row("VMs started", stats->vm_starts, cpu_s);
    print_row("VMs ended by their lease", stats->vm_kills, cpu_s);
    print_row("VMs paused", stats->vm_pauses, cpu_s);
    print_row("snapshots made", stats->snapshots, cpu_s);
    print_row("VMs gone back to a snapshot", stats->vm_restores, cpu_s);
    print_row("machines or logs lost for good", stats->gone, cpu_s);
    print_row("changes of voters", stats->changes, cpu_s);
    print_row("hosts helped by a token", stats->helped, cpu_s);
    print_row("logs refused after damage", stats->refusals_to_start, cpu_s);
    print_row("faults", stats->faults, cpu_s);
    printf("\nFaults by kind: ");
    print_faults(totals);
    printf("\n%.1f hours of CPU; trace of all %016llx.\n", cpu_s / 3600,
           (wide)totals->traces);
}
