/* YAML text to libyaml's nodes, with everything refused that Berth's YAML does not have.
 *
 * Shapes: yaml_reader_scan walks the events once for what nodes no longer show (anchors,
 * aliases, tags, depth) and for syntax; yaml_reader_next then gives one document after
 * another. Faults go to a fault_list, which keeps at most CONFIG_FAULTS_MAX, in the order
 * found. Threads: one. Ownership: nodes belong to the document.
 */
#pragma once

#include "config/config.h"

#include <yaml.h>

#include <stdbool.h>

struct fault_list {
    struct config_fault *faults; /* owned by the config that is being filled */
    unsigned count;
    unsigned error_count;
    bool full; /* more were found than are kept */
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
    X(TOO_LARGE, "BE1111", "the file is larger, deeper or holds more than Berth reads")

enum config_code {
#define CONFIG_CODE_ENUM(NAME, text, sentence) CONFIG_##NAME,
    CONFIG_CODES(CONFIG_CODE_ENUM)
#undef CONFIG_CODE_ENUM
        CONFIG_CODE_COUNT
};
const char *config_code_text(enum config_code code);
const char *config_code_sentence(enum config_code code);

/* Adds a fault at a mark; hint may be NULL. */
void fault_add(struct fault_list *list,
               enum config_code code,
               yaml_mark_t mark,
               unsigned width,
               const char *hint,
               const char *format,
               ...) __attribute__((format(printf, 6, 7)));

/* False when the text cannot be walked as nodes (the faults say why). */
bool yaml_reader_scan(const char *text, size_t size, struct fault_list *faults);

struct yaml_reader {
    yaml_parser_t parser;
};
void yaml_reader_init(struct yaml_reader *reader, const char *text, size_t size);
void yaml_reader_fini(struct yaml_reader *reader);
/* The next document, to be ended with yaml_document_delete; false at the end. */
bool yaml_reader_next(struct yaml_reader *reader, yaml_document_t *ret_document);
