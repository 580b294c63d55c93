/* Saves a machine that stands still into a file, while its owner goes on answering.
 *
 *     none --begin--> active --> completed / failed / cancelled --begin--> active ...
 *        \--await--> setup --go--/                     \--await--> setup ...
 *
 * Shapes: opaque `struct vmm_snapshot`, for one save after the other. Devices and vCPUs
 * are taken at once by begin; disks are made durable, and RAM and the file
 * (snapshot_file.h) are written, by a thread of its own. Until it is done the machine has
 * to stand still: that is for the owner to see to, and where it takes a while
 * (machine_pause) the save is set up, by await, until it does. Threads: the poller's;
 * `done` comes from the poller. Ownership: machine and poller are borrowed, the
 * descriptor is taken. Errors: of begin, at once and nothing has begun; of the rest, in
 * the report.
 */
#pragma once

#include "base/err.h"
#include "vmm/machine.h"
#include "vmm/poller.h"

#include <stdbool.h>
#include <stdint.h>

enum vmm_snapshot_status {
    VMM_SNAPSHOT_NONE = 0,
    VMM_SNAPSHOT_SETUP,
    VMM_SNAPSHOT_ACTIVE,
    VMM_SNAPSHOT_COMPLETED,
    VMM_SNAPSHOT_FAILED,
    VMM_SNAPSHOT_CANCELLED,
    VMM_SNAPSHOT_STATUS_COUNT
};

struct vmm_snapshot_events {
    /* The first act of the thread: 0, or why the save fails. May be NULL. */
    int (*thread_began)(void *context, struct err *err);
    void *thread_context;
    void (*done)(void *context, enum vmm_snapshot_status status);
    void *context;
};

struct vmm_snapshot_report {
    enum vmm_snapshot_status status;
    uint64_t total_bytes;   /* of RAM */
    uint64_t seen_bytes;    /* of it, so far */
    uint64_t written_bytes; /* of those; the rest is zeros */
    uint64_t took_ms;       /* so far, or in all */
    struct err err;         /* of one that failed */
};

struct vmm_snapshot;

int vmm_snapshot_new(struct poller *poller,
                     const struct vmm_snapshot_events *events,
                     struct vmm_snapshot **ret_snapshot,
                     struct err *err);
/* BERTH_EBUSY while one is active. Takes the descriptor on success. */
int vmm_snapshot_begin(struct vmm_snapshot *snapshot,
                       struct machine *machine,
                       int take_fd,
                       struct err *err);
/* The same of a machine that does not stand still yet: vmm_snapshot_go begins it. */
int vmm_snapshot_await(struct vmm_snapshot *snapshot,
                       struct machine *machine,
                       int take_fd,
                       struct err *err);
/* Begins what was set up: true when it is active. When that fails the save has, and done
 * tells, as of one that was cancelled. */
bool vmm_snapshot_go(struct vmm_snapshot *snapshot);
/* Has the active one end soon, but not before the disk that is being flushed, or the one
 * that was set up; done tells when it has. */
void vmm_snapshot_cancel(struct vmm_snapshot *snapshot);
/* Set up or active. */
bool vmm_snapshot_is_active(const struct vmm_snapshot *snapshot);
void vmm_snapshot_report(const struct vmm_snapshot *snapshot,
                         struct vmm_snapshot_report *ret_report);
/* Cancels, and waits for it, a disk that is being flushed too. NULL is fine; returns
 * NULL. */
struct vmm_snapshot *vmm_snapshot_free(struct vmm_snapshot *snapshot);
