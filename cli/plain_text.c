#include "cli/plain_text.h"

#include <stdbool.h>
#include <string.h>

#define ESC '\x1b'
#define BEL '\x07'

static bool begins_string(char byte)
{
    return byte != '\0' && strchr("]PX^_", byte) != NULL; /* OSC DCS SOS PM APC */
}

/* Behind a string: BEL or ESC \ end it. */
static size_t string_end(const char *text, size_t size, size_t at)
{
    for (; at < size; at++) {
        if (text[at] == BEL) {
            return at + 1;
        }
        if (text[at] == ESC) {
            return at + 1 < size && text[at + 1] == '\\' ? at + 2 : at;
        }
    }
    return size;
}

/* Behind the sequence that ESC at `at` begins. */
static size_t sequence_end(const char *text, size_t size, size_t at)
{
    at++;
    if (at >= size) {
        return size;
    }
    if (begins_string(text[at])) {
        return string_end(text, size, at + 1);
    }
    if (text[at] != '[') {
        return text[at] == ESC ? at : at + 1;
    }
    for (at++; at < size; at++) {
        if (text[at] >= 0x40 && text[at] <= 0x7e) { /* a final byte */
            return at + 1;
        }
        if (text[at] < 0x20) {
            return at; /* broken off: what is there speaks for itself */
        }
    }
    return size;
}

/* C1 controls are two bytes in UTF-8: C2 80 to C2 9F. */
static bool is_c1(const char *text, size_t size, size_t at)
{
    return (unsigned char)text[at] == 0xc2 && at + 1 < size &&
           (unsigned char)text[at + 1] >= 0x80 && (unsigned char)text[at + 1] <= 0x9f;
}

size_t plain_text(char *text, size_t size)
{
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
        unsigned char byte = (unsigned char)text[at];
        if (byte == ESC) {
            at = sequence_end(text, size, at);
        } else if (is_c1(text, size, at)) {
            at += 2;
        } else {
            if ((byte >= 0x20 && byte != 0x7f) || byte == '\n' || byte == '\t') {
                text[kept++] = text[at];
            }
            at++;
        }
    }
    return kept;
}
