#include "unpack/unpack_kernel.h"

#include "base/cleanup.h"
#include "base/parse_number.h"

#include <elf.h>
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

/* Linux's Documentation/arch/x86/boot.rst names the fields by these offsets. */
#define SETUP_SECTORS_AT  0x1f1u
#define MAGIC_AT          0x202u
#define VERSION_AT        0x206u
#define PAYLOAD_OFFSET_AT 0x248u
#define PAYLOAD_LENGTH_AT 0x24cu
#define HEADER_END        0x250u
#define VERSION_MIN       0x208u
#define SECTOR            512u

#define OUT_BYTES       (256u << 10)
#define LZ4_CHUNK_BYTES (8u << 20) /* of its legacy format */
#define LZ4_MAGIC       0x184c2102u
#define SIZE_BYTES      4u /* Linux's build appends the size of what is packed */
#define WINDOW_LOG_MAX  27
#define GZIP_WINDOW     (15 + 16) /* of zlib: the largest, with gzip's header */

/* What is packed, and where it goes. */
struct packed {
    const uint8_t *data;
    size_t size;
    const struct unpack_sink *sink;
    uint64_t came;
    struct err *err;
};

static int give(struct packed *packed, const void *data, size_t size)
{
    const uint64_t room = packed->sink->bytes_max;
    const uint64_t most = room != 0 && room < UNPACK_BYTES_MAX ? room : UNPACK_BYTES_MAX;
    char text[NUMBER_TEXT_SIZE];
    if (size > most - packed->came) {
        format_bytes_human(most, text);
        return err_set(packed->err, BERTH_ETOOLARGE, "it unpacks to more than %s%s", text,
                       most == room ? ", which is the room that there is" : "");
    }
    packed->came += size;
    return size == 0 ? 0 : packed->sink->came(packed->sink->context, data, size);
}

static int damaged(struct packed *packed, const char *kind)
{
    return err_set(packed->err, BERTH_EINVALID, "%s: damaged, or cut short", kind);
}

static uint32_t u32_at(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof(value));
    return value;
}

/* ---- the kinds */

static int plain_unpack(struct packed *packed)
{
    return give(packed, packed->data, packed->size);
}

static int gzip_steps(struct packed *packed, z_stream *stream, uint8_t *out)
{
    int r;
    do {
        stream->next_out = out;
        stream->avail_out = OUT_BYTES;
        r = inflate(stream, Z_NO_FLUSH);
        if (r != Z_OK && r != Z_STREAM_END) {
            return damaged(packed, "gzip");
        }
        const int given = give(packed, out, OUT_BYTES - stream->avail_out);
        if (given < 0) {
            return given;
        }
    } while (r != Z_STREAM_END);
    return 0;
}

static int gzip_unpack(struct packed *packed)
{
    z_stream stream = {.next_in = (uint8_t *)(uintptr_t)packed->data,
                       .avail_in = (uInt)packed->size};
    CLEANUP_FREE uint8_t *out = cleanup_new(OUT_BYTES, 1);
    if (out == NULL || inflateInit2(&stream, GZIP_WINDOW) != Z_OK) {
        return err_sys(packed->err, -ENOMEM, "gzip");
    }
    const int r = gzip_steps(packed, &stream, out);
    (void)inflateEnd(&stream); /* only frees */
    return r;
}

/* Chunks, each behind its size; the last one may be short. */
static int lz4_unpack(struct packed *packed)
{
    CLEANUP_FREE char *out = cleanup_new(LZ4_CHUNK_BYTES, 1);
    size_t at = SIZE_BYTES;
    if (out == NULL) {
        return err_sys(packed->err, -ENOMEM, "lz4");
    }
    while (packed->size - at > SIZE_BYTES) {
        const uint32_t size = u32_at(packed->data + at);
        at += sizeof(size);
        if (size == LZ4_MAGIC) {
            continue; /* one after another */
        }
        if (size == 0 || size > packed->size - at) {
            return damaged(packed, "lz4");
        }
        const int length = LZ4_decompress_safe((const char *)packed->data + at, out,
                                               (int)size, (int)LZ4_CHUNK_BYTES);
        if (length < 0) {
            return damaged(packed, "lz4");
        }
        const int r = give(packed, out, (size_t)length);
        if (r < 0) {
            return r;
        }
        at += size;
    }
    return packed->came > 0 ? 0 : damaged(packed, "lz4");
}

static int zstd_steps(struct packed *packed, ZSTD_DCtx *stream, uint8_t *out)
{
    ZSTD_inBuffer from = {packed->data, packed->size, 0};
    size_t left;
    do {
        ZSTD_outBuffer to = {out, OUT_BYTES, 0};
        const size_t before = from.pos;
        left = ZSTD_decompressStream(stream, &to, &from);
        if (ZSTD_isError(left) || (left != 0 && to.pos == 0 && from.pos == before)) {
            return damaged(packed, "zstd");
        }
        const int r = give(packed, out, to.pos);
        if (r < 0) {
            return r;
        }
    } while (left != 0);
    return 0;
}

static int zstd_unpack(struct packed *packed)
{
    CLEANUP_FREE uint8_t *out = cleanup_new(OUT_BYTES, 1);
    ZSTD_DCtx *stream = ZSTD_createDCtx();
    int r = out == NULL || stream == NULL ? err_sys(packed->err, -ENOMEM, "zstd") : 0;
    if (r == 0) {
        (void)ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
        r = zstd_steps(packed, stream, out);
    }
    (void)ZSTD_freeDCtx(stream); /* only frees */
    return r;
}

static int xz_steps(struct packed *packed, lzma_stream *stream, uint8_t *out)
{
    lzma_ret r;
    do {
        stream->next_out = out;
        stream->avail_out = OUT_BYTES;
        r = lzma_code(stream, LZMA_FINISH);
        if (r == LZMA_MEMLIMIT_ERROR) {
            return err_set(packed->err, BERTH_ETOOLARGE,
                           "xz: needs more than %lluMiB of memory",
                           (unsigned long long)(UNPACK_MEMORY_MAX >> 20));
        }
        if (r != LZMA_OK && r != LZMA_STREAM_END) {
            return damaged(packed, "xz");
        }
        const int given = give(packed, out, OUT_BYTES - stream->avail_out);
        if (given < 0) {
            return given;
        }
    } while (r != LZMA_STREAM_END);
    return 0;
}

static int xz_unpack(struct packed *packed)
{
    lzma_stream stream = LZMA_STREAM_INIT;
    CLEANUP_FREE uint8_t *out = cleanup_new(OUT_BYTES, 1);
    if (out == NULL || lzma_stream_decoder(&stream, UNPACK_MEMORY_MAX, 0) != LZMA_OK) {
        return err_sys(packed->err, -ENOMEM, "xz");
    }
    stream.next_in = packed->data;
    stream.avail_in = packed->size;
    const int r = xz_steps(packed, &stream, out);
    lzma_end(&stream);
    return r;
}

static const struct {
    uint8_t magic[6];
    size_t magic_size;
    int (*unpack)(struct packed *packed);
} kinds[] = {
    {{0x02, 0x21, 0x4c, 0x18}, 4, lz4_unpack},
    {{0x28, 0xb5, 0x2f, 0xfd}, 4, zstd_unpack},
    {{0x1f, 0x8b, 0x08}, 3, gzip_unpack},
    {{0xfd, '7', 'z', 'X', 'Z', 0}, 6, xz_unpack},
    {{0x7f, 'E', 'L', 'F'}, 4, plain_unpack},
};

/* ---- the file */

/* False when there is nothing within that the header tells of. */
static bool payload_find(const uint8_t *file, size_t size, struct packed *ret_packed)
{
    if (size < HEADER_END || memcmp(file + MAGIC_AT, "HdrS", 4) != 0 ||
        (file[VERSION_AT] | file[VERSION_AT + 1] << 8) < (int)VERSION_MIN) {
        return false;
    }
    const unsigned sectors = file[SETUP_SECTORS_AT] != 0 ? file[SETUP_SECTORS_AT] : 4;
    const uint64_t from =
        (sectors + UINT64_C(1)) * SECTOR + u32_at(file + PAYLOAD_OFFSET_AT);
    const uint64_t length = u32_at(file + PAYLOAD_LENGTH_AT);
    if (length == 0 || from > size || length > size - from) {
        return false;
    }
    ret_packed->data = file + from;
    ret_packed->size = (size_t)length;
    return true;
}

int unpack_kernel(const void *file,
                  size_t size,
                  const struct unpack_sink *sink,
                  struct err *err)
{
    struct packed packed = {.sink = sink, .err = err};
    if (!payload_find(file, size, &packed)) {
        return UNPACK_NOTHING;
    }
    for (unsigned i = 0; i < ARRAY_COUNT(kinds); i++) {
        if (packed.size > kinds[i].magic_size &&
            memcmp(packed.data, kinds[i].magic, kinds[i].magic_size) == 0) {
            return kinds[i].unpack(&packed);
        }
    }
    return err_set(err, BERTH_EUNSUPPORTED,
                   "it is packed with none of gzip, LZ4, zstd, xz");
}
