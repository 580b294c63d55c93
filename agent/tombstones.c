#include "agent/tombstones.h"

#include "base/require.h"
#include "base/u64_map.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 64 /* 2 KiB */

struct place {
    uint64_t uid;
    struct tombstone tombstone;
};

struct tombstones {
    struct place *places;
    size_t count;
    size_t capacity;
    struct u64_map *by_uid; /* -> index + 1, as a pointer */
};

struct tombstones *tombstones_new(void)
{
    struct tombstones *set = calloc(1, sizeof(*set));
    if (set == NULL || (set->by_uid = u64_map_new()) == NULL) {
        return tombstones_free(set);
    }
    return set;
}

struct tombstones *tombstones_free(struct tombstones *set)
{
    if (set != NULL) {
        u64_map_free(set->by_uid);
        free(set->places);
        free(set);
    }
    return NULL;
}

static struct place *place_of(const struct tombstones *set, uint64_t uid)
{
    uintptr_t number = (uintptr_t)u64_map_get(set->by_uid, uid);
    return number != 0 ? &set->places[number - 1] : NULL;
}

/* 0 or -ENOMEM; of a VM that has a number already, nothing is allocated. */
static int number_set(struct tombstones *set, uint64_t uid, size_t index)
{
    return u64_map_put(set->by_uid, uid, (void *)((uintptr_t)index + 1));
}

static int make_room(struct tombstones *set)
{
    if (set->count < set->capacity) {
        return 0;
    }
    size_t capacity = set->capacity == 0 ? CAPACITY_MIN : 2 * set->capacity;
    struct place *places = reallocarray(set->places, capacity, sizeof(*places));
    if (places == NULL) {
        return -ENOMEM;
    }
    set->places = places;
    set->capacity = capacity;
    return 0;
}

int tombstones_put(struct tombstones *set, uint64_t uid, const struct tombstone *given)
{
    struct place *place = place_of(set, uid);
    if (place != NULL) {
        place->tombstone = *given;
        return 0;
    }
    int r = make_room(set);
    r = r != 0 ? r : number_set(set, uid, set->count);
    if (r == 0) {
        set->places[set->count++] = (struct place){.uid = uid, .tombstone = *given};
    }
    return r;
}

const struct tombstone *tombstones_get(const struct tombstones *set, uint64_t uid)
{
    const struct place *place = place_of(set, uid);
    return place != NULL ? &place->tombstone : NULL;
}

void tombstones_remove(struct tombstones *set, uint64_t uid)
{
    struct place *place = place_of(set, uid);
    if (place == NULL) {
        return;
    }
    const struct place *last = &set->places[set->count - 1];
    if (place != last) {
        *place = *last;
        (void)number_set(set, place->uid, (size_t)(place - set->places));
    }
    set->count--;
    (void)u64_map_remove(set->by_uid, uid);
}

size_t tombstones_count(const struct tombstones *set)
{
    return set->count;
}

const struct tombstone *
tombstones_at(const struct tombstones *set, size_t index, uint64_t *ret_uid)
{
    REQUIRE(index < set->count);
    *ret_uid = set->places[index].uid;
    return &set->places[index].tombstone;
}
