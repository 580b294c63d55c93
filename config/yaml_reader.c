#include "config/yaml_reader.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_texts[] = {
#define CODE_TEXT(NAME, text, sentence) [CONFIG_##NAME] = (text),
    CONFIG_CODES(CODE_TEXT)
#undef CODE_TEXT
};
static const char *const code_sentences[] = {
#define CODE_SENTENCE(NAME, text, sentence) [CONFIG_##NAME] = (sentence),
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

/* ---- faults ---- */

/* Bytes of the character at `text`; 0 when it is none that a terminal may get. */
static size_t character_size(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t size = at[0] < 0x80   ? 1
                  : at[0] < 0xc2 ? 0
                  : at[0] < 0xe0 ? 2
                  : at[0] < 0xf0 ? 3
                  : at[0] < 0xf5 ? 4
                                 : 0;
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80) { /* also the NUL at the end */
            return 0;
        }
    }
    bool is_control = at[0] < 0x20 || at[0] == 0x7f || (at[0] == 0xc2 && at[1] < 0xa0);
    /* U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069 turn the text's direction */
    bool is_turn = size == 3 && at[0] == 0xe2 &&
                   ((at[1] == 0x80 && (at[2] == 0x8e || at[2] == 0x8f ||
                                       (at[2] >= 0xaa && at[2] <= 0xae))) ||
                    (at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9));
    return is_control || is_turn ? 0 : size;
}

/* True when nothing but the start of one character is left. */
static bool is_cut(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t left = strlen(text);
    size_t wanted = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : at[0] >= 0xc2 ? 2 : 1;
    for (size_t i = 1; i < left; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return false;
        }
    }
    return left < wanted;
}

void text_make_printable(char *text, char substitute)
{
    char *to = text;
    for (const char *at = text; *at != '\0';) {
        size_t size = character_size(at);
        if (size == 0 && is_cut(at)) {
            break;
        }
        if (size == 0) {
            *to++ = substitute;
            do { /* one mark for a character of several bytes */
                at++;
            } while (((unsigned char)*at & 0xc0) == 0x80);
            continue;
        }
        memmove(to, at, size);
        to += size;
        at += size;
    }
    *to = '\0';
}

/* Where the fault is kept: errors push warnings out when there is no room. NULL: not. */
static struct config_fault *fault_slot(struct fault_list *list, bool warning)
{
    if (list->count < CONFIG_FAULTS_MAX) {
        return &list->faults[list->count++];
    }
    for (unsigned i = list->count; i > 0 && !warning; i--) {
        if (list->faults[i - 1].warning) {
            return &list->faults[i - 1];
        }
    }
    return NULL;
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
    list->warning_count += warning ? 1U : 0U;
    struct config_fault *fault = fault_slot(list, warning);
    if (fault == NULL) {
        return;
    }
    *fault = (struct config_fault){.warning = warning,
                                   .line = list->first_line + (unsigned)mark.line + 1,
                                   .column = (unsigned)mark.column + 1,
                                   .width = width > 0 ? width : 1,
                                   .code = config_code_text(code)};
    va_start(arguments, format);
    (void)vsnprintf(fault->message, sizeof(fault->message), format, arguments);
    va_end(arguments);
    (void)snprintf(fault->hint, sizeof(fault->hint), "%s", hint != NULL ? hint : "");
    text_make_printable(fault->message, '?');
    text_make_printable(fault->hint, '?');
}

/* ---- lines ---- */

/* Bytes of the line break at `text`, 0 when there is none. */
static size_t break_size(const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    if (size >= 2 && at[0] == '\r' && at[1] == '\n') {
        return 2;
    }
    if (size >= 1 && (at[0] == '\r' || at[0] == '\n')) {
        return 1;
    }
    if (size >= 2 && at[0] == 0xc2 && at[1] == 0x85) { /* next line */
        return 2;
    }
    if (size >= 3 && at[0] == 0xe2 && at[1] == 0x80 && (at[2] == 0xa8 || at[2] == 0xa9)) {
        return 3; /* line and paragraph separator */
    }
    return 0;
}

size_t yaml_line_size(const char *text, size_t size, size_t *ret_break_size)
{
    size_t used = 0;
    *ret_break_size = 0;
    while (used < size && (*ret_break_size = break_size(text + used, size - used)) == 0) {
        used++;
    }
    return used;
}

/* Line and column of a byte, as libyaml counts them. */
static yaml_mark_t mark_of(const char *text, size_t size, size_t offset)
{
    yaml_mark_t mark = {.index = offset};
    size_t broken = 0;
    offset = offset < size ? offset : size;
    for (;;) {
        size_t used = yaml_line_size(text, size, &broken);
        if (broken == 0 || used + broken > offset) {
            break;
        }
        text += used + broken;
        size -= used + broken;
        offset -= used + broken;
        mark.line++;
    }
    for (size_t i = 0; i < offset; i++) {
        mark.column += ((unsigned char)text[i] & 0xc0) != 0x80 ? 1 : 0;
    }
    return mark;
}

/* ---- syntax in plain words ---- */

/* libyaml's texts, and what they mean to somebody who writes YAML. */
static const struct {
    const char *problem;
    const char *message;
    const char *hint;
    bool at_context; /* shown where it began when that is another line */
} syntax_texts[] = {
    {"mapping values are not allowed", "a second value on this line",
     "check the indentation, or quote a text that contains \": \"", false},
    {"block sequence entries are not allowed", "a list item is not allowed here",
     "put it on a line of its own", false},
    {"mapping keys are not allowed", "a key is not allowed here",
     "check the indentation of this line", false},
    {"did not find expected ',' or ']'", "a list is not closed", "add ] or a comma",
     true},
    {"did not find expected ',' or '}'", "a mapping is not closed", "add } or a comma",
     true},
    {"did not find expected key", "expected a key here",
     "check the indentation of this line", false},
    {"did not find expected '-' indicator", "expected a list item (\"- \") here",
     "check the indentation of this line", false},
    {"did not find expected node content", "expected a value here", NULL, false},
    {"could not find expected ':'", "expected \": \" after the key", "write key: value",
     true},
    {"found unexpected ':'", "a \":\" stands inside a text",
     "quote the text, or put a space behind the \":\"", false},
    {"found unexpected end of stream", "a quoted text is not closed",
     "close the quotation mark", true},
    {"found unexpected document indicator", "a quoted text is not closed",
     "close the quotation mark", true},
    {"found unknown escape character", "an unknown escape behind \\",
     "write \\\\ for a backslash, or use single quotes", false},
    {"found a tab character", "a tab is used for indentation", "indent with spaces",
     false},
    {"control characters are not allowed", "a control character stands in the text",
     "delete it, or write it as an escape in double quotes", false},
    {"UTF-8", "the text is not valid UTF-8", "save the file as UTF-8", false},
    {"invalid Unicode character", "the text is not valid UTF-8", "save the file as UTF-8",
     false},
    {"did not find expected alphabetic or numeric character",
     "& and * begin anchors and aliases, which are not allowed", "quote the text", false},
    {"did not find expected <document start>", "expected a new document here",
     "begin it with a line ---", false},
};

/* What stands at a mark; `end` when that is behind all. */
static const char *text_at(const char *text, const char *end, yaml_mark_t mark)
{
    size_t broken = 0;
    for (size_t line = 0; line < mark.line && text < end; line++) {
        size_t used = yaml_line_size(text, (size_t)(end - text), &broken);
        text += used + broken;
    }
    for (size_t column = 0; column < mark.column && text < end; column++) {
        do { /* columns count characters */
            text++;
        } while (text < end && ((unsigned char)*text & 0xc0) == 0x80);
    }
    return text;
}

/* The bracket behind a text that stands in a list or mapping on one line, and so ends
 * there, which hardly anybody means; or NUL. */
static char bracket_in_text(const char *text, size_t size, yaml_mark_t mark)
{
    const char *end = text + size;
    const char *at = text_at(text, end, mark);
    const char *before = at;
    while (before > text && before[-1] == ' ') {
        before--;
    }
    bool is_text = before > text && strchr("]},[{:\"'\n", before[-1]) == NULL;
    return at < end && is_text && (*at == '[' || *at == '{') ? *at : '\0';
}

/* libyaml has one text for every character that cannot begin a value. */
static void token_fault(const char *text,
                        size_t size,
                        const yaml_parser_t *parser,
                        struct fault_list *faults)
{
    size_t broken = 0;
    for (size_t line = 0; line < parser->problem_mark.line && size > 0; line++) {
        size_t used = yaml_line_size(text, size, &broken) + broken;
        text += used;
        size -= used;
    }
    size_t spaces = 0;
    while (spaces < size && text[spaces] == ' ') {
        spaces++;
    }
    if (spaces < size && text[spaces] == '\t') {
        yaml_mark_t mark = {.line = parser->problem_mark.line, .column = spaces};
        fault_add(faults, CONFIG_SYNTAX, mark, 1, "indent with spaces",
                  "a tab is used for indentation");
        return;
    }
    fault_add(faults, CONFIG_SYNTAX, parser->problem_mark, 1,
              "quote texts that begin with @, ` or %",
              "this character cannot begin a value");
}

static void syntax_fault(const char *text,
                         size_t size,
                         const yaml_parser_t *parser,
                         struct fault_list *faults)
{
    const char *problem = parser->problem != NULL ? parser->problem : "not valid YAML";
    yaml_mark_t mark = parser->error == YAML_READER_ERROR
                           ? mark_of(text, size, parser->problem_offset)
                           : parser->problem_mark;
    char bracket = strstr(problem, "did not find expected ',' or") != NULL
                       ? bracket_in_text(text, size, mark)
                       : '\0';
    if (bracket != '\0') {
        fault_add(faults, CONFIG_SYNTAX, mark, 1,
                  "quote it, or write one item a line, as: - host.zone in [a, b]",
                  "a text in a list or mapping on one line has a %c in it", bracket);
        return;
    }
    if (strstr(problem, "cannot start any token") != NULL) {
        token_fault(text, size, parser, faults);
        return;
    }
    for (size_t i = 0; i < ARRAY_COUNT(syntax_texts); i++) {
        if (strstr(problem, syntax_texts[i].problem) != NULL) {
            bool far = parser->context_mark.line != mark.line;
            mark = syntax_texts[i].at_context && far ? parser->context_mark : mark;
            fault_add(faults, CONFIG_SYNTAX, mark, 1, syntax_texts[i].hint, "%s",
                      syntax_texts[i].message);
            return;
        }
    }
    fault_add(faults, CONFIG_SYNTAX, mark, 1, NULL, "%s", problem);
}

/* ---- what nodes no longer show ---- */

#define YAML_TAG_PREFIX "tag:yaml.org,2002:"

static unsigned width_of(const yaml_event_t *event)
{
    return event->end_mark.line == event->start_mark.line
               ? (unsigned)(event->end_mark.column - event->start_mark.column)
               : 1;
}

static void
refuse_tag(const yaml_event_t *event, const char *tag, struct fault_list *faults)
{
    size_t prefix = strlen(YAML_TAG_PREFIX);
    bool is_short = strncmp(tag, YAML_TAG_PREFIX, prefix) == 0;
    fault_add(faults, CONFIG_FORBIDDEN, event->start_mark, 1,
              "leave it out: the field says what type its value has",
              "tags (%s%.40s) are not allowed", is_short ? "!!" : "",
              is_short ? tag + prefix : tag);
}

/* False when the document must not be walked: aliases may make it grow without bound. */
static bool refuse_extras(const yaml_event_t *event, struct fault_list *faults)
{
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        fault_add(faults, CONFIG_FORBIDDEN, event->start_mark, width_of(event),
                  "write the value out", "aliases (*%.40s) are not allowed",
                  (const char *)event->data.alias.anchor);
        return false;
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
        refuse_tag(event, (const char *)tag, faults);
    }
    return true;
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

static int parser_open(yaml_parser_t *parser, const char *text, size_t size)
{
    if (!yaml_parser_initialize(parser)) {
        return -ENOMEM;
    }
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser, (const unsigned char *)text, size);
    return 0;
}

/* 1 when the document can be walked as nodes, 0 when not (the faults say why), -ENOMEM.
 */
static int scan(const char *text, size_t size, struct fault_list *faults)
{
    yaml_parser_t parser;
    int walkable = 1;
    bool done = false;
    int depth = 0;
    if (parser_open(&parser, text, size) < 0) {
        return -ENOMEM;
    }
    while (!done) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            bool no_memory =
                parser.error == YAML_MEMORY_ERROR || parser.error == YAML_NO_ERROR;
            if (!no_memory) {
                syntax_fault(text, size, &parser, faults);
            }
            walkable = no_memory ? -ENOMEM : 0;
            break;
        }
        walkable = refuse_extras(&event, faults) ? walkable : 0;
        depth = depth_after(&event, depth, faults);
        walkable = depth > CONFIG_DEPTH_MAX ? 0 : walkable;
        done = event.type == YAML_STREAM_END_EVENT || depth > CONFIG_DEPTH_MAX;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return walkable;
}

/* ---- documents ---- */

void yaml_reader_init(struct yaml_reader *reader, const char *text, size_t size)
{
    *reader = (struct yaml_reader){.text = text, .size = size};
}

static bool is_marker(const char *line, size_t size, const char *marker)
{
    return size >= 3 && memcmp(line, marker, 3) == 0 &&
           (size == 3 || line[3] == ' ' || line[3] == '\t');
}

/* Comments, directives and empty lines may stand before a document's `---`. */
static bool is_preamble(const char *line, size_t size)
{
    size_t blank = 0;
    while (blank < size && (line[blank] == ' ' || line[blank] == '\t')) {
        blank++;
    }
    return blank == size || line[blank] == '#' || line[0] == '%';
}

/* `...` ends a document and needs nothing from a parser. */
static bool is_end(const char *line, size_t size)
{
    return is_marker(line, size, "...") && (size == 3 || is_preamble(line + 3, size - 3));
}

/* A document's share of the text. */
struct part {
    size_t size;     /* up to where the next one begins */
    size_t own_size; /* without its end marker */
    unsigned lines;
};

/* YAML begins and ends documents at such lines wherever they stand, inside of quotes as
 * well. */
static struct part part_at(const char *text, size_t size)
{
    struct part part = {0};
    bool has_content = false;
    bool ended = false;
    while (part.size < size && !ended) {
        size_t broken = 0;
        const char *line = text + part.size;
        size_t used = yaml_line_size(line, size - part.size, &broken);
        if (has_content && is_marker(line, used, "---")) {
            break;
        }
        ended = is_end(line, used);
        part.size += used + broken;
        part.own_size = ended ? part.own_size : part.size;
        part.lines += broken > 0 ? 1U : 0U;
        has_content = has_content || !is_preamble(line, used);
    }
    return part;
}

static int load(const char *text, size_t size, yaml_document_t *ret_document)
{
    yaml_parser_t parser;
    if (parser_open(&parser, text, size) < 0) {
        return -ENOMEM;
    }
    bool loaded = yaml_parser_load(&parser, ret_document) != 0;
    /* Not every failing allocation is marked as one. Of all else, the scan has told. */
    bool no_memory = parser.error != YAML_COMPOSER_ERROR; /* one anchor for two places */
    yaml_parser_delete(&parser);
    if (!loaded) {
        return no_memory ? -ENOMEM : 0;
    }
    if (yaml_document_get_root_node(ret_document) == NULL) {
        yaml_document_delete(ret_document);
        return 0;
    }
    return 1;
}

int yaml_reader_next(struct yaml_reader *reader,
                     struct fault_list *faults,
                     yaml_document_t *ret_document)
{
    while (reader->size > 0) {
        const char *text = reader->text;
        struct part part = part_at(text, reader->size);
        faults->first_line = reader->line;
        reader->text += part.size;
        reader->size -= part.size;
        reader->line += part.lines;
        int r = scan(text, part.own_size, faults);
        r = r > 0 ? load(text, part.own_size, ret_document) : r;
        if (r != 0) {
            return r;
        }
    }
    return 0;
}
