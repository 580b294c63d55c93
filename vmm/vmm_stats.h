/* What QMP tells of a machine's devices: its disks, and what each device has counted.
 *
 * Shapes: `struct vmm_stats` is a list of devices by name, as they are now. Answers are
 * JSON: those of query-block and query-blockstats have QEMU's members, as far as there is
 * something to say; that of x-query-device-stats has all devices, each with the numbers
 * that its type counts, whose names its type's table has; that of x-query-boot is what
 * boot_trace.h knows. A disk's latencies are counted
 * by powers of two from the start (QEMU has to be told bounds). All of them begin with
 * the process: a machine that was saved and goes on has counted nothing.
 *
 * Threads: the main one. No lock is taken and no device or vCPU waits; the numbers are
 * not all of one moment. Ownership: devices are the machine's, texts the options'.
 * Errors: NULL without memory. Limits: VMM_COUNTED_MAX devices.
 */
#pragma once

#include "base/json.h"
#include "vmm/boot_trace.h"
#include "vmm/serial_port.h"
#include "vmm/virtio_device.h"
#include "vmm/vmm_options.h"
#include "vmm/vmm_throttle.h"

/* Of its devices one each: console, vsock, entropy, balloon, plugged RAM. */
#define VMM_COUNTED_MAX (VMM_DISKS_MAX + VMM_NICS_MAX + 5u)

struct vmm_counted {
    const char *id; /* what QMP calls it elsewhere: of a disk from the start its name */
    const struct virtio_device *device;
    const struct vmm_disk_option *disk; /* NULL: it is none */
};

struct vmm_stats {
    struct vmm_counted devices[VMM_COUNTED_MAX];
    unsigned count;
    const struct serial_port *serial; /* NULL: nobody is told of it */
};

/* Each device that has been made; `disk` of one that is none is NULL. */
void vmm_stats_add(struct vmm_stats *stats,
                   const struct virtio_device *device,
                   const struct vmm_disk_option *disk);
/* One that goes. */
void vmm_stats_remove(struct vmm_stats *stats, const struct virtio_device *device);
/* Whether one has that name. */
bool vmm_stats_has(const struct vmm_stats *stats, const char *id);
json_t *vmm_stats_blocks(const struct vmm_stats *stats,
                         const struct vmm_throttle *throttle);
json_t *vmm_stats_block_counts(const struct vmm_stats *stats);
json_t *vmm_stats_devices(const struct vmm_stats *stats);
/* The phases that were reached, in their order, and the guest's own marks. */
json_t *vmm_stats_boot(const struct boot_trace *trace);
