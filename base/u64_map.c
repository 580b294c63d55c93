#include "base/u64_map.h"

#include "base/require.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 16 /* a power of two, as every capacity */

struct slot {
    uint64_t key; /* 0: free */
    void *value;
};

struct u64_map {
    struct slot *slots; /* NULL while empty */
    size_t capacity;
    size_t count;
};

/* Ids count upwards and addresses share their low bits: mix all of them into the low
 * ones. */
static size_t home_of(uint64_t key, size_t capacity)
{
    key ^= key >> 32;
    key *= UINT64_C(0x9e3779b97f4a7c15);
    key ^= key >> 29;
    return key & (capacity - 1);
}

/* The slot that holds key, or the free one where it would go. The table is never full. */
static struct slot *slot_find(struct slot *slots, size_t capacity, uint64_t key)
{
    size_t i = home_of(key, capacity);
    while (slots[i].key != 0 && slots[i].key != key) {
        i = (i + 1) & (capacity - 1);
    }
    return &slots[i];
}

static int grow(struct u64_map *map)
{
    size_t capacity = map->capacity == 0 ? CAPACITY_MIN : 2 * map->capacity;
    struct slot *slots = calloc(capacity, sizeof(*slots));
    if (slots == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->slots[i].key != 0) {
            *slot_find(slots, capacity, map->slots[i].key) = map->slots[i];
        }
    }
    free(map->slots);
    map->slots = slots;
    map->capacity = capacity;
    return 0;
}

struct u64_map *u64_map_new(void)
{
    return calloc(1, sizeof(struct u64_map));
}

struct u64_map *u64_map_free(struct u64_map *map)
{
    if (map != NULL) {
        free(map->slots);
        free(map);
    }
    return NULL;
}

int u64_map_put(struct u64_map *map, uint64_t key, void *value)
{
    REQUIRE(key != 0);
    REQUIRE(value != NULL);
    struct slot *slot = NULL;
    if (map->count > 0) {
        slot = slot_find(map->slots, map->capacity, key);
    }
    if (slot == NULL || slot->key == 0) {
        if ((map->count + 1) * 10 > map->capacity * 7) {
            int r = grow(map);
            if (r < 0) {
                return r;
            }
        }
        slot = slot_find(map->slots, map->capacity, key);
        slot->key = key;
        map->count++;
    }
    slot->value = value;
    return 0;
}

void *u64_map_get(const struct u64_map *map, uint64_t key)
{
    if (map->count == 0 || key == 0) {
        return NULL;
    }
    return slot_find(map->slots, map->capacity, key)->value;
}

/* Closes the gap at `hole`: each follower whose way from home passes the hole moves into
 * it, so that no marker is needed. */
static void close_gap(struct u64_map *map, size_t hole)
{
    size_t mask = map->capacity - 1;
    for (size_t i = (hole + 1) & mask; map->slots[i].key != 0; i = (i + 1) & mask) {
        size_t home = home_of(map->slots[i].key, map->capacity);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole] = (struct slot){0};
}

void *u64_map_remove(struct u64_map *map, uint64_t key)
{
    if (map->count == 0 || key == 0) {
        return NULL;
    }
    struct slot *slot = slot_find(map->slots, map->capacity, key);
    if (slot->key == 0) {
        return NULL;
    }
    void *value = slot->value;
    close_gap(map, (size_t)(slot - map->slots));
    map->count--;
    return value;
}

size_t u64_map_count(const struct u64_map *map)
{
    return map->count;
}

bool u64_map_next(const struct u64_map *map,
                  size_t *cursor,
                  uint64_t *ret_key,
                  void **ret_value)
{
    for (size_t i = *cursor; i < map->capacity; i++) {
        if (map->slots[i].key != 0) {
            *ret_key = map->slots[i].key;
            *ret_value = map->slots[i].value;
            *cursor = i + 1;
            return true;
        }
    }
    *cursor = map->capacity;
    return false;
}
