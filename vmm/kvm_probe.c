#include "vmm/kvm_probe.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

/* The guest's memory: page tables and code, identity mapped by one 2 MiB page. */
#define GUEST_BYTES (UINT64_C(2) << 20)
#define PML4_AT     0x1000
#define PDPT_AT     0x2000
#define PD_AT       0x3000
#define CODE_AT     0x4000

#define PAGE_PRESENT_WRITABLE 0x3u
#define PAGE_LARGE            0x80u
#define CR0_PE_PG             0x80000001u
#define CR4_PAE               0x20u
#define EFER_LME_LMA          0x500u

/* mov ecx, LOOPS ; 1: dec ecx ; jnz 1b ; hlt */
static const uint8_t guest_code[] = {0xb9,
                                     KVM_PROBE_LOOPS & 0xff,
                                     (KVM_PROBE_LOOPS >> 8) & 0xff,
                                     (KVM_PROBE_LOOPS >> 16) & 0xff,
                                     (KVM_PROBE_LOOPS >> 24) & 0xff,
                                     0xff,
                                     0xc9,
                                     0x75,
                                     0xfc,
                                     0xf4};

struct machine {
    int vm_fd;
    int vcpu_fd;
    void *memory;
    struct kvm_run *run;
    size_t run_size;
};

struct watcher {
    pthread_t vcpu_thread;
    struct kvm_run *run;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done; /* guarded by lock */
};

static void none(struct kvm_probe_result *result, const char *what)
{
    result->kind = KVM_NONE;
    (void)snprintf(result->reason, sizeof(result->reason), "%s: %s", what,
                   err_sentence(-errno));
}

static void machine_fini(struct machine *machine)
{
    if (machine->run != NULL) {
        (void)munmap(machine->run, machine->run_size);
    }
    if (machine->memory != NULL) {
        (void)munmap(machine->memory, GUEST_BYTES);
    }
    fd_close(&machine->vcpu_fd);
    fd_close(&machine->vm_fd);
}

static void memory_fill(uint8_t *memory)
{
    const uint64_t pml4 = PDPT_AT | PAGE_PRESENT_WRITABLE;
    const uint64_t pdpt = PD_AT | PAGE_PRESENT_WRITABLE;
    const uint64_t pd = PAGE_PRESENT_WRITABLE | PAGE_LARGE;
    memcpy(memory + PML4_AT, &pml4, sizeof(pml4));
    memcpy(memory + PDPT_AT, &pdpt, sizeof(pdpt));
    memcpy(memory + PD_AT, &pd, sizeof(pd));
    memcpy(memory + CODE_AT, guest_code, sizeof(guest_code));
}

/* Straight into long mode: what a boot loader would have done by hand. */
static int registers_set(int vcpu_fd)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = CODE_AT, .rflags = 0x2, .rsp = CODE_AT};
    struct kvm_segment code = {.base = 0,
                               .limit = 0xffffffff,
                               .selector = 0x8,
                               .type = 11,
                               .present = 1,
                               .s = 1,
                               .l = 1,
                               .g = 1};
    struct kvm_segment data = code;
    data.selector = 0x10;
    data.type = 3;
    data.l = 0;
    data.db = 1;
    if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0) {
        return -errno;
    }
    sregs.cr3 = PML4_AT;
    sregs.cr4 = CR4_PAE;
    sregs.cr0 = CR0_PE_PG;
    sregs.efer = EFER_LME_LMA;
    sregs.cs = code;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0 ||
        ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0) {
        return -errno;
    }
    return 0;
}

/* The name of the step that failed (errno is set), or NULL. */
static const char *machine_make(int kvm_fd, struct machine *machine)
{
    machine->vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0UL);
    if (machine->vm_fd < 0) {
        return "create a VM";
    }
    void *memory = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return "map guest memory";
    }
    machine->memory = memory;
    memory_fill(memory);
    struct kvm_userspace_memory_region region = {
        .memory_size = GUEST_BYTES, .userspace_addr = (uint64_t)(uintptr_t)memory};
    if (ioctl(machine->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        return "give the VM memory";
    }
    machine->vcpu_fd = ioctl(machine->vm_fd, KVM_CREATE_VCPU, 0UL);
    if (machine->vcpu_fd < 0) {
        return "create a vCPU";
    }
    int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0UL);
    if (size < (int)sizeof(struct kvm_run)) {
        return "ask for the vCPU's shared page";
    }
    machine->run_size = (size_t)size;
    void *run = mmap(NULL, machine->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                     machine->vcpu_fd, 0);
    if (run == MAP_FAILED) {
        return "map the vCPU's shared page";
    }
    machine->run = run;
    return registers_set(machine->vcpu_fd) < 0 ? "enter long mode" : NULL;
}

/* ---- the deadline
 * ------------------------------------------------------------------------------------ */

static void on_kick(int number)
{
    (void)number; /* its arrival is what ends KVM_RUN */
}

static void *watch(void *context)
{
    struct watcher *watcher = context;
    struct timespec deadline;
    (void)clock_gettime(CLOCK_REALTIME, &deadline); /* cannot fail */
    deadline.tv_nsec += (long)KVM_PROBE_DEADLINE_MS * 1000000L;
    deadline.tv_sec += deadline.tv_nsec / 1000000000L;
    deadline.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&watcher->lock);
    while (!watcher->done) {
        if (pthread_cond_timedwait(&watcher->ended, &watcher->lock, &deadline) ==
            ETIMEDOUT) {
            __atomic_store_n(&watcher->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
            pthread_kill(watcher->vcpu_thread, SIGURG);
            break;
        }
    }
    pthread_mutex_unlock(&watcher->lock);
    return NULL;
}

/* Runs to the hlt or the deadline; the time it took. 0 or -errno of KVM_RUN. */
static int run_timed(struct machine *machine, uint64_t *ret_elapsed_ns)
{
    struct watcher watcher = {.vcpu_thread = pthread_self(),
                              .run = machine->run,
                              .lock = PTHREAD_MUTEX_INITIALIZER,
                              .ended = PTHREAD_COND_INITIALIZER};
    struct sigaction kick = {.sa_handler = on_kick};
    struct sigaction before;
    pthread_t thread;
    int r = 0;
    (void)sigaction(SIGURG, &kick, &before); /* cannot fail for SIGURG */
    if (pthread_create(&thread, NULL, watch, &watcher) != 0) {
        (void)sigaction(SIGURG, &before, NULL);
        return -EAGAIN;
    }
    uint64_t start_ns = clock_now_ns(clock_system());
    if (ioctl(machine->vcpu_fd, KVM_RUN, 0UL) < 0) {
        r = -errno;
    }
    *ret_elapsed_ns = clock_now_ns(clock_system()) - start_ns;
    pthread_mutex_lock(&watcher.lock);
    watcher.done = true;
    pthread_cond_signal(&watcher.ended);
    pthread_mutex_unlock(&watcher.lock);
    pthread_join(thread, NULL);
    (void)sigaction(SIGURG, &before, NULL);
    return r;
}

static void judge(struct machine *machine, struct kvm_probe_result *result)
{
    int r = run_timed(machine, &result->elapsed_ns);
    double ms = (double)result->elapsed_ns / 1e6;
    if (r == -EINTR) {
        result->kind = KVM_EMULATED;
        (void)snprintf(result->reason, sizeof(result->reason),
                       "%u loops did not end within %u ms: KVM is emulated here",
                       KVM_PROBE_LOOPS, KVM_PROBE_DEADLINE_MS);
        return;
    }
    if (r < 0 || machine->run->exit_reason != KVM_EXIT_HLT) {
        (void)snprintf(result->reason, sizeof(result->reason),
                       "the test guest did not run: %s, exit reason %u", err_sentence(r),
                       machine->run->exit_reason);
        result->elapsed_ns = 0;
        return;
    }
    result->kind = ms < KVM_PROBE_NATIVE_MS ? KVM_NATIVE : KVM_EMULATED;
    (void)snprintf(result->reason, sizeof(result->reason), "%u loops in %.1f ms",
                   KVM_PROBE_LOOPS, ms);
}

static void probe_once(int kvm_fd, struct kvm_probe_result *ret_result)
{
    struct machine machine = {.vm_fd = -1, .vcpu_fd = -1};
    *ret_result = (struct kvm_probe_result){.kind = KVM_NONE};
    const char *failed = machine_make(kvm_fd, &machine);
    if (failed != NULL) {
        none(ret_result, failed);
    } else {
        judge(&machine, ret_result);
    }
    machine_fini(&machine);
}

void kvm_probe(const char *device, struct kvm_probe_result *ret_result)
{
    *ret_result = (struct kvm_probe_result){.kind = KVM_NONE};
    CLEANUP_FD int kvm_fd = fd_open_at(AT_FDCWD, device, O_RDWR, 0, NULL);
    if (kvm_fd < 0) {
        (void)snprintf(ret_result->reason, sizeof(ret_result->reason), "open %.100s: %s",
                       device, err_sentence(kvm_fd));
        return;
    }
    if (ioctl(kvm_fd, KVM_GET_API_VERSION, 0UL) != KVM_API_VERSION) {
        (void)snprintf(ret_result->reason, sizeof(ret_result->reason),
                       "%.100s does not speak KVM's API version %d", device,
                       KVM_API_VERSION);
        return;
    }
    probe_once(kvm_fd, ret_result);
    for (unsigned i = 1; i < KVM_PROBE_TRIES && ret_result->kind == KVM_EMULATED; i++) {
        struct kvm_probe_result again;
        probe_once(kvm_fd, &again);
        if (again.kind != KVM_NONE && again.elapsed_ns < ret_result->elapsed_ns) {
            *ret_result = again;
        }
    }
}
