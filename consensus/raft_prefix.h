/* What of a leader's entries a follower's snapshot has already (the guard's rule G23,
 * raft_guard.h).
 *
 * Shapes: libraft's own. Units: indexes and terms of the log. Threads: the loop's.
 * Ownership: entries that are left out of a message are freed as libraft would. Errors:
 * none.
 */
#pragma once

struct raft;
struct raft_append_entries;

/* Has the message begin where the snapshot ends, when it begins before: what the snapshot
 * holds is committed, and a leader of this term or later has the same (leader
 * completeness; Ongaro's dissertation, 3.6.3 and 5.3). One of an earlier term stays as it
 * is: libraft refuses it. */
void raft_prefix_skip(const struct raft *raft, struct raft_append_entries *args);
