/* What is a character of UTF-8 (RFC 3629) and what is not.
 *
 * Threads: pure. Errors: none.
 */
#pragma once

#include <stddef.h>

/* Bytes of the character that begins the `left` bytes, 0: none does. NUL is one. */
size_t utf8_character_size(const char *text, size_t left);
