/* What stands between libraft 0.15.0 and its disk and network, because bare it breaks
 * Raft's promises.
 *
 * Shapes: the guard is a `struct raft_io` of its own around the real one. libraft is
 * given the guard's io; the real io's ticks and messages come to the guard first. It
 * reads the public `struct raft`, and writes what the rules below need (raft_votes.h,
 * raft_members.h).
 *
 *   G1  Entries of an old term are committed by counting. While the last stored
 *       entry is of an old term, the leader is not shown that followers have
 *       anything; and it appends a barrier, an entry of its own term, the moment it
 *       is elected. When that is stored it hears what it was not shown (raft_acks.h).
 *       raft_guard_ready says that the barrier is applied.
 *   G2  After a failed write libraft goes on with a log that differs from the disk.
 *       Any failed append, truncate, term, vote or received snapshot halts: libraft
 *       hears nothing more, not even of the failure; hooks.fatal runs.
 *   G3  A follower acknowledges all it has stored, a stale tail included. Success
 *       replies are clamped to what this term's leader has sent and we have matched
 *       (raft_matched.h).
 *   G4  The target of a transfer gets a second vote in one term. Dropped.
 *   G5  It drops damage at start, stands without asking, and snapshots too often, unless
 *       it is set up otherwise (raft_node.c, raft_backing.c).
 *   G6  A change of members that was not committed when the process stopped counts as
 *       committed after the restart, and stays when its entry is replaced; a snapshot
 *       stores members of a change behind it; and going back reads an entry that a
 *       snapshot may have removed. The members are those of the newest change in the
 *       log, else of the snapshot (raft_members.h).
 *   G7  Once it is unavailable it stays so, and says so only to who looks. Whoever looks
 *       ends the process (consensus.c), which is started again, but not after three ends
 *       in ten seconds (deploy/systemd).
 *   G8  An entry whose length is no multiple of 8 is lost (entry_frame.h, which also has
 *       a checksum of its own); and without room for the next segment it crashes: what
 *       is left is looked at before a proposal (consensus_queue.c) and each append.
 *   G10 A leader whose snapshot, or the answer to it, was lost waits 30 seconds before
 *       it looks at that follower again. A rejection well after it was sent ends that.
 *   G11 Told at the end that several appends are cancelled, oldest first, a leader reads
 *       beyond the end of its log. The real io is closed first, then libraft is
 *       answered, newest first (raft_appends.h).
 *   G12 An answer to AppendEntries that cannot be sent at once has its entries freed
 *       twice. It counts as lost on the way instead; the leader asks again.
 *   G13 A follower whose disk is so slow that it has stood for election and stepped down
 *       again before a write is finished answers a leader that it knows no more, at no
 *       address, and crashes; or, where the leader was only forgotten (G17), to nobody's
 *       id, which the transport tries to reach for ever. Such an answer is not sent.
 *   G14 A standby votes for nobody, not even for the leader that has just promoted it and
 *       lost touch before it could say so: of two voters neither was elected again, ever.
 *       Whoever is asked for its vote counts as a voter; and a standby that has heard no
 *       leader for an election timeout believes in none.
 *   G15 A refused pre-vote repeats the candidate's term. Where one voter has the longer
 *       log and another, which nobody heard for a while, the higher term, neither learns
 *       anything and nobody is ever elected. The refusal says the refuser's own term.
 *   G17 A voter refuses its vote until its own time is up, by chance up to two election
 *       timeouts after the leader fell silent, so that an election waits for the slower
 *       of two followers, and for the first one's second time. One election timeout is
 *       what counts (Ongaro's dissertation, 4.2.3 and 9.6).
 *   G16 A follower applies what was committed before only once its disk has the new
 *       entries, and answers after that: each commit waits for the applying of the last
 *       one. It is applied while the disk writes.
 *   G19 The only voter leads again in the term that it led before: at an index that it
 *       had not stored yet, but sent to a standby, it puts something else of the same
 *       term, and the standby keeps and applies what it has. It begins a term of its own
 *       and votes for itself in it, as an election would.
 *   G9  Term, vote and the length of the log are sealed (log_seal.h) and compared at
 *       start.
 *   G18 Damage is taken for a torn write, and dropped. One write is under way at a
 *       time, of one batch (raft_appends.h), so that the two can be told apart before
 *       libraft loads the log (log_check.h).
 *   G20 A vote, or a request for one, that finds its channel ended is lost, and with
 *       it an election timeout. It is sent once more (raft_resends.h).
 *   G21 A follower counts a change of members when its disk has it, and never does if it
 *       has stood for election by then: it goes on to lead by members that its own log
 *       does not name any more, and its next change may be two steps from those before.
 *       And what a snapshot brings takes the members from under an election. Who has
 *       either on the way to its disk does not stand, not for a transfer either; its vote
 *       it gives as ever. (A disk that never answers keeps its host from standing. It
 *       could not lead.)
 *   G22 A candidate that was told by a majority that it may stand, and got no votes then,
 *       stands again without asking, a term higher at each election timeout: cut off, it
 *       comes back with a term that ends whoever leads. It asks again (Ongaro's
 *       dissertation, 9.6), and an answer to what it asked for an earlier term does not
 *       count: libraft takes the term that it knows already for the one it asked for.
 *   G23 A follower whose log begins behind its snapshot refuses entries from before,
 * which it has, or (from the log's first on) crashes. A leader that goes back that far
 * for it, because of an older snapshot or none, never gets to what the follower lacks.
 *       Such a message begins where the snapshot ends (raft_prefix.h).
 *
 * Known to be left: a truncation that fails later, in the library's worker thread, is
 * not reported by it.
 *
 * Threads: the loop's. Ownership: opaque; the real io must outlive the guard.
 */
#pragma once

#include "base/err.h"
#include "consensus/log_seal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raft;
struct raft_io;
struct raft_guard;
struct work_pool;

struct raft_guard_hooks {
    void *context;
    /* Runs once: the log can no longer be trusted to be what libraft believes; stop the
     * process. */
    void (*fatal)(void *context, int code, const char *text);
    /* After every tick, message and finished write: leadership, indexes or members may
     * have changed. */
    void (*changed)(void *context);
    void *space_context;
    uint64_t (*free_bytes)(void *space_context); /* of the log's disk */
    struct work_pool *disk; /* for raft_guard_seal alone; NULL: it waits in the call */
};

/* Wraps `inner` for `raft`, which has not been initialised yet. Both and the seal are
 * borrowed. */
struct raft_guard *raft_guard_new(struct raft *raft,
                                  struct raft_io *inner,
                                  struct log_seal *seal,
                                  const struct raft_guard_hooks *hooks);
/* Accepts NULL; returns NULL. Only after libraft has closed the io. */
struct raft_guard *raft_guard_free(struct raft_guard *guard);
/* What libraft is to be given. */
struct raft_io *raft_guard_io(struct raft_guard *guard);

/* To be called after raft_start, which may have elected a single voter. */
void raft_guard_started(struct raft_guard *guard);
/* Halts as a disk error would; runs hooks.fatal unless halted already. */
void raft_guard_halt(struct raft_guard *guard, int code, const char *text);
bool raft_guard_halted(const struct raft_guard *guard);
/* This voter leads and everything from before its term is applied. */
bool raft_guard_ready(const struct raft_guard *guard);
/* Writes the seal when more has become durable since; cheap when not. On a thread: halts
 * later when that fails. */
void raft_guard_seal(struct raft_guard *guard);
/* The term of a log entry or of the snapshot's last one; 0 when neither knows it. */
uint64_t raft_guard_term_of(const struct raft_guard *guard, uint64_t index);
/* How many of the newest log entries together hold at most so many bytes. */
unsigned raft_guard_tail_count(const struct raft_guard *guard, size_t bytes_max);
