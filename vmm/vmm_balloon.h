/* What QMP tells of the balloon, in QEMU's terms: how much memory the guest has left, and
 * what it says of it itself.
 *
 * Threads: the main one. Ownership: the answer is the caller's. Errors: NULL without
 * memory.
 */
#pragma once

#include "base/json.h"
#include "vmm/virtio_device.h"

#include <stdint.h>

/* The answer of query-balloon for a guest that has so much RAM; asks the guest for its
 * numbers anew, for who asks next. */
json_t *vmm_balloon_pack(struct virtio_device *balloon, uint64_t memory_bytes);
