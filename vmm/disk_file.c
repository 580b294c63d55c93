/* The real file beneath a disk: a descriptor of a regular file or a block device. */
#include "base/fd.h"
#include "vmm/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define ZERO_CHUNK (UINT64_C(64) << 10)

struct descriptor_file {
    struct disk_file file;
    int fd;
    pthread_mutex_t sync_lock;
    bool sync_failed; /* guarded by it: once, and so for good */
};

static int fd_of(struct disk_file *file)
{
    return ((struct descriptor_file *)file)->fd;
}

/* Repeats a vectored call until the range is done, from where the last one ended: bytes
 * that are done are never done again from other pieces. */
static int transfer(int fd,
                    uint64_t offset,
                    const struct iovec *pieces,
                    unsigned piece_count,
                    uint64_t size,
                    ssize_t (*call)(int, const struct iovec *, int, off_t))
{
    struct iovec rest[DISK_PIECES_MAX];
    ssize_t done = call(fd, pieces, (int)piece_count, (off_t)offset);
    uint64_t total = done > 0 ? (uint64_t)done : 0;
    while (total < size) {
        if (done < 0 && errno != EINTR) {
            return -errno;
        }
        if (done == 0) {
            return -EIO; /* the file is shorter than it was */
        }
        const unsigned count =
            disk_pieces_slice(pieces, piece_count, total, size - total, rest);
        done = call(fd, rest, (int)count, (off_t)(offset + total));
        total += done > 0 ? (uint64_t)done : 0;
    }
    return 0;
}

static int file_read(struct disk_file *file,
                     uint64_t offset,
                     const struct iovec *pieces,
                     unsigned piece_count,
                     uint64_t size)
{
    return transfer(fd_of(file), offset, pieces, piece_count, size, preadv);
}

static int file_write(struct disk_file *file,
                      uint64_t offset,
                      const struct iovec *pieces,
                      unsigned piece_count,
                      uint64_t size)
{
    return transfer(fd_of(file), offset, pieces, piece_count, size, pwritev);
}

/* For file systems that cannot punch holes. */
static int zeros_write(struct disk_file *file, uint64_t offset, uint64_t size)
{
    static const uint8_t zeros[ZERO_CHUNK];
    while (size > 0) {
        const size_t step = (size_t)(size < ZERO_CHUNK ? size : ZERO_CHUNK);
        const int r = disk_file_write(file, offset, zeros, step);
        if (r < 0) {
            return r;
        }
        offset += step;
        size -= step;
    }
    return 0;
}

static int hole_punch(int fd, uint64_t offset, uint64_t size)
{
    int r;
    do {
        r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                      (off_t)size);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

/* That there are no holes in it, or (EINVAL) none so small in a block device. */
static bool cannot_punch(int code)
{
    return code == -EOPNOTSUPP || code == -ENOSYS || code == -ENODEV || code == -EINVAL;
}

static int file_punch(struct disk_file *file, uint64_t offset, uint64_t size)
{
    const int r = hole_punch(fd_of(file), offset, size);
    return cannot_punch(r) ? -EOPNOTSUPP : r;
}

/* Another error stays one: zeros that were written where no hole could be punched for
 * want of room would take the last of it. */
static int file_zero(struct disk_file *file, uint64_t offset, uint64_t size)
{
    const int r = file_punch(file, offset, size);
    return r == -EOPNOTSUPP ? zeros_write(file, offset, size) : r;
}

/* One at a time, and none after one that failed: Linux tells a file's error once, and who
 * syncs beside or behind the one that hears it would take what was dropped for durable.
 */
static int file_sync(struct disk_file *of)
{
    struct descriptor_file *file = (struct descriptor_file *)of;
    int r = -EIO;
    pthread_mutex_lock(&file->sync_lock);
    if (!file->sync_failed) {
        r = fdatasync(file->fd) < 0 ? -errno : 0;
        file->sync_failed = r < 0;
    }
    pthread_mutex_unlock(&file->sync_lock);
    return disk_has_no_room(r) ? -EIO : r;
}

static int file_descriptor(const struct disk_file *file)
{
    return ((const struct descriptor_file *)file)->fd;
}

static void file_free(struct disk_file *of)
{
    struct descriptor_file *file = (struct descriptor_file *)of;
    fd_close(&file->fd);
    pthread_mutex_destroy(&file->sync_lock);
    free(file);
}

static const struct disk_file_ops descriptor_ops = {
    .read = file_read,
    .write = file_write,
    .zero = file_zero,
    .punch = file_punch,
    .sync = file_sync,
    .descriptor = file_descriptor,
    .free = file_free,
};

static int size_of(int fd, uint64_t *ret_size, struct err *err)
{
    struct stat info;
    if (fstat(fd, &info) < 0) {
        return err_sys(err, -errno, "look at the disk's file");
    }
    if (S_ISREG(info.st_mode)) {
        *ret_size = (uint64_t)info.st_size;
        return 0;
    }
    if (S_ISBLK(info.st_mode) && ioctl(fd, BLKGETSIZE64, ret_size) == 0) {
        return 0;
    }
    return err_set(err, BERTH_EINVALID,
                   "the disk is neither a regular file nor a block device");
}

int disk_file_new(int take_fd, struct disk_file **ret_file, struct err *err)
{
    uint64_t size = 0;
    const int r = size_of(take_fd, &size, err);
    if (r < 0) {
        return r;
    }
    struct descriptor_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        return err_sys(err, -ENOMEM, "open a disk");
    }
    file->file = (struct disk_file){.ops = &descriptor_ops, .size_bytes = size};
    file->fd = take_fd;
    pthread_mutex_init(&file->sync_lock, NULL); /* cannot fail without attributes */
    *ret_file = &file->file;
    return 0;
}
