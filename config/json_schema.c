/* The record tables as JSON Schema draft-07, for editors. See config.h. */
#include "base/json.h"
#include "base/parse_number.h"
#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How people write a number of that unit. */
static const char *const unit_patterns[] = {
    [UNIT_BYTES] = "^([0-9]+(\\.[0-9]+)?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)|unlimited)$",
    [UNIT_MCPU] = "^([0-9]+(\\.[0-9]+)?|[0-9]+m|unlimited)$",
    [UNIT_DURATION] = "^[0-9]+(\\.[0-9]+)?(ms|s|m|h|d)$",
    [UNIT_INSTANT] = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T",
    [UNIT_PERMILLE] = "^[0-9]+(\\.[0-9]+)?%$",
    [UNIT_IPV4] = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$",
    [UNIT_CIDR] = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$",
    [UNIT_MAC] = "^([0-9a-f]{2}:){5}[0-9a-f]{2}$",
};

static json_t *record_schema(const struct record *record);

static json_t *number_schema(const struct field *field)
{
    const char *pattern = field->unit < sizeof(unit_patterns) / sizeof(unit_patterns[0])
                              ? unit_patterns[field->unit]
                              : NULL;
    if (pattern == NULL) {
        json_t *schema = json_pack("{s:s}", "type", "integer");
        json_object_set_new(schema, "minimum", json_integer((json_int_t)field->min));
        if (field->max <= INT64_MAX) {
            json_object_set_new(schema, "maximum", json_integer((json_int_t)field->max));
        }
        return schema;
    }
    bool plain = field->unit == UNIT_MCPU;
    return plain ? json_pack("{s:[s,s], s:s}", "type", "string", "number", "pattern",
                             pattern)
                 : json_pack("{s:s, s:s}", "type", "string", "pattern", pattern);
}

static json_t *enum_schema(const struct field *field)
{
    json_t *values = json_array();
    for (const char *const *name = field->names; *name != NULL; name++) {
        if ((*name)[0] != '\0') {
            json_array_append_new(values, json_string(*name));
        }
    }
    return json_pack("{s:o}", "enum", values);
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
        return json_pack("{s:s, s:s}", "type", "string", "pattern",
                         "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$");
    case FIELD_DIGEST:
        return json_pack("{s:s, s:s}", "type", "string", "pattern", "^[0-9a-f]{64}$");
    case FIELD_RECORD:
        return record_schema(field->record);
    case FIELD_LIST:
        return json_pack("{s:s, s:o, s:I}", "type", "array", "items",
                         record_schema(field->record), "maxItems",
                         (json_int_t)field->max);
    case FIELD_TEXTS:
        return json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "string");
    case FIELD_LABELS:
        return json_pack("{s:s, s:{s:[s,s,s]}}", "type", "object", "additionalProperties",
                         "type", "string", "number", "boolean");
    default:
        return json_pack("{s:s, s:I}", "type", "string", "maxLength",
                         (json_int_t)field->max);
    }
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
static json_t *record_schema(const struct record *record)
{
    json_t *properties = json_object();
    json_t *required = json_array();
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        json_t *schema;
        if (field->type == FIELD_BLOB) {
            continue;
        }
        schema = (field->flags & FIELD_SERVER) != 0 ? json_object() : field_schema(field);
        json_object_set_new(schema, "description", json_string(field->doc));
        json_object_set_new(properties, field->name, schema);
        if ((field->flags & FIELD_REQUIRED) != 0 && (field->flags & FIELD_SERVER) == 0) {
            json_array_append_new(required, json_string(field->name));
        }
    }
    json_t *schema =
        json_pack("{s:s, s:o, s:b, s:{s:{}}}", "type", "object", "properties", properties,
                  "additionalProperties", 0, "patternProperties", "^x-");
    if (json_array_size(required) > 0) {
        json_object_set(schema, "required", required);
    }
    json_decref(required);
    return schema;
}

static json_t *kind_schema(const struct kind_info *info)
{
    json_t *schema = record_schema(info->record);
    json_t *properties = json_object_get(schema, "properties");
    json_t *required = json_object_get(schema, "required");
    json_object_set_new(properties, "apiVersion",
                        json_pack("{s:s}", "const", "berth/v1"));
    json_object_set_new(properties, "kind", json_pack("{s:s}", "const", info->name));
    json_array_append_new(required, json_string("apiVersion"));
    json_array_append_new(required, json_string("kind"));
    return schema;
}

char *config_json_schema(void)
{
    json_t *definitions = json_object();
    json_t *rules = json_array();
    json_t *kinds = json_array();
    for (int kind = 1; kind < KIND_COUNT; kind++) {
        const struct kind_info *info = kind_info((enum kind)kind);
        char reference[64];
        if (info == NULL || !info->user_writable) {
            continue;
        }
        (void)snprintf(reference, sizeof(reference), "#/definitions/%s", info->name);
        json_object_set_new(definitions, info->name, kind_schema(info));
        json_array_append_new(kinds, json_string(info->name));
        json_array_append_new(rules, json_pack("{s:{s:{s:{s:s}}}, s:{s:s}}", "if",
                                               "properties", "kind", "const", info->name,
                                               "then", "$ref", reference));
    }
    json_t *schema =
        json_pack("{s:s, s:s, s:s, s:[s,s,s], s:{s:{s:s}, s:{s:o}}, s:o, s:o}", "$schema",
                  "http://json-schema.org/draft-07/schema#", "title",
                  "Berth objects, berth/v1", "type", "object", "required", "apiVersion",
                  "kind", "metadata", "properties", "apiVersion", "const", "berth/v1",
                  "kind", "enum", kinds, "allOf", rules, "definitions", definitions);
    char *text = schema != NULL ? json_text_pretty(schema) : NULL;
    json_decref(schema);
    return text;
}
