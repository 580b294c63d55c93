/* What must survive the daemon of one VM: record.json in the VM's folder.
 *
 * Written whole or not at all; read back with every field checked: what cannot be
 * understood is refused, never guessed, because a process may depend on it; a checksum
 * over all values tells a damaged record from one whose process has gone. Holds what
 * adoption needs, not what a start needs (no boot material; disks and NICs are named by
 * the next order). Shapes: struct vm_record is a value. Threads: any; calls block for the
 * file. Errors: BERTH_ECORRUPT with path and field; BERTH_ENOTFOUND without a file;
 * -errno. Limits: VM_RECORD_SIZE_MAX.
 */
#pragma once

#include "agent/vm_supervisor.h"

#define VM_RECORD_FILE     "record.json"
#define VM_RECORD_SIZE_MAX 16384u
#define VM_RECORD_VERSION  2u

enum vm_record_state {
    VM_RECORD_NOTED = 0, /* only its epoch is known */
    VM_RECORD_STARTING,
    VM_RECORD_RUNNING,
    VM_RECORD_STOPPING,
    VM_RECORD_STOPPED,
    VM_RECORD_FAILED,
    VM_RECORD_FORGOTTEN, /* only its epoch is kept, for a while */
    VM_RECORD_STATE_COUNT
};

struct vm_record {
    enum vm_record_state state;
    uint64_t epoch_seen;
    struct vm_order order; /* uid is the VM's; folder is not kept */
    struct vm_process_identity identity;
    bool hold;
    uint64_t since_wall_ms;
    uint64_t start_wall_ms;
    uint64_t running_wall_ms;
    bool disks_used; /* a run has run with the disks that are there */
    bool diskless;   /* the run had none; not said: it may have had some */
    bool paused;     /* by its user */
    char reason[VM_SUPERVISOR_REASON];
};

int vm_record_write(const char *folder, const struct vm_record *record, struct err *err);
int vm_record_read(const char *folder, struct vm_record *ret_record, struct err *err);
/* What vm_record_encode gave. */
int vm_record_store(const char *folder, const char *text, struct err *err);
/* The pure halves. Encoding gives text to free, NULL when out of memory. */
char *vm_record_encode(const struct vm_record *record);
int vm_record_decode(const char *text,
                     size_t size,
                     struct vm_record *ret_record,
                     struct err *err);
