/* A raw disk: the file's bytes are the guest's bytes.
 *
 * The format is never guessed: whoever opens a file says that it is raw.
 */
#pragma once

#include "vmm/disk.h"

/* Takes the file on success. BERTH_EINVALID when its size is not whole sectors. */
int disk_raw_new(struct disk_file *take_file,
                 bool read_only,
                 struct virtual_disk **ret_disk,
                 struct err *err);
