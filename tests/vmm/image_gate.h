/* A saved image on slow storage: whoever reads in one range of the file waits at a gate.
 *
 * Replaces pread of the C library in the program that includes it. Threads: any; the gate
 * is closed before anybody reads.
 */
#pragma once

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static struct {
    atomic_bool closed;
    uint64_t from; /* of the file */
    uint64_t to;
    atomic_uint waiting;
    atomic_uint passes; /* for one who waits, each */
    atomic_bool breaks; /* whoever has waited gets an error */
} image_gate;

static inline void image_gate_close(uint64_t from, uint64_t to)
{
    image_gate.from = from;
    image_gate.to = to;
    atomic_store(&image_gate.closed, true);
}

static inline void image_gate_open(void)
{
    atomic_store(&image_gate.closed, false);
}

/* Nobody stands there any more: as it was at first. */
static inline void image_gate_reset(void)
{
    image_gate_open();
    while (atomic_load(&image_gate.waiting) > 0) {
        (void)sched_yield();
    }
    image_gate.from = 0;
    image_gate.to = 0;
    atomic_store(&image_gate.breaks, false);
}

/* The gate stays closed for the next one. */
static inline void image_gate_let_one(void)
{
    atomic_fetch_add(&image_gate.passes, 1);
    while (atomic_load(&image_gate.passes) > 0) {
        (void)sched_yield();
    }
}

/* Until somebody stands there. */
static inline void image_gate_await(void)
{
    while (atomic_load(&image_gate.waiting) == 0) {
        (void)sched_yield();
    }
}

/* In place of the C library's. */
ssize_t pread(int fd, void *data, size_t size, off_t at)
{
    if ((uint64_t)at < image_gate.to && (uint64_t)at + size > image_gate.from) {
        atomic_fetch_add(&image_gate.waiting, 1);
        while (atomic_load(&image_gate.closed) && atomic_load(&image_gate.passes) == 0) {
            (void)sched_yield();
        }
        atomic_fetch_sub(&image_gate.waiting, 1);
        atomic_store(&image_gate.passes, 0);
        if (atomic_load(&image_gate.breaks)) {
            errno = EIO;
            return -1;
        }
    }
    return syscall(SYS_pread64, fd, data, size, at);
}
