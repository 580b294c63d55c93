/* When the library is told that time has passed.
 *
 * libraft looks at its clock once in a heartbeat. A leader's look sends the heartbeats:
 * it is exact. A follower's only sees whether the leader has been silent for too long,
 * and need not wake the loop for that while heartbeats do as often: it is made when one
 * has come, a little early or late. As soon as none comes it is made at times of its own:
 * followers that have all heard the same last heartbeat must not find it missing at the
 * same moment, for then each would vote for itself. And it is made the moment the leader
 * has been silent for too long, not at the next of these times: that is the time in which
 * nothing is written.
 * Shapes: `struct raft_pace` is a plain value and decides; `struct raft_ticker` is a
 * timer of the loop that keeps to it. Units: milliseconds of the loop's clock. Threads:
 * the loop's. Ownership: open gives, close takes, at any time, its own tick included; no
 * tick comes after it. Errors: none but that there is no memory to open a ticker. Limits:
 * the interval is at least 1 ms, and own_ms below it; a heartbeat is ridden on from a
 * twentieth of the interval early to a seventh late (docs/decisions/0014), so below 7 ms
 * it has to come on the millisecond. Times are far from the end of 64 bits.
 */
#pragma once

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

struct raft_pace {
    uint64_t interval_ms;
    uint64_t own_ms;  /* its own times are this and multiples of the interval more */
    uint64_t last_ms; /* when the last tick was */
    bool rides;       /* it was when a heartbeat had come */
};

/* The next tick: from when on a heartbeat brings it, and when it comes without one. */
struct raft_pace_window {
    uint64_t from_ms;
    uint64_t until_ms;
};

/* What the library is at, as far as its time goes. */
struct raft_pace_state {
    bool leads;
    uint64_t due_ms; /* when it stands for election by itself; 0: it does not */
};

struct raft_pace_window raft_pace_next(const struct raft_pace *pace,
                                       struct raft_pace_state state);
/* There was one; heard: because a heartbeat had come. */
void raft_pace_ticked(struct raft_pace *pace, uint64_t now_ms, bool heard);

struct raft_ticker;

/* Ticks soon, and then in this pace; NULL when out of memory. own_ms is best random. What
 * state says is asked for before each tick, and may have grown later since. */
struct raft_ticker *raft_ticker_open(uv_loop_t *loop,
                                     uint64_t interval_ms,
                                     uint64_t own_ms,
                                     struct raft_pace_state (*state)(void *context),
                                     void (*tick)(void *context),
                                     void *context);
/* A heartbeat has come: when the time is right, a tick follows in this turn of the loop.
 */
void raft_ticker_heard(struct raft_ticker *ticker);
/* Accepts NULL; returns NULL. */
struct raft_ticker *raft_ticker_close(struct raft_ticker *ticker);
