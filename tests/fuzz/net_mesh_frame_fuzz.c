/* Mesh frames: any bytes are decoded or refused, and what is decoded encodes to the same.
 */
#include "base/err.h"
#include "base/require.h"
#include "net/mesh_frame.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mesh_frame frame;
    const uint8_t *body = NULL;
    const int r = mesh_frame_decode(data, size, &frame, &body);
    if (r) {
        REQUIRE(r == BERTH_EPROTO || r == BERTH_EUNSUPPORTED || r == BERTH_ETOOLARGE);
        return 0;
    }
    REQUIRE(size == MESH_FRAME_HEADER_SIZE + frame.body_size);
    REQUIRE(frame.body_size == 0 || body == data + MESH_FRAME_HEADER_SIZE);
    uint8_t header[MESH_FRAME_HEADER_SIZE];
    mesh_frame_encode(frame.type, frame.flags, frame.session, frame.sequence,
                      frame.body_size, header);
    REQUIRE(memcmp(header, data, sizeof(header)) == 0);
    uint16_t port;
    (void)mesh_welcome_decode(body, frame.body_size, &port); /* any answer, no crash */
    return 0;
}
