/* Tables as people read them: libsmartcols behind five calls.
 *
 * Shapes: a table has titled columns and rows of texts; cells may be coloured by a word's
 * meaning (text_color). On a terminal a row is one line: what is wider than it is cut,
 * with "..." for what is not shown. Free text gives way first; then columns that can be
 * spared are left out, from the left (a note says which; not with -o wide, which asked
 * for them); then the widest columns give way. Elsewhere nothing is cut and nothing is
 * coloured. Ownership: texts are copied. Threads: one. Limits: TABLE_COLUMNS_MAX.
 */
#pragma once

#include "cli/cli.h"

#define TABLE_COLUMNS_MAX 24 /* more than any kind has */

enum text_table_flag {
    COLUMN_RIGHT = 1, /* numbers */
    COLUMN_CUT = 2,   /* free text: gives way first */
    COLUMN_SPARE = 4, /* left out where there is no room */
};

struct text_table;
/* NULL when out of memory. */
struct text_table *text_table_new(struct cli *cli);
struct text_table *text_table_free(struct text_table *table);
void text_table_column(struct text_table *table, const char *title, unsigned flags);
/* Begins a row. */
void text_table_row(struct text_table *table);
/* The next cell of the row; color may be NULL ("green"). */
void text_table_cell(struct text_table *table, const char *text, const char *color);
unsigned text_table_rows(const struct text_table *table);
/* Prints to cli->out; -ENOMEM when the library could not. */
int text_table_print(struct text_table *table);
/* Whether the output takes colours. */
bool text_colored(const struct cli *cli);
/* The colour of a phase or verdict, NULL for the plain one. */
const char *text_color(const char *word);
