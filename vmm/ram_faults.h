/* Pages of this process that are brought by hand: userfaultfd, as far as RAM needs it.
 *
 * Shapes: calls on a descriptor that ram_faults_open returned. A range that is registered
 * makes whoever touches a page that is not there wait, threads in the kernel as well;
 * each such fault is read from the descriptor (struct uffd_msg). Units: bytes, whole
 * pages. Threads: any. Ownership: the descriptor is the caller's. Errors: -errno, with
 * text where there is an err.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* Faults within the kernel count, for KVM's are those: root may have them, and who may
 * open the device. */
int ram_faults_open(struct err *err);
int ram_faults_register(int fault_fd, const uint8_t *host, uint64_t size);
/* Who waits for any of it goes on: the kernel makes what is not there. */
void ram_faults_unregister(int fault_fd, const uint8_t *host, uint64_t size);
/* The same, where there may be no room for one more mapping. */
int ram_faults_try_unregister(int fault_fd, const uint8_t *host, uint64_t size);
/* Who waits looks again. */
void ram_faults_wake(int fault_fd, const uint8_t *host, uint64_t size);
/* Places these bytes, and wakes nobody; *ret_done of them are there in any case. -EAGAIN:
 * it was disturbed. -ENOMEM: the host has none at the moment. */
int ram_faults_copy(int fault_fd,
                    uint8_t *host,
                    const uint8_t *bytes,
                    uint64_t size,
                    uint64_t *ret_done);
/* Places a page of zeros, unless it is there, and wakes who waits for it. */
void ram_faults_zero(int fault_fd, const uint8_t *host, uint64_t size);
