/* The vCPUs of a machine: made together, and together they run and stand still.
 *
 *     made --start--> parked <--hold and wait / go--> running --end--> gone
 *
 * All that there may ever be are made at once, for later nobody may: those that are not
 * plugged stay parked, at the cost of a thread that sleeps. One that is plugged runs with
 * the others from then on, and waits in KVM for the guest to wake it.
 *
 * Shapes: `struct machine_cpus` is a part of the machine; fields private below. Sets have
 * a bit for each vCPU. Threads: the machine's, but for machine_cpus_may_run (a vCPU's
 * own), machine_cpus_hold and what is plugged (any). Ownership: vCPUs, their threads,
 * their CPUID table and the states that they had after power-on. Errors: -errno with the
 * vCPU's text; what has been made by then stays for machine_cpus_fini. Limits:
 * MACHINE_CPUS_MAX.
 */
#pragma once

#include "base/err.h"
#include "vmm/cpu_model.h"
#include "vmm/io_bus.h"
#include "vmm/machine_layout.h"
#include "vmm/vcpu.h"
#include "vmm/vcpu_state.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct machine_cpus {
    struct vcpu vcpus[MACHINE_CPUS_MAX];
    unsigned count;
    struct cpu_table *table;        /* what they are like; owned */
    struct vcpu_state *first_state; /* of each, after power-on; owned */
    pthread_mutex_t lock;
    pthread_cond_t moves;  /* they may run, or are to end */
    pthread_cond_t stands; /* one more is parked */
    atomic_bool wants_run; /* written under lock */
    atomic_ullong plugged; /* a set; the same */
    bool ending;           /* guarded by lock */
    unsigned parked;       /* guarded by lock */
};

/* Whether a machine may have so many, and be given so many more: 0 or BERTH_EINVALID. */
int machine_cpus_check(unsigned count, unsigned plug_count, struct err *err);
/* Has no vCPU yet. */
void machine_cpus_init(struct machine_cpus *cpus);
/* Makes `count` of them in the VM, of which the first plugged_count are plugged. */
int machine_cpus_make(struct machine_cpus *cpus,
                      int kvm_fd,
                      int vm_fd,
                      enum cpu_level level,
                      unsigned count,
                      unsigned plugged_count,
                      struct err *err);
/* Starts their threads, which park; fine when they are started. Bus and events are
 * borrowed until machine_cpus_end. */
int machine_cpus_start(struct machine_cpus *cpus,
                       struct io_bus *bus,
                       const struct vcpu_events *events,
                       struct err *err);
/* Ends the threads. */
void machine_cpus_end(struct machine_cpus *cpus);
/* After machine_cpus_end; also what was never made. */
void machine_cpus_fini(struct machine_cpus *cpus);

/* For vcpu_events: parks the vCPU until it may run; false: its thread is to end. */
bool machine_cpus_may_run(struct machine_cpus *cpus, struct vcpu *vcpu);
/* Plugs one: BERTH_EFULL when all are, BERTH_ENOTFOUND when there is no such one,
 * BERTH_EEXISTS when it is; on failure nothing has changed. */
int machine_cpus_plug(struct machine_cpus *cpus, unsigned index, struct err *err);
/* While all are parked: these are plugged, and no others. */
void machine_cpus_set_plugged(struct machine_cpus *cpus, uint64_t plugged);
uint64_t machine_cpus_plugged(const struct machine_cpus *cpus);
bool machine_cpus_is_plugged(const struct machine_cpus *cpus, unsigned index);
/* Tells all to park. False when they end, and then nobody is told. */
bool machine_cpus_hold(struct machine_cpus *cpus);
/* Returns when all are parked, after machine_cpus_hold. */
void machine_cpus_wait(struct machine_cpus *cpus);
/* Lets them run: their clocks are told that they stood still. */
void machine_cpus_go(struct machine_cpus *cpus);
/* As after power-on, while parked. BERTH_EPHASE when one is unfit. */
int machine_cpus_reset(struct machine_cpus *cpus, struct err *err);
