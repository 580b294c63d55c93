/* A watch that leaves and comes back, at any host. */
#include "base/clock.h"
#include "base/require.h"
#include "chaos_load.h"
#include "cli/sse.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STAY_MIN_NS (UINT64_C(2) * NS_PER_S)
#define STAY_MS     30000
#define AGAIN_MS    200

struct watching {
    struct chaos_client *client;
    bool listing;
    uint64_t place; /* the last revision after which it can be resumed */
    uint64_t until_ns;
    struct sse sse;
};

static void note(struct watching *watching, struct chaos_record *record)
{
    record->actor = watching->client->actor;
    record->begin_ns = chaos_now_ns();
    record->end_ns = record->begin_ns;
    record->outcome = record->outcome == 0 ? RECORD_OK : record->outcome;
    history_note(watching->client->load->history, record);
}

static void listing_begins(struct watching *watching)
{
    watching->listing = true;
    note(watching, &(struct chaos_record){.type = RECORD_LISTING});
}

/* What tells one state of an object from another, and is in the event as of its time. */
static void value_of(const json_t *object, bool gone, char *ret_value)
{
    const char *kind = json_member_text(object, "kind", "");
    const json_t *status = json_object_get(object, "status");
    const json_t *labels = json_object_get(json_object_get(object, "metadata"), "labels");
    if (gone) {
        (void)snprintf(ret_value, HISTORY_TEXT_SIZE, "gone");
    } else if (strcmp(kind, "Template") == 0) {
        (void)snprintf(ret_value, HISTORY_TEXT_SIZE, "%s",
                       json_member_text(labels, "value", ""));
    } else if (strcmp(kind, "VM") == 0) {
        (void)snprintf(ret_value, HISTORY_TEXT_SIZE, "%s:%" PRIu64 ":%" PRIu64,
                       json_member_text(status, "phase", ""),
                       json_member_u64(status, "epoch", 0),
                       json_member_u64(status, "hostUid", 0));
    } else {
        (void)snprintf(ret_value, HISTORY_TEXT_SIZE, "%" PRIu64 ":%" PRIu64,
                       json_member_u64(status, "desired", 0),
                       json_member_u64(status, "nextIndex", 0));
    }
}

/* A put says kind and name as an object does, a delete in a document of its own. */
static void take_object(struct watching *watching,
                        const json_t *data,
                        bool gone,
                        uint64_t id,
                        bool has_id)
{
    const json_t *meta = json_object_get(data, "metadata");
    struct chaos_record record = {
        .type = watching->listing ? RECORD_LISTED : RECORD_SEEN,
        .outcome = has_id ? RECORD_OK : RECORD_MORE,
        .revision = json_member_u64(gone ? data : meta, "revision", 0),
    };
    char kind[32];
    (void)snprintf(kind, sizeof(kind), "%s", json_member_text(data, "kind", ""));
    for (char *c = kind; *c != '\0'; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    }
    (void)snprintf(record.key, sizeof(record.key), "%s/%.60s", kind,
                   json_member_text(gone ? data : meta, "name", ""));
    value_of(data, gone, record.value);
    record.at = has_id && !watching->listing ? id : 0;
    note(watching, &record);
}

static bool
take_event(void *context, const char *name, const char *id, const char *data, size_t size)
{
    struct watching *watching = context;
    json_t *document = NULL;
    uint64_t place = strtoull(id, NULL, 10);
    bool has_id =
        place != 0 && place != watching->place; /* the id stays until the next */
    REQUIRE(json_parse(data, size, &document, NULL) == 0);
    if (strcmp(name, "reset") == 0) {
        listing_begins(watching);
    } else if (strcmp(name, "bookmark") == 0) {
        note(watching, &(struct chaos_record){
                           .type = RECORD_PLACE,
                           .revision = json_member_u64(document, "revision", 0),
                       });
        watching->listing = false;
    } else {
        take_object(watching, document, strcmp(name, "delete") == 0, place, has_id);
    }
    json_decref(document);
    if (has_id && !watching->listing) {
        watching->place = place;
        atomic_store(&watching->client->reached, place);
    }
    return true;
}

static bool take_bytes(void *context, const char *data, size_t size)
{
    struct watching *watching = context;
    return sse_feed(&watching->sse, data, size) && chaos_now_ns() < watching->until_ns &&
           !atomic_load(&watching->client->load->settled);
}

void *chaos_watch_on(void *context)
{
    struct chaos_client *client = context;
    struct watching watching = {.client = client};
    char path[128];
    while (!atomic_load(&client->load->settled)) {
        watching.until_ns = chaos_now_ns() + STAY_MIN_NS +
                            random_below(&client->random, STAY_MS) * NS_PER_MS;
        if (watching.place == 0) {
            listing_begins(&watching);
            (void)snprintf(path, sizeof(path), "/v1/watch?kinds=template,vm,group");
        } else {
            watching.listing = false; /* a reset says so */
            note(&watching, &(struct chaos_record){.type = RECORD_RESUMED,
                                                   .revision = watching.place});
            (void)snprintf(path, sizeof(path),
                           "/v1/watch?kinds=template,vm,group&since=%" PRIu64,
                           watching.place);
        }
        sse_init(&watching.sse, take_event, &watching);
        chaos_stream(client->wire, chaos_any_host(client), path, take_bytes, &watching,
                     &client->load->settled);
        sse_fini(&watching.sse);
        chaos_pause_ms(AGAIN_MS);
    }
    return NULL;
}
