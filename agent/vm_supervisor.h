/* The VMs of this host: from what is wanted to what is seen, one state machine each, safe
 * across restarts of the daemon.
 *
 * Every VM has a folder <state>/vms/<uid>/ and in it record.json, written atomically
 * *before* a process runs: highest epoch seen, epoch of the run, engine, pid, /proc start
 * time, boot id, and what it runs. A thread of the supervisor's writes the records, in
 * order: a process waits at its gate for the one that names it, the loop for none. So a
 * restarted daemon finds its VMs again: it scans the folder, verifies each process, and
 * takes it over or reports it gone. kill -9 of the daemon does not disturb a VM. A VM is
 * reported as ended only when nothing of it runs: where the record is damaged, or its
 * process has gone but others are left, those are killed first (agent/engine_remains.h);
 * until then its report says `alive`, at epoch 0 when that is not known. One that cannot
 * be taken over for lack of memory or descriptors is tried again, and one whose engine is
 * not here any more stays under the lease.
 *
 * One epoch, one run: an action whose epoch is below the highest seen is BERTH_ESTALE;
 * starting an epoch that has ended here is BERTH_EPHASE; repeating an action that is
 * under way or done is 0.
 *
 *     IDLE -> STARTING -> HELD -> RUNNING <-> READY
 *                |          |        |          |
 *                v          v        v          v
 *              ENDED <---- STOPPING <-----------+
 *
 * HELD waits for vm_supervisor_cont; any state -> ENDED when the process ends.
 *
 * The phase reported upward is the model's: STARTING (also while held), RUNNING, READY,
 * STOPPING, STOPPED (our stop, or the guest powered off), FAILED (all else, with the
 * reason and the last line of engine log or console).
 *
 * Self-fencing: before a VM that obeys the lease runs, the fence (fence/README.md) has
 * taken it under watch; if it does not, the VM is not started, and where the fence is out
 * of reach its process waits at the gate for it a while. Beside it freeze and kill
 * work by signals through pidfds, in one pass over all VMs, without a word from the
 * engines. A frozen VM is SIGSTOPped as a process; a VM that is not yet running stays
 * held until it is thawed.
 *
 * Shapes: opaque `struct vm_supervisor`; `struct vm_order` (what to run) and `struct
 * vm_report` (what is seen) are values. Threads: the loop's. Callbacks never run inside a
 * call, and may call back in. Ownership: close leaves the VMs running. Errors:
 * BERTH_ESTALE, BERTH_EPHASE, BERTH_ENOTFOUND, BERTH_EFULL, BERTH_EINUSE (an earlier run
 * is being ended: ask again), BERTH_ECORRUPT, BERTH_EUNSUPPORTED (engine), -errno from
 * the state folder. Limits: VM_SUPERVISOR_VMS_MAX.
 */
#pragma once

#include "agent/engine.h"
#include "agent/fence_client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VM_SUPERVISOR_VMS_MAX 4096u
#define VM_SUPERVISOR_REASON  512u
/* How long the epoch of a forgotten VM is remembered, and how many are at most (the
 * oldest go first: at one VM a second after four hours, and each has a folder): far
 * longer than any message lives. */
#define VM_SUPERVISOR_EPOCHS_MS  (UINT64_C(24) * 3600 * 1000)
#define VM_SUPERVISOR_EPOCHS_MAX 16384u

struct vm_order {
    struct engine_vm vm; /* folder is filled in by the supervisor */
    uint64_t disk_epoch; /* with the disks of that run, the last one here; 0: new ones */
    uint64_t restore;    /* from that snapshot, with its disks; 0: it boots */
    enum engine engine;  /* AUTO: engine_choose decides */
    bool fenced; /* may be restarted elsewhere: obeys the lease (model.md rule 2) */
    uint64_t stop_grace_ms;
    /* Readiness; port 0: running is ready. path "" connects only. */
    uint32_t probe_address;
    uint32_t probe_port;
    char probe_path[256];
    uint64_t probe_every_ms;
    uint64_t probe_timeout_ms;
    uint32_t probe_pass;
    uint32_t probe_fail;
};

/* Copies the template's part: machine, probe, grace, fenced. */
int vm_order_set_machine(struct vm_order *order,
                         const struct machine_spec *machine,
                         const char *image_cmdline,
                         struct err *err);

struct vm_report {
    uint64_t uid;
    uint64_t epoch; /* of the run (or of the last one) */
    uint64_t epoch_seen;
    enum phase phase;
    enum engine engine; /* of the run */
    bool held;          /* waits for vm_supervisor_cont */
    bool frozen;        /* by freeze */
    bool paused;        /* stands still for its user: vm_supervisor_pause */
    bool fenced;
    bool diskless;          /* the run has, or had, no disk of its own */
    bool adopted;           /* taken over from an earlier daemon */
    bool alive;             /* something runs, or may, or is about to */
    bool leaving;           /* is being forgotten, and soon gone from here */
    bool devices_due;       /* waits for vm_supervisor_devices */
    pid_t pid;              /* 0: no process, or none that is known by name */
    uint64_t since_wall_ms; /* of this phase */
    /* Boot timeline, wall ms; 0: not yet. */
    uint64_t start_wall_ms;
    uint64_t running_wall_ms;
    uint64_t ready_wall_ms;
    char name[NAME_SIZE];
    char tenant[NAME_SIZE];
    char reason[VM_SUPERVISOR_REASON];
};

/* A snapshot to be made of the run of a VM. */
struct snapshot_wish {
    uint64_t uid;
    uint64_t vm;
    uint64_t epoch;
    uint64_t bytes;       /* the most it may take */
    char name[NAME_SIZE]; /* for people, as the next */
    char tenant[NAME_SIZE];
};

struct snapshot_report {
    uint64_t uid;
    uint64_t vm;
    uint64_t epoch;
    enum snapshot_phase phase;
    uint64_t bytes;      /* that it takes here, once it is ready */
    uint32_t permille;   /* how far, while it is made */
    uint64_t at_wall_ms; /* the instant that is in it; 0: not yet */
    char reason[VM_SUPERVISOR_REASON];
};

struct vm_supervisor_config {
    struct engine_host host; /* copied */
    const char *folder;      /* state folder; vms/ is made in it; copied */
    /* Engines that can be used, NULL-terminated; borrowed for ever. */
    const struct engine_ops *const *engines;
    /* Watches the fenced VMs beside us, each before it runs; NULL: nobody does. */
    struct fence_client *fence;
    unsigned epochs_max; /* 0: VM_SUPERVISOR_EPOCHS_MAX */
    /* A phase (or held, or ready) has changed. */
    void (*changed)(void *context, const struct vm_report *report);
    /* A snapshot has, or the copy of a restore has come to an end; may be NULL. */
    void (*snapshots_changed)(void *context);
    void *context;
    uint64_t reserve_bytes; /* of the disk, kept free by snapshots */
    uint64_t upkeep_ms;     /* between looks at log sizes and old epochs; 0: 10 s */
};

struct vm_supervisor;
struct vm_stats;

/* Opens the folder and begins to adopt what it finds; `changed` follows for each VM
 * found, from the loop. NULL with *err filled. */
struct vm_supervisor *vm_supervisor_open(const struct vm_supervisor_config *config,
                                         struct err *err);
/* Lets go of all VMs, which run on, once what is to be written down is. Accepts NULL;
 * returns NULL. */
struct vm_supervisor *vm_supervisor_close(struct vm_supervisor *supervisor);

/* Starts a VM; with `hold` it stays held until vm_supervisor_cont. With a disk_epoch its
 * disks are those of that run, or it is not started: BERTH_ENOTFOUND when the last run
 * here was another one. With `restore` it goes on from a snapshot: its disks are copied
 * first, by a thread, and the VM's are as they were until all are there. Meanwhile this
 * returns 0 and the VM is reported as before; snapshots_changed asks for the same call
 * again, which starts it, or says why that cannot be. */
int vm_supervisor_start(struct vm_supervisor *supervisor,
                        const struct vm_order *order,
                        bool hold,
                        struct err *err);
int vm_supervisor_cont(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       struct err *err);
/* It has so many CPUs from now on, where its engine can add some, or else from its next
 * start on, which is told as its reason. What its process refuses is tried again, and the
 * reason stands until it is there. A run that is not up takes them later: call it again.
 * 0, BERTH_ENOTFOUND, BERTH_ESTALE. */
int vm_supervisor_cpus(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       const struct cpu_spec *cpu,
                       struct err *err);
/* The limits of its disks and NICs are those of this machine from now on, as soon as its
 * process can be told; nothing happens where they are already. */
int vm_supervisor_limit(struct vm_supervisor *supervisor,
                        uint64_t uid,
                        uint64_t epoch,
                        const struct machine_spec *machine,
                        struct err *err);
/* Of a run that was taken over: which disks and NICs it has, for the record does not say,
 * so that they are counted. Nothing else of `devices` is looked at; nothing happens where
 * they are known. */
int vm_supervisor_devices(struct vm_supervisor *supervisor,
                          uint64_t uid,
                          uint64_t epoch,
                          const struct engine_vm *devices,
                          struct err *err);
/* Its CPUs stand still, or go on, when that is not so already: for its user, whose pause
 * a stop ends. May be repeated at any time, and is to be: what cannot be done now (its
 * process is not up yet, or out of reach for a moment) is done by a later call. */
int vm_supervisor_pause(struct vm_supervisor *supervisor,
                        uint64_t uid,
                        uint64_t epoch,
                        bool paused,
                        struct err *err);
/* Powerdown; after grace_ms (UINT64_MAX: the order's own) the engine is asked to end and
 * write out the disks, and killed if it does not. */
int vm_supervisor_stop(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       uint64_t grace_ms,
                       struct err *err);
/* reason: why, for the report; copied. */
int vm_supervisor_kill(struct vm_supervisor *supervisor,
                       uint64_t uid,
                       uint64_t epoch,
                       const char *reason,
                       struct err *err);
/* As a kill, but a program that has run is asked to end and to write out its disks, and
 * killed when that takes too long (engine.h's ending_ms). At once: one that is frozen and
 * would not hear. One that is stopping ends as stopped. May be repeated. */
int vm_supervisor_end(struct vm_supervisor *supervisor,
                      uint64_t uid,
                      uint64_t epoch,
                      const char *reason,
                      struct err *err);
/* Removes an ended VM's disks and folder; its epoch is remembered a while, and what ran
 * is not run again. The disk does that in its own time: until then the VM is reported, as
 * leaving, and does not start (BERTH_EINUSE); it stays, without leaving, when that
 * failed. BERTH_EPHASE while a process is there. Missing is fine. */
int vm_supervisor_forget(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint64_t epoch,
                         struct err *err);
/* The image's disk that an ended VM's disks lie on, into ret_path: it need not be what
 * its image has now. False: on none, or the VM is not known. */
bool vm_supervisor_base(const struct vm_supervisor *supervisor,
                        uint64_t uid,
                        char ret_path[ENGINE_PATH_SIZE]);

/* A restore that is under way for this VM is not wanted any more. True: its thread is not
 * done yet, snapshots_changed follows; until then the VM's disks may still change. False:
 * there is none, and they stay as they are. */
bool vm_supervisor_restore_call_off(struct vm_supervisor *supervisor, uint64_t uid);
/* Likewise of all VMs that are not known; the VM need not have a record here. */
void vm_supervisor_restores_keep(struct vm_supervisor *supervisor,
                                 bool (*is_known)(void *context, uint64_t uid),
                                 void *context);

/* Makes a snapshot of the run that is named: one at a time, the VM stands still until
 * memory and disks are saved. May be repeated; BERTH_EBUSY: another one is being made, or
 * its VM is not up yet, to be asked again. What fails is reported as failed until it is
 * removed. */
int vm_supervisor_snapshot_make(struct vm_supervisor *supervisor,
                                const struct snapshot_wish *wish,
                                struct err *err);
/* One that is being made is given up, and its VM goes on; one that is read by a restore
 * goes when that is over. Reported as deleting until it is gone. Missing is fine. */
void vm_supervisor_snapshot_remove(struct vm_supervisor *supervisor, uint64_t uid);
/* Calls visit for each that is here, is made, has failed or goes, in no order; it must
 * not change the set. One whose manifest is damaged or missing is lost; one whose
 * manifest cannot be read is being made, with a reason and no epoch, until it can. */
void vm_supervisor_snapshots_each(const struct vm_supervisor *supervisor,
                                  void (*visit)(void *context,
                                                const struct snapshot_report *report),
                                  void *context);
/* Is it one of those? */
bool vm_supervisor_snapshot_is_here(const struct vm_supervisor *supervisor, uint64_t uid);
/* As vm_supervisor_base, of a snapshot that is ready. */
bool vm_supervisor_snapshot_base(const struct vm_supervisor *supervisor,
                                 uint64_t uid,
                                 char ret_path[ENGINE_PATH_SIZE]);

bool vm_supervisor_report(const struct vm_supervisor *supervisor,
                          uint64_t uid,
                          struct vm_report *ret_report);
/* Calls visit for each VM with a record, in no order; it must not change the set. */
void vm_supervisor_each(const struct vm_supervisor *supervisor,
                        void (*visit)(void *context, const struct vm_report *report),
                        void *context);
/* CPU use of one VM since the last call for it, in permille of its vCPUs, and memory. 0
 * or an error (BERTH_ENOTFOUND without a process, BERTH_EBUSY at the first call). */
int vm_supervisor_sample(struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint32_t *ret_cpu_permille,
                         uint64_t *ret_memory_bytes);
/* What the VM's program has counted (vm_stats.h); borrowed until the loop goes on. NULL:
 * nothing is known of it. */
const struct vm_stats *vm_supervisor_stats(const struct vm_supervisor *supervisor,
                                           uint64_t uid);

/* The console: its ring (borrowed until the VM is forgotten; NULL for an unknown VM) and
 * input. */
struct console_ring *vm_supervisor_console(struct vm_supervisor *supervisor,
                                           uint64_t uid);
int vm_supervisor_console_write(struct vm_supervisor *supervisor,
                                uint64_t uid,
                                const void *data,
                                size_t size,
                                struct err *err);

/* Lease self-fencing: concerns the VMs whose order says `fenced`; the number of processes
 * reached. freeze is repeatable; resume thaws what freeze froze. kill ends in FAILED with
 * this reason. */
unsigned vm_supervisor_freeze_all(struct vm_supervisor *supervisor);
unsigned vm_supervisor_resume_all(struct vm_supervisor *supervisor);
unsigned vm_supervisor_kill_all(struct vm_supervisor *supervisor, const char *reason);
/* Tells the fence of all of them (again). */
void vm_supervisor_watch_all(struct vm_supervisor *supervisor);
/* Is this process the VM's run of that epoch, or may it be, for all we can read? */
bool vm_supervisor_knows(const struct vm_supervisor *supervisor,
                         uint64_t uid,
                         uint64_t epoch,
                         pid_t pid);
