/* KVM's own part of a machine before anything is in it: the VM, with what the CPU needs
 * at fixed places and the interrupt controllers that are in the kernel.
 *
 * Shapes: a VM is its descriptor. Units: interrupts by GSI. Threads: the machine's;
 * machine_vm_pulse any. Errors: -errno with text. Ownership: the descriptor is the
 * caller's, also after an error.
 */
#pragma once

#include "base/err.h"
#include "vmm/kvm_state.h"

/* Makes one, and takes down how its interrupt controllers are after power-on. *ret_fd is
 * -1 when there is none. */
int machine_vm_make(int kvm_fd,
                    int *ret_fd,
                    struct kvm_state *ret_first,
                    struct err *err);
/* Raises an interrupt that is edge triggered. */
void machine_vm_pulse(int vm_fd, unsigned gsi);
