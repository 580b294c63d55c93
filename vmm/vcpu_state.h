/* All that makes up a vCPU between two instructions, in the order in which KVM wants it.
 *
 * Shapes: `struct vcpu_state` is a plain value but for its MSRs, which it owns. Taken
 * from a parked vCPU, applied to a parked vCPU of the same CPUID table. The order of both
 * is a table in vcpu_state.c with the reason for each place. A timer
 * that has gone off while the vCPU was parked is due again in the state. An MSR that KVM
 * does not take is logged, the first VCPU_REFUSALS_LOGGED times. Threads: none
 * may run the vCPU meanwhile. Errors: -errno with the step that failed. Limits:
 * VCPU_MSRS_MAX.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/kvm_calls.h"

#include <stdbool.h>
#include <stdint.h>

#define VCPU_MSRS_MAX        512u
#define VCPU_REFUSALS_LOGGED 32u   /* of a process: each reset of a guest applies again */
#define VCPU_XSAVE_BYTES     4096u /* all but AMX, which nobody is given */

struct vcpu_state {
    struct kvm_mp_state mp_state;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    uint8_t xsave[VCPU_XSAVE_BYTES]; /* a struct kvm_xsave */
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
    uint32_t msr_count;
    struct kvm_msr_entry *msrs; /* owned */
};

int vcpu_state_take(struct vcpu_state *ret_state,
                    int vcpu_fd,
                    int kvm_fd,
                    struct err *err);
/* The first of a machine's CPUs leads: its time stamp counter is set, whatever it was,
 * and those of the others, within a second of it, then go with it. */
int vcpu_state_apply(const struct vcpu_state *state,
                     bool leads,
                     int vcpu_fd,
                     struct err *err);
void vcpu_state_fini(struct vcpu_state *state);
/* As a section of a saved machine (state_stream.h), and back: BERTH_ECORRUPT and nothing
 * to fini when it does not fit. */
void vcpu_state_write(const struct vcpu_state *state, struct bytes_writer *writer);
int vcpu_state_read(struct vcpu_state *ret_state,
                    struct bytes_reader *reader,
                    struct err *err);
