#include "base/digest.h"

#include "base/err.h"
#include "base/require.h"

#include <sodium.h>

#include <pthread.h>
#include <string.h>

#define CRC32C_POLYNOMIAL UINT32_C(0x82f63b78) /* Castagnoli, bits reversed */

_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(struct digest_stream),
               "the library's state fits the stream");
_Static_assert(crypto_hash_sha256_BYTES == DIGEST_SIZE, "a digest is a SHA-256");

static void library_start(void)
{
    REQUIRE(sodium_init() >= 0);
}

static crypto_hash_sha256_state *state_of(struct digest_stream *stream)
{
    return (crypto_hash_sha256_state *)(void *)stream->opaque;
}

void digest_start(struct digest_stream *stream)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    REQUIRE(pthread_once(&once, library_start) == 0);
    REQUIRE(crypto_hash_sha256_init(state_of(stream)) == 0);
}

void digest_update(struct digest_stream *stream, const void *data, size_t size)
{
    if (size > 0) {
        REQUIRE(crypto_hash_sha256_update(state_of(stream), data, size) == 0);
    }
}

void digest_finish(struct digest_stream *stream, struct digest *ret_digest)
{
    REQUIRE(crypto_hash_sha256_final(state_of(stream), ret_digest->bytes) == 0);
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
__attribute__((target("sse4.2"))) static uint32_t
crc_of_words(uint32_t crc, const uint8_t *data, size_t word_count)
{
    uint64_t wide = crc;
    for (size_t i = 0; i < word_count; i++) {
        uint64_t word;
        memcpy(&word, data + i * sizeof(word), sizeof(word));
        wide = __builtin_ia32_crc32di(wide, word);
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
        done = size / sizeof(uint64_t) * sizeof(uint64_t);
        crc = crc_of_words(crc, bytes, size / sizeof(uint64_t));
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
