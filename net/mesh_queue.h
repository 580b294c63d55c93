/* Bounded queues of mesh items: what waits to leave for a peer, what has arrived for
 * the loop. Internal to net's mesh files.
 *
 * Shapes: an item is a frame with its peer, or a notice about a peer; a queue counts
 * items and bytes and is full at either bound (the item that reaches over the bytes is
 * still taken, so that one of any size always fits).
 * Ownership: a queue owns its items; notices are embedded in their peer and only
 * linked.
 * Threads: none of its own.
 * Units: bytes, milliseconds.
 */
#pragma once

#include "base/list.h"
#include "net/mesh.h"

#include <czmq.h>

enum mesh_item_kind {
    MESH_ITEM_FRAME = 0, /* on the heap */
    /* Embedded in the peer, at most one of each. */
    MESH_ITEM_UP,
    MESH_ITEM_DOWN,
    MESH_ITEM_REFUSED,
    MESH_ITEM_ROOM_CONTROL,
    MESH_ITEM_ROOM_BULK,
    MESH_ITEM_KIND_COUNT,
};

struct mesh_item {
    struct list link;
    enum mesh_item_kind kind;
    struct mesh_peer_id peer;
    uint16_t type;
    zframe_t *frame; /* the whole frame, or NULL for a notice */
    uint64_t queued_ms;
};

/* A frame item that owns take_frame; NULL when out of memory, and then take_frame is not
 * taken. */
struct mesh_item *
mesh_item_new(const struct mesh_peer_id *peer, uint16_t type, zframe_t *take_frame);
/* Frees a frame item; accepts NULL; returns NULL. */
struct mesh_item *mesh_item_free(struct mesh_item *item);
size_t mesh_item_size(const struct mesh_item *item);

struct mesh_queue {
    struct list items;
    size_t count; /* frames; notices are not counted */
    size_t bytes;
    size_t count_max;
    size_t bytes_max;
};

void mesh_queue_init(struct mesh_queue *queue, size_t count_max, size_t bytes_max);
bool mesh_queue_empty(const struct mesh_queue *queue);
bool mesh_queue_full(const struct mesh_queue *queue);
/* At most half of both bounds is used. */
bool mesh_queue_half_free(const struct mesh_queue *queue);
/* Whether it may be added is the caller's question. */
void mesh_queue_push(struct mesh_queue *queue, struct mesh_item *item);
/* Puts back what was popped. */
void mesh_queue_push_front(struct mesh_queue *queue, struct mesh_item *item);
/* The oldest item or NULL; the caller owns it. */
struct mesh_item *mesh_queue_pop(struct mesh_queue *queue);
/* Frees frames that were queued before before_ms; how many. */
size_t mesh_queue_drop_older(struct mesh_queue *queue, uint64_t before_ms);
/* Frees frames and unlinks notices; how many frames. */
size_t mesh_queue_clear(struct mesh_queue *queue);
