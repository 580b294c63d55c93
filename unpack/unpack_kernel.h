/* The ELF file within a bzImage (Linux's boot protocol 2.08 and newer: payload_offset and
 * payload_length), which a tenant may have made.
 *
 * Shapes: all of the file as bytes in, pieces of the ELF file out, in order, each as soon
 * as it is there. What it is packed with shows by its first bytes; a table in
 * unpack_kernel.c has the kinds. Units: bytes. Threads: any. Ownership: all is borrowed
 * for the call. Errors, with text: BERTH_EINVALID (damaged, or cut short),
 * BERTH_EUNSUPPORTED (packed with something else), BERTH_ETOOLARGE (more than
 * bytes_max), -ENOMEM, and what `came` gave. Limits: below; a library that wants
 * more memory is refused.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define UNPACK_FILE_MAX   (UINT64_C(128) << 20) /* of a bzImage; distributions' have 15 */
#define UNPACK_BYTES_MAX  (UINT64_C(256) << 20) /* of what is in it; theirs have 60 */
#define UNPACK_MEMORY_MAX (UINT64_C(192) << 20) /* of a library; xz of Linux wants 33 */

/* It is no bzImage with something within: nothing came. */
#define UNPACK_NOTHING 1

struct unpack_sink {
    int (*came)(void *context, const void *data, size_t size);
    void *context;
    uint64_t bytes_max; /* 0, or more than it: UNPACK_BYTES_MAX */
};

int unpack_kernel(const void *file,
                  size_t size,
                  const struct unpack_sink *sink,
                  struct err *err);
