/* Takes away from berth-unpack all but what unpacking needs, before the first byte of a
 * tenant's file is read.
 *
 * Shapes: walls, put up in the order of a table in unpack_rights.c; each must stand.
 *
 *     limits          what it writes, CPU time, memory, descriptors; no core
 *     user            UNPACK_RIGHTS_UID, its group and no other (when started as root)
 *     capabilities    none, in no set
 *     no new rights   no exec or file gives any back
 *     parent          its death is ours
 *     system calls    reads and writes of what is open, memory that is no code, the end;
 *                     anything else ends it
 *
 * Threads: before there are any. Errors: -errno with text.
 */
#pragma once

#include "base/err.h"

/* Nobody's, next to berth-fetch's. */
#define UNPACK_RIGHTS_UID    65527
#define UNPACK_RIGHTS_CPU_S  60
#define UNPACK_RIGHTS_MEMORY (512u << 20)

int unpack_rights_drop(struct err *err);
