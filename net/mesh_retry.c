#include "net/mesh_retry.h"

#define COUNT_MAX 16u /* 500 << 16 is above all bounds */
#define SLACK_MS  UINT64_C(1000)

unsigned mesh_retry_count(unsigned count)
{
    return count < COUNT_MAX ? count + 1 : COUNT_MAX;
}

uint64_t mesh_retry_wait_ms(unsigned count, uint64_t max_ms)
{
    const uint64_t wait_ms = MESH_RETRY_MIN_MS << (count < COUNT_MAX ? count : COUNT_MAX);
    return wait_ms < max_ms ? wait_ms : max_ms;
}

uint64_t mesh_retry_lapse_ms(unsigned count, uint64_t max_ms)
{
    const uint64_t wait_ms = mesh_retry_wait_ms(count, max_ms);
    return wait_ms + mesh_retry_wait_ms(count, MESH_RETRY_MAX_MS) + SLACK_MS;
}
