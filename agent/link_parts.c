#include "agent/link_parts.h"

#include "base/require.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool link_parts_may_carry(uint16_t type)
{
    return type == MESSAGE_ORDERS;
}

int link_parts_cut(uint64_t id,
                   uint16_t type,
                   const uint8_t *data,
                   size_t size,
                   int (*send)(void *context, const struct msg_part *part),
                   void *context)
{
    REQUIRE(link_parts_may_carry(type) && size <= LINK_PARTS_MAX);
    int r = 0;
    for (size_t offset = 0; r == 0 && offset < size; offset += MESSAGE_PART_MAX) {
        size_t left = size - offset;
        struct msg_part part = {
            .id = id, .type = type, .total = (uint32_t)size, .offset = (uint32_t)offset};
        part.data.size = left < MESSAGE_PART_MAX ? (uint32_t)left : MESSAGE_PART_MAX;
        part.data.data = malloc(part.data.size);
        if (part.data.data == NULL) {
            return -ENOMEM;
        }
        memcpy(part.data.data, data + offset, part.data.size);
        r = send(context, &part);
        record_fini(&msg_part_record, &part);
    }
    return r;
}

void link_parts_reset(struct link_parts *parts)
{
    free(parts->data);
    *parts = (struct link_parts){0};
}

static int begin(struct link_parts *parts, uint64_t from, const struct msg_part *part)
{
    link_parts_reset(parts);
    if (!link_parts_may_carry((uint16_t)part->type) || part->total > LINK_PARTS_MAX) {
        return BERTH_EPROTO;
    }
    uint8_t *data = malloc(part->total);
    if (data == NULL) {
        return -ENOMEM;
    }
    *parts = (struct link_parts){.from = from,
                                 .id = part->id,
                                 .type = part->type,
                                 .total = part->total,
                                 .data = data};
    return 0;
}

int link_parts_add(struct link_parts *parts, uint64_t from, const struct msg_part *part)
{
    int r = part->offset == 0 ? begin(parts, from, part) : 0;
    if (r < 0) {
        return r;
    }
    if (parts->data == NULL || parts->from != from || parts->id != part->id) {
        return BERTH_EPROTO; /* what is left of another message breaks nothing off */
    }
    if (parts->type != part->type || parts->total != part->total ||
        parts->size != part->offset || part->data.size == 0 ||
        part->data.size > parts->total - parts->size) {
        link_parts_reset(parts);
        return BERTH_EPROTO;
    }
    memcpy(parts->data + parts->size, part->data.data, part->data.size);
    parts->size += (uint32_t)part->data.size;
    return parts->size == parts->total;
}
