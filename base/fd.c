#include "base/fd.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNK_SIZE   65536
#define TREE_DEPTH_MAX    32
#define FOLDER_MODE       0700
#define FOLDER_OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int fd_open_at(int folder, const char *path, int flags, mode_t mode, struct err *err)
{
    int fd = openat(folder, path, flags | O_CLOEXEC | O_NOFOLLOW, mode);
    return fd >= 0 ? fd : err_sys(err, -errno, "open %s", path);
}

int fd_reopen(int fd, int flags, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd); /* fits; a link, meant */
    int again = openat(AT_FDCWD, path, flags | O_CLOEXEC);
    return again >= 0 ? again : err_sys(err, -errno, "open descriptor %d again", fd);
}

void fd_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* whoever needs to know calls fsync before */
    }
    *fd = -1;
}

ssize_t fd_read_full(int fd, void *ret_data, size_t size)
{
    size_t position = 0;
    while (position < size) {
        ssize_t count = read(fd, (char *)ret_data + position, size - position);
        if (count < 0 && errno != EINTR) {
            return -errno;
        }
        if (count == 0) {
            break;
        }
        if (count > 0) {
            position += (size_t)count;
        }
    }
    return (ssize_t)position;
}

ssize_t fd_read_within(int fd, void *ret_data, size_t size, uint64_t timeout_ms)
{
    const uint64_t end_ms = clock_now_ms(clock_system()) + timeout_ms;
    size_t position = 0;
    if (fd < 0) {
        return -EBADF; /* poll would wait for nothing */
    }
    while (position < size) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        const uint64_t now_ms = clock_now_ms(clock_system());
        if (now_ms >= end_ms) {
            return -ETIMEDOUT;
        }
        const uint64_t left_ms = end_ms - now_ms;
        int ready = poll(&wait, 1, left_ms < INT_MAX ? (int)left_ms : INT_MAX);
        if (ready <= 0) {
            continue; /* interrupted, or late */
        }
        ssize_t count = read(fd, (char *)ret_data + position, size - position);
        if (count < 0 && errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
        if (count == 0) {
            break;
        }
        position += count > 0 ? (size_t)count : 0;
    }
    return (ssize_t)position;
}

int fd_write_full(int fd, const void *data, size_t size)
{
    size_t position = 0;
    while (position < size) {
        ssize_t count = write(fd, (const char *)data + position, size - position);
        if (count < 0 && errno != EINTR) {
            return -errno;
        }
        if (count > 0) {
            position += (size_t)count;
        }
    }
    return 0;
}

/* Reads to the end of file into a growing buffer. The size is not asked for: files of
 * /proc give 0. */
static int read_to_end(int fd, size_t size_max, uint8_t **ret_data, size_t *ret_size)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    size_t capacity = 0;
    while (size == capacity) {
        /* One byte over the limit tells "just fits" from "too large". */
        size_t limit = size_max < SIZE_MAX - 1 ? size_max + 1 : size_max;
        capacity = capacity == 0 ? READ_CHUNK_SIZE : capacity * 2;
        if (capacity > limit) {
            capacity = limit;
        }
        uint8_t *grown = realloc(data, capacity + 1);
        if (grown == NULL) {
            return -ENOMEM;
        }
        data = grown;
        ssize_t count = fd_read_full(fd, data + size, capacity - size);
        if (count < 0) {
            return (int)count;
        }
        size += (size_t)count;
        if (size > size_max) {
            return BERTH_ETOOLARGE;
        }
    }
    data[size] = '\0';
    *ret_data = TAKE_PTR(data);
    *ret_size = size;
    return 0;
}

int fd_read_file(int folder,
                 const char *path,
                 size_t size_max,
                 uint8_t **ret_data,
                 size_t *ret_size,
                 struct err *err)
{
    CLEANUP_FD int fd = fd_open_at(folder, path, O_RDONLY, 0, err);
    if (fd < 0) {
        return fd;
    }
    int r = read_to_end(fd, size_max, ret_data, ret_size);
    if (r == BERTH_ETOOLARGE) {
        return err_set(err, r, "read %s: it holds more than %zu bytes", path, size_max);
    }
    return r < 0 ? err_sys(err, r, "read %s", path) : 0;
}

int fd_set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return -errno;
    }
    return 0;
}

static int make_folder(const char *path, struct err *err)
{
    struct stat status;
    if (mkdir(path, FOLDER_MODE) == 0) {
        return 0;
    }
    int r = -errno;
    if (r == -EEXIST && stat(path, &status) == 0) {
        r = S_ISDIR(status.st_mode) ? 0 : -ENOTDIR;
    }
    return r < 0 ? err_sys(err, r, "make folder %s", path) : 0;
}

int fd_make_folders(const char *path, struct err *err)
{
    char part[PATH_MAX];
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof(part)) {
        int r = size == 0 ? -ENOENT : -ENAMETOOLONG;
        return err_sys(err, r, "make folder %.80s", path);
    }
    for (size_t end = 1; end <= size; end++) {
        if (path[end] != '/' && path[end] != '\0') {
            continue;
        }
        memcpy(part, path, end);
        part[end] = '\0';
        int r = make_folder(part, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* The folders that are open on the way down, the root first. */
struct tree_walk {
    DIR *folders[TREE_DEPTH_MAX];
    char names[TREE_DEPTH_MAX][NAME_MAX + 1]; /* of each below the root, in its parent */
    size_t depth;
};

static int tree_enter(struct tree_walk *walk, int parent, const char *name)
{
    if (walk->depth == TREE_DEPTH_MAX) {
        return -ELOOP;
    }
    int fd = openat(parent, name, FOLDER_OPEN_FLAGS);
    if (fd < 0) {
        return -errno;
    }
    DIR *folder = fdopendir(fd);
    if (folder == NULL) {
        int r = -errno;
        (void)close(fd); /* nothing was written */
        return r;
    }
    if (walk->depth > 0) { /* the root's name may be a long path; its caller keeps it */
        memcpy(walk->names[walk->depth], name, strlen(name) + 1);
    }
    walk->folders[walk->depth++] = folder;
    return 0;
}

/* Closes the innermost folder and removes it from its parent, unless it is the root. */
static int tree_leave(struct tree_walk *walk)
{
    walk->depth--;
    (void)closedir(walk->folders[walk->depth]); /* read only */
    if (walk->depth == 0) {
        return 0;
    }
    int parent = dirfd(walk->folders[walk->depth - 1]);
    return unlinkat(parent, walk->names[walk->depth], AT_REMOVEDIR) == 0 ? 0 : -errno;
}

/* Removes one entry, or enters it when it is a folder. */
static int tree_remove_entry(struct tree_walk *walk, const char *name)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        return 0;
    }
    int folder = dirfd(walk->folders[walk->depth - 1]);
    if (unlinkat(folder, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    return errno == EISDIR ? tree_enter(walk, folder, name) : -errno;
}

static int tree_empty(struct tree_walk *walk)
{
    int r = 0;
    while (r == 0 && walk->depth > 0) {
        errno = 0;
        struct dirent *entry = readdir(walk->folders[walk->depth - 1]);
        if (entry != NULL) {
            r = tree_remove_entry(walk, entry->d_name);
        } else {
            r = errno != 0 ? -errno : tree_leave(walk);
        }
    }
    while (walk->depth > 0) {
        walk->depth--;
        (void)closedir(walk->folders[walk->depth]); /* the first error counts */
    }
    return r;
}

int fd_remove_tree(const char *path, struct err *err)
{
    struct tree_walk walk = {.depth = 0};
    int r = tree_enter(&walk, AT_FDCWD, path);
    if (r == 0) {
        r = tree_empty(&walk);
    }
    if (r == 0 && rmdir(path) < 0) {
        r = -errno;
    }
    return r == 0 || r == -ENOENT ? 0 : err_sys(err, r, "remove %s", path);
}

int fd_sync_folder(const char *path, struct err *err)
{
    int fd = fd_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, err);
    if (fd < 0) {
        return fd;
    }
    int r = fsync(fd) < 0 ? err_sys(err, -errno, "make folder %s durable", path) : 0;
    fd_close(&fd);
    return r;
}
