/* Fields of the API's documents with their defaults, for whoever shows them.
 *
 * Shapes: what is at its default is left out of a document, and is read here as what it
 * is; a missing text is "", a missing part NULL, which every reader of JSON takes.
 * Threads: pure. Ownership: borrowed from the document.
 */
#pragma once

#include "base/json.h"
#include "model/objects.h"

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
