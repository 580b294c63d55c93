/* Faults as people read them: place, code, sentence, the line with a caret, a hint. */
#include "config/config.h"

#include <string.h>

#define LINE_MAX_SHOWN 120

static const char *line_at(const char *text, unsigned line, size_t *ret_size)
{
    for (unsigned i = 1; i < line && text != NULL; i++) {
        text = strchr(text, '\n');
        text = text != NULL ? text + 1 : NULL;
    }
    if (text == NULL || *text == '\0') {
        return NULL;
    }
    *ret_size = strcspn(text, "\r\n");
    return text;
}

/* Control characters of the file must not reach a terminal. */
static void put_line(const char *text, size_t size, FILE *stream)
{
    for (size_t i = 0; i < size && i < LINE_MAX_SHOWN; i++) {
        unsigned char c = (unsigned char)text[i];
        (void)fputc(c < 0x20 || c == 0x7f ? ' ' : c, stream);
    }
    (void)fputs(size > LINE_MAX_SHOWN ? "...\n" : "\n", stream);
}

static void print_line(const struct config *config, unsigned line, FILE *stream)
{
    size_t size = 0;
    const char *text = line_at(config->text, line, &size);
    if (text != NULL) {
        (void)fprintf(stream, "%5u | ", line);
        put_line(text, size, stream);
    }
}

static void print_caret(const struct config_fault *fault, FILE *stream)
{
    unsigned width = fault->width;
    if (fault->column > LINE_MAX_SHOWN) {
        return;
    }
    (void)fprintf(stream, "      | %*s", (int)(fault->column - 1), "");
    for (unsigned i = 0; i < width && fault->column + i <= LINE_MAX_SHOWN; i++) {
        (void)fputc('^', stream);
    }
    (void)fprintf(stream, "%s%s\n", fault->hint[0] != '\0' ? " " : "", fault->hint);
}

void config_print_faults(const struct config *config, FILE *stream)
{
    unsigned warnings = 0;
    for (unsigned i = 0; i < config->fault_count; i++) {
        const struct config_fault *fault = &config->faults[i];
        warnings += fault->warning ? 1U : 0U;
        (void)fprintf(stream, "%s:%u:%u: %s %s: %s\n", config->name, fault->line,
                      fault->column, fault->warning ? "warning" : "error", fault->code,
                      fault->message);
        if (fault->line > 1) {
            print_line(config, fault->line - 1, stream);
        }
        print_line(config, fault->line, stream);
        print_caret(fault, stream);
    }
    if (config->fault_count > 0) {
        (void)fprintf(stream, "%u error%s, %u warning%s.%s\n", config->error_count,
                      config->error_count == 1 ? "" : "s", warnings,
                      warnings == 1 ? "" : "s",
                      config->error_count > 0 ? " Nothing was changed." : "");
    }
}
