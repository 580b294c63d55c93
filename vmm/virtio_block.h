/* The block device (virtio 1.2, 5.2) in front of a disk.
 *
 * Requests are read, write, flush, discard, write zeroes and get-id, on one to
 * VIRTIO_BLOCK_QUEUES_MAX queues; a ring or the disk's threads (disk_queue.h) carry them
 * out, straight into and out of guest memory. What a request gets wrong (bounds, sizes,
 * flags) is answered with an I/O error in its status byte; one that has no place for a
 * status takes the device out of service. A driver that does not negotiate FLUSH gets
 * every write, of zeros too, made durable before it is answered. Rate limits hold
 * requests back in the guest's ring.
 *
 * What the disk could not do is an I/O error for the guest, too, and its listener hears
 * of it. With a listener a change for which the host has no room (disk_has_no_room) is
 * not answered but kept: whenever the device is started it is tried again, and a reset
 * drops it. While something is kept the device refuses to be saved, and one that leaves
 * keeps nothing. A reset that the driver asks for takes as long as what is in flight, and
 * nobody but the driver waits; so does a stop that is begun (the machine pauses, is saved
 * or reset), and the end of the machine is waited for.
 *
 * Ownership: takes the disk. Limits: VIRTIO_BLOCK_REQUEST_MAX bytes in one request.
 */
#pragma once

#include "vmm/block_stats.h"
#include "vmm/disk_queue.h"
#include "vmm/rate_limit.h"
#include "vmm/virtio_device.h"

#define VIRTIO_BLOCK_QUEUES_MAX  8u
#define VIRTIO_BLOCK_SERIAL_SIZE 20u
#define VIRTIO_BLOCK_REQUEST_MAX (UINT64_C(64) << 20)

/* 5.2.3 */
#define VIRTIO_BLK_F_SEG_MAX      (UINT64_C(1) << 2)
#define VIRTIO_BLK_F_RO           (UINT64_C(1) << 5)
#define VIRTIO_BLK_F_BLK_SIZE     (UINT64_C(1) << 6)
#define VIRTIO_BLK_F_FLUSH        (UINT64_C(1) << 9)
#define VIRTIO_BLK_F_TOPOLOGY     (UINT64_C(1) << 10)
#define VIRTIO_BLK_F_MQ           (UINT64_C(1) << 12)
#define VIRTIO_BLK_F_DISCARD      (UINT64_C(1) << 13)
#define VIRTIO_BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

struct virtio_block_spec {
    char serial[VIRTIO_BLOCK_SERIAL_SIZE + 1]; /* virtio_block_serial */
    unsigned queue_count;                      /* 1.. */
    struct disk_queue_threads threads;
    struct rate_spec operations;
    struct rate_spec bytes;
};

/* What the disk could not do. */
struct virtio_block_fault {
    enum disk_operation operation;
    int code;     /* negative */
    bool is_kept; /* the guest does not know of it */
    bool is_last; /* nor of this: the device leaves it, or the machine has ended */
};

/* Who hears of faults: called with the device's lock held, on any of its threads. */
struct virtio_block_listener {
    void (*faulted)(void *context, const struct virtio_block_fault *fault);
    void *context;
};

/* The serial number of a disk of that name: the name, when it fits. A longer one is its
 * first part, a dash, and eight digits that all of it goes into: so that names which
 * begin alike are told apart, and the number does not depend on what other disks there
 * are. */
void virtio_block_serial(const char *name, char ret_serial[VIRTIO_BLOCK_SERIAL_SIZE + 1]);

int virtio_block_new(const struct virtio_place *place,
                     const struct virtio_block_spec *spec,
                     struct virtual_disk *take_disk,
                     struct virtio_device **ret_device,
                     struct err *err);
/* Whether it needs the right to enter a ring (disk_queue.h). */
bool virtio_block_has_ring(struct virtio_device *device);
/* What it has counted since it was made, which a saved machine does not take along;
 * borrowed, as is what lies behind the device. */
const struct block_stats *virtio_block_stats(const struct virtio_device *device);
const struct virtual_disk *virtio_block_disk(const struct virtio_device *device);
/* New limits for a running device. */
void virtio_block_limit(struct virtio_device *device,
                        const struct rate_spec *operations,
                        const struct rate_spec *bytes);
/* From now on; before the device starts. */
void virtio_block_listen(struct virtio_device *device,
                         const struct virtio_block_listener *listener);
/* Whether a request waits for room, now. Takes the lock. */
bool virtio_block_waits(struct virtio_device *device);
