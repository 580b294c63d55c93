#include "sim_linear.h"

#include "base/require.h"

#include <stdbool.h>
#include <stdlib.h>

#define NONE SIZE_MAX

/* A call or a return, in a list by time. Calls are entries [0, count), the return of
 * operation i is entry count + i. */
struct entry {
    uint64_t at;
    size_t before, after;
    bool listed;
};

/* Where the search has been: which operations had taken effect, as two sums of a number
 * that each has, and the state. */
struct place {
    uint64_t sum, other_sum;
    uint64_t state;
    bool used;
};

struct taken {
    size_t op;
    uint64_t state; /* before it */
};

struct search {
    const struct linear_op *ops;
    size_t count;
    struct entry *entries; /* and one more, the head */
    size_t *order;
    size_t unanswered; /* returns that are listed */
    struct taken *stack;
    size_t depth;
    uint64_t state;
    struct place here;
    struct place *seen;
    size_t seen_count, seen_capacity; /* a power of two */
};

/* ---- the list ---- */

static bool is_return(const struct search *search, size_t entry)
{
    return entry >= search->count;
}

static const struct search *sorting;

/* By time; at one instant calls come first. */
static int compare(const void *a, const void *b)
{
    size_t one = *(const size_t *)a;
    size_t other = *(const size_t *)b;
    uint64_t one_at = sorting->entries[one].at;
    uint64_t other_at = sorting->entries[other].at;
    if (one_at != other_at) {
        return one_at < other_at ? -1 : 1;
    }
    return one < other ? -1 : one > other ? 1 : 0;
}

static void link_entry(struct search *search, size_t entry)
{
    struct entry *it = &search->entries[entry];
    search->entries[it->before].after = entry;
    if (it->after != NONE) {
        search->entries[it->after].before = entry;
    }
    it->listed = true;
}

static void unlink_entry(struct search *search, size_t entry)
{
    struct entry *it = &search->entries[entry];
    search->entries[it->before].after = it->after;
    if (it->after != NONE) {
        search->entries[it->after].before = it->before;
    }
    it->listed = false;
}

/* What nobody saw and nobody was answered need not have been. */
static bool is_idle(const struct search *search, size_t op)
{
    const struct linear_op *it = &search->ops[op];
    for (size_t i = 0; i < search->count && it->returned == LINEAR_NEVER; i++) {
        if (it->leaves != LINEAR_KEEP && search->ops[i].needs == it->leaves) {
            return false;
        }
    }
    return it->returned == LINEAR_NEVER;
}

static void list_all(struct search *search)
{
    size_t head = 2 * search->count;
    size_t used = 0;
    for (size_t i = 0; i < search->count; i++) {
        search->entries[i].at = search->ops[i].called;
        if (is_idle(search, i)) {
            continue;
        }
        search->order[used++] = i;
        if (search->ops[i].returned != LINEAR_NEVER) {
            search->entries[search->count + i].at = search->ops[i].returned;
            search->order[used++] = search->count + i;
            search->unanswered++;
        }
    }
    sorting = search;
    qsort(search->order, used, sizeof(*search->order), compare);
    search->entries[head] = (struct entry){.before = NONE, .after = NONE};
    for (size_t i = 0; i < used; i++) {
        struct entry *it = &search->entries[search->order[i]];
        it->before = i > 0 ? search->order[i - 1] : head;
        it->after = NONE;
        link_entry(search, search->order[i]);
    }
}

/* ---- where the search has been ---- */

static uint64_t mix(uint64_t number)
{
    number += UINT64_C(0x9e3779b97f4a7c15);
    number = (number ^ (number >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    number = (number ^ (number >> 27)) * UINT64_C(0x94d049bb133111eb);
    return number ^ (number >> 31);
}

static struct place *find(struct search *search, const struct place *place)
{
    size_t mask = search->seen_capacity - 1;
    size_t at = (size_t)mix(place->sum ^ mix(place->state)) & mask;
    while (search->seen[at].used && (search->seen[at].sum != place->sum ||
                                     search->seen[at].other_sum != place->other_sum ||
                                     search->seen[at].state != place->state)) {
        at = (at + 1) & mask;
    }
    return &search->seen[at];
}

static void grow(struct search *search)
{
    struct place *before = search->seen;
    size_t capacity = search->seen_capacity;
    search->seen_capacity = capacity == 0 ? 1024 : capacity * 2;
    search->seen = calloc(search->seen_capacity, sizeof(*search->seen));
    REQUIRE(search->seen != NULL);
    for (size_t i = 0; i < capacity; i++) {
        if (before[i].used) {
            *find(search, &before[i]) = before[i];
        }
    }
    free(before);
}

/* True the first time. */
static bool is_new(struct search *search, struct place place)
{
    if (search->seen_count * 2 >= search->seen_capacity) {
        grow(search);
    }
    struct place *found = find(search, &place);
    if (found->used) {
        return false;
    }
    place.used = true;
    *found = place;
    search->seen_count++;
    return true;
}

static struct place place_with(const struct search *search, size_t op, uint64_t state)
{
    struct place place = search->here;
    place.sum += mix(op);
    place.other_sum += mix(~(uint64_t)op);
    place.state = state;
    return place;
}

/* ---- the search ---- */

static bool fits(const struct search *search, size_t op)
{
    uint64_t needs = search->ops[op].needs;
    return needs == LINEAR_ANY || needs == search->state;
}

/* The operation takes effect now, unless that leads where the search has been. */
static bool take(struct search *search, size_t op)
{
    const struct linear_op *it = &search->ops[op];
    if (!fits(search, op)) {
        return false;
    }
    uint64_t state = it->leaves == LINEAR_KEEP ? search->state : it->leaves;
    struct place place = place_with(search, op, state);
    if (!is_new(search, place)) {
        return false;
    }
    search->stack[search->depth++] = (struct taken){.op = op, .state = search->state};
    search->here = place;
    search->state = state;
    unlink_entry(search, op);
    if (it->returned != LINEAR_NEVER) {
        unlink_entry(search, search->count + op);
        search->unanswered--;
    }
    return true;
}

/* The last one did not after all; returns it. */
static size_t take_back(struct search *search)
{
    struct taken last = search->stack[--search->depth];
    if (search->ops[last.op].returned != LINEAR_NEVER) {
        link_entry(search, search->count + last.op);
        search->unanswered++;
    }
    link_entry(search, last.op);
    search->state = last.state;
    search->here.sum -= mix(last.op);
    search->here.other_sum -= mix(~(uint64_t)last.op);
    search->here.state = last.state;
    return last.op;
}

static enum linear run(struct search *search, size_t *ret_stuck)
{
    size_t head = 2 * search->count;
    size_t at = search->entries[head].after;
    uint64_t furthest = 0;
    for (unsigned steps = 0; steps < LINEAR_STEPS_MAX; steps++) {
        if (search->unanswered == 0) {
            return LINEAR_YES;
        }
        REQUIRE(at != NONE); /* a return is listed, and stops us */
        if (!is_return(search, at)) {
            bool taken = take(search, at);
            at = search->entries[taken ? head : at].after;
            continue;
        }
        if (search->entries[at].at >= furthest) {
            furthest = search->entries[at].at;
            *ret_stuck = at - search->count;
        }
        /* A read that fits is never better taken later: only others are tried anew. */
        size_t back = NONE;
        while (search->depth > 0 &&
               (back == NONE || search->ops[back].leaves == LINEAR_KEEP)) {
            back = take_back(search);
        }
        if (back == NONE || search->ops[back].leaves == LINEAR_KEEP) {
            return LINEAR_NO;
        }
        at = search->entries[back].after;
    }
    return LINEAR_UNDECIDED;
}

enum linear linear_check(const struct linear_op *ops,
                         size_t count,
                         uint64_t initial,
                         size_t *ret_stuck)
{
    size_t stuck = 0;
    struct search search = {.ops = ops, .count = count, .state = initial};
    search.entries = calloc(2 * count + 1, sizeof(*search.entries));
    search.order = calloc(2 * count + 1, sizeof(*search.order));
    search.stack = calloc(count + 1, sizeof(*search.stack));
    REQUIRE(search.entries != NULL && search.order != NULL && search.stack != NULL);
    search.here.state = initial;
    list_all(&search);
    enum linear linear = run(&search, &stuck);
    free(search.entries);
    free(search.order);
    free(search.stack);
    free(search.seen);
    if (ret_stuck != NULL) {
        *ret_stuck = stuck;
    }
    return linear;
}
