/* Is this leader still the leader? A round of questions to the voters, as in the read
 * index of the Raft thesis (6.4), without touching the log. Pure.
 *
 * A voter answers with the term it is in. When a majority, ourselves included, was still
 * in our term after the round began, nobody of a higher term had been elected before
 * that; so what arrived before the round began may be answered as by the leader.
 * Heartbeats are acknowledged, and so leases renewed, only behind such a round: a leader
 * that was cut off or paused renews nothing. Shapes: a plain value. One round at a time;
 * what arrives meanwhile waits for the next. Limits: CONFIRM_VOTERS_MAX. Threads: none of
 * its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CONFIRM_VOTERS_MAX 16
#define CONFIRM_TIMEOUT_MS \
    400 /* then the round is asked anew: answers may have been lost */

struct confirm {
    uint64_t term;
    uint64_t round; /* 0: none yet */
    bool active;
    uint64_t started_ms;
    uint64_t voters[CONFIRM_VOTERS_MAX]; /* host uids, ourselves among them */
    bool answered[CONFIRM_VOTERS_MAX];
    unsigned voter_count;
};

/* A leadership of this term begins. */
void confirm_lead(struct confirm *confirm, uint64_t term);
/* Begins a round with these voters; `self` counts as answered. True when that is a
 * majority already (a single voter): the round is over. At least one voter. */
bool confirm_begin(struct confirm *confirm,
                   const uint64_t *voters,
                   unsigned voter_count,
                   uint64_t self,
                   uint64_t now_ms);
/* A voter's answer; true when it completes the round. Stale rounds, other terms and
 * strangers are ignored. */
bool confirm_answer(struct confirm *confirm,
                    uint64_t voter,
                    uint64_t round,
                    uint64_t term);
/* True when the round has waited too long. */
bool confirm_expired(const struct confirm *confirm, uint64_t now_ms);
