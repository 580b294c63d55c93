/* Documents in the format that -o asks for, and a few texts that many commands print.
 *
 * Threads: one. Errors: exit codes (EXIT_FAILED when out of memory, said).
 */
#pragma once

#include "cli/cli.h"
#include "cli/object_name.h"

/* True when -o asks for the document itself (json, yaml or name). */
bool output_is_document(const struct cli *cli);
/* One object or a list ({"items": [...]}) as json, yaml or names. */
int output_document(struct cli *cli, const json_t *document);
/* These objects as they are now, as a document: `many` gives {"items": [...]}, however
 * many there are, else it is the one object. */
int output_objects(struct cli *cli,
                   const struct object_name *names,
                   unsigned count,
                   bool many);
/* A sentence, a line of its own: the result of a command that changes something. Where
 * out has the document, it goes to err, as cli_note's do. */
void output_tell(struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Text of JSON, with the C1 control characters, which JSON lets stand, as \u0080 to
 * \u009f: a document may be read on a terminal. */
void output_json(struct cli *cli, const char *text);
/* "kind/name" or "tenant/kind/name" of an object's document. */
void output_name(struct cli *cli, const json_t *object, char *ret_text, size_t capacity);

/* "310 ms", "2.1 s", "4 min", "3 h", "12 d": short and not parseable. */
#define SPAN_TEXT_SIZE 24
void span_format(uint64_t ms, char text[SPAN_TEXT_SIZE]);
/* "2026-11-23T09:15:04.123Z" as wall milliseconds; 0 when it is no instant. */
uint64_t instant_parse(const char *text);
/* An instant in local time, "2026-11-23 10:15:04.123". */
#define INSTANT_TEXT_SIZE 64
void instant_format_local(uint64_t wall_ms, char text[INSTANT_TEXT_SIZE]);
