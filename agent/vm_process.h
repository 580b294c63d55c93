/* One VM process: started so that it outlives us, named so that it cannot be mistaken,
 * signalled through a pidfd.
 *
 * Start has two steps. vm_process_spawn makes the process and holds it at a gate, before
 * exec; the caller writes the identity down, puts it in a cgroup, and lets it through
 * with vm_process_release. If we die in between, the gate breaks and the process ends
 * without having run anything: what runs has always been written down before.
 *
 * The process is cloned by ourselves, not by uv_spawn (which knows no gate), and between
 * that and exec only async-signal-safe calls are made, because the daemon has threads. It
 * leads its own session, holds none of our descriptors but the lock and those it is
 * given, has default signals and a log file as stdout and stderr. It stays our child in
 * one respect only: we can learn its exit status. When we die, init inherits it and
 * nothing else changes; an adopted process is watched by its pidfd alone and its status
 * is unknown.
 *
 * Shapes: identity is {pid, start time, boot}; a recycled pid never matches. Threads: the
 * loop's. Ownership: *_spawn and *_adopt give an object freed by *_close, which leaves
 * the process alone (one still at the gate ends). Errors: -errno with text;
 * BERTH_ENOTFOUND when an adopted process is certainly gone, -errno when that cannot be
 * told. Limits: VM_PROCESS_LOG_MAX bytes of log are kept; VM_PROCESS_GIVEN_MAX.
 */
#pragma once

#include "base/err.h"

#include <uv.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define VM_PROCESS_LOG_MAX   (1u << 20) /* above this the log is cut to its tail */
#define VM_PROCESS_LOG_KEEP  (64u << 10)
#define VM_PROCESS_BOOT_SIZE 40
#define VM_PROCESS_LOCK_AT   4   /* where a process has its lock */
#define VM_PROCESS_GIVEN_AT  5   /* the first descriptor that is given, in the process */
#define VM_PROCESS_GIVEN_MAX 192 /* disks with bases, the queues of NICs, channels */

struct vm_process_identity {
    pid_t pid;
    uint64_t start_ticks;            /* /proc/pid/stat field 22 */
    char boot[VM_PROCESS_BOOT_SIZE]; /* /proc/sys/kernel/random/boot_id */
};

/* How a process ended; exit_status and signal_number are -1 when not known. */
struct vm_process_end {
    int exit_status;
    int signal_number;
};

struct vm_process_spec {
    const char *const *argv;
    const char *program;  /* a path, or searched in PATH; NULL: argv[0] */
    const char *folder;   /* working folder */
    const char *log_path; /* stdout and stderr, appended */
    int oom_score_adj;    /* -1000..1000 */
    bool own_pids; /* it is the first of a pid namespace, where that may be had: it sees
                      no process but its own, and ends with SIGKILL alone if it has no
                      handler */
    int lock;      /* stays open in the process for its life (agent/vm_lock.h); 0: none */
    const int *given; /* become VM_PROCESS_GIVEN_AT and on; may be closed afterwards */
    unsigned given_count;
};

struct vm_process;

/* Makes the process and holds it at the gate. NULL with *err filled. `ended` runs once,
 * from the loop. All borrowed for the call, except context. */
struct vm_process *vm_process_spawn(uv_loop_t *loop,
                                    const struct vm_process_spec *spec,
                                    void (*ended)(void *context,
                                                  const struct vm_process_end *end),
                                    void *context,
                                    struct err *err);
/* Opens the gate. A program that cannot be executed ends with status 127 and a line in
 * the log. */
int vm_process_release(struct vm_process *process, struct err *err);
/* A process that runs already. */
struct vm_process *vm_process_adopt(uv_loop_t *loop,
                                    const struct vm_process_identity *identity,
                                    void (*ended)(void *context,
                                                  const struct vm_process_end *end),
                                    void *context,
                                    struct err *err);
const struct vm_process_identity *vm_process_identity(const struct vm_process *process);
/* Sends a signal at once, through the pidfd; 0, -ESRCH or another -errno. */
int vm_process_signal(struct vm_process *process, int signal_number);
/* True when the kernel says the process is stopped (SIGSTOP) or dead. */
bool vm_process_is_stopped(const struct vm_process *process);
/* The same by pid, for a process that was verified just now. */
bool vm_process_pid_is_stopped(pid_t pid);
/* No callback afterwards; the process lives on. Accepts NULL; returns NULL. */
struct vm_process *vm_process_close(struct vm_process *process);

/* Reads /proc: 0 when that very process lives, BERTH_ENOTFOUND when it certainly does
 * not, -errno when that cannot be told. */
int vm_process_verify(const struct vm_process_identity *identity);
/* The identity of a living pid. */
int vm_process_identify(pid_t pid, struct vm_process_identity *ret_identity);
/* CPU time (user and system) so far and resident memory, from /proc. */
int vm_process_usage(const struct vm_process *process,
                     uint64_t *ret_cpu_ns,
                     uint64_t *ret_memory_bytes);
/* A line in the log, unless it is empty or not there, that the next run begins here: what
 * stands above was said by an earlier one. */
void vm_process_log_begin(const char *log_path);
/* The last line of text of this run in a log file, printable and cut to size; "" when
 * there is none. */
void vm_process_log_last_line(const char *log_path, char *ret_text, size_t size);
/* Cuts a log that has grown over VM_PROCESS_LOG_MAX to its tail. */
void vm_process_log_trim(const char *log_path);
