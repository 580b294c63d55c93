/* What a host remembers of VMs that it forgot: which epochs it has seen of them.
 *
 * Shapes: a dense array, by VM. They come one by one and stay for a day, while what lies
 * beside them in the heap goes: a piece of memory for each would keep a page of its own
 * from being given back. Threads: the owner's. Errors: -ENOMEM. Limits: none, the owner
 * has one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct tombstone {
    uint64_t epoch_seen;
    uint64_t epoch_ended;
    uint64_t since_wall_ms;
};

struct tombstones;

/* An empty set, or NULL when out of memory. */
struct tombstones *tombstones_new(void);
/* Accepts NULL; returns NULL. */
struct tombstones *tombstones_free(struct tombstones *set);
/* The VM's (uid not 0), replaced if there is one. 0, or -ENOMEM: nothing has changed. */
int tombstones_put(struct tombstones *set, uint64_t uid, const struct tombstone *given);
/* Or NULL; valid until the next put or remove. */
const struct tombstone *tombstones_get(const struct tombstones *set, uint64_t uid);
/* Nothing, when there is none. The last one takes its place. */
void tombstones_remove(struct tombstones *set, uint64_t uid);
size_t tombstones_count(const struct tombstones *set);
/* One of them, index below the count; valid as that of tombstones_get. */
const struct tombstone *
tombstones_at(const struct tombstones *set, size_t index, uint64_t *ret_uid);
