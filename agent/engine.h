/* An engine runs one VM as one process: the table of what it must be able to do.
 *
 * Shapes: `struct engine_vm` says what to run (a plain value: copy it freely); `struct
 * engine_ops` is one engine (engine_qemu.h, engine_fake.h); `struct engine_run` is one VM
 * process under our hand, made by start or adopt. What happens is told by `struct
 * engine_events`:
 *
 *     start --> spawned --> held --cont--> running <-> waiting --> exited
 *                  \----------\---------------\-----------------------^  exactly once,
 * last adopt --> held or running --> exited
 *
 * `spawned` comes while the process still waits at the gate (vm_process.h): the owner
 * writes the identity down and returns 0 to let it through, an error to give up, or
 * ENGINE_AT_GATE to keep it there until `release`, for ENGINE_START_TIMEOUT_MS at most.
 * Threads: the loop's. Ownership: a run belongs to its owner until close; close leaves
 * the process alone (that is how a daemon restarts). Callbacks never run inside the call
 * that caused them, and may close the run. Errors: start and adopt fill err and return
 * NULL only for faults seen at once (BERTH_EUNSUPPORTED, BERTH_EINVALID, -ENOMEM); later
 * ones arrive as `exited`. Limits: ENGINE_*; each wait on a process has a deadline
 * (ENGINE_START_TIMEOUT_MS; the stop's grace).
 */
#pragma once

#include "agent/console_ring.h"
#include "agent/resource_groups.h"
#include "agent/vm_process.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/work_pool.h"
#include "model/objects.h"

#include <uv.h>

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#define ENGINE_PATH_SIZE    512
#define ENGINE_FOLDER_MAX   90   /* "<folder>/console.sock" must fit a UNIX address */
#define ENGINE_CMDLINE_SIZE 2112 /* the image's and the template's, and a space */
#define ENGINE_REASON_SIZE  256
#define ENGINE_SERIAL_LOG   "serial.log" /* all console output, in the VM's folder */
/* From release to held, on a busy host too, and again from cont to running. */
#define ENGINE_START_TIMEOUT_MS 20000
#define ENGINE_DISK_TIMEOUT_MS  30000 /* one qemu-img create */
#define ENGINE_CALL_TIMEOUT_MS  5000  /* one QMP command */
/* A program that is asked to end writes out what it holds of its disks, behind all that
 * the host still has to write of them. */
#define ENGINE_ENDING_MS 30000
/* A full disk is emptied by people or by eviction: seconds do not matter, and a try in
 * vain costs the guest one failed write. */
#define ENGINE_WAITING_MS 5000

/* A device's rates a second, and what may come at once; 0: no limit, a second's worth. */
struct engine_limit {
    uint64_t operations;
    uint64_t operations_burst;
    uint64_t bytes;
    uint64_t bytes_burst;
};

struct engine_disk_limit {
    char name[NAME_SIZE];
    struct engine_limit limit;
};

/* Of a VM's disks by name, of its NICs by place, each way. */
struct engine_limits {
    struct engine_disk_limit disks[DISKS_MAX];
    uint32_t disk_count;
    struct engine_limit nics[NICS_MAX];
    uint32_t nic_count;
};

struct engine_nic {
    uint64_t mac;
    char tap[IFNAMSIZ];  /* exists already, named by net */
    bool tap_has_queues; /* several: found out when the engine starts */
};

struct engine_disk {
    char name[NAME_SIZE];
    uint32_t from;  /* enum disk_source */
    bool read_only; /* the image's disk, of which no other is made */
    uint64_t size_bytes;
};

struct engine_vm {
    uint64_t uid;
    uint64_t epoch;
    char name[NAME_SIZE];
    char tenant[NAME_SIZE];
    uint32_t cpu_count;
    uint32_t cpu_max; /* up to which more may come while it runs; 0: none */
    uint32_t cpu_weight;
    uint32_t cpu_baseline; /* enum cpu_baseline */
    uint64_t memory_bytes;
    bool memory_is_huge;                /* of the host's pool of huge pages */
    char kernel_path[ENGINE_PATH_SIZE]; /* "" when there is none; content-addressed */
    char initrd_path[ENGINE_PATH_SIZE];
    char disk_path[ENGINE_PATH_SIZE]; /* image disk, read only, backs overlays */
    bool disk_is_qcow2; /* else raw; by agent/disk_format.h, never by QEMU */
    char memory_path[ENGINE_PATH_SIZE]; /* of a machine saved there, which goes on with
                                           disks_are_there; "": it boots */
    bool memory_is_lazy;                /* that is read while it runs */
    char cmdline[ENGINE_CMDLINE_SIZE];
    struct engine_disk disks[DISKS_MAX];
    uint32_t disk_count;
    bool disks_are_there; /* an earlier run has run with them: none may be made anew */
    struct engine_nic nics[NICS_MAX];
    uint32_t nic_count;
    struct engine_limits limits;
    char folder[ENGINE_FOLDER_MAX + 1]; /* of this VM; filled in by vm_supervisor */
    int lock; /* of the folder, for the process to hold; likewise; borrowed; 0: none */
};

/* What a template says of the machine: CPUs, memory, disks, command line (the image's
 * first). Paths, NICs and names are the caller's. BERTH_EINVALID when the command lines
 * do not fit. */
int engine_vm_set_machine(struct engine_vm *vm,
                          const struct machine_spec *machine,
                          const char *image_cmdline,
                          struct err *err);

/* The CPUs that it may have one day. */
uint32_t engine_vm_cpus_most(const struct engine_vm *vm);
/* Whether its runs leave disks of its own behind. */
bool engine_vm_keeps_disks(const struct engine_vm *vm);

/* Folder, names, memory and CPUs: what no program could do without. 0 or BERTH_EINVALID.
 */
int engine_vm_check(const struct engine_vm *vm, struct err *err);

/* What a template says of rates. */
void engine_limits_of(const struct machine_spec *machine,
                      struct engine_limits *ret_limits);
bool engine_limits_equal(const struct engine_limits *a, const struct engine_limits *b);
bool engine_limits_are_none(const struct engine_limits *limits);

/* Why a VM is no longer there. */
enum engine_end {
    ENGINE_END_GUEST_SHUTDOWN = 0, /* the guest powered itself off */
    ENGINE_END_GUEST_PANIC,        /* the guest said so */
    ENGINE_END_GUEST_FAULT,        /* it could not even say so */
    ENGINE_END_STOPPED,            /* our stop, in time */
    ENGINE_END_KILLED,             /* our kill, or the stop's deadline */
    ENGINE_END_START_FAILED,       /* it never got to held */
    ENGINE_END_CRASHED,            /* the process ended by itself */
    ENGINE_END_GONE,               /* adopt: not there any more */
    ENGINE_END_COUNT
};
const char *engine_end_name(enum engine_end end);

struct engine_exit {
    enum engine_end end;
    bool late;      /* we ended it, since it was not held in time */
    bool unwritten; /* killed while it wrote out its disks, or it said that it could not:
                       what the guest did not flush may be missing. False of what ended
                       while no daemon was there says nothing: nobody heard */
    struct vm_process_end process;
    char reason[ENGINE_REASON_SIZE]; /* for people: what and why, one line */
};

/* Fills it: the end, and a reason made of `what` and the last line of the engine's log
 * or, when that is empty, of the console. what NULL: from the process' status. */
void engine_exit_describe(struct engine_exit *ret_exit,
                          enum engine_end end,
                          const struct vm_process_end *process,
                          const char *what,
                          const char *log_path,
                          const struct console_ring *console);

/* What `spawned` may return: the process waits on. */
#define ENGINE_AT_GATE 1

struct engine_events {
    /* At the gate: write it down. Below 0: the process is dropped and exited follows. */
    int (*spawned)(void *context, const struct vm_process_identity *identity);
    void (*held)(void *context);
    void (*running)(void *context); /* after cont, or the guest resumed */
    void (*paused)(void *context);  /* after pause or save; found so by adopt; repeated */
    /* The end of a save: code 0, and it stands still until cont. Else why not; if it was
     * not paused before it goes on, at once or by cont. */
    void (*saved)(void *context, const struct err *why);
    /* Its vCPUs stand still until its host can serve it again; `running` follows then. */
    void (*waiting)(void *context, const char *why);
    /* It goes on, but people should know. */
    void (*noted)(void *context, const char *what);
    /* It has so many CPUs now (0: not known). why NULL: all that it is to have. Else what
     * keeps the others away, and they are tried again; repeated. Of engines that plug. */
    void (*plugged)(void *context, uint32_t cpu_count, const char *why);
    void (*exited)(void *context, const struct engine_exit *exit);
};

/* What all runs of a host share; outlives them. */
struct engine_host {
    uv_loop_t *loop;
    const struct clock *clock;
    struct resource_groups *groups; /* may be NULL */
    /* Where an engine makes what may take long, which it must not on the loop; filled in
     * by vm_supervisor. Its jobs may outlive their run. */
    struct work_pool *pool;
    enum kvm_kind kvm;   /* vmm/kvm_probe.h */
    uint32_t tsc_khz;    /* of the time stamp counter; 0: not known */
    uint32_t first_uid;  /* of VMs' own users; 0: they have none */
    uint64_t start_ms;   /* from release to held; 0: ENGINE_START_TIMEOUT_MS */
    uint64_t ending_ms;  /* for a program that is asked to end; 0: ENGINE_ENDING_MS */
    uint64_t waiting_ms; /* between tries on a full disk; 0: ENGINE_WAITING_MS */
    /* Between questions to each program, and for an answer; 0: QMP_STATS_EVERY_MS,
     * QMP_STATS_TIMEOUT_MS. */
    uint64_t stats_ms;
    uint64_t stats_timeout_ms;
};

static inline uint64_t engine_host_ending_ms(const struct engine_host *host)
{
    return host->ending_ms != 0 ? host->ending_ms : ENGINE_ENDING_MS;
}

struct engine_ops;
struct vm_stats;
/* The head of every engine's own run structure. */
struct engine_run {
    const struct engine_ops *ops;
};

struct engine_sample {
    uint64_t cpu_ns; /* CPU time used since the process began */
    uint64_t memory_bytes;
};

struct engine_ops {
    const char *name; /* as in engine_names */
    enum engine engine;
    const char *disk_tail; /* of a VM's own disks, disk-<name><tail> in its folder, where
                              copies of them are as good; NULL: it has none */
    /* Can it run this VM here? 0 or BERTH_EUNSUPPORTED, BERTH_EINVALID with text. */
    int (*check)(const struct engine_host *host,
                 const struct engine_vm *vm,
                 struct err *err);
    /* Makes disks, starts the process, stops at held. console is borrowed until close. */
    struct engine_run *(*start)(const struct engine_host *host,
                                const struct engine_vm *vm,
                                struct console_ring *console,
                                const struct engine_events *events,
                                void *context,
                                struct err *err);
    /* Takes a living process over. BERTH_ENOTFOUND when it is gone. */
    struct engine_run *(*adopt)(const struct engine_host *host,
                                const struct engine_vm *vm,
                                const struct vm_process_identity *identity,
                                struct console_ring *console,
                                const struct engine_events *events,
                                void *context,
                                struct err *err);
    /* Lets a process through that `spawned` kept at the gate. 0, or an error: kill it. */
    int (*release)(struct engine_run *run, struct err *err);
    /* Lets the vCPUs run: the first time after held, later after pause. 0 or an error;
     * the answer is the event. */
    int (*cont)(struct engine_run *run, struct err *err);
    /* BERTH_EPHASE where it does not run: then a cont that its process was not told yet
     * is taken back, and one that was is followed by the event. */
    int (*pause)(struct engine_run *run, struct err *err);
    /* Pauses it, makes its disks durable and saves the rest of it into an empty file,
     * open for writing and borrowed for the call; `saved` follows. 0 or an error, and
     * then nothing follows. Both NULL: it knows no such thing. */
    int (*save)(struct engine_run *run, int fd, struct err *err);
    /* Has a save end soon; `saved` tells. */
    void (*save_cancel)(struct engine_run *run);
    /* Other limits for a VM that is there: at once, or as soon as its process can be
     * told, in place of those it was started with. What its process refuses is `noted`.
     */
    void (*limit)(struct engine_run *run, const struct engine_limits *limits);
    /* So many CPUs, for a VM that was started with places for them (cpu_max): they come
     * at once, or as soon as its process can be told and takes them; `plugged` tells.
     * None goes while it runs. NULL: other numbers are for the next start. */
    void (*plug)(struct engine_run *run, uint32_t cpu_count);
    /* Asks the guest to power off; after grace_ms it is ended as it is. Either way its
     * program is asked to end, so that it writes out its disks, and killed when that
     * takes too long (ending_ms). Repeating it may shorten the grace, never lengthen it.
     * An engine that cannot ask the guest asks its program at once, and kills it when the
     * grace, or without one ending_ms, is over. */
    void (*stop)(struct engine_run *run, uint64_t grace_ms);
    /* SIGKILL, at once; exited follows. */
    void (*kill)(struct engine_run *run);
    /* SIGSTOP or SIGCONT on the process, at once, without its help. */
    int (*freeze)(struct engine_run *run, bool frozen);
    int (*sample)(struct engine_run *run, struct engine_sample *ret_sample);
    /* What its program has counted (vm_stats.h), as far as that was told; borrowed until
     * the loop goes on. NULL: it has not run yet. May be NULL: nothing is counted. */
    const struct vm_stats *(*stats)(struct engine_run *run);
    /* Which disks and NICs one has that was taken over, where that is not known: those of
     * this VM, of which nothing else is looked at. What they count is told from now on.
     * May be NULL: nothing is counted. */
    void (*know)(struct engine_run *run, const struct engine_vm *vm);
    /* Input for the guest's console; 0, BERTH_EFULL, BERTH_ECLOSED, BERTH_EUNSUPPORTED.
     */
    int (*console_write)(struct engine_run *run, const void *data, size_t size);
    /* Lets go; the process lives on. Accepts NULL; returns NULL. */
    struct engine_run *(*close)(struct engine_run *run);
};

/* The engine of a NULL-terminated list, in order of preference, that is to run this VM
 * here: the one that is wanted, or for ENGINE_AUTO the first whose check agrees (the last
 * one asked when none does: its check says why). Never the fake, unless it is wanted.
 * NULL: it is not on this host. */
const struct engine_ops *engine_choose(const struct engine_ops *const *engines,
                                       enum engine wanted,
                                       const struct engine_host *host,
                                       const struct engine_vm *vm);
