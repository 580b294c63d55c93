/* How long a dialer that was turned away waits: later and later, up to a bound, and each
 * reason by its own count.
 *
 * Units: milliseconds. Threads: any, pure. Errors: none. Limits: the two bounds below.
 */
#pragma once

#include <stdint.h>

#define MESH_RETRY_MIN_MS UINT64_C(500)
#define MESH_RETRY_MAX_MS UINT64_C(8000)
/* A member that does not know our key for long dials us itself once it does. */
#define MESH_RETRY_REFUSED_MAX_MS UINT64_C(64000)

/* One more in a row; a count that is high enough for every bound stays. */
unsigned mesh_retry_count(unsigned count);
/* Before the dial after so many in a row, at most max_ms. */
uint64_t mesh_retry_wait_ms(unsigned count, uint64_t max_ms);
/* How long what a dial has shown counts: until the one after so many, and time for that
 * one to show it again. */
uint64_t mesh_retry_lapse_ms(unsigned count, uint64_t max_ms);
