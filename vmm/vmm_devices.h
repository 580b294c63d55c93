/* The virtio devices of berth-vmm's machine, from the command line to the PCI bus.
 *
 * Shapes: `struct vmm_devices` holds what lies behind the devices between two steps:
 * vmm_devices_open takes or opens every descriptor while paths can still be opened, and
 * vmm_devices_connect makes the devices of them, which is done inside the jail, because a
 * disk's own tables are read there. Every machine has entropy and a balloon; disks and
 * NICs come in the order of the command line, and into the slots that it says. One in a
 * slot is called by its id, which is nobody else's name; the others are disk0 and nic0,
 * disk1 and so on, by their order without those. Threads: the main one, before the
 * machine runs. Ownership: descriptors move into the devices, which belong to the
 * machine; close lets go of those that have not moved. Errors: with the device's name.
 */
#pragma once

#include "base/err.h"
#include "vmm/disk_faults.h"
#include "vmm/disk_queue.h"
#include "vmm/machine.h"
#include "vmm/virtio_net.h"
#include "vmm/vmm_options.h"
#include "vmm/vmm_stats.h"
#include "vmm/vmm_throttle.h"

struct vmm_devices {
    struct virtio_device *balloon; /* the machine's; NULL before connect */
    struct virtio_device *memory;  /* the same; NULL when none is to be plugged */
    struct vmm_throttle throttle;  /* its disks and NICs */
    struct vmm_stats stats;        /* all of them; borrows the options */
    struct disk_faults faults;     /* of its disks */
    bool has_ring;                 /* a disk has one: see VMM_ROLE_RING */
    bool has_vhost;                /* the kernel may serve a NIC: see VMM_ROLE_VHOST */
    /* private: -1 or on their way */
    int disks[VMM_DISKS_MAX];
    int bases[VMM_DISKS_MAX];
    int taps[VMM_NICS_MAX][VIRTIO_NET_PAIRS_MAX];
    int vhosts[VMM_NICS_MAX][VIRTIO_NET_PAIRS_MAX];
    int console;
    int vsock_listener;
    int vsock_dialer;
};

/* All empty. */
void vmm_devices_init(struct vmm_devices *devices);
int vmm_devices_open(struct vmm_devices *devices,
                     const struct vmm_options *options,
                     struct err *err);
/* The size of the largest file among the disks, which is the most that it will have. */
uint64_t vmm_devices_largest(const struct vmm_devices *devices);
/* Adds all of them to the held machine. Each worker of a disk calls threads->began first;
 * its count is not looked at. */
int vmm_devices_connect(struct vmm_devices *devices,
                        const struct vmm_options *options,
                        struct machine *machine,
                        const struct disk_queue_threads *threads,
                        struct err *err);
void vmm_devices_close(struct vmm_devices *devices);

/* ---- one at a time: vmm_plug.h does it while the machine runs ---- */

/* Whether descriptors can be what is behind a disk (disk_access.h), beside the disks that
 * the machine has; base_fd may be -1. */
int vmm_disk_check(const struct vmm_devices *devices,
                   int fd,
                   int base_fd,
                   const struct vmm_disk_option *option,
                   struct err *err);
/* What is behind a disk; descriptors that are taken are -1 then. */
int vmm_disk_make(int *fd,
                  int *base_fd,
                  const struct vmm_disk_option *option,
                  struct virtual_disk **ret_disk,
                  struct err *err);
/* Its device; takes the disk on success. */
int vmm_disk_device(const struct virtio_place *place,
                    const struct vmm_disk_option *option,
                    const struct disk_queue_threads *threads,
                    struct virtual_disk *take_disk,
                    struct virtio_device **ret_device,
                    struct err *err);
/* Takes the descriptors on success: they are -1 then. */
int vmm_nic_device(const struct virtio_place *place,
                   const struct vmm_nic_option *option,
                   int *take_fds,
                   struct virtio_device **ret_device,
                   struct err *err);
/* One that is in the machine is counted, limited and heard of; of a disk the option is
 * borrowed until it is forgotten. */
void vmm_devices_know_disk(struct vmm_devices *devices,
                           struct virtio_device *device,
                           const struct vmm_disk_option *option);
void vmm_devices_know_nic(struct vmm_devices *devices,
                          struct virtio_device *device,
                          const struct vmm_nic_option *option);
/* One that has gone; any. */
void vmm_devices_forget(struct vmm_devices *devices, const struct virtio_device *device);
