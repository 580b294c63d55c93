/* One scalar of a record as people write it: "128MiB", "10.0.0.0/24", "native".
 *
 * Shapes: the scalars are BOOL, U32, U64, ENUM, NAME, TEXT and DIGEST; the field's unit
 * says how a number is written (model/record.h). A number whose fallback is UNLIMITED is
 * written "unlimited" when it has that value. Shared by the JSON and YAML readers and by
 * all printers, so that there is one spelling. Ownership: a TEXT member's old value is
 * freed. Threads: pure. Errors: BERTH_EINVALID with what was expected, without the
 * field's name (the caller knows the path); -ENOMEM.
 */
#pragma once

#include "base/err.h"
#include "model/record.h"

/* Reads one scalar from its text into the (initialised) member, which keeps its value on
 * error. Ranges, lengths and units are checked; names by length only (object_check knows
 * their grammar). */
int field_parse(const struct field *field,
                const char *text,
                void *ret_member,
                struct err *err);
/* BERTH_EINVALID with the allowed range when a number or a length is out of the field's;
 * for texts `value` is the length. */
int field_check_range(const struct field *field, uint64_t value, struct err *err);
/* True when the value is the field's way of saying "no limit". */
bool field_is_unlimited(const struct field *field, uint64_t value);
/* The scalar's text as people write it into a fresh string (caller frees), NULL when out
 * of memory. */
char *field_format(const struct field *field, const void *member);
/* The same text appended to the writer; absent values write nothing. */
void field_write(const struct field *field,
                 const void *member,
                 struct bytes_writer *writer);
