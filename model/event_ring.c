#include "model/event_ring.h"

#include "base/require.h"
#include "model/content_hash.h"

#include <stdlib.h>
#include <string.h>

struct event_ring {
    struct event *events; /* event n lives at n % limit */
    uint32_t limit;
    uint32_t count;
    uint64_t sequence; /* of the next event */
    uint64_t hash;
};

struct event_ring *event_ring_new(uint32_t limit)
{
    REQUIRE(limit > 0);
    struct event_ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        return NULL;
    }
    ring->limit = limit;
    ring->events = calloc(limit, sizeof(*ring->events));
    return ring->events != NULL ? ring : event_ring_free(ring);
}

struct event_ring *event_ring_free(struct event_ring *ring)
{
    if (ring != NULL) {
        free(ring->events);
        free(ring);
    }
    return NULL;
}

static uint64_t event_hash(uint64_t sequence, const struct event *event)
{
    const char *const texts[] = {event->tenant, event->name, event->verb, event->reason};
    uint64_t hash = content_hash(sequence, NULL, 0);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        hash = content_hash(hash, texts[i], strlen(texts[i]));
    }
    hash = content_hash(hash ^ event->revision, NULL, 0);
    hash = content_hash(hash ^ event->wall_ms, NULL, 0);
    return content_hash(hash ^ (uint64_t)event->kind, NULL, 0);
}

static struct event *event_numbered(const struct event_ring *ring, uint64_t number)
{
    return &ring->events[number % ring->limit];
}

void event_ring_push(struct event_ring *ring, const struct event *event)
{
    if (ring->count == ring->limit) {
        uint64_t oldest = ring->sequence - ring->count;
        ring->hash -= event_hash(oldest, event_numbered(ring, oldest));
        ring->count--;
    }
    *event_numbered(ring, ring->sequence) = *event;
    ring->hash += event_hash(ring->sequence, event);
    ring->sequence++;
    ring->count++;
}

uint32_t event_ring_count(const struct event_ring *ring)
{
    return ring->count;
}

const struct event *event_ring_at(const struct event_ring *ring, uint32_t index)
{
    REQUIRE(index < ring->count);
    return event_numbered(ring, ring->sequence - ring->count + index);
}

/* The number of the first event after `since`; revisions never fall. */
static uint64_t first_after(const struct event_ring *ring, uint64_t since)
{
    uint64_t low = ring->sequence - ring->count;
    uint64_t high = ring->sequence;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (event_numbered(ring, middle)->revision > since) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

const struct event *
event_ring_next(const struct event_ring *ring, uint64_t since, size_t *cursor)
{
    uint64_t number = first_after(ring, since);
    if (number < *cursor) {
        number = *cursor;
    }
    if (number >= ring->sequence) {
        return NULL;
    }
    *cursor = number + 1;
    return event_numbered(ring, number);
}

uint64_t event_ring_sequence(const struct event_ring *ring)
{
    return ring->sequence;
}

void event_ring_start(struct event_ring *ring, uint64_t sequence)
{
    REQUIRE(ring->count == 0);
    ring->sequence = sequence;
}

uint64_t event_ring_hash(const struct event_ring *ring)
{
    return content_hash(ring->hash ^ ring->sequence, NULL, 0) + ring->count;
}
