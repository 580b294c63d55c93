/* What a disk image is, by its first bytes: raw, or a qcow2 file that QEMU may be given.
 *
 * An image in the store cannot change: it is named by its hash, read-only, and guests
 * write to overlays. So its header may be believed as to what it is; what it asks for may
 * not. A qcow2 header can name files of the host (a backing file, an external data file)
 * that QEMU would open for the guest, so only one that asks for nothing is taken, and its
 * format is then told to QEMU, never guessed by it. Formats of other programs would be
 * garbage to a guest and are refused. Why so: docs/decisions/0007.
 *
 * Threads: any; disk_format_read reads a few bytes. Errors: BERTH_EINVALID with a
 * sentence that says what is wrong and how to make a file that is taken; -errno.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>

#define DISK_FORMAT_HEAD 112 /* what there is to know lies in these */

enum disk_format { DISK_FORMAT_RAW = 0, DISK_FORMAT_QCOW2, DISK_FORMAT_COUNT };

/* The pure half: of a file that begins so; size is less than DISK_FORMAT_HEAD only when
 * the file is. */
int disk_format_of(const void *head,
                   size_t size,
                   enum disk_format *ret_format,
                   struct err *err);
/* Of an open file; leaves its offset alone. */
int disk_format_read(int fd, enum disk_format *ret_format, struct err *err);
