/* Assertions for our own mistakes, kept in release builds.
 *
 * REQUIRE states what must hold; a failure logs the condition with its place and aborts.
 * Data from a guest, wire, disk, YAML or HTTP is never asserted: it is decoded with
 * base/bytes.h and refused.
 */
#pragma once

/* Prints the failed condition to stderr and aborts. */
_Noreturn void require_failed(const char *condition, const char *file, int line);

#define REQUIRE(condition) \
    ((condition) ? (void)0 : require_failed(#condition, __FILE__, __LINE__))

/* a implies b. */
#define REQUIRE_IF(a, b) REQUIRE(!(a) || (b))
