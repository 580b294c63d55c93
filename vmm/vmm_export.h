/* Writes what a disk holds into a raw file of the host, for whoever wants to have it
 * elsewhere: berth-vmm --export-disk, beside no machine that runs.
 *
 * The guest that filled the disk may have broken into its process and written the overlay
 * itself, so it is read by a process of its own behind the walls of vmm_walls.h, which
 * has nothing but the files. The file is new, as large as the disk, sparse, durable and
 * whole, or not there. Whoever calls holds the VM's lock, or knows that it does not run.
 * Threads: before there are any. Errors: -errno and those of disk_overlay.h, with text.
 */
#pragma once

#include "base/err.h"
#include "vmm/vmm_options.h"

int vmm_export_disk(const struct vmm_export_option *option, struct err *err);
