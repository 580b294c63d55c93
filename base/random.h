/* Randomness as a value.
 *
 * `struct random` is a small seeded generator (xoshiro256**) for jitter, sampling and
 * simulation: the same seed gives the same run. random_secret fills from the kernel and
 * is the only source for keys, tokens and request ids. Threads: a generator belongs to
 * one thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t state[4];
};

void random_seed(struct random *random, uint64_t seed);
uint64_t random_u64(struct random *random);
/* Uniform in [0, bound), bound > 0. */
uint64_t random_below(struct random *random, uint64_t bound);
/* Fills from the kernel's generator; cannot fail after boot (aborts otherwise). */
void random_secret(void *ret_data, size_t size);
