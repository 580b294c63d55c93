/* What KVM itself has counted of a VM or a vCPU: exits that never come to us, halts,
 * faults of pages.
 *
 * Shapes: `struct kvm_stats` is a list of named numbers, each with its unit, a histogram
 * with several; what they are KVM says with them, and they differ between kernels. They
 * come from a descriptor that is opened once (Linux 5.14) and read at any time: it does
 * not wait for a vCPU that runs. Threads: any. Ownership: the caller's. Errors: -errno or
 * BERTH_ECORRUPT with text. Limits: KVM_STATS_MAX, KVM_STATS_VALUES_MAX.
 */
#pragma once

#include "base/err.h"

#include <linux/kvm.h>
#include <stdint.h>

#define KVM_STATS_MAX        512u  /* Linux 6.1 has 47 of a vCPU */
#define KVM_STATS_VALUES_MAX 8192u /* and 140 numbers in them */
#define KVM_STATS_NAME_SIZE  64u

/* Type, unit and base are KVM's: KVM_STATS_TYPE_*, KVM_STATS_UNIT_*, KVM_STATS_BASE_*. */
struct kvm_stat {
    char name[KVM_STATS_NAME_SIZE];
    uint32_t type;
    uint32_t unit;
    uint32_t base;
    int16_t exponent;
    uint32_t bucket_size; /* of a linear histogram */
    unsigned first;       /* of its values */
    unsigned value_count;
};

struct kvm_stats {
    struct kvm_stat *stats;
    unsigned count;
    uint64_t *values;
};

/* The descriptor of a VM's or vCPU's numbers; not while that vCPU runs. -1: KVM has none.
 */
int kvm_stats_open(int fd);
/* All of them as they are; none of -1. On failure there is nothing to give back. */
int kvm_stats_read(int stats_fd, struct kvm_stats *ret_stats, struct err *err);
void kvm_stats_fini(struct kvm_stats *stats);
