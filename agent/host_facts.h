/* What this host has and how busy it is: inventory once, usage on demand, all from /proc
 * and /sys.
 *
 * Shapes: struct host_facts and struct host_usage are plain values; struct host_sampler
 * remembers the last CPU counters. Units: bytes, permille. Threads: any; calls block for
 * some file reads, host_facts_read also for the KVM probe (as long as vmm/kvm_probe.h
 * says) and for one `qemu-system-x86_64 --version`: call it at start only. Errors: what
 * cannot be read is 0 or ""; host_facts_read fails only when memory or cores are unknown.
 */
#pragma once

#include "base/err.h"
#include "model/objects.h"

#include <stdbool.h>
#include <stdint.h>

#define HOST_FACTS_TEXT_SIZE 128
#define HOST_RESERVE_MAX     (UINT64_C(256) << 20) /* by default */

struct host_facts {
    uint32_t cores; /* online logical CPUs that we may use */
    uint32_t numa_nodes;
    uint64_t memory_bytes;
    char kernel[HOST_FACTS_TEXT_SIZE];
    char qemu_version[HOST_FACTS_TEXT_SIZE]; /* "" without QEMU */
    uint32_t engines; /* ENGINE_BIT set; kvm where KVM is native and berth-vmm there */
    enum kvm_kind kvm;
    uint32_t tsc_khz; /* of the time stamp counter, measured; an emulated guest sees the
                         same */
    char kvm_reason[256];
    enum cpu_baseline cpu_baseline; /* the highest that engine kvm gives; host: none */
};

struct host_usage {
    uint32_t cpu_busy_permille; /* of all cores since the last sample */
    uint64_t memory_available_bytes;
    uint64_t memory_used_bytes; /* total less available */
    uint64_t disk_total_bytes;  /* of the file system the folder is on */
    uint64_t disk_free_bytes;   /* for us */
};

struct host_sampler { /* fields private; zero it first */
    uint64_t busy_ticks;
    uint64_t total_ticks;
};

int host_facts_read(struct host_facts *ret_facts, struct err *err);
/* Memory that is kept for the host when nobody says how much: half of a small machine's.
 */
uint64_t host_reserve_default(const struct host_facts *facts);
/* Whether such a reserve leaves VMs any memory: 0, or BERTH_EINVALID and what there is.
 */
int host_reserve_check(const struct host_facts *facts,
                       uint64_t reserve_bytes,
                       struct err *err);
/* The first call after zeroing gives the mean since boot. folder: whose disk. */
int host_usage_sample(struct host_sampler *sampler,
                      const char *folder,
                      struct host_usage *ret_usage,
                      struct err *err);
/* Huge pages that are reserved for whoever asks for them: no other memory. */
uint64_t host_pool_bytes(void);
/* Of the file system that the folder is on; 0 when it cannot be asked. */
uint64_t host_disk_bytes(const char *folder);

/* The pure halves, for tests: texts of /proc/stat and /proc/meminfo. False when they hold
 * no such line. */
bool host_facts_parse_stat(const char *text, uint64_t *ret_busy, uint64_t *ret_total);
bool host_facts_parse_meminfo(const char *text,
                              uint64_t *ret_total_bytes,
                              uint64_t *ret_available_bytes);
