/* The snapshots of this host as files: <state>/snapshots/<uid>/, whole under that name or
 * not there.
 *
 *     <uid>.new --finish--> <uid> --remove--> <uid>.new --> gone
 *         `--abandon, sweep--> gone
 *
 * In it: `memory` (vmm/snapshot_file.h), disk-<name><tail> (copies of a VM's disks),
 * `base` (a link to what those lie on, as in a VM's folder) and manifest.json. Steps are
 * made by different threads at different times, each durable when it returns; which comes
 * when, and when the VM stands still, is the caller's (agent/vm_snapshots.h). Shapes: a
 * folder by its path; agent/snapshot_manifest.h. Units: bytes. Threads: any, one at a
 * time for a snapshot; calls block for the disk. Ownership: all is borrowed. Errors, with
 * text: BERTH_EDISKFULL (or no room beside the reserve), BERTH_ENOTFOUND, BERTH_ECORRUPT
 * (sizes or sums do not fit), BERTH_ECLOSED (not wanted any more), -errno. Limits: those
 * of a manifest.
 */
#pragma once

#include "agent/snapshot_manifest.h"
#include "agent/sparse_copy.h"

#define SNAPSHOT_STORE_FOLDER "snapshots" /* of the state folder */

/* Asks for room for so many bytes beside the reserve, and makes <uid>.new with an empty
 * memory file: its descriptor, which is the caller's, or an error, and then nothing is
 * there. */
int snapshot_store_begin(const char *folder,
                         uint64_t uid,
                         uint64_t bytes,
                         uint64_t reserve_bytes,
                         struct err *err);
/* Names in the manifest the disks that are in a VM's folder under its tail ("": none). */
int snapshot_store_disks(const char *vm_folder,
                         struct snapshot_manifest *manifest,
                         struct err *err);
/* The disks that the manifest names, out of a VM's folder, and what they lie on. */
int snapshot_store_copy(const char *folder,
                        const struct snapshot_manifest *manifest,
                        const char *vm_folder,
                        const struct sparse_wish *wish,
                        struct err *err);
/* Sizes and sums, which it fills in; then the snapshot has its name. */
int snapshot_store_finish(const char *folder,
                          struct snapshot_manifest *manifest,
                          const struct sparse_wish *wish,
                          struct err *err);
/* Removes <uid>.new, as far as it is there. */
void snapshot_store_abandon(const char *folder, uint64_t uid);
/* Of one that is not there: 0. Killed in between it is not there. */
int snapshot_store_remove(const char *folder, uint64_t uid, struct err *err);
/* Removes what was not finished, and what was not removed to its end. */
int snapshot_store_sweep(const char *folder, struct err *err);

/* Calls visit for each that is there, until one returns an error; fault: why its manifest
 * cannot be read, or 0 with it. A folder that is missing holds none. */
int snapshot_store_each(const char *folder,
                        int (*visit)(void *context,
                                     uint64_t uid,
                                     const struct snapshot_manifest *manifest,
                                     const struct err *fault),
                        void *context,
                        struct err *err);
int snapshot_store_read(const char *folder,
                        uint64_t uid,
                        struct snapshot_manifest *ret_manifest,
                        struct err *err);
/* "<folder>/<uid>/memory" */
int snapshot_store_memory(const char *folder,
                          uint64_t uid,
                          char ret_path[ENGINE_PATH_SIZE]);
/* What its disks lie on, also of one whose manifest cannot be read; false: not known. */
bool snapshot_store_base(const char *folder,
                         uint64_t uid,
                         char ret_path[ENGINE_PATH_SIZE]);
/* Puts the disks of a snapshot in the place of a VM's, whose folder's lock the caller
 * holds. There has to be room for them beside the reserve. Until all are copied, checked
 * and durable the VM's are as they were, and so they are after an error other than -errno
 * of that last step; a call of vm_disks_settle (agent/vm_disks.h) makes good what a crash
 * left there. */
int snapshot_store_restore(const char *folder,
                           uint64_t uid,
                           const char *vm_folder,
                           uint64_t reserve_bytes,
                           const struct sparse_wish *wish,
                           struct err *err);
