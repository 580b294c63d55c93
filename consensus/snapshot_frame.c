#include "consensus/snapshot_frame.h"

#include "base/digest.h"
#include "base/err.h"

#include <string.h>

#define MAGIC UINT64_C(0x3150414e53455242) /* "BRESNAP1" */

static void put_u64(uint8_t *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

void snapshot_frame_make(const void *data,
                         size_t size,
                         uint8_t ret_frame[SNAPSHOT_FRAME_SIZE])
{
    put_u64(ret_frame, MAGIC);
    put_u64(ret_frame + 8, size);
    put_u64(ret_frame + 16, crc32c(0, data, size));
}

int snapshot_frame_open(const void *snapshot,
                        size_t snapshot_size,
                        const uint8_t **ret_data,
                        size_t *ret_size)
{
    uint8_t frame[SNAPSHOT_FRAME_SIZE];
    if (snapshot_size < SNAPSHOT_FRAME_SIZE) {
        return BERTH_ECORRUPT;
    }
    const uint8_t *data = (const uint8_t *)snapshot + SNAPSHOT_FRAME_SIZE;
    size_t size = snapshot_size - SNAPSHOT_FRAME_SIZE;
    snapshot_frame_make(data, size, frame);
    if (memcmp(frame, snapshot, SNAPSHOT_FRAME_SIZE) != 0) {
        return BERTH_ECORRUPT;
    }
    *ret_data = data;
    *ret_size = size;
    return 0;
}
