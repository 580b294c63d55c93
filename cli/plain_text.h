/* Text of others on the user's terminal: what a guest writes must not move the cursor,
 * answer for the user or hide what was said.
 *
 * Shapes: bytes, changed in place. Threads: any. Errors: none. Limits: none; a control
 * sequence that is cut off by the end goes with it. Sequences as in ECMA-48: ESC with one
 * more byte, CSI up to its final byte, and the strings (OSC, DCS, SOS, PM, APC) up to BEL
 * or ST.
 */
#pragma once

#include <stddef.h>

/* Takes control sequences, control characters (C1 among them, as UTF-8 or as a byte) and
 * what is no UTF-8 out of the text, newlines and tabs excepted; the new size. Borrows
 * text for the call. */
size_t plain_text(char *text, size_t size);
/* The same of a text of one line, which newlines and tabs must not break; returns it. */
char *plain_line(char *text);
