/* JSON documents: jansson with the house's limits and error texts.
 *
 * json_t is jansson's; ownership follows its rules (reference counts). Rooms that build
 * or read documents include this header and use jansson through it. Errors:
 * BERTH_EINVALID with line and column. Limits: JSON_SIZE_MAX, depth by jansson (2048).
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

#include <stddef.h>
#include <stdint.h>

#define JSON_SIZE_MAX (4u << 20)

/* Parses size bytes; duplicate keys and trailing text are refused. A new reference. */
int json_parse(const char *text, size_t size, json_t **ret_document, struct err *err);
/* Compact text, keys in insertion order; caller frees; NULL when out of memory. */
char *json_text(const json_t *document);
/* Indented by 2, for people. */
char *json_text_pretty(const json_t *document);
/* Member of an object as text, or fallback when it is missing or another type. Borrowed.
 */
const char *json_member_text(const json_t *object, const char *key, const char *fallback);
/* Member as non-negative integer, or fallback. */
uint64_t json_member_u64(const json_t *object, const char *key, uint64_t fallback);
