/* The members to go back to when a change of members is not committed (raft_guard.h, G6).
 *
 * libraft rolls back by reading the entry that has them, which a snapshot may have
 * removed from the log. So the last committed ones are remembered here, and put back
 * before libraft looks.
 * Shapes: struct raft_members is a value with memory of its own, from init to fini; what
 * is asked of it looks at the public `struct raft`. Threads: the loop's. Ownership:
 * the raft is borrowed for the call. Errors: -ENOMEM, and BERTH_EBUG for members that
 * cannot be put back: both end this replica.
 */
#pragma once

#include "consensus/raft_library.h"

#include <stdint.h>

struct raft_members { /* fields private */
    struct raft_configuration committed;
    uint64_t index; /* of their entry */
};

void raft_members_init(struct raft_members *members);
void raft_members_fini(struct raft_members *members);
/* After each event: notes the members when none are uncommitted. 0 or -ENOMEM: what was
 * remembered before stands. */
int raft_members_remember(struct raft_members *members, const struct raft *raft);
/* Before libraft takes a request that contradicts the log from `conflict` on: when it
 * could not go back itself, its members are those before the change. 1: they were put
 * back; 0: it needs nothing; or an error. */
int raft_members_roll_back(const struct raft_members *members,
                           struct raft *raft,
                           uint64_t conflict);
