#include "agent/vm_disks.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DISK_PREFIX "disk-"
#define BASE_LINK   "base"

static int path_in(const char *folder, const char *name, char ret_path[ENGINE_PATH_SIZE])
{
    int length = snprintf(ret_path, ENGINE_PATH_SIZE, "%s/%s", folder, name);
    return length > 0 && length < ENGINE_PATH_SIZE ? 0 : -ENAMETOOLONG;
}

static int remove_in(const char *folder, const char *name)
{
    char path[ENGINE_PATH_SIZE];
    int r = path_in(folder, name, path);
    return r != 0 ? r : unlink(path) == 0 || errno == ENOENT ? 0 : -errno;
}

int vm_disks_renew(const char *folder, const char *image_disk, struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        return err_sys(err, -errno, "open %s", folder);
    }
    const struct dirent *entry;
    int r = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (r == 0 && (entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, DISK_PREFIX, strlen(DISK_PREFIX)) == 0) {
            r = remove_in(folder, entry->d_name);
        }
    }
    (void)closedir(entries); /* only read */
    r = r == 0 ? remove_in(folder, BASE_LINK) : r;
    r = r == 0 ? path_in(folder, BASE_LINK, path) : r;
    if (r == 0 && image_disk[0] != '\0' && symlink(image_disk, path) != 0) {
        r = -errno;
    }
    return r == 0 ? 0
                  : err_sys(err, r, "remove the disks of the run before in %s", folder);
}

bool vm_disks_base(const char *folder, char ret_path[ENGINE_PATH_SIZE])
{
    char path[ENGINE_PATH_SIZE];
    char target[ENGINE_PATH_SIZE];
    ssize_t length = path_in(folder, BASE_LINK, path) == 0
                         ? readlink(path, target, sizeof(target))
                         : -1;
    if (length <= 0 || (size_t)length >= sizeof(target)) {
        return false;
    }
    memcpy(ret_path, target, (size_t)length);
    ret_path[length] = '\0';
    return true;
}
