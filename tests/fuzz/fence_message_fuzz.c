/* Messages to the fence: any bytes are decoded or refused, and what is decoded encodes to
 * the same. */
#include "base/err.h"
#include "base/require.h"
#include "fence/fence_wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fence_message message;
    uint8_t again[FENCE_MESSAGE_SIZE_MAX];
    const int r = fence_wire_decode(data, size, &message);
    if (r != 0) {
        REQUIRE(r == BERTH_EPROTO || r == BERTH_EUNSUPPORTED);
        REQUIRE(message.type == FENCE_NONE);
        return 0;
    }
    REQUIRE(fence_wire_encode(&message, again) == size);
    REQUIRE(memcmp(again, data, size) == 0);
    return 0;
}
