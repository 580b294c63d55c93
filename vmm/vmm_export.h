/* Writes what a disk holds into a raw file of the host, for whoever wants to have it
 * elsewhere: berth-vmm --export-disk, beside no machine that runs.
 *
 * The guest that filled the disk may have broken into its process and written the overlay
 * itself, so it is read by a process of its own behind the walls of vmm_walls.h and with
 * the rights of vmm_rights.h that a copy takes; it has nothing but the files, and stays
 * the caller's user. The file is new, as large as the disk, sparse, durable and whole, or
 * not there: until then it is FILE.part, which stays when whoever copies is killed.
 * Whoever calls holds the VM's lock, or knows that it does not run. Threads: before there
 * are any. Errors: -errno and those of disk_overlay.h, with text.
 */
#pragma once

#include "base/err.h"
#include "vmm/vmm_options.h"

int vmm_export_disk(const struct vmm_export_option *option, struct err *err);
