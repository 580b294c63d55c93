/* The seal: what this voter has promised, kept beside the log so that a damaged or
 * shortened log is noticed at the next start instead of being voted with.
 *
 * The log's own files have no checksum over term and vote, and its loader takes a
 * damaged tail for a torn write and drops it. The seal holds {node, cluster, term and
 * vote before and after the last change, an index that was durable and its term} in
 * two checksummed slots of one file, written in turn.
 * Order: before a term or vote is written to the log's metadata, log_seal_intend
 * records old and new (a crash between the two leaves either); log_seal_settle
 * records later that the new one is there. Before the log is cut, log_seal_lower. So
 * at any start term and vote must be one of the recorded pairs, and the log must
 * reach the recorded index with the recorded term. A log in which nothing is yet has a
 * seal that promises nothing, so that a folder that was emptied is told from a new one.
 * Units: indexes and terms of the log. Threads: the loop's; each write waits for the
 * disk (one block, O_DSYNC, O_DIRECT where the file system has it), but that of
 * log_seal_settle_later, which a thread of the caller's pool does. One write is under way
 * at a time: every other call waits for it first, so that the slots stay in turn.
 * Errors: BERTH_ECORRUPT when the seal and the log disagree; -errno.
 */
#pragma once

#include "base/err.h"
#include "base/work_pool.h"
#include "consensus/consensus.h"

#include <stdbool.h>
#include <stdint.h>

#define LOG_SEAL_FILE CONSENSUS_SEAL_FILE

struct log_seal_state {
    uint64_t node_id;
    uint64_t cluster_id;
    uint64_t old_term;
    uint64_t old_vote;
    uint64_t term;
    uint64_t vote;
    uint64_t index; /* durable at least up to here; 0: nothing promised */
    uint64_t index_term;
};

struct seal_file;

struct log_seal {
    struct seal_file *file; /* owned */
    bool present;           /* the folder has a seal */
    uint64_t sequence;      /* of the newest slot */
    struct log_seal_state state;
    /* private: the write under way */
    struct work_pool *pool; /* NULL: none */
    struct work_job job;
    struct log_seal_state next; /* what it says */
    struct err write_err;       /* the thread's, until the job is done */
    void (*failed)(void *context, const struct err *err);
    void *failed_context;
};

/* Reads the folder's seal if there is one; it must be of this node and cluster. On error
 * nothing is held. */
int log_seal_open(struct log_seal *seal,
                  const char *folder,
                  uint64_t node_id,
                  uint64_t cluster_id,
                  struct err *err);
/* Harmless for a zeroed seal. Waits for a write under way. */
void log_seal_close(struct log_seal *seal);

/* Compares with what the log says at start, and goes on from there: its term and vote,
 * its last index, and the term at the sealed index (0 when that entry lies before the
 * log's first one, i.e. in the snapshot).
 */
int log_seal_check(struct log_seal *seal,
                   uint64_t term,
                   uint64_t vote,
                   uint64_t last_index,
                   uint64_t term_at_sealed_index,
                   struct err *err);

/* Term and vote are about to change. Creates the file when there is none. */
int log_seal_intend(struct log_seal *seal, uint64_t term, uint64_t vote, struct err *err);
/* Entries up to index are durable, and so is the last intended term and vote. Writes
 * nothing when the seal says so already. */
int log_seal_settle(struct log_seal *seal,
                    uint64_t index,
                    uint64_t index_term,
                    struct err *err);
/* Likewise, on a thread of the pool, whose only jobs these are: the seal says it once it
 * is there. Nothing while one is under way: the next call will say more. What could not
 * be written is told by the next call that waits for it, else by `failed`, on the loop.
 */
void log_seal_settle_later(struct log_seal *seal,
                           struct work_pool *pool,
                           uint64_t index,
                           uint64_t index_term,
                           void (*failed)(void *context, const struct err *err),
                           void *context);
/* Everything behind index is about to go. Writes nothing when less is promised anyway. */
int log_seal_lower(struct log_seal *seal,
                   uint64_t index,
                   uint64_t index_term,
                   struct err *err);
