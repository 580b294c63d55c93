/* YAML text to libyaml's nodes, with everything refused that Berth's YAML does not have.
 *
 * Shapes: yaml_reader cuts the text where documents begin (`---`) and end (`...`), so
 * that a syntax fault in one document leaves the others readable, and gives one document
 * after another; of each, the events are walked first for what nodes no longer show
 * (anchors, aliases, tags, depth). Faults go to a fault_list, which keeps at most
 * CONFIG_FAULTS_MAX of them, errors before warnings, in the order found. Threads: one.
 * Ownership: the text is borrowed; nodes belong to the document. Errors: faults in the
 * list, -ENOMEM.
 */
#pragma once

#include "config/config.h"

#include <yaml.h>

#include <stdbool.h>

struct fault_list {
    struct config_fault *faults; /* owned by the config that is being filled */
    unsigned count;              /* kept */
    unsigned error_count;        /* found, kept or not */
    unsigned warning_count;
    unsigned first_line; /* of the document that marks count from, 0-based */
};

/* Stable codes; docs/errors.md explains each. */
#define CONFIG_CODES(X)                                                                 \
    X(SYNTAX, "BE1100", "the YAML does not parse")                                      \
    X(FORBIDDEN, "BE1101", "a YAML feature that Berth refuses: anchors, aliases, tags") \
    X(DUPLICATE, "BE1102", "the same key, or the same object, twice")                   \
    X(UNKNOWN, "BE1103", "a field that the kind does not have")                         \
    X(MISSING, "BE1104", "a required field is not there")                               \
    X(SHAPE, "BE1105", "a mapping, list or scalar where another is expected")           \
    X(VALUE, "BE1107", "a value of the wrong type, unit or range")                      \
    X(KIND, "BE1108", "apiVersion or kind is missing or unknown")                       \
    X(MEANING, "BE1109", "values that do not fit together")                             \
    X(IGNORED, "BE1110", "a field that the server writes; it is ignored")               \
    X(TOO_LARGE, "BE1111", "the file is larger, deeper or holds more than Berth reads") \
    X(FILE, "BE1112", "an image file cannot be read, or is not what its sha256 says")

enum config_code {
#define CONFIG_CODE_ENUM(NAME, text, sentence) CONFIG_##NAME,
    CONFIG_CODES(CONFIG_CODE_ENUM)
#undef CONFIG_CODE_ENUM
        CONFIG_CODE_COUNT
};
const char *config_code_text(enum config_code code);
const char *config_code_sentence(enum config_code code);

/* Adds a fault at a mark (counted from first_line); hint may be NULL. Foreign text in it
 * is made printable. */
void fault_add(struct fault_list *list,
               enum config_code code,
               yaml_mark_t mark,
               unsigned width,
               const char *hint,
               const char *format,
               ...) __attribute__((format(printf, 6, 7)));

/* Replaces control characters and what is not UTF-8 by `substitute`, in place, and drops
 * a character that was cut in two at the end. */
void text_make_printable(char *text, char substitute);
/* Bytes of the line at `text` without its break; *ret_break_size is 0 at the end. Lines
 * break where libyaml breaks them. */
size_t yaml_line_size(const char *text, size_t size, size_t *ret_break_size);

struct yaml_reader {
    const char *text; /* what is left, borrowed */
    size_t size;
    unsigned line; /* of text, 0-based */
};
void yaml_reader_init(struct yaml_reader *reader, const char *text, size_t size);
/* 1 with the next document that can be walked (end it with yaml_document_delete; its
 * root may be an empty scalar), 0 at the end, -ENOMEM. Documents that cannot be walked
 * are told of and passed over. Sets faults->first_line. */
int yaml_reader_next(struct yaml_reader *reader,
                     struct fault_list *faults,
                     yaml_document_t *ret_document);
