/* What the kernel says of a process, from /proc; and which process a pidfd is.
 *
 * Shapes: `struct proc_stat` is a plain value. Units: clock ticks since boot, bytes.
 * Threads: any; nothing is allocated. Errors: -ESRCH when there is no such process (any
 * more), another -errno when /proc cannot be read.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_stat {
    char state;           /* one letter of proc(5), as in R, S, D, T, Z */
    uint64_t start_ticks; /* since boot: with the pid it names a process for good */
    uint64_t cpu_ticks;   /* user and system */
    uint64_t memory_bytes;
};

int proc_stat_read(pid_t pid, struct proc_stat *ret_stat);
/* Ended, though perhaps not reaped. */
bool proc_stat_is_dead(const struct proc_stat *stat);
/* Stopped by a signal or a tracer. */
bool proc_stat_is_stopped(const struct proc_stat *stat);
/* The pid behind a pidfd; -ESRCH: it was reaped; -EBADF: the descriptor is none. */
pid_t proc_pid_of(int pidfd);
