/* A whole machine as a stream of sections (state_stream.h), and out of one again.
 *
 * Shapes: `struct machine_parts` is what the machine lends for the call: everything that
 * has state but RAM. The stream has
 *     STATE_MACHINE   once, first: CPUs, RAM, devices, CPUID, rate of the TSC
 *     STATE_KVM       once: clock and interrupt controllers
 *     STATE_DEVICE    one for each, in their order
 *     STATE_VCPU      one for each, in their order
 *     STATE_MEMORY    once: written and read by the owner of RAM (ram_image.h)
 * Interrupts that devices raise while they come in are wiped by the vCPUs that follow:
 * what was due when the machine was saved is in their state. The clock is set last.
 *
 * Threads: no vCPU runs, all devices are stopped. Errors: with text. BERTH_ECORRUPT for
 * damage, which is looked for in the whole stream before anything is taken;
 * BERTH_EINVALID when the machine has another shape, BERTH_EUNSUPPORTED when the guest
 * cannot go on on this host. After an error of restore the machine is only good to be
 * freed.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/cpu_model.h"
#include "vmm/device.h"
#include "vmm/vcpu.h"

#include <stdint.h>

struct machine_parts {
    int kvm_fd;
    int vm_fd;
    uint64_t memory_bytes;
    const struct cpu_table *cpu_table;
    const struct vcpu *vcpus;
    unsigned cpu_count;
    struct device *const *devices;
    unsigned device_count;
    uint64_t wall_ms; /* what time it is */
};

/* Begins a stream and writes all sections but STATE_MEMORY; their number. What lies
 * behind devices is not part of it (device_sync). */
int machine_state_save(const struct machine_parts *parts,
                       struct bytes_writer *stream,
                       struct err *err);
/* Adds the last section and the end mark. */
void machine_state_finish(struct bytes_writer *stream,
                          const struct bytes_writer *memory,
                          unsigned section_count);

/* Takes the section of RAM. */
typedef int
machine_ram_take(void *context, struct bytes_reader *section, struct err *err);

int machine_state_restore(const struct machine_parts *parts,
                          const void *stream,
                          size_t size,
                          machine_ram_take *take_ram,
                          void *context,
                          struct err *err);
