/* The end of all VMs of a host whose daemon does not run.
 *
 * Their programs are asked to end, all at once, and write out what they hold of their
 * disks; those that are left when ask_ms is over, or that could not hear, are killed. No
 * guest is asked: it finds what it wrote, as after a loss of power. Units: ms. Threads:
 * the loop's, which is turned here until no VM is left. Ownership: supervisor and loop
 * are borrowed. Errors: BERTH_ETIMEOUT with text: some are left after VMS_END_KILL_MS of
 * kills. Limits: ask_ms + VMS_END_KILL_MS.
 */
#pragma once

#include "agent/vm_supervisor.h"
#include "base/err.h"

#include <uv.h>

#include <stdint.h>

#define VMS_END_KILL_MS 10000

/* ask_ms 0: all are killed at once, whatever they hold. */
int vms_end(uv_loop_t *loop,
            struct vm_supervisor *supervisor,
            uint64_t ask_ms,
            struct err *err);
