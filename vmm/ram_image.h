/* A machine's RAM in a file: sparse, at one place, with a checksum for each chunk.
 *
 * Shapes: all regions one after another from a given offset of the file, each byte at its
 * own place, so that the file can be mapped as it is. Pages of zeros are holes. The
 * checksums travel elsewhere, as a section of the machine's state:
 *     u32 number of regions, each u64 address, u64 size
 *     u32 number of chunks that hold anything, each u32 index, u32 crc32c
 * A chunk is RAM_CHUNK_BYTES, counted over all regions; its checksum covers the number
 * and the bytes of each page that is not zeros.
 *
 * Units: bytes. Threads: any, while nobody else touches the memory. Errors: -errno;
 * BERTH_ECLOSED when it was told to stop; BERTH_ECORRUPT for a file whose bytes are not
 * those that were written, BERTH_EINVALID for the RAM of another machine. Limits: regions
 * are whole chunks.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/guest_memory.h"
#include "vmm/ram_chunks.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* How far it is, for whoever watches from another thread. */
struct ram_progress {
    atomic_ullong seen_bytes;    /* of all RAM */
    atomic_ullong written_bytes; /* what was not zeros */
    atomic_bool wants_stop;      /* set by the watcher */
};

/* Writes RAM into a file that holds nothing there yet, and the section. */
int ram_image_write(const struct guest_memory *memory,
                    int fd,
                    uint64_t offset,
                    struct ram_progress *progress,
                    struct bytes_writer *section,
                    struct err *err);
/* Whether nobody wants what is being read any more: asked before each chunk, on the
 * thread that reads. */
struct ram_stop {
    bool (*is_wanted)(void *context);
    void *context;
};

/* Fills fresh memory from the file and compares every byte with the checksums. Nobody
 * stops it when there is no `stop`. */
int ram_image_read(struct guest_memory *memory,
                   int fd,
                   uint64_t offset,
                   const struct ram_stop *stop,
                   struct bytes_reader *section,
                   struct err *err);
/* What each chunk of RAM has to be, of which one after the other is read as it is needed.
 */
struct ram_sum {
    uint32_t crc;
    bool holds_content; /* else it is all zeros */
};

struct ram_sums {
    struct ram_sum *chunks; /* owned */
    uint32_t count;
};

/* All of the section; BERTH_ECORRUPT when it cannot be that of any file. */
int ram_sums_read(struct ram_sums *ret_sums,
                  const struct guest_memory *memory,
                  struct bytes_reader *section,
                  struct err *err);
void ram_sums_fini(struct ram_sums *sums);
/* Reads one chunk, RAM_CHUNK_BYTES, and compares it. One without content is found to be
 * so, and leaves nothing in ret_bytes that could be used. */
int ram_image_read_chunk(const struct ram_sums *sums,
                         const struct guest_memory *memory,
                         int fd,
                         uint64_t offset,
                         uint32_t index,
                         uint8_t *ret_bytes,
                         struct err *err);
/* The next run of pages of a chunk that hold something, from *page on: its length in
 * pages, 0 at the end. */
uint32_t ram_image_run(const uint8_t *bytes, uint32_t *page);
/* For memory that is a mapping of the file: only whether the section is that of RAM of
 * this shape. */
int ram_image_fits(const struct guest_memory *memory,
                   struct bytes_reader *section,
                   struct err *err);
