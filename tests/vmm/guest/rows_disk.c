/* Rows about disks: types that are none, ranges that wrap, requests in odd pieces, and
 * what looks like the header of an image format in the first sector. */
#include "guest_cpu.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define HEADER_AT SCRATCH_AT
#define STATUS_AT (SCRATCH_AT + 0x1000)
#define DATA_AT   (SCRATCH_AT + 0x2000)

#define SECTORS      UINT64_C(2048) /* of the disk: 1 MiB */
#define FLUSH        (UINT64_C(1) << 9)
#define DISCARD      (UINT64_C(1) << 13)
#define WRITE_ZEROES (UINT64_C(1) << 14)

enum {
    TYPE_READ = 0,
    TYPE_WRITE = 1,
    TYPE_SCSI = 2,
    TYPE_FLUSH = 4,
    TYPE_DISCARD = 11,
    TYPE_ZEROES = 13
};
enum { STATUS_GOOD = 0, STATUS_ERROR = 1, STATUS_UNKNOWN = 2, STATUS_BROKEN = 0xee };

/* One request of these buffers between header and status: its status. */
static uint8_t
request(uint32_t type, uint64_t sector, const struct vbuffer *middle, unsigned count)
{
    struct virtio *device = virtio_find(VIRTIO_BLOCK);
    struct vbuffer buffers[40] = {{HEADER_AT, 16, false}};
    memory_set(HEADER_AT, 8, type);
    memory_set(HEADER_AT + 8, 8, sector);
    memory_set(STATUS_AT, 1, 0xff);
    for (unsigned i = 0; i < count; i++) {
        buffers[1 + i] = middle[i];
    }
    buffers[1 + count] = (struct vbuffer){STATUS_AT, 1, true};
    if ((virtio_status(device) & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) !=
        STATUS_DRIVER_OK) {
        virtio_drive(device, FLUSH | DISCARD | WRITE_ZEROES);
    }
    vring_post(&device->rings[0], buffers, count + 2);
    vring_kick(device, 0);
    return vring_await(device, 0) == UINT32_MAX ? STATUS_BROKEN
                                                : (uint8_t)memory_get(STATUS_AT, 1);
}

static uint8_t data_request(uint32_t type, uint64_t sector, uint32_t size)
{
    const struct vbuffer data = {DATA_AT, size, type == TYPE_READ};
    return request(type, sector, &data, 1);
}

static const char *begins_anew(void)
{
    virtio_drive(virtio_find(VIRTIO_BLOCK), FLUSH | DISCARD | WRITE_ZEROES);
    const uint8_t status = data_request(TYPE_READ, 0, 512);
    return status == STATUS_GOOD ? NULL : wrong("a read has the status", status);
}

/* SCSI commands and whatever else there never was. */
static const char *types_that_are_none(void)
{
    static const uint32_t types[] = {
        TYPE_SCSI, 3,    5,     6,       7,       9,          10,         12,        14,
        16,        0x80, 0x100, 0x10000, 0x10001, 0x7fffffff, 0x80000000, UINT32_MAX};
    static const struct vbuffer scsi[] = {{DATA_AT, 32, false},
                                          {DATA_AT, 512, true},
                                          {DATA_AT, 96, true},
                                          {DATA_AT, 16, true}};
    for (unsigned i = 0; i < ARRAY_COUNT(types); i++) {
        const uint8_t status = request(types[i], 0, scsi, ARRAY_COUNT(scsi));
        if (status != STATUS_UNKNOWN) {
            say_number(types[i]);
            say("\n");
            return wrong("that type has the status", status);
        }
    }
    return NULL;
}

static const char *ranges_that_wrap(void)
{
    static const uint64_t sectors[] = {
        SECTORS,          SECTORS - 1,          UINT64_MAX,        UINT64_MAX - 1,
        UINT64_MAX / 512, UINT64_MAX / 512 + 1, UINT64_C(1) << 55, UINT64_C(1) << 63};
    static const uint32_t sizes[] = {1024, 65536, 1 << 20};
    for (unsigned i = 0; i < ARRAY_COUNT(sectors); i++) {
        for (unsigned at = 0; at < ARRAY_COUNT(sizes); at++) {
            for (uint32_t type = TYPE_READ; type <= TYPE_WRITE; type++) {
                const uint8_t status = data_request(type, sectors[i], sizes[at]);
                if (status != STATUS_ERROR) {
                    say_number(sectors[i]);
                    say("\n");
                    return wrong("beyond the end the status is", status);
                }
            }
        }
    }
    return data_request(TYPE_READ, SECTORS - 1, 512) == STATUS_GOOD
               ? NULL
               : wrong("the last sector is not there", 0);
}

static const char *sizes_that_are_odd(void)
{
    static const uint32_t sizes[] = {1, 511, 513, 16 << 20};
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        const uint8_t status = data_request(TYPE_READ, 0, sizes[i]);
        if (status != STATUS_ERROR) {
            return wrong("a read of an odd size has the status", status);
        }
    }
    const uint8_t status = request(TYPE_READ, 0, NULL, 0);
    return status == STATUS_ERROR ? NULL : wrong("a read of nothing has", status);
}

/* Discard and write zeroes: a segment each, whose numbers are the guest's. */
static const char *segments_at_extremes(void)
{
    static const struct {
        uint64_t sector;
        uint32_t count;
        uint32_t flags;
        uint32_t bytes;
    } segments[] = {
        {0, UINT32_MAX, 0, 16},
        {UINT64_MAX, 1, 0, 16},
        {UINT64_MAX / 512, 2, 0, 16},
        {UINT64_MAX, UINT32_MAX, 0, 16},
        {SECTORS, 1, 0, 16},
        {SECTORS - 1, 2, 0, 16},
        {0, 1, UINT32_MAX, 16},
        {0, 1, 2, 16},
        {0, 1, 0, 15},
        {0, 1, 0, 32},
        {0, 1, 0, 1 << 20},
    };
    for (unsigned i = 0; i < ARRAY_COUNT(segments); i++) {
        for (uint32_t type = TYPE_DISCARD; type <= TYPE_ZEROES; type += 2) {
            const struct vbuffer data = {DATA_AT, segments[i].bytes, false};
            memory_set(DATA_AT, 8, segments[i].sector);
            memory_set(DATA_AT + 8, 8,
                       (uint64_t)segments[i].flags << 32 | segments[i].count);
            const uint8_t status = request(type, 0, &data, 1);
            if (status != STATUS_ERROR && status != STATUS_UNKNOWN) {
                say_number(i);
                say("\n");
                return wrong("that segment has the status", status);
            }
        }
    }
    return NULL;
}

/* The header and the data in pieces of a few bytes are the same request. */
static const char *pieces_of_a_few_bytes(void)
{
    struct virtio *device = virtio_find(VIRTIO_BLOCK);
    struct vbuffer buffers[60];
    unsigned count = 0;
    for (uint64_t i = 0; i < 16; i++) {
        buffers[count++] = (struct vbuffer){HEADER_AT + i, 1, false};
    }
    for (uint64_t i = 0; i < 32; i++) {
        buffers[count++] = (struct vbuffer){DATA_AT + 512 * i, 16, true};
    }
    buffers[count++] = (struct vbuffer){STATUS_AT, 1, true};
    memory_set(DATA_AT, 8, UINT64_C(0x6465746f72726168));
    if (data_request(TYPE_WRITE, 7, 512) != STATUS_GOOD) {
        return wrong("a write failed", 0);
    }
    memory_set(DATA_AT, 8, 0);
    memory_set(HEADER_AT, 8, TYPE_READ);
    memory_set(HEADER_AT + 8, 8, 7);
    vring_post(&device->rings[0], buffers, count);
    vring_kick(device, 0);
    const uint32_t size = vring_await(device, 0);
    return size == 513 && memory_get(DATA_AT, 8) == UINT64_C(0x6465746f72726168)
               ? NULL
               : wrong("written:", size);
}

/* Where the device is to write is where its rings are, and its header. */
static const char *data_over_its_own_rings(void)
{
    struct virtio *device = virtio_find(VIRTIO_BLOCK);
    for (unsigned round = 0; round < 8; round++) {
        virtio_drive(device, 0);
        const uint64_t ring = (uint64_t)(uintptr_t)device->rings[0].descriptors;
        const struct vbuffer buffers[] = {{HEADER_AT, 16, false},
                                          {ring, 0x3000, true},
                                          {HEADER_AT, 512, true},
                                          {STATUS_AT, 1, true}};
        memory_set(HEADER_AT, 8, TYPE_READ);
        memory_set(HEADER_AT + 8, 8, round);
        vring_post(&device->rings[0], buffers, ARRAY_COUNT(buffers));
        vring_kick(device, 0);
        virtio_reset(device); /* its rings are gone: nothing can be waited for */
    }
    return begins_anew();
}

const struct row_group rows_disk = {
    "disk",
    {{"begins", begins_anew},
     {"types-that-are-none", types_that_are_none},
     {"ranges-that-wrap", ranges_that_wrap},
     {"odd-sizes", sizes_that_are_odd},
     {"segments", segments_at_extremes},
     {"small-pieces", pieces_of_a_few_bytes},
     {"over-its-rings", data_over_its_own_rings}},
};

/* ---- an image's header in a raw disk: after a reboot it is data still ---- */

/* qcow2, version 2, with a file of the host as its base, of 64 KiB clusters. */
static const uint8_t image[] = {
    'Q', 'F', 'I', 0xfb, 0, 0, 0,   2,                      /* magic, version */
    0,   0,   0,   0,    0, 0, 0,   72,  0,   0,   0,   11, /* where the base's name is */
    0,   0,   0,   16,   0, 0, 0,   4,   0,   0,   0,   0,  /* cluster bits, 16 GiB */
    0,   0,   0,   0,    0, 0, 0,   1,   0,   0,   0,   0,   0,   1,   0,   0, /* L1 */
    0,   0,   0,   0,    0, 2, 0,   0,   0,   0,   0,   1,   0,   0,   0,   0,   0,  0,
    0,   0,   0,   0,    0, 0, '/', 'e', 't', 'c', '/', 'p', 'a', 's', 's', 'w', 'd'};

/* By a driver that would flush, and does not. */
static const char *an_images_header_is_written(void)
{
    virtio_drive(virtio_find(VIRTIO_BLOCK), FLUSH);
    for (unsigned i = 0; i < sizeof(image); i++) {
        memory_set(DATA_AT + i, 1, image[i]);
    }
    const uint8_t status = data_request(TYPE_WRITE, 0, 512);
    return status == STATUS_GOOD ? NULL : wrong("the write has the status", status);
}

static const char *an_images_header_is_data(void)
{
    const struct virtio *device = virtio_find(VIRTIO_BLOCK);
    const uint8_t status = data_request(TYPE_READ, 0, 512);
    if (status != STATUS_GOOD || memory_get(device->config, 8) != SECTORS) {
        return wrong("sectors of the disk:", memory_get(device->config, 8));
    }
    for (unsigned i = 0; i < sizeof(image); i++) {
        if (memory_get(DATA_AT + i, 1) != image[i]) {
            return wrong("it has changed at byte", i);
        }
    }
    return NULL;
}

const struct row_group rows_image = {
    "image",
    {{"an-images-header-is-written", an_images_header_is_written}}};
const struct row_group rows_image_after = {
    "image-after",
    {{"an-images-header-is-data", an_images_header_is_data}}};

/* ---- a host without room ---- */

#define CHUNK_SECTORS 16u

/* What a sector holds. */
static uint64_t mark_of(uint64_t sector)
{
    return UINT64_C(0xbe57000000000000) | sector;
}

/* All of the disk, while the host has no room for all of it: that is for the host to see,
 * and takes as long as it takes. */
static const char *a_disk_that_has_no_room_is_slow(void)
{
    (void)ask("query");
    for (uint64_t sector = 0; sector < SECTORS; sector += CHUNK_SECTORS) {
        for (uint64_t i = 0; i < CHUNK_SECTORS; i++) {
            memory_set(DATA_AT + i * 512, 8, mark_of(sector + i));
        }
        const uint8_t status = data_request(TYPE_WRITE, sector, CHUNK_SECTORS * 512);
        if (status != STATUS_GOOD) {
            return wrong("a write has the status", status);
        }
    }
    const uint8_t status = request(TYPE_FLUSH, 0, NULL, 0);
    return status == STATUS_GOOD ? NULL : wrong("the flush has the status", status);
}

static const char *and_has_all_that_was_written(void)
{
    for (uint64_t sector = 0; sector < SECTORS; sector += CHUNK_SECTORS) {
        const uint8_t status = data_request(TYPE_READ, sector, CHUNK_SECTORS * 512);
        if (status != STATUS_GOOD) {
            return wrong("a read has the status", status);
        }
        for (uint64_t i = 0; i < CHUNK_SECTORS; i++) {
            if (memory_get(DATA_AT + i * 512, 8) != mark_of(sector + i)) {
                return wrong("it is not what was written, in sector", sector + i);
            }
        }
    }
    return NULL;
}

const struct row_group rows_full = {"full",
                                    {{"no-room-is-slow", a_disk_that_has_no_room_is_slow},
                                     {"all-is-there", and_has_all_that_was_written}}};
