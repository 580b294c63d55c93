/* A request to apply, item by item, and what a plan says of it: what would change, and
 * where new VMs would go. Inside the room only; api/api_apply.c reads, judges and writes.
 *
 * Threads: the loop's. Ownership: items own their objects and changes; the JSON given is
 * the caller's. Errors: out of memory leaves parts out.
 */
#pragma once

#include "api/api_call.h"

#define APPLY_OBJECTS_MAX 1000

struct apply_item {
    enum kind kind;
    void *object;               /* owned */
    const char *action;         /* created, changed, unchanged */
    json_t *changes;            /* owned, plan only */
    bool sends;                 /* a command goes out for it */
    uint32_t place;             /* in the request */
    struct apply_result result; /* of its command, or of the trial */
};

struct apply_context {
    struct apply_item items[APPLY_OBJECTS_MAX];
    uint32_t count;
    uint32_t numbers[APPLY_OBJECTS_MAX]; /* of the commands; see command_number */
};

/* The template as it will be, or NULL. */
const struct template *apply_template_for(const struct apply_context *context,
                                          const struct state *state,
                                          const char *tenant,
                                          const char *name);
/* [{"path", "from", "to"}] of metadata and spec. from: NULL when there is none yet. */
json_t *apply_changes_of(enum kind kind, const void *from, const void *to);
/* Where new VMs would go: of groups, and single ones. Each row by itself. state: as it
 * is. after: the trial, or NULL. */
json_t *apply_forecast_of(const struct api_call *call,
                          const struct apply_context *context,
                          const struct state *state,
                          const struct state *after);
