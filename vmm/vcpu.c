#include "vmm/vcpu.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"
#include "vmm/kvm_stats.h"
#include "vmm/machine_layout.h"
#include "vmm/planted_fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MSR_MISC_ENABLE       0x1a0u
#define MSR_MTRR_DEFAULT      0x2ffu
#define MISC_FAST_STRINGS     0x1u
#define MTRR_ON_AND_WRITEBACK 0x806u

#define CR0_PROTECTED 0x1u
#define CR0_EXTENSION 0x10u
#define CR0_PAGING    0x80000000u
#define CR4_PAE       0x20u
#define EFER_LONG     0x500u
#define RFLAGS_FIXED  0x2u
#define GDT_LIMIT     31u

#define AGAIN_MAX 8u       /* times in a row that KVM may say EAGAIN at no cost */
#define NAP_NS    1000000L /* after each more */

/* ---- making one */

static int cpuid_set(struct vcpu *vcpu, const struct cpu_table *table, struct err *err)
{
    size_t size = sizeof(struct kvm_cpuid2) + table->count * sizeof(table->entries[0]);
    CLEANUP_FREE struct kvm_cpuid2 *cpuid = cleanup_new(1, size);
    if (cpuid == NULL) {
        return err_sys(err, -ENOMEM, "vCPU %u", vcpu->index);
    }
    cpuid->nent = table->count;
    memcpy(cpuid->entries, table->entries, table->count * sizeof(table->entries[0]));
    return kvm_call(vcpu->fd, KVM_SET_CPUID2, cpuid, "set CPUID", err);
}

/* What firmware sets and Linux takes for granted. */
static int msrs_set(struct vcpu *vcpu, struct err *err)
{
    static const struct kvm_msr_entry wanted[] = {
        {.index = MSR_MISC_ENABLE, .data = MISC_FAST_STRINGS},
        {.index = MSR_MTRR_DEFAULT, .data = MTRR_ON_AND_WRITEBACK},
    };
    union {
        struct kvm_msrs head;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(wanted)];
    } msrs = {.head = {.nmsrs = ARRAY_COUNT(wanted)}};
    memcpy(msrs.head.entries, wanted, sizeof(wanted));
    int r = kvm_call(vcpu->fd, KVM_SET_MSRS, &msrs, "set MSRs", err);
    if (r >= 0 && r < (int)ARRAY_COUNT(wanted)) {
        return err_set(err, BERTH_EUNSUPPORTED, "KVM: set MSR 0x%x: refused",
                       wanted[r].index);
    }
    return r < 0 ? r : 0;
}

static int run_page_map(struct vcpu *vcpu, int kvm_fd, struct err *err)
{
    int size = kvm_call_number(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0,
                               "ask for a vCPU's shared page", err);
    if (size < (int)sizeof(struct kvm_run)) {
        return size < 0 ? size : err_set(err, BERTH_EUNSUPPORTED, "KVM: a small page");
    }
    vcpu->run_bytes = (size_t)size;
    void *run =
        mmap(NULL, vcpu->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED) {
        return err_sys(err, -errno, "map a vCPU's shared page");
    }
    vcpu->run = run;
    return 0;
}

int vcpu_table_make(int kvm_fd,
                    enum cpu_level level,
                    struct cpu_table *ret_table,
                    struct err *err)
{
    size_t size = sizeof(struct kvm_cpuid2) + sizeof(ret_table->entries);
    CLEANUP_FREE struct kvm_cpuid2 *cpuid = cleanup_new(1, size);
    if (cpuid == NULL) {
        return err_sys(err, -ENOMEM, "ask for CPUID");
    }
    cpuid->nent = CPU_ENTRIES_MAX;
    int r = kvm_call(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid, "ask for CPUID", err);
    if (r < 0) {
        return r;
    }
    ret_table->count = cpuid->nent;
    memcpy(ret_table->entries, cpuid->entries,
           ret_table->count * sizeof(ret_table->entries[0]));
    return cpu_model_apply(ret_table, level, err);
}

int vcpu_open(struct vcpu *vcpu,
              int kvm_fd,
              int vm_fd,
              unsigned index,
              const struct cpu_table *table,
              struct err *err)
{
    *vcpu = (struct vcpu){.index = index, .fd = -1, .stats_fd = -1};
    vcpu->fd = kvm_call_number(vm_fd, KVM_CREATE_VCPU, index, "create a vCPU", err);
    if (vcpu->fd < 0) {
        return vcpu->fd;
    }
    int r = run_page_map(vcpu, kvm_fd, err);
    if (r == 0) {
        r = cpuid_set(vcpu, table, err);
    }
    if (r == 0) {
        r = msrs_set(vcpu, err);
    }
    if (r < 0) {
        vcpu_close(vcpu);
        return r;
    }
    vcpu->stats_fd = kvm_stats_open(vcpu->fd); /* later it would wait for the vCPU */
    return 0;
}

void vcpu_close(struct vcpu *vcpu)
{
    if (vcpu->run != NULL) {
        (void)munmap(vcpu->run, vcpu->run_bytes);
        vcpu->run = NULL;
    }
    fd_close(&vcpu->stats_fd);
    fd_close(&vcpu->fd);
}

/* ---- where it begins */

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool is_long)
{
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .s = 1,
                                .g = 1,
                                .l = is_long,
                                .db = !is_long};
}

static void sregs_enter(struct kvm_sregs *sregs, enum boot_mode mode)
{
    const bool is_long = mode == BOOT_LONG_64;
    const struct kvm_segment data = flat_segment(0x18, 3, false);
    sregs->cs = flat_segment(0x10, 11, is_long);
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
    sregs->tr = (struct kvm_segment){.limit = 0x67, .type = 11, .present = 1};
    sregs->gdt.base = GDT_AT;
    sregs->gdt.limit = GDT_LIMIT;
    sregs->idt.base = 0;
    sregs->idt.limit = 0;
    sregs->cr0 = CR0_PROTECTED | CR0_EXTENSION;
    if (is_long) {
        sregs->cr3 = PAGE_TABLES_AT;
        sregs->cr4 = CR4_PAE;
        sregs->efer = EFER_LONG;
        sregs->cr0 |= CR0_PAGING;
    }
}

int vcpu_enter_at(struct vcpu *vcpu, const struct boot_entry *entry, struct err *err)
{
    struct kvm_sregs sregs = {0};
    struct kvm_regs regs = {.rip = entry->instruction,
                            .rflags = RFLAGS_FIXED,
                            .rsp = BOOT_STACK_AT,
                            .rbx = entry->argument,
                            .rsi = entry->argument};
    int r = kvm_call(vcpu->fd, KVM_GET_SREGS, &sregs, "read registers", err);
    if (r < 0) {
        return r;
    }
    sregs_enter(&sregs, entry->mode);
    r = kvm_call(vcpu->fd, KVM_SET_SREGS, &sregs, "set system registers", err);
    return r < 0 ? r : kvm_call(vcpu->fd, KVM_SET_REGS, &regs, "set registers", err);
}

int vcpu_await_wake(struct vcpu *vcpu, struct err *err)
{
    struct kvm_mp_state state = {0};
    /* Reading it takes in what was sent; the INIT that is yet to come does the rest. */
    int r = kvm_call(vcpu->fd, KVM_GET_MP_STATE, &state, "read the MP state", err);
    state.mp_state = KVM_MP_STATE_UNINITIALIZED;
    return r < 0 ? r
                 : kvm_call(vcpu->fd, KVM_SET_MP_STATE, &state, "set the MP state", err);
}

/* ---- running */

static void count(struct vcpu *vcpu, enum vcpu_exit kind)
{
    counter_add(&vcpu->exits[kind].count, 1);
}

/* A string instruction moves `count` units through one port. */
static void handle_port(struct vcpu *vcpu)
{
    const struct kvm_run *run = vcpu->run;
    const uint32_t units = PLANTED(PLANTED_STRING_SHORT) ? 1 : run->io.count;
    uint8_t *data = (uint8_t *)vcpu->run + run->io.data_offset;
    for (uint32_t i = 0; i < units; i++) {
        if (run->io.direction == KVM_EXIT_IO_IN) {
            io_bus_read(vcpu->bus, IO_PORTS, run->io.port, data, run->io.size);
        } else {
            io_bus_write(vcpu->bus, IO_PORTS, run->io.port, data, run->io.size);
        }
        data += run->io.size;
    }
}

static void handle_memory(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint32_t size =
        run->mmio.len <= sizeof(run->mmio.data) ? run->mmio.len : sizeof(run->mmio.data);
    if (run->mmio.is_write) {
        io_bus_write(vcpu->bus, IO_MEMORY, run->mmio.phys_addr, run->mmio.data, size);
    } else {
        io_bus_read(vcpu->bus, IO_MEMORY, run->mmio.phys_addr, run->mmio.data, size);
    }
}

static void tell_broken(struct vcpu *vcpu, const char *what, unsigned long long number)
{
    char reason[VCPU_REASON_SIZE];
    (void)snprintf(reason, sizeof(reason), "%s (0x%llx)", what, number);
    vcpu->events.broken(vcpu->events.context, vcpu, reason);
}

static void handle_nothing(struct vcpu *vcpu)
{
    (void)vcpu; /* the next run goes on; the chip is in the kernel: halts wait there */
}

static void handle_shutdown(struct vcpu *vcpu)
{
    vcpu->events.shutdown(vcpu->events.context, vcpu);
}

static void handle_internal(struct vcpu *vcpu)
{
    tell_broken(vcpu, "KVM cannot emulate an instruction of the guest",
                vcpu->run->internal.suberror);
}

static void handle_entry(struct vcpu *vcpu)
{
    tell_broken(vcpu, "the CPU refuses the guest's state",
                vcpu->run->fail_entry.hardware_entry_failure_reason);
}

static void handle_unknown(struct vcpu *vcpu)
{
    tell_broken(vcpu, "KVM left the guest for a reason that nobody handles",
                vcpu->run->exit_reason);
}

struct exit_row {
    enum vcpu_exit kind;
    void (*handle)(struct vcpu *vcpu);
};

static const struct exit_row *row_of(uint32_t reason)
{
    static const struct exit_row unknown = {VCPU_EXIT_BROKEN, handle_unknown};
    static const struct exit_row rows[] = {
        [KVM_EXIT_IO] = {VCPU_EXIT_PORT, handle_port},
        [KVM_EXIT_MMIO] = {VCPU_EXIT_MEMORY, handle_memory},
        [KVM_EXIT_INTR] = {VCPU_EXIT_INTERRUPTED, handle_nothing},
        [KVM_EXIT_IRQ_WINDOW_OPEN] = {VCPU_EXIT_OTHER, handle_nothing},
        [KVM_EXIT_HLT] = {VCPU_EXIT_OTHER, handle_nothing},
        [KVM_EXIT_SHUTDOWN] = {VCPU_EXIT_END, handle_shutdown},
        [KVM_EXIT_SYSTEM_EVENT] = {VCPU_EXIT_END, handle_shutdown},
        [KVM_EXIT_INTERNAL_ERROR] = {VCPU_EXIT_BROKEN, handle_internal},
        [KVM_EXIT_FAIL_ENTRY] = {VCPU_EXIT_BROKEN, handle_entry},
    };
    return reason < ARRAY_COUNT(rows) && rows[reason].handle != NULL ? &rows[reason]
                                                                     : &unknown;
}

/* True when it was an access, of which there may be more. */
static bool handle_exit(struct vcpu *vcpu)
{
    const uint64_t begin = tick_now();
    const struct exit_row *row = row_of(vcpu->run->exit_reason);
    boot_trace_reach(vcpu->events.trace, BOOT_FIRST_EXIT);
    count(vcpu, row->kind);
    row->handle(vcpu);
    counter_add(&vcpu->exits[row->kind].ticks, tick_since(begin));
    return row->kind == VCPU_EXIT_PORT || row->kind == VCPU_EXIT_MEMORY;
}

const char *vcpu_exit_name(enum vcpu_exit kind)
{
    static const char *const names[VCPU_EXIT_COUNT] = {
        [VCPU_EXIT_PORT] = "port",
        [VCPU_EXIT_MEMORY] = "memory",
        [VCPU_EXIT_INTERRUPTED] = "interrupted",
        [VCPU_EXIT_AGAIN] = "again",
        [VCPU_EXIT_END] = "end",
        [VCPU_EXIT_BROKEN] = "broken",
        [VCPU_EXIT_OTHER] = "other",
    };
    REQUIRE(kind < VCPU_EXIT_COUNT);
    return names[kind];
}

uint64_t vcpu_exit_ns(const struct vcpu *vcpu, enum vcpu_exit kind)
{
    const struct tick_mark now = tick_mark_now();
    REQUIRE(kind < VCPU_EXIT_COUNT);
    return tick_ns(&vcpu->started, &now, counter_read(&vcpu->exits[kind].ticks));
}

/* KVM would rather be asked again: now and then is normal, without an end is not, as of a
 * CPU with an NMI that waits for INIT. A kick ends the nap. */
static void nap(unsigned again)
{
    static const struct timespec pause = {.tv_nsec = NAP_NS};
    if (again > AGAIN_MAX) {
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* shorter is fine */
    }
}

static void *vcpu_thread(void *context)
{
    unsigned again = 0; /* how often in a row, up to what matters */
    struct vcpu *vcpu = context;
    char name[16];
    struct err err = {0};
    atomic_store(&vcpu->thread_id, gettid());
    (void)snprintf(name, sizeof(name), "vcpu %u", vcpu->index % 1000);
    (void)pthread_setname_np(pthread_self(), name); /* for people */
    if (vcpu->events.began != NULL &&
        vcpu->events.began(vcpu->events.began_context, &err) < 0) {
        atomic_store(&vcpu->is_unfit, true);
        vcpu->events.broken(vcpu->events.context, vcpu, err.text);
    }
    while (vcpu->events.may_run(vcpu->events.context, vcpu)) {
        boot_trace_reach(vcpu->events.trace, BOOT_FIRST_RUN);
        if (ioctl(vcpu->fd, KVM_RUN, 0UL) == 0) {
            again = 0;
            (void)handle_exit(vcpu); /* the next run tells whether there is more */
        } else if (errno == EINTR || errno == EAGAIN ||
                   (errno == EFAULT && vcpu->events.gives_ram_up(vcpu->events.context))) {
            count(vcpu, errno == EINTR ? VCPU_EXIT_INTERRUPTED : VCPU_EXIT_AGAIN);
            again = errno == EAGAIN ? again + (again <= AGAIN_MAX) : 0;
            nap(again);
        } else {
            const int error = errno;
            count(vcpu, VCPU_EXIT_BROKEN);
            tell_broken(vcpu,
                        error == EFAULT
                            ? "the guest has touched memory that is not plugged, or lost"
                            : "KVM does not run the vCPU any more: error",
                        (unsigned long long)error);
        }
    }
    return NULL;
}

int vcpu_start(struct vcpu *vcpu,
               struct io_bus *bus,
               const struct vcpu_events *events,
               struct err *err)
{
    vcpu->bus = bus;
    vcpu->events = *events;
    vcpu->started = tick_mark_now();
    int r = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
    if (r != 0) {
        return err_sys(err, -r, "start the thread of vCPU %u", vcpu->index);
    }
    atomic_store(&vcpu->thread_runs, true); /* with the thread's name before it */
    return 0;
}

void vcpu_resume(struct vcpu *vcpu)
{
    /* A guest that does not use KVM's clock cannot be told. */
    (void)kvm_call_number(vcpu->fd, KVM_KVMCLOCK_CTRL, 0, "tell of a pause", NULL);
}

void vcpu_kick(struct vcpu *vcpu)
{
    /* Either it is in the guest, and the signal ends that, or it is about to enter, and
     * this makes it return at once. */
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (atomic_load(&vcpu->thread_runs)) {
        (void)pthread_kill(vcpu->thread, VCPU_KICK_SIGNAL);
    }
}

void vcpu_settle(struct vcpu *vcpu)
{
    /* An access of many bytes comes in parts: each has to be answered. EINTR says that
     * there is no more of it. */
    do {
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    } while (ioctl(vcpu->fd, KVM_RUN, 0UL) == 0 && handle_exit(vcpu));
}

void vcpu_end(struct vcpu *vcpu)
{
    if (atomic_load(&vcpu->thread_runs)) {
        vcpu_kick(vcpu);
        (void)pthread_join(vcpu->thread, NULL);
        atomic_store(&vcpu->thread_runs, false);
    }
}

static void on_kick(int number)
{
    (void)number; /* its arrival is what ends KVM_RUN */
}

void vcpu_signal_setup(void)
{
    struct sigaction kick = {.sa_handler = on_kick};
    (void)sigaction(VCPU_KICK_SIGNAL, &kick, NULL); /* cannot fail for this signal */
}
