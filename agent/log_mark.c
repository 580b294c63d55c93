#include "agent/log_mark.h"

#include "base/fd.h"
#include "base/file_atomic.h"
#include "consensus/consensus.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

struct mark_paths {
    char folder[PATH_MAX];
    char mark[PATH_MAX];
};

static int paths_of(const char *state_folder, struct mark_paths *ret, struct err *err)
{
    int folder =
        snprintf(ret->folder, sizeof(ret->folder), "%s/" LOG_MARK_FOLDER, state_folder);
    int mark = snprintf(ret->mark, sizeof(ret->mark), "%s/" LOG_MARK_FILE, state_folder);
    return folder > 0 && folder < PATH_MAX && mark > 0 && mark < PATH_MAX
               ? 0
               : err_sys(err, -ENAMETOOLONG, "open the log in %s", state_folder);
}

/* 1: it is there; 0: it is not. */
static int is_there(const char *path, struct err *err)
{
    struct stat info;
    if (stat(path, &info) == 0) {
        return 1;
    }
    return errno == ENOENT ? 0 : err_sys(err, -errno, "open the log: %s", path);
}

/* Its seal is there, if it has had one. */
static int log_is_whole(const struct mark_paths *paths,
                        const char *state_folder,
                        const char *name,
                        struct err *err)
{
    struct stat info;
    char seal[PATH_MAX + sizeof(CONSENSUS_SEAL_FILE) + 1];
    if (stat(paths->mark, &info) < 0) {
        return err_sys(err, -errno, "open the log: %s", paths->mark);
    }
    (void)snprintf(seal, sizeof(seal), "%s/" CONSENSUS_SEAL_FILE,
                   paths->folder); /* fits */
    int r = info.st_size == 0 ? 1 : is_there(seal, err);
    return r > 0 ? 0 : r == 0 ? log_mark_lost(state_folder, name, err) : r;
}

bool log_mark_is_there(const char *state_folder)
{
    struct mark_paths paths;
    return paths_of(state_folder, &paths, NULL) < 0 ||
           is_there(paths.folder, NULL) != 0 || is_there(paths.mark, NULL) != 0;
}

int log_mark_sealed(const char *state_folder, struct err *err)
{
    struct mark_paths paths;
    struct stat info;
    int r = paths_of(state_folder, &paths, err);
    if (r < 0 || (stat(paths.mark, &info) == 0 && info.st_size > 0)) {
        return r;
    }
    return file_atomic_write(paths.mark, LOG_MARK_SEALED, sizeof(LOG_MARK_SEALED) - 1,
                             0600, err);
}

int log_mark_begin(const char *state_folder, const char *name, struct err *err)
{
    struct mark_paths paths;
    int r = paths_of(state_folder, &paths, err);
    int folder = r == 0 ? is_there(paths.folder, err) : r;
    int mark = folder >= 0 ? is_there(paths.mark, err) : folder;
    if (mark < 0) {
        return mark;
    }
    if (mark > 0 && folder > 0) {
        return log_is_whole(&paths, state_folder, name, err);
    }
    if (mark > 0) {
        return log_mark_lost(state_folder, name, err);
    }
    r = fd_make_folders(paths.folder, err);
    r = r == 0 ? fd_sync_folder(state_folder, err) : r;
    return r == 0 ? file_atomic_write(paths.mark, "", 0, 0600, err) : r;
}

int log_mark_lost(const char *state_folder, const char *name, struct err *err)
{
    return err_set(err, BERTH_ECORRUPT,
                   "%s/" LOG_MARK_FOLDER
                   " is missing or was emptied, and this host is a voter, or was "
                   "to become one: put it back as it was; or, while other voters lead, "
                   "`berth rm host/%s` there, then `berth down --forget` and `berth join "
                   "TOKEN` here; or restore a backup",
                   state_folder, name);
}
