#include "base/where.h"

#include <stddef.h>

/* NULL: nobody watches this thread. */
static _Thread_local struct where *watched;

void where_watch(struct where *where)
{
    watched = where;
}

void where_turned(void)
{
    if (watched != NULL) {
        atomic_fetch_add_explicit(&watched->progress, 1, memory_order_relaxed);
    }
}

void where_phase(const char *at)
{
    if (watched != NULL) {
        atomic_store_explicit(&watched->at, at, memory_order_relaxed);
        where_turned();
    }
}

const char *where_enter(const char *at)
{
    if (watched == NULL) {
        return NULL;
    }
    const char *before = atomic_load_explicit(&watched->at, memory_order_relaxed);
    atomic_store_explicit(&watched->at, at, memory_order_relaxed);
    return before;
}

void where_leave(const char *const *before)
{
    if (watched != NULL) {
        atomic_store_explicit(&watched->at, *before, memory_order_relaxed);
    }
}
