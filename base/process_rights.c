#include "base/process_rights.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMITS_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LIMITS_MEMORY 0
#endif
#endif
#ifndef LIMITS_MEMORY
#define LIMITS_MEMORY 1
#endif

static int limit_set(const struct process_limit *limit)
{
    const __rlimit_resource_t resource = (__rlimit_resource_t)limit->resource;
    struct rlimit now;
    if (!LIMITS_MEMORY && limit->resource == RLIMIT_DATA) {
        return 0;
    }
    if (getrlimit(resource, &now) != 0) {
        return -errno;
    }
    now.rlim_max = now.rlim_max < limit->most ? now.rlim_max : limit->most;
    now.rlim_cur = now.rlim_max;
    return setrlimit(resource, &now) == 0 ? 0 : -errno;
}

static int limits_set(const struct process_rights *rights)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < rights->limit_count; i++) {
        r = limit_set(&rights->limits[i]);
    }
    return r;
}

/* While we may: raising the bounds of what is killed first needs nobody's leave. */
static void end_first(void)
{
    CLEANUP_FD int fd =
        fd_open_at(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY, 0, NULL);
    if (fd >= 0) {
        (void)fd_write_full(fd, "1000", 4); /* only who goes first when memory is out */
    }
}

static int user_become(const struct process_rights *rights)
{
    const uid_t uid = rights->uid;
    const gid_t gid = rights->uid;
    if (geteuid() != 0) {
        return 0; /* nobody's rights to begin with */
    }
    for (int capability = 0; capability <= CAP_LAST_CAP; capability++) {
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); /* needs one: may be gone */
    }
    return setgroups(0, NULL) == 0 && setresgid(gid, gid, gid) == 0 &&
                   setresuid(uid, uid, uid) == 0
               ? 0
               : -errno;
}

static int capabilities_drop(const struct process_rights *rights)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    (void)rights;
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* capset does, too */
    return syscall(SYS_capset, &header, none) == 0 ? 0 : -errno;
}

static int rights_refuse(const struct process_rights *rights)
{
    (void)rights;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                   prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
               ? 0
               : -errno;
}

/* After the change of user, which forgets it; and it tells of no death before it. */
static int parent_follow(const struct process_rights *rights)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) {
        return -errno;
    }
    return getppid() == rights->parent ? 0 : -ESRCH;
}

static const struct {
    const char *name;
    int (*put_up)(const struct process_rights *rights);
} walls[] = {
    {"limits", limits_set},
    {"user", user_become},
    {"capabilities", capabilities_drop},
    {"no new rights", rights_refuse},
    {"parent", parent_follow},
};

int process_rights_drop(const struct process_rights *rights, struct err *err)
{
    end_first(); /* a wall may take the right to open files */
    for (unsigned i = 0; i < ARRAY_COUNT(walls); i++) {
        const int r = walls[i].put_up(rights);
        if (r < 0) {
            return err_sys(err, r, "give up rights: %s", walls[i].name);
        }
    }
    return 0;
}
