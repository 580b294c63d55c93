#include "cli/text_table.h"

#include "base/cleanup.h"
#include "base/parse_number.h"
#include "base/require.h"
#include "cli/plain_text.h"

#include <libsmartcols/libsmartcols.h>

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <wchar.h>

#define GAP           "  "
#define ELLIPSIS      "..."
#define WIDTH_DEFAULT 80 /* of a terminal that does not say */
#define WIDTH_LEAST   8  /* a column is not cut to less */
#define WIDTH_FREE    24 /* nor free text, while a column can be spared */

struct column {
    struct libscols_column *library; /* borrowed */
    const char *title;               /* likewise */
    unsigned flags;
    size_t width;
};

struct text_table {
    struct cli *cli;
    struct libscols_table *table;
    struct libscols_line *line; /* borrowed: the row being filled */
    struct column columns[TABLE_COLUMNS_MAX];
    unsigned column_count;
    unsigned column; /* of the next cell */
    bool failed;
};

struct text_table *text_table_new(struct cli *cli)
{
    struct text_table *table = calloc(1, sizeof(*table));
    if (table == NULL || (table->table = scols_new_table()) == NULL) {
        free(table);
        return NULL;
    }
    table->cli = cli;
    scols_table_set_stream(table->table, cli->out);
    scols_table_enable_colors(table->table, text_colored(cli) ? 1 : 0);
    scols_table_enable_minout(table->table, 1); /* no blanks at the end of lines */
    scols_table_set_column_separator(table->table, GAP);
    scols_table_set_termforce(table->table, SCOLS_TERMFORCE_NEVER); /* fitted here */
    return table;
}

struct text_table *text_table_free(struct text_table *table)
{
    if (table != NULL) {
        scols_unref_table(table->table);
        free(table);
    }
    return NULL;
}

void text_table_column(struct text_table *table, const char *title, unsigned flags)
{
    int right = (flags & COLUMN_RIGHT) != 0 ? SCOLS_FL_RIGHT : 0;
    REQUIRE(table->column_count < TABLE_COLUMNS_MAX);
    struct column *column = &table->columns[table->column_count++];
    *column =
        (struct column){.library = scols_table_new_column(table->table, title, 0, right),
                        .title = title,
                        .flags = flags};
    table->failed = table->failed || column->library == NULL;
}

void text_table_row(struct text_table *table)
{
    table->line = scols_table_new_line(table->table, NULL);
    table->column = 0;
    table->failed = table->failed || table->line == NULL;
}

void text_table_cell(struct text_table *table, const char *text, const char *color)
{
    if (table->failed) {
        return;
    }
    struct libscols_cell *cell = scols_line_get_cell(table->line, table->column);
    CLEANUP_FREE char *plain = strdup(text);
    table->column++;
    if (cell == NULL || plain == NULL ||
        scols_cell_set_data(cell, plain_line(plain)) < 0 || /* copies it */
        (color != NULL && scols_cell_set_color(cell, color) < 0)) {
        table->failed = true;
    }
}

unsigned text_table_rows(const struct text_table *table)
{
    return (unsigned)scols_table_get_nlines(table->table);
}

/* ---- fitting a terminal ---- */

static size_t terminal_width(const struct cli *cli)
{
    struct winsize size = {0};
    const char *told = getenv("COLUMNS"); // NOLINT(concurrency-mt-unsafe): one thread
    uint64_t width = 0;
    if (ioctl(fileno(cli->out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return told != NULL && parse_u64(told, &width, NULL) == 0 && width > 0 &&
                   width < 10000
               ? (size_t)width
               : WIDTH_DEFAULT;
}

/* As the library writes it: each byte of what the locale cannot print as \xNN. */
static size_t text_width(const char *text)
{
    mbstate_t state = {0};
    const char *end = text + strlen(text);
    size_t width = 0;
    while (text < end) {
        wchar_t character = 0;
        size_t size = mbrtowc(&character, text, (size_t)(end - text), &state);
        if (size == 0 || size > (size_t)(end - text)) { /* or no character: negative */
            state = (mbstate_t){0};
            size = 1;
            character = L'\0';
        }
        int columns = character != L'\0' ? wcwidth(character) : -1;
        width += columns >= 0 ? (size_t)columns : size * strlen("\\xNN");
        text += size;
    }
    return width;
}

/* Where the last character of text[0..at) begins. */
static size_t character_start(const char *text, size_t at)
{
    do {
        at--;
    } while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

static const char *cell_text(const struct text_table *table, size_t row, unsigned column)
{
    struct libscols_line *line = scols_table_get_line(table->table, row);
    struct libscols_cell *cell = line != NULL ? scols_line_get_cell(line, column) : NULL;
    const char *text = cell != NULL ? scols_cell_get_data(cell) : NULL;
    return text != NULL ? text : "";
}

static void columns_measure(struct text_table *table)
{
    for (unsigned i = 0; i < table->column_count; i++) {
        struct column *column = &table->columns[i];
        column->width = text_width(column->title);
        for (unsigned row = 0; row < text_table_rows(table); row++) {
            size_t width = text_width(cell_text(table, row, i));
            column->width = width > column->width ? width : column->width;
        }
    }
}

/* How much too wide the rows are. */
static size_t columns_excess(const struct text_table *table, size_t room)
{
    size_t sum = 0;
    for (unsigned i = 0; i < table->column_count; i++) {
        size_t width = table->columns[i].width;
        sum += width > 0 ? width + (sum > 0 ? strlen(GAP) : 0) : 0;
    }
    return sum > room ? sum - room : 0;
}

/* Takes from the widest of the columns with the flag (0: of all), a character at a time,
 * until the rows fit or all are at their least. */
static void
columns_narrow(struct text_table *table, unsigned flag, size_t least, size_t room)
{
    for (size_t excess = columns_excess(table, room); excess > 0; excess--) {
        struct column *widest = NULL;
        for (unsigned i = 0; i < table->column_count; i++) {
            struct column *column = &table->columns[i];
            if ((flag == 0 || (column->flags & flag) != 0) && column->width > least &&
                (widest == NULL || column->width > widest->width)) {
                widest = column;
            }
        }
        if (widest == NULL) {
            return;
        }
        widest->width--;
    }
}

static void columns_spare(struct text_table *table, size_t room)
{
    char names[256] = "";
    for (unsigned i = 0; i < table->column_count && columns_excess(table, room) > 0;
         i++) {
        struct column *column = &table->columns[i];
        if ((column->flags & COLUMN_SPARE) != 0) {
            size_t used = strlen(names);
            (void)snprintf(names + used, sizeof(names) - used, "%s%s",
                           used > 0 ? ", " : "", column->title);
            column->width = 0;
            (void)scols_column_set_flags(column->library, SCOLS_FL_HIDDEN);
        }
    }
    if (names[0] != '\0') {
        cli_note(table->cli, "the terminal is too narrow for %s (-o wide has all)",
                 names);
    }
}

static int cell_cut(struct text_table *table, size_t row, unsigned column)
{
    const char *text = cell_text(table, row, column);
    size_t width = table->columns[column].width;
    if (width == 0 || text_width(text) <= width) {
        return 0;
    }
    CLEANUP_FREE char *cut = strdup(text);
    if (cut == NULL) {
        return -ENOMEM;
    }
    size_t at = strlen(cut);
    while (at > 0 && text_width(cut) + strlen(ELLIPSIS) > width) {
        at = character_start(cut, at);
        cut[at] = '\0';
    }
    while (at > 0 && cut[at - 1] == ' ') {
        cut[--at] = '\0'; /* a blank before "..." */
    }
    struct libscols_line *line = scols_table_get_line(table->table, row);
    CLEANUP_FREE char *whole = NULL;
    return asprintf(&whole, "%s" ELLIPSIS, cut) < 0 ||
                   scols_line_set_data(line, column, whole) < 0
               ? -ENOMEM
               : 0;
}

static int table_fit(struct text_table *table)
{
    size_t room = terminal_width(table->cli);
    int r = 0;
    columns_measure(table);
    columns_narrow(table, COLUMN_CUT, WIDTH_FREE, room);
    if (table->cli->format != FORMAT_WIDE) {
        columns_spare(table, room);
    }
    columns_narrow(table, COLUMN_CUT, WIDTH_LEAST, room);
    columns_narrow(table, 0, WIDTH_LEAST, room);
    for (unsigned row = 0; row < text_table_rows(table); row++) {
        for (unsigned i = 0; i < table->column_count && r == 0; i++) {
            r = cell_cut(table, row, i);
        }
    }
    return r;
}

int text_table_print(struct text_table *table)
{
    table->failed = table->failed || (table->cli->out_tty && table_fit(table) < 0);
    (void)fflush(table->cli->out);
    return table->failed || scols_print_table(table->table) < 0 ? -ENOMEM : 0;
}

bool text_colored(const struct cli *cli)
{
    return cli->out_tty && !cli->no_color;
}

const char *text_color(const char *word)
{
    static const struct {
        const char *word;
        const char *color;
    } rows[] = {
        {"ready", "green"},      {"here", "green"},       {"fits", "green"},
        {"done", "green"},       {"failed", "red"},       {"lost", "red"},
        {"no", "red"},           {"suspect", "yellow"},   {"pending", "yellow"},
        {"placed", "yellow"},    {"starting", "yellow"},  {"stopping", "yellow"},
        {"migrating", "yellow"}, {"stopped", "darkgray"}, {"removed", "darkgray"},
    };
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        if (strcmp(rows[i].word, word) == 0) {
            return rows[i].color;
        }
    }
    return NULL;
}
