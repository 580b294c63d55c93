/* A follower that refuses all that its leader sends, and when that is worth a line.
 *
 * A new leader does not know where a follower's log ends, and asks: a refusal or two is
 * the answer. One that goes on and on is a log that does not go together with the
 * leader's, and no election and no error would ever tell of it.
 * Shapes: a plain value, {0} has refused nothing. Units: ms of the log's clock. Threads:
 * none. Errors: none.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RAFT_REFUSALS_LONG_MS  2000
#define RAFT_REFUSALS_AGAIN_MS 10000

struct raft_refusals {
    uint64_t count; /* in a row */
    uint64_t since_ms;
    uint64_t told_ms;
    bool told;
};

/* An answer to the leader; true: that it has refused for so long, *ret_ms, is to be told
 * now. */
bool raft_refusals_note(struct raft_refusals *refusals,
                        bool refused,
                        uint64_t now_ms,
                        uint64_t *ret_ms);
