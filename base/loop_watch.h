/* Says in the log when a loop does not turn, and at what it stands.
 *
 * A loop that waits for a disk, a lock or another process does nothing else, its own log
 * included: afterwards there is only a gap. So a thread of its own looks once in a while
 * whether the loop has turned, and when it has not for WATCH_LONG_MS says so, once, with
 * the place that the loop has named (base/where.h) and what the kernel says of its
 * thread; and again, with the length, when it turns. Before the loop runs the same is
 * said of each phase of coming up (where_phase). A process that stood still as a whole
 * (stopped, or its machine was) says only that.
 * Shapes: struct loop_watch, opaque; what is to be said is a function of values:
 * loop_watch_judge. Units: ms, ns of the monotonic clock. Threads: the loop's, but the
 * thread inside. Ownership: the loop must run once more after close, which frees it.
 * Errors: a loop without a watch works all the same. Limits: what is shorter than a look
 * is not seen; lengths are right up to one.
 */
#pragma once

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

#define LOOP_WATCH_LONG_MS 5000
#define LOOP_WATCH_LOOKS   5 /* within that time */

enum loop_watch_news {
    LOOP_WATCH_NOTHING = 0,
    LOOP_WATCH_LONG,  /* the loop stands, for so long by now */
    LOOP_WATCH_OVER,  /* it turns again, and has stood for so long */
    LOOP_WATCH_STILL, /* the whole process has stood for so long */
};

/* What earlier looks have left. */
struct loop_watch_seen {
    uint64_t progress;
    uint64_t since_ns;  /* it has been at that since */
    uint64_t looked_ns; /* the last look */
    bool told;          /* that it stands */
};

/* One look, long_ms / LOOP_WATCH_LOOKS after the one before, if the machine lets us. What
 * the looks come too late by is nobody's standing. *ret_ms is unset for NOTHING. */
enum loop_watch_news loop_watch_judge(struct loop_watch_seen *seen,
                                      uint64_t long_ms,
                                      uint64_t progress,
                                      uint64_t now_ns,
                                      uint64_t *ret_ms);

struct loop_watch;
/* Of the calling thread, which runs the loop, or will. long_ms: 0 is LOOP_WATCH_LONG_MS.
 * NULL: no memory, or no thread. Does not keep the loop alive. */
struct loop_watch *loop_watch_open(uv_loop_t *loop, uint64_t long_ms);
/* Nothing is said after the call. Accepts NULL; returns NULL. */
struct loop_watch *loop_watch_close(struct loop_watch *watch);
