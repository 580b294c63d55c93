/* What a running VM's threads may ask the kernel for, so that a guest that breaks into
 * the process finds little there. The walls around it are vmm_walls.h's.
 *
 * Shapes: vmm_rights_process once the walls stand and before the guest runs, then
 * vmm_rights_thread by each thread for its role. Between the two the main thread still
 * connects devices to what is open (VMM_ROLE_START); it takes that right off last. System
 * calls outside of a role's list end the process; ioctls are listed by request; clone
 * makes threads and nothing else; no memory becomes code. The lists are tables in
 * vmm_rights.c.
 *
 * Threads: vmm_rights_process before there are any. Errors: -errno with text.
 */
#pragma once

#include "base/err.h"

enum vmm_role {
    VMM_ROLE_MAIN = 1,  /* the poller, devices, control; may still start threads */
    VMM_ROLE_VCPU = 2,  /* the exit loop, and what devices do in answer to a register */
    VMM_ROLE_DISK = 4,  /* a worker of a disk; who writes a snapshot */
    VMM_ROLE_START = 8, /* devices are being connected; no thread keeps it */
    VMM_ROLE_LOAD = 16, /* fills RAM of a saved machine */
    VMM_ROLE_RING =
        32, /* beside one of the first two: enters a disk's ring (io_ring.h) */
    VMM_ROLE_EXPORT =
        256, /* another process, beside VMM_ROLE_DISK: a copy of a disk is made */
    VMM_ROLE_VHOST = 128, /* the same: starts and stops the kernel's part of a NIC */
    VMM_ROLE_DIAL = 64,   /* another process: connects to sockets (vsock_dialer.h) */
};

/* Narrows the process to all roles of its threads. */
int vmm_rights_process(struct err *err);
/* Narrows the calling thread to its role, or to several. */
int vmm_rights_thread(unsigned roles, struct err *err);
