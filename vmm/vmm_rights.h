/* Takes away what a running VM does not need, so that a guest that breaks into this
 * process finds nothing there.
 *
 * Shapes: walls are put up once everything is open, before the guest runs:
 * vmm_rights_drop for the process, then vmm_rights_thread by each thread for its role.
 * Between the two the main thread still connects devices to what is open
 * (VMM_ROLE_START); it takes that right off last. A wall that cannot be put up here (an
 * older kernel, too few rights to begin with) is named in the answer, and the caller says
 * so. System calls outside of a role's list end the process. The lists are tables in
 * vmm_rights.c.
 *
 *     no new rights   no exec or file gives any back
 *     user            one of its own, where uids are given: no other process is of it,
 *                     for its number is the first one's and that of the process
 *     bounding set    empty: dropped before the user changes, as that takes a capability
 *     capabilities    none, in no set
 *     files           no path can be opened (Landlock, and the list below)
 *     world           mounts, network, IPC and host name of its own, all empty
 *     system calls    by role, ioctls by request; no memory becomes code
 *
 * Threads: vmm_rights_drop before there are any. Errors: -errno with text for a wall that
 * must stand (no new rights, system calls).
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vmm_role {
    VMM_ROLE_MAIN = 1,  /* the poller, devices, control; may still start threads */
    VMM_ROLE_VCPU = 2,  /* the exit loop, and what devices do in answer to a register */
    VMM_ROLE_DISK = 4,  /* a worker of a disk; who writes a snapshot */
    VMM_ROLE_START = 8, /* devices are being connected; no thread keeps it */
    VMM_ROLE_LOAD = 16, /* fills RAM of a saved machine */
    VMM_ROLE_RING =
        32, /* beside one of the first two: enters a disk's ring (io_ring.h) */
    VMM_ROLE_VHOST = 128, /* the same: starts and stops the kernel's part of a NIC */
    VMM_ROLE_DIAL = 64,   /* another process: connects to sockets (vsock_dialer.h) */
};

#define VMM_MISSING_SIZE 160

/* first_uid: 0: it stays who it is. ret_missing: "files, world" of what does not stand;
 * "" when all does. */
int vmm_rights_drop(unsigned first_uid,
                    char ret_missing[VMM_MISSING_SIZE],
                    struct err *err);
/* The walls without the limit of system calls, for a process beside the machine's that
 * looks for names in the folder that it is in: that folder is its world. */
int vmm_rights_keep_folder(char ret_missing[VMM_MISSING_SIZE], struct err *err);
/* Narrows the calling thread to its role, or to several. */
int vmm_rights_thread(unsigned roles, struct err *err);
