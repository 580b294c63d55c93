/* Holds back whoever opens a file, until it is let go: by a lease (fcntl(2)), so that a
 * thread of the program under test stands where a slow disk would have it stand.
 *
 * Threads: any; who opens the file meanwhile waits, the test as well. Ownership: the gate
 * is a descriptor, which open_gate_lift gives back. Limits: the kernel lifts it by itself
 * after /proc/sys/fs/lease-break-time, 45 s; nobody else may have the file open.
 */
#pragma once

#include <check.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

static inline int open_gate_drop(const char *path)
{
    ck_assert(signal(SIGIO, SIG_IGN) != SIG_ERR); /* somebody waits, it says */
    int gate = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(gate, 0);
    ck_assert_int_eq(fcntl(gate, F_SETLEASE, F_WRLCK), 0);
    return gate;
}

/* Until somebody stands before it. */
static inline void open_gate_wait(int gate)
{
    while (fcntl(gate, F_GETLEASE) == F_WRLCK) {
        (void)poll(NULL, 0, 1);
    }
}

static inline void open_gate_lift(int gate)
{
    ck_assert_int_eq(fcntl(gate, F_SETLEASE, F_UNLCK), 0);
    ck_assert_int_eq(close(gate), 0);
}
