#include "net/mesh_frame.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/require.h"

static uint8_t *store(uint8_t *at, uint64_t value, unsigned bits)
{
    for (unsigned shift = 0; shift < bits; shift += 8) {
        *at++ = (uint8_t)(value >> shift);
    }
    return at;
}

void mesh_frame_encode(uint16_t type,
                       uint16_t flags,
                       uint64_t session,
                       uint64_t sequence,
                       uint32_t body_size,
                       uint8_t ret_header[MESH_FRAME_HEADER_SIZE])
{
    REQUIRE((flags & ~MESH_FRAME_FLAGS_KNOWN) == 0);
    REQUIRE(body_size <= MESH_BODY_SIZE_MAX);
    const struct mesh_frame frame = {
        .magic = MESH_FRAME_MAGIC,
        .version = MESH_FRAME_VERSION,
        .type = type,
        .flags = flags,
        .session = session,
        .sequence = sequence,
        .body_size = body_size,
    };
    uint8_t *at = ret_header;
#define MESH_FRAME_STORE(bits, name) at = store(at, frame.name, bits);
    MESH_FRAME_FIELDS(MESH_FRAME_STORE)
#undef MESH_FRAME_STORE
    REQUIRE(at == ret_header + MESH_FRAME_HEADER_SIZE);
}

int mesh_frame_decode(const void *data,
                      size_t size,
                      struct mesh_frame *ret_frame,
                      const uint8_t **ret_body)
{
    const uint8_t *bytes = data;
    if (size < 2 || bytes[0] != MESH_FRAME_MAGIC) {
        return BERTH_EPROTO;
    }
    /* Another version may look different from here on. */
    if (bytes[1] != MESH_FRAME_VERSION) {
        return BERTH_EUNSUPPORTED;
    }
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    struct mesh_frame frame;
#define MESH_FRAME_LOAD(bits, name) frame.name = bytes_read_u##bits(&reader);
    MESH_FRAME_FIELDS(MESH_FRAME_LOAD)
#undef MESH_FRAME_LOAD
    if (reader.error) {
        return BERTH_EPROTO;
    }
    if ((frame.flags & ~MESH_FRAME_FLAGS_KNOWN) != 0) {
        return BERTH_EUNSUPPORTED;
    }
    if (frame.body_size > MESH_BODY_SIZE_MAX) {
        return BERTH_ETOOLARGE;
    }
    const uint8_t *body =
        frame.body_size > 0 ? bytes_read_view(&reader, frame.body_size) : NULL;
    const int r = bytes_reader_end(&reader);
    if (r) {
        return r;
    }
    *ret_frame = frame;
    *ret_body = body;
    return 0;
}

void mesh_welcome_encode(uint16_t bulk_port, uint8_t ret_body[MESH_WELCOME_SIZE])
{
    (void)store(ret_body, bulk_port, 16);
}

int mesh_welcome_decode(const void *body, size_t size, uint16_t *ret_bulk_port)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, body, size);
    const uint16_t port = bytes_read_u16(&reader);
    if (reader.error) {
        return BERTH_EPROTO;
    }
    *ret_bulk_port = port;
    return 0;
}
