#include "cli/sse.h"

#include <stdio.h>
#include <string.h>

void sse_init(struct sse *sse, sse_take *take, void *context)
{
    *sse = (struct sse){.take = take, .context = context};
    bytes_writer_init(&sse->line, SSE_EVENT_MAX);
    bytes_writer_init(&sse->data, SSE_EVENT_MAX);
}

void sse_fini(struct sse *sse)
{
    bytes_writer_fini(&sse->line);
    bytes_writer_fini(&sse->data);
}

void sse_restart(struct sse *sse)
{
    sse->line.size = 0;
    sse->data.size = 0;
    sse->has_data = false;
    sse->after_return = false;
    sse->name[0] = '\0';
}

static bool dispatch(struct sse *sse)
{
    bool go_on = true;
    if (sse->has_data) {
        bytes_write_u8(&sse->data, 0); /* readers want a text */
        go_on = sse->data.error == 0 &&
                sse->take(sse->context, sse->name[0] != '\0' ? sse->name : "message",
                          sse->id, (const char *)sse->data.data, sse->data.size - 1);
    }
    sse->data.size = 0;
    sse->has_data = false;
    sse->name[0] = '\0';
    return go_on;
}

static bool field_is(const char *line, size_t length, const char *name)
{
    return strlen(name) == length && memcmp(line, name, length) == 0;
}

static void take_field(struct sse *sse, const char *line, size_t size)
{
    const char *colon = memchr(line, ':', size);
    size_t length = colon != NULL ? (size_t)(colon - line) : size;
    const char *value = line + length + (colon != NULL ? 1 : 0);
    size_t value_size = size - (size_t)(value - line);
    if (value_size > 0 && *value == ' ') {
        value++;
        value_size--;
    }
    if (field_is(line, length, "data")) {
        if (sse->has_data) {
            bytes_write_u8(&sse->data, '\n');
        }
        bytes_write_raw(&sse->data, value, value_size);
        sse->has_data = true;
    } else if (field_is(line, length, "event") && value_size < SSE_NAME_SIZE) {
        (void)snprintf(sse->name, sizeof(sse->name), "%.*s", (int)value_size, value);
    } else if (field_is(line, length, "id") && value_size < SSE_ID_SIZE) {
        (void)snprintf(sse->id, sizeof(sse->id), "%.*s", (int)value_size, value);
    }
}

static bool take_line(struct sse *sse)
{
    size_t size = sse->line.size;
    const char *line = (const char *)sse->line.data;
    if (size == 0) {
        return dispatch(sse);
    }
    sse->line.size = 0;
    if (line[0] != ':') {
        take_field(sse, line, size);
    }
    return sse->data.error == 0;
}

bool sse_feed(struct sse *sse, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char c = data[i];
        bool second = c == '\n' && sse->after_return; /* of CR LF */
        sse->after_return = c == '\r';
        if (second) {
            continue;
        }
        if (c != '\n' && c != '\r') {
            bytes_write_u8(&sse->line, (uint8_t)c);
            continue;
        }
        if (sse->line.error != 0 || !take_line(sse)) {
            return false;
        }
    }
    return sse->line.error == 0;
}
