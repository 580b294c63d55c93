/* A host that takes its time to make a file durable, or cannot: held until it is let go,
 * and failed with a code until that is cleared.
 *
 * Replaces fdatasync of the C library in the program that includes it.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    atomic_bool is_held;
    atomic_int error; /* errno; 0: none */
    pthread_t main;   /* whose syncs are counted apart */
    atomic_uint count;
    atomic_uint main_count;
    atomic_uint done_count;
} sync_fault;

/* On the test's main thread, before each test. */
static inline void sync_fault_clear(void)
{
    atomic_store(&sync_fault.is_held, false);
    atomic_store(&sync_fault.error, 0);
    atomic_store(&sync_fault.count, 0);
    atomic_store(&sync_fault.main_count, 0);
    atomic_store(&sync_fault.done_count, 0);
    sync_fault.main = pthread_self();
}

/* In place of the C library's. */
int fdatasync(int fd)
{
    atomic_fetch_add(&sync_fault.count, 1);
    if (pthread_equal(pthread_self(), sync_fault.main)) {
        atomic_fetch_add(&sync_fault.main_count, 1);
    }
    while (atomic_load(&sync_fault.is_held)) {
        (void)sched_yield();
    }
    const int error = atomic_load(&sync_fault.error);
    const int r = error != 0 ? -1 : (int)syscall(SYS_fdatasync, fd);
    atomic_fetch_add(&sync_fault.done_count, 1);
    errno = error != 0 ? error : errno;
    return r;
}
