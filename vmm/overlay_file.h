/* Makes the file of an overlay disk: what disk_overlay.h opens later, for whoever starts
 * a VM.
 *
 * The file becomes as large as it has to be, sparse, and is durable when this returns.
 * Units: bytes. Threads: any; blocks for the writes. Ownership: both descriptors are
 * borrowed. Errors: BERTH_EINVALID for a size that is not whole sectors or less than the
 * base's, BERTH_EEXISTS for a file that is not empty; -errno.
 */
#pragma once

#include "base/digest.h"
#include "base/err.h"

#include <stdint.h>

/* base_fd: a raw disk beneath it, which base_digest names; -1: zeros. disk_bytes 0: as
 * large as the base. */
int overlay_file_make(int fd,
                      uint64_t disk_bytes,
                      int base_fd,
                      const struct digest *base_digest,
                      struct err *err);
