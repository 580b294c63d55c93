#include "vmm/disk_raw.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct raw {
    struct virtual_disk disk;
    struct disk_file *file;
};

static struct disk_file *file_of(struct virtual_disk *disk)
{
    return ((struct raw *)disk)->file;
}

static int raw_read(struct virtual_disk *disk,
                    uint64_t offset,
                    const struct iovec *pieces,
                    unsigned piece_count,
                    uint64_t size)
{
    return file_of(disk)->ops->read(file_of(disk), offset, pieces, piece_count, size);
}

static int raw_write(struct virtual_disk *disk,
                     uint64_t offset,
                     const struct iovec *pieces,
                     unsigned piece_count,
                     uint64_t size)
{
    return file_of(disk)->ops->write(file_of(disk), offset, pieces, piece_count, size);
}

static int raw_flush(struct virtual_disk *disk)
{
    return file_of(disk)->ops->sync(file_of(disk));
}

static int raw_zero(struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    return file_of(disk)->ops->zero(file_of(disk), offset, size);
}

static int raw_discard(struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    return file_of(disk)->ops->punch(file_of(disk), offset, size);
}

static unsigned raw_files(const struct virtual_disk *disk, int ret_fds[DISK_FILES_MAX])
{
    const struct disk_file *file = ((const struct raw *)disk)->file;
    if (file->ops->descriptor == NULL) {
        return 0;
    }
    ret_fds[0] = file->ops->descriptor(file);
    return 1;
}

/* Always. */
static int
raw_direct_read(const struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    (void)disk;
    (void)offset;
    (void)size;
    return 0;
}

static void raw_free(struct virtual_disk *disk)
{
    disk_file_free(file_of(disk));
    free(disk);
}

static const struct disk_ops raw_ops = {
    .kind = "raw",
    .read = raw_read,
    .write = raw_write,
    .flush = raw_flush,
    .zero = raw_zero,
    .discard = raw_discard,
    .free = raw_free,
    .files = raw_files,
    .direct_read = raw_direct_read,
};

int disk_raw_new(struct disk_file *take_file,
                 bool read_only,
                 struct virtual_disk **ret_disk,
                 struct err *err)
{
    const uint64_t size = take_file->size_bytes;
    if (size == 0 || size % DISK_SECTOR_BYTES != 0 || size > DISK_SIZE_MAX) {
        return err_set(err, BERTH_EINVALID,
                       "a raw disk of %" PRIu64 " bytes: whole sectors of 512 are needed",
                       size);
    }
    struct raw *raw = calloc(1, sizeof(*raw));
    if (raw == NULL) {
        return err_sys(err, -ENOMEM, "open a disk");
    }
    raw->disk = (struct virtual_disk){&raw_ops, size, read_only};
    raw->file = take_file;
    *ret_disk = &raw->disk;
    return 0;
}
