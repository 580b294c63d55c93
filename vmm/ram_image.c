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

static uint64_t chunk_in_file(uint32_t index, uint64_t offset)
{
    return offset + index * RAM_CHUNK_BYTES;
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

/* The next run of pages that hold something, before `end`. */
static uint32_t run_within(const uint8_t *bytes, uint32_t *page, uint32_t end)
{
    uint32_t length = 0;
    while (*page < end && page_is_zeros(bytes + *page * GUEST_PAGE_BYTES)) {
        ++*page;
    }
    while (*page + length < end &&
           (length == 0 || !page_is_zeros(bytes + (*page + length) * GUEST_PAGE_BYTES))) {
        length++;
    }
    return length;
}

uint32_t ram_image_run(const uint8_t *bytes, uint32_t *page)
{
    return run_within(bytes, page, CHUNK_PAGES);
}

/* The same; each page of it is added to the sum. */
static uint32_t
run_next(const uint8_t *bytes, uint32_t *page, uint32_t end, struct chunk_sum *sum)
{
    const uint32_t length = run_within(bytes, page, end);
    for (uint32_t i = 0; i < length; i++) {
        sum_page(sum, *page + i, bytes + (*page + i) * GUEST_PAGE_BYTES);
    }
    return length;
}

/* ---- the section ---- */

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
    if (section->error != 0 || *ret_count > ram_chunks_count(memory) ||
        bytes_reader_left(section) != *ret_count * UINT64_C(8)) {
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

int ram_sums_read(struct ram_sums *ret_sums,
                  const struct guest_memory *memory,
                  struct bytes_reader *section,
                  struct err *err)
{
    struct ram_sums sums = {.count = ram_chunks_count(memory)};
    uint32_t left = 0;
    int r = shape_read(memory, section, &left, err);
    if (r < 0) {
        return r;
    }
    sums.chunks = calloc(sums.count, sizeof(*sums.chunks));
    if (sums.chunks == NULL) {
        return err_sys(err, -ENOMEM, "read the list of RAM");
    }
    for (uint32_t next = 0; left > 0; left--) {
        const uint32_t index = bytes_read_u32(section);
        const uint32_t crc = bytes_read_u32(section);
        if (index < next || index >= sums.count) {
            ram_sums_fini(&sums);
            return err_set(err, BERTH_ECORRUPT, "the list of RAM is damaged");
        }
        sums.chunks[index] = (struct ram_sum){.crc = crc, .holds_content = true};
        next = index + 1;
    }
    *ret_sums = sums;
    return 0;
}

void ram_sums_fini(struct ram_sums *sums)
{
    free(sums->chunks);
    *sums = (struct ram_sums){0};
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

/* A piece of a region that may hold something. It is looked for once: to find the end of
 * a long one from each of its chunks would be quadratic. More may come in behind it
 * meanwhile, which the next look finds; within, nothing goes while RAM stands still. */
struct extent {
    unsigned region;
    uint64_t from;
    uint64_t end; /* 0: none is known */
};

/* The next pages of a chunk that may hold something, from *page on: their end, or *page
 * itself when there are no more. What nobody has written is not looked at: reading it
 * would make a page of it. */
static uint32_t pages_next(const struct guest_memory *memory,
                           const struct chunk *chunk,
                           struct extent *extent,
                           uint32_t *page)
{
    const uint64_t at = chunk->in_region + *page * GUEST_PAGE_BYTES;
    const uint64_t chunk_end = chunk->in_region + RAM_CHUNK_BYTES;
    if (extent->region != chunk->region || at < extent->from || at >= extent->end) {
        const uint64_t from = guest_memory_content_from(memory, chunk->region, at);
        if (from >= chunk_end) {
            return *page;
        }
        *extent = (struct extent){chunk->region, from,
                                  guest_memory_content_end(memory, chunk->region, from)};
    }
    const uint64_t from = at > extent->from ? at : extent->from;
    const uint64_t end = extent->end < chunk_end ? extent->end : chunk_end;
    *page = (uint32_t)((from - chunk->in_region) / GUEST_PAGE_BYTES);
    return (uint32_t)((end - chunk->in_region) / GUEST_PAGE_BYTES);
}

/* Where the chunk, which is there by now, goes to. */
struct chunk_target {
    int fd;
    uint64_t at;
    struct extent *extent;
    struct ram_progress *progress;
};

static int pages_write(const uint8_t *bytes,
                       uint32_t page,
                       uint32_t end,
                       const struct chunk_target *target,
                       struct chunk_sum *sum,
                       struct err *err)
{
    uint32_t length;
    for (; (length = run_next(bytes, &page, end, sum)) > 0; page += length) {
        const uint64_t from = page * GUEST_PAGE_BYTES;
        const int r = file_write(target->fd, target->at + from, bytes + from,
                                 length * GUEST_PAGE_BYTES, err);
        if (r < 0) {
            return r;
        }
        atomic_fetch_add(&target->progress->written_bytes, length * GUEST_PAGE_BYTES);
    }
    return 0;
}

static int chunk_write(const struct guest_memory *memory,
                       const struct chunk *chunk,
                       const struct chunk_target *target,
                       struct chunk_sum *sum,
                       struct err *err)
{
    struct iovec piece;
    if (!guest_memory_holds(memory, chunk->address, RAM_CHUNK_BYTES)) {
        return 0; /* of a block that is not plugged */
    }
    int r = guest_memory_iovec(memory, chunk->address, RAM_CHUNK_BYTES, &piece, 1);
    if (r < 0) { /* it lies in one region, but may not have come in itself */
        return err_sys(err, r, "read RAM at 0x%" PRIx64, chunk->address);
    }
    uint32_t page = 0;
    uint32_t end;
    for (r = 0; r == 0 && (end = pages_next(memory, chunk, target->extent, &page)) > page;
         page = end) {
        r = pages_write(piece.iov_base, page, end, target, sum, err);
    }
    guest_memory_iovec_end(memory, &piece, 1);
    return r;
}

int ram_image_write(const struct guest_memory *memory,
                    int fd,
                    uint64_t offset,
                    struct ram_progress *progress,
                    struct bytes_writer *section,
                    struct err *err)
{
    struct chunk chunk;
    struct extent extent = {0};
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
        const struct chunk_target target = {fd, chunk_in_file(chunk.index, offset),
                                            &extent, progress};
        const int r = chunk_write(memory, &chunk, &target, &sum, err);
        if (r < 0) {
            return r;
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

int ram_image_read_chunk(const struct ram_sums *sums,
                         const struct guest_memory *memory,
                         int fd,
                         uint64_t offset,
                         uint32_t index,
                         uint8_t *ret_bytes,
                         struct err *err)
{
    struct chunk_sum sum = {0};
    bool hole = false;
    uint32_t length;
    REQUIRE(index < sums->count);
    int r = chunk_load(fd, chunk_in_file(index, offset), ret_bytes, &hole, err);
    if (r < 0) {
        return r;
    }
    for (uint32_t page = 0;
         !hole && (length = run_next(ret_bytes, &page, CHUNK_PAGES, &sum)) > 0;
         page += length) {
    }
    const struct ram_sum *wanted = &sums->chunks[index];
    return wanted->holds_content == (sum.pages > 0) && wanted->crc == sum.crc
               ? 0
               : err_set(err, BERTH_ECORRUPT,
                         "the saved RAM is damaged within %" PRIu64
                         " MiB from 0x%" PRIx64,
                         RAM_CHUNK_BYTES >> 20, ram_chunk_address(memory, index));
}

static int chunk_place(struct guest_memory *memory,
                       uint64_t address,
                       const uint8_t *bytes,
                       struct err *err)
{
    uint32_t length;
    for (uint32_t page = 0; (length = ram_image_run(bytes, &page)) > 0; page += length) {
        const uint64_t from = page * GUEST_PAGE_BYTES;
        if (guest_memory_write(memory, address + from, bytes + from,
                               length * GUEST_PAGE_BYTES) < 0) {
            return err_set(err, BERTH_ECORRUPT,
                           "the saved RAM has content where none is plugged, at "
                           "0x%" PRIx64,
                           address + from);
        }
    }
    return 0;
}

int ram_image_read(struct guest_memory *memory,
                   int fd,
                   uint64_t offset,
                   const struct ram_stop *stop,
                   struct bytes_reader *section,
                   struct err *err)
{
    CLEANUP_FREE uint8_t *bytes = cleanup_new(1, RAM_CHUNK_BYTES);
    struct ram_sums sums = {0};
    int r = bytes == NULL ? err_sys(err, -ENOMEM, "read RAM")
                          : ram_sums_read(&sums, memory, section, err);
    for (uint32_t i = 0; r == 0 && i < sums.count; i++) {
        r = stop != NULL && stop->is_wanted(stop->context)
                ? err_set(err, BERTH_ECLOSED, "nobody waits for the rest of the RAM")
                : ram_image_read_chunk(&sums, memory, fd, offset, i, bytes, err);
        if (r == 0 && sums.chunks[i].holds_content) {
            r = chunk_place(memory, ram_chunk_address(memory, i), bytes, err);
        }
    }
    ram_sums_fini(&sums);
    return r;
}
