#include "model/feed.h"

#include "base/byte_fifo.h"
#include "base/cleanup.h"
#include "base/require.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_SIZE_MAX (1u << 20) /* of one object; the log's entries are smaller */

struct slot {
    struct feed_entry entry; /* its texts and record lie in data */
    uint32_t position;       /* within its revision */
    char data[];
};

struct feed {
    struct slot **slots;    /* a ring: slot n of all ever pushed lives at n % max */
    struct byte_fifo *fifo; /* their memory */
    uint64_t limit;         /* of slots held */
    uint64_t first;         /* number of the oldest held */
    uint64_t next;          /* number of the next */
    uint64_t floor;         /* every change after this revision is held, none up to it */
    uint32_t floor_count;   /* changes of revision `floor` seen; 0: not known */
};

static struct slot *slot_at(const struct feed *feed, uint64_t number)
{
    return feed->slots[number % FEED_ENTRIES_MAX];
}

struct feed *feed_new(uint64_t start_revision)
{
    struct feed *feed = calloc(1, sizeof(*feed));
    if (feed == NULL) {
        return NULL;
    }
    feed->floor = start_revision;
    feed->limit = FEED_ENTRIES_MAX;
    feed->slots = calloc(FEED_ENTRIES_MAX, sizeof(*feed->slots));
    feed->fifo = byte_fifo_new();
    return feed->slots != NULL && feed->fifo != NULL ? feed : feed_free(feed);
}

static size_t texts_size(const struct feed_entry *entry)
{
    return strlen(entry->tenant) + strlen(entry->name) + strlen(entry->reason) + 3;
}

static size_t slot_size(const struct feed_entry *entry)
{
    return sizeof(struct slot) + texts_size(entry) + entry->record_size;
}

static void drop_first(struct feed *feed)
{
    REQUIRE(feed->first < feed->next);
    const struct slot *slot = slot_at(feed, feed->first++);
    feed->floor = slot->entry.revision;
    feed->floor_count = slot->position + 1;
    byte_fifo_drop(feed->fifo);
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
        (void)byte_fifo_free(feed->fifo);
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

void feed_fit(struct feed *feed, size_t objects)
{
    feed->limit = objects < FEED_ENTRIES_MIN / FEED_SHARE   ? FEED_ENTRIES_MIN
                  : objects > FEED_ENTRIES_MAX / FEED_SHARE ? FEED_ENTRIES_MAX
                                                            : objects * FEED_SHARE;
    while (feed->next - feed->first > feed->limit) {
        drop_first_revision(feed);
    }
}

/* The object as bytes, the caller's; false when out of memory. */
static bool
encode_object(const struct change *change, uint8_t **ret_data, size_t *ret_size)
{
    if (change->object == NULL) {
        return true;
    }
    struct bytes_writer writer;
    bytes_writer_init(&writer, RECORD_SIZE_MAX);
    record_encode(kind_info(change->kind)->record, change->object, &writer);
    return bytes_writer_take(&writer, ret_data, ret_size) == 0;
}

/* Copies the bytes and moves the place behind them. */
static const void *place(char **at, const void *data, size_t size)
{
    char *to = *at;
    memcpy(to, data, size);
    *at += size;
    return to;
}

static const char *place_text(char **at, const char *text)
{
    return place(at, text, strlen(text) + 1);
}

/* A slot of its own for what the entry borrows; false when out of memory. */
static bool
slot_push(struct feed *feed, const struct feed_entry *entry, uint32_t position)
{
    struct slot *slot = byte_fifo_push(feed->fifo, slot_size(entry));
    if (slot == NULL) {
        return false;
    }
    char *at = slot->data;
    slot->position = position;
    slot->entry = *entry;
    if (entry->record != NULL) {
        slot->entry.record = place(&at, entry->record, entry->record_size);
    }
    slot->entry.tenant = place_text(&at, entry->tenant);
    slot->entry.name = place_text(&at, entry->name);
    slot->entry.reason = place_text(&at, entry->reason);
    feed->slots[feed->next++ % FEED_ENTRIES_MAX] = slot;
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
    CLEANUP_FREE uint8_t *record = NULL;
    size_t record_size = 0;
    if (!encode_object(change, &record, &record_size)) {
        feed_reset(feed, change->revision);
        return;
    }
    const struct feed_entry entry = {
        .revision = change->revision,
        .wall_ms = change->wall_ms,
        .kind = change->kind,
        .uid = change->uid,
        .tenant = change->tenant,
        .name = change->name,
        .reason = change->reason,
        .deleted = change->object == NULL,
        .created = change->created,
        .phase_from = change->phase_from,
        .phase_to = change->phase_to,
        .record = record,
        .record_size = record_size,
    };
    uint32_t position = next_position(feed, change->revision);
    while (feed->first < feed->next &&
           (feed->next - feed->first >= feed->limit ||
            /* It may be the first of a block. */
            byte_fifo_bytes(feed->fifo) + BYTE_FIFO_BLOCK + slot_size(&entry) >
                FEED_BYTES_MAX)) {
        drop_first_revision(feed);
    }
    if (change->revision <= feed->floor) { /* it did not fit beside itself */
        feed->floor_count = 0;
        return;
    }
    if (!slot_push(feed, &entry, position)) {
        feed_reset(feed, change->revision);
    }
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
