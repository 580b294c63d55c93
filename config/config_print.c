/* Faults as people read them: place, code, sentence, the line with a caret, a hint. */
#include "config/yaml_reader.h"

#include <string.h>

#define LINE_SHOWN_MAX 120 /* columns; what stands further right is cut off */
#define LINE_SIZE_MAX  ((size_t)4 * LINE_SHOWN_MAX)

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

static void print_line(const struct config *config, unsigned line, FILE *stream)
{
    char shown[LINE_SIZE_MAX + 1];
    size_t size = 0;
    const char *text = line_at(config, line, &size);
    if (text == NULL) {
        return;
    }
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
    (void)fprintf(stream, "%5u | %s%s\n", line, shown, used < size ? "..." : "");
}

static void print_caret(const struct config_fault *fault, FILE *stream)
{
    if (fault->column > LINE_SHOWN_MAX) {
        if (fault->hint[0] != '\0') {
            (void)fprintf(stream, "      | %s\n", fault->hint);
        }
        return;
    }
    (void)fprintf(stream, "      | %*s", (int)(fault->column - 1), "");
    for (unsigned i = 0; i < fault->width && fault->column + i <= LINE_SHOWN_MAX; i++) {
        (void)fputc('^', stream);
    }
    (void)fprintf(stream, "%s%s\n", fault->hint[0] != '\0' ? " " : "", fault->hint);
}

static void
print_place(const struct config *config, const struct config_fault *fault, FILE *stream)
{
    for (const char *at = config->name; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        (void)fputc(byte < 0x20 || byte == 0x7f ? '?' : byte, stream);
    }
    (void)fprintf(stream, ":%u:%u: %s %s: %s\n", fault->line, fault->column,
                  fault->warning ? "warning" : "error", fault->code, fault->message);
}

static const char *plural(unsigned count)
{
    return count == 1 ? "" : "s";
}

void config_print_fault(const struct config *config,
                        const struct config_fault *fault,
                        FILE *stream)
{
    print_place(config, fault, stream);
    if (fault->line > 1) {
        print_line(config, fault->line - 1, stream);
    }
    print_line(config, fault->line, stream);
    print_caret(fault, stream);
}

void config_print_faults(const struct config *config, FILE *stream)
{
    unsigned found = config->error_count + config->warning_count;
    for (unsigned i = 0; i < config->fault_count; i++) {
        config_print_fault(config, &config->faults[i], stream);
    }
    if (found > config->fault_count) {
        (void)fprintf(stream, "%u more are not shown.\n", found - config->fault_count);
    }
    if (found > 0) {
        (void)fprintf(stream, "%u error%s, %u warning%s.%s\n", config->error_count,
                      plural(config->error_count), config->warning_count,
                      plural(config->warning_count),
                      config->error_count > 0 ? " Nothing was changed." : "");
    }
}
