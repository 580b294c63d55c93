/* What many runs of the simulation add up to, and how it is told.
 *
 * Shapes: a flat row of 64-bit sums, so that it can be added, stored and read back whole.
 * Units: as named; times are CPU time of the runs alone. Threads: the caller's.
 */
#pragma once

#include "sim.h"

struct rack_totals {
    uint64_t runs, failed, virtual_ns, events;
    uint64_t traces; /* of all, in any order */
    uint64_t cpu_us;
    struct sim_stats stats;
    uint64_t faults[SIM_FAULT_KINDS_MAX];
};
#define RACK_TOTALS_COUNT (sizeof(struct rack_totals) / sizeof(uint64_t))

void rack_totals_add(struct rack_totals *totals, const struct rack_totals *more);
/* What a run that has ended, well or not, counts. */
void rack_totals_add_run(struct rack_totals *totals, struct sim *sim, bool good);
/* A few lines for whoever waited for it. */
void rack_totals_print(const struct rack_totals *totals);
/* The same as tables in Markdown (bench/results/simulation.md). */
void rack_totals_print_tables(const struct rack_totals *totals);
