/* Numbers that whoever does the work counts, and anybody looks at while it goes on.
 *
 * Shapes: `struct counter` is one number, which goes up (counter_add) or is what it is
 * now (counter_set); `struct counter_row` names one of a struct, so that a table of rows
 * is all that who shows them needs to know.
 *
 * Threads: one at a time writes, which the lock of what is counted, or being one thread's
 * own, sees to: then a load and a store are enough, which cost no more than those of a
 * plain number. Reading takes no lock, waits for nobody and may be done by any thread;
 * several numbers that are read one after another are not of one moment. Units: the
 * name's. Limits: a number has 63 bits, as a number of JSON has, and begins at 0 again
 * after them; a guest that counts for years gets no further than that.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct counter {
    atomic_ullong value;
};

struct counter_row {
    const char *name;
    size_t offset; /* of the struct counter in what is counted */
};

static inline uint64_t counter_read(const struct counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed) & INT64_MAX;
}

static inline void counter_set(struct counter *counter, uint64_t value)
{
    atomic_store_explicit(&counter->value, value, memory_order_relaxed);
}

static inline void counter_add(struct counter *counter, uint64_t more)
{
    counter_set(counter,
                atomic_load_explicit(&counter->value, memory_order_relaxed) + more);
}

/* The one that the row names in `counted`. */
static inline uint64_t counter_row_read(const struct counter_row *row,
                                        const void *counted)
{
    return counter_read(
        (const struct counter *)(const void *)((const char *)counted + row->offset));
}
