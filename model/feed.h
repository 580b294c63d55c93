/* The change feed: a bounded ring of changes by revision, for watchers that resume.
 *
 * Shapes: each entry keeps a copy of the change with the object's encoded record (as of
 * that revision). A watcher asks for what came after the revision it has; when the ring
 * no longer reaches that far it gets an explicit reset. Memory: at most FEED_ENTRIES_MAX
 * entries and FEED_BYTES_MAX bytes, with the room around them; the oldest go first, a
 * whole revision at a time. A revision with more changes than fit is dropped as a whole.
 * A watcher that is reset is told all objects anew, so in a small rack (feed_fit) fewer
 * changes are kept: to read more than FEED_SHARE for each object is worse than to begin
 * anew.
 */
#pragma once

#include "model/state.h"

#define FEED_ENTRIES_MAX 16384
#define FEED_ENTRIES_MIN 1024 /* whatever there is: a group is rolled, and removed */
#define FEED_SHARE       8    /* a VM that comes and goes makes as many */
#define FEED_BYTES_MAX   (8u << 20)

struct feed;
struct feed_entry {
    uint64_t revision;
    uint64_t wall_ms;
    enum kind kind;
    uint64_t uid;
    const char *tenant; /* the texts and the record are borrowed until the next call */
    const char *name;   /* that changes the feed */
    const char *reason;
    bool deleted;
    bool created;
    uint32_t phase_from;
    uint32_t phase_to;
    const uint8_t *record; /* encoded object; NULL when deleted */
    size_t record_size;
};

/* start_revision: changes up to it are not in the ring. NULL when out of memory. */
struct feed *feed_new(uint64_t start_revision);
struct feed *feed_free(struct feed *feed);
/* Copies the change in; out of memory drops everything held (watchers get a reset), never
 * a gap. */
void feed_push(struct feed *feed, const struct change *change);
/* Keeps as many changes as suit so many objects; before it is called, as many as there is
 * room for. */
void feed_fit(struct feed *feed, size_t objects);
/* After a restore: everything before is gone. */
void feed_reset(struct feed *feed, uint64_t start_revision);
/* True when every change after `revision` is still held. */
bool feed_reaches(const struct feed *feed, uint64_t revision);
/* Where a watcher stands: behind the change at this place. */
struct feed_cursor {
    uint64_t revision;
    uint32_t position; /* within the revision */
};
/* As feed_reaches, for a watcher that stands within a revision: false when changes after
 * its cursor were dropped before it saw them. Ask before feed_next. */
bool feed_reaches_cursor(const struct feed *feed, const struct feed_cursor *cursor);
/* The first change with (revision, position) after *cursor; feed_cursor(revision) starts
 * after a revision. NULL when there is none yet. The pointer is valid until the next
 * push. */
struct feed_cursor feed_cursor_after(uint64_t revision);
const struct feed_entry *feed_next(const struct feed *feed, struct feed_cursor *cursor);
