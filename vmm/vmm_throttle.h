/* The rate limits of a machine's disks and NICs, as QMP sees and changes them while it
 * runs.
 *
 * Shapes: `struct vmm_throttle` is a list of devices by name, each with its limits as
 * they are; a NIC has them for each direction. Arguments and answers are JSON in QEMU's
 * words: bps and iops are bytes and operations (packets) a second, 0 for no limit;
 * bps_max and iops_max what may come at once, 0 for what a second gives. Disks are
 * changed as QEMU's are, by all six numbers of block_set_io_throttle, of which those for
 * one direction alone have to be 0; NICs, which QEMU has no word for, are changed one
 * direction at a time, and keep what is not named. What is refused changes nothing. A
 * limit that is changed begins with nothing owed; one that is said again goes on as it
 * was. What QMP has set is the process' own: a machine that is saved and goes on
 * elsewhere has the limits of the command line there, and who has set others sets them
 * again.
 *
 * Threads: the main one. Ownership: devices are the machine's, names are copied. Errors:
 * BERTH_EINVALID, BERTH_ENOTFOUND with text. Limits: as many as a machine can have.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "vmm/rate_limit.h"
#include "vmm/virtio_device.h"
#include "vmm/vmm_options.h"

#define VMM_THROTTLED_MAX (VMM_DISKS_MAX + VMM_NICS_MAX)

struct vmm_throttled {
    char name[NAME_SIZE];
    bool is_nic;
    struct virtio_device *device;
    struct rate_specs limits[2]; /* of a NIC by queue; of a disk the first */
};

struct vmm_throttle {
    struct vmm_throttled devices[VMM_THROTTLED_MAX];
    unsigned count;
};

/* Each device that has been made, with the limits it was made with. */
void vmm_throttle_add_disk(struct vmm_throttle *throttle,
                           const char *name,
                           struct virtio_device *device,
                           const struct rate_specs *limits);
void vmm_throttle_add_nic(struct vmm_throttle *throttle,
                          const char *name,
                          struct virtio_device *device,
                          const struct rate_specs limits[2]);
/* One that goes; fine for what has none. */
void vmm_throttle_remove(struct vmm_throttle *throttle,
                         const struct virtio_device *device);
/* block_set_io_throttle, and the same for a NIC. */
int vmm_throttle_disk(struct vmm_throttle *throttle,
                      const json_t *arguments,
                      struct err *err);
int vmm_throttle_nic(struct vmm_throttle *throttle,
                     const json_t *arguments,
                     struct err *err);
/* Those of a disk as they are; none of one that was not added. Borrowed. */
const struct rate_specs *vmm_throttle_limits(const struct vmm_throttle *throttle,
                                             const struct virtio_device *disk);
/* All of them as they are; NULL without memory. */
json_t *vmm_throttle_list(const struct vmm_throttle *throttle);
