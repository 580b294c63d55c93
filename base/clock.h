/* Time as a value: whoever needs the time is given a `const struct clock *`, so that
 * tests own it.
 *
 * Units: monotonic nanoseconds (CLOCK_BOOTTIME, so that a suspended host's lease runs
 * out) and wall milliseconds since 1970. Threads: any.
 */
#pragma once

#include <stdint.h>

struct clock {
    uint64_t (*now_ns)(void *context);  /* monotonic */
    uint64_t (*wall_ms)(void *context); /* wall */
    void *context;
};

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)
#define MS_PER_S  UINT64_C(1000)

/* The machine's clocks. Static; never freed. */
const struct clock *clock_system(void);
uint64_t clock_now_ns(const struct clock *clock);
uint64_t clock_now_ms(const struct clock *clock); /* monotonic, rounded down */
uint64_t clock_wall_ms(const struct clock *clock);

/* "2026-11-23T09:15:04.123Z" into text. */
#define CLOCK_TEXT_SIZE 25
void clock_format(uint64_t wall_ms, char text[CLOCK_TEXT_SIZE]);
/* "20261123T091504Z": for names of files, which then sort by time. */
#define CLOCK_STAMP_SIZE 17
void clock_stamp(uint64_t wall_ms, char text[CLOCK_STAMP_SIZE]);
