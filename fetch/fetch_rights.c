#include "fetch/fetch_rights.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A sanitizer maps terabytes for itself. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_MAX RLIM_INFINITY
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MEMORY_MAX RLIM_INFINITY
#endif
#endif
#ifndef MEMORY_MAX
#define MEMORY_MAX FETCH_RIGHTS_MEMORY
#endif

/* ---- limits */

static int limits_set(void)
{
    static const struct {
        int what;
        rlim_t most;
    } limits[] = {
        {RLIMIT_FSIZE, 0},
        {RLIMIT_CORE, 0},
        {RLIMIT_CPU, FETCH_RIGHTS_CPU_S},
        {RLIMIT_NOFILE, FETCH_RIGHTS_FILES},
        {RLIMIT_NPROC, FETCH_RIGHTS_THREADS},
        {RLIMIT_DATA, MEMORY_MAX},
    };
    for (unsigned i = 0; i < ARRAY_COUNT(limits); i++) {
        struct rlimit limit;
        if (getrlimit((__rlimit_resource_t)limits[i].what, &limit) != 0) {
            return -errno;
        }
        limit.rlim_max =
            limit.rlim_max < limits[i].most ? limit.rlim_max : limits[i].most;
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit((__rlimit_resource_t)limits[i].what, &limit) != 0) {
            return -errno;
        }
    }
    return 0;
}

/* ---- who we are */

/* While we may: raising the bounds of what is killed first needs nobody's leave. */
static int user_become(void)
{
    CLEANUP_FD int fd =
        fd_open_at(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY, 0, NULL);
    if (fd >= 0) {
        (void)fd_write_full(fd, "1000", 4); /* only who goes first when memory is out */
    }
    if (geteuid() != 0) {
        return 0; /* nobody's rights to begin with */
    }
    for (int capability = 0; capability <= CAP_LAST_CAP; capability++) {
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); /* needs one: may be gone */
    }
    return setgroups(0, NULL) == 0 &&
                   setresgid(FETCH_RIGHTS_UID, FETCH_RIGHTS_UID, FETCH_RIGHTS_UID) == 0 &&
                   setresuid(FETCH_RIGHTS_UID, FETCH_RIGHTS_UID, FETCH_RIGHTS_UID) == 0
               ? 0
               : -errno;
}

static int capabilities_drop(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* capset does, too */
    return syscall(SYS_capset, &header, none) == 0 ? 0 : -errno;
}

static int rights_refuse(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                   prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
               ? 0
               : -errno;
}

/* After the change of user, which forgets it. */
static int parent_follow(void)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 ? 0 : -errno;
}

/* ---- files */

/* Libraries that are loaded late, certificates, the resolver's settings and where those
 * are links to. */
static const char *const readable[] = {
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
};

static int files_close(void)
{
    static const uint64_t by_version[] = {0, 0x1fff, 0x3fff, 0x7fff};
    long version =
        syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1) {
        return -ENOSYS;
    }
    const struct landlock_ruleset_attr ruleset = {
        .handled_access_fs = by_version[version < 3 ? version : 3]};
    CLEANUP_FD int fd =
        (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
    for (unsigned i = 0; fd >= 0 && i < ARRAY_COUNT(readable); i++) {
        struct landlock_path_beneath_attr rule = {
            .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
            .parent_fd = -1};
        /* NOLINTNEXTLINE: /lib is a link on a merged system, and the link's goal is meant
         */
        rule.parent_fd = (int)syscall(SYS_openat, AT_FDCWD, readable[i],
                                      O_PATH | O_CLOEXEC | O_DIRECTORY);
        if (rule.parent_fd < 0) {
            continue; /* not on every host */
        }
        long r = syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
        int fault = errno;
        (void)close(rule.parent_fd); /* only a name */
        if (r != 0) {
            return -fault;
        }
    }
    return fd >= 0 && syscall(SYS_landlock_restrict_self, fd, 0) == 0 ? 0 : -errno;
}

/* ---- system calls */

/* None of these is a download's. */
static const int forbidden[] = {
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kill,
    SYS_tkill,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_pidfd_getfd,
    SYS_fork,
    SYS_vfork,
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_fsopen,
    SYS_open_tree,
    SYS_move_mount,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_init_module,
    SYS_finit_module,
    SYS_shmget,
    SYS_msgget,
    SYS_semget,
    SYS_mq_open,
};

static const uint32_t families[] = {AF_INET, AF_INET6, AF_NETLINK};

#define FILTER_MAX (ARRAY_COUNT(forbidden) * 2 + ARRAY_COUNT(families) * 2 + 16)
#define AT_ARCH    offsetof(struct seccomp_data, arch)
#define AT_NUMBER  offsetof(struct seccomp_data, nr)
#define AT_FIRST   offsetof(struct seccomp_data, args) /* its low half */
#define X32_BIT    0x40000000u

struct filter {
    struct sock_filter code[FILTER_MAX];
    unsigned short length;
};

static void emit(struct filter *filter, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
    filter->code[filter->length++] = (struct sock_filter){code, jt, jf, k};
}

static void emit_case(struct filter *filter, uint32_t value, uint32_t answer)
{
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    emit(filter, BPF_RET | BPF_K, answer, 0, 0);
}

static int calls_limit(void)
{
    struct filter filter = {.length = 0};
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, AT_ARCH, 0, 0);
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    emit(&filter, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, AT_NUMBER, 0, 0);
    emit(&filter, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1); /* the same by other names */
    emit(&filter, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    for (unsigned i = 0; i < ARRAY_COUNT(forbidden); i++) {
        emit_case(&filter, (uint32_t)forbidden[i], SECCOMP_RET_ERRNO | EPERM);
    }
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0);
    emit(&filter, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, AT_FIRST, 0, 0);
    for (unsigned i = 0; i < ARRAY_COUNT(families); i++) {
        emit_case(&filter, families[i], SECCOMP_RET_ALLOW);
    }
    emit(&filter, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES, 0, 0);
    const struct sock_fprog program = {.len = filter.length, .filter = filter.code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ? 0 : -errno;
}

/* ---- all of them */

/* In this order: each needs what the next ones take away. */
static const struct {
    const char *name;
    int (*put_up)(void);
    bool may_miss;
} walls[] = {
    {"limits", limits_set, false},
    {"user", user_become, false},
    {"capabilities", capabilities_drop, false},
    {"no new rights", rights_refuse, false},
    {"parent", parent_follow, false},
    {"files", files_close, true},
    {"system calls", calls_limit, false},
};

int fetch_rights_drop(char ret_missing[FETCH_MISSING_SIZE], struct err *err)
{
    ret_missing[0] = '\0';
    for (unsigned i = 0; i < ARRAY_COUNT(walls); i++) {
        int r = walls[i].put_up();
        if (r < 0 && !walls[i].may_miss) {
            return err_sys(err, r, "give up rights: %s", walls[i].name);
        }
        if (r < 0) {
            size_t length = strlen(ret_missing);
            (void)snprintf(ret_missing + length, FETCH_MISSING_SIZE - length, "%s%s",
                           length > 0 ? ", " : "", walls[i].name);
        }
    }
    return 0;
}
