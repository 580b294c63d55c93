/* The end of all VMs of a host whose daemon does not run.
 *
 * Their programs are asked to end, all at once, and write out what they hold of their
 * disks; those that are left when their time is over, or that could not hear, are killed.
 * No guest is asked: it finds what it wrote, as after a loss of power. Those that obey a
 * lease have no time beyond it: the fence, which still watches them, would freeze them
 * while they write, and another host may start them soon. Units: ms. Threads: the loop's,
 * which is turned here until no VM is left. Ownership: supervisor and loop are borrowed.
 * Errors: BERTH_ETIMEOUT with text: some are left after VMS_END_KILL_MS of kills. Limits:
 * the longer of both times + VMS_END_KILL_MS.
 */
#pragma once

#include "agent/vm_supervisor.h"
#include "base/err.h"

#include <uv.h>

#include <stdint.h>

#define VMS_END_KILL_MS 10000

struct vms_end_times {
    uint64_t ask_ms;    /* 0: they are killed at once, whatever they hold */
    uint64_t fenced_ms; /* likewise, of those that obey a lease */
};

/* What a lease that the fence freezes by, at freezes_ns (0: none), leaves of ask_ms; both
 * on the same clock. A kill comes before the fence, which would tell another reason. */
struct vms_end_times vms_end_times(uint64_t ask_ms, uint64_t freezes_ns, uint64_t now_ns);

int vms_end(uv_loop_t *loop,
            struct vm_supervisor *supervisor,
            const struct vms_end_times *times,
            struct err *err);
