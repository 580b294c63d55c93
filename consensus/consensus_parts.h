/* One member of the log from the inside (consensus/consensus.h): its requests and where
 * they are.
 *
 * Shapes: a proposal waits, goes into a batch (one log entry), is answered; a waiter is
 * anything with a status alone. Fields private to consensus.c (leadership, life, what is
 * asked for) and consensus_queue.c (the way of a request). Threads: the loop's.
 * Ownership: requests belong to the list they are in; told, they are freed.
 */
#pragma once

#include "base/list.h"
#include "consensus/consensus.h"
#include "consensus/loop_turn.h"
#include "consensus/member_change.h"
#include "consensus/raft_node.h"

/* A proposal: in `queue`, then in a batch, then in `answered`. */
struct proposal {
    struct list link;
    void (*done)(void *context, int status, const struct consensus_result *result);
    void *context;
    uint64_t deadline_ms;
    int status;
    struct consensus_result result;
    size_t size;
    uint8_t data[];
};

/* One log entry under way. */
struct batch {
    struct list link;
    struct consensus *consensus;
    struct list proposals;
    uint64_t index;
};

/* Anything with a status alone: reads, transfers, changes of members. */
struct waiter {
    struct list link;
    void (*done)(void *context, int status);
    void *context;
    uint64_t deadline_ms;
    int status;
    bool is_read; /* counted in reads_count */
};

struct consensus {
    struct loop_turn *turn; /* all work is done in turns, never inside the library */
    struct raft_node *node; /* NULL once closed */
    struct consensus_fsm fsm;
    struct consensus_events events;
    uint64_t id;
    unsigned election_ms;
    unsigned in_flight_max;
    unsigned in_flight;
    uint64_t reserve_bytes;
    uint64_t member_stable_ms;
    uint64_t member_wait_ms;

    struct raft_node_view view;
    uint64_t ready_since_ms;
    uint64_t told_term;
    uint64_t told_leader_id;

    struct list queue;   /* struct proposal */
    size_t queued_count; /* waiting or under way */
    size_t queued_bytes;
    struct list batches;  /* struct batch, under way */
    struct list answered; /* struct proposal */

    struct list reads; /* struct waiter, next barrier */
    struct list reads_under_way;
    size_t reads_count;
    struct list waiters_answered;

    struct member_change change;
    struct waiter *change_waiter;
    struct waiter *transfer;
    uint64_t transfer_id;

    uint64_t expired_ms;
    uint64_t sealed_ms;
    struct err fatal; /* code 0: none */
    void (*closed)(void *context);
    void *closed_context;
    struct consensus_counters counters;
    bool started;
    bool told_leader; /* what on_leadership has heard, with told_term */
    bool barrier_under_way;
    bool transfer_submitted;
    bool fatal_told;
    bool closing;
    bool hand_over;
    bool handing_over; /* the transfer under way is our last */
    bool node_closing;
};

static inline uint64_t consensus_now(const struct consensus *c)
{
    return loop_turn_now_ms(c->turn);
}

/* Moved to those that are told at the end of the turn. */
void consensus_answer_all(struct consensus *c, struct list *proposals, int status);
void consensus_answer_waiter(struct consensus *c, struct waiter *waiter, int status);
void consensus_answer_waiters(struct consensus *c, struct list *waiters, int status);
void consensus_tell_proposals(struct consensus *c);
void consensus_tell_waiters(struct consensus *c);
struct waiter *consensus_waiter_new(struct consensus *c,
                                    uint64_t timeout_ms,
                                    void (*done)(void *context, int status),
                                    void *context);
void consensus_flush_batches(struct consensus *c);
void consensus_flush_reads(struct consensus *c);
void consensus_keep_time(struct consensus *c);
