/* Takes away from berth-unpack all but what unpacking needs, before the first byte of a
 * tenant's file is read.
 *
 * Shapes: walls, and each must stand: those of base/process_rights.h, as
 * UNPACK_RIGHTS_UID with limits on what it writes, CPU time, memory and descriptors and
 * no core; then
 *
 *     system calls    reads and writes of what is open, memory that is no code, the end;
 *                     anything else ends it
 *
 * Threads: before there are any. Errors: -errno with text.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

/* Nobody's, next to berth-fetch's. */
#define UNPACK_RIGHTS_UID    65527
#define UNPACK_RIGHTS_CPU_S  20
#define UNPACK_RIGHTS_MEMORY (512u << 20)

/* parent: who started us, by its own word. bytes_max: what it may write, at most
 * UNPACK_BYTES_MAX. */
int unpack_rights_drop(pid_t parent, uint64_t bytes_max, struct err *err);
