#include "model/event_ring.h"

#include "base/byte_fifo.h"
#include "base/require.h"
#include "model/content_hash.h"

#include <stdlib.h>
#include <string.h>

/* An event without the room that its texts do not need: most say little. */
struct packed {
    uint64_t revision;
    uint64_t wall_ms;
    enum kind kind;
    char texts[]; /* tenant, name, verb, reason; each ends in a NUL */
};

struct event_ring {
    struct packed **events; /* event n lives at n % limit */
    struct byte_fifo *fifo; /* their memory */
    struct event *shown;    /* what was asked for last */
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
    ring->fifo = byte_fifo_new();
    ring->shown = calloc(1, sizeof(*ring->shown));
    return ring->events != NULL && ring->fifo != NULL && ring->shown != NULL
               ? ring
               : event_ring_free(ring);
}

struct event_ring *event_ring_free(struct event_ring *ring)
{
    if (ring != NULL) {
        free(ring->events);
        (void)byte_fifo_free(ring->fifo);
        free(ring->shown);
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

static struct packed *event_numbered(const struct event_ring *ring, uint64_t number)
{
    return ring->events[number % ring->limit];
}

/* Appends the text with its NUL. */
static char *pack_text(char *to, const char *text)
{
    const size_t size = strlen(text) + 1;
    memcpy(to, text, size);
    return to + size;
}

/* Like any object of the state that finds no memory, an event that does is the end of the
 * process: the others have it. One in a hundred or so begins a block of the fifo; the
 * rest take nothing. */
static struct packed *pack(struct event_ring *ring, const struct event *event)
{
    const size_t size = strlen(event->tenant) + strlen(event->name) +
                        strlen(event->verb) + strlen(event->reason) + 4;
    struct packed *packed = byte_fifo_push(ring->fifo, sizeof(*packed) + size);
    REQUIRE(packed != NULL);
    packed->revision = event->revision;
    packed->wall_ms = event->wall_ms;
    packed->kind = event->kind;
    char *end = pack_text(packed->texts, event->tenant);
    end = pack_text(end, event->name);
    end = pack_text(end, event->verb);
    end = pack_text(end, event->reason);
    REQUIRE(end == packed->texts + size);
    return packed;
}

/* Takes one text out; where the next begins. */
static const char *unpack_text(const char *from, char *ret_text, size_t size)
{
    size_t all = strlen(from) + 1;
    REQUIRE(all <= size); /* it came out of as much room */
    memcpy(ret_text, from, all);
    return from + all;
}

static const struct event *show(const struct event_ring *ring, uint64_t number)
{
    const struct packed *packed = event_numbered(ring, number);
    struct event *event = ring->shown;
    event->revision = packed->revision;
    event->wall_ms = packed->wall_ms;
    event->kind = packed->kind;
    const char *texts = packed->texts;
    texts = unpack_text(texts, event->tenant, sizeof(event->tenant));
    texts = unpack_text(texts, event->name, sizeof(event->name));
    texts = unpack_text(texts, event->verb, sizeof(event->verb));
    (void)unpack_text(texts, event->reason, sizeof(event->reason)); /* the last */
    return event;
}

void event_ring_push(struct event_ring *ring, const struct event *event)
{
    if (ring->count == ring->limit) {
        uint64_t oldest = ring->sequence - ring->count;
        ring->hash -= event_hash(oldest, show(ring, oldest));
        byte_fifo_drop(ring->fifo);
        ring->count--;
    }
    ring->events[ring->sequence % ring->limit] = pack(ring, event);
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
    return show(ring, ring->sequence - ring->count + index);
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
    return show(ring, number);
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
