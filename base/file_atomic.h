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
#include <stdint.h>
#include <sys/types.h>

/* Replaces path with size bytes of data and the given mode. */
int file_atomic_write(const char *path,
                      const void *data,
                      size_t size,
                      mode_t mode,
                      struct err *err);

/* Gives the bytes of a file that is to be made; *ret_data to be freed. 0 or an error. */
typedef int
file_atomic_maker(void *context, uint8_t **ret_data, size_t *ret_size, struct err *err);
/* The content of a file of at most size_max bytes (a NUL follows it); where there is
 * none, what `make` gives, once it is written down. *ret_data to be freed. Errors: those
 * of the maker too. */
int file_atomic_read_or_make(const char *path,
                             size_t size_max,
                             mode_t mode,
                             file_atomic_maker *make,
                             void *context,
                             uint8_t **ret_data,
                             size_t *ret_size,
                             struct err *err);
