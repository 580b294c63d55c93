#include "vmm/overlay_file.h"

#include "base/fd.h"
#include "vmm/disk_overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/types.h>
#include <unistd.h>

/* The size of a file or block device that stays the caller's. */
static int size_of(int fd, uint64_t *ret_size, struct err *err)
{
    const off_t size = lseek(fd, 0, SEEK_END);
    if (size < 0) {
        return err_sys(err, -errno, "look at its size");
    }
    *ret_size = (uint64_t)size;
    return 0;
}

static int sizes_check(uint64_t disk_bytes, uint64_t base_bytes, struct err *err)
{
    if (disk_bytes == 0 || disk_bytes % DISK_SECTOR_BYTES != 0 ||
        disk_bytes > DISK_SIZE_MAX) {
        return err_set(err, BERTH_EINVALID,
                       "%" PRIu64 " bytes: not whole sectors, or none", disk_bytes);
    }
    if (disk_bytes < base_bytes) {
        return err_set(err, BERTH_EINVALID,
                       "%" PRIu64 " bytes: less than its base, which has %" PRIu64,
                       disk_bytes, base_bytes);
    }
    return 0;
}

int overlay_file_make(int fd,
                      uint64_t disk_bytes,
                      int base_fd,
                      const struct digest *base_digest,
                      struct err *err)
{
    uint64_t there = 0;
    uint64_t base_bytes = 0;
    struct disk_file *file;
    int r = size_of(fd, &there, err);
    if (r == 0 && there != 0) {
        return err_set(err, BERTH_EEXISTS, "the overlay's file is not empty");
    }
    if (r == 0 && base_fd >= 0) {
        r = size_of(base_fd, &base_bytes, err);
    }
    disk_bytes = disk_bytes == 0 ? base_bytes : disk_bytes;
    r = r < 0 ? r : sizes_check(disk_bytes, base_bytes, err);
    if (r < 0) {
        return r;
    }
    if (ftruncate(fd, (off_t)disk_overlay_file_size(disk_bytes)) < 0) {
        return err_sys(err, -errno, "make the overlay as large as it has to be");
    }
    int ours = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (ours < 0) {
        return err_sys(err, -errno, "make an overlay");
    }
    r = disk_file_new(ours, &file, err);
    if (r < 0) {
        fd_close(&ours);
        return r;
    }
    r = disk_overlay_create(file, disk_bytes, base_bytes, base_digest, err);
    disk_file_free(file);
    return r;
}
