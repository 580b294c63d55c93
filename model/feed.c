#include "model/feed.h"

#include "base/require.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_SIZE_MAX (1u << 20) /* of one object; the log's entries are smaller */

struct slot {
    struct feed_entry entry; /* entry.record is owned */
    uint32_t position;       /* within its revision */
};

struct feed {
    struct slot *slots;   /* a ring: slot n of all ever pushed lives at n % max */
    uint64_t first;       /* number of the oldest held */
    uint64_t next;        /* number of the next */
    size_t bytes;         /* of all records held */
    uint64_t floor;       /* every change after this revision is held, none up to it */
    uint32_t floor_count; /* changes of revision `floor` seen; 0: not known */
};

static struct slot *slot_at(const struct feed *feed, uint64_t number)
{
    return &feed->slots[number % FEED_ENTRIES_MAX];
}

struct feed *feed_new(uint64_t start_revision)
{
    struct feed *feed = calloc(1, sizeof(*feed));
    if (feed == NULL) {
        return NULL;
    }
    feed->floor = start_revision;
    feed->slots = calloc(FEED_ENTRIES_MAX, sizeof(*feed->slots));
    return feed->slots != NULL ? feed : feed_free(feed);
}

static void drop_first(struct feed *feed)
{
    REQUIRE(feed->first < feed->next);
    struct slot *slot = slot_at(feed, feed->first++);
    feed->floor = slot->entry.revision;
    feed->floor_count = slot->position + 1;
    feed->bytes -= slot->entry.record_size;
    free((void *)(uintptr_t)slot->entry.record); /* ours, lent as const */
    *slot = (struct slot){0};
}

/* The oldest revision as a whole: half of one is of no use to anybody. */
static void drop_first_revision(struct feed *feed)
{
    uint64_t revision = slot_at(feed, feed->first)->entry.revision;
    while (feed->first < feed->next &&
           slot_at(feed, feed->first)->entry.revision == revision) {
        drop_first(feed);
    }
}

static void drop_all(struct feed *feed)
{
    while (feed->first < feed->next) {
        drop_first(feed);
    }
}

struct feed *feed_free(struct feed *feed)
{
    if (feed != NULL) {
        if (feed->slots != NULL) {
            drop_all(feed);
        }
        free(feed->slots);
        free(feed);
    }
    return NULL;
}

void feed_reset(struct feed *feed, uint64_t start_revision)
{
    drop_all(feed);
    feed->floor = start_revision;
    feed->floor_count = 0;
}

/* The object as bytes; false when out of memory. */
static bool encode_object(const struct change *change, struct feed_entry *entry)
{
    if (change->object == NULL) {
        return true;
    }
    struct bytes_writer writer;
    bytes_writer_init(&writer, RECORD_SIZE_MAX);
    record_encode(kind_info(change->kind)->record, change->object, &writer);
    uint8_t *data = NULL;
    size_t size = 0;
    if (bytes_writer_take(&writer, &data, &size) != 0) {
        return false;
    }
    entry->record = data;
    entry->record_size = size;
    return true;
}

static uint32_t next_position(const struct feed *feed, uint64_t revision)
{
    if (feed->first == feed->next) {
        return 0;
    }
    const struct slot *last = slot_at(feed, feed->next - 1);
    REQUIRE(last->entry.revision <= revision); /* revisions never fall */
    return last->entry.revision == revision ? last->position + 1 : 0;
}

void feed_push(struct feed *feed, const struct change *change)
{
    if (change->revision <= feed->floor) {
        feed->floor_count = 0; /* of a revision too large to hold: nobody saw all of it */
        return;
    }
    struct feed_entry entry = {
        .revision = change->revision,
        .wall_ms = change->wall_ms,
        .kind = change->kind,
        .uid = change->uid,
        .deleted = change->object == NULL,
        .created = change->created,
        .phase_from = change->phase_from,
        .phase_to = change->phase_to,
    };
    (void)snprintf(entry.tenant, sizeof(entry.tenant), "%s", change->tenant);
    (void)snprintf(entry.name, sizeof(entry.name), "%s", change->name);
    (void)snprintf(entry.reason, sizeof(entry.reason), "%s", change->reason);
    if (!encode_object(change, &entry)) {
        feed_reset(feed, change->revision);
        return;
    }
    uint32_t position = next_position(feed, change->revision);
    while (feed->first < feed->next &&
           (feed->next - feed->first >= FEED_ENTRIES_MAX ||
            feed->bytes + entry.record_size > FEED_BYTES_MAX)) {
        drop_first_revision(feed);
    }
    if (change->revision <= feed->floor) { /* it did not fit beside itself */
        feed->floor_count = 0;
        free((void *)(uintptr_t)entry.record);
        return;
    }
    *slot_at(feed, feed->next++) = (struct slot){.entry = entry, .position = position};
    feed->bytes += entry.record_size;
}

bool feed_reaches(const struct feed *feed, uint64_t revision)
{
    return revision >= feed->floor;
}

bool feed_reaches_cursor(const struct feed *feed, const struct feed_cursor *cursor)
{
    if (cursor->revision != feed->floor) {
        return cursor->revision > feed->floor;
    }
    return cursor->position == UINT32_MAX ||
           (feed->floor_count > 0 && cursor->position + 1 >= feed->floor_count);
}

struct feed_cursor feed_cursor_after(uint64_t revision)
{
    return (struct feed_cursor){.revision = revision, .position = UINT32_MAX};
}

static bool is_after(const struct slot *slot, const struct feed_cursor *cursor)
{
    return slot->entry.revision > cursor->revision ||
           (slot->entry.revision == cursor->revision &&
            slot->position > cursor->position);
}

const struct feed_entry *feed_next(const struct feed *feed, struct feed_cursor *cursor)
{
    uint64_t low = feed->first;
    uint64_t high = feed->next;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (is_after(slot_at(feed, middle), cursor)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (low == feed->next) {
        return NULL;
    }
    const struct slot *slot = slot_at(feed, low);
    cursor->revision = slot->entry.revision;
    cursor->position = slot->position;
    return &slot->entry;
}
