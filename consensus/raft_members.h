/* The members as Raft has them: those of the newest change in the log, committed or not,
 * else those of the snapshot below it (raft_guard.h, G6).
 *
 * libraft 0.15 forgets at a restart whether the newest change is committed, and counts it
 * as such: when another leader replaces that entry, its members stay. It stores members
 * with a snapshot that are of a change behind it, it goes back by reading an entry that a
 * snapshot may have removed, and a change that a received snapshot has overtaken is under
 * way for ever. So the snapshot's members are remembered here, a change that was loaded
 * counts as open until it is applied, and what libraft goes back to is looked up in the
 * log before it does.
 * Shapes: struct raft_members is a value with memory of its own, from init to fini; what
 * is asked of it looks at the public `struct raft`. Threads: the loop's. Ownership:
 * all arguments are borrowed for the call. Errors: -ENOMEM, BERTH_ECORRUPT for an entry
 * that holds no members, and BERTH_EBUG for members that are nowhere: each ends this
 * replica.
 */
#pragma once

#include "consensus/raft_library.h"

#include <stddef.h>
#include <stdint.h>

struct raft_members {               /* fields private */
    struct raft_configuration base; /* of the snapshot; none: the log has all */
    uint64_t base_index;            /* of their entry */
    uint64_t open; /* the change that was loaded and may be uncommitted; 0: none */
};

void raft_members_init(struct raft_members *members);
void raft_members_fini(struct raft_members *members);
/* Before libraft gets what its io has loaded. snapshot NULL: none; its first entry is
 * `start` then, 1. */
int raft_members_load(struct raft_members *members,
                      const struct raft_snapshot *snapshot,
                      uint64_t start,
                      const struct raft_entry *entries,
                      size_t count);
/* Once libraft has taken it, and before it stands for election. */
void raft_members_start(const struct raft_members *members, struct raft *raft);
/* Before a snapshot is stored, one of its own or (received) a leader's; these are its
 * members from then on, to be stored with it. */
int raft_members_snapshot(struct raft_members *members,
                          const struct raft *raft,
                          const struct raft_snapshot *snapshot,
                          bool received);
/* The first index at which the request contradicts the log; 0: nowhere. */
uint64_t raft_members_conflict(const struct raft *raft,
                               const struct raft_append_entries *args);
/* Before libraft takes a request that contradicts the log from `conflict` on (0:
 * nowhere). 1: a change was undone; 0: there was none; or an error, and nothing is
 * changed. */
int raft_members_roll_back(const struct raft_members *members,
                           struct raft *raft,
                           uint64_t conflict);
/* Whether the log holds a change that its disk does not have yet: libraft counts it when
 * the disk has it, and only where it follows then (raft_guard.h, G21). */
bool raft_members_are_awaited(const struct raft *raft);
/* After each event: what is applied is not under way any more. */
void raft_members_settle(struct raft *raft);
/* An entry's: format u8 1, count u64, each with id u64, address with its 0, role u8
 * (libraft, configuration.c; it exports no decoder). ret_members need not be initialised,
 * and is to be closed after 0. */
int raft_members_decode(const struct raft_buffer *entry,
                        struct raft_configuration *ret_members);
