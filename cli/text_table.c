#include "cli/text_table.h"

#include "base/cleanup.h"
#include "cli/plain_text.h"

#include <libsmartcols/libsmartcols.h>

#include <errno.h>
#include <string.h>

struct text_table {
    const struct cli *cli;
    struct libscols_table *table;
    struct libscols_line *line; /* borrowed: the row being filled */
    unsigned columns;
    unsigned column; /* of the next cell */
    bool failed;
};

struct text_table *text_table_new(const struct cli *cli)
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
    scols_table_set_column_separator(table->table, "  ");
    scols_table_set_termforce(table->table, cli->out_tty ? SCOLS_TERMFORCE_AUTO
                                                         : SCOLS_TERMFORCE_NEVER);
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
    int library = (flags & COLUMN_RIGHT) != 0 ? SCOLS_FL_RIGHT : 0;
    if ((flags & COLUMN_CUT) != 0 && table->cli->out_tty) {
        library |= SCOLS_FL_TRUNC;
    }
    table->columns++;
    if (scols_table_new_column(table->table, title, 0, library) == NULL) {
        table->failed = true;
    }
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

int text_table_print(struct text_table *table)
{
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
