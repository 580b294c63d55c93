#include "api/apply_plan.h"

#include "base/cleanup.h"
#include "model/document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE  256
#define DIFF_DEPTH 16
/* Rows of a forecast that say of each host why it takes no more: there are as many hosts
 * in each. */
#define HOST_ROWS_MAX 16

/* ---- differences ---- */

/* A value as the documents with all fields have it: what is at its fallback is not in the
 * others. */
struct sides {
    const json_t *from;
    const json_t *to;
};

static struct sides sides_below(struct sides sides, const char *key)
{
    return (struct sides){json_object_get(sides.from, key),
                          json_object_get(sides.to, key)};
}

static const json_t *or_fallback(const json_t *value, const json_t *fallback)
{
    bool says = json_is_integer(fallback) || json_is_boolean(fallback) ||
                (json_is_string(fallback) && json_string_length(fallback) > 0);
    return value != NULL || !says ? value : fallback;
}

/* NOLINTBEGIN(misc-no-recursion): no deeper than DIFF_DEPTH */
static void diff(const char *path,
                 const json_t *from,
                 const json_t *to,
                 struct sides full,
                 int depth,
                 json_t *changes)
{
    char below[PATH_SIZE];
    const char *key;
    json_t *value;
    if (json_equal(from, to) || (from == NULL && to == NULL)) {
        return; /* also when neither says anything */
    }
    if (!json_is_object(from) || !json_is_object(to) || depth > DIFF_DEPTH) {
        json_array_append_new(changes, json_pack("{s:s, s:O?, s:O?}", "path", path,
                                                 "from", or_fallback(from, full.from),
                                                 "to", or_fallback(to, full.to)));
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)to, key, value)
    {
        (void)snprintf(below, sizeof(below), "%.180s.%.60s", path, key);
        diff(below, json_object_get(from, key), value, sides_below(full, key), depth + 1,
             changes);
    }
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        if (json_object_get(to, key) == NULL) {
            (void)snprintf(below, sizeof(below), "%.180s.%.60s", path, key);
            diff(below, value, NULL, sides_below(full, key), depth + 1, changes);
        }
    }
}
/* NOLINTEND(misc-no-recursion) */

static json_t *part_of(enum kind kind, const void *object, const char *part)
{
    json_t *document = document_of(kind, object, false);
    json_t *found = json_incref(json_object_get(document, part));
    if (strcmp(part, "metadata") == 0 && found != NULL) {
        static const char *const server[] = {"uid", "createRevision", "revision",
                                             "created"};
        for (size_t i = 0; i < ARRAY_COUNT(server); i++) {
            json_object_del(found, server[i]);
        }
    }
    json_decref(document);
    return found;
}

static void spec_of_vm(json_t *spec)
{
    json_object_del(spec, "group"); /* written by the server */
    json_object_del(spec, "machine");
}

json_t *apply_changes_of(enum kind kind, const void *from, const void *to)
{
    static const char *const parts[] = {"metadata", "spec"};
    json_t *changes = json_array();
    json_t *from_full = from != NULL ? document_of(kind, from, true) : NULL;
    json_t *to_full = from != NULL ? document_of(kind, to, true) : NULL;
    const struct sides full = {from_full, to_full};
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        json_t *old = from != NULL ? part_of(kind, from, parts[i]) : NULL;
        json_t *new = part_of(kind, to, parts[i]);
        if (kind == KIND_VM && i == 1) {
            spec_of_vm(old);
            spec_of_vm(new);
        }
        diff(parts[i], old, new, sides_below(full, parts[i]), 0, changes);
        json_decref(old);
        json_decref(new);
    }
    json_decref(from_full);
    json_decref(to_full);
    return changes;
}

/* ---- forecast ---- */

const struct template *apply_template_for(const struct apply_context *context,
                                          const struct state *state,
                                          const char *tenant,
                                          const char *name)
{
    for (uint32_t i = 0; i < context->count; i++) {
        const struct metadata *meta = object_meta(context->items[i].object);
        if (context->items[i].kind == KIND_TEMPLATE &&
            context->items[i].result.code == 0 && strcmp(meta->name, name) == 0 &&
            strcmp(meta->tenant, tenant) == 0) {
            return context->items[i].object;
        }
    }
    return state_get(state, KIND_TEMPLATE, tenant, name);
}

/* What the groups of each tenant were promised so far in this plan. */
struct promise {
    const char *tenant;
    struct usage usage;
};

struct forecast {
    const struct api_call *call;
    const struct apply_context *context;
    const struct state *state; /* as it is */
    const struct state *after; /* as it would be; NULL: not tried, quotas are not asked */
    struct promise *promises;  /* as many as there are items */
    uint32_t promise_count;
    uint32_t host_rows; /* that tell of each host */
    json_t *rows;
};

static struct usage *promised_to(struct forecast *forecast, const char *tenant)
{
    uint32_t i = 0;
    while (i < forecast->promise_count &&
           strcmp(forecast->promises[i].tenant, tenant) != 0) {
        i++;
    }
    if (i == forecast->promise_count) {
        forecast->promises[forecast->promise_count++].tenant = tenant;
    }
    return &forecast->promises[i].usage;
}

/* Takes the row of that group or VM; NULL: there is none. */
static void forecast_row(struct forecast *forecast,
                         const char *subject,
                         const struct metadata *meta,
                         json_t *row)
{
    if (json_object_get(row, "hosts") != NULL && forecast->host_rows++ >= HOST_ROWS_MAX) {
        json_object_del(row, "hosts");
    }
    if (row != NULL) {
        json_object_set_new(row, subject, json_string(meta->name));
        json_object_set_new(row, "tenant", json_string(meta->tenant));
        json_array_append_new(forecast->rows, row);
    }
}

static void forecast_add(struct forecast *forecast,
                         const char *subject,
                         const struct metadata *meta,
                         const char *group,
                         const struct machine_spec *machine,
                         uint32_t count,
                         bool counts)
{
    const struct control_plane *control = forecast->call->api->control;
    uint32_t within = count;
    char text[APPLY_TEXT_SIZE] = "";
    if (counts && forecast->after != NULL) {
        struct usage *promised = promised_to(forecast, meta->tenant);
        within = state_quota_fits(forecast->after, meta->tenant, machine, count, promised,
                                  text);
    }
    json_t *row =
        control->forecast(control->context, meta->tenant, group, machine, within);
    if (row != NULL && within < count) {
        json_object_set_new(row, "overQuota", json_integer((json_int_t)(count - within)));
        json_object_set_new(row, "quota", json_string(text));
    }
    forecast_row(forecast, subject, meta, row);
}

/* VMs that a group has too many, or is about to: they go with their disks. Which ones is
 * decided when it is so. */
static void forecast_removed(struct forecast *forecast,
                             const struct group *wanted,
                             const struct group *there)
{
    uint32_t most = wanted->spec.autoscale.max > 0 ? wanted->spec.autoscale.max
                                                   : wanted->spec.replicas;
    uint32_t alive = 0;
    uint32_t may_go = 0; /* of those */
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_of_group(forecast->state, there, &cursor)) != NULL) {
        alive += vm->status.intent != STOP_INTENT_DELETE ? 1U : 0U;
        may_go += state_vm_may_go(forecast->state, there, vm) ? 1U : 0U;
    }
    if (may_go > most) {
        forecast_row(forecast, "group", &there->meta,
                     json_pack("{s:I, s:I}", "removed", (json_int_t)(may_go - most), "of",
                               (json_int_t)alive));
    }
}

/* The VMs that a group does not have yet. */
static void forecast_group(struct forecast *forecast, const struct group *group)
{
    const struct metadata *meta = &group->meta;
    const struct template *template = apply_template_for(
        forecast->context, forecast->state, meta->tenant, group->spec.template_ref.name);
    const struct group *there =
        state_get(forecast->state, KIND_GROUP, meta->tenant, meta->name);
    uint32_t wanted =
        group->spec.autoscale.max > 0 ? group->spec.autoscale.min : group->spec.replicas;
    uint32_t have = there != NULL ? state_group_vms(forecast->state, there) : 0;
    if (template != NULL && wanted > have) {
        forecast_add(forecast, "group", meta, there != NULL ? meta->name : NULL,
                     &template->spec, wanted - have, true);
    }
    if (there != NULL) {
        forecast_removed(forecast, group, there);
    }
}

/* A VM that comes to be, or is switched on; the trial has counted its quota. */
static void forecast_vm(struct forecast *forecast, const struct apply_item *item)
{
    const struct vm *wanted = item->object;
    const struct metadata *meta = &wanted->meta;
    const struct vm *there =
        state_get(forecast->state, KIND_VM, meta->tenant, meta->name);
    const struct template *template = apply_template_for(
        forecast->context, forecast->state, meta->tenant, wanted->spec.template_ref.name);
    const struct control_plane *control = forecast->call->api->control;
    if (!item->sends || wanted->spec.power != POWER_ON) {
        return;
    }
    if (there != NULL && there->status.host == 0) {
        forecast_row(forecast, "vm", meta, control->forecast_vm(control->context, there));
    } else if (there == NULL && template != NULL) {
        forecast_add(forecast, "vm", meta, NULL, &template->spec, 1, false);
    }
}

json_t *apply_forecast_of(const struct api_call *call,
                          const struct apply_context *context,
                          const struct state *state,
                          const struct state *after)
{
    struct forecast forecast = {.call = call,
                                .context = context,
                                .state = state,
                                .after = after,
                                .promises =
                                    calloc(context->count + 1, sizeof(struct promise)),
                                .rows = json_array()};
    for (uint32_t i = 0; forecast.promises != NULL && i < context->count; i++) {
        const struct apply_item *item = &context->items[i];
        if (item->result.code == 0 && item->kind == KIND_GROUP) {
            forecast_group(&forecast, item->object);
        } else if (item->result.code == 0 && item->kind == KIND_VM) {
            forecast_vm(&forecast, item);
        }
    }
    free(forecast.promises);
    return forecast.rows;
}
