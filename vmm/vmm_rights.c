#include "vmm/vmm_rights.h"

#include "base/cleanup.h"
#include "vmm/kvm_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <linux/vhost.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define LEAK_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAK_CHECK 1
#endif
#endif
#ifdef LEAK_CHECK
#include <sanitizer/lsan_interface.h>
#endif

#define M VMM_ROLE_MAIN
#define V VMM_ROLE_VCPU
#define D VMM_ROLE_DISK
#define S VMM_ROLE_START
#define L VMM_ROLE_LOAD
#define R VMM_ROLE_RING
#define C VMM_ROLE_DIAL
#define H VMM_ROLE_VHOST
#define X VMM_ROLE_EXPORT

/* Who may call what. */
static const struct {
    int number;
    unsigned roles;
} calls[] = {
    /* memory of our own */
    {SYS_brk, M | V | D | L},
    {SYS_munmap, M | V | D | L},
    {SYS_mremap, M | V | D | L},
    {SYS_madvise, M | V | D | L},
    {SYS_fallocate, M | V | D}, /* a reset, a balloon; a hole in a disk */
    /* descriptors that are open */
    {SYS_read, M | V | L},
    {SYS_write, M | V | D | L},
    {SYS_readv, M | V},
    {SYS_writev, M | V},
    {SYS_pread64, M | D | L},
    {SYS_pwrite64, M | D},
    {SYS_preadv, M | D},
    {SYS_pwritev, M | D},
    {SYS_lseek, M | D | L},   /* what of RAM is to be saved */
    {SYS_mincore, M | D | L}, /* the same of huge pages */
    {SYS_fstat, M | X},
    {SYS_newfstatat, M | X}, /* glibc's fstat */
    {SYS_fcntl, S | X},
    {SYS_ftruncate, X},
    {SYS_fsync, M | D},
    {SYS_fdatasync, M | D},
    /* a disk's ring: once made, it takes no other files and no other work */
    {SYS_io_uring_setup, S},
    {SYS_io_uring_register, S},
    {SYS_io_uring_enter, R},
    {SYS_close, M | V | L | C | X},
    {SYS_poll, L},
    {SYS_epoll_wait, M},
    {SYS_epoll_pwait, M},
    {SYS_epoll_ctl, M | V},
    {SYS_eventfd2, M},
    {SYS_timerfd_create, M}, /* of a device that comes */
    {SYS_timerfd_settime, M | V},
    /* clients of the console and of QMP */
    {SYS_accept4, M},
    {SYS_recvmsg, M},
    {SYS_recvfrom, M | C},
    {SYS_sendmsg, M | C},
    {SYS_sendto, M | V},   /* the guest's console, too */
    {SYS_shutdown, M | V}, /* a guest that ends one direction of a connection */
    /* who makes connections for the guest */
    {SYS_socket, C},
    {SYS_connect, C},
    /* threads, signals, time */
    {SYS_futex, M | V | D | L},
    {SYS_set_robust_list, M | V | D | L},
    {SYS_rseq, M | V | D | L},
    {SYS_gettid, M | V | D | L},
    {SYS_getpid, M | V | D | L},
    {SYS_tgkill, M | V | D | L},
    {SYS_sched_yield, M | V | D | L},
    {SYS_sched_getaffinity, M | V | D | L}, /* the C library, of its own threads */
    {SYS_rt_sigaction, M},
    {SYS_rt_sigprocmask, M | V | D | L},
    {SYS_rt_sigreturn, M | V | D | L},
    {SYS_sigaltstack, M | V | D | L},
    {SYS_restart_syscall, M | V | D | L},
    {SYS_clock_gettime, M | V | D | L},
    {SYS_clock_nanosleep, M | V | D | L},
    {SYS_getrandom, M | V | D | L},
    {SYS_exit, M | V | D | L},
    {SYS_exit_group, M | V | D | L | C},
    {SYS_seccomp, M | V | D | L}, /* a thread narrows itself */
};

/* ioctl by request. */
static const struct {
    uint32_t request;
    unsigned roles;
} requests[] = {
    {(uint32_t)KVM_RUN, V},
    {(uint32_t)KVM_IRQ_LINE, M | V},
    {(uint32_t)KVM_SIGNAL_MSI, M | V},
    {(uint32_t)KVM_SET_GSI_ROUTING, M | V},
    {(uint32_t)KVM_IRQFD, M | V},
    {(uint32_t)KVM_IOEVENTFD, M | V},
    /* what a driver takes of a tap's offloads and queues */
    {(uint32_t)TUNSETOFFLOAD, M | V},
    {(uint32_t)TUNSETQUEUE, M | V},
    /* what is behind a device, also of one that comes */
    {(uint32_t)TUNGETIFF, M},
    {(uint32_t)TUNSETVNETHDRSZ, M},
    {(uint32_t)BLKGETSIZE64, M},
    /* the kernel's part of a NIC */
    {(uint32_t)VHOST_SET_OWNER, S},
    {(uint32_t)VHOST_GET_FEATURES, S},
    {(uint32_t)VHOST_SET_FEATURES, H},
    {(uint32_t)VHOST_SET_MEM_TABLE, H},
    {(uint32_t)VHOST_SET_VRING_NUM, H},
    {(uint32_t)VHOST_SET_VRING_BASE, H},
    {(uint32_t)VHOST_GET_VRING_BASE, H},
    {(uint32_t)VHOST_SET_VRING_ADDR, H},
    {(uint32_t)VHOST_SET_VRING_KICK, H},
    {(uint32_t)VHOST_SET_VRING_CALL, H},
    {(uint32_t)VHOST_SET_VRING_ERR, H},
    {(uint32_t)VHOST_NET_SET_BACKEND, H},
    /* a machine that comes in */
    {(uint32_t)UFFDIO_REGISTER, S},
    {(uint32_t)UFFDIO_COPY, L},
    {(uint32_t)UFFDIO_ZEROPAGE, L},
    {(uint32_t)UFFDIO_WAKE, M | V | D | L}, /* who gives up on RAM lets go who waits */
    {(uint32_t)UFFDIO_UNREGISTER, M | L},
    {(uint32_t)KVM_SET_CLOCK, S},
    {(uint32_t)KVM_SET_TSC_KHZ, S},
    /* one that is saved, or goes on */
    {(uint32_t)KVM_GET_TSC_KHZ, M},
    {(uint32_t)KVM_GET_CLOCK, M},
    {(uint32_t)KVM_GET_IRQCHIP, M},
    {(uint32_t)KVM_GET_MSR_INDEX_LIST, M},
    {(uint32_t)KVM_GET_MP_STATE, M},
    {(uint32_t)KVM_GET_REGS, M},
    {(uint32_t)KVM_GET_XSAVE, M},
    {(uint32_t)KVM_GET_XCRS, M},
    {(uint32_t)KVM_GET_DEBUGREGS, M},
    {(uint32_t)KVM_GET_LAPIC, M},
    {(uint32_t)KVM_GET_MSRS, M},
    {(uint32_t)KVM_GET_VCPU_EVENTS, M},
    {(uint32_t)KVM_KVMCLOCK_CTRL, M},
    /* a reset */
    {(uint32_t)KVM_SET_IRQCHIP, M},
    {(uint32_t)KVM_SET_MP_STATE, M},
    {(uint32_t)KVM_SET_REGS, M},
    {(uint32_t)KVM_GET_SREGS, M},
    {(uint32_t)KVM_SET_SREGS, M},
    {(uint32_t)KVM_SET_XSAVE, M},
    {(uint32_t)KVM_SET_XCRS, M},
    {(uint32_t)KVM_SET_DEBUGREGS, M},
    {(uint32_t)KVM_SET_LAPIC, M},
    {(uint32_t)KVM_SET_MSRS, M},
    {(uint32_t)KVM_SET_VCPU_EVENTS, M},
};

/* Pages that nobody may run. */
static const uint32_t plain_pages[] = {PROT_NONE, PROT_READ, PROT_WRITE,
                                       PROT_READ | PROT_WRITE};
static const uint32_t names[] = {PR_SET_NAME};
/* What is behind a device that comes: how it is open, and once more. */
static const uint32_t looks[] = {F_GETFL, F_SETFL, F_DUPFD_CLOEXEC};
/* What the C library makes threads with: no process, and nothing in other namespaces. */
static const uint32_t threads[] = {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM |
                                   CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS |
                                   CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID};

#define FILTER_MAX (ARRAY_COUNT(calls) * 2 + ARRAY_COUNT(requests) * 2 + 60)

#define AT_ARCH   offsetof(struct seccomp_data, arch)
#define AT_NUMBER offsetof(struct seccomp_data, nr)
#define AT_ARGUMENT(n) \
    (offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t)) /* its low half */

/* ---- system calls */

struct filter {
    struct sock_filter code[FILTER_MAX];
    unsigned short length;
};

static void emit(struct filter *filter, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
    filter->code[filter->length++] = (struct sock_filter){code, jt, jf, k};
}

static void emit_load(struct filter *filter, size_t offset)
{
    emit(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void emit_answer(struct filter *filter, uint32_t answer)
{
    emit(filter, BPF_RET | BPF_K, answer, 0, 0);
}

/* Is what was loaded this value? Then the answer; else go on. */
static void emit_case(struct filter *filter, uint32_t value, uint32_t answer)
{
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    emit_answer(filter, answer);
}

/* Is it this call? Then it depends on the argument, which is loaded; else skip `length`
 * instructions, which are what the caller emits next. */
static void
emit_if_call(struct filter *filter, int number, unsigned argument, uint8_t length)
{
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, (uint8_t)(length + 1));
    emit_load(filter, AT_ARGUMENT(argument));
}

/* One of these values of the argument, or another answer. */
static void emit_values(struct filter *filter,
                        int number,
                        unsigned argument,
                        const uint32_t *values,
                        unsigned count,
                        uint32_t otherwise)
{
    emit_if_call(filter, number, argument, (uint8_t)(2 * count + 1));
    for (unsigned i = 0; i < count; i++) {
        emit_case(filter, values[i], SECCOMP_RET_ALLOW);
    }
    emit_answer(filter, otherwise);
}

/* The list of a thread must be within that of the thread that starts it, for filters add
 * up: so the process' filter holds all roles, and each thread then takes its own. */
static void filter_make(struct filter *filter, unsigned roles)
{
    filter->length = 0;
    emit_load(filter, AT_ARCH);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    emit_answer(filter, SECCOMP_RET_KILL_PROCESS);
    emit_load(filter, AT_NUMBER);
    for (unsigned i = 0; i < ARRAY_COUNT(calls); i++) {
        if ((calls[i].roles & roles) != 0) {
            emit_case(filter, (uint32_t)calls[i].number, SECCOMP_RET_ALLOW);
        }
    }
    /* A library that looks for a file does without it. */
    emit_case(filter, SYS_openat, SECCOMP_RET_ERRNO | EACCES);
    if ((roles & M) != 0) {
        emit_values(filter, SYS_fcntl, 1, looks, ARRAY_COUNT(looks),
                    SECCOMP_RET_KILL_PROCESS);
        /* Its flags are in memory, where no filter sees them: clone is as good. */
        emit_case(filter, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
        emit_values(filter, SYS_clone, 0, threads, ARRAY_COUNT(threads),
                    SECCOMP_RET_KILL_PROCESS);
    }
    emit_values(filter, SYS_mmap, 2, plain_pages, ARRAY_COUNT(plain_pages),
                SECCOMP_RET_KILL_PROCESS);
    emit_values(filter, SYS_mprotect, 2, plain_pages, ARRAY_COUNT(plain_pages),
                SECCOMP_RET_KILL_PROCESS);
    emit_values(filter, SYS_prctl, 0, names, ARRAY_COUNT(names),
                SECCOMP_RET_ERRNO | EPERM);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0);
    emit_answer(filter, SECCOMP_RET_KILL_PROCESS);
    emit_load(filter, AT_ARGUMENT(1));
    for (unsigned i = 0; i < ARRAY_COUNT(requests); i++) {
        if ((requests[i].roles & roles) != 0) {
            emit_case(filter, requests[i].request, SECCOMP_RET_ALLOW);
        }
    }
    emit_answer(filter, SECCOMP_RET_KILL_PROCESS);
}

#ifdef LEAK_CHECK
static atomic_bool is_filtered;

/* A sanitizer's search for leaks at the end of a process stops the world by ptrace. That
 * ends the thread that does it, and the process would wait for it without an end: whoever
 * asked for the end would kill it, and say that its disks were not written out. */
int __lsan_is_turned_off(void)
{
    return atomic_load(&is_filtered);
}
#endif

static int filter_install(unsigned roles, struct err *err)
{
    struct filter filter;
    filter_make(&filter, roles);
    const struct sock_fprog program = {.len = filter.length, .filter = filter.code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
        return err_sys(err, -errno, "limit system calls");
    }
#ifdef LEAK_CHECK
    atomic_store(&is_filtered, true);
#endif
    return 0;
}

int vmm_rights_process(struct err *err)
{
    return filter_install(M | V | D | S | L | R | H, err);
}

int vmm_rights_thread(unsigned roles, struct err *err)
{
    return filter_install(roles, err);
}
