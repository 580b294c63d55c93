#include "base/utf8.h"

#include <stdbool.h>

size_t utf8_character_size(const char *text, size_t left)
{
    const unsigned char *byte = (const unsigned char *)text;
    if (left == 0) {
        return 0;
    }
    size_t size = byte[0] < 0x80                       ? 1
                  : byte[0] >= 0xc2 && byte[0] <= 0xdf ? 2
                  : byte[0] >= 0xe0 && byte[0] <= 0xef ? 3
                  : byte[0] >= 0xf0 && byte[0] <= 0xf4 ? 4
                                                       : 0;
    if (size <= 1) {
        return size;
    }
    for (size_t i = 1; i < size; i++) {
        if (i >= left || (byte[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong =
        (byte[0] == 0xe0 && byte[1] < 0xa0) || (byte[0] == 0xf0 && byte[1] < 0x90);
    bool outside =
        (byte[0] == 0xed && byte[1] > 0x9f) || (byte[0] == 0xf4 && byte[1] > 0x8f);
    return overlong || outside ? 0 : size;
}
