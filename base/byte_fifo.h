/* Small pieces of memory that go in the order they came.
 *
 * Shapes: a `struct byte_fifo` of pieces of any size, each of which stays where it is
 * until it is the oldest and dropped. They lie side by side in blocks, which go back
 * whole: what is kept for long does not lie scattered between what lives for a moment, as
 * pieces from malloc would, so that the heap can shrink again. Units: bytes. Threads: the
 * owner's. Ownership: the fifo's; pieces are aligned for any type. Errors: NULL when out
 * of memory. Limits: the owner's; a piece larger than a block has one of its own.
 */
#pragma once

#include <stddef.h>

#define BYTE_FIFO_BLOCK 16384u /* what the oldest piece keeps at most from going back */

struct byte_fifo;

struct byte_fifo *byte_fifo_new(void);
/* Accepts NULL; returns NULL. */
struct byte_fifo *byte_fifo_free(struct byte_fifo *fifo);
/* A new piece, the youngest, not initialised; NULL when out of memory. size > 0. */
void *byte_fifo_push(struct byte_fifo *fifo, size_t size);
/* Drops the oldest piece; there must be one. */
void byte_fifo_drop(struct byte_fifo *fifo);
/* What the pieces and the room around them take. */
size_t byte_fifo_bytes(const struct byte_fifo *fifo);
