/* Files replaced whole or not at all: write to a temporary beside it, fsync, rename,
 * fsync the folder.
 *
 * A reader or a crash sees the old content or the new, never a part. Errors: -errno with
 * text; ENOSPC is given as BERTH_EDISKFULL. The temporary is removed on failure. Threads:
 * any.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

/* Replaces path with size bytes of data and the given mode. */
int file_atomic_write(const char *path,
                      const void *data,
                      size_t size,
                      mode_t mode,
                      struct err *err);
