/* Votes, where libraft gives or refuses them otherwise than Raft does: the guard's rules
 * G4, G14, G15, G17, G19 and G22 (raft_guard.h says what each is for).
 *
 * Private to the room. Shapes: libraft's own; what is asked is the public `struct raft`
 * of a voter, and answers are changed in place. What is written of that struct, and so to
 * be looked at again with a newer libraft: a standby's role during a call, the leader's
 * id, and a candidate's phase. Units: times of the raft's io, terms. Threads: the loop's.
 * Ownership: all borrowed for the call. Errors: none.
 */
#pragma once

#include <stdbool.h>

struct raft;
struct raft_message;
struct raft_request_vote;
struct raft_request_vote_result;

/* G4: in one term one vote, also for the target of a transfer. */
bool raft_votes_is_second(const struct raft *raft, const struct raft_request_vote *args);
/* Has libraft answer a request for a vote, by `answer`, as one who counts as a voter
 * (G14) and has forgotten a leader that is silent for an election timeout at `now` (G17).
 */
void raft_votes_answer(struct raft *raft,
                       unsigned long long now,
                       void (*answer)(void *context, struct raft_message *message),
                       void *context,
                       struct raft_message *message);
/* G19: this one is the only voter, and about to lead when nobody leads. */
bool raft_votes_is_alone(const struct raft *raft);
/* G15: a refusal of a pre-vote names the term that stands in the way. */
void raft_votes_name_term(const struct raft *raft,
                          struct raft_request_vote_result *result);
/* G22: to be called before a tick. A candidate whose election has come to nothing at
 * `now` asks whether it may stand before it does so once more, and no more as one that a
 * leader has named. */
void raft_votes_ask_again(struct raft *raft, unsigned long long now);
/* G22: it was told that it may stand, but for a term that is past. */
bool raft_votes_is_stale(const struct raft *raft,
                         const struct raft_request_vote_result *result);
