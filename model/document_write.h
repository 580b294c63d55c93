/* Objects as JSON text: the one place where a document is written.
 *
 * {apiVersion, kind, metadata, spec, status}; keys in table order; sizes, durations,
 * addresses as people write them ("128MiB", "30s"); secrets left out. Walks the record
 * tables, so a new field needs nothing here. Trees are made of the text
 * (model/document.h). Ownership: all is borrowed. Threads: pure. Errors: those of the
 * writer's bytes_writer.
 */
#pragma once

#include "base/json_writer.h"
#include "model/field.h"
#include "model/objects.h"

#define DOCUMENT_API_VERSION "berth/v1"

/* The parts of a kind's documents that are asked for: per top field (metadata, spec,
 * status) a bit for each of its members. Zeroed: none. */
#define DOCUMENT_PARTS_MAX 4
struct document_parts {
    uint64_t members[DOCUMENT_PARTS_MAX];
};

/* What of an object is written. Zeroed: all that is not at its fallback. */
struct document_view {
    bool full; /* also what is */
    /* NULL: all. apiVersion and kind are always there; a part that would be empty is left
     * out. */
    const struct document_parts *parts;
    const json_t *status; /* its members go in place of the stored status's, and those
                             that it has not, behind them; NULL: none */
};

/* kind: a real one. */
void document_write(enum kind kind,
                    const void *object,
                    const struct document_view *view,
                    struct json_writer *writer);
/* One record (a spec, a status) alone. */
void document_write_record(const struct record *record,
                           const void *object,
                           bool full,
                           struct json_writer *writer);
/* Adds what a path names: a top field ("metadata"), or a member of one ("spec.group").
 * False when the kind has no such. */
bool document_parts_add(struct document_parts *parts, enum kind kind, const char *path);
