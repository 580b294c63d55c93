/* Keeps the control plane on enough hosts: the leader's care for the log's members.
 *
 * Shapes: struct voters compares the log's configuration with the hosts and makes one
 * change at a time, by the checked calls of consensus.h. What is to be done next is a
 * function of values: voters_decide. A ready host is told to open its log (HOST_VOTER
 * standby), is added as standby, promoted once it has caught up, and recorded as voter.
 * With fewer than three hosts one voter is kept: two would stop when either does; so of
 * the last two the drained one leaves the log, and can then be removed. What is in the
 * log without a host record belongs to a removed host: it leaves the log before anything
 * else is done, for as a voter it may never answer again; a leader without a record hands
 * over first. So that it does not come to this, a drained voter is replaced when another
 * host can vote, which comes before it goes; and its record may go (voters_check_removal)
 * when it has left the log, or, with no step to be taken before (whose change failed last
 * is not waited for), when the others are well. A voter whose host has been lost for
 * VOTERS_LOST_MS leaves the log, too, when another host can take its place and all other
 * voters are well; first the lost one goes, since nobody can be added while a voter does
 * not answer, and two of two stand a loss no worse than two of three. A host whose change
 * failed rests a while, and the others come before it. On every voter, leading or not:
 * whoever has left the log loses the channels that it has to this one. Threads: the
 * loop's. Errors are logged and tried again at a later tick.
 */
#pragma once

#include "agent/control.h"
#include "base/clock.h"
#include "base/err.h"
#include "consensus/consensus.h"
#include "model/objects.h"

#include <stdbool.h>
#include <stdint.h>

#define VOTERS_RETRY_MS 500
#ifndef VOTERS_TARGET /* tests/chaos builds a berthd with more voters */
#define VOTERS_TARGET 3
#endif
/* Hosts that are rebooted or repaired by hand are back in minutes, with their log; until
 * then the others decide without them, and nothing is won by copying the log elsewhere.
 */
#ifndef VOTERS_LOST_MS /* likewise, with less patience */
#define VOTERS_LOST_MS (UINT64_C(5) * 60 * 1000)
#endif
/* A voter that does not follow for so long is not replaced before its record may go: who
 * is asked to try again in some seconds has to come to an end. */
#define VOTERS_AWAY_MS     10000
#define VOTERS_REST_MS     2000 /* after a change that failed; doubles with each one */
#define VOTERS_REST_MAX_MS 60000

/* The host that has this member id; NULL: none has a record (any more). Borrowed from the
 * state. */
const struct host *voters_find_host(const struct state *state, uint64_t raft_id);

/* One host, as the decision sees it. */
struct voters_host {
    uint64_t raft_id;
    enum host_phase phase; /* REMOVED: in the log, and nobody has a record of it */
    bool drain;
    enum voter_role recorded; /* in the replicated state */
    enum consensus_role role; /* in the log's configuration */
    bool recent;              /* the log's leader has heard of it just now */
    bool self;                /* the leader's own host */
    uint64_t lost_ms;         /* lost for so long; 0: it is not */
    uint64_t away_ms;         /* not recent for so long, and likewise */
    unsigned failures;        /* changes that failed, in a row */
    bool rests;               /* not again yet */
};

enum voters_step {
    VOTERS_STEP_NONE = 0,
    VOTERS_STEP_REMOVE,         /* from the log */
    VOTERS_STEP_RECORD_NONE,    /* in the replicated state */
    VOTERS_STEP_RECORD_STANDBY, /* its orders tell it to open its log */
    VOTERS_STEP_RECORD_VOTER,
    VOTERS_STEP_ADD, /* as standby */
    VOTERS_STEP_PROMOTE,
    VOTERS_STEP_HAND_OVER, /* leadership, to that host */
};

/* What to do next, and with which of the hosts (*ret_index; unset for NONE). Pure. */
enum voters_step
voters_decide(const struct voters_host *hosts, unsigned count, unsigned *ret_index);

/* Whether a host's record may go once it is drained, and with it its key: from then on it
 * is heard in the log only over a channel that is there, and leaves the log only if all
 * other voters answer. */
enum voters_farewell {
    VOTERS_FAREWELL_NOW = 0,
    VOTERS_FAREWELL_SOON,     /* another one takes its place in the log first */
    VOTERS_FAREWELL_HINDERED, /* *ret_other, which votes, is not well */
};

/* SOON only while voters_decide has a step to take, other than one that failed last, or
 * has one when this host follows again, for VOTERS_AWAY_MS. How many voters are left is
 * apply's to judge. Pure; uses up the hosts, in which it marks what it assumes. */
enum voters_farewell voters_bid_farewell(struct voters_host *hosts,
                                         unsigned count,
                                         unsigned index,
                                         unsigned *ret_other);

struct voters;

struct voters *voters_new(const struct clock *clock, struct control *control);
struct voters *voters_free(struct voters *voters);
/* Leadership begins or ends. */
void voters_lead(struct voters *voters, bool leads);
/* Looks whether something is to be done; for every voter, whether it leads or not. */
void voters_tick(struct voters *voters, uint64_t now_ms);
/* The same for a host of the state, on the leader, drained or not: its drain may be on
 * its way. 0, BERTH_EINUSE with what to do, or -ENOMEM. */
int voters_check_removal(struct voters *voters,
                         const struct host *host,
                         uint64_t now_ms,
                         struct err *err);
/* Host uids of the log's voters as its configuration has them; the count, at most max. */
unsigned voters_uids(const struct voters *voters, uint64_t *ret_uids, unsigned max);
