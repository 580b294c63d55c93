/* The disks in a VM's folder, from one run to the next: disk-<name>.* as the engines make
 * them, and `base`, a link to the image's disk that they lie on.
 *
 * Disks of a snapshot come into the folder by a folder of their own in it, which is
 * renamed when all are there: from then on they are the VM's.
 *
 * What is of no use any more is moved aside under a name of its own, for the removal of a
 * large file may take seconds, and a run may begin meanwhile: vm_disks_sweep removes it.
 *
 * An engine uses disks that it finds and makes those that are missing; which of the two a
 * run gets is decided here, before it starts. Threads: any; the caller holds the folder's
 * lock (agent/vm_lock.h) for all but vm_disks_base and the sweeps. Errors: -errno with
 * text.
 */
#pragma once

#include "agent/engine.h"
#include "base/err.h"
#include "base/work_pool.h"

#include <stdbool.h>

#define VM_DISKS_PREFIX       "disk-"
#define VM_DISKS_BASE         "base"
#define VM_DISKS_RESTORED     "restored" /* whole; to be put in place */
#define VM_DISKS_RESTORED_NEW "restored.new"
#define VM_DISKS_GONE         "gone-" /* to be swept; a number follows */

/* The next run makes new disks: those that are there go. image_disk: what the new ones
 * lie on; "": on none. */
int vm_disks_renew(const char *folder, const char *image_disk, struct err *err);
/* The image's disk that the disks lie on; false when they lie on none, or nobody noted.
 */
bool vm_disks_base(const char *folder, char ret_path[ENGINE_PATH_SIZE]);
/* Puts the disks that lie, whole and durable, in RESTORED_NEW in the place of those that
 * are there. Killed in between, either all of the old ones are there, or vm_disks_settle
 * puts the rest in place: no run gets some of each. */
int vm_disks_replace(const char *folder, struct err *err);
/* Before any run: ends what a crash has cut off of that, or removes what was not whole.
 */
int vm_disks_settle(const char *folder, struct err *err);
/* Removes what was moved aside, now or before a crash, and what it can; the rest is left
 * to the next sweep. May take long. */
void vm_disks_sweep(const char *folder);
/* Likewise by a thread of the pool, where there is anything. From the loop. */
void vm_disks_sweep_by(struct work_pool *pool, const char *folder);
