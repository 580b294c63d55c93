/* How much of a file system images may still fill, and how much of it VMs may be
 * promised.
 *
 * The log, the records of VMs and their disks lie beside the images. A log that cannot be
 * written costs the host its part in the control plane, so images stop before that.
 * Units: bytes. Threads: any; a call is one statvfs. Errors: what cannot be looked at has
 * no bounds (UINT64_MAX): then the write itself tells.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define DISK_OVERCOMMIT                                             \
    1 /* a full disk stops the log and every VM of its host at once \
       */
#define DISK_RESERVE_PARTS 20                  /* a twentieth of the file system, */
#define DISK_RESERVE_MAX   (UINT64_C(1) << 30) /* but no more than this */

/* What is kept free of the folder's file system when nobody says how much; 0 when it
 * cannot be looked at. */
uint64_t disk_reserve_default(const char *folder);
/* Whether such a reserve leaves anything of the folder's file system: 0, or
 * BERTH_EINVALID and what there is. One that cannot be looked at leaves something. */
int disk_reserve_check(const char *folder, uint64_t reserve_bytes, struct err *err);
uint64_t disk_room(const char *folder, uint64_t reserve_bytes);

/* How a file system is shared out. */
struct disk_share {
    uint64_t reserve_bytes;
    uint64_t image_bytes; /* the image store's limit */
    uint32_t overcommit;  /* promised to VMs per byte for them; 0: the default */
};
/* What may be promised to VMs: what the reserve and the image store (never more than half
 * of the rest) leave, times overcommit. Not 0 unless total_bytes is. */
uint64_t disk_for_vms(const struct disk_share *share, uint64_t total_bytes);
