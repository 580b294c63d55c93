#include "vmm/disk_access.h"

#include <fcntl.h>
#include <sys/stat.h>

int disk_access_check(int fd, bool writes, struct err *err)
{
    const int flags = fcntl(fd, F_GETFL);
    const int mode = flags & O_ACCMODE;
    if (flags < 0 || (flags & O_PATH) != 0 || mode == O_WRONLY) {
        return err_set(err, BERTH_EINVALID, "the descriptor is not open for reading");
    }
    if (writes && mode != O_RDWR) {
        return err_set(err, BERTH_EINVALID,
                       "the descriptor is not open for reading and writing");
    }
    /* Linux appends even what is written to a place. */
    return writes && (flags & O_APPEND) != 0
               ? err_set(err, BERTH_EINVALID,
                         "the descriptor is open to append (O_APPEND): a disk is written "
                         "all over")
               : 0;
}

bool disk_access_is_same(int fd, int other_fd)
{
    struct stat file;
    struct stat other;
    if (fstat(fd, &file) < 0 || fstat(other_fd, &other) < 0) {
        return false; /* who uses it hears of that */
    }
    if (S_ISBLK(file.st_mode) && S_ISBLK(other.st_mode)) {
        return file.st_rdev == other.st_rdev; /* by whatever name */
    }
    return file.st_dev == other.st_dev && file.st_ino == other.st_ino;
}

int disk_access_beside(const struct virtual_disk *disk,
                       const char *name,
                       int fd,
                       bool writes,
                       struct err *err)
{
    int fds[DISK_FILES_MAX];
    const unsigned count = disk_files(disk, fds);
    for (unsigned i = 0; i < count; i++) {
        const bool is_written = i == 0 && !disk->read_only; /* no base is */
        if ((writes || is_written) && disk_access_is_same(fd, fds[i])) {
            return err_set(err, BERTH_EBUSY,
                           is_written ? "disk %s writes this file"
                                      : "disk %s reads this file, which would be written",
                           name);
        }
    }
    return 0;
}
