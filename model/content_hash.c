#include "model/content_hash.h"

#include <endian.h>
#include <string.h>

/* Odd constants with about as many ones as zeros: digits of pi. */
#define KEY_WORD UINT64_C(0x243f6a8885a308d3)
#define KEY_FOLD UINT64_C(0x13198a2e03707345)
#define KEY_TAIL UINT64_C(0xa4093822299f31d1)
#define KEY_END  UINT64_C(0x082efa98ec4e6c89)

static uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Up to eight bytes, little endian on every machine. */
static uint64_t load(const uint8_t *bytes, size_t size)
{
    uint64_t word = 0;
    memcpy(&word, bytes, size);
    return le64toh(word);
}

uint64_t content_hash(uint64_t seed, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint64_t hash = fold(seed ^ KEY_WORD, KEY_FOLD) ^ seed;
    size_t left = size;
    for (; left >= 8; left -= 8, bytes += 8) {
        hash = fold(hash ^ load(bytes, 8) ^ KEY_WORD, KEY_FOLD) + KEY_TAIL;
    }
    if (left > 0) {
        hash = fold(hash ^ load(bytes, left) ^ KEY_TAIL, KEY_FOLD) + KEY_TAIL;
    }
    return fold(hash ^ (uint64_t)size, KEY_END) ^ hash;
}
