#include "base/heap.h"

#include <malloc.h>
#include <stdatomic.h>

/* What chunks of images pass through is smaller than LARGE_BYTES: a buffer from the
 * system for each would cost a hundred times more. */
#define PLACES_MAX  1 /* what another keeps at its end is never given back */
#define LARGE_BYTES (1 << 20)
#define KEPT_BYTES  (2 << 20)
#define PAD_BYTES   (64 << 10)

static atomic_bool told;
static unsigned looks; /* in a row that found something told, and not given back yet */

/* Each fails only for values that the library does not know. */
void heap_keep_small(void)
{
    /* NOLINTBEGIN(concurrency-mt-unsafe): called before there is a second thread */
    (void)mallopt(M_ARENA_MAX, PLACES_MAX);
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
    (void)mallopt(M_TOP_PAD, PAD_BYTES);
    /* NOLINTEND(concurrency-mt-unsafe) */
}

void heap_freed(void)
{
    atomic_store_explicit(&told, true, memory_order_relaxed);
}

bool heap_give_back(void)
{
    bool more = atomic_exchange_explicit(&told, false, memory_order_relaxed);
    looks += more ? 1U : 0U;
    if (looks == 0 || (more && looks < HEAP_LOOKS_MAX)) {
        return false;
    }
    looks = 0;
    (void)malloc_trim(PAD_BYTES); /* or there was nothing to give back */
    return true;
}
