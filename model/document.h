/* Objects as JSON documents and back: the API's and the CLI's one shape.
 *
 * {apiVersion, kind, metadata, spec, status}; keys in table order; sizes, durations,
 * addresses as people write them ("128MiB", "30s"); secrets left out. Walks the record
 * tables, so a new field needs nothing here. (base/json.h brings jansson.) Errors:
 * BERTH_EINVALID with the path of the fault ("spec.memory.size: ...").
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "model/field.h"
#include "model/objects.h"

/* A new reference, NULL when out of memory. With `full`, fields at their fallback are
 * shown too. */
json_t *document_of(enum kind kind, const void *object, bool full);
/* The parts of a kind's documents that are asked for: per top field (metadata, spec,
 * status) a bit for each of its members. Zeroed: none. */
#define DOCUMENT_PARTS_MAX 4
struct document_parts {
    uint64_t members[DOCUMENT_PARTS_MAX];
};
/* Adds what a path names: a top field ("metadata"), or a member of one ("spec.group").
 * False when the kind has no such. */
bool document_parts_add(struct document_parts *parts, enum kind kind, const char *path);
/* document_of with those parts alone; nothing else is rendered. apiVersion and kind are
 * always there; a part that would be empty is left out. */
json_t *document_of_parts(enum kind kind,
                          const void *object,
                          bool full,
                          const struct document_parts *parts);
/* One record (a spec, a status) alone. */
json_t *document_of_record(const struct record *record, const void *object, bool full);
/* Reads a document strictly (unknown fields, wrong types, units, ranges are faults;
 * server-written fields are ignored); the first fault is reported. A fresh object
 * (object_free). */
int document_read(const json_t *document,
                  enum kind *ret_kind,
                  void **ret_object,
                  struct err *err);
/* One record alone, as above, into uninitialised memory (record_fini); `path` begins the
 * fault's text ("spec"). On error *ret_object is zeroed. */
int document_read_record(const struct record *record,
                         const json_t *document,
                         const char *path,
                         void *ret_object,
                         struct err *err);
/* Text as a JSON string; NULL is "". What is no UTF-8 is shown as question marks. */
json_t *document_text(const char *text);
