/* A writable overlay over a read-only base: what the guest changed, and nothing else.
 *
 * Shapes: one sparse file,
 *     data     at the guest's own offsets, size_bytes rounded up to a block
 *     bitmap   pages of OVERLAY_PAGE_BYTES, each twice: slots 2n and 2n + 1 of page n
 *     header   the last OVERLAY_PAGE_BYTES, written once
 * A block (OVERLAY_BLOCK_BYTES) whose bit is set lives in the data part; any other is
 * read from the base, or as zeros beyond the base's end. Bits are only ever set.
 *
 * Crash safety: a flush syncs the data, then writes each bitmap page that has changed
 * into the slot that does not hold its newest state (with generation and checksum), then
 * syncs again. Opening takes the newest slot that is whole. So a bit is durable only
 * after its block is, a torn page costs nothing that was flushed, and an aligned write
 * needs neither a copy nor a metadata write.
 *
 * Writes of part of a block copy the rest up from the base first. Discarded blocks read
 * as zeros, and the base's bytes never come back once that is flushed (a crash before may
 * bring them back, as it may undo any change); on a file that has no holes they stay as
 * they are. After a failed sync the kernel may have dropped what it could not write, so
 * the disk fails every later change and flush; one without memory (-ENOMEM) has begun
 * nothing, and may be made another time.
 *
 * Units, threads, ownership: as disk.h says; the overlay owns base and file. Errors:
 * BERTH_ECORRUPT and BERTH_EUNSUPPORTED for a file that is none of ours, BERTH_ECONFLICT
 * for the wrong base.
 */
#pragma once

#include "base/digest.h"
#include "vmm/disk.h"

#define OVERLAY_BLOCK_BYTES UINT64_C(4096)
#define OVERLAY_PAGE_BYTES  UINT64_C(4096)

/* How large the file of an overlay for a disk of this size is: make it so, sparse, before
 * disk_overlay_create. */
uint64_t disk_overlay_file_size(uint64_t disk_bytes);
/* Writes header and empty bitmap into a fresh file of zeros and syncs it. base_digest
 * names the base (all zeros: none). */
int disk_overlay_create(struct disk_file *file,
                        uint64_t disk_bytes,
                        uint64_t base_bytes,
                        const struct digest *base_digest,
                        struct err *err);
/* Opens what disk_overlay_create made, over that base (NULL when there is none) with that
 * digest; takes file and base on success. */
int disk_overlay_open(struct disk_file *take_file,
                      struct virtual_disk *take_base,
                      const struct digest *base_digest,
                      struct virtual_disk **ret_disk,
                      struct err *err);
/* Whether the block that holds this byte is the overlay's own (for copying a disk). */
bool disk_overlay_holds(const struct virtual_disk *disk, uint64_t offset);
