/* The record tables as JSON Schema draft-07, for editors. See config.h.
 *
 * A field that cannot be packed (out of memory) makes the packing above it fail, so that
 * the whole is complete or NULL.
 */
#include "base/json.h"
#include "base/parse_number.h"
#include "config/config.h"
#include "model/field.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_PATTERN   "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
#define DIGEST_PATTERN "^[0-9a-fA-F]{64}$"
#define DECIMAL        "[0-9]+(\\.[0-9]{1,6})?"
#define OCTETS         "[0-9]{1,3}(\\.[0-9]{1,3}){3}"

/* How people write a number of that unit. */
static const struct {
    const char *pattern;
    const char *example;
} units[] = {
    [UNIT_BYTES] = {"^" DECIMAL "(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$", "4GiB"},
    [UNIT_RATE] = {"^" DECIMAL "(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB|kbit|Mbit|Gbit|Tbit)/s$",
                   "400MiB/s"},
    [UNIT_MCPU] = {"^(" DECIMAL "|[0-9]+m)$", "1500m"},
    [UNIT_DURATION] = {"^" DECIMAL "(ms|s|m|h|d)$", "30s"},
    [UNIT_INSTANT] = {"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}",
                      "2026-11-23T09:15:04Z"},
    [UNIT_PERMILLE] = {"^" DECIMAL "%$", "60%"},
    [UNIT_IPV4] = {"^" OCTETS "$", "10.0.0.1"},
    [UNIT_CIDR] = {"^" OCTETS "/[0-9]{1,2}$", "10.20.0.0/24"},
    [UNIT_MAC] = {"^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$", "52:54:00:00:00:01"},
    [UNIT_EXPRESSION] = {NULL, "host.zone in [r1, r2]"},
};

static json_t *record_schema(const struct record *record);

static json_t *plain_number_schema(const struct field *field)
{
    json_t *schema =
        json_pack("{s:s, s:I}", "type", "integer", "minimum", (json_int_t)field->min);
    if (field->max <= INT64_MAX && !field_is_unlimited(field, field->max)) {
        (void)json_object_set_new(schema, "maximum",
                                  json_integer((json_int_t)field->max));
    }
    return schema;
}

static json_t *number_schema(const struct field *field)
{
    const char *pattern = units[field->unit].pattern;
    json_t *schema;
    if (pattern == NULL) {
        schema = plain_number_schema(field);
    } else if (field->unit == UNIT_MCPU) {
        schema = json_pack("{s:[s,s], s:s, s:[s]}", "type", "string", "number", "pattern",
                           pattern, "examples", units[field->unit].example);
    } else {
        schema = json_pack("{s:s, s:s, s:[s]}", "type", "string", "pattern", pattern,
                           "examples", units[field->unit].example);
    }
    if (field_is_unlimited(field, field->fallback)) {
        schema = json_pack("{s:[o, {s:s}]}", "anyOf", schema, "const", "unlimited");
    }
    return schema;
}

static json_t *enum_schema(const struct field *field)
{
    json_t *values = json_array();
    for (uint64_t i = field->min; i <= field->max && field->names[i] != NULL; i++) {
        if (field->names[i][0] != '\0') {
            (void)json_array_append_new(values, json_string(field->names[i]));
        }
    }
    return json_pack("{s:o}", "enum", values);
}

static json_t *text_schema(const struct field *field)
{
    return json_pack("{s:s, s:I, s:I}", "type", "string", "minLength",
                     (json_int_t)field->min, "maxLength",
                     (json_int_t)field_count_max(field));
}

static json_t *texts_schema(const struct field *field)
{
    json_t *item = json_pack("{s:s}", "type", "string");
    const char *example = units[field->unit].example;
    if (example != NULL) {
        (void)json_object_set_new(item, "examples", json_pack("[s]", example));
    }
    return json_pack("{s:s, s:o, s:I}", "type", "array", "items", item, "maxItems",
                     (json_int_t)field_count_max(field));
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
static json_t *field_schema(const struct field *field)
{
    switch (field->type) {
    case FIELD_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case FIELD_U32:
    case FIELD_U64:
        return number_schema(field);
    case FIELD_ENUM:
        return enum_schema(field);
    case FIELD_NAME:
        return json_pack("{s:s, s:s}", "type", "string", "pattern", NAME_PATTERN);
    case FIELD_DIGEST:
        return json_pack("{s:s, s:s}", "type", "string", "pattern", DIGEST_PATTERN);
    case FIELD_RECORD:
        return record_schema(field->record);
    case FIELD_LIST:
        return json_pack("{s:s, s:o, s:I, s:I}", "type", "array", "items",
                         record_schema(field->record), "minItems", (json_int_t)field->min,
                         "maxItems", (json_int_t)field_count_max(field));
    case FIELD_TEXTS:
        return texts_schema(field);
    case FIELD_LABELS: /* scalars are read as they are written */
        return json_pack("{s:s, s:{s:[s,s,s]}, s:I}", "type", "object",
                         "additionalProperties", "type", "string", "number", "boolean",
                         "maxProperties", (json_int_t)field_count_max(field));
    default:
        return text_schema(field);
    }
}

/* A field that has a value when it is left out says which. */
static int add_default(const struct field *field, const void *object, json_t *schema)
{
    bool has_default = field->type <= FIELD_ENUM &&
                       (field->flags & FIELD_REQUIRED) == 0 &&
                       (field->fallback != 0 || field->type == FIELD_ENUM);
    if (!has_default) {
        return 0;
    }
    const void *member = field_at(field, object);
    bool plain = field->type != FIELD_ENUM && field->unit == UNIT_NONE &&
                 !field_is_unlimited(field, field->fallback);
    char *text = field_format(field, member);
    json_t *value = plain ? json_integer((json_int_t)field->fallback) : json_string(text);
    free(text);
    return json_object_set_new(schema, "default", value);
}

/* A property of the record; NULL when out of memory. */
// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
static json_t *property_schema(const struct field *field, const void *object)
{
    bool server = (field->flags & FIELD_SERVER) != 0;
    json_t *schema = server ? json_pack("{s:b}", "readOnly", 1) : field_schema(field);
    if (json_object_set_new(schema, "description", json_string(field->doc)) < 0 ||
        (!server && add_default(field, object, schema) < 0)) {
        json_decref(schema);
        return NULL;
    }
    return schema;
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
static json_t *record_schema(const struct record *record)
{
    json_t *properties = json_object();
    json_t *required = json_array();
    void *object = malloc(record->size_bytes);
    int r = object != NULL ? 0 : -1;
    if (object != NULL) {
        record_init(record, object);
    }
    for (unsigned i = 0; i < record->field_count && r == 0; i++) {
        const struct field *field = &record->fields[i];
        unsigned flags = field->flags & (FIELD_REQUIRED | FIELD_SERVER);
        if (field->type == FIELD_BLOB || (field->flags & FIELD_SECRET) != 0) {
            continue;
        }
        r = json_object_set_new(properties, field->name, property_schema(field, object));
        if (r == 0 && flags == FIELD_REQUIRED) {
            r = json_array_append_new(required, json_string(field->name));
        }
    }
    record_free(record, object);
    if (r < 0) {
        json_decref(properties);
        json_decref(required);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:o, s:b, s:{s:{}}}", "type", "object", "properties",
                     properties, "required", required, "additionalProperties", 0,
                     "patternProperties", "^x-");
}

static json_t *kind_schema(const struct kind_info *info)
{
    json_t *schema = record_schema(info->record);
    json_t *properties = json_object_get(schema, "properties");
    json_t *required = json_object_get(schema, "required");
    int r = json_object_set_new(properties, "apiVersion",
                                json_pack("{s:s}", "const", "berth/v1"));
    r |= json_object_set_new(properties, "kind", json_pack("{s:s}", "const", info->name));
    r |= json_array_append_new(required, json_string("apiVersion"));
    r |= json_array_append_new(required, json_string("kind"));
    if (r != 0) {
        json_decref(schema);
        return NULL;
    }
    return schema;
}

static int
add_kind(const struct kind_info *info, json_t *definitions, json_t *kinds, json_t *rules)
{
    char reference[64];
    (void)snprintf(reference, sizeof(reference), "#/definitions/%s",
                   info->name); /* fits */
    int r = json_object_set_new(definitions, info->name, kind_schema(info));
    r |= json_array_append_new(kinds, json_string(info->name));
    r |= json_array_append_new(rules,
                               json_pack("{s:{s:{s:{s:s}}, s:[s]}, s:{s:s}}", "if",
                                         "properties", "kind", "const", info->name,
                                         "required", "kind", "then", "$ref", reference));
    return r;
}

char *config_json_schema(void)
{
    json_t *definitions = json_object();
    json_t *rules = json_array();
    json_t *kinds = json_array();
    int r = 0;
    for (int kind = 1; kind < KIND_COUNT; kind++) {
        const struct kind_info *info = kind_info((enum kind)kind);
        if (info->user_writable) {
            r |= add_kind(info, definitions, kinds, rules);
        }
    }
    json_t *schema =
        json_pack("{s:s, s:s, s:s, s:[s,s,s], s:{s:{s:s}, s:{s:o}}, s:o, s:o}", "$schema",
                  "http://json-schema.org/draft-07/schema#", "title",
                  "Berth objects, berth/v1", "type", "object", "required", "apiVersion",
                  "kind", "metadata", "properties", "apiVersion", "const", "berth/v1",
                  "kind", "enum", kinds, "allOf", rules, "definitions", definitions);
    char *text = schema != NULL && r == 0 ? json_text_pretty(schema) : NULL;
    json_decref(schema);
    return text;
}
