/* A slow disk: what it is asked to sync or to remove waits at a gate.
 *
 * The test makes the pipe and closes the gate; each byte that it writes, or its closing,
 * lets one through. What the loop's own thread syncs does not wait, and is counted: it
 * must not. Replaces fsync and unlink of the C library in the program that includes it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    atomic_bool closed;
    int pipe[2];
    atomic_uint waiting;
    atomic_uint on_loop;
    atomic_bool unlinks; /* removals wait, not what is synced */
} gate;

static inline void gate_wait(void)
{
    char byte;
    gate.waiting++;
    (void)!read(gate.pipe[0], &byte, 1);
    gate.waiting--;
}

/* In place of the C library's. */
int fsync(int fd)
{
    if (gate.closed && gettid() == getpid()) {
        gate.on_loop++;
    } else if (gate.closed) {
        gate_wait();
    }
    return (int)syscall(SYS_fsync, fd);
}

/* In place of the C library's. */
int unlink(const char *path)
{
    if (gate.unlinks && gettid() != getpid()) {
        gate_wait();
    }
    return (int)syscall(SYS_unlink, path);
}
