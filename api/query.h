/* The query of a URL, taken apart: "tenant=shop&label=app%3Dweb".
 *
 * Shapes: struct query owns a decoded copy and points into it. `+` is a space. Threads:
 * pure. Errors: BERTH_EINVALID with text (bad %XX, NUL, too many, unknown name). Limits:
 * QUERY_ITEMS_MAX.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define QUERY_ITEMS_MAX 32

struct query_item {
    const char *name;
    const char *value; /* "" when there is no '=' */
};

struct query {
    char *text; /* owned */
    struct query_item items[QUERY_ITEMS_MAX];
    unsigned count;
};

int query_parse(const char *text, struct query *ret_query, struct err *err);
void query_fini(struct query *query);
/* The first value of that name, or NULL. */
const char *query_get(const struct query *query, const char *name);
/* "true", "1" or nothing behind the name. */
bool query_flag(const struct query *query, const char *name);
/* A number, or fallback when the name is not there. */
int query_u64(const struct query *query,
              const char *name,
              uint64_t fallback,
              uint64_t *ret_value,
              struct err *err);
/* Refuses names that are not among `known` (with blanks between; NULL: none), so that a
 * typing error is not ignored. */
int query_check(const struct query *query, const char *known, struct err *err);
