/* Disks and NICs that QMP brings while the machine runs, and takes away again.
 *
 * Shapes: in QEMU's words, as far as they go. What is behind a device comes first:
 * blockdev-add opens a disk as a node, netdev_add a tap; device_add gives it to the guest
 * as virtio-blk-pci or virtio-net-pci, and device_del asks the guest to let it go. The
 * event DEVICE_DELETED tells that it has, and that its files are closed; what is left of
 * the node or netdev is its name, until blockdev-del or netdev_del.
 *
 *     added --device_add--> used --device_del, and the guest lets go--> spent
 *       \----------------------- del ----------------------------------/
 *
 * A disk has a serial number as --disk has a name, and by the same rules: by that it is
 * named where a saved machine goes on.
 *
 * Nothing is opened by name: a file is "/dev/fdset/N" (add-fd) or a name of getfd, which
 * is used up. A disk is raw, or the overlay of disk_overlay.h (driver "overlay", with
 * "backing" and "digest"); no other writes its file (disk_access.h). It is served by
 * threads alone: a ring cannot be made any more. A NIC is served without the kernel's
 * help (vhost). What is not known is refused, and what is refused changes nothing but
 * that a descriptor may be gone.
 *
 * Threads: the main one. Ownership: borrows machine, devices and descriptors; owns what
 * no device has. Errors: with QEMU's texts where it has one. Limits: PCI_PLUG_SLOTS nodes
 * and as many netdevs; ids are vmm_id_valid.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "vmm/disk_queue.h"
#include "vmm/machine.h"
#include "vmm/qmp_descriptors.h"
#include "vmm/vmm_devices.h"

#include <stdbool.h>
#include <stdint.h>

struct vmm_plug_node {           /* private */
    char name[DEVICE_NAME_SIZE]; /* "": the place is free */
    struct vmm_disk_option option;
    struct virtual_disk *disk;          /* NULL: a device has, or had it */
    const struct virtio_device *device; /* NULL: none has it */
};

struct vmm_plug_netdev { /* private */
    char name[DEVICE_NAME_SIZE];
    int fds[VIRTIO_NET_PAIRS_MAX]; /* -1: a device has, or had it */
    unsigned count;
    const struct virtio_device *device;
};

struct vmm_plug {
    struct machine *machine;
    struct vmm_devices *devices;
    struct qmp_descriptors *descriptors;
    struct disk_queue_threads threads; /* its count is not looked at */
    uint64_t file_bytes_max;           /* that may be written; 0: any */
    /* private */
    struct vmm_plug_node nodes[PCI_PLUG_SLOTS];
    struct vmm_plug_netdev netdevs[PCI_PLUG_SLOTS];
};

/* For QMP: the command's arguments. */
int vmm_plug_node_add(struct vmm_plug *plug, const json_t *arguments, struct err *err);
int vmm_plug_node_del(struct vmm_plug *plug, const json_t *arguments, struct err *err);
int vmm_plug_netdev_add(struct vmm_plug *plug, const json_t *arguments, struct err *err);
int vmm_plug_netdev_del(struct vmm_plug *plug, const json_t *arguments, struct err *err);
/* Whether device_add of this driver is ours. */
bool vmm_plug_knows(const char *driver);
int vmm_plug_device_add(struct vmm_plug *plug, const json_t *arguments, struct err *err);
/* A device has gone, ours or one from the start. */
void vmm_plug_forget(struct vmm_plug *plug, const struct virtio_device *device);
/* Closes what no device has. */
void vmm_plug_fini(struct vmm_plug *plug);
