#include "base/json_writer.h"

#include "base/utf8.h"

#include <errno.h>
#include <string.h>

#define DIGITS_MAX 20 /* of 2^64 - 1 */

void json_writer_init(struct json_writer *writer, struct bytes_writer *out)
{
    *writer = (struct json_writer){.out = out};
}

static void put(struct json_writer *writer, const char *text, size_t size)
{
    bytes_write_raw(writer->out, text, size);
}

/* A key or a value comes next. */
static void separate(struct json_writer *writer)
{
    if (writer->comma) {
        put(writer, ",", 1);
    }
}

static void value(struct json_writer *writer, const char *text, size_t size)
{
    separate(writer);
    put(writer, text, size);
    writer->comma = true;
}

void json_write_begin(struct json_writer *writer, char bracket)
{
    separate(writer);
    put(writer, &bracket, 1);
    writer->comma = false;
}

void json_write_end(struct json_writer *writer, char bracket)
{
    put(writer, &bracket, 1);
    writer->comma = true;
}

/* ---- texts ---- */

/* What stands as it is. */
static bool is_plain(char character)
{
    unsigned char byte = (unsigned char)character;
    return byte >= ' ' && byte < 0x80 && byte != '"' && byte != '\\';
}

static void put_escaped(struct json_writer *writer, char character)
{
    static const char digits[] = "0123456789ABCDEF";
    static const char named[] = "\"\\\b\f\n\r\t";
    static const char names[] = "\"\\bfnrt";
    const char *found = character != '\0' ? strchr(named, character) : NULL;
    if (found != NULL) {
        const char text[2] = {'\\', names[found - named]};
        put(writer, text, sizeof(text));
    } else {
        const char text[6] = {
            '\\', 'u', '0', '0', digits[(character >> 4) & 15], digits[character & 15]};
        put(writer, text, sizeof(text));
    }
}

static void put_quoted(struct json_writer *writer, const char *text, size_t size)
{
    put(writer, "\"", 1);
    for (size_t at = 0; at < size;) {
        size_t from = at;
        while (at < size && is_plain(text[at])) {
            at++;
        }
        put(writer, text + from, at - from);
        if (at == size) {
            break;
        }
        size_t character = utf8_character_size(text + at, size - at);
        if (character > 1) {
            put(writer, text + at, character);
        } else if (character == 1) {
            put_escaped(writer, text[at]);
        } else {
            put(writer, "?", 1);
        }
        at += character > 0 ? character : 1;
    }
    put(writer, "\"", 1);
}

void json_write_key(struct json_writer *writer, const char *key)
{
    separate(writer);
    put_quoted(writer, key, strlen(key));
    put(writer, ":", 1);
    writer->comma = false;
}

void json_write_text(struct json_writer *writer, const char *text)
{
    json_write_bytes(writer, text, text != NULL ? strlen(text) : 0);
}

void json_write_bytes(struct json_writer *writer, const char *text, size_t size)
{
    separate(writer);
    put_quoted(writer, text, size);
    writer->comma = true;
}

void json_write_quote(struct json_writer *writer)
{
    separate(writer);
    put(writer, "\"", 1);
}

void json_write_unquote(struct json_writer *writer)
{
    put(writer, "\"", 1);
    writer->comma = true;
}

/* ---- other values ---- */

void json_write_u64(struct json_writer *writer, uint64_t number)
{
    char text[DIGITS_MAX];
    size_t at = sizeof(text);
    do {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    value(writer, text + at, sizeof(text) - at);
}

void json_write_bool(struct json_writer *writer, bool yes)
{
    value(writer, yes ? "true" : "false", yes ? 4 : 5);
}

void json_write_null(struct json_writer *writer)
{
    value(writer, "null", 4);
}

static int put_piece(const char *piece, size_t size, void *context)
{
    struct json_writer *writer = context;
    put(writer, piece, size);
    return writer->out->error == 0 ? 0 : -1;
}

void json_write_tree(struct json_writer *writer, const json_t *tree)
{
    separate(writer);
    if (json_dump_callback(tree, put_piece, writer, JSON_COMPACT | JSON_ENCODE_ANY) < 0 &&
        writer->out->error == 0) {
        writer->out->error = -ENOMEM;
    }
    writer->comma = true;
}
