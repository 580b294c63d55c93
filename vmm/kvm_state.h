/* What KVM keeps for the VM as a whole: its clock and its interrupt controllers.
 *
 * Shapes: `struct kvm_state` is a plain value, taken while no vCPU runs, applied before
 * one does. The guest's clock stands still with no guest to see it, so whoever applies it
 * says what time it is, and the clock is put forward by what has passed: the guest then
 * finds its wall clock right. Units: nanoseconds of the guest's clock, milliseconds of
 * the host's wall clock. Threads: as kvm_calls.h says. Errors: -errno with the step that
 * failed; BERTH_ECORRUPT for bytes that do not fit.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/kvm_calls.h"

#include <stdint.h>

#define KVM_CHIPS 3u /* two PICs, one I/O APIC */

struct kvm_state {
    uint64_t clock_ns;
    uint64_t wall_ms; /* when it was that */
    struct kvm_irqchip chips[KVM_CHIPS];
};

int kvm_state_take(struct kvm_state *ret_state,
                   int vm_fd,
                   uint64_t wall_ms,
                   struct err *err);
/* The chips first, before devices; the clock last, before the guest runs. */
int kvm_state_apply_chips(const struct kvm_state *state, int vm_fd, struct err *err);
int kvm_state_apply_clock(const struct kvm_state *state,
                          int vm_fd,
                          uint64_t wall_ms,
                          struct err *err);
/* What the guest's clock is to show now. A host whose wall clock is behind the saved one
 * does not turn it back. */
uint64_t kvm_state_clock_at(const struct kvm_state *state, uint64_t wall_ms);
void kvm_state_write(const struct kvm_state *state, struct bytes_writer *writer);
int kvm_state_read(struct kvm_state *ret_state,
                   struct bytes_reader *reader,
                   struct err *err);
