/* A guest that does its worst: random register accesses, rings, chains and saves.
 *
 * Shapes: `struct hostile_device` is one row per device type: how to make it, what its
 * requests look like, what can come from behind it. hostile_run drives one device by
 * choices that come from a seed or from a fuzzer's bytes; after each operation the
 * invariants of the queues must hold. Nothing that happens in it may end the process:
 * sanitizers and assertions judge. Threads: one, beside those of the devices.
 */
#pragma once

#include "base/random.h"
#include "guest_driver.h"

struct hostile;

struct hostile_device {
    const char *name;
    struct virtio_device *(*make)(struct hostile *hostile);
    /* Writes the first bytes of a request that looks right (at most 64): their number. */
    unsigned (*header)(struct hostile *hostile, unsigned queue, uint8_t *ret_bytes);
    /* Lets something happen behind the device; may be NULL. */
    void (*behind)(struct hostile *hostile);
    void (*fini)(struct hostile *hostile); /* may be NULL */
};

struct hostile {
    struct guest guest;
    const struct hostile_device *device;
    struct random random; /* when there are no bytes */
    const uint8_t *bytes;
    size_t byte_count;
    bool from_bytes;
    int fds[4]; /* of whoever stands behind the device */
};

/* A number below bound. */
static inline uint64_t hostile_choose(struct hostile *hostile, uint64_t bound)
{
    uint64_t value = 0;
    if (!hostile->from_bytes) {
        return random_below(&hostile->random, bound);
    }
    for (uint64_t left = bound - 1; left > 0 && hostile->byte_count > 0; left >>= 8) {
        value = value << 8 | *hostile->bytes++;
        hostile->byte_count--;
    }
    return value % bound;
}

/* A number that is often at an edge. */
static inline uint64_t hostile_number(struct hostile *hostile)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     3,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x100,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     1 << 16,
                                     0x7fffffff,
                                     0x80000000,
                                     UINT32_MAX,
                                     UINT64_MAX,
                                     UINT64_MAX / 512,
                                     UINT64_C(1) << 55};
    const uint64_t kind = hostile_choose(hostile, 4);
    const uint64_t edge = edges[hostile_choose(hostile, ARRAY_COUNT(edges))];
    return kind == 0   ? edge
           : kind == 1 ? edge - hostile_choose(hostile, 4)
           : kind == 2 ? hostile_choose(hostile, 64)
                       : hostile_choose(hostile, UINT64_MAX);
}

/* An address: mostly RAM, often its last bytes, sometimes far away. */
static inline uint64_t hostile_address(struct hostile *hostile)
{
    switch (hostile_choose(hostile, 8)) {
    case 0:
        return hostile_number(hostile);
    case 1:
        return GUEST_RAM_BYTES - hostile_choose(hostile, 64);
    case 2:
        return GUEST_BAR_AT + hostile_choose(hostile, VIRTIO_PCI_BAR_BYTES);
    case 3:
        return GUEST_RING_AT + hostile_choose(hostile, GUEST_RING_BYTES);
    default:
        return GUEST_HEAP_AT + hostile_choose(hostile, 1 << 16);
    }
}

static inline uint32_t hostile_size(struct hostile *hostile)
{
    switch (hostile_choose(hostile, 8)) {
    case 0:
        return (uint32_t)hostile_number(hostile);
    case 1:
        return (uint32_t)hostile_choose(hostile, 1 << 16);
    case 2:
        return 512u * (uint32_t)(1 + hostile_choose(hostile, 16));
    default:
        return (uint32_t)hostile_choose(hostile, 64);
    }
}

static inline unsigned hostile_queue(struct hostile *hostile)
{
    return (unsigned)hostile_choose(hostile, hostile->guest.pci->virtio->queue_count);
}

/* ---- operations ---- */

static inline void hostile_bar(struct hostile *hostile)
{
    uint64_t value = hostile_number(hostile);
    const unsigned size = 1 + (unsigned)hostile_choose(hostile, 8);
    const uint64_t offset =
        hostile_choose(hostile, 3) == 0
            ? hostile_choose(hostile, VIRTIO_PCI_BAR_BYTES + 16)
            : hostile_choose(hostile, 8) * 0x1000 + hostile_choose(hostile, 64);
    if (hostile_choose(hostile, 2) == 0) {
        device_write(&hostile->guest.pci->device, VIRTIO_PCI_BAR, offset, &value, size);
    } else {
        device_read(&hostile->guest.pci->device, VIRTIO_PCI_BAR, offset, &value, size);
    }
}

static inline void hostile_space(struct hostile *hostile)
{
    uint64_t value = hostile_number(hostile);
    const unsigned size = 1 + (unsigned)hostile_choose(hostile, 8);
    const uint64_t offset = hostile_choose(hostile, PCI_CONFIG_BYTES + 8);
    if (hostile_choose(hostile, 2) == 0) {
        device_write(&hostile->guest.pci->device, VIRTIO_PCI_CONFIG, offset, &value,
                     size);
    } else {
        device_read(&hostile->guest.pci->device, VIRTIO_PCI_CONFIG, offset, &value, size);
    }
}

/* A register of the common configuration, in its own width, with any value. */
static inline void hostile_register(struct hostile *hostile)
{
    static const struct {
        uint8_t offset;
        uint8_t size;
    } registers[] = {{GUEST_DEVICE_FEATURE_SELECT, 4},
                     {GUEST_DRIVER_FEATURE_SELECT, 4},
                     {GUEST_DRIVER_FEATURE, 4},
                     {GUEST_CONFIG_VECTOR, 2},
                     {GUEST_STATUS, 1},
                     {GUEST_QUEUE_SELECT, 2},
                     {GUEST_QUEUE_SIZE_AT, 2},
                     {GUEST_QUEUE_VECTOR, 2},
                     {GUEST_QUEUE_ENABLE, 2},
                     {GUEST_QUEUE_DESCRIPTORS, 8},
                     {GUEST_QUEUE_DRIVER, 8},
                     {GUEST_QUEUE_DEVICE, 4}};
    const unsigned i = (unsigned)hostile_choose(hostile, ARRAY_COUNT(registers));
    guest_set(&hostile->guest, GUEST_QUEUE_SELECT, 2, hostile_choose(hostile, 3));
    guest_set(&hostile->guest, registers[i].offset, registers[i].size,
              hostile_number(hostile));
    (void)guest_get(&hostile->guest, registers[i].offset, registers[i].size);
}

/* A driver that starts over with any features that were offered. */
static inline void hostile_drive(struct hostile *hostile)
{
    struct guest *guest = &hostile->guest;
    const uint64_t offered = guest->pci->virtio->features_offered;
    const uint64_t mask =
        hostile_choose(hostile, 2) == 0 ? UINT64_MAX : hostile_number(hostile);
    guest_drive(guest, (offered & mask) | VIRTIO_F_MODERN);
}

/* A buffer as a driver would give it; or around the end of RAM; or anything. */
static inline struct guest_buffer
hostile_buffer(struct hostile *hostile, bool wild, bool writable)
{
    if (!wild) {
        return (struct guest_buffer){GUEST_HEAP_AT + hostile_choose(hostile, 1 << 16),
                                     1 + hostile_size(hostile) % (1 << 16), writable};
    }
    if (hostile_choose(hostile, 4) == 0) {
        const uint32_t left = 1 + (uint32_t)hostile_choose(hostile, 64);
        return (struct guest_buffer){GUEST_RAM_BYTES - left,
                                     left + (uint32_t)hostile_choose(hostile, 3) - 1,
                                     writable};
    }
    return (struct guest_buffer){hostile_address(hostile), hostile_size(hostile),
                                 writable};
}

/* A chain that looks like a request, or nearly. */
static inline void hostile_post(struct hostile *hostile)
{
    struct guest *guest = &hostile->guest;
    const unsigned queue = hostile_queue(hostile);
    struct guest_ring *ring = &guest->rings[queue];
    struct guest_buffer buffers[12];
    uint8_t header[64] = {0};
    const unsigned header_size = hostile->device->header(hostile, queue, header);
    const unsigned count = 1 + (unsigned)hostile_choose(hostile, ARRAY_COUNT(buffers));
    const unsigned readable = (unsigned)hostile_choose(hostile, count + 1);
    if (ring->size == 0) {
        return;
    }
    const uint64_t header_at = GUEST_HEAP_AT + 64 * hostile_choose(hostile, 1024);
    REQUIRE(guest_memory_write(&guest->memory, header_at, header, sizeof(header)) == 0);
    const bool wild = hostile_choose(hostile, 8) == 0;
    for (unsigned i = 0; i < count; i++) {
        buffers[i] = hostile_buffer(hostile, wild && hostile_choose(hostile, 4) == 0,
                                    i >= readable);
    }
    if (header_size > 0 && hostile_choose(hostile, 8) != 0) {
        buffers[0] = (struct guest_buffer){header_at, header_size, false};
    }
    if (hostile_choose(hostile, 2) == 0) { /* as a driver would end it */
        buffers[count - 1] = (struct guest_buffer){header_at + 32, 1, true};
    }
    guest_post(guest, queue, buffers, count);
}

/* Bytes of a ring, as they come. */
static inline void hostile_scribble(struct hostile *hostile)
{
    struct guest *guest = &hostile->guest;
    const struct guest_ring *ring = &guest->rings[hostile_queue(hostile)];
    const uint64_t number = hostile_number(hostile);
    const uint64_t areas[] = {ring->descriptors, ring->available, ring->used};
    const uint64_t at = areas[hostile_choose(hostile, 3)] +
                        hostile_choose(hostile, 16 * GUEST_QUEUE_SIZE);
    (void)guest_memory_write(&guest->memory, at, &number,
                             1 + hostile_choose(hostile, 8)); /* maybe not RAM */
}

/* The same head again. */
static inline void hostile_again(struct hostile *hostile)
{
    const unsigned queue = hostile_queue(hostile);
    const struct guest_ring *ring = &hostile->guest.rings[queue];
    uint16_t head = (uint16_t)hostile_choose(hostile, GUEST_QUEUE_SIZE + 1);
    if (ring->size == 0) {
        return;
    }
    if (hostile_choose(hostile, 4) != 0) { /* the one that was offered last */
        (void)guest_memory_load_u16(
            &hostile->guest.memory,
            ring->available + 4 +
                2 * (uint64_t)((uint16_t)(ring->posted - 1) % ring->size),
            &head);
    }
    guest_offer(&hostile->guest, queue, head);
}

static inline void hostile_kick(struct hostile *hostile)
{
    guest_kick(&hostile->guest, hostile_queue(hostile));
}

static inline void hostile_take(struct hostile *hostile)
{
    const unsigned queue = hostile_queue(hostile);
    uint32_t head;
    uint32_t size;
    if (hostile->guest.rings[queue].size > 0) {
        while (guest_used(&hostile->guest, queue, &head, &size)) {
        }
    }
}

static inline void hostile_let_work(struct hostile *hostile)
{
    for (unsigned i = 0; i < 8 && poller_step(hostile->guest.poller, 0) > 0; i++) {
    }
}

static inline void hostile_behind(struct hostile *hostile)
{
    if (hostile->device->behind != NULL) {
        hostile->device->behind(hostile);
    }
}

/* Saves the device and restores another from it, maybe from damaged bytes. */
static inline void hostile_restore(struct hostile *hostile)
{
    struct guest *guest = &hostile->guest;
    struct bytes_writer writer;
    struct bytes_reader reader;
    device_stop(&guest->pci->device);
    if (device_may_save(&guest->pci->device, NULL) < 0) { /* it is not to be saved now */
        device_start(&guest->pci->device);
        return;
    }
    bytes_writer_init(&writer, 1 << 20);
    device_save(&guest->pci->device, &writer);
    REQUIRE(writer.error == 0);
    device_free(&guest->pci->device);
    guest->pci = NULL;
    const bool damaged = hostile_choose(hostile, 2) == 0;
    for (unsigned i = 0; damaged && i < 3; i++) {
        writer.data[hostile_choose(hostile, writer.size)] =
            (uint8_t)hostile_choose(hostile, 256);
    }
    guest_attach_stopped(guest, hostile->device->make(hostile));
    bytes_reader_init(&reader, writer.data, writer.size);
    const int r = device_restore(&guest->pci->device, &reader, NULL);
    REQUIRE(r == 0 || damaged);
    if (r < 0) { /* what was refused half-way starts over */
        device_reset(&guest->pci->device);
    }
    device_start(&guest->pci->device);
    bytes_writer_fini(&writer);
}

static const struct hostile_operation {
    unsigned weight;
    void (*run)(struct hostile *hostile);
} hostile_operations[] = {
    {10, hostile_bar},    {10, hostile_space},    {4, hostile_register},
    {12, hostile_drive},  {60, hostile_post},     {2, hostile_scribble},
    {4, hostile_again},   {60, hostile_kick},     {20, hostile_take},
    {20, hostile_behind}, {20, hostile_let_work}, {1, hostile_restore},
};

static inline void hostile_check(const struct hostile *hostile)
{
    const struct virtio_device *device = hostile->guest.pci->virtio;
    for (unsigned i = 0; i < device->queue_count; i++) {
        const struct virtio_queue *queue = &device->queues[i];
        REQUIRE(queue->size > 0 && queue->size <= queue->size_max);
        REQUIRE((queue->size & (queue->size - 1)) == 0);
        REQUIRE(queue->in_flight_count <= queue->size);
        REQUIRE_IF(queue->enabled,
                   virtio_queue_check(queue, &hostile->guest.memory) == 0);
    }
    REQUIRE((device->features & ~device->features_offered) == 0 ||
            !(device->status & VIRTIO_FEATURES_OK));
}

static inline void hostile_step(struct hostile *hostile)
{
    unsigned total = 0;
    for (size_t i = 0; i < ARRAY_COUNT(hostile_operations); i++) {
        total += hostile_operations[i].weight;
    }
    uint64_t pick = hostile_choose(hostile, total);
    size_t i = 0;
    while (pick >= hostile_operations[i].weight) {
        pick -= hostile_operations[i++].weight;
    }
    hostile_operations[i].run(hostile);
    hostile_check(hostile);
}

static inline void hostile_init(struct hostile *hostile,
                                const struct hostile_device *device)
{
    memset(hostile, 0, sizeof(*hostile));
    hostile->device = device;
    for (unsigned i = 0; i < ARRAY_COUNT(hostile->fds); i++) {
        hostile->fds[i] = -1;
    }
    guest_init(&hostile->guest);
    guest_attach(&hostile->guest, device->make(hostile));
    guest_drive(&hostile->guest, 0);
}

static inline void hostile_fini(struct hostile *hostile)
{
    guest_fini(&hostile->guest);
    if (hostile->device->fini != NULL) {
        hostile->device->fini(hostile);
    }
}

/* For fuzz targets. */
static inline int
hostile_run_bytes(const struct hostile_device *device, const uint8_t *data, size_t size)
{
    static struct hostile hostile;
    hostile_init(&hostile, device);
    hostile.from_bytes = true;
    hostile.bytes = data;
    hostile.byte_count = size;
    while (hostile.byte_count > 0) {
        hostile_step(&hostile);
    }
    hostile_let_work(&hostile);
    hostile_fini(&hostile);
    return 0;
}
