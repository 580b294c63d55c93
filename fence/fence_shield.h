/* What keeps the fence working when the machine is in trouble: memory locked, real-time
 * priority, out of the out-of-memory killer's reach, descriptors for every VM.
 *
 * Threads: the only one. Errors: none; what is not to be had is logged once, with why,
 * and missing in the answer.
 */
#pragma once

#include <stdint.h>

#define FENCE_SHIELD_PRIORITY 20 /* of SCHED_FIFO: above all that is not real time */

/* The FENCE_HAS_* flags of what was had. */
uint32_t fence_shield(void);
