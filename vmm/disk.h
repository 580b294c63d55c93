/* What a virtual disk is to the device in front of it, and the file beneath it.
 *
 * Shapes: `struct disk_file` is a file of fixed size with five verbs; the real one is
 * over a descriptor (disk_file_new), tests put a machine that loses its power beneath.
 * `struct virtual_disk` is what the guest sees: a variant (disk_raw.h, disk_overlay.h)
 * with one static table. A disk has a size in bytes, a multiple of DISK_SECTOR_BYTES, and
 * keeps what was written before a flush that returned 0; of what was written since, any
 * part may be missing after a crash, by sectors.
 *
 * A read that is one of a single file, at the same offset, may also be made by whoever
 * holds the descriptors (disk_files), when disk_direct_read says so.
 *
 * Units: bytes. Threads: all verbs but free from any number of threads at once; they
 * block, but for the direct one. Errors: -errno or BERTH_E*; after an error the content
 * of the range that was written is old or new, by sectors. After one that
 * disk_has_no_room knows nothing is lost: the same may be tried again when there is room.
 * Ownership: descriptors are taken; a disk owns what lies beneath it.
 */
#pragma once

#include "base/err.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define DISK_SECTOR_BYTES UINT64_C(512)
#define DISK_SIZE_MAX     (UINT64_C(64) << 40)
#define DISK_PIECES_MAX   1024u /* IOV_MAX: what one call of the kernel takes */
#define DISK_FILES_MAX    2u    /* an overlay and its base */

/* ---- the file beneath ---- */

struct disk_file;

struct disk_file_ops {
    /* All bytes of the range or an error; pieces hold exactly `size` bytes. */
    int (*read)(struct disk_file *file,
                uint64_t offset,
                const struct iovec *pieces,
                unsigned piece_count,
                uint64_t size);
    int (*write)(struct disk_file *file,
                 uint64_t offset,
                 const struct iovec *pieces,
                 unsigned piece_count,
                 uint64_t size);
    /* The range reads as zeros afterwards; gives the space back if it can. */
    int (*zero)(struct disk_file *file, uint64_t offset, uint64_t size);
    /* Gives the space back, and then the range reads as zeros. -EOPNOTSUPP, and nothing
     * has changed, where that cannot be done without writing them. */
    int (*punch)(struct disk_file *file, uint64_t offset, uint64_t size);
    /* What was written before is durable. Never an error of disk_has_no_room: what the
     * kernel could not write it may have dropped, and a second try would say nothing of
     * that. So once it failed it fails for as long as the file is open. */
    int (*sync)(struct disk_file *file);
    /* The descriptor that reads and writes may also go to. NULL: there is none. */
    int (*descriptor)(const struct disk_file *file);
    void (*free)(struct disk_file *file);
};

struct disk_file {
    const struct disk_file_ops *ops;
    uint64_t size_bytes;
};

/* A regular file or block device; takes the descriptor on success. */
int disk_file_new(int take_fd, struct disk_file **ret_file, struct err *err);
void disk_file_free(struct disk_file *file); /* NULL is fine */
/* One plain buffer. */
int disk_file_read(struct disk_file *file, uint64_t offset, void *ret_data, size_t size);
int disk_file_write(struct disk_file *file,
                    uint64_t offset,
                    const void *data,
                    size_t size);

/* ---- the disk ---- */

struct virtual_disk;

struct disk_ops {
    const char *kind;
    int (*read)(struct virtual_disk *disk,
                uint64_t offset,
                const struct iovec *pieces,
                unsigned piece_count,
                uint64_t size);
    int (*write)(struct virtual_disk *disk,
                 uint64_t offset,
                 const struct iovec *pieces,
                 unsigned piece_count,
                 uint64_t size);
    int (*flush)(struct virtual_disk *disk);
    /* Reads as zeros afterwards. */
    int (*zero)(struct virtual_disk *disk, uint64_t offset, uint64_t size);
    /* The content is not needed any more: old or zeros afterwards. Nobody waits for room
     * for that, and nobody writes zeros where a file has no holes (-EOPNOTSUPP): these
     * errors are none of disk_discard's. */
    int (*discard)(struct virtual_disk *disk, uint64_t offset, uint64_t size);
    void (*free)(struct virtual_disk *disk);
    /* The two of disk_files; NULL: nothing is direct. */
    unsigned (*files)(const struct virtual_disk *disk, int ret_fds[DISK_FILES_MAX]);
    int (*direct_read)(const struct virtual_disk *disk, uint64_t offset, uint64_t size);
};

struct virtual_disk {
    const struct disk_ops *ops;
    uint64_t size_bytes;
    bool read_only;
};

/* Whether the host has no room for what was to be written, or may give it none. */
static inline bool disk_has_no_room(int code)
{
    return code == -ENOSPC || code == -EDQUOT;
}

/* The verbs; -EINVAL for a range that is not inside the disk, -EROFS. */
int disk_read(struct virtual_disk *disk,
              uint64_t offset,
              const struct iovec *pieces,
              unsigned piece_count,
              uint64_t size);
int disk_write(struct virtual_disk *disk,
               uint64_t offset,
               const struct iovec *pieces,
               unsigned piece_count,
               uint64_t size);
int disk_flush(struct virtual_disk *disk);
int disk_zero(struct virtual_disk *disk, uint64_t offset, uint64_t size);
int disk_discard(struct virtual_disk *disk, uint64_t offset, uint64_t size);
void disk_free(struct virtual_disk *disk); /* NULL is fine */
/* The descriptors that direct reads go to, which are the disk's; their number, 0 when
 * there are none. */
unsigned disk_files(const struct virtual_disk *disk, int ret_fds[DISK_FILES_MAX]);
/* Whether this read, now, is one of a single file at the same offset: which of
 * disk_files, or -1, and then the verb is for it. Never waits. The answer stays good
 * while the read is made: what is changed meanwhile reads as old or new, as by the verb.
 */
int disk_direct_read(const struct virtual_disk *disk, uint64_t offset, uint64_t size);
/* Copies the whole content into a file of at least that size and syncs it; zeros become
 * holes. */
int disk_export(struct virtual_disk *disk, struct disk_file *file, struct err *err);

/* The pieces of [skip, skip + size) of others; their number (<= piece_count). */
unsigned disk_pieces_slice(const struct iovec *pieces,
                           unsigned piece_count,
                           uint64_t skip,
                           uint64_t size,
                           struct iovec *ret_pieces);
