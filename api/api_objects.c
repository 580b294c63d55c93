/* Objects: list, get, put, delete, and the events about them. */
#include "api/api_handlers.h"
#include "api/apply_memory.h"
#include "api/object_view.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/plural.h"
#include "base/require.h"
#include "model/document.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_LIMIT     200
#define LIST_LIMIT_MAX 1000
#define EVENTS_LIMIT   1000

/* ---- list
 * ------------------------------------------------------------------------------------------------------
 */

struct filter {
    const struct query *query; /* its labels */
    const char *tenant;
    const char *group;
    struct {
        char tenant[NAME_SIZE];
        char name[NAME_SIZE];
    } after; /* the last object of the page before; no name: from the start */
    uint64_t limit;
};

/* "tenant/name", as answered in `next`. */
static int page_read(const char *text, struct filter *filter, struct err *err)
{
    const char *slash = strchr(text, '/');
    size_t size = slash != NULL ? (size_t)(slash - text) : NAME_SIZE;
    if (size >= NAME_SIZE || slash[1] == '\0' || strlen(slash + 1) >= NAME_SIZE) {
        return err_set(err, BERTH_EINVALID, "page: wanted what `next` said");
    }
    memcpy(filter->after.tenant, text, size);
    memcpy(filter->after.name, slash + 1, strlen(slash + 1));
    return 0;
}

/* The next label=key=value of the query; *cursor starts at 0. 1, 0 at the end, or
 * BERTH_EINVALID. */
static int label_next(const struct query *query,
                      unsigned *cursor,
                      char ret_key[NAME_SIZE],
                      const char **ret_value)
{
    while (*cursor < query->count) {
        const struct query_item *item = &query->items[(*cursor)++];
        if (strcmp(item->name, "label") != 0) {
            continue;
        }
        size_t size = strcspn(item->value, "=");
        if (item->value[size] == '\0' || size == 0 || size >= NAME_SIZE) {
            return BERTH_EINVALID;
        }
        memcpy(ret_key, item->value, size);
        ret_key[size] = '\0';
        *ret_value = item->value + size + 1;
        return 1;
    }
    return 0;
}

static int
filter_read(const struct api_call *call, struct filter *ret_filter, struct err *err)
{
    struct filter filter = {.query = &call->query,
                            .tenant = call->target.tenant[0] != '\0'
                                          ? call->target.tenant
                                          : query_get(&call->query, "tenant"),
                            .group = query_get(&call->query, "group")};
    const char *page = query_get(&call->query, "page");
    char key[NAME_SIZE];
    const char *value;
    unsigned cursor = 0;
    int r = query_u64(&call->query, "limit", LIST_LIMIT, &filter.limit, err);
    if (r == 0 && page != NULL) {
        r = page_read(page, &filter, err);
    }
    if (r < 0) {
        return r;
    }
    if (filter.limit == 0 || filter.limit > LIST_LIMIT_MAX) {
        return err_set(err, BERTH_EINVALID, "limit: 1 to %d", LIST_LIMIT_MAX);
    }
    while ((r = label_next(filter.query, &cursor, key, &value)) > 0) {
    }
    if (r < 0) {
        return err_set(err, BERTH_EINVALID, "label: wanted key=value");
    }
    *ret_filter = filter;
    return 0;
}

static bool labels_pass(const struct filter *filter, const struct label_list *labels)
{
    char key[NAME_SIZE];
    const char *wanted;
    unsigned cursor = 0;
    while (label_next(filter->query, &cursor, key, &wanted) > 0) {
        const char *value = label_value(labels, key);
        if (value == NULL || strcmp(value, wanted) != 0) {
            return false;
        }
    }
    return true;
}

static bool passes(const struct filter *filter, enum kind kind, const void *object)
{
    const struct metadata *meta = object_meta(object);
    int order = strcmp(meta->tenant, filter->after.tenant);
    if (filter->after.name[0] != '\0' &&
        (order < 0 || (order == 0 && strcmp(meta->name, filter->after.name) <= 0))) {
        return false; /* on a page before */
    }
    if (filter->group != NULL &&
        (kind != KIND_VM ||
         strcmp(((const struct vm *)object)->spec.group, filter->group) != 0)) {
        return false;
    }
    return labels_pass(filter, &meta->labels);
}

void handle_list(struct api_call *call, const struct state *state)
{
    struct filter filter = {0};
    struct object_view view;
    struct err err;
    CLEANUP_FREE const void **objects = NULL;
    size_t count = 0;
    enum kind kind = call->target.kind;
    if (filter_read(call, &filter, &err) < 0 ||
        object_view_read(&call->query, kind, &view, &err) < 0) {
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    if (!call_may_list(call, state, kind, filter.tenant)) {
        return;
    }
    if (state_list(state, kind, filter.tenant, &objects, &count) < 0) {
        call_fail(call, -ENOMEM, NULL);
        return;
    }
    struct bytes_writer text;
    struct json_writer answer;
    char next[2 * NAME_SIZE] = "";
    uint64_t shown = 0;
    bool more = false;
    call_json_begin(&text, &answer);
    json_write_begin(&answer, '{');
    json_write_key(&answer, "items");
    json_write_begin(&answer, '[');
    for (size_t i = 0; i < count; i++) {
        const struct metadata *meta = object_meta(objects[i]);
        if (!passes(&filter, kind, objects[i]) ||
            subject_may(state, &call->subject, ACCESS_READ, kind, meta->tenant,
                        meta->name) < 0) {
            continue;
        }
        if (shown == filter.limit) {
            more = true;
            break;
        }
        shown++;
        (void)snprintf(next, sizeof(next), "%s/%s", meta->tenant, meta->name);
        object_write(call, state, kind, objects[i], &view, &answer);
    }
    json_write_end(&answer, ']');
    json_write_key(&answer, "revision");
    json_write_u64(&answer, state_revision(state));
    if (more) {
        json_write_key(&answer, "next");
        json_write_text(&answer, next);
    }
    json_write_end(&answer, '}');
    call_answer_written(call, 200, &text, state_revision(state));
}

static void answer_object(struct api_call *call,
                          const struct state *state,
                          const void *object,
                          struct object_view *view)
{
    struct bytes_writer text;
    struct json_writer answer;
    call_json_begin(&text, &answer);
    object_write(call, state, call->target.kind, object, view, &answer);
    call_answer_written(call, 200, &text, object_meta(object)->modify_revision);
}

void handle_get(struct api_call *call, const struct state *state)
{
    const void *object =
        state_get(state, call->target.kind, call->target.tenant, call->target.name);
    struct object_view view;
    struct err err;
    if (object == NULL) {
        call_fail_missing(call);
        return;
    }
    if (object_view_read(&call->query, call->target.kind, &view, &err) < 0) {
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    answer_object(call, state, object, &view);
}

/* ---- write
 * ------------------------------------------------------------------------------------------------------
 */

/* The object as it was written: somebody else may have written it since, and whoever got
 * that one's revision would overwrite it unseen with If-Match. */
static void written(struct api_call *call)
{
    const struct apply_result *refusal = call_refusal(call);
    const struct state *state = call_state(call);
    if (refusal != NULL) {
        call_refuse(call, refusal);
        return;
    }
    const void *object = state != NULL ? state_get(state, call->target.kind,
                                                   call->target.tenant, call->target.name)
                                       : NULL;
    struct object_view view = object_view_whole();
    uint64_t revision = call->results[0].revision;
    if (object != NULL && object_meta(object)->modify_revision <= revision) {
        answer_object(call, state, object, &view);
    } else {
        call_answer(call, 200, json_pack("{s:I}", "revision", (json_int_t)revision),
                    revision);
    }
}

/* The object is the path's, and of a kind that is written so; it takes its tenant. */
static int
put_check(const struct api_call *call, enum kind kind, void *object, struct err *err)
{
    REQUIRE(object != NULL);
    struct metadata *meta = object_meta(object);
    if (kind != call->target.kind || strcmp(meta->name, call->target.name) != 0 ||
        (meta->tenant[0] != '\0' && strcmp(meta->tenant, call->target.tenant) != 0)) {
        return err_set(err, BERTH_EINVALID, "kind, tenant or name differ from the path");
    }
    if (kind == KIND_VM || kind == KIND_HOST || kind == KIND_TOKEN ||
        kind == KIND_OPERATION || kind == KIND_SNAPSHOT) {
        return err_set(err, BERTH_EUNSUPPORTED, "this kind is not written by PUT");
    }
    if (kind == KIND_DISK) { /* it would count in the quota, and serve nobody */
        return err_set(err, BERTH_EUNSUPPORTED,
                       "disks of their own are not supported: a VM's disks stand in its "
                       "template");
    }
    memcpy(meta->tenant, call->target.tenant, sizeof(meta->tenant));
    return 0;
}

static void
memory_lacks(void *context, uint32_t index, const char *message, const char *hint)
{
    (void)index;
    (void)err_set(context, BERTH_EINVALID, "%s: %s", message, hint);
}

/* As in an apply of this object alone. */
static int
memory_check(const struct state *state, enum kind kind, void *object, struct err *err)
{
    const struct apply_item item = {.kind = kind, .object = object};
    err->code = 0;
    apply_memory_check(state, &item, 1, memory_lacks, err);
    return err->code;
}

void handle_put(struct api_call *call, const struct state *state)
{
    struct command command;
    struct err err;
    enum kind kind = KIND_NONE;
    void *object = NULL;
    uint64_t expected = REVISION_ANY;
    int r = call->body == NULL
                ? err_set(&err, BERTH_EINVALID, "the body must hold the object")
                : document_read(json_view_root(call->body), &kind, &object, &err);
    r = r < 0 ? r : call_expected_revision(call, &expected, &err);
    if (r == 0) {
        r = put_check(call, kind, object, &err);
    }
    if (r == 0 && kind == KIND_NETWORK) {
        const struct network *there =
            state_get(state, kind, call->target.tenant, call->target.name);
        r = subject_may_take(state, &call->subject, there, object, &err);
        if (r == 0 && there == NULL) {
            r = subject_may_make_network(state, &call->subject, call->target.tenant, 0,
                                         &err);
        }
    }
    if (r == 0) {
        r = memory_check(state, kind, object, &err);
    }
    if (r == 0) {
        command_init(&command, COMMAND_PUT);
        r = command_set_put(&command, kind, object, expected);
        (void)err_sys(&err, r, "put");
    }
    object_free(kind, object);
    if (r < 0) {
        call_fail(call, r, err.text);
        return;
    }
    call_propose(call, &command, 1, written);
    command_fini(&command);
}

static void deleted(struct api_call *call)
{
    const struct apply_result *refusal = call_refusal(call);
    if (refusal != NULL) {
        call_refuse(call, refusal);
        return;
    }
    call_answer(call, 200,
                json_pack("{s:I}", "revision", (json_int_t)call->results[0].revision), 0);
}

/* VMs that may still run on the lost host start elsewhere without it, and then run twice,
 * if it is not off. True: that is answered. */
static bool refuse_doubt(struct api_call *call, const struct state *state)
{
    const struct host *host = state_get(state, KIND_HOST, "", call->target.name);
    const struct vm *vm = NULL;
    uint32_t count = host != NULL ? state_vms_in_doubt(state, host->meta.uid, &vm) : 0;
    char text[512];
    if (count == 0 || query_flag(&call->query, "surelyOff")) {
        return false;
    }
    (void)snprintf(text, sizeof(text),
                   "%" PRIu32 " VM%s may still run on lost host %s (vm %s of tenant "
                   "%s%s), and would start elsewhere and run twice: bring the host back, "
                   "or ask again with surelyOff=true once it is surely off (berth rm "
                   "asks, or --yes)",
                   count, plural_s(count), host->meta.name, vm->meta.name,
                   vm->meta.tenant, count == 1 ? "" : ", ...");
    call_fail(call, BERTH_EPHASE, text);
    return true;
}

void handle_delete(struct api_call *call, const struct state *state)
{
    struct command command;
    struct err err;
    uint64_t expected = REVISION_ANY;
    if (call_expected_revision(call, &expected, &err) < 0) {
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    if (call->target.kind == KIND_HOST && refuse_doubt(call, state)) {
        return;
    }
    command_init(&command, COMMAND_DELETE);
    command.body.delete.kind = call->target.kind;
    memcpy(command.body.delete.tenant, call->target.tenant, NAME_SIZE);
    memcpy(command.body.delete.name, call->target.name, NAME_SIZE);
    command.body.delete.expected_revision = expected;
    command.body.delete.force = query_flag(&call->query, "force");
    command.body.delete.surely_off =
        query_flag(&call->query, "surelyOff") && state_level(state) >= LEVEL_SURELY_OFF;
    call_propose(call, &command, 1, deleted);
    command_fini(&command);
}

/* ---- events
 * -------------------------------------------------------------------------------------------------------
 */

static json_t *event_document(const struct event *event)
{
    char time[CLOCK_TEXT_SIZE];
    const struct kind_info *info = kind_info(event->kind);
    clock_format(event->wall_ms, time);
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s}", "revision",
                     (json_int_t)event->revision, "time", time, "kind",
                     info != NULL ? info->name : "", "tenant", event->tenant, "name",
                     event->name, "verb", event->verb, "reason", event->reason);
}

static bool event_passes(const struct api_call *call,
                         const struct state *state,
                         const struct event *event)
{
    const char *tenant = query_get(&call->query, "tenant");
    const char *kind = query_get(&call->query, "kind");
    const char *name = query_get(&call->query, "name");
    const struct kind_info *info = kind_info(event->kind);
    if ((tenant != NULL && event->tenant[0] != '\0' &&
         strcmp(tenant, event->tenant) != 0) ||
        (name != NULL && strcmp(name, event->name) != 0) ||
        (kind != NULL && (info == NULL || kind_info_by_name(kind) != info))) {
        return false;
    }
    return subject_may(state, &call->subject, ACCESS_READ, event->kind, event->tenant,
                       event->name) == 0;
}

/* Whether the caller may be told anything of the tenant that is asked for: one that is
 * there, or that was, and is still told of. Answers, if not: a misspelt one would look
 * like one without events. */
static bool events_may_list(struct api_call *call, const struct state *state)
{
    const char *tenant = query_get(&call->query, "tenant");
    size_t cursor = 0;
    const struct event *event;
    while (tenant != NULL && (event = state_event_next(state, 0, &cursor)) != NULL) {
        if (strcmp(event->tenant, tenant) == 0 &&
            subject_may(state, &call->subject, ACCESS_READ, event->kind, event->tenant,
                        event->name) == 0) {
            return true;
        }
    }
    return call_may_list(call, state, KIND_NONE, tenant);
}

static int events_kind_check(const struct api_call *call, struct err *err)
{
    const char *kind = query_get(&call->query, "kind");
    return kind == NULL || kind_info_by_name(kind) != NULL
               ? 0
               : err_set(err, BERTH_EINVALID, "kind: \"%.64s\" is no kind", kind);
}

void handle_events(struct api_call *call, const struct state *state)
{
    uint64_t since = 0;
    uint64_t limit = EVENTS_LIMIT;
    struct err err;
    size_t cursor = 0;
    const struct event *event;
    if (query_u64(&call->query, "since", 0, &since, &err) < 0 ||
        query_u64(&call->query, "limit", EVENTS_LIMIT, &limit, &err) < 0 ||
        events_kind_check(call, &err) < 0) {
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    if (!events_may_list(call, state)) {
        return;
    }
    json_t *items = json_array();
    while ((event = state_event_next(state, since, &cursor)) != NULL) {
        if (event_passes(call, state, event)) {
            json_array_append_new(items, event_document(event));
            if (json_array_size(items) > limit) {
                json_array_remove(items, 0); /* the newest are kept */
            }
        }
    }
    call_answer(call, 200,
                json_pack("{s:o, s:I}", "items", items, "revision",
                          (json_int_t)state_revision(state)),
                state_revision(state));
}
