/* Which CPU the guest sees: named levels over what KVM offers, and each vCPU's topology.
 *
 * Shapes: a CPUID table is a list of kvm_cpuid_entry2. `host` keeps all that KVM and this
 * CPU have; x86-64-v2, -v3 and -v4 keep what the level's CPUs all have and nothing else,
 * so that a VM finds the same on every host of at least that level. On all of them what
 * no VM should see is off: performance counters, MONITOR, nested virtualisation, a time
 * stamp counter that promises more than we can keep. Pure: tables in, tables out.
 *
 * A named level is also what KVM offers beside the CPU, as every KVM has it that it runs
 * on, and CPU_ADDRESS_BITS of a physical address, which are enough for
 * MACHINE_MEMORY_MAX.
 *
 * What is still the host's on every level: vendor, family, model and brand, caches, and
 * the bits that tell a kernel which speculation it has to guard against. Errors:
 * BERTH_EUNSUPPORTED when the host lacks what the level promises, with the feature's
 * name; BERTH_EINVALID for a name that is none. Limits: CPU_ENTRIES_MAX.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/kvm_calls.h"

#define CPU_ENTRIES_MAX 256u
#define CPU_ADDRESS_BITS \
    39u /* what desktops of the last ten years have; servers have more */

enum cpu_level { CPU_HOST = 0, CPU_V2, CPU_V3, CPU_V4, CPU_LEVEL_COUNT };

struct cpu_table {
    unsigned count;
    struct kvm_cpuid_entry2 entries[CPU_ENTRIES_MAX];
};

int cpu_level_parse(const char *name, enum cpu_level *ret_level, struct err *err);
const char *cpu_level_name(enum cpu_level level);
/* Cuts the table of KVM_GET_SUPPORTED_CPUID down to the level. */
int cpu_model_apply(struct cpu_table *table, enum cpu_level level, struct err *err);
/* Writes into the table which of cpu_count vCPUs this one is: one socket, one thread per
 * core, APIC ids from 0. */
void cpu_model_place(struct cpu_table *table, unsigned index, unsigned cpu_count);
/* Whether a guest that has seen one table can go on with the other: the same vendor, the
 * same features, the same layout of the extended state, and no fewer of KVM's features or
 * bits of an address. BERTH_EUNSUPPORTED with what differs. */
int cpu_model_same(const struct cpu_table *saved,
                   const struct cpu_table *ours,
                   struct err *err);
void cpu_table_write(const struct cpu_table *table, struct bytes_writer *writer);
/* BERTH_ECORRUPT when it does not fit. */
int cpu_table_read(struct cpu_table *ret_table, struct bytes_reader *reader);
