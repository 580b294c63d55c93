/* The file of a saved machine: its RAM, its state behind it, and a header that comes
 * last.
 *
 * Shapes: on disk, little endian,
 *     0                 header, one page: "BERTHSNP", u32 format version, u32 zero,
 *                       u64 bytes of RAM, u64 where the state begins, u64 its bytes,
 *                       u32 crc32c of all before it; the rest is zeros
 *     SNAPSHOT_RAM_AT   RAM (ram_image.h), sparse
 *     behind it         the state (state_stream.h); the file ends with it
 * The header is written when all else is durable: a file without it is no snapshot, so
 * that a save that was cut off leaves nothing that could be taken for one. Whatever is
 * missing or changed in header or state is found before anything of a machine is made of
 * them; RAM has checksums of its own.
 *
 * Threads: any, one at a time. Ownership: descriptors are borrowed. Errors: -errno with
 * text; BERTH_ECORRUPT, BERTH_EUNSUPPORTED for another version, BERTH_EINVALID for what
 * is no snapshot or no file for one. Limits: SNAPSHOT_STATE_MAX.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_FORMAT_VERSION 1u
#define SNAPSHOT_RAM_AT         (UINT64_C(2) << 20) /* huge pages may map it */
#define SNAPSHOT_STATE_MAX      (UINT64_C(64) << 20)

struct snapshot_file {
    uint64_t ram_bytes;
    uint64_t state_at;
    uint64_t state_bytes;
};

/* Begins with a regular, empty file that is open for writing: makes room for the header.
 */
int snapshot_file_begin(int fd, struct err *err);
/* Writes the state behind RAM that is there already, makes all durable, then the header.
 */
int snapshot_file_finish(int fd,
                         uint64_t ram_bytes,
                         const void *state,
                         size_t state_bytes,
                         struct err *err);
/* Reads and checks the header against the file's size. */
int snapshot_file_open(int fd, struct snapshot_file *ret_file, struct err *err);
/* The state; *ret_state is the caller's to free. */
int snapshot_file_read_state(int fd,
                             const struct snapshot_file *file,
                             uint8_t **ret_state,
                             struct err *err);
