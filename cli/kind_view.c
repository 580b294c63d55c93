#include "cli/kind_view.h"

#include "base/require.h"

#include <string.h>

/* Adds the paths of a column that are not there yet; false when there is no room. */
static bool fields_add(char *fields, size_t capacity, const char *paths)
{
    while (*paths != '\0') {
        size_t size = strcspn(paths, ",");
        size_t used = strlen(fields);
        bool there = false;
        for (const char *at = fields; *at != '\0';) {
            size_t length = strcspn(at, ",");
            there = there || (length == size && strncmp(at, paths, size) == 0);
            at += length + (at[length] == ',' ? 1 : 0);
        }
        if (!there) {
            int wrote = snprintf(fields + used, capacity - used, "%s%.*s",
                                 used > 0 ? "," : "", (int)size, paths);
            if (wrote < 0 || (size_t)wrote >= capacity - used) {
                return false;
            }
        }
        paths += size + (paths[size] == ',' ? 1 : 0);
    }
    return true;
}

void kind_view_fields(const struct cli *cli,
                      const struct kind_info *info,
                      char ret_fields[VIEW_FIELDS_SIZE])
{
    const struct view_column *columns[VIEW_COLUMNS_MAX];
    unsigned count = kind_view_select(cli, info, columns);
    bool fits = true;
    ret_fields[0] = '\0';
    for (unsigned i = 0; i < count && fits; i++) {
        fits = fields_add(ret_fields, VIEW_FIELDS_SIZE, columns[i]->fields);
    }
    REQUIRE(fits); /* our own tables are shorter */
}

unsigned kind_view_select(const struct cli *cli,
                          const struct kind_info *info,
                          const struct view_column *ret_columns[VIEW_COLUMNS_MAX])
{
    unsigned count = 0;
    for (const struct view_column *column = kind_columns(info->kind);
         column->title != NULL; column++) {
        bool said = kind_column_is_tenant(column) && cli->tenant != NULL;
        if (!said && (!column->wide || cli->format == FORMAT_WIDE)) {
            ret_columns[count++] = column;
        }
    }
    return count;
}

static void
cell_add(struct text_table *table, const struct view_column *column, char *cell)
{
    for (char *c = cell; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ') {
            *c = ' '; /* a row stays one row */
        }
    }
    text_table_cell(table, cell, column->colored ? text_color(cell) : NULL);
}

int kind_view_print(struct cli *cli,
                    const struct kind_info *info,
                    const json_t *items,
                    const struct view_time *time)
{
    const struct view_column *columns[VIEW_COLUMNS_MAX];
    char cell[CELL_SIZE];
    unsigned count = kind_view_select(cli, info, columns);
    struct text_table *table = text_table_new(cli);
    size_t index;
    json_t *item;
    if (table == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < count; i++) {
        text_table_column(table, columns[i]->title, columns[i]->flags);
    }
    json_array_foreach(items, index, item)
    {
        text_table_row(table);
        for (unsigned i = 0; i < count; i++) {
            columns[i]->print(item, time, cell);
            cell_add(table, columns[i], cell);
        }
    }
    int r = text_table_print(table);
    text_table_free(table);
    return r < 0 ? cli_fail(cli, EXIT_FAILED, "out of memory") : EXIT_OK;
}
