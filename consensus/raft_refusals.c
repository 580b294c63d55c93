#include "consensus/raft_refusals.h"

bool raft_refusals_note(struct raft_refusals *refusals,
                        bool refused,
                        uint64_t now_ms,
                        uint64_t *ret_ms)
{
    if (!refused) {
        *refusals = (struct raft_refusals){0};
        return false;
    }
    if (refusals->count++ == 0) {
        refusals->since_ms = now_ms;
    }
    bool due = refusals->told ? now_ms - refusals->told_ms >= RAFT_REFUSALS_AGAIN_MS
                              : now_ms - refusals->since_ms >= RAFT_REFUSALS_LONG_MS;
    if (due) {
        refusals->told = true;
        refusals->told_ms = now_ms;
        *ret_ms = now_ms - refusals->since_ms;
    }
    return due;
}
