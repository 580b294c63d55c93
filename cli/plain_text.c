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

/* Bytes of the character above ASCII at `at`, 0 for what is no UTF-8: a terminal that
 * reads bytes takes 80 to 9F for C1 controls. */
static size_t character_size(const char *text, size_t size, size_t at)
{
    unsigned char first = (unsigned char)text[at];
    size_t wanted = first < 0xc2   ? 0
                    : first < 0xe0 ? 2
                    : first < 0xf0 ? 3
                    : first < 0xf5 ? 4
                                   : 0;
    if (wanted > size - at) {
        return 0;
    }
    for (size_t i = 1; i < wanted; i++) {
        if (((unsigned char)text[at + i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return wanted;
}

/* C1 controls are two bytes in UTF-8: C2 80 to C2 9F. */
static bool is_c1(const char *text, size_t at)
{
    return (unsigned char)text[at] == 0xc2 && (unsigned char)text[at + 1] <= 0x9f;
}

/* The character above ASCII at *at, kept when it is no control. */
static size_t take_character(char *text, size_t size, size_t kept, size_t *at)
{
    size_t count = character_size(text, size, *at);
    if (count == 0) {
        (*at)++;
        return kept;
    }
    if (!is_c1(text, *at)) {
        memmove(text + kept, text + *at, count);
        kept += count;
    }
    *at += count;
    return kept;
}

size_t plain_text(char *text, size_t size)
{
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
        unsigned char byte = (unsigned char)text[at];
        if (byte == ESC) {
            at = sequence_end(text, size, at);
        } else if (byte >= 0x80) {
            kept = take_character(text, size, kept, &at);
        } else {
            if ((byte >= 0x20 && byte != 0x7f) || byte == '\n' || byte == '\t') {
                text[kept++] = text[at];
            }
            at++;
        }
    }
    return kept;
}

char *plain_line(char *text)
{
    text[plain_text(text, strlen(text))] = '\0';
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\n' || *at == '\t' ? ' ' : *at;
    }
    return text;
}
