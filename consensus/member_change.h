/* One checked change of members (private to the room): settle, barrier, everybody
 * caught up, change, barrier.
 *
 *   SETTLE -> BARRIER_BEFORE -> CATCH_UP -> CHANGE (once or twice)
 *          -> BARRIER_AFTER -> FINISHED
 *
 * Why so careful: the library behind the log is weakest where members change while a
 * voter lags, a snapshot runs or leadership moves. Driven by member_change_turn, which
 * the owner calls on every turn of the loop; the library's answers only leave a note.
 * Units: milliseconds of the loop's clock. Threads: the loop's.
 * Ownership: embedded in the owner, which outlives the node.
 * Errors: in `status` when finished: 0, BERTH_ENOTLEADER, _EBUSY, _EUNREACHABLE,
 * _EUNKNOWN (leadership moved in the middle: look at the members).
 */
#pragma once

#include "consensus/consensus.h"
#include "consensus/raft_node.h"

#include <stdbool.h>
#include <stdint.h>

enum member_change_step {
    MEMBER_CHANGE_IDLE = 0,
    MEMBER_CHANGE_SETTLE,
    MEMBER_CHANGE_BARRIER_BEFORE,
    MEMBER_CHANGE_CATCH_UP,
    MEMBER_CHANGE_CHANGE,
    MEMBER_CHANGE_BARRIER_AFTER,
    MEMBER_CHANGE_FINISHED,
};

struct member_change {
    enum member_change_step step;
    struct raft_node *node; /* borrowed */
    uint64_t id;
    char address[CONSENSUS_ADDRESS_SIZE];
    enum consensus_role wanted;
    uint64_t deadline_ms;
    uint64_t barrier_index;
    bool waiting; /* for the library */
    int answer;   /* the library's */
    int status;   /* once finished */
};

/* Starts when idle and the wish makes sense; by the deadline a snapshot must have ended
 * and every voter have caught up. 0, or BERTH_EBUSY, _ENOTFOUND (promote,
 * remove: no such member), _EEXISTS (add: there under another role or address),
 * _EINVALID. */
int member_change_start(struct member_change *change,
                        struct raft_node *node,
                        uint64_t deadline_ms,
                        uint64_t id,
                        const char *address,
                        enum consensus_role wanted);
/* Goes on as far as possible. */
void member_change_turn(struct member_change *change, uint64_t now_ms);
/* Finished: gives the status and is idle again. */
bool member_change_take(struct member_change *change, int *ret_status);
