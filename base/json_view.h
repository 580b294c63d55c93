/* A JSON document that is only read: all of it in one piece of memory.
 *
 * Shapes: json_view_parse makes a struct json_view; its values are walked with
 * json_value_first and json_value_next, in the order of the text, or asked for by name.
 * A tree of jansson's costs an allocation or two for each of them, which is most of what
 * reading a small document takes. What is taken, and what a fault is told with, is what
 * json_parse takes and says. Ownership: values and texts live as long as the view.
 * Threads: pure. Errors: as json_parse. Limits: as json_parse.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum json_value_type {
    JSON_VALUE_MISSING = 0, /* of NULL */
    JSON_VALUE_OBJECT,
    JSON_VALUE_ARRAY,
    JSON_VALUE_TEXT,
    JSON_VALUE_INTEGER,
    JSON_VALUE_REAL,
    JSON_VALUE_TRUE,
    JSON_VALUE_FALSE,
    JSON_VALUE_NULL,
};

struct json_view;
struct json_value;

/* Parses size bytes (borrowed for the call): an object or an array, without keys that
 * come twice and without text behind. */
int json_view_parse(const char *text,
                    size_t size,
                    struct json_view **ret_view,
                    struct err *err);
/* Accepts NULL; returns NULL. */
struct json_view *json_view_free(struct json_view *view);
/* NULL of NULL. */
const struct json_value *json_view_root(const struct json_view *view);

/* All below but next and key take NULL, which is a value that is missing. */
enum json_value_type json_value_type(const struct json_value *value);
bool json_value_is_bool(const struct json_value *value);
/* NULL when it is none; no NUL is inside. */
const char *json_value_text(const struct json_value *value);
/* 0 when it is none. */
int64_t json_value_integer(const struct json_value *value);
double json_value_real(const struct json_value *value);
/* Of an object or array, else 0. */
size_t json_value_count(const struct json_value *value);
/* The first inside, and the next beside; NULL at the end. */
const struct json_value *json_value_first(const struct json_value *value);
const struct json_value *json_value_next(const struct json_value *value);
/* Its name in the object that it is in; NULL in an array. */
const char *json_value_key(const struct json_value *value);
/* Of an object, by name; NULL when there is none. */
const struct json_value *json_value_member(const struct json_value *value,
                                           const char *key);
/* Likewise as text, or fallback when it is missing or another type. */
const char *json_value_member_text(const struct json_value *value,
                                   const char *key,
                                   const char *fallback);
