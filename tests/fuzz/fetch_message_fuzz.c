/* Messages of berth-fetch: any bytes are decoded or refused, and what is decoded encodes
 * to the same. */
#include "base/err.h"
#include "base/require.h"
#include "fetch/fetch_wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fetch_message message;
    static uint8_t again[FETCH_PACKET_MAX];
    const int r = fetch_wire_decode(data, size, &message);
    if (r != 0) {
        REQUIRE(r == BERTH_EPROTO || r == BERTH_EUNSUPPORTED);
        REQUIRE(message.type == FETCH_NONE);
        return 0;
    }
    REQUIRE(fetch_wire_encode(&message, again) == size);
    REQUIRE(memcmp(again, data, size) == 0);
    return 0;
}
