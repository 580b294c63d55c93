#include "config/yaml_reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_texts[] = {
#define CODE_TEXT(NAME, text, sentence) [CONFIG_##NAME] = text,
    CONFIG_CODES(CODE_TEXT)
#undef CODE_TEXT
};
static const char *const code_sentences[] = {
#define CODE_SENTENCE(NAME, text, sentence) [CONFIG_##NAME] = sentence,
    CONFIG_CODES(CODE_SENTENCE)
#undef CODE_SENTENCE
};

const char *config_code_text(enum config_code code)
{
    return code_texts[code];
}

const char *config_code_sentence(enum config_code code)
{
    return code_sentences[code];
}

void fault_add(struct fault_list *list,
               enum config_code code,
               yaml_mark_t mark,
               unsigned width,
               const char *hint,
               const char *format,
               ...)
{
    va_list arguments;
    bool warning = code == CONFIG_IGNORED;
    list->error_count += warning ? 0U : 1U;
    if (list->count >= CONFIG_FAULTS_MAX) {
        list->full = true;
        return;
    }
    struct config_fault *fault = &list->faults[list->count++];
    *fault = (struct config_fault){.warning = warning,
                                   .line = (unsigned)mark.line + 1,
                                   .column = (unsigned)mark.column + 1,
                                   .width = width > 0 ? width : 1,
                                   .code = config_code_text(code)};
    va_start(arguments, format);
    (void)vsnprintf(fault->message, sizeof(fault->message), format, arguments);
    va_end(arguments);
    (void)snprintf(fault->hint, sizeof(fault->hint), "%s", hint != NULL ? hint : "");
}

/* ---- syntax in plain words
 * -------------------------------------------------------------------------- */

/* libyaml's texts, and what they mean to somebody who writes YAML. */
static const struct {
    const char *problem;
    const char *message;
    const char *hint;
} syntax_texts[] = {
    {"found character that cannot start any token", "this character cannot start a value",
     "indent with spaces, not tabs; quote texts that begin with @ or `"},
    {"mapping values are not allowed in this context", "a second value on this line",
     "check the indentation, or quote a text that contains \": \""},
    {"did not find expected ',' or ']'", "the list that began with [ is not closed",
     "add ]"},
    {"did not find expected ',' or '}'", "the mapping that began with { is not closed",
     "add }"},
    {"did not find expected key", "expected a key here",
     "check the indentation of this line"},
    {"did not find expected '-' indicator", "expected a list item (\"- \") here",
     "check the indentation of this line"},
    {"could not find expected ':'", "expected \": \" after the key", "write key: value"},
    {"found unexpected end of stream", "the text ends inside a quoted value",
     "close the quotation mark"},
    {"found a tab character", "a tab is used for indentation", "indent with spaces"},
    {"control characters are not allowed", "a control character stands in the text",
     NULL},
};

static void syntax_fault(const yaml_parser_t *parser, struct fault_list *faults)
{
    const char *problem = parser->problem != NULL ? parser->problem : "not valid YAML";
    if (parser->error == YAML_READER_ERROR) {
        yaml_mark_t mark = {.line = parser->mark.line, .column = parser->mark.column};
        fault_add(faults, CONFIG_SYNTAX, mark, 1, "save the file as UTF-8",
                  "the text is not valid UTF-8 (%s)", problem);
        return;
    }
    for (size_t i = 0; i < sizeof(syntax_texts) / sizeof(syntax_texts[0]); i++) {
        if (strstr(problem, syntax_texts[i].problem) != NULL) {
            fault_add(faults, CONFIG_SYNTAX, parser->problem_mark, 1,
                      syntax_texts[i].hint, "%s", syntax_texts[i].message);
            return;
        }
    }
    fault_add(faults, CONFIG_SYNTAX, parser->problem_mark, 1, NULL, "%s", problem);
}

/* ---- what nodes no longer show
 * ---------------------------------------------------------------------- */

static unsigned width_of(const yaml_event_t *event)
{
    return event->end_mark.line == event->start_mark.line
               ? (unsigned)(event->end_mark.column - event->start_mark.column)
               : 1;
}

static void refuse_extras(const yaml_event_t *event, struct fault_list *faults)
{
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        fault_add(faults, CONFIG_FORBIDDEN, event->start_mark, width_of(event),
                  "write the value out", "aliases (*%.40s) are not allowed",
                  (const char *)event->data.alias.anchor);
        return;
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default:
        break;
    }
    if (anchor != NULL) {
        fault_add(faults, CONFIG_FORBIDDEN, event->start_mark, 1, "write the value out",
                  "anchors (&%.40s) are not allowed", (const char *)anchor);
    }
    if (tag != NULL) {
        fault_add(faults, CONFIG_FORBIDDEN, event->start_mark, 1, "drop it",
                  "tags (%.40s) are not allowed", (const char *)tag);
    }
}

/* Depth after the event; too deep is told once. */
static int depth_after(const yaml_event_t *event, int depth, struct fault_list *faults)
{
    bool opens = event->type == YAML_SEQUENCE_START_EVENT ||
                 event->type == YAML_MAPPING_START_EVENT;
    bool closes =
        event->type == YAML_SEQUENCE_END_EVENT || event->type == YAML_MAPPING_END_EVENT;
    depth += opens ? 1 : closes ? -1 : 0;
    if (opens && depth == CONFIG_DEPTH_MAX + 1) {
        fault_add(faults, CONFIG_TOO_LARGE, event->start_mark, 1, NULL,
                  "nested deeper than %d levels", CONFIG_DEPTH_MAX);
    }
    return depth;
}

bool yaml_reader_scan(const char *text, size_t size, struct fault_list *faults)
{
    yaml_parser_t parser;
    unsigned before = faults->error_count;
    bool done = false;
    int depth = 0;
    if (!yaml_parser_initialize(&parser)) {
        return false;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    while (!done) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            syntax_fault(&parser, faults);
            break;
        }
        refuse_extras(&event, faults);
        depth = depth_after(&event, depth, faults);
        done = event.type == YAML_STREAM_END_EVENT || depth > CONFIG_DEPTH_MAX;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return done && faults->error_count == before;
}

/* ---- documents
 * --------------------------------------------------------------------------------------
 */

void yaml_reader_init(struct yaml_reader *reader, const char *text, size_t size)
{
    *reader = (struct yaml_reader){0};
    if (yaml_parser_initialize(&reader->parser)) {
        yaml_parser_set_input_string(&reader->parser, (const unsigned char *)text, size);
    }
}

void yaml_reader_fini(struct yaml_reader *reader)
{
    yaml_parser_delete(&reader->parser);
}

bool yaml_reader_next(struct yaml_reader *reader, yaml_document_t *ret_document)
{
    if (!yaml_parser_load(&reader->parser, ret_document)) {
        return false; /* the scan has told why */
    }
    if (yaml_document_get_root_node(ret_document) == NULL) {
        bool at_end = reader->parser.stream_end_produced != 0;
        if (at_end) {
            yaml_document_delete(ret_document);
            return false;
        }
    }
    return true;
}
