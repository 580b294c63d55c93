/* The addresses of one network that are taken: a bitmap over the offsets from its first
 * address, which grows to the highest one marked.
 *
 * Shapes: `struct address_set` is embedded in its owner; address_set_init / _fini.
 * Offsets are 0 to 2^24 - 1 (a /8). Threads: the owner's. Errors: out of memory aborts
 * (it is part of apply).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ADDRESS_OFFSET_MAX ((UINT32_C(1) << 24) - 1)

struct address_set {
    uint64_t *words; /* owned */
    uint32_t word_count;
    uint32_t full_count; /* words before this one are full: where a search may start */
    uint32_t count;      /* marked */
};

void address_set_init(struct address_set *set);
void address_set_fini(struct address_set *set);
bool address_set_has(const struct address_set *set, uint32_t offset);
/* The offset must be free. */
void address_set_mark(struct address_set *set, uint32_t offset);
/* The offset must be marked. */
void address_set_clear(struct address_set *set, uint32_t offset);
/* The lowest free offset at or after `from`; may be beyond every marked one. */
uint32_t address_set_next_free(const struct address_set *set, uint32_t from);
