/* What a VM's program has counted since it began: its disks, exits and its start; and
 * what the taps of its NICs have, since they were made.
 *
 * Pure: reads answers of QMP that somebody else has asked for (docs/vmm-statistics.md)
 * into numbers, and knows nothing of who asks or who is told. Shapes: `struct vm_stats`
 * is a value; which disks and NICs there are is said at its beginning, or once it is
 * known, and an answer adds none. A number counts as told from when an answer first had
 * it, and keeps the last that was told: what is absent, negative, no integer or of an
 * unknown device is passed over, for the program may be of another release, or no longer
 * ours. Units: nanoseconds, bytes, requests. Threads: none of its own. Ownership: answers
 * are borrowed. Errors: none. Limits: DISKS_MAX, NICS_MAX, 63 bits.
 */
#pragma once

#include "agent/engine.h"
#include "base/json.h"
#include "net/tap.h"

#include <stdbool.h>
#include <stdint.h>

enum vm_disk_verb {
    VM_DISK_READ = 0,
    VM_DISK_WRITE,
    VM_DISK_FLUSH,
    VM_DISK_DISCARD,
    VM_DISK_VERB_COUNT
};

/* Of one verb of one disk. `failed`: the disk could not; `invalid`: refused before it was
 * asked. `ns` is of those that succeeded or failed. */
enum vm_disk_number {
    VM_DISK_OPERATIONS = 0,
    VM_DISK_BYTES,
    VM_DISK_NS,
    VM_DISK_FAILED,
    VM_DISK_INVALID,
    VM_DISK_NUMBER_COUNT
};

/* Boundaries are powers of two from 1024 ns on; bin 0 is below the first, bin i from
 * boundary i - 1 on. */
#define VM_STATS_BOUNDARIES         24
#define VM_STATS_BINS               (VM_STATS_BOUNDARIES + 1)
#define VM_STATS_BOUNDARY_NS(index) (UINT64_C(1024) << (index))

struct vm_disk_verb_stats {
    uint32_t told; /* a bit for each number */
    bool has_bins;
    uint64_t numbers[VM_DISK_NUMBER_COUNT];
    uint64_t bins[VM_STATS_BINS];
};

struct vm_disk_stats {
    char name[NAME_SIZE];
    struct vm_disk_verb_stats verbs[VM_DISK_VERB_COUNT];
};

/* As the guest sees it: rx is to the guest. */
enum vm_nic_number {
    VM_NIC_RX_BYTES = 0,
    VM_NIC_RX_PACKETS,
    VM_NIC_RX_DROPPED,
    VM_NIC_TX_BYTES,
    VM_NIC_TX_PACKETS,
    VM_NIC_TX_DROPPED,
    VM_NIC_NUMBER_COUNT
};

struct vm_nic_stats {
    uint32_t told;
    uint64_t numbers[VM_NIC_NUMBER_COUNT];
    /* Of packets that the program took and dropped; in the numbers from the next look at
     * the tap on. */
    uint64_t rx_dropped_within;
    uint64_t tx_dropped_within;
};

/* Why a CPU left the guest for the program. */
enum vm_exit_reason {
    VM_EXIT_PORT = 0,
    VM_EXIT_MEMORY,
    VM_EXIT_INTERRUPTED,
    VM_EXIT_AGAIN,
    VM_EXIT_END,
    VM_EXIT_BROKEN,
    VM_EXIT_OTHER,
    VM_EXIT_COUNT
};

/* Since exec, in the order of their coming. */
enum vm_boot_phase {
    VM_BOOT_STARTED = 0,
    VM_BOOT_OPENED,
    VM_BOOT_MEMORY,
    VM_BOOT_MADE,
    VM_BOOT_JAILED,
    VM_BOOT_LOADED,
    VM_BOOT_CONNECTED,
    VM_BOOT_RESTORED,
    VM_BOOT_READY,
    VM_BOOT_GO,
    VM_BOOT_FIRST_RUN,
    VM_BOOT_FIRST_EXIT,
    VM_BOOT_FIRST_BYTE,
    VM_BOOT_COUNT
};

extern const char *const vm_disk_verb_names[];   /* read write flush discard */
extern const char *const vm_exit_reason_names[]; /* port memory ... */
extern const char *const vm_boot_phase_names[];  /* as in x-query-boot */

struct vm_stats {
    uint64_t told_ms; /* by the asker's clock: when the last answers were asked for; 0:
                         never */
    struct vm_disk_stats disks[DISKS_MAX];
    uint32_t disk_count;
    struct vm_nic_stats nics[NICS_MAX];
    uint32_t nic_count;
    uint32_t exits_told;
    uint64_t exits[VM_EXIT_COUNT]; /* of all CPUs */
    uint32_t boot_told;
    uint64_t boot_ns[VM_BOOT_COUNT];
};

/* Nothing told yet, of this VM's disks and NICs. */
void vm_stats_init(struct vm_stats *ret_stats, const struct engine_vm *vm);
/* Its disks and NICs are those of this VM, of which nothing is told yet; what is told of
 * the rest stays. */
void vm_stats_know(struct vm_stats *stats, const struct engine_vm *vm);

/* Each takes what its command has returned (NULL: nothing). */
/* query-blockstats: a disk is found by its name, or as QEMU's node "disk<place>". */
void vm_stats_take_disks(struct vm_stats *stats, const json_t *answer);
/* x-query-device-stats: NICs are "nic<place>"; other devices are passed over. */
void vm_stats_take_devices(struct vm_stats *stats, const json_t *answer);
/* query-stats of target vcpu: what provider berth counts. */
void vm_stats_take_exits(struct vm_stats *stats, const json_t *answer);
/* x-query-boot */
void vm_stats_take_boot(struct vm_stats *stats, const json_t *answer);

/* What the tap of a NIC has counted; nic below nic_count. */
void vm_stats_take_traffic(struct vm_stats *stats,
                           uint32_t nic,
                           const struct tap_traffic *traffic);

/* Whether an answer had this number, of the `told` beside it. */
static inline bool vm_stats_is_told(uint32_t told, unsigned number)
{
    return (told >> number & 1U) != 0;
}
