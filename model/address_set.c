#include "model/address_set.h"

#include "base/require.h"

#include <stdlib.h>
#include <string.h>

#define WORD_BITS 64u
#define WORD_FULL UINT64_MAX

void address_set_init(struct address_set *set)
{
    *set = (struct address_set){0};
}

void address_set_fini(struct address_set *set)
{
    free(set->words);
    *set = (struct address_set){0};
}

bool address_set_has(const struct address_set *set, uint32_t offset)
{
    uint32_t word = offset / WORD_BITS;
    return word < set->word_count && (set->words[word] >> (offset % WORD_BITS) & 1) != 0;
}

static void grow(struct address_set *set, uint32_t word_count)
{
    uint32_t capacity = set->word_count < 4 ? 4 : set->word_count * 2;
    while (capacity < word_count) {
        capacity *= 2;
    }
    uint64_t *words = realloc(set->words, capacity * sizeof(*words));
    REQUIRE(words != NULL);
    memset(words + set->word_count, 0, (capacity - set->word_count) * sizeof(*words));
    set->words = words;
    set->word_count = capacity;
}

void address_set_mark(struct address_set *set, uint32_t offset)
{
    REQUIRE(offset <= ADDRESS_OFFSET_MAX);
    REQUIRE(!address_set_has(set, offset));
    uint32_t word = offset / WORD_BITS;
    if (word >= set->word_count) {
        grow(set, word + 1);
    }
    set->words[word] |= UINT64_C(1) << (offset % WORD_BITS);
    set->count++;
    while (set->full_count < set->word_count &&
           set->words[set->full_count] == WORD_FULL) {
        set->full_count++;
    }
}

void address_set_clear(struct address_set *set, uint32_t offset)
{
    REQUIRE(address_set_has(set, offset));
    uint32_t word = offset / WORD_BITS;
    set->words[word] &= ~(UINT64_C(1) << (offset % WORD_BITS));
    set->count--;
    if (word < set->full_count) {
        set->full_count = word;
    }
}

uint32_t address_set_next_free(const struct address_set *set, uint32_t from)
{
    if (from < set->full_count * WORD_BITS) {
        from = set->full_count * WORD_BITS;
    }
    for (uint32_t word = from / WORD_BITS; word < set->word_count; word++) {
        uint64_t free_bits = ~set->words[word];
        if (word == from / WORD_BITS) {
            free_bits &= WORD_FULL << (from % WORD_BITS);
        }
        if (free_bits != 0) {
            return word * WORD_BITS + (uint32_t)__builtin_ctzll(free_bits);
        }
    }
    uint32_t beyond = set->word_count * WORD_BITS;
    return from > beyond ? from : beyond;
}
