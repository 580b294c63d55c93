/* The micro guest's driver of modern virtio devices, by polling, for honest use and for
 * the other kind.
 *
 * Shapes: `struct virtio` is a device that was found, `struct vring` one of its queues.
 * Its structures are where its capabilities say, within its BAR. virtio_drive brings it
 * from reset to work, with queues of VRING_SIZE; what is written into rings by hand
 * (vring_descriptor, vring_offer) is as wrong as the caller likes. Each device has a
 * sound request (virtio_serves): what shows that it works. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define VRING_SIZE  64u
#define VRINGS_MAX  4u
#define VIRTIOS_MAX 8u
#define SCRATCH_AT  UINT64_C(0x800000) /* for buffers */
#define RAM_BYTES   UINT64_C(0x2000000)

#define VRING_NEXT     1u
#define VRING_WRITE    2u
#define VRING_INDIRECT 4u

#define STATUS_ACKNOWLEDGE 1u
#define STATUS_DRIVER      2u
#define STATUS_DRIVER_OK   4u
#define STATUS_FEATURES_OK 8u
#define STATUS_NEEDS_RESET 0x40u

enum virtio_type {
    VIRTIO_NET = 1,
    VIRTIO_BLOCK = 2,
    VIRTIO_CONSOLE = 3,
    VIRTIO_ENTROPY = 4,
    VIRTIO_BALLOON = 5,
    VIRTIO_VSOCK = 19,
    VIRTIO_MEMORY = 24,
};

/* Registers of the common configuration (4.1.4.3). */
enum virtio_common {
    COMMON_DEVICE_SELECT = 0,
    COMMON_DEVICE_FEATURE = 4,
    COMMON_DRIVER_SELECT = 8,
    COMMON_DRIVER_FEATURE = 12,
    COMMON_CONFIG_VECTOR = 16,
    COMMON_QUEUES = 18,
    COMMON_STATUS = 20,
    COMMON_QUEUE_SELECT = 22,
    COMMON_QUEUE_SIZE = 24,
    COMMON_QUEUE_VECTOR = 26,
    COMMON_QUEUE_ENABLE = 28,
    COMMON_QUEUE_NOTIFY_OFF = 30,
    COMMON_QUEUE_DESCRIPTORS = 32,
    COMMON_QUEUE_DRIVER = 40,
    COMMON_QUEUE_DEVICE = 48,
};

struct vdescriptor {
    uint64_t address;
    uint32_t size;
    uint16_t flags;
    uint16_t next;
};

struct vring {
    struct vdescriptor *descriptors;
    volatile uint16_t *available; /* flags, index, heads */
    volatile uint8_t *used;       /* flags, index, entries of two words */
    uint64_t doorbell;
    uint16_t posted;
    uint16_t seen;
    uint16_t next;
};

struct virtio {
    unsigned slot;
    unsigned type;
    uint64_t common;
    uint64_t config;
    uint64_t notify;
    uint32_t notify_multiplier;
    uint64_t offered;
    unsigned queue_count;
    struct vring rings[VRINGS_MAX];
};

struct vbuffer {
    uint64_t address;
    uint32_t size;
    bool writable;
};

/* All that the machine has, in the order of their slots. */
extern struct virtio virtios[VIRTIOS_MAX];
extern unsigned virtio_count;

void virtio_scan(void);
/* NULL: the machine has none. */
struct virtio *virtio_find(enum virtio_type type);
/* Where its structures are, after its BAR has moved. */
void virtio_place(struct virtio *device);

uint64_t common_get(const struct virtio *device, enum virtio_common at, unsigned size);
void common_set(const struct virtio *device,
                enum virtio_common at,
                unsigned size,
                uint64_t value);
uint8_t virtio_status(const struct virtio *device);

/* Reset, and until it takes features (VERSION_1 and these, of those it offers). */
void virtio_reset(const struct virtio *device);
void virtio_negotiate(struct virtio *device, uint64_t features);
/* The areas of a queue, empty, and told to the device; not enabled. */
void vring_setup(struct virtio *device, unsigned queue, uint16_t size);
/* All of it, up to DRIVER_OK. */
void virtio_drive(struct virtio *device, uint64_t features);

void vring_descriptor(struct vring *ring, uint16_t index, const struct vdescriptor *is);
/* Makes a head available. */
void vring_offer(struct vring *ring, uint16_t head);
void vring_kick(const struct virtio *device, unsigned queue);
/* A chain of these buffers, offered. */
void vring_post(struct vring *ring, const struct vbuffer *buffers, unsigned count);
/* The next used entry. */
bool vring_used(struct vring *ring, uint32_t *ret_size);
/* Waits for it; its size, or UINT32_MAX when the device is out of service instead. */
uint32_t vring_await(struct virtio *device, unsigned queue);

/* Whether a sound request is served: NULL or what was wrong. The device is driven anew
 * before. */
const char *virtio_serves(struct virtio *device);
/* The queue and the buffers of that request. */
unsigned
virtio_sound(struct virtio *device, struct vbuffer ret_buffers[3], unsigned *ret_count);
/* A page of the disk, which was driven, read to `at` (type 0) or written from there (1):
 * NULL, or what was wrong. */
const char *virtio_disk_page(uint32_t type, uint64_t sector, uint64_t at);
/* The same for every device there is. */
const char *virtio_all_serve(void);
const char *virtio_name(const struct virtio *device);
