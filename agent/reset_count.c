#include "agent/reset_count.h"

unsigned reset_count_add(struct reset_count *count, uint64_t now_ms)
{
    const uint64_t life_ms = now_ms - count->alive_ms;
    count->alive_ms = now_ms;
    if (count->reset_ms != 0 && now_ms - count->reset_ms < RESET_SAME_MS) {
        return 0;
    }
    count->reset_ms = now_ms;
    count->in_row = life_ms < RESET_LIFE_MS ? count->in_row + 1 : 1;
    return count->in_row;
}
