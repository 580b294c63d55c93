/* What is measured of a disk, inside a guest and beneath one, so that the rows compare.
 *
 * Shapes: `struct io_case` is one pattern of requests; `struct io_run` counts one case
 * and keeps how long its requests took. Units: nanoseconds of the monotonic clock.
 * Threads: one. Limits: IO_SAMPLES_MAX latencies (later ones are counted only). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define IO_DEPTH_MAX   32u
#define IO_SIZE_MAX    (128u << 10)
#define IO_SAMPLES_MAX (1u << 18)

struct io_case {
    const char *name;
    bool is_write;
    bool is_random;
    unsigned size_bytes;
    unsigned depth; /* requests in flight */
};

static const struct io_case io_cases[] = {
    {"4 KiB random read, depth 1", false, true, 4096, 1},
    {"4 KiB random read, depth 32", false, true, 4096, 32},
    {"4 KiB random write, depth 1", true, true, 4096, 1},
    {"4 KiB random write, depth 32", true, true, 4096, 32},
    {"128 KiB sequential read, depth 4", false, false, IO_SIZE_MAX, 4},
    {"128 KiB sequential write, depth 4", true, false, IO_SIZE_MAX, 4},
};

#define IO_CASES (sizeof(io_cases) / sizeof(io_cases[0]))

struct io_run {
    const struct io_case *pattern;
    uint64_t disk_bytes;
    uint64_t random; /* state */
    uint64_t next;   /* of the sequential ones */
    uint64_t count;
    uint64_t took_ns[IO_SAMPLES_MAX];
};

static inline uint64_t io_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static inline void
io_run_begin(struct io_run *run, const struct io_case *pattern, uint64_t disk_bytes)
{
    run->pattern = pattern;
    run->disk_bytes = disk_bytes;
    run->random = UINT64_C(0x9e3779b97f4a7c15);
    run->next = 0;
    run->count = 0;
}

/* Where the next request goes. */
static inline uint64_t io_run_offset(struct io_run *run)
{
    const uint64_t places = run->disk_bytes / run->pattern->size_bytes;
    if (!run->pattern->is_random) {
        return run->next++ % places * run->pattern->size_bytes;
    }
    run->random ^= run->random << 13;
    run->random ^= run->random >> 7;
    run->random ^= run->random << 17;
    return run->random % places * run->pattern->size_bytes;
}

static inline void io_run_done(struct io_run *run, uint64_t took_ns)
{
    if (run->count < IO_SAMPLES_MAX) {
        run->took_ns[run->count] = took_ns;
    }
    run->count++;
}

static inline int io_rising(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* One line: "WHO|case|requests a second|MiB a second|p50 us|p99 us", after a mark that
 * no kernel prints. */
static inline void io_run_say(struct io_run *run, const char *who, uint64_t all_ns)
{
    const uint64_t kept = run->count < IO_SAMPLES_MAX ? run->count : IO_SAMPLES_MAX;
    const double seconds = (double)all_ns / 1e9;
    if (kept == 0) {
        (void)fprintf(stderr, "%s: nothing was done\n", run->pattern->name);
        exit(1);
    }
    qsort(run->took_ns, kept, sizeof(run->took_ns[0]), io_rising);
    (void)printf("@io|%s|%s|%.0f|%.1f|%.1f|%.1f\n", who, run->pattern->name,
                 (double)run->count / seconds,
                 (double)run->count * run->pattern->size_bytes / seconds / (1 << 20),
                 (double)run->took_ns[kept / 2] / 1e3,
                 (double)run->took_ns[kept - 1 - kept / 100] / 1e3);
    (void)fflush(stdout);
}
