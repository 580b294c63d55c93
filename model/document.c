#include "model/document.h"

#include "base/cleanup.h"
#include "base/require.h"

#include <sodium.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE    256
#define KEY_SHOWN    64
#define MCPU_PER_CPU 1000

/* ---- trees ---- */

static json_t *tree_of(struct bytes_writer *text)
{
    json_t *tree = text->error == 0
                       ? json_loadb((const char *)text->data, text->size, 0, NULL)
                       : NULL;
    bytes_writer_fini(text);
    return tree;
}

json_t *document_of(enum kind kind, const void *object, bool full)
{
    struct bytes_writer text;
    struct json_writer writer;
    const struct document_view view = {.full = full};
    if (kind_info(kind) == NULL) {
        return NULL;
    }
    bytes_writer_init(&text, SIZE_MAX - 1);
    json_writer_init(&writer, &text);
    document_write(kind, object, &view, &writer);
    return tree_of(&text);
}

json_t *document_of_record(const struct record *record, const void *object, bool full)
{
    struct bytes_writer text;
    struct json_writer writer;
    bytes_writer_init(&text, SIZE_MAX - 1);
    json_writer_init(&writer, &text);
    document_write_record(record, object, full, &writer);
    return tree_of(&text);
}

json_t *document_text(const char *text)
{
    struct bytes_writer written;
    struct json_writer writer;
    json_t *value = json_string(text != NULL ? text : "");
    if (value != NULL) {
        return value;
    }
    bytes_writer_init(&written, SIZE_MAX - 1);
    json_writer_init(&writer, &written);
    json_write_text(&writer, text);
    value = written.error == 0 ? json_loadb((const char *)written.data, written.size,
                                            JSON_DECODE_ANY, NULL)
                               : NULL;
    bytes_writer_fini(&written);
    return value;
}

/* ---- reading ---- */

/* Where in the document the reader stands: "spec.nics[1].name". */
struct place {
    size_t size;
    char text[PATH_SIZE];
};

/* A key of the user's may hold anything: it ends up in a terminal. */
static void place_clean(struct place *place, size_t from)
{
    for (size_t i = from; i < place->size; i++) {
        if ((unsigned char)place->text[i] < ' ' || place->text[i] == 0x7f) {
            place->text[i] = '?';
        }
    }
}

/* Goes one step down; the size to give to place_leave. */
static size_t place_enter(struct place *place, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static size_t place_enter(struct place *place, const char *format, ...)
{
    size_t before = place->size;
    size_t left = sizeof(place->text) - before;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(place->text + before, left, format, arguments);
    va_end(arguments);
    if (length > 0) {
        place->size += (size_t)length < left ? (size_t)length : left - 1;
    }
    place_clean(place, before);
    return before;
}

/* Without printf: every member of every document comes by here. */
static size_t place_enter_key(struct place *place, const char *key)
{
    size_t before = place->size;
    size_t left = sizeof(place->text) - 1 - before;
    size_t dot = before > 0 && left > 0 ? 1 : 0;
    size_t size = strnlen(key, left - dot < KEY_SHOWN ? left - dot : KEY_SHOWN);
    char *at = place->text + before;
    memcpy(at, ".", dot);
    memcpy(at + dot, key, size);
    at[dot + size] = '\0';
    place->size += dot + size;
    place_clean(place, before);
    return before;
}

static void place_leave(struct place *place, size_t before)
{
    place->size = before;
    place->text[before] = '\0';
}

static int fault(const struct place *place, struct err *err, const char *message)
{
    return err_set(err, BERTH_EINVALID, "%s: %s", place->text, message);
}

/* What a value of this unit looks like, for the reader who wrote another type. */
static const char *unit_example(const struct field *field)
{
    switch (field->unit) {
    case UNIT_BYTES:
        return "expected a size in quotes, such as \"4GiB\"";
    case UNIT_RATE:
        return "expected a rate in quotes, such as \"400MiB/s\"";
    case UNIT_MCPU:
        return "expected a number of CPUs, such as 2 or \"1500m\"";
    case UNIT_DURATION:
        return "expected a duration in quotes, such as \"30s\"";
    case UNIT_INSTANT:
        return "expected a time in quotes, such as \"2026-11-23T09:15:04Z\"";
    case UNIT_PERMILLE:
        return "expected percent in quotes, such as \"60%\"";
    case UNIT_IPV4:
        return "expected an address in quotes, such as \"10.0.0.1\"";
    case UNIT_CIDR:
        return "expected a network in quotes, such as \"10.0.0.0/24\"";
    case UNIT_MAC:
        return "expected a MAC address in quotes";
    default:
        return "expected a whole number, 0 or more";
    }
}

static const char *type_example(const struct field *field)
{
    switch (field->type) {
    case FIELD_BOOL:
        return "expected true or false";
    case FIELD_U32:
    case FIELD_U64:
        return unit_example(field);
    case FIELD_RECORD:
        return "expected an object: {...}";
    case FIELD_LIST:
        return "expected a list of objects: [{...}]";
    case FIELD_TEXTS:
        return "expected a list of texts: [\"...\"]";
    case FIELD_LABELS:
        return "expected an object of texts: {\"key\": \"value\"}";
    default:
        return "expected a text in quotes";
    }
}

/* A JSON number as a number field: plain ones, and CPUs, whole or with a fraction of at
 * most three digits. */
static int read_number(const struct field *field,
                       const struct json_value *value,
                       const struct place *place,
                       void *member,
                       struct err *err)
{
    uint64_t number = 0;
    double real = json_value_real(value);
    if (json_value_type(value) == JSON_VALUE_INTEGER && json_value_integer(value) >= 0) {
        number = (uint64_t)json_value_integer(value);
        if (field->unit == UNIT_MCPU) {
            number = number <= UINT32_MAX ? number * MCPU_PER_CPU : UINT64_MAX;
        }
    } else if (field->unit == UNIT_MCPU && json_value_type(value) == JSON_VALUE_REAL &&
               real >= 0 && real <= UINT32_MAX) {
        double mcpu = real * MCPU_PER_CPU;
        number = (uint64_t)(mcpu + 0.5);
        double rest = mcpu - (double)number;
        if (rest > 1e-6 || rest < -1e-6) {
            return fault(place, err, "at most three digits behind the point");
        }
    } else {
        return fault(place, err, type_example(field));
    }
    int r = field_check_range(field, number, err);
    /* No plain number says "unlimited". */
    if (r == 0 && field_is_unlimited(field, number)) {
        return fault(place, err, "is too large: write \"unlimited\"");
    }
    if (r < 0) {
        return err_wrap(err, r, "%s", place->text);
    }
    field_set_number(field, member, number);
    return 0;
}

static bool is_number(const struct json_value *value)
{
    return json_value_type(value) == JSON_VALUE_INTEGER ||
           json_value_type(value) == JSON_VALUE_REAL;
}

static int read_scalar(const struct field *field,
                       const struct json_value *value,
                       const struct place *place,
                       void *member,
                       struct err *err)
{
    bool number = field->type == FIELD_U32 || field->type == FIELD_U64;
    const char *text = json_value_text(value);
    if (field->type == FIELD_BOOL) {
        *(bool *)member = json_value_type(value) == JSON_VALUE_TRUE;
        return json_value_is_bool(value) ? 0 : fault(place, err, type_example(field));
    }
    if (number && is_number(value) &&
        (field->unit == UNIT_NONE || field->unit == UNIT_MCPU)) {
        return read_number(field, value, place, member, err);
    }
    /* A plain number in quotes is a mistake that YAML and JSON would read differently;
     * "unlimited" is the one text such a field knows. */
    if (text == NULL ||
        (number && field->unit == UNIT_NONE && text[0] >= '0' && text[0] <= '9')) {
        return fault(place, err, type_example(field));
    }
    int r = field_parse(field, text, member, err);
    return r == 0 ? 0 : err_wrap(err, r, "%s", place->text);
}

static int check_count(const struct field *field,
                       size_t count,
                       const struct place *place,
                       struct err *err)
{
    if (count <= field_count_max(field)) {
        return 0;
    }
    return err_set(err, BERTH_EINVALID, "%s: has %zu items, at most %zu", place->text,
                   count, field_count_max(field));
}

static int read_texts(const struct field *field,
                      const struct json_value *value,
                      struct place *place,
                      struct text_list *list,
                      struct err *err)
{
    if (json_value_type(value) != JSON_VALUE_ARRAY) {
        return fault(place, err, type_example(field));
    }
    int r = check_count(field, json_value_count(value), place, err);
    size_t i = 0;
    for (const struct json_value *at = json_value_first(value); r == 0 && at != NULL;
         at = json_value_next(at), i++) {
        const char *text = json_value_text(at);
        size_t before = place_enter(place, "[%zu]", i);
        if (text == NULL) {
            r = fault(place, err, "expected a text in quotes");
        } else {
            r = text_list_add(list, text);
            if (r < 0) {
                r = err_sys(err, r, "%s", place->text);
            }
        }
        place_leave(place, before);
    }
    return r;
}

static int read_label(struct label_list *labels,
                      const struct json_value *value,
                      struct place *place,
                      struct err *err)
{
    const char *text = json_value_text(value);
    const char *key = json_value_key(value);
    size_t before = place_enter_key(place, key);
    int r = 0;
    if (text == NULL) {
        r = fault(place, err, "expected a text in quotes");
    } else {
        r = label_set(labels, key, text);
        if (r < 0) {
            r = err_sys(err, r, "%s", place->text);
        }
    }
    place_leave(place, before);
    return r;
}

static int read_labels(const struct field *field,
                       const struct json_value *value,
                       struct place *place,
                       struct label_list *labels,
                       struct err *err)
{
    if (json_value_type(value) != JSON_VALUE_OBJECT) {
        return fault(place, err, type_example(field));
    }
    int r = check_count(field, json_value_count(value), place, err);
    for (const struct json_value *at = json_value_first(value); r == 0 && at != NULL;
         at = json_value_next(at)) {
        r = read_label(labels, at, place, err);
    }
    return r;
}

static int read_blob(const struct field *field,
                     const struct json_value *value,
                     const struct place *place,
                     struct blob *blob,
                     struct err *err)
{
    const char *text = json_value_text(value);
    size_t size = text != NULL ? strlen(text) : 0;
    if (text == NULL || size / 4 * 3 > field_count_max(field) + 2) {
        return fault(place, err, "expected base64, not longer than the field allows");
    }
    uint8_t *data = malloc(size + 1);
    if (data == NULL) {
        return err_sys(err, -ENOMEM, "%s", place->text);
    }
    size_t used = 0;
    int r = sodium_base642bin(data, size + 1, text, size, NULL, &used, NULL,
                              sodium_base64_VARIANT_ORIGINAL);
    if (r != 0 || used == 0 || used > field_count_max(field)) {
        free(data);
        return r == 0 && used == 0 ? 0 : fault(place, err, "expected base64");
    }
    blob->data = data;
    blob->size = (uint32_t)used;
    return 0;
}

static int read_members(const struct record *record,
                        const struct json_value *document,
                        struct place *place,
                        void *object,
                        struct err *err);

/* NOLINTBEGIN(misc-no-recursion): as deep as our own tables are nested */
static int read_list(const struct field *field,
                     const struct json_value *value,
                     struct place *place,
                     struct record_list *list,
                     struct err *err)
{
    if (json_value_type(value) != JSON_VALUE_ARRAY) {
        return fault(place, err, type_example(field));
    }
    int r = check_count(field, json_value_count(value), place, err);
    size_t i = 0;
    for (const struct json_value *at = json_value_first(value); r == 0 && at != NULL;
         at = json_value_next(at), i++) {
        size_t before = place_enter(place, "[%zu]", i);
        void *item = record_list_add(field->record, list);
        r = item != NULL ? read_members(field->record, at, place, item, err)
                         : err_sys(err, -ENOMEM, "%s", place->text);
        place_leave(place, before);
    }
    return r;
}

static int read_member(const struct field *field,
                       const struct json_value *value,
                       struct place *place,
                       void *member,
                       struct err *err)
{
    if (json_value_type(value) == JSON_VALUE_NULL) {
        return 0; /* the same as leaving it out */
    }
    switch (field->type) {
    case FIELD_RECORD:
        return read_members(field->record, value, place, member, err);
    case FIELD_LIST:
        return read_list(field, value, place, member, err);
    case FIELD_TEXTS:
        return read_texts(field, value, place, member, err);
    case FIELD_LABELS:
        return read_labels(field, value, place, member, err);
    case FIELD_BLOB:
        return read_blob(field, value, place, member, err);
    default:
        return read_scalar(field, value, place, member, err);
    }
}

static int
fault_unknown(const struct record *record, const struct place *place, struct err *err)
{
    char known[ERR_TEXT_SIZE / 2] = "";
    size_t size = 0;
    for (unsigned i = 0; i < record->field_count && size < sizeof(known); i++) {
        if ((record->fields[i].flags & FIELD_SERVER) == 0) {
            int length = snprintf(known + size, sizeof(known) - size, "%s%s",
                                  size > 0 ? ", " : "", record->fields[i].name);
            size += length > 0 ? (size_t)length : 0;
        }
    }
    return err_set(err, BERTH_EINVALID, "%s: is not known here; known are %s",
                   place->text, known);
}

/* The first two keys of a whole document belong to no record. */
static bool is_heading(const struct place *place, const char *key)
{
    return place->size == 0 &&
           (strcmp(key, "apiVersion") == 0 || strcmp(key, "kind") == 0);
}

/* Required fields that the document leaves out. */
static int find_missing(const struct record *record,
                        const struct json_value *document,
                        struct place *place,
                        struct err *err)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        const struct json_value *value = json_value_member(document, field->name);
        if ((field->flags & FIELD_REQUIRED) == 0 || (field->flags & FIELD_SERVER) != 0 ||
            (value != NULL && json_value_type(value) != JSON_VALUE_NULL)) {
            continue;
        }
        (void)place_enter_key(place, field->name);
        return err_set(err, BERTH_EINVALID, "%s: is missing (%s)", place->text,
                       field->doc);
    }
    return 0;
}

/* Reads an object's keys into the (initialised) record. */
static int read_members(const struct record *record,
                        const struct json_value *document,
                        struct place *place,
                        void *object,
                        struct err *err)
{
    if (json_value_type(document) != JSON_VALUE_OBJECT) {
        return fault(place, err, "expected an object: {...}");
    }
    int r = 0;
    for (const struct json_value *at = json_value_first(document); r == 0 && at != NULL;
         at = json_value_next(at)) {
        const char *key = json_value_key(at);
        const struct field *field = record_field(record, key);
        if (is_heading(place, key)) {
            continue;
        }
        size_t before = place_enter_key(place, key);
        if (field == NULL) {
            r = fault_unknown(record, place, err);
        } else if ((field->flags & FIELD_SERVER) == 0) {
            r = read_member(field, at, place, field_at(field, object), err);
        }
        place_leave(place, before);
    }
    return r == 0 ? find_missing(record, document, place, err) : r;
}
/* NOLINTEND(misc-no-recursion) */

int document_read_record(const struct record *record,
                         const struct json_value *document,
                         const char *path,
                         void *ret_object,
                         struct err *err)
{
    struct place place = {0};
    (void)place_enter(&place, "%s", path);
    record_init(record, ret_object);
    int r = read_members(record, document, &place, ret_object, err);
    if (r < 0) {
        record_fini(record, ret_object);
    }
    return r;
}

/* The kind a document names, NULL with a fault. */
static const struct kind_info *read_heading(const struct json_value *document,
                                            struct err *err)
{
    if (json_value_type(document) != JSON_VALUE_OBJECT) {
        (void)err_set(err, BERTH_EINVALID, "expected an object: {...}");
        return NULL;
    }
    const char *version = json_value_member_text(document, "apiVersion", NULL);
    const char *name = json_value_member_text(document, "kind", NULL);
    if (version == NULL || strcmp(version, DOCUMENT_API_VERSION) != 0) {
        (void)err_set(err, BERTH_EINVALID,
                      "apiVersion: expected \"" DOCUMENT_API_VERSION "\"");
        return NULL;
    }
    const struct kind_info *info = name != NULL ? kind_info_by_name(name) : NULL;
    if (info == NULL || strcmp(info->name, name) != 0) {
        (void)err_set(err, BERTH_EINVALID,
                      "kind: expected one such as \"Template\", \"Group\" or \"VM\"");
        return NULL;
    }
    return info;
}

int document_read(const struct json_value *document,
                  enum kind *ret_kind,
                  void **ret_object,
                  struct err *err)
{
    const struct kind_info *info = read_heading(document, err);
    if (info == NULL) {
        return BERTH_EINVALID;
    }
    void *object = object_new(info->kind);
    if (object == NULL) {
        return err_sys(err, -ENOMEM, "%s", info->name);
    }
    struct place place = {0};
    int r = read_members(info->record, document, &place, object, err);
    if (r < 0) {
        object_free(info->kind, object);
        return r;
    }
    object_settle(info->kind, object);
    *ret_kind = info->kind;
    *ret_object = object;
    return 0;
}
