#include "consensus/entry_frame.h"

#include "base/digest.h"
#include "base/require.h"

#include <string.h>

#define ENTRY_FRAME_MAGIC UINT32_C(0x31455242) /* "BRE1" */
#define CHECKED_FROM      8                    /* the checksum covers all behind itself */

static void put_u32(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
           (uint32_t)at[3] << 24;
}

size_t entry_frame_size(size_t count, size_t payload_size)
{
    if (count == 0 || count > ENTRY_FRAME_COUNT_MAX ||
        payload_size > ENTRY_FRAME_SIZE_MAX) {
        return 0;
    }
    size_t size =
        ENTRY_FRAME_HEADER_SIZE + count * ENTRY_FRAME_PREFIX_SIZE + payload_size;
    size = (size + 7) / 8 * 8;
    return size <= ENTRY_FRAME_SIZE_MAX ? size : 0;
}

void entry_frame_begin(struct entry_frame_builder *builder,
                       uint8_t *data,
                       size_t capacity)
{
    REQUIRE(data != NULL);
    REQUIRE(capacity >= ENTRY_FRAME_HEADER_SIZE && capacity % 8 == 0);
    *builder = (struct entry_frame_builder){
        .data = data, .capacity = capacity, .size = ENTRY_FRAME_HEADER_SIZE};
}

void entry_frame_add(struct entry_frame_builder *builder, const void *data, size_t size)
{
    REQUIRE(size <= ENTRY_FRAME_COMMAND_MAX);
    REQUIRE(builder->capacity - builder->size >= ENTRY_FRAME_PREFIX_SIZE + size);
    put_u32(builder->data + builder->size, (uint32_t)size);
    builder->size += ENTRY_FRAME_PREFIX_SIZE;
    if (size > 0) {
        memcpy(builder->data + builder->size, data, size);
    }
    builder->size += size;
    builder->count++;
}

void entry_frame_finish(struct entry_frame_builder *builder)
{
    uint8_t *data = builder->data;
    REQUIRE(builder->count > 0);
    REQUIRE(builder->capacity - builder->size < 8);
    memset(data + builder->size, 0, builder->capacity - builder->size);
    put_u32(data, ENTRY_FRAME_MAGIC);
    put_u32(data + 8, (uint32_t)builder->size);
    put_u32(data + 12, builder->count);
    put_u32(data + 4, crc32c(0, data + CHECKED_FROM, builder->capacity - CHECKED_FROM));
}

/* Every length must lie inside, and the last command must end where the entry says it
 * ends. */
static bool commands_fit(const struct entry_frame_reader *reader)
{
    size_t position = ENTRY_FRAME_HEADER_SIZE;
    for (uint32_t i = 0; i < reader->count; i++) {
        if (reader->size - position < ENTRY_FRAME_PREFIX_SIZE) {
            return false;
        }
        size_t size = get_u32(reader->data + position);
        position += ENTRY_FRAME_PREFIX_SIZE;
        if (reader->size - position < size) {
            return false;
        }
        position += size;
    }
    return position == reader->size;
}

int entry_frame_open(struct entry_frame_reader *reader,
                     const void *data,
                     size_t size,
                     struct err *err)
{
    const uint8_t *bytes = data;
    if (size < ENTRY_FRAME_HEADER_SIZE || size > ENTRY_FRAME_SIZE_MAX || size % 8 != 0) {
        return err_set(err, BERTH_ECORRUPT, "log entry: %zu bytes is no possible size",
                       size);
    }
    if (get_u32(bytes) != ENTRY_FRAME_MAGIC) {
        return err_set(err, BERTH_ECORRUPT, "log entry: unknown format %08x",
                       get_u32(bytes));
    }
    if (get_u32(bytes + 4) != crc32c(0, bytes + CHECKED_FROM, size - CHECKED_FROM)) {
        return err_set(err, BERTH_ECORRUPT, "log entry: checksum does not match");
    }
    struct entry_frame_reader opened = {.data = bytes,
                                        .size = get_u32(bytes + 8),
                                        .position = ENTRY_FRAME_HEADER_SIZE,
                                        .count = get_u32(bytes + 12)};
    bool sizes_fit = opened.size >= ENTRY_FRAME_HEADER_SIZE && opened.size <= size &&
                     size - opened.size < 8 && opened.count > 0 &&
                     opened.count <= ENTRY_FRAME_COUNT_MAX;
    if (!sizes_fit || !commands_fit(&opened)) {
        return err_set(err, BERTH_ECORRUPT, "log entry: lengths do not add up");
    }
    *reader = opened;
    return 0;
}

bool entry_frame_next(struct entry_frame_reader *reader,
                      const uint8_t **ret_data,
                      size_t *ret_size)
{
    if (reader->position >= reader->size) {
        return false;
    }
    *ret_size = get_u32(reader->data + reader->position);
    *ret_data = reader->data + reader->position + ENTRY_FRAME_PREFIX_SIZE;
    reader->position += ENTRY_FRAME_PREFIX_SIZE + *ret_size;
    return true;
}
