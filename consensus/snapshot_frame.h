/* What a snapshot carries before the state machine's bytes: magic, size, checksum, so
 * that damage on the disk or on the way is noticed. Private to the room.
 *
 * Units: bytes, little endian. Threads: none of its own. Errors: BERTH_ECORRUPT.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_FRAME_SIZE 24
#define SNAPSHOT_SIZE_MAX                                         \
    (UINT64_C(512) << 20) /* larger ones libraft cannot read back \
                           */

/* The frame that goes before these bytes. */
void snapshot_frame_make(const void *data,
                         size_t size,
                         uint8_t ret_frame[SNAPSHOT_FRAME_SIZE]);
/* The bytes behind the frame (borrowed); 0 or BERTH_ECORRUPT. */
int snapshot_frame_open(const void *snapshot,
                        size_t snapshot_size,
                        const uint8_t **ret_data,
                        size_t *ret_size);
