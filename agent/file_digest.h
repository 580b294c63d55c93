/* The SHA-256 of what is in a file.
 *
 * Units: bytes. Threads: any; it blocks, and asks is_wanted once for each piece that it
 * has read. Ownership: all is borrowed; the descriptor's offset moves. Errors:
 * BERTH_ECLOSED (not wanted any more), -errno. Limits: none.
 */
#pragma once

#include "base/digest.h"

#include <stdbool.h>
#include <stdint.h>

/* Of its first size_max bytes, or of all when there are fewer; *ret_size_bytes: of how
 * many. */
int file_digest(int fd,
                uint64_t size_max,
                bool (*is_wanted)(void *context),
                void *context,
                struct digest *ret_digest,
                uint64_t *ret_size_bytes);
