/* The newest events, replicated: what `berth events` shows.
 *
 * Shapes: a ring of `limit` events, numbered for ever; the oldest goes first. Part of the
 * snapshot and of the state's hash. Each takes what its texts need. What is asked for is
 * shown in one place: an event is valid until the next is asked for or pushed. Threads:
 * the owner's. Errors: none; a push that finds no memory ends the process. It is an
 * exception to the rule that applying takes none after the start: room for `limit` events
 * of any length would be some megabytes that hardly any rack needs.
 */
#pragma once

#include "base/bytes.h"
#include "model/state.h"

struct event_ring;

/* An empty ring, or NULL when out of memory. */
struct event_ring *event_ring_new(uint32_t limit);
struct event_ring *event_ring_free(struct event_ring *ring);
void event_ring_push(struct event_ring *ring, const struct event *event);
uint32_t event_ring_count(const struct event_ring *ring);
/* The event by age: 0 is the oldest held. */
const struct event *event_ring_at(const struct event_ring *ring, uint32_t index);
/* Likewise, written as a snapshot has it (model/state_snapshot.c); nothing is shown. */
void event_ring_encode(const struct event_ring *ring,
                       uint32_t index,
                       struct bytes_writer *writer);
/* Events with revision > since, oldest first; *cursor starts at 0. */
const struct event *
event_ring_next(const struct event_ring *ring, uint64_t since, size_t *cursor);
/* How many were ever pushed. */
uint64_t event_ring_sequence(const struct event_ring *ring);
/* For decoding: an empty ring whose oldest event will have this number. */
void event_ring_start(struct event_ring *ring, uint64_t sequence);
uint64_t event_ring_hash(const struct event_ring *ring);
