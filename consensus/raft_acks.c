#include "consensus/raft_acks.h"

static void forget_other_terms(struct raft_acks *acks, uint64_t term)
{
    if (acks->count > 0 && acks->kept[0].term != term) {
        acks->count = 0;
    }
}

void raft_acks_keep(struct raft_acks *acks, struct raft_ack ack)
{
    forget_other_terms(acks, ack.term);
    for (unsigned i = 0; i < acks->count; i++) {
        struct raft_ack *kept = &acks->kept[i];
        if (kept->from == ack.from) {
            if (ack.last_index > kept->last_index) {
                *kept = ack;
            }
            return;
        }
    }
    if (acks->count < CONSENSUS_MEMBERS_MAX) {
        acks->kept[acks->count++] = ack;
    }
}

bool raft_acks_take(struct raft_acks *acks, uint64_t term, struct raft_ack *ret_ack)
{
    forget_other_terms(acks, term);
    if (acks->count == 0) {
        return false;
    }
    *ret_ack = acks->kept[--acks->count];
    return true;
}
