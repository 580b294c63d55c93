#include "consensus/raft_votes.h"

#include "consensus/raft_library.h"

#include <raft.h>

#include <stddef.h>

bool raft_votes_is_second(const struct raft *raft, const struct raft_request_vote *args)
{
    return !args->pre_vote && raft->transfer != NULL &&
           args->term == raft->current_term && raft->voted_for != 0 &&
           raft->voted_for != args->candidate_id;
}

static struct raft_server *standby_self(const struct raft *raft)
{
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        struct raft_server *server = &raft->configuration.servers[i];
        if (server->id == raft->id) {
            return server->role == RAFT_STANDBY ? server : NULL;
        }
    }
    return NULL;
}

/* libraft's standbys believe in their last leader for ever, its voters until their own
 * time is up. */
static void forget_silent_leader(struct raft *raft, raft_time now)
{
    if (raft->state == RAFT_FOLLOWER &&
        now - raft->election_timer_start >= raft->election_timeout) {
        raft->follower_state.current_leader.id = 0;
    }
}

/* Whether the vote counts is the candidate's to say: it asks nobody but voters. */
void raft_votes_answer(struct raft *raft,
                       unsigned long long now,
                       void (*answer)(void *context, struct raft_message *message),
                       void *context,
                       struct raft_message *message)
{
    struct raft_server *self = standby_self(raft);
    forget_silent_leader(raft, now);
    if (self != NULL) {
        self->role = RAFT_VOTER;
    }
    answer(context, message);
    if (self != NULL) { /* a request for a vote changes no members */
        self->role = RAFT_STANDBY;
    }
}

bool raft_votes_is_alone(const struct raft *raft)
{
    unsigned others = 0;
    bool votes = false;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        votes = votes || (server->id == raft->id && server->role == RAFT_VOTER);
        others += server->id != raft->id && server->role == RAFT_VOTER;
    }
    return votes && others == 0;
}

void raft_votes_name_term(const struct raft *raft,
                          struct raft_request_vote_result *result)
{
    if (result->pre_vote == RAFT_LIBRARY_PRE_VOTE && !result->vote_granted &&
        result->term < raft->current_term) {
        result->term = raft->current_term;
    }
}

bool raft_votes_is_stale(const struct raft *raft,
                         const struct raft_request_vote_result *result)
{
    return raft->state == RAFT_CANDIDATE && raft->candidate_state.in_pre_vote &&
           result->pre_vote == RAFT_LIBRARY_PRE_VOTE && result->vote_granted &&
           result->term != raft->current_term + 1;
}

void raft_votes_ask_again(struct raft *raft, unsigned long long now)
{
    if (raft->state == RAFT_CANDIDATE && raft->pre_vote &&
        now >= raft_library_election_due(raft)) {
        raft->candidate_state.in_pre_vote = true;
        raft->candidate_state.disrupt_leader = false;
    }
}
