#include "agent/vm_lock.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define EPOCH_TEXT_SIZE 32

static int lock_open(const char *folder, int flags, struct err *err)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/" VM_LOCK_FILE, folder);
    return length > 0 && (size_t)length < sizeof(path)
               ? fd_open_at(AT_FDCWD, path, flags, 0600, err)
               : err_set(err, -ENAMETOOLONG, "folder %s: path too long", folder);
}

/* 0 when none was ever written. */
static uint64_t epoch_read(int fd)
{
    char text[EPOCH_TEXT_SIZE] = "";
    return pread(fd, text, sizeof(text) - 1, 0) > 0 ? strtoull(text, NULL, 10) : 0;
}

/* Not synced: after a crash of the host no process is left, and the record beside it,
 * which is, has the epoch too. */
static int epoch_write(int fd, uint64_t epoch)
{
    char text[EPOCH_TEXT_SIZE];
    int size = snprintf(text, sizeof(text), "%020" PRIu64 "\n", epoch);
    ssize_t written = pwrite(fd, text, (size_t)size, 0);
    return written == size ? 0 : written < 0 ? -errno : -EIO;
}

int vm_lock_take(const char *folder, uint64_t epoch, struct err *err)
{
    CLEANUP_FD int fd = lock_open(folder, O_RDWR | O_CREAT, err);
    if (fd < 0) {
        return fd;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? err_set(err, BERTH_EINUSE, "a process of this VM still lives in %s",
                             folder)
                   : err_sys(err, -errno, "lock %s", folder);
    }
    uint64_t newest = epoch_read(fd);
    if (epoch < newest) {
        return err_set(err, BERTH_ESTALE,
                       "epoch %" PRIu64 " is below %" PRIu64 ", which ran in %s", epoch,
                       newest, folder);
    }
    int r = epoch_write(fd, epoch);
    return r == 0 ? TAKE_FD(fd) : err_sys(err, r, "write the epoch in %s", folder);
}

bool vm_lock_is_held(const char *folder)
{
    CLEANUP_FD int fd = lock_open(folder, O_RDWR, NULL);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

uint64_t vm_lock_epoch(const char *folder)
{
    CLEANUP_FD int fd = lock_open(folder, O_RDONLY, NULL);
    return fd < 0 ? 0 : epoch_read(fd);
}
