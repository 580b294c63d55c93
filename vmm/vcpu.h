/* One virtual CPU: its KVM descriptor, its thread, and the loop that carries out what the
 * guest asks for.
 *
 * Shapes: `struct vcpu` belongs to the machine, which owns it and says by `struct
 * vcpu_events` what may be done with exits. A vCPU is parked (its thread waits) or runs.
 *
 *     made --start--> parked <--let run / park--> running --end--> gone
 *
 * Threads: vcpu_open, vcpu_enter_at, vcpu_await_wake, vcpu_start and vcpu_end from the
 * machine's thread, the state calls while the vCPU is parked. vcpu_kick from any thread.
 * Callbacks come on the vCPU's thread. Errors: -errno with text; a vCPU that KVM cannot
 * run any more tells by `broken`, once, and parks.
 */
#pragma once

#include "base/err.h"
#include "vmm/boot_linux.h"
#include "vmm/boot_trace.h"
#include "vmm/counter.h"
#include "vmm/cpu_model.h"
#include "vmm/io_bus.h"
#include "vmm/kvm_calls.h"
#include "vmm/tick.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define VCPU_KICK_SIGNAL SIGRTMIN
#define VCPU_REASON_SIZE 160

/* Why KVM came back. What the kernel does by itself (interrupts, halts, doorbells) does
 * not come here: kvm_stats.h. */
enum vcpu_exit {
    VCPU_EXIT_PORT = 0,
    VCPU_EXIT_MEMORY,
    VCPU_EXIT_INTERRUPTED, /* by a kick */
    VCPU_EXIT_AGAIN,       /* KVM would be asked again */
    VCPU_EXIT_END,         /* the guest's CPU shut down */
    VCPU_EXIT_BROKEN,      /* KVM cannot go on */
    VCPU_EXIT_OTHER,       /* nothing was to be done */
    VCPU_EXIT_COUNT
};

struct vcpu_exits {
    struct counter count;
    struct counter ticks; /* that what was done about them took (tick.h) */
};

struct vcpu;

struct vcpu_events {
    /* The thread's first act: 0, or it is broken, and unfit for good. May be NULL. */
    int (*began)(void *context, struct err *err);
    /* Waits while the machine does not run; false: the thread is to end. */
    bool (*may_run)(void *context, struct vcpu *vcpu);
    /* The guest's CPU shut down (a triple fault). */
    void (*shutdown)(void *context, struct vcpu *vcpu);
    /* It cannot go on; the reason in words. */
    void (*broken)(void *context, struct vcpu *vcpu, const char *reason);
    /* Whether RAM that KVM could not reach is being given up, for the guest to begin
     * anew or to end: then that breaks nothing. */
    bool (*gives_ram_up)(void *context);
    struct boot_trace *trace; /* NULL: nobody looks */
    void *context;
    void *began_context;
};

struct vcpu {
    unsigned index;
    int fd;
    int stats_fd; /* what KVM counts of it (kvm_stats.h); -1: nothing */
    struct kvm_run *run;
    size_t run_bytes;
    struct io_bus *bus;
    struct vcpu_events events;
    pthread_t thread;
    atomic_bool thread_runs; /* whoever kicks may be another thread */
    atomic_int thread_id;    /* of the kernel; 0 before it began */
    atomic_bool is_unfit;    /* its thread could not begin: it runs no guest */
    struct vcpu_exits exits[VCPU_EXIT_COUNT]; /* counted by its thread */
    struct tick_mark started;                 /* before any of them */
};

/* What CPUs of this level are like on this host: what KVM can do, as far as the level
 * goes (cpu_model.h). */
int vcpu_table_make(int kvm_fd,
                    enum cpu_level level,
                    struct cpu_table *ret_table,
                    struct err *err);
/* Makes it in the VM and gives it its CPUID table and the MSRs that firmware would have
 * set. On failure nothing is left. */
int vcpu_open(struct vcpu *vcpu,
              int kvm_fd,
              int vm_fd,
              unsigned index,
              const struct cpu_table *table,
              struct err *err);
void vcpu_close(struct vcpu *vcpu);
/* The boot CPU begins as the loader says; the others wait for it to wake them. */
int vcpu_enter_at(struct vcpu *vcpu, const struct boot_entry *entry, struct err *err);
/* A vCPU that never ran begins to wait for another to wake it (INIT, start-up IPI): what
 * the guest may have sent to it by now is forgotten. Its clocks go on. */
int vcpu_await_wake(struct vcpu *vcpu, struct err *err);
/* The thread begins; bus and events are borrowed until vcpu_end. */
int vcpu_start(struct vcpu *vcpu,
               struct io_bus *bus,
               const struct vcpu_events *events,
               struct err *err);
/* Tells the guest's clock that it stood still, so that nobody there takes the time for a
 * lockup. Before it runs. */
void vcpu_resume(struct vcpu *vcpu);
/* Makes the vCPU leave the guest and ask may_run again. */
void vcpu_kick(struct vcpu *vcpu);
const char *vcpu_exit_name(enum vcpu_exit kind);
/* What was done about exits of a kind has taken so long; any thread. */
uint64_t vcpu_exit_ns(const struct vcpu *vcpu, enum vcpu_exit kind);
/* Lets KVM finish the access that the last exit was about, so that the registers are
 * whole. On the vCPU's own thread, before it parks. */
void vcpu_settle(struct vcpu *vcpu);
/* Joins the thread: may_run must return false by now. */
void vcpu_end(struct vcpu *vcpu);
/* Blocks the kick signal's default action for the process; once, before any vCPU. */
void vcpu_signal_setup(void);
