/* A JSON document as YAML text, for people: block style, keys in the document's order.
 *
 * Texts that YAML would read as something else are quoted. Caller frees; NULL when out of
 * memory.
 */
#pragma once

#include "base/json.h"

char *yaml_emit(const json_t *document);
