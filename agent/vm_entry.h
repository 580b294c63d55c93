/* One VM of this host, from the inside of the supervisor (agent/vm_supervisor.h, which
 * says what its states mean).
 *
 * Shapes: struct vm_entry is a VM with its run, struct vm_supervisor the set of them; the
 * fields are private to vm_supervisor.c (what is asked for), vm_entry.c (the run: states,
 * record, what the engine says), vm_pause.c (standing still), vm_adopt.c (VMs found at
 * the start) and vm_tombstone.c (those that were forgotten). Threads: the loop's.
 * Ownership: entries belong to the set.
 */
#pragma once

#include "agent/tombstones.h"
#include "agent/vm_record.h"
#include "agent/vm_snapshots.h"
#include "agent/vm_supervisor.h"
#include "base/list.h"
#include "base/state_machine.h"
#include "base/u64_map.h"
#include "base/work_pool.h"

enum vm_state {
    VM_IDLE = 0, /* known by its epoch only */
    VM_STARTING,
    VM_HELD,
    VM_RUNNING,
    VM_READY,
    VM_STOPPING,
    VM_ENDED,
    VM_STATE_COUNT
};

struct vm_entry {
    struct vm_supervisor *supervisor;
    struct list dirty_link; /* in supervisor->dirty when a change is to be told */
    struct state_machine machine;
    struct vm_order order; /* of the run; uid 0 in it: never run here */
    uint64_t uid;
    uint64_t epoch_seen;
    uint64_t epoch_ended;        /* of the newest run that was forgotten; 0: none */
    struct engine_run *run;      /* NULL: no process */
    struct engine_limits limits; /* that the run was told; of no meaning unless known */
    uint32_t cpus_told;          /* to its engine, or to people; 0: not known */
    bool limits_known;           /* not of a process that was taken over */
    const struct engine_ops *ops;
    struct vm_process_identity identity; /* pid 0: not spawned */
    int lock; /* of its folder, until the process has it; -1: none */
    struct console_ring *console;
    struct ready_probe *probe;
    bool hold;      /* stay held until vm_supervisor_cont */
    bool cont_sent; /* its answer is the running event */
    bool begun;     /* ran at least once */
    bool stopping;  /* a stop was asked for */
    bool killed;    /* the kill was sent */
    bool at_gate;   /* its process waits for its record and for the fence */
    bool recording; /* that record is on its way to the disk */
    bool leaving;   /* it is being forgotten: nothing of it may begin */
    bool frozen;
    bool adopted;
    bool diskless;    /* the run has none: nothing of it is to be kept */
    bool disks_used;  /* a run has run with the disks that are there, or may have */
    bool user_paused; /* its user wants it to stand still */
    bool saving;      /* a snapshot of it is made, for which it is to stand still */
    bool standing;    /* it does, for its engine was told so */
    bool heard;       /* its engine has said whether it runs, since it is ours */
    bool waiting;     /* stands still until its host's disk has room */
    bool broken;      /* its record cannot be read, and is left for people to look at */
    bool devices_due; /* nobody has said which the run has, since it was taken over */
    bool adopt_again; /* its process is only watched until it can be taken over */
    enum phase end_phase;
    uint64_t since_wall_ms, start_wall_ms, running_wall_ms, ready_wall_ms;
    uint64_t sampled_ns; /* 0: never */
    uint64_t sampled_cpu_ns;
    char reason[VM_SUPERVISOR_REASON];
    /* Why it has fewer CPUs than it is to have, or "". */
    char cpus_missing[ENGINE_REASON_SIZE];
    char kill_reason[VM_SUPERVISOR_REASON];
};

struct vm_supervisor {
    struct engine_host host;
    const struct engine_ops *const *engines;
    struct fence_client *fence; /* may be NULL */
    void (*changed)(void *context, const struct vm_report *report);
    void (*snapshots_changed)(void *context); /* may be NULL */
    void *context;
    uint64_t reserve_bytes; /* of the disk */
    struct vm_snapshots *snapshots;
    struct u64_map *vms;
    struct tombstones *tombstones;
    unsigned epochs_max; /* tombstones */
    struct list dirty;
    struct loop_post *post;
    struct work_pool *disk;     /* one thread: records, in order */
    struct work_pool *removing; /* one thread: what may take long, of what is forgotten */
    struct work_pool *making;   /* what may take long, of VMs that start: host.pool */
    struct loop_timer *upkeep;
    struct loop_timer *adopt_again; /* NULL: nothing waits for it */
    char folder[ENGINE_PATH_SIZE];  /* <state>/vms */
};

/* What has run, or ought to run. */
static inline bool vm_has_run(const struct vm_entry *vm)
{
    return vm->order.vm.uid != 0;
}

/* ---- the run (vm_entry.c) ---- */

extern const struct engine_events vm_entry_events; /* to an entry as context */
void vm_entry_fill_report(const struct vm_entry *vm, struct vm_report *ret_report);
/* A change is to be told. */
void vm_entry_mark(struct vm_entry *vm);
void vm_entry_tell_changes(void *context);
/* reason: NULL when there is none. */
void vm_entry_move(struct vm_entry *vm, enum vm_state state, const char *reason);
/* -ENAMETOOLONG */
int vm_entry_folder(const struct vm_supervisor *supervisor,
                    uint64_t uid,
                    char ret_path[ENGINE_PATH_SIZE]);
/* By the disk's thread, and in the order of the calls. For records whose loss does no
 * harm: the next start is refused or adopted anyway. */
void vm_entry_write_or_log(const struct vm_entry *vm);
void vm_entry_limit(struct vm_entry *vm, pid_t pid);
/* Has the fence watch the process, if the VM obeys the lease and there is a fence. */
int vm_entry_watch(const struct vm_entry *vm, struct err *err);
/* The fence watches it: lets it through the gate, if it waits there for that. */
void vm_entry_release(struct vm_entry *vm);
/* Lets it run when nothing holds it any more. */
void vm_entry_try_cont(struct vm_entry *vm);
void vm_entry_probe(struct vm_entry *vm);
/* Has it stand still, or go on, as is wanted; to be repeated. */
void vm_entry_care(struct vm_entry *vm);
/* News of a VM whose phase stays the same. */
void vm_entry_say(struct vm_entry *vm, const char *reason);
/* It has ended, and nothing of it runs. */
void vm_entry_end(struct vm_entry *vm, enum phase phase, const char *reason);
void vm_entry_kill(struct vm_entry *vm, const char *reason);
/* As vm_remains_signal. */
int vm_entry_signal_remains(const struct vm_entry *vm,
                            const char *folder,
                            int signal_number);

/* ---- the set (vm_entry.c) ---- */

/* NULL: it is not on this host. */
const struct engine_ops *vm_entry_engine(const struct vm_supervisor *supervisor,
                                         enum engine engine);
/* Makes a VM known; NULL when out of memory. */
struct vm_entry *
vm_entry_new(struct vm_supervisor *supervisor, uint64_t uid, enum vm_state state);
struct vm_entry *vm_entry_free(struct vm_entry *vm);
struct vm_entry *vm_entry_find(const struct vm_supervisor *supervisor, uint64_t uid);
/* The next VM, or NULL at the end; *cursor starts at 0. The set must not change
 * meanwhile. */
struct vm_entry *vm_entry_next(const struct vm_supervisor *supervisor, size_t *cursor);

/* ---- VMs found at the start (vm_adopt.c) ---- */

int vm_adopt_all(struct vm_supervisor *supervisor, struct err *err);

/* ---- forgotten VMs (vm_tombstone.c) ---- */

/* 0 or -ENOMEM; makes room among the oldest when there are too many. */
int vm_tombstone_put(struct vm_supervisor *supervisor,
                     uint64_t uid,
                     const struct tombstone *given);
void vm_tombstone_remove(struct vm_supervisor *supervisor, uint64_t uid);
bool vm_tombstone_is_old(const struct vm_supervisor *supervisor, uint64_t since_wall_ms);
void vm_tombstones_prune(struct vm_supervisor *supervisor);
/* Has the disk's thread write down what is remembered of an ended VM, and another one
 * remove all else of it; then it is gone from the set. When that fails it stays, as it
 * was. */
int vm_entry_bury(struct vm_entry *vm, uint64_t epoch, struct err *err);
/* Everything in a VM's folder but its record; nobody may hold its lock. Any thread. */
void vm_folder_empty(const char *folder);
