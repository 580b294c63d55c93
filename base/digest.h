/* SHA-256 (content addresses), CRC32C (accidental damage) and hex texts.
 *
 * Units: bytes. Threads: a stream belongs to one thread. Errors: digest_parse only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE     32
#define DIGEST_HEX_SIZE (2 * DIGEST_SIZE + 1)

struct digest {
    uint8_t bytes[DIGEST_SIZE];
};

struct digest_stream {
    _Alignas(16) uint8_t opaque[128]; /* private: the library's SHA-256 state */
};

void digest_start(struct digest_stream *stream);
void digest_update(struct digest_stream *stream, const void *data, size_t size);
void digest_finish(struct digest_stream *stream, struct digest *ret_digest);
void digest_of(const void *data, size_t size, struct digest *ret_digest);
bool digest_equal(const struct digest *a, const struct digest *b);
bool digest_is_zero(const struct digest *digest);
void digest_format(const struct digest *digest, char text[DIGEST_HEX_SIZE]);
/* 64 hex digits; 0 or BERTH_EINVALID. */
int digest_parse(const char *text, struct digest *ret_digest);

/* CRC32C (Castagnoli), start with 0, chainable. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

/* Lower-case hex of size bytes into text (2 * size + 1). */
void hex_format(const void *data, size_t size, char *text);
/* Exactly 2 * size hex digits; 0 or BERTH_EINVALID. */
int hex_parse(const char *text, void *ret_data, size_t size);
