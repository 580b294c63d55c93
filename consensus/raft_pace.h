/* When the library is told that time has passed.
 *
 * libraft looks at its clock once in a heartbeat. A leader's look sends the heartbeats:
 * it is exact. A follower's only sees whether the leader has been silent for too long,
 * and need not wake the loop for that while heartbeats do as often: it rides on them, a
 * little early or late. As soon as none has come it is exact again, in the same rhythm,
 * so that an election begins no later than it would have; and it looks for a wake-up to
 * ride on in the second half of its time.
 * Shapes: `struct raft_pace` is a plain value and decides; `struct raft_ticker` is a
 * timer of the loop that keeps to it. Units: milliseconds of the loop's clock. Threads:
 * the loop's. Ownership: open gives, close takes, at any time; no tick comes after it.
 */
#pragma once

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

struct raft_pace {
    uint64_t interval_ms;
    uint64_t last_ms; /* when the last tick was, or should have been */
    bool rides;       /* the last one rode on a wake-up */
};

/* The next tick is from when on any wake-up will do, and by when it wakes the loop. */
struct raft_pace_window {
    uint64_t from_ms;
    uint64_t until_ms;
};

struct raft_pace_window raft_pace_next(const struct raft_pace *pace, bool leads);
/* There was one, now, with that window. */
void raft_pace_ticked(struct raft_pace *pace,
                      const struct raft_pace_window *window,
                      uint64_t now_ms);

struct raft_ticker;

/* Ticks soon, and then in this pace; NULL when out of memory. */
struct raft_ticker *raft_ticker_open(uv_loop_t *loop,
                                     uint64_t interval_ms,
                                     bool (*leads)(void *context),
                                     void (*tick)(void *context),
                                     void *context);
/* Accepts NULL; returns NULL. */
struct raft_ticker *raft_ticker_close(struct raft_ticker *ticker);
