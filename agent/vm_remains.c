#include "agent/vm_remains.h"

#include "agent/vm_lock.h"
#include "base/cleanup.h"
#include "base/proc_stat.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* A VM's folder, and the lock in it. */
struct place {
    struct stat folder;
    struct stat lock;
    bool has_lock;
};

static bool leads_to(pid_t pid, const char *link, const struct stat *place)
{
    char path[64];
    struct stat at;
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, link); /* fits */
    return stat(path, &at) == 0 && at.st_dev == place->st_dev &&
           at.st_ino == place->st_ino;
}

/* Does the process work there? One that ends meanwhile, or that we may not look at, is
 * not ours. */
static bool works_in(pid_t pid, const struct place *place)
{
    char lock[16];
    (void)snprintf(lock, sizeof(lock), "fd/%d", VM_PROCESS_LOCK_AT); /* fits */
    return leads_to(pid, "cwd", &place->folder) ||
           (place->has_lock && leads_to(pid, lock, &place->lock));
}

/* First the descriptor, then `still` again: the pid may have been given away since. */
static int signal_one(pid_t pid,
                      int signal_number,
                      bool (*still)(pid_t pid, const void *context),
                      const void *context)
{
    CLEANUP_FD int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        return errno == ESRCH ? 0 : -errno;
    }
    if (!still(pid, context)) {
        return 0;
    }
    if (signal_number != 0 && pidfd_send_signal(pidfd, signal_number, NULL, 0) != 0 &&
        errno != ESRCH) {
        return -errno;
    }
    return 1;
}

/* The worse of two answers: not known, then alive, then nothing. */
static int worse(int a, int b)
{
    return a < 0 ? a : b < 0 ? b : a > b ? a : b;
}

static bool still_works_in(pid_t pid, const void *context)
{
    return works_in(pid, context);
}

static int signal_folder(const char *path, int signal_number)
{
    struct place place;
    char lock[PATH_MAX];
    if (stat(path, &place.folder) != 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    (void)snprintf(lock, sizeof(lock), "%s/" VM_LOCK_FILE, path); /* cut: is not there */
    place.has_lock = stat(lock, &place.lock) == 0;
    DIR *processes = opendir("/proc");
    if (processes == NULL) {
        return -errno;
    }
    int r = 0;
    const struct dirent *entry;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while ((entry = readdir(processes)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && pid != getpid() && works_in(pid, &place)) {
            r = worse(r, signal_one(pid, signal_number, still_works_in, &place));
        }
    }
    (void)closedir(processes); /* only read */
    return r;
}

static bool still_verified(pid_t pid, const void *context)
{
    (void)pid;
    return vm_process_verify(context) == 0;
}

static int signal_named(const struct vm_process_identity *identity, int signal_number)
{
    int r = vm_process_verify(identity);
    return r == BERTH_ENOTFOUND ? 0
           : r < 0              ? r
                   : signal_one(identity->pid, signal_number, still_verified, identity);
}

/* A group is frozen and killed as a whole, and first, so that nothing slips away. */
static int signal_group(struct resource_groups *groups, uint64_t uid, int signal_number)
{
    int count = resource_group_count(groups, uid);
    if (count > 0 && signal_number == SIGKILL) {
        int r = resource_group_kill(groups, uid);
        return r < 0 ? r : 1;
    }
    if (count > 0 && (signal_number == SIGSTOP || signal_number == SIGCONT)) {
        /* Where there is no freezer the signal below has to do. */
        (void)resource_group_freeze(groups, uid, signal_number == SIGSTOP);
    }
    return count > 0 ? 1 : count;
}

int vm_remains_signal(const struct vm_remains *remains, int signal_number)
{
    int r = remains->groups == NULL
                ? 0
                : signal_group(remains->groups, remains->uid, signal_number);
    r = worse(r, signal_folder(remains->folder, signal_number));
    if (remains->identity != NULL && remains->identity->pid != 0) {
        r = worse(r, signal_named(remains->identity, signal_number));
    }
    return r;
}
