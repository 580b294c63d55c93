/* A slow disk: what it is asked to sync or to remove waits at a gate.
 *
 * The test makes the pipe and closes the gate; each byte that it writes, or its closing,
 * lets one through. What the loop's own thread syncs does not wait, and is counted: it
 * must not. A disk that is full fails what the other threads sync, so many times; a
 * broken one all. Replaces fsync and unlink of the C library in the program that includes
 * it, or, for files whose writes are synced, pwrite (DISK_GATE_WRITES).
 */
#pragma once

#include "support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    atomic_bool closed;
    int pipe[2];
    atomic_uint waiting;
    atomic_uint on_loop;
    atomic_bool unlinks; /* removals wait, not what is synced */
    atomic_uint full;    /* so many fail from now on */
    const char *full_of; /* only what has this in its path; NULL: all */
    atomic_uint failed;
    atomic_bool broken;
} gate;

static inline void gate_wait(void)
{
    char byte;
    gate.waiting++;
    (void)!read(gate.pipe[0], &byte, 1);
    gate.waiting--;
}

static inline bool gate_is_full_of(int fd)
{
    char link[64];
    char path[4096] = "";
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return gate.full_of == NULL || (readlink(link, path, sizeof(path) - 1) > 0 &&
                                    strstr(path, gate.full_of) != NULL);
}

/* False: it fails. */
static inline bool gate_pass(int fd)
{
    if (gate.closed && gettid() == getpid()) {
        gate.on_loop++;
    } else if (gate.closed) {
        gate_wait();
    }
    if (gate.broken) {
        errno = EIO;
        return false;
    }
    if (gate.full > 0 && gettid() != getpid() && gate_is_full_of(fd)) {
        gate.full--;
        gate.failed++;
        errno = ENOSPC;
        return false;
    }
    return true;
}

static inline void gate_open(void)
{
    gate.closed = false;
    ck_assert_int_eq(close(gate.pipe[1]), 0);
}

#ifdef DISK_GATE_WRITES

/* In place of the C library's. */
ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return gate_pass(fd) ? syscall(SYS_pwrite64, fd, data, size, at) : -1;
}

#else

/* In place of the C library's. */
int fsync(int fd)
{
    return gate_pass(fd) ? (int)syscall(SYS_fsync, fd) : -1;
}

/* In place of the C library's. */
int unlink(const char *path)
{
    if (gate.unlinks && gettid() != getpid()) {
        gate_wait();
    }
    return (int)syscall(SYS_unlink, path);
}

#endif

static inline int gate_main_call(void)
{
    char path[64];
    char text[16] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    return size <= 0 ? -1 : (int)strtol(text, NULL, 10);
}

/* Not everywhere may a process see what its threads wait for; then skip. */
static inline bool gate_sees_main(void)
{
    return gate_main_call() >= 0;
}

/* The main thread waits for another one, not for the disk. */
static inline bool gate_main_waits(void)
{
    return gate_main_call() == SYS_futex;
}

/* For a thread of its own, with an atomic_bool that says when to give up. */
static inline void *gate_open_when_main_waits(void *context)
{
    const atomic_bool *over = context;
    while (!gate_main_waits() && !*over) {
        (void)sched_yield();
    }
    gate_open();
    return NULL;
}
