/* Hash map from a non-zero u64 to a pointer; same contract as string_map.h (owns nothing
 * but itself). Open addressing, linear probing, grows at 70 %. Key 0 is reserved.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct u64_map;

/* Returns a new empty map or NULL when out of memory. */
struct u64_map *u64_map_new(void);
/* Accepts NULL; returns NULL; values are not touched. */
struct u64_map *u64_map_free(struct u64_map *map);
/* Sets key (not 0) to value (not NULL), replacing silently. 0 or -ENOMEM. */
int u64_map_put(struct u64_map *map, uint64_t key, void *value);
/* The value or NULL. */
void *u64_map_get(const struct u64_map *map, uint64_t key);
/* Removes and returns the value, or NULL. */
void *u64_map_remove(struct u64_map *map, uint64_t key);
size_t u64_map_count(const struct u64_map *map);
/* Iteration in table order: *cursor starts at 0; false at the end. No change of the map
 * meanwhile. */
bool u64_map_next(const struct u64_map *map,
                  size_t *cursor,
                  uint64_t *ret_key,
                  void **ret_value);
