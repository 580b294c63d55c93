/* Memory that a machine gets and gives while it runs (virtio 1.2, 5.15).
 *
 * Shapes: the device of the one region of RAM whose blocks are plugged (guest_memory.h).
 * The host says how much it wants to be plugged; the driver asks for blocks until there
 * is so much, or gives blocks back until there is no more, if it can. What is unplugged
 * is the host's again at once; neither the guest nor a device can touch it, and what a
 * device is at is not unplugged. A driver that does not know that
 * (VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE) gets nothing. A machine that begins anew has
 * nothing plugged.
 *
 * Who listens hears that there is more plugged, or less, than when it heard last: at
 * once, and then once a second at most, however a guest plugs.
 *
 * The region lies above all RAM, where the memory map that the kernel boots with says
 * nothing: Linux needs no more than the device (an SRAT would only name its NUMA node).
 * Its pages are never those of a pool, which are not given back, and it is neither filled
 * lazily nor mapped from a saved file: its guest has another view of it than we.
 *
 * Errors: what the guest asks for beyond its rights is answered so (5.15.6); what the
 * host cannot do now, either way, is BUSY with nothing changed, and a driver tries again;
 * what is no request takes the device out of service. Limits: ram_plug.h.
 */
#pragma once

#include "vmm/virtio_device.h"

#define VIRTIO_MEM_NAME "vmem0"

/* 5.15.3 */
#define VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE (UINT64_C(1) << 1)

/* 5.15.6 */
enum virtio_mem_request_type {
    VIRTIO_MEM_PLUG = 0,
    VIRTIO_MEM_UNPLUG,
    VIRTIO_MEM_UNPLUG_ALL,
    VIRTIO_MEM_STATE,
};

enum virtio_mem_answer_type {
    VIRTIO_MEM_ACK = 0,
    VIRTIO_MEM_NACK,  /* not as long as the host does not want it */
    VIRTIO_MEM_BUSY,  /* not now */
    VIRTIO_MEM_ERROR, /* never */
};

enum virtio_mem_block_state {
    VIRTIO_MEM_PLUGGED = 0,
    VIRTIO_MEM_UNPLUGGED,
    VIRTIO_MEM_MIXED,
};

/* On the wire, little-endian. */
struct virtio_mem_request {
    uint16_t type;
    uint16_t padding[3];
    uint64_t address;
    uint16_t block_count;
    uint16_t rest[3];
};

struct virtio_mem_answer {
    uint16_t type;
    uint16_t padding[3];
    uint16_t state;
};
#define VIRTIO_MEM_ANSWER_BYTES 10u /* of it */

struct virtio_mem_state {
    uint64_t address;
    uint64_t max_bytes;
    uint64_t block_bytes;
    uint64_t plugged_bytes;
    uint64_t requested_bytes; /* what the guest is asked to have plugged */
};

/* BERTH_EUNSUPPORTED when the memory has no such region; -ENOMEM. */
int virtio_mem_new(const struct virtio_place *place, struct virtio_device **ret_device);
/* Asks for so much; BERTH_EINVALID with text for parts of blocks, or too much. */
int virtio_mem_want(struct virtio_device *device, uint64_t bytes, struct err *err);
void virtio_mem_state(struct virtio_device *device, struct virtio_mem_state *ret_state);
/* Calls `resized` from the poller, without a lock; only before the machine runs. */
void virtio_mem_listen(struct virtio_device *device,
                       void (*resized)(void *context),
                       void *context);
