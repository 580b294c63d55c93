#include "net/mesh_queue.h"

#include "base/require.h"

#include <stdlib.h>

struct mesh_item *
mesh_item_new(const struct mesh_peer_id *peer, uint16_t type, zframe_t *take_frame)
{
    struct mesh_item *item = calloc(1, sizeof(*item));
    if (!item) {
        return NULL;
    }
    list_init(&item->link);
    item->kind = MESH_ITEM_FRAME;
    item->peer = *peer;
    item->type = type;
    item->frame = take_frame;
    return item;
}

struct mesh_item *mesh_item_free(struct mesh_item *item)
{
    if (item) {
        REQUIRE(item->kind == MESH_ITEM_FRAME && list_empty(&item->link));
        zframe_destroy(&item->frame);
        free(item);
    }
    return NULL;
}

size_t mesh_item_size(const struct mesh_item *item)
{
    return item->frame ? zframe_size(item->frame) : 0;
}

void mesh_queue_init(struct mesh_queue *queue, size_t count_max, size_t bytes_max)
{
    *queue = (struct mesh_queue){.count_max = count_max, .bytes_max = bytes_max};
    list_init(&queue->items);
}

bool mesh_queue_empty(const struct mesh_queue *queue)
{
    return list_empty(&queue->items);
}

bool mesh_queue_full(const struct mesh_queue *queue)
{
    return queue->count >= queue->count_max || queue->bytes >= queue->bytes_max;
}

bool mesh_queue_half_free(const struct mesh_queue *queue)
{
    return queue->count <= queue->count_max / 2 && queue->bytes <= queue->bytes_max / 2;
}

static void queue_account_add(struct mesh_queue *queue, const struct mesh_item *item)
{
    if (item->frame) {
        queue->count++;
        queue->bytes += mesh_item_size(item);
    }
}

void mesh_queue_push(struct mesh_queue *queue, struct mesh_item *item)
{
    list_push_back(&queue->items, &item->link);
    queue_account_add(queue, item);
}

void mesh_queue_push_front(struct mesh_queue *queue, struct mesh_item *item)
{
    list_push_front(&queue->items, &item->link);
    queue_account_add(queue, item);
}

struct mesh_item *mesh_queue_pop(struct mesh_queue *queue)
{
    struct list *link = list_pop_front(&queue->items);
    if (link == NULL) {
        return NULL;
    }
    struct mesh_item *item = LIST_ITEM(link, struct mesh_item, link);
    if (item->frame) {
        REQUIRE(queue->count > 0 && queue->bytes >= mesh_item_size(item));
        queue->count--;
        queue->bytes -= mesh_item_size(item);
    }
    return item;
}

size_t mesh_queue_drop_older(struct mesh_queue *queue, uint64_t before_ms)
{
    size_t dropped = 0;
    while (!list_empty(&queue->items)) {
        struct mesh_item *item = LIST_ITEM(queue->items.next, struct mesh_item, link);
        if (!item->frame || item->queued_ms >= before_ms) {
            break; /* in order of age */
        }
        (void)mesh_item_free(mesh_queue_pop(queue));
        dropped++;
    }
    return dropped;
}

size_t mesh_queue_clear(struct mesh_queue *queue)
{
    size_t dropped = 0;
    struct mesh_item *item = NULL;
    while ((item = mesh_queue_pop(queue))) {
        if (item->kind == MESH_ITEM_FRAME) {
            (void)mesh_item_free(item);
            dropped++;
        }
    }
    return dropped;
}
