#include "config/yaml_emit.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <yaml.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define EMIT_SIZE_MAX  (16u << 20)
#define EMIT_DEPTH_MAX 64

static int take(void *context, unsigned char *data, size_t size)
{
    struct bytes_writer *writer = context;
    bytes_write_raw(writer, data, size);
    return writer->error == 0;
}

/* Plain texts that a YAML reader, of 1.1 or 1.2, would take for null, a boolean, a number
 * or a date. */
static bool looks_typed(const char *text)
{
    static const char *const words[] = {"~",     "null", "true", "false", "yes",  "no",
                                        "on",    "off",  "y",    "n",     ".inf", "-.inf",
                                        "+.inf", ".nan", "=",    "<<"};
    if (text[0] == '\0' || strncmp(text, "0x", 2) == 0 || strncmp(text, "0o", 2) == 0 ||
        strncmp(text, "0b", 2) == 0) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            return true;
        }
    }
    return strpbrk(text, "0123456789") != NULL &&
           text[strspn(text, "0123456789.+-eE_:")] == '\0';
}

static int emit_scalar(yaml_emitter_t *emitter, const char *text, bool quote)
{
    yaml_event_t event;
    return yaml_scalar_event_initialize(
               &event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1,
               quote ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE) &&
           yaml_emitter_emit(emitter, &event);
}

/* The shortest text that is read as the same number, and as no integer. */
static void format_real(double value, char *text, size_t size)
{
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, size, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    if (text[strcspn(text, ".e")] == '\0') {
        size_t used = strlen(text);
        (void)snprintf(text + used, size - used, ".0"); /* fits: 24 characters at most */
    }
}

static int emit_value(yaml_emitter_t *emitter, const json_t *value, int depth);

// NOLINTNEXTLINE(misc-no-recursion): bounded by EMIT_DEPTH_MAX
static int emit_object(yaml_emitter_t *emitter, const json_t *value, int depth)
{
    yaml_event_t event;
    const char *key;
    json_t *item;
    int ok = yaml_mapping_start_event_initialize(&event, NULL, NULL, 1,
                                                 json_object_size(value) == 0
                                                     ? YAML_FLOW_MAPPING_STYLE
                                                     : YAML_BLOCK_MAPPING_STYLE) &&
             yaml_emitter_emit(emitter, &event);
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        ok = ok && emit_scalar(emitter, key, looks_typed(key)) &&
             emit_value(emitter, item, depth + 1);
    }
    return ok && yaml_mapping_end_event_initialize(&event) &&
           yaml_emitter_emit(emitter, &event);
}

// NOLINTNEXTLINE(misc-no-recursion): bounded by EMIT_DEPTH_MAX
static int emit_array(yaml_emitter_t *emitter, const json_t *value, int depth)
{
    yaml_event_t event;
    size_t index;
    json_t *item;
    int ok = yaml_sequence_start_event_initialize(&event, NULL, NULL, 1,
                                                  json_array_size(value) == 0
                                                      ? YAML_FLOW_SEQUENCE_STYLE
                                                      : YAML_BLOCK_SEQUENCE_STYLE) &&
             yaml_emitter_emit(emitter, &event);
    json_array_foreach(value, index, item)
    {
        ok = ok && emit_value(emitter, item, depth + 1);
    }
    return ok && yaml_sequence_end_event_initialize(&event) &&
           yaml_emitter_emit(emitter, &event);
}

// NOLINTNEXTLINE(misc-no-recursion): bounded by EMIT_DEPTH_MAX
static int emit_value(yaml_emitter_t *emitter, const json_t *value, int depth)
{
    char number[40];
    if (depth > EMIT_DEPTH_MAX) {
        return 0;
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return emit_object(emitter, value, depth);
    case JSON_ARRAY:
        return emit_array(emitter, value, depth);
    case JSON_STRING:
        return emit_scalar(emitter, json_string_value(value),
                           looks_typed(json_string_value(value)));
    case JSON_INTEGER:
        (void)snprintf(number, sizeof(number), "%lld",
                       (long long)json_integer_value(value));
        return emit_scalar(emitter, number, false);
    case JSON_REAL:
        format_real(json_real_value(value), number, sizeof(number));
        return emit_scalar(emitter, number, false);
    case JSON_TRUE:
        return emit_scalar(emitter, "true", false);
    case JSON_FALSE:
        return emit_scalar(emitter, "false", false);
    default:
        return emit_scalar(emitter, "null", false);
    }
}

char *yaml_emit(const json_t *document)
{
    yaml_emitter_t emitter;
    yaml_event_t event;
    struct bytes_writer writer;
    char *text = NULL;
    bytes_writer_init(&writer, EMIT_SIZE_MAX);
    if (!yaml_emitter_initialize(&emitter)) {
        return NULL;
    }
    yaml_emitter_set_output(&emitter, take, &writer);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    int ok = yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) &&
             yaml_emitter_emit(&emitter, &event) &&
             yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) &&
             yaml_emitter_emit(&emitter, &event) && emit_value(&emitter, document, 0) &&
             yaml_document_end_event_initialize(&event, 1) &&
             yaml_emitter_emit(&emitter, &event) &&
             yaml_stream_end_event_initialize(&event) &&
             yaml_emitter_emit(&emitter, &event);
    yaml_emitter_delete(&emitter);
    if (!ok || bytes_writer_take_text(&writer, &text) < 0) {
        bytes_writer_fini(&writer);
        return NULL;
    }
    return text;
}
