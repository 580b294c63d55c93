#include "consensus/log_copy.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FOLDER_PREFIX   "berth-look-"
#define FOLDER_TEMPLATE FOLDER_PREFIX "XXXXXX"
#define PIECE_SIZE      16384u
#define BLOCK_SIZE      4096u
#define MEMINFO_MAX     65536u

static const struct log_copy_place usual_places[] = {
    {.path = "/dev/shm", .size_max = LOG_COPY_MEMORY_MAX, .memory = true},
    {.path = "/run", .size_max = LOG_COPY_MEMORY_MAX, .memory = true},
    {.path = NULL, .size_max = UINT64_MAX},
    {.path = "/var/tmp", .size_max = UINT64_MAX},
    {.path = "/tmp", .size_max = UINT64_MAX},
};

/* ---- files ---- */

/* What a file of the log is taken to: size and copy are two such. */
typedef int (*file_fn)(void *context, const char *name, int fd, uint64_t size);

static int each_file(const char *folder, file_fn visit, void *context, struct err *err)
{
    const struct dirent *entry;
    DIR *stream = opendir(folder);
    int r = stream == NULL ? err_sys(err, -errno, "open %s", folder) : 0;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours
    while (r == 0 && (errno = 0, entry = readdir(stream)) != NULL) {
        struct stat info;
        if (fstatat(dirfd(stream), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0) {
            r = err_sys(err, -errno, "look at %s/%s", folder, entry->d_name);
        } else if (S_ISREG(info.st_mode)) {
            CLEANUP_FD int fd =
                fd_open_at(dirfd(stream), entry->d_name, O_RDONLY, 0, err);
            r = fd < 0 ? err_wrap(err, fd, "%s", folder)
                       : visit(context, entry->d_name, fd, (uint64_t)info.st_size);
        }
    }
    r = r == 0 && errno != 0 ? err_sys(err, -errno, "list %s", folder) : r;
    if (stream != NULL) {
        (void)closedir(stream);
    }
    return r;
}

static int size_add(void *context, const char *name, int fd, uint64_t size)
{
    uint64_t *sum = context;
    (void)name;
    (void)fd;
    *sum += (size + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
    return 0;
}

struct target {
    const char *from; /* for messages */
    int folder;
    bool lacks; /* it is the copy that cannot be written */
    struct err *err;
};

static bool is_zero(const uint8_t *data, size_t size)
{
    return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

static int target_fail(struct target *target, int code)
{
    target->lacks = true;
    return err_sys(target->err, code, "write the copy");
}

/* Files are made ready full of zeros, which need no room. */
static int copy_file(void *context, const char *name, int fd, uint64_t size)
{
    struct target *target = context;
    uint8_t piece[PIECE_SIZE];
    uint64_t at = 0;
    CLEANUP_FD int to =
        fd_open_at(target->folder, name, O_RDWR | O_CREAT | O_EXCL, 0600, NULL);
    if (to < 0) {
        return target_fail(target, to);
    }
    while (at < size) {
        ssize_t count = fd_read_full(fd, piece, PIECE_SIZE);
        if (count <= 0) {
            return err_sys(target->err, count < 0 ? (int)count : -EIO, "read %s/%s",
                           target->from, name);
        }
        int r = is_zero(piece, (size_t)count) ? 0
                : lseek(to, (off_t)at, SEEK_SET) < 0
                    ? -errno
                    : fd_write_full(to, piece, (size_t)count);
        if (r < 0) {
            return target_fail(target, r);
        }
        at += (uint64_t)count;
    }
    return ftruncate(to, (off_t)at) < 0 ? target_fail(target, -errno) : 0;
}

/* ---- places ---- */

/* Of a place, and the name of a folder in it. The log's folder need not be there. */
static int path_in(const struct log_copy_place *place,
                   const char *folder,
                   const char *name,
                   char ret_path[PATH_MAX])
{
    const char *slash = strrchr(folder, '/');
    const char *in = place->path != NULL ? place->path : slash != NULL ? folder : ".";
    size_t size = in == folder ? (size_t)(slash - folder) : strlen(in);
    int length = snprintf(ret_path, PATH_MAX, "%.*s/%s", (int)size, in, name);
    return length < 0 || length >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* As long as it is held, nobody takes the copy for one that was left. */
static int copy_lock(const char *path)
{
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, NULL);
    return fd < 0 ? fd : flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : TAKE_FD(fd);
}

static int place_fits(const struct log_copy_place *place,
                      const char *path,
                      uint64_t size,
                      uint64_t available)
{
    struct statvfs fs;
    if (size > place->size_max) {
        return -EFBIG;
    }
    if (place->memory && size > available / 2) {
        return -ENOMEM;
    }
    if (statvfs(path, &fs) < 0) {
        return -errno;
    }
    const uint64_t spare = place->path == NULL ? LOG_COPY_DISK_SPARE : 0;
    return (uint64_t)fs.f_bavail * fs.f_frsize < size + spare ? -ENOSPC : 0;
}

/* The folder for the copy, made; or why there is none. */
static int place_take(const struct log_copy_place *place,
                      uint64_t available,
                      const char *folder,
                      uint64_t size,
                      struct log_copy *ret_copy)
{
    struct log_copy copy;
    int r = path_in(place, folder, FOLDER_TEMPLATE, copy.folder);
    if (r < 0) {
        return r;
    }
    char *name = strrchr(copy.folder, '/');
    *name = '\0';
    r = place_fits(place, copy.folder, size, available);
    *name = '/';
    if (r == 0 && mkdtemp(copy.folder) == NULL) {
        r = -errno;
    }
    if (r < 0) {
        return r;
    }
    copy.lock_fd = copy_lock(copy.folder);
    if (copy.lock_fd < 0) {
        (void)rmdir(copy.folder); /* else who has locked it removes it */
        return copy.lock_fd;
    }
    *ret_copy = copy;
    return 0;
}

/* Of the kernel's own words; 0: they are not to be had. */
static uint64_t memory_available(void)
{
    static const char key[] = "MemAvailable:";
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    if (fd_read_file(AT_FDCWD, "/proc/meminfo", MEMINFO_MAX, &text, &size, NULL) < 0) {
        return 0;
    }
    const char *at = strstr((const char *)text, key);
    return at != NULL ? strtoull(at + sizeof(key) - 1, NULL, 10) << 10 : 0; /* kB */
}

/* 1: it is not to be had there. */
static int copy_into(const char *folder, const struct log_copy *copy, struct err *err)
{
    struct target target = {.from = folder, .folder = -1, .err = err};
    CLEANUP_FD int to =
        fd_open_at(AT_FDCWD, copy->folder, O_RDONLY | O_DIRECTORY, 0, err);
    if (to < 0) {
        return 1;
    }
    target.folder = to;
    int r = each_file(folder, copy_file, &target, err);
    return r < 0 && target.lacks ? 1 : r;
}

int log_copy_make_in(const struct log_copy_place *places,
                     size_t count,
                     uint64_t available_bytes,
                     const char *folder,
                     struct log_copy *ret_copy,
                     struct err *err)
{
    char looked[128] = "";
    uint64_t size = LOG_COPY_EXTRA;
    int r = each_file(folder, size_add, &size, err);
    for (size_t i = 0; i < count && r >= 0; i++) {
        struct log_copy copy = {.folder = ""};
        r = place_take(&places[i], available_bytes, folder, size, &copy) == 0
                ? copy_into(folder, &copy, err)
                : 1;
        if (r == 0) {
            *ret_copy = copy;
            return 0;
        }
        log_copy_remove(&copy);
        size_t used = strlen(looked);
        (void)snprintf(looked + used, sizeof(looked) - used, "%s%s", i > 0 ? ", " : "",
                       places[i].path != NULL ? places[i].path : "beside the log");
    }
    return r < 0 ? r
                 : err_set(err, BERTH_EDISKFULL,
                           "a log is looked at in a copy, and there is no room for its "
                           "%lluMiB: %s",
                           (unsigned long long)(size >> 20), looked);
}

int log_copy_make(const char *folder, struct log_copy *ret_copy, struct err *err)
{
    log_copy_sweep(folder);
    return log_copy_make_in(usual_places, ARRAY_COUNT(usual_places), memory_available(),
                            folder, ret_copy, err);
}

void log_copy_remove(struct log_copy *copy)
{
    if (copy->folder[0] != '\0') {
        (void)fd_remove_tree(copy->folder, NULL); /* what is left is nobody's log */
        fd_close(&copy->lock_fd);
    }
    copy->folder[0] = '\0';
}

/* ---- what was left ---- */

/* Ours, and nobody's look any more. The folder may be anybody's, and so may what has such
 * a name in it. */
static void sweep_one(const char *path)
{
    struct stat info;
    struct err err = {0};
    CLEANUP_FD int lock = copy_lock(path);
    if (lock < 0 || fstat(lock, &info) < 0 || info.st_uid != geteuid()) {
        return;
    }
    if (fd_remove_tree(path, &err) < 0) {
        log_warn("consensus", "the copy of a look that was killed stays",
                 KV_STR("reason", err.text));
    }
}

void log_copy_sweep_in(const struct log_copy_place *places,
                       size_t count,
                       const char *folder)
{
    for (size_t i = 0; i < count; i++) {
        char path[PATH_MAX];
        const struct dirent *entry;
        DIR *stream = path_in(&places[i], folder, "", path) == 0 ? opendir(path) : NULL;
        // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours
        while (stream != NULL && (entry = readdir(stream)) != NULL) {
            if (strncmp(entry->d_name, FOLDER_PREFIX, strlen(FOLDER_PREFIX)) == 0 &&
                path_in(&places[i], folder, entry->d_name, path) == 0) {
                sweep_one(path);
            }
        }
        if (stream != NULL) {
            (void)closedir(stream);
        }
    }
}

void log_copy_sweep(const char *folder)
{
    log_copy_sweep_in(usual_places, ARRAY_COUNT(usual_places), folder);
}
