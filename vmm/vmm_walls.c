#include "vmm/vmm_walls.h"

#include "base/cleanup.h"
#include "base/parse_number.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A sanitizer maps terabytes for itself. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMITS_DATA 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LIMITS_DATA 0
#endif
#endif
#ifndef LIMITS_DATA
#define LIMITS_DATA 1
#endif

/* ---- each wall: true when it stands */

static bool rights_refuse(const struct vmm_walls *walls)
{
    (void)walls;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* What no program could get back. A kernel may know fewer than we do. */
static bool bounds_drop(const struct vmm_walls *walls)
{
    bool any = false;
    (void)walls;
    for (int capability = 0; capability <= CAP_LAST_CAP; capability++) {
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
        any |= prctl(PR_CAPBSET_READ, capability, 0, 0, 0) > 0;
    }
    return !any;
}

static bool capabilities_drop(const struct vmm_walls *walls)
{
    (void)walls;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &header, none) == 0;
}

/* What this kernel knows of Landlock: files alone, TCP as well, other processes as well.
 * The headers here may know less. */
struct landlock_rules {
    uint64_t files;
    uint64_t net;
    uint64_t scopes;
};

static const struct landlock_rules landlock_versions[] = {
    {0, 0, 0},      {0x1fff, 0, 0}, {0x3fff, 0, 0},
    {0x7fff, 0, 0}, {0x7fff, 3, 0}, {0xffff, 3, 0}, /* ioctl of devices */
    {0xffff, 3, 3},                                 /* abstract sockets, signals */
};

/* Handles every access that this kernel knows, and allows none. */
static bool files_close(const struct vmm_walls *walls)
{
    const long newest = (long)ARRAY_COUNT(landlock_versions) - 1;
    const long version =
        syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    (void)walls;
    if (version < 1) {
        return false;
    }
    const struct landlock_rules *rules =
        &landlock_versions[version < newest ? version : newest];
    CLEANUP_FD int fd =
        (int)syscall(SYS_landlock_create_ruleset, rules, sizeof(*rules), 0);
    return fd >= 0 && syscall(SYS_landlock_restrict_self, fd, 0) == 0;
}

/* The folder that we are in becomes the root, and nothing else is left. The first root of
 * a kernel (an initramfs) cannot be left so: there the new one is laid over it. */
static bool root_become(void)
{
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        return umount2(".", MNT_DETACH) == 0 && chdir("/") == 0;
    }
    return mount(".", "/", NULL, MS_MOVE, NULL) == 0 && chroot(".") == 0 &&
           chdir("/") == 0;
}

/* An empty root nobody can write to, or the folder that is kept. */
static bool root_leave(const struct vmm_walls *walls)
{
    return unshare(CLONE_NEWNS) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           (walls->keeps_folder
                ? mount(".", "/tmp", NULL, MS_BIND, NULL)
                : mount("empty", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                        "size=4k,mode=555")) == 0 &&
           chdir("/tmp") == 0 && root_become();
}

/* Nobody can move into a pid namespace, only begin in one. */
static bool processes_leave(const struct vmm_walls *walls)
{
    (void)walls;
    return getpid() == 1;
}

/* None but what is open. */
static bool network_leave(const struct vmm_walls *walls)
{
    (void)walls;
    return unshare(CLONE_NEWNET) == 0;
}

static bool ipc_leave(const struct vmm_walls *walls)
{
    (void)walls;
    return unshare(CLONE_NEWIPC) == 0;
}

static bool host_name_forget(const struct vmm_walls *walls)
{
    (void)walls;
    return unshare(CLONE_NEWUTS) == 0 && sethostname("vm", 2) == 0 &&
           setdomainname("", 0) == 0;
}

/* What it has open stays open. */
static bool user_become(const struct vmm_walls *walls)
{
    const unsigned id = walls->uid;
    return id != 0 && setgroups(0, NULL) == 0 && setresgid(id, id, id) == 0 &&
           setresuid(id, id, id) == 0;
}

/* Of a user, so it counts only who has one of its own. */
static bool has_own_user(const struct vmm_walls *walls)
{
    return walls->uid != 0 && geteuid() == walls->uid;
}

#define FILE_BYTES_MIN (UINT64_C(64) << 20) /* its log, which whoever started it cuts */
#define DATA_BYTES_MIN (UINT64_C(4) << 30)

static uint64_t file_most(const struct vmm_walls *walls)
{
    return walls->file_bytes > FILE_BYTES_MIN ? walls->file_bytes : FILE_BYTES_MIN;
}

static uint64_t data_most(const struct vmm_walls *walls)
{
    return LIMITS_DATA ? walls->data_bytes + DATA_BYTES_MIN : RLIM_INFINITY;
}

/* The kernel counts what all processes of a user have: who shares one has no bound. */
static uint64_t locked_most(const struct vmm_walls *walls)
{
    return walls->locked_bytes == 0 || has_own_user(walls) ? walls->locked_bytes
                                                           : RLIM_INFINITY;
}

static uint64_t processes_most(const struct vmm_walls *walls)
{
    return has_own_user(walls) ? 512 : RLIM_INFINITY;
}

/* No limit of address space: RAM, what may be plugged and guards around them are the most
 * of it, and cost nothing. None of stacks or CPU time: a guest has a right to those. */
static const struct {
    __rlimit_resource_t resource;
    uint64_t most;
    uint64_t (*most_of)(const struct vmm_walls *walls); /* instead */
} limits[] = {
    {RLIMIT_CORE, 0, NULL}, /* RAM of a guest is nobody's to keep */
    /* 192 that are given, two of each of 64 CPUs, 17 doorbells and 32 vectors of each of
     * 31 devices, 256 connections of a vsock: half of this. Each is memory of the kernel.
     */
    {RLIMIT_NOFILE, 4096, NULL},
    /* 64 CPUs, 4 workers of each of 24 disks, 64 queues that the kernel serves, 2 threads
     * of the kernel for each thread that pushes a ring: 362. No bomb of threads. */
    {RLIMIT_NPROC, 0, processes_most},
    /* Disks and RAM have a size that was said at the start: no file of a guest's grows
     * until the host is full. */
    {RLIMIT_FSIZE, 0, file_most},
    /* 80 threads with 8 MiB of stack, disks in flight, maps of RAM: less than 1 GiB. What
     * leaks ends here, also where there is no control group. */
    {RLIMIT_DATA, 0, data_most},
    /* It keeps nothing from being swapped but the rings of its disks, which kernels from
     * 6.14 on count here. */
    {RLIMIT_MEMLOCK, 0, locked_most},
    {RLIMIT_MSGQUEUE, 0, NULL}, /* nor memory in queues of messages */
    {RLIMIT_NICE, 0, NULL},     /* nor is it more important than it is */
    {RLIMIT_RTPRIO, 0, NULL},
};

/* One that is lower already stays. */
static bool limits_set(const struct vmm_walls *walls)
{
    bool all = true;
    for (unsigned i = 0; i < ARRAY_COUNT(limits); i++) {
        const uint64_t most =
            limits[i].most_of != NULL ? limits[i].most_of(walls) : limits[i].most;
        struct rlimit now;
        if (getrlimit(limits[i].resource, &now) != 0) {
            all = false;
            continue;
        }
        now.rlim_max = now.rlim_max < most ? now.rlim_max : most;
        now.rlim_cur = now.rlim_max;
        all &= setrlimit(limits[i].resource, &now) == 0;
    }
    return all;
}

static bool memory_close(const struct vmm_walls *walls)
{
    (void)walls;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

/* ---- all of them */

static const struct {
    const char *name;
    bool (*put_up)(const struct vmm_walls *walls);
    bool must_stand;
} table[VMM_WALL_COUNT] = {
    [VMM_WALL_RIGHTS] = {"no new rights", rights_refuse, true},
    [VMM_WALL_PROCESSES] = {"processes", processes_leave, false},
    [VMM_WALL_NETWORK] = {"network", network_leave, false},
    [VMM_WALL_IPC] = {"IPC", ipc_leave, false},
    [VMM_WALL_HOST_NAME] = {"host name", host_name_forget, false},
    [VMM_WALL_ROOT] = {"root", root_leave, false},
    [VMM_WALL_BOUNDS] = {"bounding set", bounds_drop, false},
    [VMM_WALL_USER] = {"user", user_become, false},
    [VMM_WALL_LIMITS] = {"limits", limits_set, false},
    [VMM_WALL_MEMORY] = {"memory", memory_close, false},
    [VMM_WALL_CAPABILITIES] = {"capabilities", capabilities_drop, false},
    [VMM_WALL_FILES] = {"files", files_close, false},
};

unsigned vmm_walls_number(void)
{
    char text[24] = "";
    uint64_t number = 0;
    const ssize_t length = readlink("/proc/self", text, sizeof(text) - 1);
    return length > 0 && parse_u64(text, &number, NULL) == 0 && number <= INT_MAX
               ? (unsigned)number
               : 0;
}

int vmm_walls_put_up(const struct vmm_walls *walls,
                     char ret_missing[VMM_MISSING_SIZE],
                     struct err *err)
{
    size_t length = 0;
    ret_missing[0] = '\0';
    for (unsigned i = 0; i < VMM_WALL_COUNT; i++) {
        if ((walls->which & VMM_WALL(i)) == 0 || table[i].put_up(walls)) {
            continue;
        }
        if (table[i].must_stand) {
            return err_sys(err, -errno, "give up rights: %s", table[i].name);
        }
        length += (size_t)snprintf(ret_missing + length, VMM_MISSING_SIZE - length,
                                   "%s%s", length > 0 ? ", " : "", table[i].name);
    }
    return 0;
}
