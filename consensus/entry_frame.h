/* One raft entry on the wire and on disk: commands that are committed together.
 *
 * Shapes: magic u32, crc32c u32 of all that follows it, size u32 (without padding),
 * count u32, then per command a u32 length and its bytes; zeros up to a multiple of 8
 * (the library behind the log loses entries of any other length). A builder fills
 * memory of the caller's, a reader walks memory it borrows.
 * Units: bytes, little endian. Threads: none of its own.
 * Errors: BERTH_ECORRUPT for anything that an intact encoder cannot have written.
 * Limits: ENTRY_FRAME_SIZE_MAX an entry, ENTRY_FRAME_COUNT_MAX commands,
 * ENTRY_FRAME_COMMAND_MAX each.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENTRY_FRAME_SIZE_MAX    65536 /* 16 disk blocks; more costs latency */
#define ENTRY_FRAME_HEADER_SIZE 16
#define ENTRY_FRAME_PREFIX_SIZE 4    /* per command */
#define ENTRY_FRAME_COUNT_MAX   4096 /* bounds the work of one apply */
#define ENTRY_FRAME_COMMAND_MAX \
    (ENTRY_FRAME_SIZE_MAX - ENTRY_FRAME_HEADER_SIZE - ENTRY_FRAME_PREFIX_SIZE)

/* What `count` commands of together `payload_size` bytes need, padding included; 0 when
 * they are too many or too large for one entry. */
size_t entry_frame_size(size_t count, size_t payload_size);

struct entry_frame_builder {
    uint8_t *data; /* borrowed */
    size_t capacity;
    size_t size;
    uint32_t count;
};

/* Starts an entry in `data`, whose capacity must come from entry_frame_size. */
void entry_frame_begin(struct entry_frame_builder *builder,
                       uint8_t *data,
                       size_t capacity);
/* Appends one command; it must fit. */
void entry_frame_add(struct entry_frame_builder *builder, const void *data, size_t size);
/* Writes header, checksum and padding; the entry then fills exactly `capacity` bytes. */
void entry_frame_finish(struct entry_frame_builder *builder);

struct entry_frame_reader {
    const uint8_t *data; /* borrowed */
    size_t size;         /* without padding */
    size_t position;
    uint32_t count; /* commands in the entry */
};

/* Checks the whole entry (checksum, every length, the padding) before the first command
 * is given out, so that a damaged entry is never half applied. 0 or BERTH_ECORRUPT. */
int entry_frame_open(struct entry_frame_reader *reader,
                     const void *data,
                     size_t size,
                     struct err *err);
/* The next command (borrowed); false after the last one. */
bool entry_frame_next(struct entry_frame_reader *reader,
                      const uint8_t **ret_data,
                      size_t *ret_size);
