/* Whether the log's open files are what a crash leaves, or were damaged later.
 *
 * libraft's loader takes whatever does not read as entries for a write that a crash has
 * torn: it drops that and all behind it in the file, and gives what the next file holds
 * the indexes of what is gone, without a word. But a crash leaves only so much. Writes
 * follow each other, one at a time, each of one batch of entries (raft_appends.h), into
 * space that held zeros before (log_space.h), file after file. So
 *
 *   - only the last batch of the last file that holds anything can be torn: behind it are
 *     zeros, in that file and in all later ones;
 *   - what is missing of it is whole sectors, which still hold zeros. A batch that has
 *     something in each of its sectors was written whole, and one of at most
 *     LOG_CHECK_ONE_BIT_MAX whose checksum is wrong by a single bit was not torn.
 *
 * Everything else was stored, may have been acknowledged and has been damaged since. What
 * cannot be told from a torn write: damage to the very last batch by which, or beside
 * which, a sector of it is all zeros.
 *
 * Shapes: the files are given in the order of their numbers, as bytes. A file: format
 * u64; batches, one behind the other: crc32 u32 of the header, crc32 u32 of the data, the
 * header (count u64; per entry term u64, type u8, three bytes unused, size u32), the
 * data; zeros. A file made ready has its format already (log_space.h). Units: bytes,
 * little endian. Threads: none of its own. Ownership: all borrowed for the call. Errors:
 * BERTH_ECORRUPT: entries were lost. Limits: the search behind a batch that does not say
 * its own length is bounded by LOG_CHECK_WORK_MAX; a file that needs more counts as
 * damaged.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_CHECK_NAME_SIZE  64
#define LOG_CHECK_SECTOR     512 /* a disk writes it whole or not at all */
#define LOG_CHECK_BATCH_HEAD 16  /* checksums and count */
#define LOG_CHECK_ENTRY_HEAD 16
#define LOG_CHECK_FORMAT     1
/* Of larger batches a torn write looks too often as if one bit had turned over: 8 * size
 * of 2^32, so one of 8,000 at this size. */
#define LOG_CHECK_ONE_BIT_MAX (64u << 10)
#define LOG_CHECK_WORK_MAX    (UINT64_C(1) << 28) /* bytes looked at: a second or so */

/* What is to be done about a log that has lost entries; short, libraft keeps 255 bytes.
 */
#define LOG_CHECK_HELP                                                              \
    "`berth rm host/NAME` at another voter, then `berth down --forget` and `berth " \
    "join` "                                                                        \
    "here; or restore a backup"

struct log_check {
    char ended_in[LOG_CHECK_NAME_SIZE]; /* the log ends in that file; "": not yet */
};

/* The next file of a folder; `check` is zeroed before the first. */
int log_check_file(struct log_check *check,
                   const char *name,
                   const uint8_t *data,
                   size_t size,
                   struct err *err);

/* The checksum of these files: CRC-32, most significant bit first, from 0 on. */
uint32_t log_check_crc32(const uint8_t *data, size_t size);
