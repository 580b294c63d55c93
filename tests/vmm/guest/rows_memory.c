/* Rows about memory that comes and goes: the balloon, and blocks that are plugged. */
#include "guest_cpu.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define REQUEST_AT (SCRATCH_AT + 0x1000)
#define ANSWER_AT  (SCRATCH_AT + 0x2000)
#define PAGES_AT   UINT64_C(0x1000000)
#define MOST_BYTES 0xf00000u /* from PAGES_AT nearly to the end of RAM */

/* ---- balloon ---- */

enum { INFLATE = 0, DEFLATE, STATISTICS, REPORT };
#define WITH_STATISTICS (UINT64_C(1) << 1)
#define WITH_REPORTS    (UINT64_C(1) << 5)

/* Requests as large as the guest's memory, of whatever numbers are there. */
static const char *requests_as_large_as_ram(void)
{
    struct virtio *device = virtio_find(VIRTIO_BALLOON);
    struct vbuffer same[VRING_SIZE - 1];
    virtio_drive(device, WITH_STATISTICS | WITH_REPORTS);
    for (uint64_t i = 0; i < 0x2000; i += 8) { /* wild ones in the first pages */
        memory_set(PAGES_AT + i, 8, UINT64_MAX - i * 0x100000001);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(same); i++) {
        same[i] = (struct vbuffer){PAGES_AT, MOST_BYTES, false};
    }
    for (unsigned queue = INFLATE; queue <= STATISTICS; queue++) {
        for (unsigned round = 0; round < 4; round++) {
            vring_post(&device->rings[queue], same, (unsigned)ARRAY_COUNT(same));
            vring_kick(device, queue);
            if (queue != STATISTICS && vring_await(device, queue) == UINT32_MAX) {
                return wrong("it is ill, queue", queue);
            }
            (void)ask("query");
        }
    }
    for (unsigned i = 0; i < ARRAY_COUNT(same); i++) {
        same[i].writable = true;
    }
    vring_post(&device->rings[REPORT], same, (unsigned)ARRAY_COUNT(same));
    vring_kick(device, REPORT);
    (void)vring_await(device, REPORT); /* served, or no device with such a queue */
    return virtio_serves(device);
}

/* Pages that were given are there again when they are touched, as zeros. */
static const char *pages_go_and_come(void)
{
    struct virtio *device = virtio_find(VIRTIO_BALLOON);
    const struct vbuffer numbers = {REQUEST_AT, 1024, false};
    virtio_drive(device, 0);
    for (unsigned round = 0; round < 64; round++) {
        for (uint64_t i = 0; i < 256; i++) {
            memory_set(REQUEST_AT + 4 * i, 4, (PAGES_AT >> 12) + i);
        }
        memory_set(PAGES_AT + 4096 * round, 8, round + 1);
        vring_post(&device->rings[INFLATE], &numbers, 1);
        vring_kick(device, INFLATE);
        if (vring_await(device, INFLATE) == UINT32_MAX) {
            return wrong("it is ill in round", round);
        }
        if (memory_get(PAGES_AT + 4096 * round, 8) != 0) {
            return wrong("a page that was given is still there:", round);
        }
    }
    return NULL;
}

/* ---- blocks ---- */

enum { PLUG = 0, UNPLUG, UNPLUG_ALL, STATE };
enum { ACK = 0, NACK, BUSY, ERROR };
#define INACCESSIBLE (UINT64_C(1) << 1)

static uint64_t block_bytes;
static uint64_t region_at;
static uint64_t region_bytes;

static const char *drive_memory(void)
{
    struct virtio *device = virtio_find(VIRTIO_MEMORY);
    virtio_drive(device, INACCESSIBLE);
    block_bytes = memory_get(device->config, 8);
    region_at = memory_get(device->config + 16, 8);
    region_bytes = memory_get(device->config + 24, 8);
    return region_at >= RAM_BYTES && block_bytes >= 0x200000
               ? NULL
               : wrong("a region at", region_at);
}

/* The answer to one request, at that place. */
static unsigned
memory_ask(uint16_t type, uint64_t address, uint16_t count, uint64_t answer_at)
{
    struct virtio *device = virtio_find(VIRTIO_MEMORY);
    const struct vbuffer buffers[] = {{REQUEST_AT, 24, false}, {answer_at, 16, true}};
    memory_set(REQUEST_AT, 8, type);
    memory_set(REQUEST_AT + 8, 8, address);
    memory_set(REQUEST_AT + 16, 8, count);
    memory_set(ANSWER_AT, 8, UINT64_MAX);
    vring_post(&device->rings[0], buffers, 2);
    vring_kick(device, 0);
    return vring_await(device, 0) == UINT32_MAX ? UINT32_MAX
                                                : (unsigned)memory_get(ANSWER_AT, 2);
}

/* Before the host wants any, and where none can be. */
static const char *blocks_that_cannot_be(void)
{
    const char *why = drive_memory();
    const struct {
        uint16_t type;
        uint64_t address;
        uint16_t count;
        unsigned answer;
    } asks[] = {
        {PLUG, region_at, 1, NACK},
        {PLUG, region_at + 1, 1, ERROR},
        {PLUG, region_at - block_bytes, 1, ERROR},
        {PLUG, region_at + region_bytes, 1, ERROR},
        {PLUG, region_at, 0, ERROR},
        {PLUG, region_at, 0xffff, ERROR},
        {PLUG, UINT64_MAX, 0xffff, ERROR},
        {PLUG, UINT64_MAX - block_bytes + 1, 2, ERROR},
        {PLUG, 0, 1, ERROR},
        {UNPLUG, region_at, 1, ERROR},
        {UNPLUG, UINT64_MAX, 1, ERROR},
        {UNPLUG, 0, 16, ERROR},
        {STATE, region_at, 0xffff, ERROR},
        {STATE, 0, 1, ERROR},
        {4, region_at, 1, ERROR},
        {0xffff, region_at, 1, ERROR},
        {UNPLUG_ALL, UINT64_MAX, 0xffff, ACK},
        {STATE, region_at, 1, ACK},
    };
    for (unsigned i = 0; why == NULL && i < ARRAY_COUNT(asks); i++) {
        const unsigned answer =
            memory_ask(asks[i].type, asks[i].address, asks[i].count, ANSWER_AT);
        if (answer != asks[i].answer) {
            say_number(i);
            say("\n");
            why = wrong("that was answered with", answer);
        }
    }
    return why;
}

/* A device writes there: whether it did, or is out of service. */
static uint32_t bytes_to(uint64_t address)
{
    struct virtio *device = virtio_find(VIRTIO_ENTROPY);
    const struct vbuffer buffer = {address, 256, true};
    virtio_drive(device, 0);
    vring_post(&device->rings[0], &buffer, 1);
    vring_kick(device, 0);
    return vring_await(device, 0);
}

/* What is plugged is memory to the guest and its devices, and what is not is not. */
static const char *blocks_come_and_go_during_io(void)
{
    const char *why = drive_memory();
    (void)ask("plug");
    for (unsigned round = 0; why == NULL && round < 32; round++) {
        const uint64_t at = region_at + (round & 1) * block_bytes;
        unsigned answer = memory_ask(PLUG, at, 1, ANSWER_AT);
        if (answer != ACK) {
            return wrong("a block is not plugged:", answer);
        }
        if (memory_get(at, 8) != 0 || memory_get(at + block_bytes - 8, 8) != 0) {
            return wrong("a new block is not empty, round", round);
        }
        memory_set(at, 8, round);
        if (bytes_to(at + block_bytes - 256) != 256) {
            return wrong("no device reaches the block, round", round);
        }
        if (bytes_to(at + block_bytes - 255) != UINT32_MAX) {
            return wrong("a device went beyond it, round", round);
        }
        if (memory_ask(PLUG, at, 1, ANSWER_AT) != ERROR) {
            return wrong("it was plugged twice, round", round);
        }
        /* The answer is to go where the block was; the request is served. */
        memory_set(at + 64, 8, 0);
        answer = memory_ask(UNPLUG, at, 1, (round & 2) != 0 ? at + 64 : ANSWER_AT);
        if ((round & 2) == 0 && answer != ACK) {
            return wrong("a block is not unplugged:", answer);
        }
        if (bytes_to(at) != UINT32_MAX) {
            return wrong("a device reaches what is gone, round", round);
        }
    }
    return why;
}

const struct row_group rows_memory = {
    "memory",
    {{"requests-as-large-as-ram", requests_as_large_as_ram},
     {"pages-go-and-come", pages_go_and_come},
     {"blocks-that-cannot-be", blocks_that_cannot_be},
     {"blocks-come-and-go", blocks_come_and_go_during_io}},
};
