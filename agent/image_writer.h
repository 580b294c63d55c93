/* An upload into the image store.
 *
 * Shapes: struct image_writer is a file of the store's tmp/ that grows by what a user
 * sends, and enters the store (agent/image_store.h) at its end, checked. Room: what was
 * announced is promised to it from the beginning, else room is looked for with each
 * piece. Threads: the loop's. Ownership: the writer is the caller's until end or abort.
 * Errors: BERTH_EDISKFULL, BERTH_ETOOLARGE, BERTH_EFULL (uploads), -errno. Limits:
 * IMAGE_STORE_WRITERS_MAX at a time.
 */
#pragma once

#include "agent/image_store.h"

#define IMAGE_STORE_WRITERS_MAX 16 /* uploads, until their end is told */

/* expected may be NULL. size_bytes: what was announced, and is kept for it;
 * IMAGE_SIZE_UNKNOWN: room is looked for with each piece. */
#define IMAGE_SIZE_UNKNOWN UINT64_MAX
struct image_writer;
struct image_writer *image_writer_begin(struct image_store *store,
                                        const struct digest *expected,
                                        uint64_t size_bytes,
                                        struct err *err);
int image_writer_write(struct image_writer *writer,
                       const void *data,
                       size_t size,
                       struct err *err);
/* Consumes the writer; done runs once. */
void image_writer_end(struct image_writer *writer, image_done *done, void *context);
void image_writer_abort(struct image_writer *writer);
