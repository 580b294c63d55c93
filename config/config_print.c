/* Faults as people read them: place, code, sentence, the line with a caret, a hint. */
#include "base/cleanup.h"
#include "base/plural.h"
#include "config/yaml_reader.h"

#include <string.h>

#define LINE_SHOWN_MAX                                                               \
    120                  /* columns of a line; what is left and right of them is cut \
                          */
#define LINE_BEFORE   40 /* of them before a place that the line's begin does not show */
#define LINE_AFTER    20 /* shown after the place, or the window moves */
#define LINE_SIZE_MAX ((size_t)4 * LINE_SHOWN_MAX)
#define PATH_SIZE_MAX 4096
#define ELLIPSIS      "..."

/* The line's text, NULL behind the last one. */
static const char *line_at(const struct config *config, unsigned line, size_t *ret_size)
{
    const char *text = config->text;
    size_t left = config->text_size;
    for (unsigned i = 1; i <= line && left > 0; i++) {
        size_t broken = 0;
        *ret_size = yaml_line_size(text, left, &broken);
        if (i == line) {
            return text;
        }
        text += *ret_size + broken;
        left -= *ret_size + broken;
    }
    return NULL;
}

/* Bytes of the first `columns` characters. */
static size_t bytes_of(const char *text, size_t size, size_t columns)
{
    size_t used = 0;
    for (size_t seen = 0; used < size; used++) {
        seen += ((unsigned char)text[used] & 0xc0) != 0x80 ? 1 : 0;
        if (seen > columns) {
            break;
        }
    }
    return used;
}

/* ---- how wide characters are ---- */

/* Of terminals: what takes two columns, and what takes none, by blocks of Unicode. */
static unsigned columns_of(uint32_t point)
{
    static const struct {
        uint32_t first;
        uint32_t last;
        unsigned columns;
    } blocks[] = {
        {0x0300, 0x036f, 0},   {0x1100, 0x115f, 2},   {0x1ab0, 0x1aff, 0},
        {0x1dc0, 0x1dff, 0},   {0x200b, 0x200d, 0},   {0x20d0, 0x20ff, 0},
        {0x2e80, 0x303e, 2},   {0x3041, 0xa4cf, 2},   {0xa960, 0xa97f, 2},
        {0xac00, 0xd7a3, 2},   {0xf900, 0xfaff, 2},   {0xfe00, 0xfe0f, 0},
        {0xfe20, 0xfe2f, 0},   {0xfe30, 0xfe6f, 2},   {0xff00, 0xff60, 2},
        {0xffe0, 0xffe6, 2},   {0x1f300, 0x1f64f, 2}, {0x1f680, 0x1f6ff, 2},
        {0x1f900, 0x1f9ff, 2}, {0x20000, 0x3fffd, 2},
    };
    for (size_t i = 0; i < ARRAY_COUNT(blocks); i++) {
        if (point >= blocks[i].first && point <= blocks[i].last) {
            return blocks[i].columns;
        }
    }
    return 1;
}

/* The first character; *ret_used: its bytes. What is no UTF-8 is shown as one blank. */
static uint32_t character_at(const char *text, size_t size, size_t *ret_used)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t wanted = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : at[0] >= 0xc0 ? 2 : 1;
    uint32_t point = wanted == 1 ? at[0] : at[0] & (0xffu >> (wanted + 1));
    *ret_used = 1;
    while (*ret_used < wanted && *ret_used < size && (at[*ret_used] & 0xc0) == 0x80) {
        point = point << 6 | (at[*ret_used] & 0x3f);
        (*ret_used)++;
    }
    return point;
}

/* Terminal columns of the characters from `first` on, 0-based; beyond the text each is
 * one. */
static unsigned width_of(const char *text, size_t size, size_t first, size_t count)
{
    unsigned width = 0;
    for (size_t seen = 0; seen < first + count; seen++) {
        size_t used = 0;
        uint32_t point = size > 0 ? character_at(text, size, &used) : ' ';
        width += seen >= first ? columns_of(point) : 0;
        text = used > 0 ? text + used : text; /* an empty file may be at NULL */
        size -= used;
    }
    return width;
}

/* The columns left of the part of a line that is shown: none, unless the place is too far
 * right. */
static size_t columns_skipped(const struct config_fault *fault)
{
    return fault->column + LINE_AFTER > LINE_SHOWN_MAX ? fault->column - 1 - LINE_BEFORE
                                                       : 0;
}

static void
print_line(const struct config *config, unsigned line, size_t skipped, FILE *stream)
{
    char shown[LINE_SIZE_MAX + 1];
    size_t size = 0;
    const char *text = line_at(config, line, &size);
    if (text == NULL) {
        return;
    }
    size_t before = bytes_of(text, size, skipped);
    text += before;
    size -= before;
    size_t used = bytes_of(text, size, LINE_SHOWN_MAX);
    used = used < LINE_SIZE_MAX ? used : LINE_SIZE_MAX;
    for (size_t i = 0; i < used; i++) {
        shown[i] = text[i];
        if (shown[i] == '\0') {
            shown[i] = ' ';
        }
    }
    shown[used] = '\0';
    text_make_printable(shown, ' '); /* a tab is one column, as in the place */
    (void)fprintf(stream, "%5u | %s%s%s\n", line, before > 0 ? ELLIPSIS : "", shown,
                  used < size ? ELLIPSIS : "");
}

static void
print_caret(const struct config *config, const struct config_fault *fault, FILE *stream)
{
    size_t size = 0;
    const char *text = line_at(config, fault->line, &size);
    size_t skipped = columns_skipped(fault);
    size_t first = fault->column - 1;
    size_t left = LINE_SHOWN_MAX - (first - skipped);
    size_t marked = fault->width < left ? fault->width : left;
    size = text != NULL ? size : 0;
    unsigned carets = width_of(text, size, first, marked);
    (void)fprintf(stream, "      | %s%*s", skipped > 0 ? "   " : "",
                  (int)width_of(text, size, skipped, first - skipped), "");
    for (unsigned i = 0; i < carets || i == 0; i++) {
        (void)fputc('^', stream);
    }
    (void)fprintf(stream, "%s%s\n", fault->hint[0] != '\0' ? " " : "", fault->hint);
}

static void
print_place(const struct config *config, const struct config_fault *fault, FILE *stream)
{
    char name[PATH_SIZE_MAX];
    (void)snprintf(name, sizeof(name), "%s", config->name);
    text_make_printable(name, '?');
    (void)fprintf(stream, "%s:%u:%u: %s %s: %s\n", name, fault->line, fault->column,
                  fault->warning ? "warning" : "error", fault->code, fault->message);
}

void config_print_fault(const struct config *config,
                        const struct config_fault *fault,
                        FILE *stream)
{
    print_place(config, fault, stream);
    if (fault->line > 1) {
        print_line(config, fault->line - 1, 0, stream);
    }
    print_line(config, fault->line, columns_skipped(fault), stream);
    print_caret(config, fault, stream);
}

void config_print_each(const struct config *config, FILE *stream)
{
    unsigned found = config->error_count + config->warning_count;
    for (unsigned i = 0; i < config->fault_count; i++) {
        config_print_fault(config, &config->faults[i], stream);
    }
    if (found > config->fault_count) {
        (void)fprintf(stream, "%u more are not shown.\n", found - config->fault_count);
    }
}

void config_print_sum(unsigned errors, unsigned warnings, FILE *stream)
{
    if (errors + warnings > 0) {
        (void)fprintf(stream, "%u error%s, %u warning%s.%s\n", errors, plural_s(errors),
                      warnings, plural_s(warnings),
                      errors > 0 ? " Nothing was changed." : "");
    }
}
