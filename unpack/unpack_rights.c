#include "unpack/unpack_rights.h"

#include "base/cleanup.h"
#include "unpack/unpack_kernel.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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
#define MEMORY_MAX UNPACK_RIGHTS_MEMORY
#endif

static int limits_set(void)
{
    static const struct {
        int what;
        rlim_t most;
    } limits[] = {
        {RLIMIT_FSIZE, UNPACK_BYTES_MAX},
        {RLIMIT_CPU, UNPACK_RIGHTS_CPU_S},
        {RLIMIT_DATA, MEMORY_MAX},
        {RLIMIT_NOFILE, 3},
        {RLIMIT_CORE, 0},
    };
    for (unsigned i = 0; i < ARRAY_COUNT(limits); i++) {
        const struct rlimit limit = {limits[i].most, limits[i].most};
        if (setrlimit((__rlimit_resource_t)limits[i].what, &limit) != 0) {
            return -errno;
        }
    }
    return 0;
}

static int user_become(void)
{
    if (geteuid() != 0) {
        return 0; /* nobody's rights to begin with */
    }
    for (int capability = 0; capability <= CAP_LAST_CAP; capability++) {
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); /* needs one: may be gone */
    }
    return setgroups(0, NULL) == 0 &&
                   setresgid(UNPACK_RIGHTS_UID, UNPACK_RIGHTS_UID, UNPACK_RIGHTS_UID) ==
                       0 &&
                   setresuid(UNPACK_RIGHTS_UID, UNPACK_RIGHTS_UID, UNPACK_RIGHTS_UID) == 0
               ? 0
               : -errno;
}

static int capabilities_drop(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
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

static const int allowed[] = {
    SYS_read,       SYS_pread64,     SYS_write,  SYS_fstat,        SYS_newfstatat,
    SYS_brk,        SYS_munmap,      SYS_mremap, SYS_madvise,      SYS_futex,
    SYS_exit_group, SYS_exit,        SYS_gettid, SYS_rt_sigreturn, SYS_sched_yield,
    SYS_getrandom,  SYS_sigaltstack,
};

/* Memory that nobody may run. */
static const uint32_t plain_pages[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
static const int mappers[] = {SYS_mmap, SYS_mprotect};

#define PAGES_LENGTH (2 * ARRAY_COUNT(plain_pages) + 3)
#define FILTER_MAX   (2 * ARRAY_COUNT(allowed) + ARRAY_COUNT(mappers) * PAGES_LENGTH + 8)

struct filter {
    struct sock_filter code[FILTER_MAX];
    unsigned short length;
};

static void emit(struct filter *filter, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
    filter->code[filter->length++] = (struct sock_filter){code, jt, jf, k};
}

static void emit_case(struct filter *filter, uint32_t value)
{
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    emit(filter, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* Their third argument is one of plain_pages. */
static void emit_mapper(struct filter *filter, int number)
{
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, PAGES_LENGTH - 1);
    emit(filter, BPF_LD | BPF_W | BPF_ABS,
         offsetof(struct seccomp_data, args) + 2 * sizeof(uint64_t), 0, 0);
    for (unsigned i = 0; i < ARRAY_COUNT(plain_pages); i++) {
        emit_case(filter, plain_pages[i]);
    }
    emit(filter, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
}

static int calls_limit(void)
{
    struct filter filter = {.length = 0};
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    emit(&filter, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    emit(&filter, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    emit(&filter, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    for (unsigned i = 0; i < ARRAY_COUNT(allowed); i++) {
        emit_case(&filter, (uint32_t)allowed[i]);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(mappers); i++) {
        emit_mapper(&filter, mappers[i]);
    }
    emit(&filter, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    const struct sock_fprog program = {.len = filter.length, .filter = filter.code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0 ? 0 : -errno;
}

/* In this order: each needs what the next ones take away. */
static const struct {
    const char *name;
    int (*put_up)(void);
} walls[] = {
    {"limits", limits_set},
    {"user", user_become},
    {"capabilities", capabilities_drop},
    {"no new rights", rights_refuse},
    {"parent", parent_follow},
    {"system calls", calls_limit},
};

int unpack_rights_drop(struct err *err)
{
    for (unsigned i = 0; i < ARRAY_COUNT(walls); i++) {
        const int r = walls[i].put_up();
        if (r < 0) {
            return err_sys(err, r, "give up rights: %s", walls[i].name);
        }
    }
    return 0;
}
