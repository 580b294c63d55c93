#include "cli/state_before.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/state_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_listed(const struct state_before *before, const char *name)
{
    for (size_t i = 0; i < before->count; i++) {
        if (strcmp(before->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_name(const char *name)
{
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* The beginning of the path that is the first not to be there. */
static int find_missing(const char *path, char ret_missing[PATH_MAX], struct err *err)
{
    struct stat status;
    size_t at = 0;
    ret_missing[0] = '\0';
    if (strlen(path) >= PATH_MAX) {
        return err_sys(err, -ENAMETOOLONG, "look for %s", path);
    }
    while (path[at] != '\0') {
        at += strspn(path + at, "/");
        at += strcspn(path + at, "/");
        char part[PATH_MAX];
        (void)snprintf(part, sizeof(part), "%.*s", (int)at, path);
        if (stat(part, &status) == 0) {
            continue;
        }
        if (errno != ENOENT) {
            return err_sys(err, -errno, "look for %s", part);
        }
        memcpy(ret_missing, part, sizeof(part));
        return 0;
    }
    return 0;
}

/* What lies behind .. may have been there, though what is before it was not. */
static bool goes_back(const char *path)
{
    while (*path != '\0') {
        path += strspn(path, "/");
        const size_t size = strcspn(path, "/");
        if (size == 2 && strncmp(path, "..", size) == 0) {
            return true;
        }
        path += size;
    }
    return false;
}

static int name_add(struct state_before *before, const char *name)
{
    char *copy = before->count < STATE_BEFORE_NAMES_MAX ? strdup(name) : NULL;
    if (copy == NULL) {
        return before->count < STATE_BEFORE_NAMES_MAX ? -ENOMEM : -E2BIG;
    }
    before->names[before->count++] = copy;
    return 0;
}

int state_before_look(const char *state, struct state_before *ret_before, struct err *err)
{
    *ret_before = (struct state_before){0};
    int r = find_missing(state, ret_before->missing, err);
    if (r < 0) {
        return r;
    }
    (void)snprintf(ret_before->path, sizeof(ret_before->path), "%s", state); /* fits */
    if (ret_before->missing[0] != '\0') {
        return goes_back(state + strlen(ret_before->missing))
                   ? err_set(err, BERTH_EINVALID, "%s: wanted a path without .. after %s",
                             state, ret_before->missing)
                   : 0;
    }
    DIR *folder = opendir(state);
    if (folder == NULL) {
        return err_sys(err, -errno, "open %s", state);
    }
    ret_before->names = calloc(STATE_BEFORE_NAMES_MAX, sizeof(*ret_before->names));
    r = ret_before->names == NULL ? -ENOMEM : 0;
    for (const struct dirent *entry; r == 0 && (entry = readdir(folder)) != NULL;) {
        r = is_name(entry->d_name) ? name_add(ret_before, entry->d_name) : 0;
    }
    closedir(folder);
    if (r < 0) {
        state_before_fini(ret_before);
        return err_sys(err, r, "list %s", state);
    }
    return 0;
}

/* What is no longer what a join makes is somebody's: a folder that is not empty, one
 * where a file was, what something is mounted on. */
static int name_remove(int folder, const char *name, int flags)
{
    static const int kept[] = {ENOENT, ENOTEMPTY, EEXIST, EBUSY, EISDIR, ENOTDIR};
    const int code = unlinkat(folder, name, flags) == 0 ? 0 : errno;
    for (size_t i = 0; i < ARRAY_COUNT(kept); i++) {
        if (code == kept[i]) {
            return 0;
        }
    }
    return -code;
}

static int images_remove(int folder)
{
    static const char *const names[] = STATE_IMAGE_FOLDERS_OF_JOIN;
    CLEANUP_FD int images =
        fd_open_at(folder, STATE_FOLDER_IMAGES, O_RDONLY | O_DIRECTORY, 0, NULL);
    if (images < 0) {
        return 0; /* none, or no folder */
    }
    int r = 0;
    for (size_t i = 0; i < ARRAY_COUNT(names) && r == 0; i++) {
        r = name_remove(images, names[i], AT_REMOVEDIR);
    }
    return r == 0 ? name_remove(folder, STATE_FOLDER_IMAGES, AT_REMOVEDIR) : r;
}

/* The state folder and those on the way to it, from the inner one on, while empty. */
static int made_folders_remove(const struct state_before *before, struct err *err)
{
    char path[PATH_MAX];
    size_t size = strlen(before->path);
    memcpy(path, before->path, size + 1);
    while (size >= strlen(before->missing)) {
        while (size > 0 && path[size - 1] == '/') {
            path[--size] = '\0';
        }
        int r = name_remove(AT_FDCWD, path, AT_REMOVEDIR);
        if (r < 0) {
            return err_sys(err, r, "remove %s", path);
        }
        while (size > 0 && path[size - 1] != '/') {
            path[--size] = '\0';
        }
    }
    return 0;
}

int state_before_restore(const struct state_before *before, struct err *err)
{
    static const char *const names[] = STATE_FILES_OF_JOIN;
    CLEANUP_FREE char *real = realpath(before->path, NULL); /* it may be a link */
    CLEANUP_FD int folder = fd_open_at(AT_FDCWD, real != NULL ? real : before->path,
                                       O_RDONLY | O_DIRECTORY, 0, err);
    int r = folder >= 0 || folder == -ENOENT ? 0 : folder;
    if (folder >= 0 && !is_listed(before, STATE_FOLDER_IMAGES)) {
        r = images_remove(folder);
        r = r < 0 ? err_sys(err, r, "remove %s/" STATE_FOLDER_IMAGES, before->path) : 0;
    }
    for (size_t i = 0; i < ARRAY_COUNT(names) && folder >= 0 && r == 0; i++) {
        r = is_listed(before, names[i]) ? 0 : name_remove(folder, names[i], 0);
        r = r < 0 ? err_sys(err, r, "remove %s/%s", before->path, names[i]) : 0;
    }
    return r == 0 && before->missing[0] != '\0' ? made_folders_remove(before, err) : r;
}

void state_before_fini(struct state_before *before)
{
    for (size_t i = 0; i < before->count; i++) {
        free(before->names[i]);
    }
    free(before->names);
    *before = (struct state_before){0};
}
