/* A bzImage around a small kernel, packed as one of the kinds that Linux's build knows:
 * with the size behind it where that build puts it there. */
#pragma once

#include "base/require.h"

#include <lz4.h>
#include <lzma.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum packing {
    PACKED_NOT = 0,
    PACKED_GZIP,
    PACKED_LZ4,
    PACKED_ZSTD,
    PACKED_XZ,
    PACKINGS
};

#define PACKED_HEAD 0x800u /* setup of three sectors, and one that unpacks */
#define LZ4_PIECE   (8u << 20)

static inline size_t pack_gzip(const uint8_t *data, size_t size, uint8_t *to, size_t room)
{
    z_stream stream = {.next_in = (uint8_t *)(uintptr_t)data,
                       .avail_in = (uInt)size,
                       .next_out = to,
                       .avail_out = (uInt)room};
    REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    REQUIRE(deflateEnd(&stream) == Z_OK);
    return stream.total_out;
}

static inline size_t pack_lz4(const uint8_t *data, size_t size, uint8_t *to, size_t room)
{
    static const uint8_t magic[] = {0x02, 0x21, 0x4c, 0x18};
    size_t used = sizeof(magic);
    memcpy(to, magic, sizeof(magic));
    for (size_t at = 0; at < size; at += LZ4_PIECE) {
        const int piece = (int)(size - at < LZ4_PIECE ? size - at : LZ4_PIECE);
        const int length =
            LZ4_compress_default((const char *)data + at, (char *)to + used + 4, piece,
                                 (int)(room - used - 4));
        REQUIRE(length > 0);
        memcpy(to + used, &length, 4);
        used += 4 + (size_t)length;
    }
    return used;
}

static inline size_t pack_zstd(const uint8_t *data, size_t size, uint8_t *to, size_t room)
{
    ZSTD_CCtx *packer = ZSTD_createCCtx();
    REQUIRE(packer != NULL);
    REQUIRE(!ZSTD_isError(ZSTD_CCtx_setParameter(packer, ZSTD_c_checksumFlag, 1)));
    const size_t used = ZSTD_compress2(packer, to, room, data, size); /* as zstd does */
    REQUIRE(!ZSTD_isError(used));
    (void)ZSTD_freeCCtx(packer); /* only frees */
    return used;
}

static inline size_t pack_xz(const uint8_t *data, size_t size, uint8_t *to, size_t room)
{
    lzma_options_lzma options;
    size_t used = 0;
    REQUIRE(!lzma_lzma_preset(&options, 1));
    lzma_filter filters[] = {
        {LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    REQUIRE(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, data, size, to,
                                      &used, room) == LZMA_OK);
    return used;
}

static inline size_t pack_not(const uint8_t *data, size_t size, uint8_t *to, size_t room)
{
    REQUIRE(size <= room);
    memcpy(to, data, size);
    return size;
}

/* In fresh memory; *ret_size of the whole file. */
static inline uint8_t *
packed_kernel(enum packing packing, const void *elf, size_t size, size_t *ret_size)
{
    static size_t (*const packs[PACKINGS])(const uint8_t *, size_t, uint8_t *, size_t) = {
        pack_not, pack_gzip, pack_lz4, pack_zstd, pack_xz};
    const size_t room = size + size / 8 + 4096;
    uint8_t *file = calloc(1, PACKED_HEAD + room + 4);
    REQUIRE(file != NULL);
    uint32_t length = (uint32_t)packs[packing](elf, size, file + PACKED_HEAD, room);
    const uint32_t offset = PACKED_HEAD - 4 * 512;
    const uint32_t whole = (uint32_t)size;
    if (packing == PACKED_LZ4 || packing == PACKED_ZSTD || packing == PACKED_XZ) {
        memcpy(file + PACKED_HEAD + length, &whole, 4);
        length += 4;
    }
    file[0x1f1] = 3;
    memcpy(file + 0x202, "HdrS", 4);
    file[0x206] = 0x0f;
    file[0x207] = 2;
    memcpy(file + 0x248, &offset, 4);
    memcpy(file + 0x24c, &length, 4);
    *ret_size = PACKED_HEAD + length;
    return file;
}
