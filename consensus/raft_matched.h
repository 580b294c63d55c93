/* How much of a follower's log its leader has shown to match (the guard's rule G3,
 * raft_guard.h): libraft acknowledges all that is stored, a stale tail included.
 *
 * Shapes: a plain value, {0} has been shown nothing. Units: terms and indexes of the log.
 * Threads: none. Errors: none.
 */
#pragma once

#include <stdint.h>

struct raft_matched {
    uint64_t term; /* of the leader that has shown it */
    uint64_t index;
};

/* The leader of that term has shown that the log is its own up to `index`. */
void raft_matched_note(struct raft_matched *matched, uint64_t term, uint64_t index);
/* What of a log that ends at `last` may be acknowledged to the leader of that term. */
uint64_t
raft_matched_last(const struct raft_matched *matched, uint64_t term, uint64_t last);
