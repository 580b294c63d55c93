/* The seal's file: blocks that are written in place, each durable when the call returns.
 *
 * Private to the room, and the place where a simulation puts a file of its own
 * (tests/sim). Units: bytes, blocks of SEAL_FILE_BLOCK. Threads: any, one at a time;
 * every write waits for the disk (O_DSYNC, O_DIRECT where the file system has it).
 * Ownership: opaque, heap. Errors: -errno with the path.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define SEAL_FILE_BLOCK 4096 /* a direct write's unit */

struct seal_file;

/* The file need not exist. */
int seal_file_open(const char *folder,
                   const char *name,
                   struct seal_file **ret_file,
                   struct err *err);
/* Accepts NULL; returns NULL. */
struct seal_file *seal_file_close(struct seal_file *file);
/* For messages. */
const char *seal_file_path(const struct seal_file *file);
/* Reads it whole into fresh memory: 1; 0 when there is no file. */
int seal_file_read(struct seal_file *file,
                   size_t size_max,
                   uint8_t **ret_data,
                   size_t *ret_size,
                   struct err *err);
/* Makes the file with this content, or leaves none. */
int seal_file_create(struct seal_file *file,
                     const uint8_t *data,
                     size_t size,
                     struct err *err);
/* Overwrites one block of an existing file; torn or not, the others stay as they are. */
int seal_file_write(struct seal_file *file,
                    uint64_t index,
                    const uint8_t block[SEAL_FILE_BLOCK],
                    struct err *err);
