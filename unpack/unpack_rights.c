#include "unpack/unpack_rights.h"

#include "base/cleanup.h"
#include "base/process_rights.h"
#include "unpack/unpack_kernel.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

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

int unpack_rights_drop(pid_t parent, uint64_t bytes_max, struct err *err)
{
    const struct process_limit limits[] = {
        {RLIMIT_FSIZE, bytes_max < UNPACK_BYTES_MAX ? bytes_max : UNPACK_BYTES_MAX},
        {RLIMIT_CPU, UNPACK_RIGHTS_CPU_S},
        {RLIMIT_DATA, UNPACK_RIGHTS_MEMORY},
        {RLIMIT_NOFILE, 3},
        {RLIMIT_CORE, 0},
    };
    const struct process_rights rights = {.limits = limits,
                                          .limit_count = ARRAY_COUNT(limits),
                                          .uid = UNPACK_RIGHTS_UID,
                                          .parent = parent};
    int r = process_rights_drop(&rights, err);
    if (r < 0) {
        return r;
    }
    r = calls_limit();
    return r < 0 ? err_sys(err, r, "give up rights: system calls") : 0;
}
