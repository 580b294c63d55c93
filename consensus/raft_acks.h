/* Acknowledgements that a new leader may not count yet, kept until it may.
 *
 * The guard hides what followers have as long as the leader's own last entry is of an old
 * term (raft_guard.h, G1). The hidden answers are those to its first message, mostly: who
 * drops them has the leader ask once more a heartbeat later, or two, and its first entry
 * waits for that. Kept, they are heard the moment the first entry is on its disk; to the
 * leader they were slow on the way.
 * Shapes: a plain value, {0} is empty; one answer of each member, the one that has most.
 * Threads: none. Ownership: nothing is held. Errors: none; an answer that finds no room
 * is one that was dropped. Limits: CONSENSUS_MEMBERS_MAX members.
 */
#pragma once

#include "consensus/consensus.h"

#include <stdbool.h>
#include <stdint.h>

struct raft_ack {
    uint64_t from;
    uint64_t term;
    uint64_t last_index; /* up to here it has what the leader has */
};

struct raft_acks {
    struct raft_ack kept[CONSENSUS_MEMBERS_MAX];
    unsigned count;
};

/* What is kept of another term goes. */
void raft_acks_keep(struct raft_acks *acks, struct raft_ack ack);
/* The next one of that term; false when there is none, and none of other terms either. */
bool raft_acks_take(struct raft_acks *acks, uint64_t term, struct raft_ack *ret_ack);
