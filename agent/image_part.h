/* A part: a file of known digest and size that arrives in order from a peer.
 *
 * Shapes: struct image_part is <digest>.part in the store's tmp/, which survives restarts
 * and grows until it is whole; then it enters the store (agent/image_store.h), checked.
 * Room for what is missing is promised to it while it is open. Threads: the loop's.
 * Ownership: the part is the caller's until end or close. Errors: BERTH_EBUSY,
 * BERTH_EDISKFULL, BERTH_ETOOLARGE, -errno. Limits: one per digest at a time.
 */
#pragma once

#include "agent/image_store.h"

struct image_part;
/* *ret_offset: what is there already. size 0: not known, to be told before the first
 * write, and what is there already is worth nothing. One part per digest at a time, until
 * its end's done (BERTH_EBUSY). */
struct image_part *image_part_open(struct image_store *store,
                                   const struct digest *digest,
                                   uint64_t size_bytes,
                                   uint64_t *ret_offset,
                                   struct err *err);
int image_part_told_size(struct image_part *part, uint64_t size_bytes, struct err *err);
/* Appends at its end; BERTH_ETOOLARGE over its size. After an error only close is left:
 * what fits is kept and found by the next open. */
int image_part_write(struct image_part *part,
                     const void *data,
                     size_t size,
                     struct err *err);
/* Consumes the part: checks, renames. A wrong digest removes the part. */
void image_part_end(struct image_part *part, image_done *done, void *context);
/* Consumes the part and keeps the file for later. */
void image_part_close(struct image_part *part);
