#include "model/document_write.h"

#include "base/require.h"
#include "model/record_types.h"

#include <sodium.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ALL_MEMBERS UINT64_MAX

/* ---- values ---- */

/* 0 means "none" for these, and no address or time that could be written. */
static bool zero_is_absent(const struct field *field)
{
    return field->unit == UNIT_IPV4 || field->unit == UNIT_CIDR ||
           field->unit == UNIT_MAC || field->unit == UNIT_INSTANT;
}

/* As people write it: letters, digits and signs that stand in JSON as they are. */
static void
write_formatted(const struct field *field, const void *member, struct json_writer *writer)
{
    json_write_quote(writer);
    field_write(field, member, writer->out);
    json_write_unquote(writer);
}

static void
write_number(const struct field *field, const void *member, struct json_writer *writer)
{
    uint64_t value = field_number(field, member);
    if (value == 0 && zero_is_absent(field)) {
        json_write_null(writer);
    } else if (field->unit != UNIT_NONE || field_is_unlimited(field, value) ||
               value > INT64_MAX) {
        /* JSON's integers end at 2^63 - 1 in jansson; beyond, digits in a text. */
        write_formatted(field, member, writer);
    } else {
        json_write_u64(writer, value);
    }
}

static void write_texts(const struct text_list *list, struct json_writer *writer)
{
    json_write_begin(writer, '[');
    for (uint32_t i = 0; i < list->count; i++) {
        json_write_text(writer, list->items[i]);
    }
    json_write_end(writer, ']');
}

static void write_labels(const struct label_list *labels, struct json_writer *writer)
{
    json_write_begin(writer, '{');
    for (uint32_t i = 0; i < labels->count; i++) {
        json_write_key(writer, labels->items[i].key);
        json_write_text(writer, labels->items[i].value);
    }
    json_write_end(writer, '}');
}

static void write_blob(const struct blob *blob, struct json_writer *writer)
{
    size_t capacity =
        sodium_base64_encoded_len(blob->size, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(capacity);
    if (text == NULL) {
        writer_refuse(writer->out, -ENOMEM);
        return;
    }
    sodium_bin2base64(text, capacity, blob->data, blob->size,
                      sodium_base64_VARIANT_ORIGINAL);
    json_write_text(writer, text);
    free(text);
}

/* ---- members ---- */

/* NOLINTBEGIN(misc-no-recursion): as deep as our own tables are nested */
static void write_list(const struct field *field,
                       const struct record_list *list,
                       bool full,
                       struct json_writer *writer)
{
    json_write_begin(writer, '[');
    for (uint32_t i = 0; i < list->count; i++) {
        document_write_record(field->record,
                              (const char *)list->items +
                                  (size_t)i * field->record->size_bytes,
                              full, writer);
    }
    json_write_end(writer, ']');
}

static void write_value(const struct field *field,
                        const void *member,
                        bool full,
                        struct json_writer *writer)
{
    switch (field->type) {
    case FIELD_BOOL:
        json_write_bool(writer, *(const bool *)member);
        return;
    case FIELD_U32:
    case FIELD_U64:
        write_number(field, member, writer);
        return;
    case FIELD_ENUM:
        write_formatted(field, member, writer);
        return;
    case FIELD_RECORD:
        document_write_record(field->record, member, full, writer);
        return;
    case FIELD_LIST:
        write_list(field, member, full, writer);
        return;
    case FIELD_TEXTS:
        write_texts(member, writer);
        return;
    case FIELD_LABELS:
        write_labels(member, writer);
        return;
    default:
        break;
    }
    if (field_is_fallback(field, member)) {
        json_write_null(writer);
    } else if (field->type == FIELD_BLOB) {
        write_blob(member, writer);
    } else if (field->type == FIELD_NAME) {
        json_write_bytes(writer, member, strnlen(member, NAME_SIZE));
    } else if (field->type == FIELD_TEXT) {
        json_write_text(writer, *(char *const *)member);
    } else {
        write_formatted(field, member, writer);
    }
}

/* Whether the stored value is to be seen. */
static bool shows(const struct field *field, const void *object, bool full)
{
    return (field->flags & FIELD_SECRET) == 0 &&
           (full || (field->flags & FIELD_REQUIRED) != 0 ||
            !field_is_fallback(field, field_at(field, object)));
}

/* Of those fields, a bit each, what is to be seen; `over` (or NULL) has values in place
 * of some of them. */
static void write_members(const struct record *record,
                          const void *object,
                          bool full,
                          uint64_t members,
                          const json_t *over,
                          struct json_writer *writer)
{
    REQUIRE(record->field_count <= 64); /* bits of a document_parts */
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        if ((members & (UINT64_C(1) << i)) == 0 || !shows(field, object, full)) {
            continue;
        }
        const json_t *instead = json_object_get(over, field->name);
        json_write_key(writer, field->name);
        if (instead != NULL) {
            json_write_tree(writer, instead);
        } else {
            write_value(field, field_at(field, object), full, writer);
        }
    }
}

void document_write_record(const struct record *record,
                           const void *object,
                           bool full,
                           struct json_writer *writer)
{
    json_write_begin(writer, '{');
    write_members(record, object, full, ALL_MEMBERS, NULL, writer);
    json_write_end(writer, '}');
}
/* NOLINTEND(misc-no-recursion) */

/* ---- documents ---- */

/* What `over` has that write_members did not come by. */
static void write_rest(const struct record *record,
                       const void *object,
                       bool full,
                       uint64_t members,
                       const json_t *over,
                       struct json_writer *writer)
{
    json_t *walked = (json_t *)(uintptr_t)over;
    for (void *walk = json_object_iter(walked); walk != NULL;
         walk = json_object_iter_next(walked, walk)) {
        const char *key = json_object_iter_key(walk);
        const struct field *field = record_field(record, key);
        if (field != NULL && (members & (UINT64_C(1) << (field - record->fields))) != 0 &&
            shows(field, object, full)) {
            continue;
        }
        json_write_key(writer, key);
        json_write_tree(writer, json_object_iter_value(walk));
    }
}

/* One top field: metadata, spec or status. Left out when what was asked for is empty. */
static void write_part(const struct field *field,
                       const void *object,
                       const struct document_view *view,
                       uint64_t members,
                       struct json_writer *writer)
{
    const json_t *over = strcmp(field->name, "status") == 0 ? view->status : NULL;
    const void *member = field_at(field, object);
    const struct json_writer before = *writer;
    const size_t begin = writer->out->size;
    REQUIRE(field->type == FIELD_RECORD);
    bool whole = view->parts == NULL && shows(field, object, view->full);
    if (view->parts == NULL && !whole) {
        members = 0;
    }
    json_write_key(writer, field->name);
    json_write_begin(writer, '{');
    const size_t empty = writer->out->size;
    write_members(field->record, member, view->full, members, over, writer);
    write_rest(field->record, member, view->full, members, over, writer);
    if (writer->out->size == empty && !whole) {
        writer->out->size = begin;
        *writer = before;
    } else {
        json_write_end(writer, '}');
    }
}

void document_write(enum kind kind,
                    const void *object,
                    const struct document_view *view,
                    struct json_writer *writer)
{
    const struct kind_info *info = kind_info(kind);
    REQUIRE(info != NULL && info->record->field_count <= DOCUMENT_PARTS_MAX);
    json_write_begin(writer, '{');
    json_write_key(writer, "apiVersion");
    json_write_text(writer, DOCUMENT_API_VERSION);
    json_write_key(writer, "kind");
    json_write_text(writer, info->name);
    for (unsigned i = 0; i < info->record->field_count; i++) {
        write_part(&info->record->fields[i], object, view,
                   view->parts != NULL ? view->parts->members[i] : ALL_MEMBERS, writer);
    }
    json_write_end(writer, '}');
}

/* ---- parts ---- */

/* Number of the field that is named by `size` bytes of the path; the count when none is.
 */
static unsigned field_named(const struct record *record, const char *name, size_t size)
{
    unsigned i = 0;
    while (i < record->field_count && (strncmp(record->fields[i].name, name, size) != 0 ||
                                       record->fields[i].name[size] != '\0')) {
        i++;
    }
    return i;
}

bool document_parts_add(struct document_parts *parts, enum kind kind, const char *path)
{
    const struct kind_info *info = kind_info(kind);
    size_t size = strcspn(path, ".");
    unsigned part = info != NULL ? field_named(info->record, path, size) : 0;
    if (info == NULL || part == info->record->field_count) {
        return false;
    }
    REQUIRE(info->record->field_count <= DOCUMENT_PARTS_MAX);
    if (path[size] == '\0') {
        parts->members[part] = ALL_MEMBERS;
        return true;
    }
    const struct record *record = info->record->fields[part].record;
    const char *member = path + size + 1;
    unsigned i = record != NULL ? field_named(record, member, strlen(member)) : 0;
    if (record == NULL || i == record->field_count) {
        return false;
    }
    parts->members[part] |= UINT64_C(1) << i;
    return true;
}
