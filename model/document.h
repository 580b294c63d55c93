/* JSON documents as trees, and back to objects: the API's and the CLI's one shape.
 *
 * A tree is for who changes or searches it; it is read from the text that
 * model/document_write.h writes, so that there is one writer. Reading walks the record
 * tables, so a new field needs nothing here. (base/json.h brings jansson.) Errors:
 * BERTH_EINVALID with the path of the fault ("spec.memory.size: ...").
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "base/json_view.h"
#include "model/document_write.h"

/* A new reference, NULL when out of memory. With `full`, fields at their fallback are
 * shown too. */
json_t *document_of(enum kind kind, const void *object, bool full);
/* One record (a spec, a status) alone. */
json_t *document_of_record(const struct record *record, const void *object, bool full);
/* Reads a document strictly (unknown fields, wrong types, units, ranges are faults;
 * server-written fields are ignored); the first fault is reported. A fresh object
 * (object_free). */
int document_read(const struct json_value *document,
                  enum kind *ret_kind,
                  void **ret_object,
                  struct err *err);
/* One record alone, as above, into uninitialised memory (record_fini); `path` begins the
 * fault's text ("spec"). On error *ret_object is zeroed. */
int document_read_record(const struct record *record,
                         const struct json_value *document,
                         const char *path,
                         void *ret_object,
                         struct err *err);
/* Text as a JSON string; NULL is "". What is no UTF-8 is shown as question marks. */
json_t *document_text(const char *text);
