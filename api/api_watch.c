/* Watches: the change feed as server-sent events.
 *
 * A watch begins with the objects as they are (since=0 or none) or after a revision, gets
 * every change that its subject may see, a bookmark every BOOKMARK_MS, and a reset when
 * the feed no longer reaches its place or when it was too slow; after a reset it begins
 * again with the objects as they are. There is never a silent gap.
 */
#include "api/api_handlers.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/parse_number.h"
#include "model/document.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOOKMARK_MS 15000
#define WATCHES_MAX 512
#define EVENT_MAX   (4u << 20)
#define LIST_MAX    (256u << 20)

struct watch {
    struct list link;
    struct api_watches *watches;
    struct exchange *exchange;
    struct api_call view; /* what object_document needs: api and subject */
    uint32_t kinds;       /* bit per kind */
    char tenant[NAME_SIZE];
    struct feed_cursor cursor;
    bool listing;         /* the objects as they are come first */
    uint64_t bookmark_ms; /* when the last thing was said */
};

struct api_watches {
    struct api *api;
    struct list list;
    unsigned count;
};

static void watch_free(struct watch *watch)
{
    list_remove(&watch->link);
    watch->watches->count--;
    exchange_on_cancel(watch->exchange, NULL, NULL);
    exchange_unref(watch->exchange);
    free(watch);
}

static void watch_cancelled(void *context)
{
    watch_free(context);
}

static bool
send_event(struct watch *watch, const char *event, uint64_t revision, const char *data)
{
    struct bytes_writer writer;
    CLEANUP_FREE char *text = NULL;
    bytes_writer_init(&writer, EVENT_MAX);
    bytes_write_format(&writer, "id: %llu\nevent: %s\ndata: %s\n\n",
                       (unsigned long long)revision, event, data);
    watch->bookmark_ms = uv_now(watch->watches->api->loop);
    return bytes_writer_take_text(&writer, &text) == 0 &&
           exchange_data(watch->exchange, text, strlen(text)) == 0;
}

static bool send_reset(struct watch *watch)
{
    char data[48];
    const struct control_plane *control = watch->watches->api->control;
    uint64_t revision = state_revision(control->state(control->context));
    (void)snprintf(data, sizeof(data), "{\"revision\":%llu}",
                   (unsigned long long)revision);
    return send_event(watch, "reset", revision, data);
}

static bool wants(const struct watch *watch,
                  const struct state *state,
                  enum kind kind,
                  const char *tenant,
                  const char *name)
{
    return (watch->kinds & (UINT32_C(1) << kind)) != 0 &&
           (watch->tenant[0] == '\0' || strcmp(watch->tenant, tenant) == 0) &&
           subject_may(state, &watch->view.subject, ACCESS_READ, kind, tenant, name) == 0;
}

static bool send_put(struct watch *watch,
                     const struct state *state,
                     enum kind kind,
                     const void *object,
                     uint64_t revision)
{
    json_t *document = object_document(&watch->view, state, kind, object, false);
    CLEANUP_FREE char *text = document != NULL ? json_text(document) : NULL;
    json_decref(document);
    return text != NULL && send_event(watch, "put", revision, text);
}

static void list_kind(struct watch *watch,
                      const struct state *state,
                      enum kind kind,
                      struct bytes_writer *writer)
{
    size_t cursor = 0;
    const void *object;
    while ((object = state_next(state, kind, &cursor)) != NULL) {
        const struct metadata *meta = object_meta(object);
        if (!wants(watch, state, kind, meta->tenant, meta->name)) {
            continue;
        }
        json_t *document = object_document(&watch->view, state, kind, object, false);
        CLEANUP_FREE char *text = document != NULL ? json_text(document) : NULL;
        json_decref(document);
        bytes_write_format(writer, "id: %llu\nevent: put\ndata: %s\n\n",
                           (unsigned long long)state_revision(state),
                           text != NULL ? text : "{}");
    }
}

/* All objects as they are, then a bookmark: one revision, so nothing is missed in
 * between; and one piece, so that it fits whatever its size. */
static bool send_list(struct watch *watch, const struct state *state)
{
    struct bytes_writer writer;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    unsigned long long revision = state_revision(state);
    bytes_writer_init(&writer, LIST_MAX);
    for (int kind = 1; kind < KIND_COUNT; kind++) {
        list_kind(watch, state, (enum kind)kind, &writer);
    }
    bytes_write_format(&writer,
                       "id: %llu\nevent: bookmark\ndata: {\"revision\":%llu}\n\n",
                       revision, revision);
    if (bytes_writer_take(&writer, &data, &size) < 0 ||
        exchange_data(watch->exchange, data, size) < 0) {
        return false;
    }
    watch->listing = false;
    watch->cursor = feed_cursor_after(revision);
    watch->bookmark_ms = uv_now(watch->watches->api->loop);
    return true;
}

static bool
send_entry(struct watch *watch, const struct state *state, const struct feed_entry *entry)
{
    if (!wants(watch, state, entry->kind, entry->tenant, entry->name)) {
        return true;
    }
    if (entry->deleted) {
        CLEANUP_FREE char *text = NULL;
        json_t *document = json_pack(
            "{s:s, s:s, s:s, s:I}", "kind", kind_info(entry->kind)->name, "tenant",
            entry->tenant, "name", entry->name, "revision", (json_int_t)entry->revision);
        text = document != NULL ? json_text(document) : NULL;
        json_decref(document);
        return text != NULL && send_event(watch, "delete", entry->revision, text);
    }
    struct bytes_reader reader;
    const struct record *record = kind_info(entry->kind)->record;
    void *object = object_new(entry->kind);
    bytes_reader_init(&reader, entry->record, entry->record_size);
    if (object == NULL) {
        return false;
    }
    record_fini(record, object);
    bool sent = record_decode(record, &reader, object) == 0 &&
                send_put(watch, state, entry->kind, object, entry->revision);
    object_free(entry->kind, object);
    return sent;
}

/* Says what there is to say; false when the reader is too slow (it gets a reset later).
 */
static bool watch_pump(struct watch *watch)
{
    const struct control_plane *control = watch->watches->api->control;
    const struct state *state = control->state(control->context);
    const struct feed *feed = control->feed(control->context);
    if (state == NULL || feed == NULL) {
        return true;
    }
    if (!watch->listing && !feed_reaches_cursor(feed, &watch->cursor)) {
        if (!send_reset(watch)) {
            return false;
        }
        watch->listing = true;
    }
    if (watch->listing) {
        return send_list(watch, state);
    }
    struct feed_cursor next = watch->cursor;
    const struct feed_entry *entry;
    while ((entry = feed_next(feed, &next)) != NULL) {
        if (!send_entry(watch, state, entry)) {
            return false;
        }
        watch->cursor = next;
    }
    return true;
}

/* A reader that did not keep up is told to begin again, once it reads. */
static void pump_or_reset(struct watch *watch)
{
    struct exchange *exchange = exchange_ref(watch->exchange);
    if (!watch_pump(watch) && !exchange_ended(exchange) && watch->listing == false) {
        watch->listing = true;
        (void)send_reset(watch); /* no room: the list follows with the next tick anyway */
    }
    exchange_unref(exchange);
}

void watches_feed_changed(struct api_watches *watches)
{
    LIST_EACH_SAFE (item, &watches->list) {
        pump_or_reset(LIST_ITEM(item, struct watch, link));
    }
}

void watches_reset(struct api_watches *watches)
{
    LIST_EACH_SAFE (item, &watches->list) {
        struct watch *watch = LIST_ITEM(item, struct watch, link);
        watch->listing = true;
        (void)send_reset(watch); /* the list follows with the next tick */
    }
}

void watches_tick(struct api_watches *watches)
{
    const struct control_plane *control = watches->api->control;
    const struct state *state = control->state(control->context);
    uint64_t now_ms = uv_now(watches->api->loop);
    LIST_EACH_SAFE (item, &watches->list) {
        struct watch *watch = LIST_ITEM(item, struct watch, link);
        if (watch->listing) {
            pump_or_reset(watch);
        } else if (now_ms - watch->bookmark_ms >= BOOKMARK_MS && state != NULL) {
            char data[48];
            uint64_t revision = state_revision(state);
            (void)snprintf(data, sizeof(data), "{\"revision\":%llu}",
                           (unsigned long long)revision);
            (void)send_event(watch, "bookmark", revision,
                             data); /* too slow: the next one */
        }
    }
}

/* ---- beginning
 * -------------------------------------------------------------------------------------------------
 */

static int kinds_read(const char *text, uint32_t *ret_kinds, struct err *err)
{
    char word[NAME_SIZE];
    *ret_kinds = 0;
    if (text == NULL || text[0] == '\0') {
        *ret_kinds = UINT32_MAX;
        return 0;
    }
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        const struct kind_info *info = NULL;
        if (size > 0 && size < sizeof(word)) {
            memcpy(word, text, size);
            word[size] = '\0';
            info = kind_info_by_name(word);
        }
        if (info == NULL) {
            return err_set(err, BERTH_EINVALID, "kinds: \"%.*s\" is no kind", (int)size,
                           text);
        }
        *ret_kinds |= UINT32_C(1) << info->kind;
        text += size + (text[size] == ',' ? 1 : 0);
    }
    return 0;
}

static int since_read(const struct api_call *call, uint64_t *ret_since, struct err *err)
{
    const char *last = exchange_request(call->exchange)->last_event_id;
    if (last != NULL && last[0] != '\0') {
        return parse_u64(last, ret_since, err);
    }
    return query_u64(&call->query, "since", 0, ret_since, err);
}

void handle_watch(struct api_call *call, const struct state *state)
{
    static const char *const known[] = {"kinds", "tenant", "since", NULL};
    static const struct exchange_header headers[] = {{"Cache-Control", "no-store"}};
    struct api_watches *watches = call->api->watches;
    const char *tenant = query_get(&call->query, "tenant");
    uint64_t since = 0;
    struct err err;
    struct watch *watch = watches->count < WATCHES_MAX ? calloc(1, sizeof(*watch)) : NULL;
    if (watch == NULL) {
        call_fail(call, BERTH_EFULL, "too many watches on this host");
        return;
    }
    if (query_check(&call->query, known, &err) < 0 ||
        kinds_read(query_get(&call->query, "kinds"), &watch->kinds, &err) < 0 ||
        since_read(call, &since, &err) < 0) {
        free(watch);
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    (void)state;
    watch->watches = watches;
    watch->exchange = exchange_ref(call->exchange);
    watch->view.api = call->api;
    watch->view.subject = call->subject;
    (void)snprintf(watch->tenant, sizeof(watch->tenant), "%s",
                   tenant != NULL ? tenant : "");
    watch->listing = since == 0;
    watch->cursor = feed_cursor_after(since);
    list_push_back(&watches->list, &watch->link);
    watches->count++;
    exchange_head(call->exchange, 200, "text/event-stream", headers, 1);
    exchange_on_cancel(call->exchange, watch_cancelled, watch);
    call_leave(call);
    pump_or_reset(watch);
}

/* ---- life
 * --------------------------------------------------------------------------------------------------------
 */

struct api_watches *watches_new(struct api *api)
{
    struct api_watches *watches = calloc(1, sizeof(*watches));
    if (watches != NULL) {
        watches->api = api;
        list_init(&watches->list);
    }
    return watches;
}

struct api_watches *watches_free(struct api_watches *watches)
{
    if (watches == NULL) {
        return NULL;
    }
    LIST_EACH_SAFE (item, &watches->list) {
        struct watch *watch = LIST_ITEM(item, struct watch, link);
        exchange_end(watch->exchange);
        watch_free(watch);
    }
    free(watches);
    return NULL;
}
