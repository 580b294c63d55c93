/* Memory that runs out on purpose: include in exactly the test file that needs it.
 *
 * `fault_heap_after(n)` lets n allocations of this thread succeed and fails every later
 * one until fault_heap_off(). The header replaces malloc, calloc and realloc of the
 * test binary; strdup and asprintf reach them too. A sanitizer owns the heap: then
 * FAULT_HEAP_WORKS is 0 and nothing fails, and a sweep must be skipped. Threads: each has
 * its own count; others are let alone.
 *
 * The sweep: for (n = 0;; n++) { fault_heap_after(n); r = call(); fault_heap_off(); if (r
 * == 0) break; assert that r is -ENOMEM and that nothing has changed }.
 */
#pragma once

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAULT_HEAP_WORKS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FAULT_HEAP_WORKS 0
#endif
#endif
#ifndef FAULT_HEAP_WORKS
#define FAULT_HEAP_WORKS 1
#endif

static _Thread_local long fault_heap_left =
    -1; /* allocations that still succeed; -1: all */

static inline void fault_heap_after(long count)
{
    fault_heap_left = count;
}

static inline void fault_heap_off(void)
{
    fault_heap_left = -1;
}

#if FAULT_HEAP_WORKS
/* The C library's own names for its allocator. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *memory, size_t size);

static inline int fault_heap_strikes(void)
{
    if (fault_heap_left > 0) {
        fault_heap_left--;
        return 0;
    }
    return fault_heap_left == 0;
}

void *malloc(size_t size)
{
    return fault_heap_strikes() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fault_heap_strikes() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return fault_heap_strikes() ? NULL : __libc_realloc(memory, size);
}
#endif
