/* The disks in a VM's folder, from one run to the next: disk-<name>.* as the engines make
 * them, and `base`, a link to the image's disk that they lie on.
 *
 * An engine uses disks that it finds and makes those that are missing; which of the two a
 * run gets is decided here, before it starts. Threads: any; the caller holds the folder's
 * lock (agent/vm_lock.h) for vm_disks_renew. Errors: -errno with text.
 */
#pragma once

#include "agent/engine.h"
#include "base/err.h"

#include <stdbool.h>

/* The next run makes new disks: those that are there go. image_disk: what the new ones
 * lie on; "": on none. */
int vm_disks_renew(const char *folder, const char *image_disk, struct err *err);
/* The image's disk that the disks lie on; false when they lie on none, or nobody noted.
 */
bool vm_disks_base(const char *folder, char ret_path[ENGINE_PATH_SIZE]);
