/* Whether a view and a tree of jansson's hold the same document, in the same order. */
#pragma once

#include "base/json.h"
#include "base/json_view.h"

#include <stdbool.h>
#include <string.h>

static inline bool json_same(const struct json_value *value, const json_t *tree);

static inline bool json_same_members(const struct json_value *value, const json_t *tree)
{
    json_t *walked = (json_t *)(uintptr_t)tree;
    void *walk = json_object_iter(walked);
    bool same = json_value_count(value) == json_object_size(tree);
    const struct json_value *at = json_value_first(value);
    for (; same && at != NULL && walk != NULL; at = json_value_next(at)) {
        same = strcmp(json_value_key(at), json_object_iter_key(walk)) == 0 &&
               json_value_member(value, json_value_key(at)) == at &&
               json_same(at, json_object_iter_value(walk));
        walk = json_object_iter_next(walked, walk);
    }
    return same && at == NULL && walk == NULL;
}

static inline bool json_same_items(const struct json_value *value, const json_t *tree)
{
    bool same = json_value_count(value) == json_array_size(tree);
    const struct json_value *at = json_value_first(value);
    size_t i = 0;
    for (; same && at != NULL; at = json_value_next(at)) {
        same = json_value_key(at) == NULL && json_same(at, json_array_get(tree, i++));
    }
    return same && i == json_array_size(tree);
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as jansson itself goes */
static inline bool json_same(const struct json_value *value, const json_t *tree)
{
    switch (json_value_type(value)) {
    case JSON_VALUE_OBJECT:
        return json_is_object(tree) && json_same_members(value, tree);
    case JSON_VALUE_ARRAY:
        return json_is_array(tree) && json_same_items(value, tree);
    case JSON_VALUE_TEXT:
        return json_is_string(tree) &&
               json_string_length(tree) == strlen(json_value_text(value)) &&
               strcmp(json_value_text(value), json_string_value(tree)) == 0;
    case JSON_VALUE_INTEGER:
        return json_is_integer(tree) &&
               json_integer_value(tree) == json_value_integer(value);
    case JSON_VALUE_REAL: {
        double real = json_value_real(value);
        double other = json_real_value(tree);
        return json_is_real(tree) && memcmp(&real, &other, sizeof(real)) == 0;
    }
    case JSON_VALUE_TRUE:
        return json_is_true(tree);
    case JSON_VALUE_FALSE:
        return json_is_false(tree);
    case JSON_VALUE_NULL:
        return json_is_null(tree);
    default:
        return false;
    }
}
