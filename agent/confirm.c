#include "agent/confirm.h"

#include "base/require.h"

#include <string.h>

static bool has_majority(const struct confirm *confirm)
{
    unsigned answered = 0;
    for (unsigned i = 0; i < confirm->voter_count; i++) {
        answered += confirm->answered[i] ? 1U : 0U;
    }
    return answered * 2 > confirm->voter_count;
}

void confirm_lead(struct confirm *confirm, uint64_t term)
{
    uint64_t round =
        confirm->round; /* goes on rising: answers to an earlier leadership stay stale */
    *confirm = (struct confirm){.term = term, .round = round};
}

bool confirm_begin(struct confirm *confirm,
                   const uint64_t *voters,
                   unsigned voter_count,
                   uint64_t self,
                   uint64_t now_ms)
{
    REQUIRE(voter_count > 0 && voter_count <= CONFIRM_VOTERS_MAX);
    confirm->round++;
    confirm->active = true;
    confirm->started_ms = now_ms;
    confirm->voter_count = voter_count;
    memcpy(confirm->voters, voters, voter_count * sizeof(voters[0]));
    for (unsigned i = 0; i < voter_count; i++) {
        confirm->answered[i] = voters[i] == self;
    }
    if (has_majority(confirm)) {
        confirm->active = false;
        return true;
    }
    return false;
}

bool confirm_answer(struct confirm *confirm,
                    uint64_t voter,
                    uint64_t round,
                    uint64_t term)
{
    if (!confirm->active || round != confirm->round || term != confirm->term) {
        return false;
    }
    for (unsigned i = 0; i < confirm->voter_count; i++) {
        if (confirm->voters[i] == voter) {
            confirm->answered[i] = true;
        }
    }
    if (has_majority(confirm)) {
        confirm->active = false;
        return true;
    }
    return false;
}

bool confirm_expired(const struct confirm *confirm, uint64_t now_ms)
{
    return confirm->active && now_ms - confirm->started_ms >= CONFIRM_TIMEOUT_MS;
}
