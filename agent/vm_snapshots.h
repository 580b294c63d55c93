/* Snapshots of this host's VMs: made, kept, removed, and put in the place of a VM's
 * disks.
 *
 *     begin --save--> copy --cont--> finish --> ready --remove--> deleting --> gone
 *       \--------------\--------------\--> abandon --> failed --remove--> gone
 *
 * The inside of vm_supervisor_snapshot_* and of a start with `restore`. begin, copy,
 * finish and abandon are a thread's (agent/snapshot_store.h); save is the engine's; the
 * VM stands still from save to cont and for nothing else. One is made at a time, so that
 * no VM stands still because another one's disks are read. Each step may be the last one
 * of a daemon: what has no name yet is swept by the next, and a VM that nobody wants to
 * stand still goes on (vm_entry_care).
 *
 * Shapes: `struct vm_snapshots` is the set, a part of the supervisor. Threads: the
 * loop's, but for the jobs. Ownership: the set's. Errors: those of the store. Limits:
 * HOST_SNAPSHOTS_MAX; more are refused.
 */
#pragma once

#include "agent/vm_supervisor.h"

struct vm_entry;
struct vm_snapshots;

/* Finds what is there, and sweeps the rest; folder: <state>/snapshots. */
struct vm_snapshots *
vm_snapshots_open(struct vm_supervisor *supervisor, const char *folder, struct err *err);
/* Gives up what is made, so that its VM goes on, and waits for that. Accepts NULL;
 * returns NULL. */
struct vm_snapshots *vm_snapshots_close(struct vm_snapshots *snapshots);

/* Of a VM that is being saved: it stands still; the engine has saved it, or not; it has
 * ended, or is asked to. */
void vm_snapshots_paused(const struct vm_entry *vm);
void vm_snapshots_saved(const struct vm_entry *vm, const struct err *why);
void vm_snapshots_ended(const struct vm_entry *vm, const char *reason);
void vm_snapshots_give_up(const struct vm_entry *vm);

/* Readies the disks of a run that is to begin from a snapshot, and completes its order.
 * 1: under way, snapshots_changed asks for it again; 0: they are the snapshot's; an
 * error: they are what they were. vm_folder is there. */
int vm_snapshots_restore(struct vm_snapshots *snapshots,
                         struct vm_order *order,
                         const char *vm_folder,
                         struct err *err);
/* Looks again at what could not be read: a disk that did not answer says nothing of a
 * snapshot. */
void vm_snapshots_look(struct vm_snapshots *snapshots);
/* Are a snapshot's disks on their way into the VM's folder, or there for its start? False
 * also before the set is open. */
bool vm_snapshots_is_restoring(const struct vm_snapshots *snapshots, uint64_t vm);
/* The run has begun: nothing is remembered of that any more. */
void vm_snapshots_restored(struct vm_snapshots *snapshots, uint64_t vm);
