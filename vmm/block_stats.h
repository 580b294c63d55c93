/* What a disk's guest has asked for, how it ended and how long it took.
 *
 * Shapes: `struct block_stats` has a set of counters for each kind of request, as QEMU
 * tells them apart: a write of zeros is a write, a discard an unmap. A request that is
 * taken off the ring begins; it has then succeeded or failed when it is put on the used
 * ring, which is the time that it took. One that is refused before the disk is asked was
 * invalid, and took none. One that a reset drops while it waits for room is none of
 * these.
 *
 * What it costs: a request is stamped when it is taken, and all that are done in one turn
 * have one stamp; each is a read of the clock without a system call, where the kernel has
 * its own clock that way, and some 25 ns. Requests cost microseconds.
 *
 * Units: bytes, nanoseconds (of clock_system). Threads: as of counters (counter.h).
 */
#pragma once

#include "vmm/counter.h"
#include "vmm/latency_histogram.h"

#include <stdbool.h>
#include <stdint.h>

enum block_kind {
    BLOCK_READ = 0,
    BLOCK_WRITE,
    BLOCK_FLUSH,
    BLOCK_UNMAP,
    BLOCK_KIND_COUNT,
};

struct block_kind_stats {
    struct counter operations; /* that succeeded, and their bytes */
    struct counter bytes;
    struct counter failed;
    struct counter invalid;
    struct counter total_ns; /* of those that succeeded or failed, as the latencies */
    struct latency_histogram latency;
};

struct block_stats {
    struct block_kind_stats kinds[BLOCK_KIND_COUNT];
    struct counter in_flight;
    struct counter other;   /* requests that are none of these: its name, unknown types */
    struct counter held;    /* by the limit, each time that it says no */
    struct counter by_ring; /* that a ring of the kernel's has done */
    struct counter highest_offset; /* where what was written furthest ends */
    struct counter last_done_ns;   /* 0: none is */
};

/* One that is done. */
struct block_done {
    enum block_kind kind;
    bool is_good;
    uint64_t offset;
    uint64_t size; /* 0 of a flush */
    uint64_t begun_ns;
    uint64_t done_ns;
};

void block_stats_begin(struct block_stats *stats);
void block_stats_done(struct block_stats *stats, const struct block_done *done);
/* One that is forgotten without an answer. */
void block_stats_dropped(struct block_stats *stats);
void block_stats_invalid(struct block_stats *stats, enum block_kind kind);
