/* A file system of a given size that nobody else sees, for what happens when it is full.
 *
 * `small_fs_open` makes a tmpfs that is mounted nowhere: it is reached by its descriptor
 * alone, and gone when the last descriptor into it is closed. Takes root's rights:
 * negative, -errno, without them. Threads: any.
 */
#pragma once

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static inline int small_fs_open(uint64_t size_bytes)
{
    char size[32];
    (void)snprintf(size, sizeof(size), "%llu", (unsigned long long)size_bytes);
    const int plan = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (plan < 0) {
        return -errno;
    }
    int folder = -1;
    if (fsconfig(plan, FSCONFIG_SET_STRING, "size", size, 0) == 0 &&
        fsconfig(plan, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0) {
        folder = fsmount(plan, FSMOUNT_CLOEXEC, 0);
    }
    const int r = folder < 0 ? -errno : folder;
    (void)close(plan);
    return r;
}

/* A fresh file of that size in it, sparse: its descriptor. */
static inline int small_fs_file(int folder, const char *name, uint64_t size_bytes)
{
    const int fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)size_bytes), 0);
    return fd;
}

/* Fills it up to the last page, by a file of that name. */
static inline void small_fs_fill(int folder, const char *name)
{
    static const uint8_t page[4096];
    const int fd = small_fs_file(folder, name, 0);
    while (write(fd, page, sizeof(page)) == (ssize_t)sizeof(page)) {
    }
    ck_assert_int_eq(errno, ENOSPC);
    (void)close(fd);
}
