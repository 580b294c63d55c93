/* What must hold of a VM's numbers whatever its program has answered. */
#pragma once

#include "agent/vm_stats.h"
#include "base/cleanup.h"
#include "base/require.h"

/* Of a table of numbers: none that was not told, no bit beyond the table, no number that
 * JSON could not have said. */
static inline void
numbers_sane(const uint64_t *numbers, unsigned count, uint32_t told, uint64_t most)
{
    REQUIRE(told >> count == 0);
    for (unsigned i = 0; i < count; i++) {
        REQUIRE(vm_stats_is_told(told, i) ? numbers[i] <= most : numbers[i] == 0);
    }
}

static inline void verb_sane(const struct vm_disk_verb_stats *verb)
{
    uint64_t sum = 0;
    numbers_sane(verb->numbers, VM_DISK_NUMBER_COUNT, verb->told, INT64_MAX);
    for (unsigned i = 0; i < VM_STATS_BINS; i++) {
        REQUIRE_IF(!verb->has_bins, verb->bins[i] == 0);
        REQUIRE(verb->bins[i] <= INT64_MAX - sum); /* buckets are sums of these */
        sum += verb->bins[i];
    }
}

static inline void vm_stats_sane(const struct vm_stats *stats)
{
    for (uint32_t i = 0; i < DISKS_MAX; i++) {
        for (unsigned verb = 0; verb < VM_DISK_VERB_COUNT; verb++) {
            verb_sane(&stats->disks[i].verbs[verb]);
            REQUIRE_IF(i >= stats->disk_count, stats->disks[i].verbs[verb].told == 0);
        }
    }
    for (uint32_t i = 0; i < NICS_MAX; i++) {
        const struct vm_nic_stats *nic = &stats->nics[i];
        numbers_sane(nic->numbers, VM_NIC_NUMBER_COUNT, nic->told, INT64_MAX);
        REQUIRE_IF(i >= stats->nic_count, nic->told == 0 && nic->rx_dropped_within == 0 &&
                                              nic->tx_dropped_within == 0);
    }
    numbers_sane(stats->exits, VM_EXIT_COUNT, stats->exits_told, UINT64_MAX);
    numbers_sane(stats->boot_ns, VM_BOOT_COUNT, stats->boot_told, INT64_MAX);
}
