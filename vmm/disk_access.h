/* Whether a descriptor that somebody has handed over can be what is behind a disk, and
 * whether its file is free for that: one disk alone writes a file, and none reads what
 * another writes.
 *
 * Shapes: functions over descriptors; a file is the same by its device and number, or as
 * a block device by what it is the device of. Threads: any. Ownership: borrows all.
 * Errors: BERTH_EINVALID, BERTH_EBUSY with text. Limits: who opens the file in another
 * process, or a part of a block device, is not seen here.
 */
#pragma once

#include "vmm/disk.h"

#include <stdbool.h>

/* It is open for what the disk does: to read, and at the place that is said to write. */
int disk_access_check(int fd, bool writes, struct err *err);
/* Both are of one file. */
bool disk_access_is_same(int fd, int other_fd);
/* The disk of that name has not the file of the descriptor, or none of them writes it; or
 * BERTH_EBUSY. */
int disk_access_beside(const struct virtual_disk *disk,
                       const char *name,
                       int fd,
                       bool writes,
                       struct err *err);
