/* Time for who comes by a million times a second: the CPU's counter of ticks, which costs
 * a third of a read of the clock, and is made into nanoseconds by who looks.
 *
 * Shapes: `struct tick_mark` is a moment on both. Ticks between two moments are as many
 * nanoseconds as the clock says of two marks around them, which is right as long as the
 * counter goes at one rate: it does on every CPU that KVM is worth using on. Threads:
 * any. Errors: none; a counter that went back, as of another socket, took no time.
 */
#pragma once

#include "base/clock.h"

#include <stdint.h>

struct tick_mark {
    uint64_t ticks;
    uint64_t ns;
};

static inline uint64_t tick_now(void)
{
    return __builtin_ia32_rdtsc();
}

static inline uint64_t tick_since(uint64_t begin)
{
    const uint64_t end = tick_now();
    return end > begin ? end - begin : 0;
}

static inline struct tick_mark tick_mark_now(void)
{
    return (struct tick_mark){.ticks = tick_now(), .ns = clock_now_ns(clock_system())};
}

/* What so many ticks took, which were between the two marks. */
static inline uint64_t
tick_ns(const struct tick_mark *from, const struct tick_mark *to, uint64_t ticks)
{
    return to->ticks > from->ticks && to->ns > from->ns
               ? (uint64_t)((unsigned __int128)ticks * (to->ns - from->ns) /
                            (to->ticks - from->ticks))
               : 0;
}
