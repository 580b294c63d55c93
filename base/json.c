#include "base/json.h"

#include "base/bytes.h"

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
    return text_written(document, JSON_COMPACT);
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
