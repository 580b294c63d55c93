/* What is read of libraft behind its interface, by its version: the one place that a
 * newer libraft has to be fitted at.
 *
 * The guard judges requests by the terms of the log in libraft's memory and by what the
 * leader knows of a follower, and libraft says neither by a call. Up to 0.16 its header
 * has the structs; from 0.18 on they are in no header any more and are laid out here as
 * there (src/log.h and src/progress.h of 0.18.1, the last release). Other versions do not
 * compile: read in those what is below, and the guard's list (raft_guard.h), first.
 *
 * Threads: the loop's. Errors: none; a library that is another one at run time is for the
 * caller to refuse.
 */
#pragma once

#include <raft.h>
#include <raft/uv.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a follower, while a snapshot is on its way to it; in no header of any version. */
#define RAFT_LIBRARY_PROGRESS_SNAPSHOT 2

#ifndef RAFT_VERSION_NUMBER /* 0.15 and 0.16 do not say */

/* What a vote's answer says that is not one to a question ahead of an election, and what
 * one says that is. */
#define RAFT_LIBRARY_REAL_VOTE raft_tribool_false
#define RAFT_LIBRARY_PRE_VOTE  raft_tribool_true
/* How many entries a leader begins its term with by itself; the guard adds its own. */
#define RAFT_LIBRARY_OPENING 0
/* Whether a write that fails leaves a leader one (G2), and a write under way does not
 * keep a follower from an election. */
#define RAFT_LIBRARY_IGNORES_WRITES 1

static inline void raft_library_fit_transport(struct raft_uv_transport *transport)
{
    (void)transport;
}

/* Whether the library that was found at run time is the one that this was built for. */
static inline bool raft_library_is_known(void)
{
    return true; /* another one has another name: its soname */
}

typedef struct raft_log raft_library_log;
typedef struct raft_progress raft_library_progress;

static inline const raft_library_log *raft_library_log_of(const struct raft *raft)
{
    return &raft->log;
}

/* Of the newest members that are committed. */
static inline uint64_t raft_library_members_index(const struct raft *raft)
{
    return raft->configuration_index;
}

/* The change that it has loaded may not be committed; those before are of this entry. */
static inline void
raft_library_members_are_open(struct raft *raft, uint64_t before, uint64_t change)
{
    raft->configuration_index = before;
    raft->configuration_uncommitted_index = change;
}

#elif RAFT_VERSION_NUMBER >= 1800 && RAFT_VERSION_NUMBER < 1900

#define RAFT_LIBRARY_REAL_VOTE      false
#define RAFT_LIBRARY_PRE_VOTE       true
#define RAFT_LIBRARY_OPENING        1
#define RAFT_LIBRARY_IGNORES_WRITES 0

static inline void raft_library_fit_transport(struct raft_uv_transport *transport)
{
    transport->version = 1; /* the methods that it has are those of this one */
}

/* 0.17 has the same soname, and other structs. */
static inline bool raft_library_is_known(void)
{
    return raft_version_number() == RAFT_VERSION_NUMBER;
}

typedef struct {
    struct raft_entry *entries;
    size_t size;
    size_t front, back;
    raft_index offset;
    void *refs;
    size_t refs_size;
    struct {
        raft_index last_index;
        raft_term last_term;
    } snapshot;
} raft_library_log;

typedef struct {
    unsigned short state;
    raft_index next_index;
    raft_index match_index;
    raft_index snapshot_index;
    raft_time last_send;
    raft_time snapshot_last_send;
    bool recent_recv;
    raft_flags features;
} raft_library_progress;

static inline const raft_library_log *raft_library_log_of(const struct raft *raft)
{
    return (const raft_library_log *)(const void *)raft->log;
}

static inline uint64_t raft_library_members_index(const struct raft *raft)
{
    return raft->configuration_committed_index;
}

static inline void
raft_library_members_are_open(struct raft *raft, uint64_t before, uint64_t change)
{
    (void)raft; /* it says so itself */
    (void)before;
    (void)change;
}

#else
#error "what Berth reads of this libraft is not known: see consensus/raft_library.h"
#endif

/* What the leader knows of the member at that place of the configuration. NULL: it does
 * not lead, or does not yet. */
static inline const raft_library_progress *
raft_library_progress_of(const struct raft *raft, unsigned at)
{
    const void *first =
        raft->state == RAFT_LEADER ? (const void *)raft->leader_state.progress : NULL;
    return first != NULL ? (const raft_library_progress *)first + at : NULL;
}

/* NULL: the log in memory does not hold it (any more). */
static inline const struct raft_entry *raft_library_entry(const struct raft *raft,
                                                          uint64_t index)
{
    const raft_library_log *log = raft_library_log_of(raft);
    size_t count = log->back >= log->front ? log->back - log->front
                                           : log->size - log->front + log->back;
    if (log->entries == NULL || index <= log->offset || index > log->offset + count) {
        return NULL;
    }
    return &log->entries[(log->front + (index - 1 - log->offset)) % log->size];
}

/* 0: not known. */
static inline uint64_t raft_library_term_of(const struct raft *raft, uint64_t index)
{
    const raft_library_log *log = raft_library_log_of(raft);
    const struct raft_entry *entry = raft_library_entry(raft, index);
    if (entry != NULL) {
        return entry->term;
    }
    return index != 0 && index == log->snapshot.last_index ? log->snapshot.last_term : 0;
}

/* When it will stand for election unless it hears of a leader, on the io's clock; 0: it
 * leads, or is not available. */
static inline uint64_t raft_library_election_due(const struct raft *raft)
{
    const unsigned short state = raft->state;
    const unsigned wait_ms =
        state == RAFT_FOLLOWER    ? raft->follower_state.randomized_election_timeout
        : state == RAFT_CANDIDATE ? raft->candidate_state.randomized_election_timeout
                                  : 0;
    return wait_ms != 0 ? raft->election_timer_start + wait_ms : 0;
}
