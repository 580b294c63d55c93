/* What still runs for a VM, found without believing its record: the process that the
 * record names, whatever is in the VM's control group, and whatever works in its folder
 * or, because it has left for a root of its own, still holds the folder's lock.
 *
 * A VM may be reported as ended only when this says that nothing is left; when it cannot
 * tell, nobody can. Shapes: `struct vm_remains` is a value that borrows. Threads: any;
 * nothing is remembered. Cost: one walk over /proc, tens of microseconds for each hundred
 * processes. Errors: -errno when /proc or the group cannot be read.
 */
#pragma once

#include "agent/resource_groups.h"
#include "agent/vm_process.h"

struct vm_remains {
    struct resource_groups *groups; /* may be NULL */
    uint64_t uid;
    const char *folder;                         /* the VM's, absolute */
    const struct vm_process_identity *identity; /* may be NULL, or its pid 0: not known */
};

/* Sends a signal (0: none) to everything that is left: 1 when there is something, 0 when
 * nothing runs, -errno when that cannot be told. SIGKILL needs a second call to see that
 * it was obeyed. */
int vm_remains_signal(const struct vm_remains *remains, int signal_number);
