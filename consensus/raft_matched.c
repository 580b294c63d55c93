#include "consensus/raft_matched.h"

void raft_matched_note(struct raft_matched *matched, uint64_t term, uint64_t index)
{
    if (term != matched->term) {
        *matched = (struct raft_matched){.term = term};
    }
    matched->index = index > matched->index ? index : matched->index;
}

uint64_t
raft_matched_last(const struct raft_matched *matched, uint64_t term, uint64_t last)
{
    const uint64_t shown = matched->term == term ? matched->index : 0;
    return last < shown ? last : shown;
}
