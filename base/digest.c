#include "base/digest.h"

#include "base/err.h"
#include "base/require.h"

#include <sodium.h>

#include <nettle/sha2.h>
#include <pthread.h>
#include <string.h>

#define CRC32C_POLYNOMIAL UINT32_C(0x82f63b78) /* Castagnoli, bits reversed */

_Static_assert(sizeof(struct sha256_ctx) <= sizeof(struct digest_stream),
               "the library's state fits the stream");
_Static_assert(SHA256_DIGEST_SIZE == DIGEST_SIZE, "a digest is a SHA-256");

/* Of nettle, for it uses the processor's instructions for it where there are some, and
 * libsodium does not. */
static struct sha256_ctx *state_of(struct digest_stream *stream)
{
    return (struct sha256_ctx *)(void *)stream->opaque;
}

void digest_start(struct digest_stream *stream)
{
    sha256_init(state_of(stream));
}

void digest_update(struct digest_stream *stream, const void *data, size_t size)
{
    if (size > 0) {
        sha256_update(state_of(stream), size, data);
    }
}

void digest_finish(struct digest_stream *stream, struct digest *ret_digest)
{
    sha256_digest(state_of(stream), DIGEST_SIZE, ret_digest->bytes);
}

void digest_of(const void *data, size_t size, struct digest *ret_digest)
{
    struct digest_stream stream;
    digest_start(&stream);
    digest_update(&stream, data, size);
    digest_finish(&stream, ret_digest);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    /* In constant time, for token hashes are compared with it too. */
    return sodium_memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

bool digest_is_zero(const struct digest *digest)
{
    return sodium_is_zero(digest->bytes, DIGEST_SIZE) == 1;
}

void digest_format(const struct digest *digest, char text[DIGEST_HEX_SIZE])
{
    hex_format(digest->bytes, DIGEST_SIZE, text);
}

int digest_parse(const char *text, struct digest *ret_digest)
{
    return hex_parse(text, ret_digest->bytes, DIGEST_SIZE);
}

static uint32_t crc_table[256];

static void crc_table_fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (unsigned bit = 0; bit < 8; bit++) {
            value = (value >> 1) ^ ((value & 1) != 0 ? CRC32C_POLYNOMIAL : 0);
        }
        crc_table[i] = value;
    }
}

static uint32_t crc_by_table(uint32_t crc, const uint8_t *data, size_t size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    REQUIRE(pthread_once(&once, crc_table_fill) == 0);
    for (size_t i = 0; i < size; i++) {
        crc = (crc >> 8) ^ crc_table[(crc ^ data[i]) & 0xff];
    }
    return crc;
}

#if defined(__x86_64__)
/* The processor begins a CRC of eight bytes each cycle and is three cycles at it: three
 * lanes side by side take no longer than one. A lane's CRC as if so many zeros followed
 * is one of 4 x 256, by its bytes. */
#define LANE_BYTES 256U
#define LANE_WORDS (LANE_BYTES / sizeof(uint64_t))

static uint32_t lane_table[4][256];

static void lane_table_fill(void)
{
    static const uint8_t zeros[LANE_BYTES];
    uint32_t of_bit[32];
    for (unsigned bit = 0; bit < 32; bit++) {
        of_bit[bit] = crc_by_table(UINT32_C(1) << bit, zeros, sizeof(zeros));
    }
    for (unsigned i = 0; i < 4 * 256; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            lane_table[i / 256][i % 256] ^=
                (i >> bit & 1) != 0 ? of_bit[i / 256 * 8 + bit] : 0;
        }
    }
}

static uint32_t lane_shift(uint64_t crc)
{
    return lane_table[0][crc & 0xff] ^ lane_table[1][crc >> 8 & 0xff] ^
           lane_table[2][crc >> 16 & 0xff] ^ lane_table[3][crc >> 24 & 0xff];
}

static uint64_t word_at(const uint8_t *data, size_t index)
{
    uint64_t word;
    memcpy(&word, data + index * sizeof(word), sizeof(word));
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t
crc_of_lanes(uint32_t crc, const uint8_t *data, size_t count)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    REQUIRE(pthread_once(&once, lane_table_fill) == 0);
    for (; count > 0; count--, data += 3 * (size_t)LANE_BYTES) {
        uint64_t lanes[3] = {crc, 0, 0};
        for (size_t i = 0; i < LANE_WORDS; i++) {
            lanes[0] = __builtin_ia32_crc32di(lanes[0], word_at(data, i));
            lanes[1] = __builtin_ia32_crc32di(lanes[1], word_at(data, LANE_WORDS + i));
            lanes[2] =
                __builtin_ia32_crc32di(lanes[2], word_at(data, 2 * LANE_WORDS + i));
        }
        crc = lane_shift(lane_shift(lanes[0]) ^ lanes[1]) ^ (uint32_t)lanes[2];
    }
    return crc;
}

__attribute__((target("sse4.2"))) static uint32_t
crc_of_words(uint32_t crc, const uint8_t *data, size_t word_count)
{
    uint64_t wide = crc;
    for (size_t i = 0; i < word_count; i++) {
        wide = __builtin_ia32_crc32di(wide, word_at(data, i));
    }
    return (uint32_t)wide;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t done = 0;
    crc = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        const size_t blocks = size / (3 * (size_t)LANE_BYTES);
        const size_t words = size % (3 * (size_t)LANE_BYTES) / sizeof(uint64_t);
        done = blocks * 3 * LANE_BYTES;
        crc = blocks > 0 ? crc_of_lanes(crc, bytes, blocks) : crc;
        crc = crc_of_words(crc, bytes + done, words);
        done += words * sizeof(uint64_t);
    }
#endif
    if (done < size) {
        crc = crc_by_table(crc, bytes + done, size - done);
    }
    return ~crc;
}

void hex_format(const void *data, size_t size, char *text)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * size] = '\0';
}

/* 0 to 15, or -1. */
static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

int hex_parse(const char *text, void *ret_data, size_t size)
{
    if (strnlen(text, 2 * size + 1) != 2 * size) {
        return BERTH_EINVALID;
    }
    for (size_t i = 0; i < 2 * size; i++) {
        if (hex_value(text[i]) < 0) {
            return BERTH_EINVALID;
        }
    }
    uint8_t *bytes = ret_data;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
    }
    return 0;
}
