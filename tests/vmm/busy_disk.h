/* A disk that hangs: a guest has asked it for something when its machine begins to run,
 * and it is done, or cannot be, when the test says so.
 *
 * The guest's part is the test's, which fills the queue's rings in RAM that a kernel of a
 * few bytes never looks at. busy_disk_clear comes before each test, and lets go what an
 * earlier one has held.
 */
#pragma once

#include "base/require.h"
#include "vmm/machine.h"
#include "vmm/virtio_block.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#define BUSY_RING_AT UINT64_C(0x1000000)
#define BUSY_USED_AT (BUSY_RING_AT + 0x2000)
#define BUSY_NEXT    1u
#define BUSY_WRITE   2u

struct busy_descriptor {
    uint64_t address;
    uint32_t size;
    uint16_t flags;
    uint16_t next;
};

static struct {
    atomic_bool is_held;
    atomic_int result; /* of a write */
    atomic_uint count; /* of what was asked of it */
} busy_disk;

static inline void busy_disk_clear(void)
{
    atomic_store(&busy_disk.is_held, false);
    atomic_store(&busy_disk.result, 0);
    atomic_store(&busy_disk.count, 0);
}

static inline int busy_read(struct virtual_disk *disk,
                            uint64_t offset,
                            const struct iovec *pieces,
                            unsigned piece_count,
                            uint64_t size)
{
    (void)disk;
    (void)offset;
    (void)pieces;
    (void)piece_count;
    (void)size;
    atomic_fetch_add(&busy_disk.count, 1);
    while (atomic_load(&busy_disk.is_held)) {
        (void)sched_yield();
    }
    return 0;
}

static inline int busy_write(struct virtual_disk *disk,
                             uint64_t offset,
                             const struct iovec *pieces,
                             unsigned piece_count,
                             uint64_t size)
{
    (void)busy_read(disk, offset, pieces, piece_count, size);
    return atomic_load(&busy_disk.result);
}

static inline int busy_flush(struct virtual_disk *disk)
{
    (void)disk;
    return 0;
}

static inline void busy_free(struct virtual_disk *disk)
{
    (void)disk; /* a constant of the test's */
}

/* One for a machine, in a slot that it stays in. */
static inline struct virtio_device *busy_disk_new(struct machine *machine)
{
    static const struct disk_ops ops = {.kind = "busy",
                                        .read = busy_read,
                                        .write = busy_write,
                                        .flush = busy_flush,
                                        .free = busy_free};
    static struct virtual_disk disk = {.ops = &ops, .size_bytes = 4096};
    const struct virtio_block_spec spec = {
        .serial = "s", .queue_count = 1, .threads = {.count = 1}};
    const struct virtio_place place = machine_place(machine);
    struct virtio_device *device = NULL;
    REQUIRE(virtio_block_new(&place, &spec, &disk, &device, NULL) == 0);
    return device;
}

/* What the guest has asked, of a device that has its place: a read, or a write. Before
 * the machine runs. */
static inline void busy_disk_ask(struct virtio_device *device, bool is_write)
{
    const uint32_t type = is_write;
    const uint64_t header_at = BUSY_RING_AT + 0x3000;
    const uint64_t data_at = BUSY_RING_AT + 0x4000;
    const struct busy_descriptor chain[] = {
        {header_at, 16, BUSY_NEXT, 1},
        {data_at, 512, BUSY_NEXT | (is_write ? 0 : BUSY_WRITE), 2},
        {data_at + 512, 1, BUSY_WRITE, 0},
    };
    struct virtio_queue *queue = &device->queues[0];
    virtio_device_enter(device);
    device->features = VIRTIO_F_MODERN | VIRTIO_BLK_F_FLUSH;
    device->status =
        VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK;
    queue->size = 4;
    queue->descriptors = BUSY_RING_AT;
    queue->available = BUSY_RING_AT + 0x1000;
    queue->used = BUSY_USED_AT;
    REQUIRE(virtio_queue_check(queue, device->place.memory) == 0);
    queue->enabled = true;
    REQUIRE(guest_memory_write(device->place.memory, queue->descriptors, chain,
                               sizeof(chain)) == 0);
    REQUIRE(guest_memory_write(device->place.memory, header_at, &type, sizeof(type)) ==
            0);
    REQUIRE(guest_memory_store_u16(device->place.memory, queue->available + 2, 1) == 0);
    virtio_device_leave(device);
}

/* All of that, with a read, and it hangs. */
static inline struct virtio_device *busy_disk_add(struct machine *machine,
                                                  const char *name)
{
    struct virtio_device *device = busy_disk_new(machine);
    REQUIRE(machine_add_virtio(machine, device, name, NULL) == 0);
    busy_disk_ask(device, false);
    atomic_store(&busy_disk.is_held, true);
    return device;
}

/* Whether the guest has its answer. */
static inline bool busy_disk_answered(const struct machine *machine)
{
    uint16_t index = 0;
    REQUIRE(guest_memory_load_u16(machine_memory(machine), BUSY_USED_AT + 2, &index) ==
            0);
    return index == 1;
}
