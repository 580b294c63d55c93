/* What of a leader's entries a follower's snapshot has already (the guard's rule G23,
 * raft_guard.h).
 *
 * Shapes: libraft's own. Units: indexes and terms of the log. Threads: the loop's.
 * Ownership: entries that are left out of a message are freed as libraft would. Errors:
 * none.
 */
#pragma once

#include <stdbool.h>

struct raft;
struct raft_append_entries;

/* Has a message from before the snapshot begin where that ends, when it reaches so far
 * and says the same of that index: what stands before is the same, too, by the log
 * matching property (Ongaro's dissertation, 3.5). All others stay as they are, for
 * libraft to judge. false: it must not come to libraft, which would put entries from the
 * first on behind the log, and crash; it counts as lost on the way. */
bool raft_prefix_skip(const struct raft *raft, struct raft_append_entries *args);
