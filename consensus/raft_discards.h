/* Gives back what libraft would have, of what it is not given: messages that the guard
 * keeps from it, and a log that does not start.
 *
 * Private to the room. Shapes: libraft's own. Threads: the loop's. Ownership: what hangs
 * on the arguments is freed; a message itself is its sender's, all that was loaded goes.
 * Errors: none.
 */
#pragma once

#include <stddef.h>

struct raft_message;
struct raft_snapshot;
struct raft_entry;

void raft_discards_message(struct raft_message *message);
/* snapshot NULL: none. Entries of one batch stand together. */
void raft_discards_loaded(struct raft_snapshot *take_snapshot,
                          struct raft_entry *take_entries,
                          size_t count);
