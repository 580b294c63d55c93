/* What `berth ls` shows of objects: the columns of their kind that were asked for, as a
 * table.
 *
 * Shapes: columns are kind_columns.h's, the fields of documents view_fields.h's. Views
 * answer to the API's documents alone. Threads: pure, but for kind_view_print, which
 * writes to the invocation's output.
 */
#pragma once

#include "cli/cli.h"
#include "cli/kind_columns.h"
#include "cli/remote.h"
#include "cli/view_fields.h"

#define VIEW_FIELDS_SIZE REMOTE_FIELDS_SIZE

/* The columns that this invocation shows (the tenant's when no -t says it). */
unsigned kind_view_select(const struct cli *cli,
                          const struct kind_info *info,
                          const struct view_column *ret_columns[VIEW_COLUMNS_MAX]);
/* What those columns read of the documents: the value of a list's `fields`. */
void kind_view_fields(const struct cli *cli,
                      const struct kind_info *info,
                      char ret_fields[VIEW_FIELDS_SIZE]);
/* Prints the objects as a table. */
int kind_view_print(struct cli *cli,
                    const struct kind_info *info,
                    const json_t *items,
                    const struct view_time *time);
