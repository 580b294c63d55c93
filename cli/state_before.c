#include "cli/state_before.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
    if (r < 0 || ret_before->missing[0] != '\0') {
        return r;
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

int state_before_restore(const struct state_before *before,
                         const char *state,
                         struct err *err)
{
    if (before->missing[0] != '\0') {
        return fd_remove_tree(before->missing, err);
    }
    DIR *folder = opendir(state);
    int r = folder != NULL ? 0 : err_sys(err, -errno, "open %s", state);
    for (const struct dirent *entry; r == 0 && (entry = readdir(folder)) != NULL;) {
        char path[PATH_MAX + NAME_MAX];
        if (is_name(entry->d_name) && !is_listed(before, entry->d_name)) {
            (void)snprintf(path, sizeof(path), "%s/%s", state, entry->d_name);
            r = remove(path) == 0 ? 0 : fd_remove_tree(path, err);
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return r;
}

void state_before_fini(struct state_before *before)
{
    for (size_t i = 0; i < before->count; i++) {
        free(before->names[i]);
    }
    free(before->names);
    *before = (struct state_before){0};
}
