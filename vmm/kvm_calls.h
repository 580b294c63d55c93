/* KVM's ioctls with their failures in words; the one door to <linux/kvm.h> for the
 * machine.
 *
 * Shapes: a call names what it is for; its error reads "KVM: create a vCPU: no memory".
 * Threads: as KVM says: vCPU calls from the vCPU's own thread, or while it does not run.
 * Errors: -errno with text; BERTH_EUNSUPPORTED when this KVM lacks what the machine needs
 * (kvm_check says what).
 */
#pragma once

#include "base/err.h"

#include <linux/kvm.h>

/* One ioctl: its result (>= 0) or -errno. Interrupted calls are made again; so this is
 * not for KVM_RUN. */
int kvm_call(int fd,
             unsigned long request,
             const void *argument,
             const char *what,
             struct err *err);
/* As above for ioctls that take a number. */
int kvm_call_number(int fd,
                    unsigned long request,
                    unsigned long number,
                    const char *what,
                    struct err *err);
/* Is the descriptor a KVM with all that the machine is built on? 0 or an error. */
int kvm_check(int kvm_fd, struct err *err);
