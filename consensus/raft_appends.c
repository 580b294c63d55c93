#include "consensus/raft_appends.h"

#include <raft.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct append_part {
    struct list link;
    struct raft_io_append *request;
    const struct raft_entry *entries;
    unsigned count;
};

struct append_write {
    struct list link;
    struct raft_io_append request;
    struct raft_appends *appends;
    struct list parts;          /* struct append_part, oldest first */
    struct raft_entry *entries; /* of all of them */
};

static struct append_part *part_of(struct list *link)
{
    return LIST_ITEM(link, struct append_part, link);
}

static size_t part_bytes(const struct append_part *part)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < part->count; i++) {
        bytes += part->entries[i].buf.len;
    }
    return bytes;
}

static void write_free(struct append_write *write)
{
    list_remove(&write->link);
    free(write->entries);
    free(write);
}

void raft_appends_init(struct raft_appends *appends,
                       struct raft_io *io,
                       void *context,
                       bool (*goes_on)(void *context),
                       void (*failed)(void *context, int status),
                       void (*answered)(void *context))
{
    *appends = (struct raft_appends){.io = io,
                                     .context = context,
                                     .goes_on = goes_on,
                                     .failed = failed,
                                     .answered = answered};
    list_init(&appends->writes);
    list_init(&appends->waiting);
}

int raft_appends_add(struct raft_appends *appends,
                     struct raft_io_append *request,
                     const struct raft_entry *entries,
                     unsigned count,
                     void (*done)(struct raft_io_append *request, int status))
{
    struct append_part *part = calloc(1, sizeof(*part));
    if (part == NULL) {
        return RAFT_NOMEM;
    }
    part->request = request;
    part->entries = entries;
    part->count = count;
    request->cb = done;
    list_push_back(&appends->waiting, &part->link);
    return 0;
}

/* ---- one write ---- */

static void on_written(struct raft_io_append *request, int status)
{
    struct append_write *write = request->data;
    struct raft_appends *appends = write->appends;
    if (status != 0) {
        appends->failed(appends->context, status);
        return;
    }
    while (!list_empty(&write->parts)) {
        if (!appends->goes_on(appends->context)) {
            return; /* the rest is for raft_appends_cancel */
        }
        struct list *link = list_pop_front(&write->parts);
        struct raft_io_append *outer = part_of(link)->request;
        free(part_of(link));
        outer->cb(outer, 0);
        appends->answered(appends->context);
    }
    write_free(write);
    raft_appends_begin(appends);
}

/* The parts that go together: of what waits, at least one. */
static unsigned gather(struct raft_appends *appends, struct list *parts, size_t bytes_max)
{
    size_t bytes = 0;
    unsigned count = 0;
    while (!list_empty(&appends->waiting)) {
        struct append_part *part = part_of(appends->waiting.next);
        bytes += part_bytes(part);
        if (count > 0 && bytes > bytes_max) {
            break;
        }
        list_remove(&part->link);
        list_push_back(parts, &part->link);
        count += part->count;
    }
    return count;
}

static int hand_over(struct raft_appends *appends, struct append_write *write, size_t max)
{
    unsigned count = gather(appends, &write->parts, max);
    write->entries = calloc(count, sizeof(*write->entries));
    if (write->entries == NULL) {
        return RAFT_NOMEM;
    }
    unsigned at = 0;
    LIST_EACH (link, &write->parts) {
        const struct append_part *part = part_of(link);
        memcpy(write->entries + at, part->entries, part->count * sizeof(*part->entries));
        at += part->count;
    }
    return appends->io->append(appends->io, &write->request, write->entries, count,
                               on_written);
}

static void begin(struct raft_appends *appends, size_t bytes_max)
{
    if (list_empty(&appends->waiting) || !appends->goes_on(appends->context)) {
        return;
    }
    struct append_write *write = calloc(1, sizeof(*write));
    int r = RAFT_NOMEM;
    if (write != NULL) {
        write->appends = appends;
        write->request.data = write;
        list_init(&write->parts);
        list_push_back(&appends->writes, &write->link);
        r = hand_over(appends, write, bytes_max);
    }
    if (r != 0) {
        appends->failed(appends->context, r);
    }
}

void raft_appends_begin(struct raft_appends *appends)
{
    if (list_empty(&appends->writes)) {
        begin(appends, RAFT_APPENDS_BYTES_MAX);
    }
}

void raft_appends_flush(struct raft_appends *appends)
{
    begin(appends, SIZE_MAX);
}

/* ---- the end ---- */

static void cancel(struct list *parts)
{
    for (struct list *link; (link = list_pop_back(parts)) != NULL;) {
        struct raft_io_append *outer = part_of(link)->request;
        free(part_of(link));
        outer->cb(outer, RAFT_CANCELED);
    }
}

void raft_appends_cancel(struct raft_appends *appends)
{
    cancel(&appends->waiting);
    for (struct list *link; (link = list_pop_back(&appends->writes)) != NULL;) {
        struct append_write *write = LIST_ITEM(link, struct append_write, link);
        cancel(&write->parts);
        write_free(write);
    }
}
