#include "base/random.h"

#include "base/require.h"

#include <errno.h>
#include <sys/random.h>

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return (value << bits) | (value >> (64 - bits));
}

/* splitmix64: spreads one number over the whole state, also a small one or 0. */
static uint64_t seed_next(uint64_t *seed)
{
    *seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t value = *seed;
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

void random_seed(struct random *random, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) {
        random->state[i] = seed_next(&seed);
    }
}

uint64_t random_u64(struct random *random)
{
    uint64_t *state = random->state;
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

uint64_t random_below(struct random *random, uint64_t bound)
{
    REQUIRE(bound > 0);
    /* The lowest 2^64 mod bound values would make small results more likely: draw again.
     */
    uint64_t unfair = (0 - bound) % bound;
    uint64_t value = random_u64(random);
    while (value < unfair) {
        value = random_u64(random);
    }
    return value % bound;
}

void random_secret(void *ret_data, size_t size)
{
    unsigned char *place = ret_data;
    while (size > 0) {
        ssize_t count = getrandom(place, size, 0);
        REQUIRE(count > 0 || errno == EINTR);
        if (count > 0) {
            place += count;
            size -= (size_t)count;
        }
    }
}
