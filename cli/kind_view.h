/* What `berth ls` shows of each kind: one table of columns per kind.
 *
 * Shapes: a view is a list of columns; each column prints its cell from an object's JSON
 * document, knowing that fields at their default are left out, and names what it reads,
 * so that a list asks for no more. Views answer to the API's documents alone. Threads:
 * pure.
 */
#pragma once

#include "cli/cli.h"
#include "cli/remote.h"
#include "cli/text_table.h"
#include "model/objects.h"

#define CELL_SIZE        256
#define VIEW_COLUMNS_MAX 20
#define VIEW_FIELDS_SIZE REMOTE_FIELDS_SIZE

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
const struct view_column *kind_view(enum kind kind);
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

/* Fields of documents with their defaults. */
const char *view_phase(const json_t *object, enum kind kind);
const json_t *view_meta(const json_t *object);
const json_t *view_spec(const json_t *object);
const json_t *view_status(const json_t *object);
const char *view_name(const json_t *object);
const char *view_tenant(const json_t *object);
/* Address of a VM's first NIC, or "". */
const char *view_vm_address(const json_t *vm);
/* A size member: bytes as a number, or a text with a unit; 0 when it is missing. */
uint64_t view_bytes(const json_t *object, const char *key);
