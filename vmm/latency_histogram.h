/* How long something took, counted by powers of two.
 *
 * Shapes: LATENCY_BINS bins, each a counter (counter.h): the first is of what took less
 * than the first boundary, each next of what took less than the next, the last of all
 * else; the boundaries are powers of two from about a microsecond to eight seconds.
 * Units: nanoseconds. Threads: as of counters.
 */
#pragma once

#include "vmm/counter.h"

#include <stdint.h>

#define LATENCY_FIRST_LOG  10u /* 1024 ns: no request of a guest's is done faster */
#define LATENCY_BOUNDARIES 24u /* the last is 8.6 s: from there on it is one trouble */
#define LATENCY_BINS       (LATENCY_BOUNDARIES + 1u)

struct latency_histogram {
    struct counter bins[LATENCY_BINS];
};

/* Any time at all. */
void latency_histogram_add(struct latency_histogram *histogram, uint64_t took_ns);
/* Where bin `i` ends and the next begins, for i < LATENCY_BOUNDARIES. */
uint64_t latency_histogram_boundary_ns(unsigned i);
