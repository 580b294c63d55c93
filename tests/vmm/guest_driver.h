/* The guest's side of a virtio device, for tests: memory, a PCI function, rings.
 *
 * `guest_init`, then `guest_attach` with a fresh device, `guest_drive` to negotiate and
 * set the queues up as a driver does, `guest_post` and `guest_kick` to ask, `guest_wait`
 * for the answer. Registers are reached as a vCPU would: by accesses to the BAR. Every
 * step asserts by REQUIRE, so that fuzz targets can use it too. Threads: one.
 */
#pragma once

#include "base/cleanup.h"
#include "base/require.h"
#include "vmm/virtio_pci.h"

#include <stdio.h>
#include <string.h>

#define GUEST_RAM_BYTES  (UINT64_C(8) << 20)
#define GUEST_HEAP_AT    UINT64_C(0x100000)
#define GUEST_RING_AT    UINT64_C(0x10000) /* of queue 0; one every 64 KiB */
#define GUEST_RING_BYTES UINT64_C(0x4000)
#define GUEST_BAR_AT     UINT32_C(0xe0000000)
#define GUEST_QUEUE_SIZE 64u
#define GUEST_WAIT_MS    10000
#define GUEST_PLUG_AT    (UINT64_C(1) << 30) /* where guest_add_plug puts it */

/* The registers of the common configuration that a driver uses, and the pages. */
enum {
    GUEST_DEVICE_FEATURE_SELECT = 0,
    GUEST_DEVICE_FEATURE = 4,
    GUEST_DRIVER_FEATURE_SELECT = 8,
    GUEST_DRIVER_FEATURE = 12,
    GUEST_CONFIG_VECTOR = 16,
    GUEST_QUEUES = 18,
    GUEST_STATUS = 20,
    GUEST_GENERATION = 21,
    GUEST_QUEUE_SELECT = 22,
    GUEST_QUEUE_SIZE_AT = 24,
    GUEST_QUEUE_VECTOR = 26,
    GUEST_QUEUE_ENABLE = 28,
    GUEST_QUEUE_DESCRIPTORS = 32,
    GUEST_QUEUE_DRIVER = 40,
    GUEST_QUEUE_DEVICE = 48,
    GUEST_ISR = 0x1000,
    GUEST_DEVICE_CONFIG = 0x2000,
    GUEST_DOORBELLS = 0x3000,
    GUEST_VECTORS = 0x4000,
    GUEST_PENDING = 0x5000,
};

enum { GUEST_NEXT = 1, GUEST_WRITE = 2, GUEST_INDIRECT = 4 };

struct guest_descriptor {
    uint64_t address;
    uint32_t size;
    uint16_t flags;
    uint16_t next;
};

struct guest_ring {
    uint16_t size;
    uint64_t descriptors;
    uint64_t available;
    uint64_t used;
    uint16_t next_descriptor; /* heads are handed out round and round */
    uint16_t posted;          /* our available index */
    uint16_t seen;            /* used entries that we have taken */
};

struct guest {
    struct guest_memory memory;
    struct poller *poller;
    struct virtio_place place;
    struct virtio_pci *pci;
    struct guest_ring rings[VIRTIO_QUEUES_MAX];
    unsigned interrupts[MSIX_VECTORS_MAX];
    uint64_t heap_at;
};

/* One buffer of a request. */
struct guest_buffer {
    uint64_t address;
    uint32_t size;
    bool writable;
};

static inline void guest_init(struct guest *guest)
{
    memset(guest, 0, sizeof(*guest));
    guest_memory_init(&guest->memory);
    REQUIRE(guest_memory_add(&guest->memory, 0, GUEST_RAM_BYTES, NULL) == 0);
    REQUIRE(poller_new(&guest->poller, NULL) == 0);
    guest->place = (struct virtio_place){&guest->memory, guest->poller};
    guest->heap_at = GUEST_HEAP_AT;
}

/* RAM of four blocks more, of which the first two are plugged; before a device is there.
 */
static inline void guest_add_plug(struct guest *guest)
{
    const struct ram_backing plain = {0};
    REQUIRE(guest_memory_add_pluggable(&guest->memory, GUEST_PLUG_AT,
                                       4 * RAM_PLUG_BLOCK_BYTES, &plain, NULL) == 0);
    REQUIRE(guest_memory_plug(&guest->memory, 1, 0, 2) == 0);
}

static inline void guest_fini(struct guest *guest)
{
    if (guest->pci != NULL) {
        device_free(&guest->pci->device);
    }
    poller_free(guest->poller);
    guest_memory_fini(&guest->memory);
}

/* ---- registers ---- */

static inline uint64_t guest_get(struct guest *guest, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    device_read(&guest->pci->device, VIRTIO_PCI_BAR, offset, &value, size);
    return value;
}

static inline void
guest_set(struct guest *guest, uint64_t offset, unsigned size, uint64_t value)
{
    device_write(&guest->pci->device, VIRTIO_PCI_BAR, offset, &value, size);
}

static inline void guest_on_vector(void *context, unsigned vector)
{
    struct guest *guest = context;
    guest->interrupts[vector]++;
}

/* Puts the device behind a PCI function that is decoded and has its vectors open. */
static inline void guest_attach_stopped(struct guest *guest, struct virtio_device *device)
{
    const uint16_t on = 6;
    const uint16_t vectors_on = 0x8000;
    REQUIRE(virtio_pci_new(device, "device0", &guest->pci) == 0);
    guest->pci->msix.deliver = (struct device_line){guest_on_vector, guest};
    REQUIRE(device_init(&guest->pci->device, NULL) == 0);
    pci_function_place_bar(&guest->pci->function, 0, GUEST_BAR_AT);
    device_write(&guest->pci->device, VIRTIO_PCI_CONFIG, 4, &on, 2);
    device_write(&guest->pci->device, VIRTIO_PCI_CONFIG, guest->pci->msix.control_at,
                 &vectors_on, 2);
}

static inline void guest_attach(struct guest *guest, struct virtio_device *device)
{
    guest_attach_stopped(guest, device);
    device_start(&guest->pci->device);
}

static inline uint64_t guest_features_offered(struct guest *guest)
{
    guest_set(guest, GUEST_DEVICE_FEATURE_SELECT, 4, 0);
    const uint64_t low = guest_get(guest, GUEST_DEVICE_FEATURE, 4);
    guest_set(guest, GUEST_DEVICE_FEATURE_SELECT, 4, 1);
    return low | guest_get(guest, GUEST_DEVICE_FEATURE, 4) << 32;
}

static inline void guest_features_accept(struct guest *guest, uint64_t features)
{
    guest_set(guest, GUEST_DRIVER_FEATURE_SELECT, 4, 0);
    guest_set(guest, GUEST_DRIVER_FEATURE, 4, (uint32_t)features);
    guest_set(guest, GUEST_DRIVER_FEATURE_SELECT, 4, 1);
    guest_set(guest, GUEST_DRIVER_FEATURE, 4, features >> 32);
}

static inline void guest_queue_setup(struct guest *guest, unsigned queue, uint16_t size)
{
    struct guest_ring *ring = &guest->rings[queue];
    uint8_t zeros[1024] = {0};
    *ring = (struct guest_ring){.size = size,
                                .descriptors = GUEST_RING_AT + queue * GUEST_RING_BYTES};
    ring->available = ring->descriptors + 16 * (uint64_t)VIRTIO_QUEUE_SIZE_MAX;
    ring->used = ring->available + 0x400;
    REQUIRE(guest_memory_write(&guest->memory, ring->available, zeros, sizeof(zeros)) ==
            0);
    REQUIRE(guest_memory_write(&guest->memory, ring->used, zeros, 4) == 0);
    guest_set(guest, GUEST_VECTORS + 16u * (queue + 1) + 12, 4, 0); /* unmask */
    guest_set(guest, GUEST_QUEUE_SELECT, 2, queue);
    guest_set(guest, GUEST_QUEUE_SIZE_AT, 2, size);
    guest_set(guest, GUEST_QUEUE_VECTOR, 2, queue + 1);
    guest_set(guest, GUEST_QUEUE_DESCRIPTORS, 8, ring->descriptors);
    guest_set(guest, GUEST_QUEUE_DRIVER, 8, ring->available);
    guest_set(guest, GUEST_QUEUE_DEVICE, 8, ring->used);
    guest_set(guest, GUEST_QUEUE_ENABLE, 2, 1);
}

/* As 4.1.4.3.2 has it. */
static inline void guest_reset(struct guest *guest)
{
    guest_set(guest, GUEST_STATUS, 1, 0);
    while (guest_get(guest, GUEST_STATUS, 1) != 0) {
        REQUIRE(poller_step(guest->poller, GUEST_WAIT_MS) > 0);
    }
}

/* From reset to DRIVER_OK with these features (and VERSION_1). */
static inline void guest_drive(struct guest *guest, uint64_t features)
{
    guest_reset(guest);
    guest_set(guest, GUEST_STATUS, 1, VIRTIO_ACKNOWLEDGE);
    guest_set(guest, GUEST_STATUS, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    guest_features_accept(guest, features | VIRTIO_F_MODERN);
    guest_set(guest, GUEST_STATUS, 1,
              VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    REQUIRE(guest_get(guest, GUEST_STATUS, 1) & VIRTIO_FEATURES_OK);
    guest_set(guest, GUEST_VECTORS + 12, 4, 0);
    guest_set(guest, GUEST_CONFIG_VECTOR, 2, 0);
    const unsigned queues = (unsigned)guest_get(guest, GUEST_QUEUES, 2);
    for (unsigned i = 0; i < queues; i++) {
        guest_queue_setup(guest, i, GUEST_QUEUE_SIZE);
    }
    guest_set(guest, GUEST_STATUS, 1,
              VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

static inline bool guest_needs_reset(struct guest *guest)
{
    return (guest_get(guest, GUEST_STATUS, 1) & VIRTIO_NEEDS_RESET) != 0;
}

/* ---- memory and rings ---- */

static inline uint64_t guest_alloc(struct guest *guest, uint64_t size)
{
    const uint64_t at = guest->heap_at;
    guest->heap_at += (size + 15) & ~UINT64_C(15);
    REQUIRE(guest->heap_at <= GUEST_RAM_BYTES);
    return at;
}

static inline uint64_t guest_put(struct guest *guest, const void *data, size_t size)
{
    const uint64_t at = guest_alloc(guest, size);
    REQUIRE(guest_memory_write(&guest->memory, at, data, size) == 0);
    return at;
}

static inline void guest_descriptor_set(struct guest *guest,
                                        unsigned queue,
                                        unsigned index,
                                        const struct guest_descriptor *descriptor)
{
    REQUIRE(guest_memory_write(&guest->memory,
                               guest->rings[queue].descriptors + 16 * (uint64_t)index,
                               descriptor, sizeof(*descriptor)) == 0);
}

/* Makes a head available. */
static inline void guest_offer(struct guest *guest, unsigned queue, uint16_t head)
{
    struct guest_ring *ring = &guest->rings[queue];
    REQUIRE(guest_memory_store_u16(&guest->memory,
                                   ring->available + 4 +
                                       2 * (uint64_t)(ring->posted % ring->size),
                                   head) == 0);
    ring->posted++;
    REQUIRE(guest_memory_store_u16(&guest->memory, ring->available + 2, ring->posted) ==
            0);
}

/* Posts one request of at most ring-size buffers; its head. */
static inline uint16_t guest_post(struct guest *guest,
                                  unsigned queue,
                                  const struct guest_buffer *buffers,
                                  unsigned count)
{
    struct guest_ring *ring = &guest->rings[queue];
    const uint16_t head = ring->next_descriptor;
    for (unsigned i = 0; i < count; i++) {
        const uint16_t index = ring->next_descriptor;
        ring->next_descriptor = (uint16_t)((index + 1) % ring->size);
        guest_descriptor_set(guest, queue, index,
                             &(struct guest_descriptor){
                                 buffers[i].address, buffers[i].size,
                                 (uint16_t)((buffers[i].writable ? GUEST_WRITE : 0) |
                                            (i + 1 < count ? GUEST_NEXT : 0)),
                                 ring->next_descriptor});
    }
    guest_offer(guest, queue, head);
    return head;
}

static inline void guest_kick(struct guest *guest, unsigned queue)
{
    guest_set(guest, GUEST_DOORBELLS + 4u * queue, 2, queue);
}

/* The next used entry, if there is one. */
static inline bool
guest_used(struct guest *guest, unsigned queue, uint32_t *ret_head, uint32_t *ret_size)
{
    struct guest_ring *ring = &guest->rings[queue];
    uint16_t index;
    uint32_t entry[2];
    REQUIRE(guest_memory_load_u16(&guest->memory, ring->used + 2, &index) == 0);
    if (index == ring->seen) {
        return false;
    }
    REQUIRE(guest_memory_read(&guest->memory,
                              ring->used + 4 + 8 * (uint64_t)(ring->seen % ring->size),
                              entry, sizeof(entry)) == 0);
    ring->seen++;
    /* With EVENT_IDX: tell us about the next one (2.7.7.1). */
    REQUIRE(guest_memory_store_u16(&guest->memory,
                                   ring->available + 4 + 2 * (uint64_t)ring->size,
                                   ring->seen) == 0);
    *ret_head = entry[0];
    *ret_size = entry[1];
    return true;
}

/* Lets the device work until the next used entry; its written size. */
static inline uint32_t guest_wait(struct guest *guest, unsigned queue)
{
    uint32_t head = 0;
    uint32_t size = 0;
    while (!guest_used(guest, queue, &head, &size)) {
        REQUIRE(poller_step(guest->poller, GUEST_WAIT_MS) > 0);
    }
    return size;
}

/* Fires what is due, until nothing is. */
static inline void guest_settle(struct guest *guest)
{
    while (poller_step(guest->poller, 0) > 0) {
    }
}
