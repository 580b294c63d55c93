#include "base/string_map.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Open addressing with linear probing. A removed entry leaves a marker behind, so that a
 * visitor may remove what it stands on without missing its neighbours; markers vanish
 * when the table is rebuilt. */

#define CAPACITY_MIN 16 /* a power of two, as every capacity */

struct slot {
    uint64_t hash;
    char *key; /* NULL: never used; `removed`: a marker; else owned */
    void *value;
};

struct string_map {
    struct slot *slots; /* NULL while empty */
    size_t capacity;
    size_t count; /* live entries */
    size_t used;  /* live entries and markers */
};

static char removed[1];

static bool slot_is_live(const struct slot *slot)
{
    return slot->key != NULL && slot->key != removed;
}

/* FNV-1a with a final mix. Unseeded, for the same history must give the same table in a
 * simulation; what a tenant may insert is bounded by its quota. */
static uint64_t hash_of(const char *key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const unsigned char *byte = (const unsigned char *)key; *byte != 0; byte++) {
        hash = (hash ^ *byte) * UINT64_C(0x100000001b3);
    }
    hash ^= hash >> 32;
    hash *= UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 29);
}

/* The slot that holds key, whose hash it is, or NULL. */
static struct slot *
slot_hashed(const struct string_map *map, const char *key, uint64_t hash)
{
    if (map->count == 0) {
        return NULL;
    }
    size_t mask = map->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct slot *slot = &map->slots[i];
        if (slot->key == NULL) {
            return NULL;
        }
        if (slot->hash == hash && slot->key != removed && strcmp(slot->key, key) == 0) {
            return slot;
        }
    }
}

static struct slot *slot_find(const struct string_map *map, const char *key)
{
    return map->count > 0 ? slot_hashed(map, key, hash_of(key)) : NULL;
}

/* The first slot on the key's way that holds nothing live. */
static struct slot *slot_free(struct slot *slots, size_t capacity, uint64_t hash)
{
    size_t mask = capacity - 1;
    size_t i = hash & mask;
    while (slot_is_live(&slots[i])) {
        i = (i + 1) & mask;
    }
    return &slots[i];
}

/* A table for one more entry, at most half full, without markers. */
static int rebuild(struct string_map *map)
{
    size_t capacity = CAPACITY_MIN;
    while (capacity < 2 * (map->count + 1)) {
        capacity *= 2;
    }
    struct slot *slots = calloc(capacity, sizeof(*slots));
    if (slots == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < map->capacity; i++) {
        if (slot_is_live(&map->slots[i])) {
            *slot_free(slots, capacity, map->slots[i].hash) = map->slots[i];
        }
    }
    free(map->slots);
    map->slots = slots;
    map->capacity = capacity;
    map->used = map->count;
    return 0;
}

struct string_map *string_map_new(void)
{
    return calloc(1, sizeof(struct string_map));
}

struct string_map *string_map_free(struct string_map *map)
{
    if (map != NULL) {
        for (size_t i = 0; i < map->capacity; i++) {
            if (slot_is_live(&map->slots[i])) {
                free(map->slots[i].key);
            }
        }
        free(map->slots);
        free(map);
    }
    return NULL;
}

int string_map_put(struct string_map *map, const char *key, void *value, void **ret_old)
{
    const uint64_t hash = hash_of(key);
    struct slot *slot = slot_hashed(map, key, hash);
    void *old = NULL;
    if (slot != NULL) {
        old = slot->value;
        slot->value = value;
    } else {
        if ((map->used + 1) * 10 > map->capacity * 7) {
            int r = rebuild(map);
            if (r < 0) {
                return r;
            }
        }
        char *copy = strdup(key);
        if (copy == NULL) {
            return -ENOMEM;
        }
        slot = slot_free(map->slots, map->capacity, hash);
        map->used += slot->key == NULL;
        map->count++;
        *slot = (struct slot){.hash = hash, .key = copy, .value = value};
    }
    if (ret_old != NULL) {
        *ret_old = old;
    }
    return 0;
}

void *string_map_get(const struct string_map *map, const char *key)
{
    const struct slot *slot = slot_find(map, key);
    return slot != NULL ? slot->value : NULL;
}

void *string_map_remove(struct string_map *map, const char *key)
{
    struct slot *slot = slot_find(map, key);
    if (slot == NULL) {
        return NULL;
    }
    void *value = slot->value;
    free(slot->key);
    slot->key = removed;
    slot->value = NULL;
    map->count--;
    return value;
}

size_t string_map_count(const struct string_map *map)
{
    return map->count;
}

_Bool string_map_next(const struct string_map *map,
                      size_t *cursor,
                      struct string_map_entry *ret_entry)
{
    for (size_t i = *cursor; i < map->capacity; i++) {
        if (slot_is_live(&map->slots[i])) {
            ret_entry->key = map->slots[i].key;
            ret_entry->value = map->slots[i].value;
            *cursor = i + 1;
            return true;
        }
    }
    *cursor = map->capacity;
    return false;
}

static int compare_entries(const void *a, const void *b)
{
    const struct string_map_entry *left = a;
    const struct string_map_entry *right = b;
    return strcmp(left->key, right->key);
}

int string_map_sorted(const struct string_map *map,
                      struct string_map_entry **ret_entries,
                      size_t *ret_count)
{
    struct string_map_entry *entries = NULL;
    if (map->count > 0) {
        entries = calloc(map->count, sizeof(*entries));
        if (entries == NULL) {
            return -ENOMEM;
        }
        size_t cursor = 0;
        for (size_t i = 0; i < map->count; i++) {
            (void)string_map_next(map, &cursor,
                                  &entries[i]); /* there are exactly count */
        }
        qsort(entries, map->count, sizeof(*entries), compare_entries);
    }
    *ret_entries = entries;
    *ret_count = map->count;
    return 0;
}
