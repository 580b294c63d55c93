#include "base/byte_fifo.h"

#include "base/list.h"
#include "base/require.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

struct block {
    struct list link;
    size_t size;  /* of data */
    size_t used;  /* from the front */
    size_t count; /* pieces still here */
    alignas(max_align_t) uint8_t data[];
};

struct byte_fifo {
    struct list blocks; /* the oldest first; each holds a piece */
    size_t bytes;
};

struct byte_fifo *byte_fifo_new(void)
{
    struct byte_fifo *fifo = calloc(1, sizeof(*fifo));
    if (fifo != NULL) {
        list_init(&fifo->blocks);
    }
    return fifo;
}

static void block_free(struct byte_fifo *fifo, struct block *block)
{
    list_remove(&block->link);
    fifo->bytes -= sizeof(*block) + block->size;
    free(block);
}

struct byte_fifo *byte_fifo_free(struct byte_fifo *fifo)
{
    if (fifo != NULL) {
        LIST_EACH_SAFE (link, &fifo->blocks) {
            block_free(fifo, LIST_ITEM(link, struct block, link));
        }
        free(fifo);
    }
    return NULL;
}

static struct block *block_new(struct byte_fifo *fifo, size_t at_least)
{
    size_t size = BYTE_FIFO_BLOCK - sizeof(struct block);
    size = at_least > size ? at_least : size;
    struct block *block = malloc(sizeof(*block) + size);
    if (block != NULL) {
        block->size = size;
        block->used = 0;
        block->count = 0;
        list_push_back(&fifo->blocks, &block->link);
        fifo->bytes += sizeof(*block) + size;
    }
    return block;
}

void *byte_fifo_push(struct byte_fifo *fifo, size_t size)
{
    const size_t unit = alignof(max_align_t);
    REQUIRE(size > 0 && size < SIZE_MAX - BYTE_FIFO_BLOCK);
    size = (size + unit - 1) / unit * unit;
    struct block *block = list_empty(&fifo->blocks)
                              ? NULL
                              : LIST_ITEM(fifo->blocks.prev, struct block, link);
    if (block == NULL || block->size - block->used < size) {
        block = block_new(fifo, size);
    }
    if (block == NULL) {
        return NULL;
    }
    void *piece = block->data + block->used;
    block->used += size;
    block->count++;
    return piece;
}

void byte_fifo_drop(struct byte_fifo *fifo)
{
    REQUIRE(!list_empty(&fifo->blocks));
    struct block *block = LIST_ITEM(fifo->blocks.next, struct block, link);
    REQUIRE(block->count > 0);
    block->count--;
    if (block->count == 0) {
        block_free(fifo, block);
    }
}

size_t byte_fifo_bytes(const struct byte_fifo *fifo)
{
    return fifo->bytes;
}
