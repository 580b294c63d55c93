#include "model/event_ring.h"

#include "base/byte_fifo.h"
#include "base/bytes.h"
#include "base/require.h"
#include "model/content_hash.h"

#include <stdlib.h>
#include <string.h>

/* An event as it is in a snapshot: u64 revision, u64 time, u32 kind, and tenant, name,
 * verb and reason, each as u32 length and text. */
struct packed {
    uint32_t size;
    uint8_t bytes[];
};
#define TEXTS_AT (2 * sizeof(uint64_t) + sizeof(uint32_t))

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

/* Like any object of the state that finds no memory, an event that does is the end of the
 * process: the others have it. One in a hundred or so begins a block of the fifo; the
 * rest take nothing. */
static struct packed *pack(struct event_ring *ring, const struct event *event)
{
    const char *const texts[] = {event->tenant, event->name, event->verb, event->reason};
    size_t lengths[sizeof(texts) / sizeof(texts[0])];
    size_t size = TEXTS_AT;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        lengths[i] = strlen(texts[i]);
        size += sizeof(uint32_t) + lengths[i];
    }
    struct packed *packed = byte_fifo_push(ring->fifo, sizeof(*packed) + size);
    REQUIRE(packed != NULL);
    packed->size = (uint32_t)size;
    uint8_t *at = bytes_put(packed->bytes, event->revision, sizeof(uint64_t));
    at = bytes_put(at, event->wall_ms, sizeof(uint64_t));
    at = bytes_put(at, event->kind, sizeof(uint32_t));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        at = bytes_put(at, lengths[i], sizeof(uint32_t));
        memcpy(at, texts[i], lengths[i]);
        at += lengths[i];
    }
    REQUIRE(at == packed->bytes + size);
    return packed;
}

static const struct event *show(const struct event_ring *ring, uint64_t number)
{
    const struct packed *packed = event_numbered(ring, number);
    struct event *event = ring->shown;
    struct bytes_reader reader;
    bytes_reader_init(&reader, packed->bytes, packed->size);
    event->revision = bytes_read_u64(&reader);
    event->wall_ms = bytes_read_u64(&reader);
    event->kind = bytes_read_u32(&reader);
    bytes_read_text(&reader, event->tenant, sizeof(event->tenant));
    bytes_read_text(&reader, event->name, sizeof(event->name));
    bytes_read_text(&reader, event->verb, sizeof(event->verb));
    bytes_read_text(&reader, event->reason, sizeof(event->reason));
    REQUIRE(bytes_reader_end(&reader) == 0); /* they came out of as much room */
    return event;
}

static uint64_t revision_of(const struct packed *packed)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, packed->bytes, packed->size);
    return bytes_read_u64(&reader);
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

void event_ring_encode(const struct event_ring *ring,
                       uint32_t index,
                       struct bytes_writer *writer)
{
    REQUIRE(index < ring->count);
    const struct packed *packed =
        event_numbered(ring, ring->sequence - ring->count + index);
    bytes_write_raw(writer, packed->bytes, packed->size);
}

/* The number of the first event after `since`; revisions never fall. */
static uint64_t first_after(const struct event_ring *ring, uint64_t since)
{
    uint64_t low = ring->sequence - ring->count;
    uint64_t high = ring->sequence;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (revision_of(event_numbered(ring, middle)) > since) {
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
