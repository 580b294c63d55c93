/* Hash map from a byte-string key to a pointer, with insertion-independent, sorted
 * listing on demand.
 *
 * Shapes: opaque `struct string_map`; keys are copied, values are the caller's.
 * Ownership: the map frees its keys, never its values. Threads: none of its own. Errors:
 * -ENOMEM only. Limits: 2^31 entries. STRING_MAP_EACH visits in table order, which
 * depends on history: use string_map_sorted where order reaches a replica, a hash or a
 * user.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct string_map;

struct string_map_entry {
    const char *key; /* NUL-terminated, owned by the map */
    void *value;
};

/* Returns a new empty map or NULL when out of memory. */
struct string_map *string_map_new(void);
/* Frees the map and its keys; accepts NULL; returns NULL. Values are not touched. */
struct string_map *string_map_free(struct string_map *map);
/* Sets key to value; *ret_old (may be NULL) gets the value replaced, or NULL. 0 or
 * -ENOMEM. */
int string_map_put(struct string_map *map, const char *key, void *value, void **ret_old);
/* The value or NULL. */
void *string_map_get(const struct string_map *map, const char *key);
/* Removes and returns the value, or NULL. */
void *string_map_remove(struct string_map *map, const char *key);
size_t string_map_count(const struct string_map *map);
/* Iteration: *cursor starts at 0; false at the end. Removing the entry just visited is
 * allowed. */
_Bool string_map_next(const struct string_map *map,
                      size_t *cursor,
                      struct string_map_entry *ret_entry);
/* All entries by key order (strcmp) in a fresh array that the caller frees; count may be
 * 0 with NULL array. 0 or -ENOMEM. Keys stay owned by the map. */
int string_map_sorted(const struct string_map *map,
                      struct string_map_entry **ret_entries,
                      size_t *ret_count);

struct string_map_visit {
    struct string_map_entry entry;
    size_t cursor;
};

/* STRING_MAP_EACH (at, map) { use(at.entry.key, at.entry.value); } */
#define STRING_MAP_EACH(at, map)                     \
    for (struct string_map_visit at = {.cursor = 0}; \
         string_map_next(map, &at.cursor, &at.entry);)
