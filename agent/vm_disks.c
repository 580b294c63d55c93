#include "agent/vm_disks.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

static int disks_remove(const char *folder)
{
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        return -errno;
    }
    const struct dirent *entry;
    int r = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (r == 0 && (entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, VM_DISKS_PREFIX, strlen(VM_DISKS_PREFIX)) == 0) {
            r = remove_in(folder, entry->d_name);
        }
    }
    (void)closedir(entries); /* only read */
    return r == 0 ? remove_in(folder, VM_DISKS_BASE) : r;
}

int vm_disks_renew(const char *folder, const char *image_disk, struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    int r = disks_remove(folder);
    r = r == 0 ? path_in(folder, VM_DISKS_BASE, path) : r;
    if (r == 0 && image_disk[0] != '\0' && symlink(image_disk, path) != 0) {
        r = -errno;
    }
    return r == 0 ? 0
                  : err_sys(err, r, "remove the disks of the run before in %s", folder);
}

/* Of those that are put in place: each takes the name of the one before it. */
static int settle_from(const char *folder, const char *restored)
{
    DIR *entries = opendir(restored);
    if (entries == NULL) {
        return errno == ENOENT ? 0 : -errno;
    }
    const struct dirent *entry;
    int r = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (r == 0 && (entry = readdir(entries)) != NULL) {
        char from[ENGINE_PATH_SIZE];
        char to[ENGINE_PATH_SIZE];
        if (strncmp(entry->d_name, VM_DISKS_PREFIX, strlen(VM_DISKS_PREFIX)) != 0 &&
            strcmp(entry->d_name, VM_DISKS_BASE) != 0) {
            continue;
        }
        r = path_in(restored, entry->d_name, from);
        r = r == 0 ? path_in(folder, entry->d_name, to) : r;
        r = r == 0 && rename(from, to) < 0 ? -errno : r;
    }
    (void)closedir(entries); /* only read */
    return r;
}

static int settle(const char *folder, struct err *err)
{
    char restored[ENGINE_PATH_SIZE];
    int r = path_in(folder, VM_DISKS_RESTORED, restored);
    if (r == 0 && access(restored, F_OK) < 0) {
        return errno == ENOENT
                   ? 0
                   : err_sys(err, -errno, "look for the snapshot's disks in %s", folder);
    }
    r = r == 0 ? settle_from(folder, restored) : r;
    if (r < 0) {
        return err_sys(err, r, "put the snapshot's disks in place in %s", folder);
    }
    r = fd_sync_folder(folder, err); /* before the last trace of them goes */
    return r == 0 ? fd_remove_tree(restored, err) : r;
}

int vm_disks_settle(const char *folder, struct err *err)
{
    char made[ENGINE_PATH_SIZE];
    int r = path_in(folder, VM_DISKS_RESTORED_NEW, made);
    r = r < 0 ? err_sys(err, r, "disks in %s", folder) : settle(folder, err);
    return r == 0 ? fd_remove_tree(made, err) : r;
}

/* What is not in the snapshot goes, for another engine's disks would be in its way. */
int vm_disks_replace(const char *folder, struct err *err)
{
    char made[ENGINE_PATH_SIZE];
    char restored[ENGINE_PATH_SIZE];
    int r = settle(folder, err);
    if (r < 0) {
        return r;
    }
    r = path_in(folder, VM_DISKS_RESTORED_NEW, made);
    r = r == 0 ? path_in(folder, VM_DISKS_RESTORED, restored) : r;
    if (r == 0 && rename(made, restored) < 0) {
        r = -errno;
    }
    if (r < 0) {
        return err_sys(err, r, "put the snapshot's disks in place in %s", folder);
    }
    r = fd_sync_folder(folder, err);
    if (r == 0) {
        r = disks_remove(folder);
        r = r < 0 ? err_sys(err, r, "remove the disks before in %s", folder) : 0;
    }
    return r == 0 ? settle(folder, err) : r;
}

bool vm_disks_base(const char *folder, char ret_path[ENGINE_PATH_SIZE])
{
    char path[ENGINE_PATH_SIZE];
    char target[ENGINE_PATH_SIZE];
    ssize_t length = path_in(folder, VM_DISKS_BASE, path) == 0
                         ? readlink(path, target, sizeof(target))
                         : -1;
    if (length <= 0 || (size_t)length >= sizeof(target)) {
        return false;
    }
    memcpy(ret_path, target, (size_t)length);
    ret_path[length] = '\0';
    return true;
}
