/* Watches: the change feed as server-sent events.
 *
 * A watch begins with the objects as they are (since=0 or none) or after a revision, gets
 * every change that its subject may see, a bookmark every BOOKMARK_MS, and a reset when
 * the feed no longer reaches its place; after a reset it begins again with the objects as
 * they are. A slow reader holds up its own watch only: nothing more is rendered for it
 * than its queue takes, and it goes on when there is room. There is never a silent gap.
 *
 * The listing is a list of names made at its start, sent piece by piece. Changes that
 * come meanwhile are told at once, but for objects whose turn is still to come: those are
 * sent as they are by then. So each object is told once, never an older state after a
 * newer one, and the bookmark at the end is true. An event carries an id only where a
 * watch could resume: not within a listing, and on the last event of a revision.
 *
 * What a watch was told of and may see no more is told gone, or the watch begins anew
 * with a reset: api/watch_sight.h.
 */
#include "api/api_handlers.h"
#include "api/object_view.h"
#include "api/watch_sight.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse_number.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOOKMARK_MS   15000
#define WATCHES_MAX   512
#define WATCHES_SHARE 64 /* of one subject, but for root */
#define EVENT_MAX     (4u << 20)
#define LISTING_MAX   (64u << 20) /* names of all objects a cell may hold */

/* The objects whose turn is still to come: keys in order, by their place in one text. A
 * key is {kind, tenant, 0, name, 0}. */
struct listing {
    uint8_t *keys;
    uint32_t *places;
    uint32_t count;
    uint32_t next;
};

struct watch {
    struct list link;
    struct api_watches *watches;
    struct exchange *exchange;
    struct api_call view; /* what object_write needs: api and subject */
    uint32_t kinds;       /* bit per kind */
    char tenant[NAME_SIZE];
    struct watch_sight sight;
    struct feed_cursor cursor;
    bool listing_due;       /* the objects as they are come first */
    bool reset_due;         /* and before them, a reset */
    bool listing_on;        /* `listing` is under way */
    struct listing listing; /* empty when not */
    uint64_t bookmark_ms;   /* when the last thing was said */
};

struct api_watches {
    struct api *api;
    struct list list;
    unsigned count;
    struct object_view
        documents; /* its reasons are for all watches until the next news */
};

static void listing_drop(struct watch *watch)
{
    free(watch->listing.keys);
    free(watch->listing.places);
    watch->listing = (struct listing){0};
    watch->listing_on = false;
}

static void watch_free(struct watch *watch)
{
    list_remove(&watch->link);
    watch->watches->count--;
    listing_drop(watch);
    sight_fini(&watch->sight);
    exchange_on_cancel(watch->exchange, NULL, NULL);
    exchange_on_room(watch->exchange, NULL, NULL);
    exchange_unref(watch->exchange);
    free(watch);
}

static void watch_cancelled(void *context)
{
    watch_free(context);
}

/* The client may come back and resume, here or elsewhere. */
static void watch_end(struct watch *watch)
{
    exchange_end(watch->exchange);
    watch_free(watch);
}

/* ---- events ---- */

/* False when there was no room: nothing was said. */
static bool
send_event(struct watch *watch, const char *event, const char *id, const char *data)
{
    struct bytes_writer writer;
    CLEANUP_FREE char *text = NULL;
    bytes_writer_init(&writer, EVENT_MAX);
    if (id != NULL) {
        bytes_write_format(&writer, "id: %s\n", id);
    }
    bytes_write_format(&writer, "event: %s\ndata: ", event);
    bytes_write_raw(&writer, data, strlen(data));
    bytes_write_raw(&writer, "\n\n", 2);
    size_t size = writer.size;
    if (bytes_writer_take_text(&writer, &text) < 0 ||
        exchange_data(watch->exchange, text, size) < 0) {
        return false;
    }
    watch->bookmark_ms = uv_now(watch->watches->api->loop);
    return true;
}

static bool send_bookmark(struct watch *watch, uint64_t revision)
{
    char data[48];
    char id[24];
    (void)snprintf(id, sizeof(id), "%llu", (unsigned long long)revision);
    (void)snprintf(data, sizeof(data), "{\"revision\":%s}", id);
    return send_event(watch, "bookmark", id, data);
}

/* Its id sends a client that is cut off before the bookmark back to the beginning. */
static bool send_reset(struct watch *watch, const struct state *state)
{
    char data[48];
    (void)snprintf(data, sizeof(data), "{\"revision\":%llu}",
                   (unsigned long long)state_revision(state));
    return send_event(watch, "reset", "0", data);
}

static bool send_put(struct watch *watch,
                     const struct state *state,
                     enum kind kind,
                     const void *object,
                     const char *id)
{
    struct bytes_writer written;
    struct json_writer writer;
    CLEANUP_FREE char *text = NULL;
    bytes_writer_init(&written, EVENT_MAX);
    json_writer_init(&writer, &written);
    object_write(&watch->view, state, kind, object, &watch->watches->documents, &writer);
    const struct metadata *meta = object_meta(object);
    if (bytes_writer_take_text(&written, &text) < 0 ||
        sight_told(&watch->sight, kind, meta->tenant, meta->name) < 0) {
        return false;
    }
    return send_event(watch, "put", id, text);
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

/* ---- the objects as they are ---- */

struct key {
    enum kind kind;
    const char *tenant;
    const char *name;
};

static struct key key_at(const struct listing *listing, uint32_t index)
{
    const char *at = (const char *)listing->keys + listing->places[index];
    return (struct key){.kind = (enum kind)(uint8_t)at[0],
                        .tenant = at + 1,
                        .name = at + 1 + strlen(at + 1) + 1};
}

static int key_compare(const struct key *a, const struct key *b)
{
    int order = (int)a->kind - (int)b->kind;
    order = order != 0 ? order : strcmp(a->tenant, b->tenant);
    return order != 0 ? order : strcmp(a->name, b->name);
}

/* Its turn is still to come. */
static bool listing_holds(const struct listing *listing, const struct key *wanted)
{
    uint32_t low = listing->next;
    uint32_t high = listing->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct key key = key_at(listing, middle);
        int order = key_compare(&key, wanted);
        if (order == 0) {
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

static int listing_add(const struct watch *watch,
                       const struct state *state,
                       enum kind kind,
                       struct bytes_writer *keys,
                       struct bytes_writer *places)
{
    CLEANUP_FREE const void **objects = NULL;
    size_t count = 0;
    const char *tenant = watch->tenant[0] != '\0' ? watch->tenant : NULL;
    if ((watch->kinds & (UINT32_C(1) << kind)) == 0) {
        return 0;
    }
    int r = state_list(state, kind, tenant, &objects, &count);
    for (size_t i = 0; r == 0 && i < count; i++) {
        const struct metadata *meta = object_meta(objects[i]);
        uint32_t place = (uint32_t)keys->size;
        if (wants(watch, state, kind, meta->tenant, meta->name)) {
            bytes_write_raw(places, &place, sizeof(place));
            bytes_write_u8(keys, (uint8_t)kind);
            bytes_write_raw(keys, meta->tenant, strlen(meta->tenant) + 1);
            bytes_write_raw(keys, meta->name, strlen(meta->name) + 1);
        }
    }
    return r;
}

static bool listing_begin(struct watch *watch, const struct state *state)
{
    struct bytes_writer keys;
    struct bytes_writer places;
    uint8_t *place_data = NULL;
    size_t size = 0;
    int r = 0;
    bytes_writer_init(&keys, LISTING_MAX);
    bytes_writer_init(&places, LISTING_MAX);
    for (int kind = 1; kind < KIND_COUNT && r == 0; kind++) {
        r = listing_add(watch, state, (enum kind)kind, &keys, &places);
    }
    listing_drop(watch);
    r = r == 0 ? sight_renew(&watch->sight, state, &watch->view.subject) : r;
    if (r < 0 || keys.error != 0 || places.error != 0) {
        bytes_writer_fini(&keys);
        bytes_writer_fini(&places);
        return false; /* out of memory: with the next tick, perhaps */
    }
    r = bytes_writer_take(&keys, &watch->listing.keys, &size);
    r = r == 0 ? bytes_writer_take(&places, &place_data, &size) : r;
    if (r < 0) {
        bytes_writer_fini(&places);
        listing_drop(watch);
        return false;
    }
    watch->listing.places = (uint32_t *)(void *)place_data;
    watch->listing.count = place_data != NULL ? (uint32_t)(size / sizeof(uint32_t)) : 0;
    watch->listing_on = true;
    watch->listing_due = false;
    watch->cursor = feed_cursor_after(state_revision(state));
    return true;
}

/* Says as much of the listing as there is room for; true when it is through. */
static bool listing_go_on(struct watch *watch, const struct state *state)
{
    struct listing *listing = &watch->listing;
    for (; listing->next < listing->count; listing->next++) {
        struct key key = key_at(listing, listing->next);
        const void *object = state_get(state, key.kind, key.tenant, key.name);
        if (object != NULL && wants(watch, state, key.kind, key.tenant, key.name) &&
            !send_put(watch, state, key.kind, object, NULL)) {
            return false;
        }
    }
    if (!send_bookmark(watch, state_revision(state))) {
        return false;
    }
    listing_drop(watch);
    return true;
}

/* ---- changes ---- */

/* Does the watch see another change of the same revision after this one? Each entry is
 * passed over at most twice by a watch: here and by watch_feed. */
static bool more_of_revision(const struct watch *watch,
                             const struct state *state,
                             const struct feed *feed,
                             struct feed_cursor cursor)
{
    const uint64_t revision = cursor.revision;
    const struct feed_entry *entry;
    while ((entry = feed_next(feed, &cursor)) != NULL && entry->revision == revision) {
        if (wants(watch, state, entry->kind, entry->tenant, entry->name) ||
            sight_holds(&watch->sight, entry->kind, entry->tenant, entry->name)) {
            return true;
        }
    }
    return false;
}

static bool
send_delete(struct watch *watch, const struct feed_entry *entry, const char *id)
{
    json_t *document = json_pack(
        "{s:s, s:s, s:s, s:I}", "kind", kind_info(entry->kind)->name, "tenant",
        entry->tenant, "name", entry->name, "revision", (json_int_t)entry->revision);
    CLEANUP_FREE char *text = document != NULL ? json_text(document) : NULL;
    json_decref(document);
    if (text == NULL || !send_event(watch, "delete", id, text)) {
        return false;
    }
    sight_untold(&watch->sight, entry->kind, entry->tenant, entry->name);
    return true;
}

static bool send_entry(struct watch *watch,
                       const struct state *state,
                       const struct feed_entry *entry,
                       const char *id)
{
    struct bytes_reader reader;
    const struct record *record = kind_info(entry->kind)->record;
    if (entry->deleted || !wants(watch, state, entry->kind, entry->tenant, entry->name)) {
        return send_delete(watch, entry, id); /* gone, or out of its sight */
    }
    void *object = object_new(entry->kind);
    if (object == NULL) {
        return false;
    }
    bytes_reader_init(&reader, entry->record, entry->record_size);
    record_fini(record, object);
    bool sent = record_decode(record, &reader, object) == 0 &&
                send_put(watch, state, entry->kind, object, id);
    object_free(entry->kind, object);
    return sent;
}

static void begin_again(struct watch *watch)
{
    listing_drop(watch);
    watch->listing_due = true;
    watch->reset_due = true;
}

/* Of the change: that it is seen, or that what was told is seen no more. */
static bool concerns(const struct watch *watch,
                     const struct state *state,
                     const struct feed_entry *entry)
{
    const struct key key = {entry->kind, entry->tenant, entry->name};
    return (wants(watch, state, key.kind, key.tenant, key.name) ||
            sight_holds(&watch->sight, key.kind, key.tenant, key.name)) &&
           !listing_holds(&watch->listing, &key);
}

/* Says what is new; false when there was no room for all, or it has to begin anew. */
static bool
watch_feed(struct watch *watch, const struct state *state, const struct feed *feed)
{
    struct feed_cursor next = watch->cursor;
    const struct feed_entry *entry;
    while ((entry = feed_next(feed, &next)) != NULL) {
        char id[24];
        if (sight_moves(&watch->sight, state, &watch->view.subject, entry)) {
            begin_again(watch);
            return false;
        }
        bool told = concerns(watch, state, entry);
        bool resumes =
            told && !watch->listing_on && !more_of_revision(watch, state, feed, next);
        (void)snprintf(id, sizeof(id), "%llu", (unsigned long long)entry->revision);
        if (told && !send_entry(watch, state, entry, resumes ? id : NULL)) {
            return false;
        }
        watch->cursor = next;
    }
    sight_reached(&watch->sight, state, &watch->view.subject);
    return true;
}

/* ---- the pump ---- */

static bool begin_anew(struct watch *watch, const struct state *state)
{
    if (watch->reset_due && !send_reset(watch, state)) {
        return false;
    }
    watch->reset_due = false;
    return listing_begin(watch, state);
}

/* Says what there is to say, as far as there is room; the rest follows when there is. */
static void watch_pump(struct watch *watch)
{
    const struct control_plane *control = watch->watches->api->control;
    const struct state *state = control->state(control->context);
    const struct feed *feed = control->feed(control->context);
    if (state == NULL || feed == NULL) {
        return; /* the next tick ends it */
    }
    if (!watch->listing_due && !feed_reaches_cursor(feed, &watch->cursor)) {
        begin_again(watch);
    }
    bool all = false;
    do { /* once more at most: a listing begins where the log is */
        if (watch->listing_due && !begin_anew(watch, state)) {
            return;
        }
        all = watch_feed(watch, state, feed);
    } while (watch->listing_due);
    if (all && watch->listing_on) {
        (void)listing_go_on(watch, state); /* what is left has its turn later */
    }
}

static void watch_room(void *context)
{
    watch_pump(context);
}

void watches_feed_changed(struct api_watches *watches)
{
    watches->documents = object_view_whole();
    LIST_EACH_SAFE (item, &watches->list) {
        watch_pump(LIST_ITEM(item, struct watch, link));
    }
}

void watches_reset(struct api_watches *watches)
{
    LIST_EACH_SAFE (item, &watches->list) {
        struct watch *watch = LIST_ITEM(item, struct watch, link);
        begin_again(watch);
        watch_pump(watch);
    }
}

/* The kind that is asked for when it is one; KIND_NONE: several. */
static enum kind kind_alone(uint32_t kinds)
{
    for (int kind = 1; kind < KIND_COUNT; kind++) {
        if (kinds == UINT32_C(1) << kind) {
            return (enum kind)kind;
        }
    }
    return KIND_NONE;
}

static bool same_rights(const struct subject *a, const struct subject *b)
{
    return a->cluster_role == b->cluster_role && a->tenant_role == b->tenant_role &&
           a->host == b->host && strcmp(a->tenant, b->tenant) == 0;
}

/* Its token is still there and good and may ask for as much, and this host still holds
 * the state. With other
 * rights than before (root of a host that got a part in the log) it begins anew. */
static bool watch_may_go_on(struct watch *watch, const struct state *state)
{
    struct subject subject;
    const struct exchange_request *request = exchange_request(watch->exchange);
    if (state == NULL ||
        subject_authenticate(state, &request->credentials, clock_wall_ms(clock_system()),
                             &subject) < 0 ||
        subject_may_list(state, &subject, kind_alone(watch->kinds),
                         watch->tenant[0] != '\0' ? watch->tenant : NULL) < 0) {
        return false;
    }
    if (!same_rights(&watch->view.subject, &subject)) {
        begin_again(watch);
    }
    watch->view.subject = subject;
    return true;
}

/* Where it stands, when all until there has been said. A place that the log has not
 * reached in all that time is of another log. */
static void watch_bookmark(struct watch *watch, const struct state *state)
{
    const struct control_plane *control = watch->watches->api->control;
    struct feed_cursor next = watch->cursor;
    uint64_t revision = state_revision(state);
    if (watch->cursor.revision > revision) {
        begin_again(watch);
        watch_pump(watch);
    } else if (!watch->listing_due && !watch->listing_on &&
               feed_next(control->feed(control->context), &next) == NULL) {
        (void)send_bookmark(watch, revision); /* no room: the next one */
    }
}

void watches_tick(struct api_watches *watches)
{
    const struct control_plane *control = watches->api->control;
    const struct state *state = control->state(control->context);
    uint64_t now_ms = uv_now(watches->api->loop);
    watches->documents = object_view_whole();
    LIST_EACH_SAFE (item, &watches->list) {
        struct watch *watch = LIST_ITEM(item, struct watch, link);
        if (!watch_may_go_on(watch, state)) {
            watch_end(watch);
            continue;
        }
        watch_pump(watch);
        if (now_ms - watch->bookmark_ms >= BOOKMARK_MS) {
            watch_bookmark(watch, state);
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

/* Why there is no place for one more of that subject, or NULL. */
static const char *watches_full(const struct api_watches *watches,
                                const struct subject *subject)
{
    unsigned mine = 0;
    if (watches->count >= WATCHES_MAX) {
        return "too many watches on this host: ask another one";
    }
    LIST_EACH (item, &watches->list) {
        const struct watch *watch = LIST_ITEM(item, struct watch, link);
        mine += strcmp(watch->view.subject.name, subject->name) == 0 ? 1 : 0;
    }
    return mine >= WATCHES_SHARE && !subject_is_root(subject)
               ? "64 watches of this token are open on this host: close one"
               : NULL;
}

void handle_watch(struct api_call *call, const struct state *state)
{
    static const struct exchange_header headers[] = {{"Cache-Control", "no-store"}};
    struct api_watches *watches = call->api->watches;
    const char *tenant = query_get(&call->query, "tenant");
    uint64_t since = 0;
    struct err err;
    const char *full = watches_full(watches, &call->subject);
    if (full != NULL) {
        call_fail(call, BERTH_EFULL, full);
        return;
    }
    struct watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        call_fail(call, -ENOMEM, NULL);
        return;
    }
    if (kinds_read(query_get(&call->query, "kinds"), &watch->kinds, &err) < 0 ||
        since_read(call, &since, &err) < 0) {
        free(watch);
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    if (!call_may_list(call, state, kind_alone(watch->kinds), tenant)) {
        free(watch);
        return;
    }
    watch->watches = watches;
    watch->exchange = exchange_ref(call->exchange);
    watch->view.api = call->api;
    watch->view.subject = call->subject;
    (void)snprintf(watch->tenant, sizeof(watch->tenant), "%s",
                   tenant != NULL ? tenant : "");
    watch->listing_due = since == 0;
    watch->cursor = feed_cursor_after(since);
    if (since != 0 && call->subject.host != 0) {
        begin_again(watch); /* which VMs it was told of nobody knows */
    }
    list_push_back(&watches->list, &watch->link);
    watches->count++;
    exchange_head(call->exchange, 200, "text/event-stream", headers, 1);
    exchange_on_cancel(call->exchange, watch_cancelled, watch);
    exchange_on_room(call->exchange, watch_room, watch);
    call_leave(call);
    watch_pump(watch);
}

/* ---- life
 * --------------------------------------------------------------------------------------------------------
 */

struct api_watches *watches_new(struct api *api)
{
    struct api_watches *watches = calloc(1, sizeof(*watches));
    if (watches != NULL) {
        watches->api = api;
        watches->documents = object_view_whole();
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
        watch_end(watch);
    }
    free(watches);
    return NULL;
}
