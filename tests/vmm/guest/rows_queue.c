/* Rows about queues: chains that are none, rings that lie, registers that change while
 * the device works, DMA to where no RAM is. What breaks a device is its own: it says that
 * it wants a reset, and after that it works. */
#include "guest_cpu.h"
#include "guest_pci.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define DATA_AT (SCRATCH_AT + 0x20000)
#define KIB64   0x10000u

/* Some queue of the device that takes what its driver offers at once. */
static unsigned busy_queue(struct virtio *device)
{
    struct vbuffer buffers[3];
    unsigned count;
    return virtio_sound(device, buffers, &count);
}

/* ---- chains that are none ---- */

struct chain_row {
    const char *what;
    struct vdescriptor chain[3];
    uint64_t features;
    uint16_t head;
};

#define INDIRECT (UINT64_C(1) << 28)
#define TABLE_AT (SCRATCH_AT + 0x30000)

static const struct chain_row chains[] = {
    {"a loop", {{DATA_AT, 8, VRING_NEXT, 0}}, 0, 0},
    {"a loop of two", {{DATA_AT, 8, VRING_NEXT, 1}, {DATA_AT, 8, VRING_NEXT, 0}}, 0, 0},
    {"a next that is not there", {{DATA_AT, 8, VRING_NEXT, VRING_SIZE}}, 0, 0},
    {"a next far away", {{DATA_AT, 8, VRING_NEXT, 0xffff}}, 0, 0},
    {"a head that is not there", {{DATA_AT, 8, 0, 0}}, 0, VRING_SIZE},
    {"a head far away", {{DATA_AT, 8, 0, 0}}, 0, 0xffff},
    {"no byte", {{DATA_AT, 0, 0, 0}}, 0, 0},
    {"no byte to write", {{DATA_AT, 0, VRING_WRITE, 0}}, 0, 0},
    {"an address that wraps", {{UINT64_MAX - 4095, 8192, VRING_WRITE, 0}}, 0, 0},
    {"the last address", {{UINT64_MAX, 1, 0, 0}}, 0, 0},
    {"readable after writable",
     {{DATA_AT, 8, VRING_WRITE | VRING_NEXT, 1}, {DATA_AT, 8, 0, 0}},
     0,
     0},
    {"4GiB but a byte", {{DATA_AT, UINT32_MAX, VRING_WRITE, 0}}, 0, 0},
    {"4GiB but a byte to read", {{0, UINT32_MAX, 0, 0}}, 0, 0},
    {"one beyond RAM", {{RAM_BYTES - 16, 17, VRING_WRITE, 0}}, 0, 0},
    {"where RAM ends", {{RAM_BYTES, 1, 0, 0}}, 0, 0},
    {"a BAR to write", {{0xc0000000, 64, VRING_WRITE, 0}}, 0, 0},
    {"a BAR to read", {{0xc0000000, 64, 0, 0}}, 0, 0},
    {"ECAM", {{PCI_ECAM_AT, 256, VRING_WRITE, 0}}, 0, 0},
    {"the I/O APIC", {{PCI_IOAPIC_AT, 32, VRING_WRITE, 0}}, 0, 0},
    {"the local APIC", {{PCI_LAPIC_AT, 256, VRING_WRITE, 0}}, 0, 0},
    {"where a ROM would be", {{0xfffffff0, 16, VRING_WRITE, 0}}, 0, 0},
    {"memory that is not plugged", {{UINT64_C(1) << 32, 64, VRING_WRITE, 0}}, 0, 0},
    {"an indirect table nobody agreed on", {{TABLE_AT, 16, VRING_INDIRECT, 0}}, 0, 0},
    {"an indirect table of 8 bytes", {{TABLE_AT, 8, VRING_INDIRECT, 0}}, INDIRECT, 0},
    {"an indirect table of none", {{TABLE_AT, 0, VRING_INDIRECT, 0}}, INDIRECT, 0},
    {"an indirect table of 4GiB",
     {{TABLE_AT, 0xfffffff0, VRING_INDIRECT, 0}},
     INDIRECT,
     0},
    {"an indirect table in a BAR", {{0xc0000000, 16, VRING_INDIRECT, 0}}, INDIRECT, 0},
    {"an indirect table in itself", {{TABLE_AT, 32, VRING_INDIRECT, 0}}, INDIRECT, 0},
};

/* The table that refers to itself is one of tables, which there are none of. */
static void table_write(void)
{
    struct vdescriptor *table = (struct vdescriptor *)TABLE_AT;
    table[0] = (struct vdescriptor){TABLE_AT, 32, VRING_INDIRECT, 0};
    table[1] = (struct vdescriptor){DATA_AT, 8, VRING_NEXT, 1};
}

static const char *chain_breaks(struct virtio *device, const struct chain_row *row)
{
    const unsigned queue = busy_queue(device);
    struct vring *ring = &device->rings[queue];
    virtio_drive(device, row->features);
    table_write();
    for (uint16_t i = 0; i < ARRAY_COUNT(row->chain); i++) {
        vring_descriptor(ring, i, &row->chain[i]);
    }
    vring_offer(ring, row->head);
    vring_kick(device, queue);
    if (vring_await(device, queue) != UINT32_MAX) {
        say(row->what);
        say("\n");
        return wrong("that was taken for a request by the device in slot", device->slot);
    }
    return NULL;
}

/* Each kind of chain breaks a device, and another each time; in the end all work. */
static const char *broken_chains(void)
{
    for (unsigned i = 0; i < ARRAY_COUNT(chains); i++) {
        for (unsigned at = 0; at < 2; at++) {
            struct virtio *device = &virtios[(i + at * 3) % virtio_count];
            const char *why = chain_breaks(device, &chains[i]);
            if (why != NULL) {
                return why;
            }
        }
    }
    return NULL;
}

/* What a driver's rings say when they lie about how much there is. */
static const char *rings_that_lie(void)
{
    static const uint16_t jumps[] = {VRING_SIZE + 1, 1000, 0x7fff, 0x8000, 0xffff};
    for (unsigned i = 0; i < ARRAY_COUNT(jumps); i++) {
        struct virtio *device = &virtios[i % virtio_count];
        const unsigned queue = busy_queue(device);
        virtio_drive(device, 0);
        device->rings[queue].available[1] = jumps[i];
        memory_fence();
        vring_kick(device, queue);
        if (vring_await(device, queue) != UINT32_MAX) {
            return wrong("an index was believed that jumps by", jumps[i]);
        }
    }
    return NULL;
}

/* The same head while it is in flight: one answer, or a device that wants a reset. */
static const char *heads_twice(void)
{
    struct virtio *device = virtio_find(VIRTIO_BLOCK);
    for (unsigned round = 0; round < 16; round++) {
        struct vbuffer buffers[3];
        unsigned count;
        virtio_drive(device, 0);
        const unsigned queue = virtio_sound(device, buffers, &count);
        vring_post(&device->rings[queue], buffers, count);
        for (unsigned i = 0; i < 8; i++) {
            vring_offer(&device->rings[queue], 0);
        }
        vring_kick(device, queue);
        while (vring_await(device, queue) != UINT32_MAX &&
               device->rings[queue].seen != device->rings[queue].posted) {
        }
    }
    return virtio_serves(device);
}

/* ---- registers while the device works ---- */

struct register_row {
    enum virtio_common at;
    unsigned size;
    uint64_t value;
};

static const struct register_row writes[] = {
    {COMMON_QUEUE_SIZE, 2, 0},
    {COMMON_QUEUE_SIZE, 2, 32768},
    {COMMON_QUEUE_SIZE, 2, 65535},
    {COMMON_QUEUE_SIZE, 2, 3},
    {COMMON_QUEUE_ENABLE, 2, 0},
    {COMMON_QUEUE_ENABLE, 2, 0xffff},
    {COMMON_QUEUE_DESCRIPTORS, 8, 0xc0000000},
    {COMMON_QUEUE_DRIVER, 8, UINT64_MAX - 1},
    {COMMON_QUEUE_DEVICE, 8, PCI_LAPIC_AT},
    {COMMON_QUEUE_DEVICE + 4, 4, UINT32_MAX},
    {COMMON_QUEUE_VECTOR, 2, 0x7fff},
    {COMMON_CONFIG_VECTOR, 2, 0x7fff},
    {COMMON_DRIVER_FEATURE, 4, UINT32_MAX},
    {COMMON_STATUS, 1,
     STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK},
};

static const char *registers_after_driver_ok(void)
{
    for (unsigned at = 0; at < virtio_count; at++) {
        struct virtio *device = &virtios[at];
        struct vbuffer buffers[3];
        unsigned count;
        virtio_drive(device, 0);
        const unsigned queue = virtio_sound(device, buffers, &count);
        for (unsigned i = 0; i < ARRAY_COUNT(writes); i++) {
            vring_post(&device->rings[queue], buffers, count);
            vring_kick(device, queue);
            common_set(device, COMMON_QUEUE_SELECT, 2, queue);
            common_set(device, writes[i].at, writes[i].size, writes[i].value);
            const uint64_t size = common_get(device, COMMON_QUEUE_SIZE, 2);
            if (size != VRING_SIZE) {
                return wrong("a queue in use is now of size", size);
            }
            if (vring_await(device, queue) == UINT32_MAX) {
                say(virtio_name(device));
                say("\n");
                return wrong("it has fallen ill from write", i);
            }
        }
    }
    return NULL;
}

/* Before it works: sizes and places that cannot be are not taken, or not enabled. */
static const char *queues_that_cannot_be(void)
{
    static const uint16_t sizes[] = {0, 3, 255, 257, 512, 32768, 65535};
    static const uint64_t places[] = {
        1,           RAM_BYTES - 16, RAM_BYTES,         0xc0000000,
        PCI_ECAM_AT, PCI_LAPIC_AT,   UINT64_C(1) << 32, UINT64_MAX & ~UINT64_C(15)};
    struct virtio *device = virtio_find(VIRTIO_ENTROPY);
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        virtio_negotiate(device, 0);
        vring_setup(device, 0, sizes[i]);
        const uint64_t size = common_get(device, COMMON_QUEUE_SIZE, 2);
        if (size == sizes[i]) {
            return wrong("a queue may be of size", size);
        }
    }
    for (unsigned i = 0; i < ARRAY_COUNT(places); i++) {
        for (unsigned area = 0; area < 3; area++) {
            virtio_negotiate(device, 0);
            vring_setup(device, 0, VRING_SIZE);
            common_set(device, COMMON_QUEUE_DESCRIPTORS + 8 * area, 8, places[i]);
            common_set(device, COMMON_QUEUE_ENABLE, 2, 1);
            common_set(device, COMMON_STATUS, 1,
                       STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK |
                           STATUS_DRIVER_OK);
            vring_offer(&device->rings[0], 0);
            vring_kick(device, 0);
        }
    }
    return virtio_serves(device);
}

/* A reset while requests are on their way, again and again. */
static const char *resets_during_io(void)
{
    for (unsigned round = 0; round < 64; round++) {
        struct virtio *device = &virtios[round % virtio_count];
        struct vbuffer buffers[3];
        unsigned count;
        virtio_drive(device, 0);
        const unsigned queue = virtio_sound(device, buffers, &count);
        for (unsigned i = 0; i < 20; i++) {
            vring_post(&device->rings[queue], buffers, count);
        }
        vring_kick(device, queue);
        virtio_reset(device);
    }
    return NULL;
}

/* The last bytes of RAM are RAM. */
static const char *the_end_of_ram_is_ram(void)
{
    static const struct vbuffer last = {RAM_BYTES - 16, 16, true};
    struct virtio *device = virtio_find(VIRTIO_ENTROPY);
    memory_set(RAM_BYTES - 16, 8, 0);
    memory_set(RAM_BYTES - 8, 8, 0);
    virtio_drive(device, 0);
    vring_post(&device->rings[0], &last, 1);
    vring_kick(device, 0);
    const uint32_t size = vring_await(device, 0);
    if (size != 16) {
        return wrong("of 16 bytes were written:", size);
    }
    return memory_get(RAM_BYTES - 8, 8) != 0 ? NULL : wrong("they are not there", 0);
}

/* As many buffers as a chain may have, all the same large piece: what the device makes of
 * it is bounded by what it says, not by their sum. */
static const char *one_page_a_thousand_times(void)
{
    struct vbuffer same[VRING_SIZE - 1];
    struct virtio *device = virtio_find(VIRTIO_ENTROPY);
    for (unsigned i = 0; i < ARRAY_COUNT(same); i++) {
        same[i] = (struct vbuffer){DATA_AT, KIB64 * 64, true};
    }
    for (unsigned round = 0; round < 16; round++) {
        virtio_drive(device, 0);
        vring_post(&device->rings[0], same, ARRAY_COUNT(same));
        vring_kick(device, 0);
        if (vring_await(device, 0) == UINT32_MAX) {
            return wrong("the device is ill in round", round);
        }
    }
    return NULL;
}

const struct row_group rows_queue = {
    "queue",
    {{"broken-chains", broken_chains},
     {"rings-that-lie", rings_that_lie},
     {"heads-twice", heads_twice},
     {"registers-after-driver-ok", registers_after_driver_ok},
     {"queues-that-cannot-be", queues_that_cannot_be},
     {"resets-during-io", resets_during_io},
     {"the-end-of-ram", the_end_of_ram_is_ram},
     {"one-page-often", one_page_a_thousand_times}},
};
