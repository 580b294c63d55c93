#include "base/log.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Kept free at the end of each line: a closing quote, the cut mark, the brace, the
 * newline. */
#define LINE_RESERVE   32
#define PLAIN_SIZE_MAX 1024

struct line {
    char text[LOG_LINE_MAX];
    size_t size;
    bool json;
    bool cut;
};

static struct {
    enum log_level level;
    bool json;
    _Atomic(const char *) host; /* set when there are threads */
} settings = {.level = LOG_LEVEL_INFO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_level level, bool json)
{
    settings.level = level;
    settings.json = json;
}

void log_set_host(const char *host)
{
    settings.host = host;
}

bool log_enabled(enum log_level level)
{
    return level >= settings.level;
}

/* Adds a piece whole; what does not fit marks the line as cut and ends it. */
static void put(struct line *line, const char *piece, size_t size)
{
    if (line->cut || size > LOG_LINE_MAX - LINE_RESERVE - line->size) {
        line->cut = true;
        return;
    }
    memcpy(line->text + line->size, piece, size);
    line->size += size;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* From the reserve: also on a line that is cut. */
static void put_closing(struct line *line, const char *text)
{
    size_t size = strlen(text);
    memcpy(line->text + line->size, text, size);
    line->size += size;
}

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Bytes of the UTF-8 character at text if it may be shown as it is; else 0: broken or
 * overlong sequences, surrogates, and the controls of Unicode (C1, line separators,
 * writing direction), with which a text could forge what a terminal shows. */
static size_t shown_character_size(const unsigned char *text)
{
    if (text[0] >= 0x20 && text[0] < 0x7f) {
        return 1;
    }
    if (text[0] >= 0xc2 && text[0] <= 0xdf && is_continuation(text[1])) {
        bool is_c1 = text[0] == 0xc2 && text[1] < 0xa0;
        return is_c1 ? 0 : 2;
    }
    if ((text[0] & 0xf0) == 0xe0 && is_continuation(text[1]) &&
        is_continuation(text[2])) {
        unsigned code =
            (text[0] & 0x0fU) << 12 | (text[1] & 0x3fU) << 6 | (text[2] & 0x3fU);
        bool forges = (code >= 0x200b && code <= 0x200f) ||
                      (code >= 0x2028 && code <= 0x202e) ||
                      (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
        bool broken = code < 0x800 || (code >= 0xd800 && code <= 0xdfff);
        return forges || broken ? 0 : 3;
    }
    if (text[0] >= 0xf0 && text[0] <= 0xf4 && is_continuation(text[1]) &&
        is_continuation(text[2]) && is_continuation(text[3])) {
        bool broken =
            (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f);
        return broken ? 0 : 4;
    }
    return 0;
}

/* One byte that is not shown as it is. JSON has no byte escape: \u00xx there. */
static void put_escaped(struct line *line, unsigned char byte)
{
    char escape[8];
    int size = 0;
    if (byte == '"' || byte == '\\') {
        size = snprintf(escape, sizeof(escape), "\\%c", byte);
    } else if (byte == '\n') {
        size = snprintf(escape, sizeof(escape), "\\n");
    } else {
        size = snprintf(escape, sizeof(escape), line->json ? "\\u%04x" : "\\x%02x", byte);
    }
    put(line, escape, (size_t)size);
}

static void put_quoted(struct line *line, const char *text)
{
    put_text(line, "\"");
    if (line->cut) {
        return;
    }
    const unsigned char *at = (const unsigned char *)text;
    while (*at != 0 && !line->cut) {
        size_t size = *at == '"' || *at == '\\' ? 0 : shown_character_size(at);
        if (size > 0) {
            put(line, (const char *)at, size);
            at += size;
        } else {
            put_escaped(line, *at);
            at++;
        }
    }
    put_closing(line, "\"");
}

/* Words that need no quotes in a text line; long ones are quoted, for only those can be
 * cut. */
static bool is_plain(const char *text)
{
    if (strnlen(text, PLAIN_SIZE_MAX) == PLAIN_SIZE_MAX) {
        return false;
    }
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789._:/@+-%,";
    return text[0] != '\0' && text[strspn(text, plain)] == '\0';
}

static void put_string(struct line *line, const char *text)
{
    if (!line->json && is_plain(text)) {
        put_text(line, text);
    } else {
        put_quoted(line, text);
    }
}

static void put_value(struct line *line, const struct log_kv *kv)
{
    char number[32];
    switch (kv->kind) {
    case LOG_KV_STR:
        put_string(line, kv->value.str != NULL ? kv->value.str : "-");
        return;
    case LOG_KV_U64:
        (void)snprintf(number, sizeof(number), "%" PRIu64, kv->value.u64);
        break;
    case LOG_KV_I64:
        (void)snprintf(number, sizeof(number), "%" PRIi64, kv->value.i64);
        break;
    case LOG_KV_BOOL:
        (void)snprintf(number, sizeof(number), "%s", kv->value.flag ? "true" : "false");
        break;
    case LOG_KV_HEX:
        (void)snprintf(number, sizeof(number),
                       line->json ? "\"0x%" PRIx64 "\"" : "0x%" PRIx64, kv->value.u64);
        break;
    default:
        (void)snprintf(number, sizeof(number), "\"?\"");
        break;
    }
    put_text(line, number);
}

/* A whole field or, when its key or number does not fit, nothing of it. */
static void put_field(struct line *line, const struct log_kv *kv)
{
    size_t start = line->size;
    put_text(line, line->json ? ",\"" : " ");
    put_text(line, kv->key);
    put_text(line, line->json ? "\":" : "=");
    size_t value_start = line->size;
    if (!line->cut) {
        put_value(line, kv);
    }
    if (line->cut && line->size <= value_start) {
        line->size = start;
    }
}

static void line_start(struct line *line, enum log_level level)
{
    char time[CLOCK_TEXT_SIZE];
    clock_format(clock_wall_ms(clock_system()), time);
    put_text(line, line->json ? "{\"time\":\"" : "");
    put_text(line, time);
    put_text(line, line->json ? "\",\"level\":\"" : " ");
    put_text(line, level_names[level]);
    put_text(line, line->json ? "\"" : "");
}

void log_line(enum log_level level,
              const char *room,
              const char *sentence,
              unsigned kv_count,
              const struct log_kv *kvs)
{
    struct line line = {.json = settings.json};
    line_start(&line, level);
    if (line.json) {
        put_field(&line, &KV_STR("room", room));
        put_field(&line, &KV_STR("message", sentence));
    } else {
        put_text(&line, " ");
        put_text(&line, room);
        put_text(&line, ": ");
        put_text(&line, sentence);
    }
    const char *host = settings.host;
    if (host != NULL) {
        put_field(&line, &KV_STR("host", host));
    }
    for (unsigned i = 0; i < kv_count && !line.cut; i++) {
        put_field(&line, &kvs[i]);
    }
    if (line.cut) {
        put_closing(&line, line.json ? ",\"cut\":true" : " cut=true");
    }
    put_closing(&line, line.json ? "}\n" : "\n");
    /* A log that cannot be written has nowhere to say so. */
    ssize_t written = write(STDERR_FILENO, line.text, line.size);
    (void)written;
}
