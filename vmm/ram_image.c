#include "vmm/ram_image.h"

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHUNK_PAGES (RAM_CHUNK_BYTES / GUEST_PAGE_BYTES)

static bool page_is_zeros(const uint8_t *page)
{
    static const uint8_t zeros[GUEST_PAGE_BYTES];
    return memcmp(page, zeros, GUEST_PAGE_BYTES) == 0;
}

/* ---- chunks ---- */

/* One chunk: where it is in RAM and in the file. */
struct chunk {
    unsigned region;
    uint64_t in_region;
    uint64_t address;
    uint32_t index; /* over all regions; with it, its place in the file */
};

static bool chunk_first(const struct guest_memory *memory, struct chunk *ret_chunk)
{
    *ret_chunk = (struct chunk){.address = memory->regions[0].address};
    return memory->region_count > 0;
}

static bool chunk_next(const struct guest_memory *memory, struct chunk *chunk)
{
    chunk->index++;
    chunk->in_region += RAM_CHUNK_BYTES;
    if (chunk->in_region >= memory->regions[chunk->region].size_bytes) {
        chunk->in_region = 0;
        if (++chunk->region == memory->region_count) {
            return false;
        }
    }
    chunk->address = memory->regions[chunk->region].address + chunk->in_region;
    return true;
}

static uint64_t chunk_in_file(const struct chunk *chunk, uint64_t offset)
{
    return offset + chunk->index * RAM_CHUNK_BYTES;
}

/* The checksum of what is not zeros; 0 and no pages when all is. */
struct chunk_sum {
    uint32_t crc;
    uint32_t pages;
};

static void sum_page(struct chunk_sum *sum, uint32_t number, const uint8_t *page)
{
    const uint8_t bytes[4] = {(uint8_t)number, (uint8_t)(number >> 8),
                              (uint8_t)(number >> 16), (uint8_t)(number >> 24)};
    sum->crc = crc32c(sum->crc, bytes, sizeof(bytes));
    sum->crc = crc32c(sum->crc, page, GUEST_PAGE_BYTES);
    sum->pages++;
}

/* The next run of pages that hold something, from *page on; its length in pages, 0 at the
 * end. Each is added to the sum. */
static uint32_t run_next(const uint8_t *bytes, uint32_t *page, struct chunk_sum *sum)
{
    uint32_t length = 0;
    while (*page < CHUNK_PAGES && page_is_zeros(bytes + *page * GUEST_PAGE_BYTES)) {
        ++*page;
    }
    while (*page + length < CHUNK_PAGES) {
        const uint8_t *at = bytes + (*page + length) * GUEST_PAGE_BYTES;
        if (length > 0 && page_is_zeros(at)) {
            break;
        }
        sum_page(sum, *page + length, at);
        length++;
    }
    return length;
}

/* ---- the section ---- */

static uint32_t chunks_of(const struct guest_memory *memory)
{
    return (uint32_t)(guest_memory_size(memory) / RAM_CHUNK_BYTES);
}

static void shape_write(const struct guest_memory *memory, struct bytes_writer *section)
{
    bytes_write_u32(section, memory->region_count);
    for (unsigned i = 0; i < memory->region_count; i++) {
        REQUIRE(memory->regions[i].size_bytes % RAM_CHUNK_BYTES == 0);
        bytes_write_u64(section, memory->regions[i].address);
        bytes_write_u64(section, memory->regions[i].size_bytes);
    }
}

/* Reads up to the chunks, whose number it returns. */
static int shape_read(const struct guest_memory *memory,
                      struct bytes_reader *section,
                      uint32_t *ret_count,
                      struct err *err)
{
    bool same = bytes_read_u32(section) == memory->region_count;
    for (unsigned i = 0; same && i < memory->region_count; i++) {
        same = bytes_read_u64(section) == memory->regions[i].address &&
               bytes_read_u64(section) == memory->regions[i].size_bytes;
    }
    if (section->error == 0 && !same) {
        return err_set(err, BERTH_EINVALID, "the saved RAM is that of another machine");
    }
    *ret_count = bytes_read_u32(section);
    if (section->error != 0 || *ret_count > chunks_of(memory) ||
        bytes_reader_left(section) != *ret_count * 2 * sizeof(uint32_t)) {
        return err_set(err, BERTH_ECORRUPT, "the list of RAM is damaged");
    }
    return 0;
}

int ram_image_fits(const struct guest_memory *memory,
                   struct bytes_reader *section,
                   struct err *err)
{
    uint32_t count = 0;
    int r = shape_read(memory, section, &count, err);
    (void)bytes_read_view(section,
                          bytes_reader_left(section)); /* sums of what is there */
    return r;
}

/* ---- writing ---- */

static int
file_write(int fd, uint64_t offset, const uint8_t *data, size_t size, struct err *err)
{
    while (size > 0) {
        const struct iovec piece = {(void *)(uintptr_t)data, size};
        const ssize_t done = pwritev(fd, &piece, 1, (off_t)offset);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return err_sys(err, done < 0 ? -errno : -EIO, "write RAM");
        }
        data += done;
        offset += (uint64_t)done;
        size -= (size_t)done;
    }
    return 0;
}

static int chunk_write(const struct guest_memory *memory,
                       const struct chunk *chunk,
                       int fd,
                       uint64_t at,
                       struct ram_progress *progress,
                       struct chunk_sum *sum,
                       struct err *err)
{
    struct iovec piece;
    int r = guest_memory_iovec(memory, chunk->address, RAM_CHUNK_BYTES, &piece, 1);
    REQUIRE(r == 1); /* it lies in one region */
    const uint8_t *bytes = piece.iov_base;
    uint32_t length;
    for (uint32_t page = 0; (length = run_next(bytes, &page, sum)) > 0; page += length) {
        const uint64_t from = page * GUEST_PAGE_BYTES;
        r = file_write(fd, at + from, bytes + from, length * GUEST_PAGE_BYTES, err);
        if (r < 0) {
            return r;
        }
        atomic_fetch_add(&progress->written_bytes, length * GUEST_PAGE_BYTES);
    }
    return 0;
}

int ram_image_write(const struct guest_memory *memory,
                    int fd,
                    uint64_t offset,
                    struct ram_progress *progress,
                    struct bytes_writer *section,
                    struct err *err)
{
    struct chunk chunk;
    uint32_t count = 0;
    shape_write(memory, section);
    const size_t count_at = section->size;
    bytes_write_u32(section, 0);
    for (bool more = chunk_first(memory, &chunk); more;
         more = chunk_next(memory, &chunk)) {
        struct chunk_sum sum = {0};
        if (atomic_load(&progress->wants_stop)) {
            return err_set(err, BERTH_ECLOSED, "it was cancelled");
        }
        const uint64_t end = chunk.in_region + RAM_CHUNK_BYTES;
        if (guest_memory_content_from(memory, chunk.region, chunk.in_region) < end) {
            int r = chunk_write(memory, &chunk, fd, chunk_in_file(&chunk, offset),
                                progress, &sum, err);
            if (r < 0) {
                return r;
            }
        }
        if (sum.pages > 0) {
            bytes_write_u32(section, chunk.index);
            bytes_write_u32(section, sum.crc);
            count++;
        }
        atomic_fetch_add(&progress->seen_bytes, RAM_CHUNK_BYTES);
    }
    if (section->error != 0) {
        return err_sys(err, section->error, "list the RAM");
    }
    for (unsigned i = 0; i < sizeof(count); i++) {
        section->data[count_at + i] = (uint8_t)(count >> (8 * i));
    }
    return 0;
}

/* ---- reading ---- */

/* All of a chunk. Zeros when the file has a hole there (or cannot tell: then it reads).
 */
static int
chunk_load(int fd, uint64_t at, uint8_t *bytes, bool *ret_hole, struct err *err)
{
    const off_t content = lseek(fd, (off_t)at, SEEK_DATA);
    size_t done = 0;
    *ret_hole = content >= 0 ? (uint64_t)content >= at + RAM_CHUNK_BYTES : errno == ENXIO;
    while (!*ret_hole && done < RAM_CHUNK_BYTES) {
        const ssize_t got =
            pread(fd, bytes + done, RAM_CHUNK_BYTES - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? err_sys(err, -errno, "read RAM")
                           : err_set(err, BERTH_ECORRUPT, "the saved RAM is cut short");
        }
        done += (size_t)got;
    }
    return 0;
}

static void chunk_place(struct guest_memory *memory,
                        const struct chunk *chunk,
                        const uint8_t *bytes,
                        struct chunk_sum *sum)
{
    uint32_t length;
    for (uint32_t page = 0; (length = run_next(bytes, &page, sum)) > 0; page += length) {
        const uint64_t from = page * GUEST_PAGE_BYTES;
        int r = guest_memory_write(memory, chunk->address + from, bytes + from,
                                   length * GUEST_PAGE_BYTES);
        REQUIRE(r == 0); /* it is RAM */
    }
}

int ram_image_read(struct guest_memory *memory,
                   int fd,
                   uint64_t offset,
                   struct bytes_reader *section,
                   struct err *err)
{
    CLEANUP_FREE uint8_t *bytes = malloc(RAM_CHUNK_BYTES);
    struct chunk chunk;
    uint32_t left = 0;
    int r = bytes == NULL ? err_sys(err, -ENOMEM, "read RAM")
                          : shape_read(memory, section, &left, err);
    if (r < 0) {
        return r;
    }
    uint32_t next = left > 0 ? bytes_read_u32(section) : UINT32_MAX;
    for (bool more = chunk_first(memory, &chunk); more;
         more = chunk_next(memory, &chunk)) {
        struct chunk_sum sum = {0};
        bool hole = false;
        r = chunk_load(fd, chunk_in_file(&chunk, offset), bytes, &hole, err);
        if (r < 0) {
            return r;
        }
        if (!hole) {
            chunk_place(memory, &chunk, bytes, &sum);
        }
        const bool is_listed = left > 0 && next == chunk.index;
        const uint32_t crc = is_listed ? bytes_read_u32(section) : 0;
        if (is_listed != (sum.pages > 0) || crc != sum.crc) {
            return err_set(err, BERTH_ECORRUPT,
                           "the saved RAM is damaged within %" PRIu64
                           " MiB from 0x%" PRIx64,
                           RAM_CHUNK_BYTES >> 20, chunk.address);
        }
        if (is_listed) {
            left--;
            next = left > 0 ? bytes_read_u32(section) : UINT32_MAX;
        }
    }
    return left == 0 ? 0 : err_set(err, BERTH_ECORRUPT, "the list of RAM is damaged");
}
