#include "base/file_atomic.h"

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/random.h"
#include "base/where.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAG_SIZE \
    6 /* random bytes in the temporary's name: writers of one path do not meet */

static int as_fault(int code)
{
    return code == -ENOSPC || code == -EDQUOT ? BERTH_EDISKFULL : code;
}

/* Splits path into its folder's text (which ends in a slash, or is ".") and the name in
 * it. */
static int split(const char *path, char folder[PATH_MAX], const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    size_t size = (size_t)(name - path);
    if (name[0] == '\0' || size >= PATH_MAX) {
        return name[0] == '\0' ? -EISDIR : -ENAMETOOLONG;
    }
    memcpy(folder, path, size);
    folder[size] = '\0';
    if (size == 0) {
        memcpy(folder, ".", 2);
    }
    *ret_name = name;
    return 0;
}

static int write_temporary(int folder,
                           const char *temporary,
                           const void *data,
                           size_t size,
                           mode_t mode)
{
    CLEANUP_FD int fd =
        fd_open_at(folder, temporary, O_WRONLY | O_CREAT | O_EXCL, mode & 0700, NULL);
    if (fd < 0) {
        return fd;
    }
    int r = fd_write_full(fd, data, size);
    if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0)) {
        r = -errno;
    }
    return r;
}

int file_atomic_write(const char *path,
                      const void *data,
                      size_t size,
                      mode_t mode,
                      struct err *err)
{
    WHERE("write a file and wait for the disk");
    char folder_path[PATH_MAX];
    const char *name = NULL;
    int r = split(path, folder_path, &name);
    if (r < 0) {
        return err_sys(err, r, "write %s", path);
    }
    char temporary[NAME_MAX + 1];
    char tag[2 * TAG_SIZE + 1];
    uint8_t secret[TAG_SIZE];
    random_secret(secret, sizeof(secret));
    hex_format(secret, sizeof(secret), tag);
    int length = snprintf(temporary, sizeof(temporary), ".%s.%s.tmp", name, tag);
    if (length < 0 || (size_t)length >= sizeof(temporary)) {
        return err_sys(err, -ENAMETOOLONG, "write %s", path);
    }
    /* The slash at the end lets the folder itself be a link; its files may not. */
    CLEANUP_FD int folder =
        fd_open_at(AT_FDCWD, folder_path, O_RDONLY | O_DIRECTORY, 0, NULL);
    if (folder < 0) {
        return err_sys(err, folder, "write %s: open its folder", path);
    }
    r = write_temporary(folder, temporary, data, size, mode);
    if (r == 0 && renameat(folder, temporary, folder, name) < 0) {
        r = -errno;
    }
    if (r < 0) {
        (void)unlinkat(folder, temporary, 0); /* the first error counts */
        return err_sys(err, as_fault(r), "write %s", path);
    }
    if (fsync(folder) < 0) {
        return err_sys(err, as_fault(-errno), "write %s: make the rename durable", path);
    }
    return 0;
}

int file_atomic_read_or_make(const char *path,
                             size_t size_max,
                             mode_t mode,
                             file_atomic_maker *make,
                             void *context,
                             uint8_t **ret_data,
                             size_t *ret_size,
                             struct err *err)
{
    uint8_t *data = NULL;
    size_t size = 0;
    int r = fd_read_file(AT_FDCWD, path, size_max, ret_data, ret_size, err);
    if (r != -ENOENT) {
        return r;
    }
    r = make(context, &data, &size, err);
    r = r == 0 ? file_atomic_write(path, data, size, mode, err) : r;
    if (r < 0) {
        if (data != NULL) {
            explicit_bzero(data, size); /* it may be a key */
        }
        free(data);
        return r;
    }
    *ret_data = data;
    *ret_size = size;
    return 0;
}
