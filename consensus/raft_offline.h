/* A member's log while no member runs on it: what it holds, and a new one that begins
 * with a given state.
 *
 * For disasters only. Reading applies all that the log holds, entries that were perhaps
 * never committed included: they may have been answered, and nobody is left who knows
 * better. A new log begins with a snapshot of the state, at an index and a term of the
 * caller's, and has one voter. It does not use libraft's own recovery, which appends a
 * configuration of term 1 behind entries of later terms.
 * Reading writes nothing to the folder: libraft, whose loader cuts off what it cannot
 * read, has a private copy (log_copy.h), so that a start afterwards refuses as before.
 * Shapes: struct log_facts is a plain value. Units: indexes and terms of the log.
 * Threads: any; each call makes a loop of its own and returns when the disk is through.
 * Ownership: all borrowed for the call. Errors: BERTH_ENOTFOUND (there is no log),
 * BERTH_ECORRUPT (damaged, or shorter than it was: the seal says so), BERTH_EEXISTS (a
 * new one is made in an empty folder), BERTH_EDISKFULL (no room for the copy),
 * BERTH_ETOOLARGE, -errno.
 */
#pragma once

#include "base/err.h"
#include "consensus/consensus.h"

struct log_offline {
    const char *folder;
    uint64_t id; /* of the member whose log it is */
    uint64_t cluster_id;
    const char *address; /* "ip:port" */
};

struct log_facts {
    uint64_t term;
    uint64_t last_index;
    uint64_t last_term; /* of the entry at last_index */
    size_t member_count;
    struct consensus_member members[CONSENSUS_MEMBERS_MAX]; /* by the newest list of it */
    char damage[256]; /* what stood behind it is lost (log_check.h); "": none was found */
};

/* Gives the log's content to the state machine, whose snapshot is not asked for. Nothing
 * else may use the folder meanwhile. */
int log_offline_read(const struct log_offline *log,
                     const struct consensus_fsm *fsm,
                     struct log_facts *ret_facts,
                     struct err *err);
/* Durable when it returns 0; else what is in the folder is of no use. */
int log_offline_make(const struct log_offline *log,
                     uint64_t term,
                     uint64_t index,
                     const void *state,
                     size_t state_size,
                     struct err *err);
