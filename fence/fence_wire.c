#include "fence/fence_wire.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/require.h"

#include <string.h>

#define MAGIC       0x6e656662u /* "bfen" */
#define HEADER_SIZE 12u

#define SIZE_OF_u32 4u
#define SIZE_OF_u64 8u
/* NOLINTNEXTLINE(bugprone-macro-parentheses): one term of a sum */
#define SIZE_OF(type, name) +SIZE_OF_##type
#define BODY_SIZE(NAME)     (0u FENCE_##NAME##_FIELDS(SIZE_OF))
#define PAGE_SIZE           (BODY_SIZE(PAGE) + FENCE_PAGE_VMS * BODY_SIZE(ENTRY))

_Static_assert(HEADER_SIZE + PAGE_SIZE <= FENCE_MESSAGE_SIZE_MAX, "a page has to fit");

const char *fence_type_name(enum fence_type type)
{
    static const char *const names[FENCE_TYPE_COUNT] = {[FENCE_NONE] = "none",
#define TYPE_NAME(number, NAME, name) [FENCE_##NAME] = #name,
                                                        FENCE_MESSAGES(TYPE_NAME)
#undef TYPE_NAME
    };
    REQUIRE((unsigned)type < FENCE_TYPE_COUNT);
    return names[type];
}

/* ---- encoding, into a buffer of known size: the fence allocates nothing ---- */

static uint8_t *put_u32(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        *at++ = (uint8_t)(value >> (8 * i));
    }
    return at;
}

static uint8_t *put_u64(uint8_t *at, uint64_t value)
{
    return put_u32(put_u32(at, (uint32_t)value), (uint32_t)(value >> 32));
}

#define PUT(type, name) at = put_##type(at, body->name);
#define CODEC_PUT(NAME, name)                                                \
    static uint8_t *put_##name(uint8_t *at, const struct fence_##name *body) \
    {                                                                        \
        FENCE_##NAME##_FIELDS(PUT) return at;                                \
    }
CODEC_PUT(HELLO, hello)
CODEC_PUT(STATE, state)
CODEC_PUT(WATCH, watch)
CODEC_PUT(DROP, drop)
CODEC_PUT(KILL, kill)
CODEC_PUT(LEASE, lease)
CODEC_PUT(LIST, list)
CODEC_PUT(ENTRY, entry)
CODEC_PUT(REPLY, reply)
CODEC_PUT(EVENT, event)
CODEC_PUT(END, end)

static uint8_t *put_page(uint8_t *at, const struct fence_page *body)
{
    FENCE_PAGE_FIELDS(PUT)
    for (unsigned i = 0; i < FENCE_PAGE_VMS; i++) {
        at = put_entry(at, &body->entries[i]);
    }
    return at;
}

size_t fence_wire_encode(const struct fence_message *message,
                         uint8_t ret_data[FENCE_MESSAGE_SIZE_MAX])
{
    REQUIRE(message->type > FENCE_NONE && message->type < FENCE_TYPE_COUNT);
    uint8_t *at = put_u32(ret_data, MAGIC);
    at = put_u32(at, (uint32_t)message->type << 16 | FENCE_WIRE_VERSION);
    at = put_u32(at, message->tag);
    switch (message->type) {
#define ENCODE(number, NAME, name)                \
    case FENCE_##NAME:                            \
        at = put_##name(at, &message->body.name); \
        break;
        FENCE_MESSAGES(ENCODE)
#undef ENCODE
    default:
        break;
    }
    return (size_t)(at - ret_data);
}

/* ---- decoding ---- */

#define GET(type, name) body->name = bytes_read_##type(reader);
#define CODEC_GET(NAME, name)                                                      \
    static void get_##name(struct bytes_reader *reader, struct fence_##name *body) \
    {                                                                              \
        FENCE_##NAME##_FIELDS(GET)                                                 \
    }
CODEC_GET(HELLO, hello)
CODEC_GET(STATE, state)
CODEC_GET(WATCH, watch)
CODEC_GET(DROP, drop)
CODEC_GET(KILL, kill)
CODEC_GET(LEASE, lease)
CODEC_GET(LIST, list)
CODEC_GET(ENTRY, entry)
CODEC_GET(REPLY, reply)
CODEC_GET(EVENT, event)
CODEC_GET(END, end)

static void get_page(struct bytes_reader *reader, struct fence_page *body)
{
    FENCE_PAGE_FIELDS(GET)
    if (body->count > FENCE_PAGE_VMS) {
        bytes_reader_fail(reader);
        return;
    }
    for (unsigned i = 0; i < FENCE_PAGE_VMS; i++) {
        get_entry(reader, &body->entries[i]);
    }
}

static void get_body(struct bytes_reader *reader, struct fence_message *message)
{
    switch (message->type) {
#define DECODE(number, NAME, name)               \
    case FENCE_##NAME:                           \
        get_##name(reader, &message->body.name); \
        break;
        FENCE_MESSAGES(DECODE)
#undef DECODE
    default:
        bytes_reader_fail(reader);
    }
}

int fence_wire_decode(const void *data, size_t size, struct fence_message *ret_message)
{
    struct bytes_reader reader;
    memset(ret_message, 0, sizeof(*ret_message));
    bytes_reader_init(&reader, data, size);
    if (bytes_read_u32(&reader) != MAGIC) {
        return BERTH_EPROTO;
    }
    uint32_t kind = bytes_read_u32(&reader);
    if ((kind & 0xffffu) != FENCE_WIRE_VERSION) {
        return size < HEADER_SIZE ? BERTH_EPROTO : BERTH_EUNSUPPORTED;
    }
    struct fence_message message = {.type = (enum fence_type)(kind >> 16)};
    message.tag = bytes_read_u32(&reader);
    get_body(&reader, &message);
    int r = bytes_reader_end(&reader);
    if (r == 0) {
        *ret_message = message;
    }
    return r;
}
