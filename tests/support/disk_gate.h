/* A slow disk: what it is asked to sync or to remove waits at a gate.
 *
 * The test makes the pipe and closes the gate; each byte that it writes, or its closing,
 * lets one through. What the loop's own thread syncs does not wait, and is counted: it
 * must not. A disk that is full fails what the other threads sync, so many times.
 * Replaces fsync and unlink of the C library in the program that includes it.
 */
#pragma once

#include "support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    atomic_bool closed;
    int pipe[2];
    atomic_uint waiting;
    atomic_uint on_loop;
    atomic_bool unlinks; /* removals wait, not what is synced */
    atomic_uint full;    /* so many fail from now on */
    atomic_uint failed;
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
    if (gate.full > 0 && gettid() != getpid()) {
        gate.full--;
        gate.failed++;
        errno = ENOSPC;
        return -1;
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

/* The main thread waits for another one, not for the disk. */
static inline bool gate_main_waits(void)
{
    char path[64];
    char text[16] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ge(read(fd, text, sizeof(text) - 1), 0);
    (void)close(fd);
    return strtol(text, NULL, 10) == SYS_futex;
}
