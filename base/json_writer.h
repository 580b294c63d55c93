/* JSON as text, written as it is told: no tree is made for it.
 *
 * Shapes: a writer over a bytes_writer is told objects, arrays, keys and values in their
 * order, and puts the commas; what comes out is compact and byte for byte what json_text
 * makes of the same tree. Texts may hold whatever a kernel or a guest said: what is no
 * UTF-8 is written as question marks. Ownership: the bytes_writer is the caller's, and so
 * is sense: every begin has its end, every key its value. Threads: pure. Errors: those of
 * the bytes_writer, which is looked at in the end.
 */
#pragma once

#include "base/bytes.h"
#include "base/json.h"

struct json_writer {
    struct bytes_writer *out; /* borrowed */
    bool comma;               /* goes before what comes next */
};

void json_writer_init(struct json_writer *writer, struct bytes_writer *out);
/* bracket: '{' or '[', and the one that ends it. */
void json_write_begin(struct json_writer *writer, char bracket);
void json_write_end(struct json_writer *writer, char bracket);
/* Of the member whose value comes next. */
void json_write_key(struct json_writer *writer, const char *key);
/* NULL is "". */
void json_write_text(struct json_writer *writer, const char *text);
void json_write_bytes(struct json_writer *writer, const char *text, size_t size);
/* Around what the caller writes to the bytes_writer by itself, of characters that stand
 * in a JSON string as they are. */
void json_write_quote(struct json_writer *writer);
void json_write_unquote(struct json_writer *writer);
void json_write_u64(struct json_writer *writer, uint64_t number);
void json_write_bool(struct json_writer *writer, bool value);
void json_write_null(struct json_writer *writer);
void json_write_tree(struct json_writer *writer, const json_t *tree);
