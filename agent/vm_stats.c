#include "agent/vm_stats.h"

#include "base/cleanup.h"
#include "base/require.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *const vm_disk_verb_names[] = {"read", "write", "flush", "discard"};
const char *const vm_exit_reason_names[] = {"port", "memory", "interrupted", "again",
                                            "end",  "broken", "other"};
const char *const vm_boot_phase_names[] = {
    "started",  "opened", "memory", "made",      "jailed",     "loaded",    "connected",
    "restored", "ready",  "go",     "first-run", "first-exit", "first-byte"};

_Static_assert(ARRAY_COUNT(vm_disk_verb_names) == VM_DISK_VERB_COUNT, "a name for each");
_Static_assert(ARRAY_COUNT(vm_exit_reason_names) == VM_EXIT_COUNT, "a name for each");
_Static_assert(ARRAY_COUNT(vm_boot_phase_names) == VM_BOOT_COUNT, "a name for each");

static bool take_number(const json_t *value, uint64_t *ret_number)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return false;
    }
    *ret_number = (uint64_t)json_integer_value(value);
    return true;
}

/* A table's row for each number: members[i] is number i; NULL: it is not told. */
static void take_members(const json_t *object,
                         const char *const *members,
                         unsigned count,
                         uint64_t *numbers,
                         uint32_t *told)
{
    for (unsigned i = 0; i < count; i++) {
        if (members[i] != NULL &&
            take_number(json_object_get(object, members[i]), &numbers[i])) {
            *told |= UINT32_C(1) << i;
        }
    }
}

/* The place of a device that is named by it; `count` when it is none of ours. */
static uint32_t place_of(const char *text, const char *prefix, uint32_t count)
{
    char want[16];
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(want, sizeof(want), "%s%" PRIu32, prefix, i); /* fits */
        if (strcmp(want, text) == 0) {
            return i;
        }
    }
    return count;
}

void vm_stats_init(struct vm_stats *ret_stats, const struct engine_vm *vm)
{
    *ret_stats = (struct vm_stats){.told_ms = 0};
    vm_stats_know(ret_stats, vm);
}

void vm_stats_know(struct vm_stats *stats, const struct engine_vm *vm)
{
    memset(stats->disks, 0, sizeof(stats->disks));
    memset(stats->nics, 0, sizeof(stats->nics));
    stats->disk_count = vm->disk_count;
    stats->nic_count = vm->nic_count;
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        memcpy(stats->disks[i].name, vm->disks[i].name, NAME_SIZE);
    }
}

/* ---- disks ---- */

static const struct {
    const char *numbers[VM_DISK_NUMBER_COUNT];
    const char *histogram;
} disk_members[VM_DISK_VERB_COUNT] = {
    [VM_DISK_READ] = {{"rd_operations", "rd_bytes", "rd_total_time_ns",
                       "failed_rd_operations", "invalid_rd_operations"},
                      "rd_latency_histogram"},
    [VM_DISK_WRITE] = {{"wr_operations", "wr_bytes", "wr_total_time_ns",
                        "failed_wr_operations", "invalid_wr_operations"},
                       "wr_latency_histogram"},
    [VM_DISK_FLUSH] = {{"flush_operations", NULL, "flush_total_time_ns",
                        "failed_flush_operations", "invalid_flush_operations"},
                       "flush_latency_histogram"},
    [VM_DISK_DISCARD] = {{"unmap_operations", "unmap_bytes", "unmap_total_time_ns",
                          "failed_unmap_operations", "invalid_unmap_operations"},
                         NULL},
};

/* All or nothing, and only with our boundaries: bins of others mean something else. Who
 * tells of it makes sums of them, which 63 bits hold. */
static void take_histogram(struct vm_disk_verb_stats *verb, const json_t *histogram)
{
    const json_t *boundaries = json_object_get(histogram, "boundaries");
    const json_t *bins = json_object_get(histogram, "bins");
    uint64_t taken[VM_STATS_BINS];
    uint64_t boundary = 0;
    uint64_t sum = 0;
    if (json_array_size(boundaries) != VM_STATS_BOUNDARIES ||
        json_array_size(bins) != VM_STATS_BINS) {
        return;
    }
    for (unsigned i = 0; i < VM_STATS_BOUNDARIES; i++) {
        if (!take_number(json_array_get(boundaries, i), &boundary) ||
            boundary != VM_STATS_BOUNDARY_NS(i)) {
            return;
        }
    }
    for (unsigned i = 0; i < VM_STATS_BINS; i++) {
        if (!take_number(json_array_get(bins, i), &taken[i]) ||
            taken[i] > INT64_MAX - sum) {
            return;
        }
        sum += taken[i];
    }
    memcpy(verb->bins, taken, sizeof(taken));
    verb->has_bins = true;
}

static struct vm_disk_stats *disk_of(struct vm_stats *stats, const json_t *item)
{
    const char *device = json_member_text(item, "device", "");
    for (uint32_t i = 0; i < stats->disk_count; i++) {
        if (strcmp(stats->disks[i].name, device) == 0) {
            return &stats->disks[i];
        }
    }
    uint32_t place =
        place_of(json_member_text(item, "node-name", ""), "disk", stats->disk_count);
    return device[0] == '\0' && place < stats->disk_count ? &stats->disks[place] : NULL;
}

void vm_stats_take_disks(struct vm_stats *stats, const json_t *answer)
{
    for (size_t i = 0; i < json_array_size(answer); i++) {
        const json_t *item = json_array_get(answer, i);
        const json_t *numbers = json_object_get(item, "stats");
        struct vm_disk_stats *disk = disk_of(stats, item);
        for (unsigned verb = 0; disk != NULL && verb < VM_DISK_VERB_COUNT; verb++) {
            struct vm_disk_verb_stats *into = &disk->verbs[verb];
            take_members(numbers, disk_members[verb].numbers, VM_DISK_NUMBER_COUNT,
                         into->numbers, &into->told);
            if (disk_members[verb].histogram != NULL) {
                take_histogram(into,
                               json_object_get(numbers, disk_members[verb].histogram));
            }
        }
    }
}

/* ---- devices ---- */

void vm_stats_take_devices(struct vm_stats *stats, const json_t *answer)
{
    for (size_t i = 0; i < json_array_size(answer); i++) {
        const json_t *item = json_array_get(answer, i);
        uint32_t place =
            place_of(json_member_text(item, "id", ""), "nic", stats->nic_count);
        if (place < stats->nic_count) {
            struct vm_nic_stats *nic = &stats->nics[place];
            const json_t *numbers = json_object_get(item, "stats");
            (void)take_number(json_object_get(numbers, "rx_dropped"),
                              &nic->rx_dropped_within); /* or it stays, as all does */
            (void)take_number(json_object_get(numbers, "tx_dropped"),
                              &nic->tx_dropped_within);
        }
    }
}

void vm_stats_take_traffic(struct vm_stats *stats,
                           uint32_t nic,
                           const struct tap_traffic *traffic)
{
    REQUIRE(nic < stats->nic_count);
    struct vm_nic_stats *into = &stats->nics[nic];
    into->told = (UINT32_C(1) << VM_NIC_NUMBER_COUNT) - 1;
    into->numbers[VM_NIC_RX_BYTES] = traffic->rx_bytes;
    into->numbers[VM_NIC_RX_PACKETS] = traffic->rx_packets;
    into->numbers[VM_NIC_RX_DROPPED] = traffic->rx_dropped + into->rx_dropped_within;
    into->numbers[VM_NIC_TX_BYTES] = traffic->tx_bytes;
    into->numbers[VM_NIC_TX_PACKETS] = traffic->tx_packets;
    into->numbers[VM_NIC_TX_DROPPED] = traffic->tx_dropped + into->tx_dropped_within;
}

/* ---- CPUs ---- */

static const char *const exit_members[VM_EXIT_COUNT] = {
    [VM_EXIT_PORT] = "port_exits",
    [VM_EXIT_MEMORY] = "memory_exits",
    [VM_EXIT_INTERRUPTED] = "interrupted_exits",
    [VM_EXIT_AGAIN] = "again_exits",
    [VM_EXIT_END] = "end_exits",
    [VM_EXIT_BROKEN] = "broken_exits",
    [VM_EXIT_OTHER] = "other_exits",
};

static void add_exits(const json_t *counts, uint64_t sums[VM_EXIT_COUNT], uint32_t *told)
{
    for (size_t i = 0; i < json_array_size(counts); i++) {
        const json_t *item = json_array_get(counts, i);
        const char *name = json_member_text(item, "name", "");
        uint64_t value = 0;
        for (unsigned reason = 0; reason < VM_EXIT_COUNT; reason++) {
            if (strcmp(exit_members[reason], name) == 0 &&
                take_number(json_object_get(item, "value"), &value)) {
                sums[reason] += value; /* begins at 0 again after 64 bits, as it may */
                *told |= UINT32_C(1) << reason;
            }
        }
    }
}

void vm_stats_take_exits(struct vm_stats *stats, const json_t *answer)
{
    uint64_t sums[VM_EXIT_COUNT] = {0};
    uint32_t told = 0;
    for (size_t i = 0; i < json_array_size(answer); i++) {
        const json_t *cpu = json_array_get(answer, i);
        if (strcmp(json_member_text(cpu, "provider", ""), "berth") == 0) {
            add_exits(json_object_get(cpu, "stats"), sums, &told);
        }
    }
    for (unsigned reason = 0; reason < VM_EXIT_COUNT; reason++) {
        if (vm_stats_is_told(told, reason)) {
            stats->exits[reason] = sums[reason];
        }
    }
    stats->exits_told |= told;
}

/* ---- a start ---- */

void vm_stats_take_boot(struct vm_stats *stats, const json_t *answer)
{
    const json_t *phases = json_object_get(answer, "phases");
    for (size_t i = 0; i < json_array_size(phases); i++) {
        const json_t *item = json_array_get(phases, i);
        const char *name = json_member_text(item, "phase", "");
        for (unsigned phase = 0; phase < VM_BOOT_COUNT; phase++) {
            if (strcmp(vm_boot_phase_names[phase], name) == 0 &&
                take_number(json_object_get(item, "ns"), &stats->boot_ns[phase])) {
                stats->boot_told |= UINT32_C(1) << phase;
            }
        }
    }
}
