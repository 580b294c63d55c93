/* The turns of a watch (ram_loader.h) are those that the test gives, and no time passes.
 *
 * Replaces pthread_cond_timedwait of the C library in the program that includes it: from
 * watch_turns_own on, a wait times out when a turn was given, and else
 * ends without a reason after a moment, as waits may.
 */
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

static struct {
    atomic_bool is_ours;
    atomic_uint given;
    atomic_uint taken;
} watch_turns;

static inline void watch_turns_own(void)
{
    atomic_store(&watch_turns.given, 0);
    atomic_store(&watch_turns.taken, 0);
    atomic_store(&watch_turns.is_ours, true);
}

static inline void watch_turns_disown(void)
{
    atomic_store(&watch_turns.is_ours, false);
}

/* Until they were taken; what the last one does may not be done yet. */
static inline void watch_turns_give(unsigned count)
{
    const unsigned wanted = atomic_fetch_add(&watch_turns.given, count) + count;
    while (atomic_load(&watch_turns.taken) < wanted) {
        (void)sched_yield();
    }
}

/* In place of the C library's. */
int pthread_cond_timedwait(pthread_cond_t *condition,
                           pthread_mutex_t *mutex,
                           const struct timespec *until)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec soon = *until;
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    const bool is_ours = atomic_load(&watch_turns.is_ours);
    if (is_ours) {
        (void)clock_gettime(CLOCK_MONOTONIC, &soon);
        soon.tv_nsec = soon.tv_nsec / 1000000 * 1000000 + 1000000; /* the next ms */
        soon.tv_sec += soon.tv_nsec / 1000000000;
        soon.tv_nsec %= 1000000000;
    }
    const int r = real(condition, mutex, &soon);
    if (r == ETIMEDOUT && is_ours) {
        if (atomic_load(&watch_turns.taken) == atomic_load(&watch_turns.given)) {
            return 0; /* woken without a reason: a signal may have come just too late */
        }
        atomic_fetch_add(&watch_turns.taken, 1);
    }
    return r;
}
