#include "consensus/seal_file.h"

#include "base/fd.h"
#include "base/file_atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct seal_file {
    int fd; /* -1 until the first write */
    char *path;
    void *scratch; /* one aligned block */
};

int seal_file_open(const char *folder,
                   const char *name,
                   struct seal_file **ret_file,
                   struct err *err)
{
    struct seal_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        return err_sys(err, -ENOMEM, "open the seal in %s", folder);
    }
    file->fd = -1;
    if (asprintf(&file->path, "%s/%s", folder, name) < 0) {
        file->path = NULL;
    }
    file->scratch = aligned_alloc(SEAL_FILE_BLOCK, SEAL_FILE_BLOCK);
    if (file->path == NULL || file->scratch == NULL) {
        seal_file_close(file);
        return err_sys(err, -ENOMEM, "open the seal in %s", folder);
    }
    *ret_file = file;
    return 0;
}

struct seal_file *seal_file_close(struct seal_file *file)
{
    if (file != NULL) {
        fd_close(&file->fd);
        free(file->path);
        free(file->scratch);
        free(file);
    }
    return NULL;
}

const char *seal_file_path(const struct seal_file *file)
{
    return file->path;
}

int seal_file_read(struct seal_file *file,
                   size_t size_max,
                   uint8_t **ret_data,
                   size_t *ret_size,
                   struct err *err)
{
    int r = fd_read_file(AT_FDCWD, file->path, size_max, ret_data, ret_size, err);
    if (r == -ENOENT) {
        if (err != NULL) {
            *err = (struct err){0};
        }
        return 0;
    }
    return r < 0 ? r : 1;
}

int seal_file_create(struct seal_file *file,
                     const uint8_t *data,
                     size_t size,
                     struct err *err)
{
    return file_atomic_write(file->path, data, size, 0600, err);
}

static int open_for_writing(struct seal_file *file, struct err *err)
{
    file->fd = openat(AT_FDCWD, file->path,
                      O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_DSYNC | O_DIRECT);
    if (file->fd < 0 && errno == EINVAL) { /* tmpfs has no direct writes */
        file->fd =
            openat(AT_FDCWD, file->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_DSYNC);
    }
    return file->fd < 0 ? err_sys(err, -errno, "open %s", file->path) : 0;
}

/* Knows the number alone: what ThreadSanitizer believes of a number is ignored here, and
 * nothing else (tests/tsan_suppressions.txt), so it must stay a function of its own. */
__attribute__((noinline)) static ssize_t
pwrite_block(int fd, const void *block, uint64_t index)
{
    return pwrite(fd, block, SEAL_FILE_BLOCK, (off_t)(index * SEAL_FILE_BLOCK));
}

int seal_file_write(struct seal_file *file,
                    uint64_t index,
                    const uint8_t block[SEAL_FILE_BLOCK],
                    struct err *err)
{
    int r = file->fd < 0 ? open_for_writing(file, err) : 0;
    if (r < 0) {
        return r;
    }
    memcpy(file->scratch, block, SEAL_FILE_BLOCK);
    ssize_t written = pwrite_block(file->fd, file->scratch, index);
    if (written != SEAL_FILE_BLOCK) {
        return err_sys(err, written < 0 ? -errno : -EIO, "write %s", file->path);
    }
    return 0;
}
