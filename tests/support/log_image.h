/* A file of the log as libraft writes it, in memory, for tests of what reads it: format,
 * batches of entries one behind the other, zeros.
 *
 * Shapes: `used` is where the next batch goes. Units: bytes. Threads: none of its own.
 * Ownership: the image owns its memory until log_image_fini. Errors: what does not fit
 * or has no memory aborts.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct log_image {
    uint8_t *data;
    size_t size;
    size_t used;
};

struct log_image_entry {
    uint64_t term;
    uint8_t type; /* 1 command, 2 barrier, 3 members */
    const void *data;
    size_t size; /* a multiple of 8 */
};

/* All zeros: as it is made ready. */
void log_image_init(struct log_image *image, size_t size);
void log_image_fini(struct log_image *image);
/* Where it begins; the format comes with the first. */
size_t log_image_batch(struct log_image *image,
                       const struct log_image_entry *entries,
                       size_t count);
/* What a batch of such entries takes. */
size_t log_image_batch_size(const struct log_image_entry *entries, size_t count);
