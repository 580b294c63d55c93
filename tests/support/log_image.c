#include "support/log_image.h"

#include "base/require.h"

#include <stdlib.h>
#include <string.h>

#define FORMAT      1
#define FORMAT_SIZE 8
#define BATCH_HEAD  16
#define ENTRY_HEAD  16

/* Bit by bit, and so not the way of who is tested. */
static uint32_t crc32_of(const uint8_t *data, size_t size)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        crc ^= (uint32_t)data[i] << 24;
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc << 1 ^ ((crc & 0x80000000) != 0 ? UINT32_C(0x04c11db7) : 0);
        }
    }
    return crc;
}

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

void log_image_init(struct log_image *image, size_t size)
{
    *image = (struct log_image){.data = calloc(size, 1), .size = size};
    REQUIRE(image->data != NULL);
}

void log_image_fini(struct log_image *image)
{
    free(image->data);
    *image = (struct log_image){0};
}

size_t log_image_batch_size(const struct log_image_entry *entries, size_t count)
{
    size_t size = BATCH_HEAD + count * ENTRY_HEAD;
    for (size_t i = 0; i < count; i++) {
        size += entries[i].size;
    }
    return size;
}

size_t log_image_batch(struct log_image *image,
                       const struct log_image_entry *entries,
                       size_t count)
{
    if (image->used == 0) {
        put(image->data, FORMAT, FORMAT_SIZE);
        image->used = FORMAT_SIZE;
    }
    size_t start = image->used;
    size_t at = start + BATCH_HEAD;
    REQUIRE(start + log_image_batch_size(entries, count) <= image->size);
    put(image->data + start + 8, count, 8);
    for (size_t i = 0; i < count; i++, at += ENTRY_HEAD) {
        put(image->data + at, entries[i].term, 8);
        put(image->data + at + 8, entries[i].type, 1);
        put(image->data + at + 12, entries[i].size, 4);
    }
    const size_t data = at;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].size > 0) {
            memcpy(image->data + at, entries[i].data, entries[i].size);
        }
        at += entries[i].size;
    }
    put(image->data + start, crc32_of(image->data + start + 8, data - start - 8), 4);
    put(image->data + start + 4, crc32_of(image->data + data, at - data), 4);
    image->used = at;
    return start;
}
