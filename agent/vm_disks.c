#include "agent/vm_disks.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GONE_MAX 256 /* of some starts; who finds more waits for the removal */

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

/* A file, or a folder with all that is in it; one that is missing has gone already. */
static int drop(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT ? 0 : fd_remove_tree(path, NULL);
}

/* Its name is free then. */
static int move_aside(const char *folder, const char *name)
{
    char from[ENGINE_PATH_SIZE];
    char gone[sizeof(VM_DISKS_GONE) + 10];
    char to[ENGINE_PATH_SIZE];
    struct stat there;
    int r = path_in(folder, name, from);
    for (unsigned i = 0; r == 0 && i < GONE_MAX; i++) {
        (void)snprintf(gone, sizeof(gone), VM_DISKS_GONE "%u", i); /* fits */
        r = path_in(folder, gone, to);
        if (r == 0 && lstat(to, &there) < 0 && errno == ENOENT) {
            return rename(from, to) == 0 || errno == ENOENT ? 0 : -errno;
        }
    }
    return r == 0 ? drop(from) : r;
}

static bool is_gone(const char *name)
{
    return strncmp(name, VM_DISKS_GONE, strlen(VM_DISKS_GONE)) == 0;
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
            r = move_aside(folder, entry->d_name);
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
        r = r == 0 ? move_aside(folder, entry->d_name) : r;
        r = r == 0 && rename(from, to) < 0 ? -errno : r;
    }
    (void)closedir(entries); /* only read */
    return r;
}

static int drop_aside(const char *folder, const char *name, struct err *err)
{
    int r = move_aside(folder, name);
    return r == 0 ? 0 : err_sys(err, r, "remove %s in %s", name, folder);
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
    return r == 0 ? drop_aside(folder, VM_DISKS_RESTORED, err) : r;
}

int vm_disks_settle(const char *folder, struct err *err)
{
    int r = settle(folder, err);
    return r == 0 ? drop_aside(folder, VM_DISKS_RESTORED_NEW, err) : r;
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

/* Until the job is not wanted any more; job: NULL, or whose work it is. */
static void sweep(const char *folder, const struct work_job *job)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (entries != NULL && (job == NULL || !work_job_cancelled(job)) &&
           (entry = readdir(entries)) != NULL) {
        char path[ENGINE_PATH_SIZE];
        if (is_gone(entry->d_name) && path_in(folder, entry->d_name, path) == 0) {
            (void)drop(path); /* tried again at the next sweep */
        }
    }
    if (entries != NULL) {
        (void)closedir(entries); /* only read */
    }
}

void vm_disks_sweep(const char *folder)
{
    sweep(folder, NULL);
}

struct sweep_job {
    struct work_job job;
    char folder[ENGINE_PATH_SIZE];
};

static void sweep_run(struct work_job *job)
{
    sweep(LIST_ITEM(job, struct sweep_job, job)->folder, job);
}

static void sweep_done(struct work_job *job, int code)
{
    (void)code; /* what was not swept is at the next start */
    free(LIST_ITEM(job, struct sweep_job, job));
}

static bool has_gone(const char *folder)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    bool has = false;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (!has && entries != NULL && (entry = readdir(entries)) != NULL) {
        has = is_gone(entry->d_name);
    }
    if (entries != NULL) {
        (void)closedir(entries); /* only read */
    }
    return has;
}

void vm_disks_sweep_by(struct work_pool *pool, const char *folder)
{
    if (!has_gone(folder)) {
        return;
    }
    struct sweep_job *sweep = calloc(1, sizeof(*sweep));
    if (sweep != NULL) { /* else at the next start */
        (void)snprintf(sweep->folder, sizeof(sweep->folder), "%s", folder);
        work_pool_submit(pool, &sweep->job, sweep_run, sweep_done);
    }
}
