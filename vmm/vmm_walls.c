#include "vmm/vmm_walls.h"

#include "base/cleanup.h"

#include <errno.h>
#include <grp.h>
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

/* Nobody keeps a list of who is which: a pid is its process' alone as long as that lives,
 * and so is the user. What it has open stays open. */
static bool user_become(const struct vmm_walls *walls)
{
    const unsigned id = walls->first_uid + (unsigned)getpid();
    return walls->first_uid != 0 && setgroups(0, NULL) == 0 &&
           setresgid(id, id, id) == 0 && setresuid(id, id, id) == 0;
}

static bool core_dumps_off(const struct vmm_walls *walls)
{
    (void)walls;
    const struct rlimit none = {0, 0};
    return setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;
}

/* ---- all of them */

static const struct {
    const char *name;
    bool (*put_up)(const struct vmm_walls *walls);
    bool must_stand;
} table[VMM_WALL_COUNT] = {
    [VMM_WALL_RIGHTS] = {"no new rights", rights_refuse, true},
    [VMM_WALL_NETWORK] = {"network", network_leave, false},
    [VMM_WALL_IPC] = {"IPC", ipc_leave, false},
    [VMM_WALL_HOST_NAME] = {"host name", host_name_forget, false},
    [VMM_WALL_ROOT] = {"root", root_leave, false},
    [VMM_WALL_BOUNDS] = {"bounding set", bounds_drop, false},
    [VMM_WALL_USER] = {"user", user_become, false},
    [VMM_WALL_DUMPS] = {"core dumps", core_dumps_off, false},
    [VMM_WALL_CAPABILITIES] = {"capabilities", capabilities_drop, false},
    [VMM_WALL_FILES] = {"files", files_close, false},
};

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
