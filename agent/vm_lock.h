/* One process per VM folder, whatever the daemon remembers: <folder>/run.lock is locked
 * from before the VM's disks are touched until its process has ended, and holds the epoch
 * of the newest run.
 *
 * The lock belongs to the open file: the process inherits it and holds it for its life,
 * with the daemon or without. So no two engines ever have one VM's disks open, even if
 * its record was lost. Taking it is a compare-and-set: an epoch below the one that is
 * written is refused. Threads: any. Errors: BERTH_EINUSE (a process of this VM lives),
 * BERTH_ESTALE, -errno with text.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define VM_LOCK_FILE "run.lock"

/* The locked descriptor; who closes it last, this process or one that inherited it,
 * unlocks it. */
int vm_lock_take(const char *folder, uint64_t epoch, struct err *err);
/* Does a process hold it now? False also when there is no such file. */
bool vm_lock_is_held(const char *folder);
/* The epoch of the newest run; 0 when none is known. */
uint64_t vm_lock_epoch(const char *folder);
