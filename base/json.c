#include "base/json.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

#define PRETTY_INDENT 2

/* Jansson repeats a piece of the document in its texts: keep its control characters from
 * a terminal. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) {
            *text = '?';
        }
    }
}

int json_parse(const char *text, size_t size, json_t **ret_document, struct err *err)
{
    if (size > JSON_SIZE_MAX) {
        return err_set(err, BERTH_ETOOLARGE, "a JSON document of %zu bytes: at most %u",
                       size, JSON_SIZE_MAX);
    }
    json_error_t fault = {0};
    json_t *document = json_loadb(text, size, JSON_REJECT_DUPLICATES, &fault);
    if (document == NULL) {
        make_printable(fault.text);
        return err_set(err, BERTH_EINVALID, "line %d, column %d: %s", fault.line,
                       fault.column, fault.text);
    }
    *ret_document = document;
    return 0;
}

static int write_piece(const char *piece, size_t size, void *context)
{
    struct bytes_writer *writer = context;
    bytes_write_raw(writer, piece, size);
    return writer->error == 0 ? 0 : -1;
}

/* ---- compact texts ---- */

/* One text of a document, as Jansson writes it. */
static void write_text(const char *text, size_t size, struct bytes_writer *writer)
{
    static const char short_of[] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
        ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};
    bytes_write_raw(writer, "\"", 1);
    for (size_t at = 0, begin = 0; at <= size; at++) {
        const unsigned char byte = at < size ? (unsigned char)text[at] : '"';
        if (byte >= ' ' && byte != '"' && byte != '\\') {
            continue;
        }
        bytes_write_raw(writer, text + begin, at - begin);
        begin = at + 1;
        if (at < size && short_of[byte] != '\0') {
            const char escape[] = {'\\', short_of[byte]};
            bytes_write_raw(writer, escape, sizeof(escape));
        } else if (at < size) {
            bytes_write_format(writer, "\\u%04X", byte);
        }
    }
    bytes_write_raw(writer, "\"", 1);
}

static void write_integer(json_int_t number, struct bytes_writer *writer)
{
    char digits[24];
    size_t at = sizeof(digits);
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        digits[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (number < 0) {
        digits[--at] = '-';
    }
    bytes_write_raw(writer, digits + at, sizeof(digits) - at);
}

/* By hand: Jansson calls back for each comma, and prints numbers. What is rare is left to
 * it. NOLINTNEXTLINE(misc-no-recursion): our own documents, and what Jansson has parsed,
 * to its depth */
static void write_value(const json_t *value, struct bytes_writer *writer)
{
    const char *key;
    json_t *member;
    size_t index;
    const char *comma = "";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        bytes_write_raw(writer, "{", 1);
        json_object_foreach((json_t *)(uintptr_t)value, key, member)
        {
            bytes_write_raw(writer, comma, strlen(comma));
            write_text(key, strlen(key), writer);
            bytes_write_raw(writer, ":", 1);
            write_value(member, writer);
            comma = ",";
        }
        bytes_write_raw(writer, "}", 1);
        break;
    case JSON_ARRAY:
        bytes_write_raw(writer, "[", 1);
        json_array_foreach(value, index, member)
        {
            bytes_write_raw(writer, comma, strlen(comma));
            write_value(member, writer);
            comma = ",";
        }
        bytes_write_raw(writer, "]", 1);
        break;
    case JSON_STRING:
        write_text(json_string_value(value), json_string_length(value), writer);
        break;
    case JSON_INTEGER:
        write_integer(json_integer_value(value), writer);
        break;
    default:
        if (json_dump_callback(value, write_piece, writer, JSON_ENCODE_ANY) < 0 &&
            writer->error == 0) {
            writer->error = -ENOMEM;
        }
        break;
    }
}

/* Jansson's own buffer begins with 16 bytes, and each time that it grows is a copy. */
static char *text_written(const json_t *document, size_t flags)
{
    struct bytes_writer writer;
    char *text = NULL;
    bytes_writer_init(&writer, SIZE_MAX - 1);
    if (json_dump_callback(document, write_piece, &writer, flags | JSON_ENCODE_ANY) < 0) {
        bytes_writer_fini(&writer);
        return NULL;
    }
    return bytes_writer_take_text(&writer, &text) == 0 ? text : NULL;
}

char *json_text(const json_t *document)
{
    struct bytes_writer writer;
    char *text = NULL;
    if (document == NULL) {
        return NULL;
    }
    bytes_writer_init(&writer, SIZE_MAX - 1);
    write_value(document, &writer);
    return bytes_writer_take_text(&writer, &text) == 0 ? text : NULL;
}

char *json_text_pretty(const json_t *document)
{
    return text_written(document, JSON_INDENT(PRETTY_INDENT));
}

const char *json_member_text(const json_t *object, const char *key, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : fallback;
}

uint64_t json_member_u64(const json_t *object, const char *key, uint64_t fallback)
{
    const json_t *member = json_object_get(object, key);
    if (!json_is_integer(member) || json_integer_value(member) < 0) {
        return fallback;
    }
    return (uint64_t)json_integer_value(member);
}
