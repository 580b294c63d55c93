#include "fetch/fetch_rights.h"

#include "base/cleanup.h"
#include "base/process_rights.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

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
        return version < 0 ? -errno : -ENOSYS;
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
    SYS_fork,
    SYS_vfork,
    SYS_unshare,
    SYS_setns,
    /* other processes: siblings are of the same user */
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_process_mrelease,
    SYS_kcmp,
    SYS_move_pages,
    SYS_migrate_pages,
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_pidfd_getfd,
    SYS_sched_setaffinity,
    SYS_sched_setscheduler,
    SYS_sched_setparam,
    SYS_sched_setattr,
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_shmget,
    SYS_msgget,
    SYS_semget,
    SYS_mq_open,
    /* sockets: it asks, and is not asked; only sendmsg sends descriptors (and sendmmsg,
     * which the resolver needs) */
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_sendmsg,
    /* mounts */
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_fsopen,
    SYS_open_tree,
    SYS_move_mount,
    /* much of the kernel behind one call */
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_init_module,
    SYS_finit_module,
};

#define CHECKS_MAX 4
#define SOCK_TYPE  0xfu /* the rest are flags */
#define NEW_NAMESPACES                                                       \
    ((uint32_t)CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | \
     CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* A call whose arguments make it one that is not a download's: all its checks hold. Only
 * the low halves are looked at: the kernel takes these arguments as 32 bits, too. */
struct refusal {
    int call;
    struct check {
        enum { NO_CHECK, IS, IS_NOT } kind;
        unsigned argument;
        uint32_t mask, value;
    } checks[CHECKS_MAX];
};

#define ARG_IS(n, v)                       \
    {                                      \
        IS, (n), UINT32_MAX, (uint32_t)(v) \
    }
#define ARG_IS_NOT(n, v)                       \
    {                                          \
        IS_NOT, (n), UINT32_MAX, (uint32_t)(v) \
    }
#define BITS_ARE(n, mask, v)           \
    {                                  \
        IS, (n), (mask), (uint32_t)(v) \
    }
#define BITS_ARE_NOT(n, mask, v)           \
    {                                      \
        IS_NOT, (n), (mask), (uint32_t)(v) \
    }

static const struct refusal refusals[] = {
    /* threads, and no process that would outlive berthd */
    {SYS_clone, {BITS_ARE(0, CLONE_THREAD, 0)}},
    {SYS_clone, {BITS_ARE_NOT(0, NEW_NAMESPACES, 0)}},
    {SYS_prctl, {ARG_IS(0, PR_SET_PDEATHSIG)}},
    {SYS_prctl, {ARG_IS(0, PR_SET_DUMPABLE)}},
    {SYS_prlimit64, {ARG_IS_NOT(0, 0)}},
    /* IPv4 and IPv6 by TCP and UDP; netlink as the resolver asks for addresses */
    {SYS_socket,
     {ARG_IS_NOT(0, AF_INET), ARG_IS_NOT(0, AF_INET6), ARG_IS_NOT(0, AF_NETLINK)}},
    {SYS_socket,
     {ARG_IS_NOT(0, AF_NETLINK), BITS_ARE_NOT(1, SOCK_TYPE, SOCK_STREAM),
      BITS_ARE_NOT(1, SOCK_TYPE, SOCK_DGRAM)}},
    {SYS_socket,
     {ARG_IS_NOT(0, AF_NETLINK), ARG_IS_NOT(2, 0), ARG_IS_NOT(2, IPPROTO_TCP),
      ARG_IS_NOT(2, IPPROTO_UDP)}},
    {SYS_socket, {ARG_IS(0, AF_NETLINK), ARG_IS_NOT(2, 0)}},
    /* libcurl wakes itself by one; other types reach a UNIX socket by its name */
    {SYS_socketpair, {ARG_IS_NOT(0, AF_UNIX)}},
    {SYS_socketpair, {BITS_ARE_NOT(1, SOCK_TYPE, SOCK_STREAM)}},
    /* who holds the last reference of such a socket waits: that might be berthd */
    {SYS_setsockopt, {ARG_IS(1, SOL_SOCKET), ARG_IS(2, SO_LINGER)}},
    /* signals by way of a descriptor */
    {SYS_fcntl, {ARG_IS(1, F_SETOWN)}},
    {SYS_fcntl, {ARG_IS(1, F_SETOWN_EX)}},
    {SYS_fcntl, {ARG_IS(1, F_SETSIG)}},
    {SYS_ioctl, {ARG_IS(1, FIOSETOWN)}},
    {SYS_ioctl, {ARG_IS(1, SIOCSPGRP)}},
};

#define REFUSAL_MAX (3 + CHECKS_MAX * 3)
#define FILTER_MAX \
    (ARRAY_COUNT(forbidden) * 2 + (ARRAY_COUNT(refusals) + 1) * REFUSAL_MAX + 16)
#define AT_ARCH   offsetof(struct seccomp_data, arch)
#define AT_NUMBER offsetof(struct seccomp_data, nr)
#define X32_BIT   0x40000000u

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

/* The number, then check by check: what does not hold goes on behind the refusal. */
static void emit_refusal(struct filter *filter, const struct refusal *refusal)
{
    uint8_t count = 0;
    while (count < CHECKS_MAX && refusal->checks[count].kind != NO_CHECK) {
        count++;
    }
    uint8_t rest = (uint8_t)(count * 3 + 1);
    emit(filter, BPF_LD | BPF_W | BPF_ABS, AT_NUMBER, 0, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)refusal->call, 0, rest);
    for (unsigned i = 0; i < count; i++) {
        const struct check *check = &refusal->checks[i];
        rest = (uint8_t)(rest - 3);
        emit(filter, BPF_LD | BPF_W | BPF_ABS,
             (uint32_t)(offsetof(struct seccomp_data, args) +
                        check->argument * sizeof(uint64_t)),
             0, 0); /* its low half */
        emit(filter, BPF_ALU | BPF_AND | BPF_K, check->mask, 0, 0);
        emit(filter, BPF_JMP | BPF_JEQ | BPF_K, check->value,
             check->kind == IS ? 0 : rest, check->kind == IS ? rest : 0);
    }
    emit(filter, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM, 0, 0);
}

static int calls_limit(void)
{
    struct filter filter = {.length = 0};
    const struct refusal others = {SYS_tgkill, {ARG_IS_NOT(0, getpid())}};
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, AT_ARCH, 0, 0);
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    emit(&filter, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, AT_NUMBER, 0, 0);
    emit(&filter, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1); /* the same by other names */
    emit(&filter, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    /* Its flags cannot be read here; libc takes clone then. */
    emit_case(&filter, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
    for (unsigned i = 0; i < ARRAY_COUNT(forbidden); i++) {
        emit_case(&filter, (uint32_t)forbidden[i], SECCOMP_RET_ERRNO | EPERM);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(refusals); i++) {
        emit_refusal(&filter, &refusals[i]);
    }
    emit_refusal(&filter, &others);
    emit(&filter, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    const struct sock_fprog program = {.len = filter.length, .filter = filter.code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ? 0 : -errno;
}

/* ---- all of them */

static int common_drop(pid_t parent, struct err *err)
{
    static const struct process_limit limits[] = {
        {RLIMIT_FSIZE, 0},
        {RLIMIT_CORE, 0},
        {RLIMIT_CPU, FETCH_RIGHTS_CPU_S},
        {RLIMIT_NOFILE, FETCH_RIGHTS_FILES},
        {RLIMIT_NPROC, FETCH_RIGHTS_THREADS},
        {RLIMIT_DATA, FETCH_RIGHTS_MEMORY},
    };
    const struct process_rights rights = {.limits = limits,
                                          .limit_count = ARRAY_COUNT(limits),
                                          .uid = FETCH_RIGHTS_UID,
                                          .parent = parent};
    return process_rights_drop(&rights, err);
}

int fetch_rights_drop(pid_t parent, char ret_missing[FETCH_MISSING_SIZE], struct err *err)
{
    ret_missing[0] = '\0';
    int r = common_drop(parent, err);
    if (r < 0) {
        return r;
    }
    r = files_close();
    if (r == -ENOSYS || r == -EOPNOTSUPP) { /* an older kernel, or not switched on */
        (void)snprintf(ret_missing, FETCH_MISSING_SIZE, "files");
        r = 0;
    }
    if (r < 0) {
        return err_sys(err, r, "give up rights: files");
    }
    r = calls_limit(); /* last: it takes what the others need */
    return r < 0 ? err_sys(err, r, "give up rights: system calls") : 0;
}
