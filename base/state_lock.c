#include "base/state_lock.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define POLL_MS 50

/* Whether it was not removed between our opening and our locking it: else another may
 * hold a new file of that name. */
static bool is_still_there(int fd, const char *path)
{
    struct stat ours;
    struct stat there;
    return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

int state_lock_take(const char *folder, int flags, uint64_t wait_ms, struct err *err)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/" STATE_FILE_LOCK, folder);
    if (length < 0 || (size_t)length >= sizeof(path)) {
        return err_sys(err, -ENAMETOOLONG, "lock state folder %s", folder);
    }
    for (uint64_t waited_ms = 0;; waited_ms += POLL_MS) {
        CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, flags, 0600, err);
        if (fd < 0) {
            return fd;
        }
        const int locked = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
        if (locked < 0 && locked != -EWOULDBLOCK) {
            return err_sys(err, locked, "lock state folder %s", folder);
        }
        if (locked == 0 && is_still_there(fd, path)) {
            return TAKE_FD(fd);
        }
        if (waited_ms >= wait_ms) {
            return err_set(err, BERTH_EBUSY,
                           "state folder %s is in use by another berthd", folder);
        }
        const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
        (void)nanosleep(&pause, NULL); /* a signal only makes it shorter */
    }
}
