/* The columns of each kind: what `berth ls` may show of it, in one table a kind.
 *
 * Shapes: each column prints its cell from an object's JSON document, knowing that fields
 * at their default are left out, and names what it reads, so that a list asks for no
 * more. Which are chosen, and how they are printed, is kind_view.h's. Threads: pure.
 */
#pragma once

#include "base/json.h"
#include "cli/text_table.h"
#include "model/objects.h"

#include <stdbool.h>
#include <stdint.h>

#define CELL_SIZE        256
#define VIEW_COLUMNS_MAX 20

struct view_time {
    uint64_t now_wall_ms; /* ages count from here */
};

struct view_column {
    const char *title;
    unsigned flags; /* enum text_table_flag */
    bool wide;      /* with -o wide only */
    bool colored;   /* by its own word */
    /* What of the document it reads, as the API's `fields` wants it. */
    const char *fields;
    void (*print)(const json_t *object, const struct view_time *time, char *ret_cell);
};

/* The columns of a kind in order, ended by a NULL title. */
const struct view_column *kind_columns(enum kind kind);
/* Whether it says whose an object is. */
bool kind_column_is_tenant(const struct view_column *column);
