/* Overlays: a sound file with any bytes patched, checksums mended or not, is opened and
 * used or refused; nothing outside the file is touched. The input is a list of patches:
 * u16 offset from the end of the file, u8 value; the first byte says whether to mend. */
#include "base/bytes.h"
#include "base/digest.h"
#include "base/require.h"
#include "vmm/disk_overlay.h"

#include <string.h>

#define DISK_BYTES (8 * DISK_SECTOR_BYTES)
#define FILE_BYTES (OVERLAY_BLOCK_BYTES + 3 * OVERLAY_PAGE_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory_file {
    struct disk_file file;
    uint8_t data[FILE_BYTES];
};

static int copy(struct disk_file *file,
                uint64_t offset,
                const struct iovec *pieces,
                unsigned piece_count,
                uint64_t size,
                bool out)
{
    uint8_t *at = ((struct memory_file *)file)->data;
    REQUIRE(offset <= FILE_BYTES && size <= FILE_BYTES - offset);
    for (unsigned i = 0; i < piece_count; i++) {
        void *to = out ? pieces[i].iov_base : at + offset;
        const void *from = out ? at + offset : pieces[i].iov_base;
        memcpy(to, from, pieces[i].iov_len);
        offset += pieces[i].iov_len;
    }
    return 0;
}

static int memory_read(struct disk_file *file,
                       uint64_t offset,
                       const struct iovec *pieces,
                       unsigned piece_count,
                       uint64_t size)
{
    return copy(file, offset, pieces, piece_count, size, true);
}

static int memory_write(struct disk_file *file,
                        uint64_t offset,
                        const struct iovec *pieces,
                        unsigned piece_count,
                        uint64_t size)
{
    return copy(file, offset, pieces, piece_count, size, false);
}

static int memory_zero(struct disk_file *file, uint64_t offset, uint64_t size)
{
    REQUIRE(offset <= FILE_BYTES && size <= FILE_BYTES - offset);
    memset(((struct memory_file *)file)->data + offset, 0, (size_t)size);
    return 0;
}

static int memory_sync(struct disk_file *file)
{
    (void)file;
    return 0;
}

static void memory_free(struct disk_file *file)
{
    (void)file; /* lives on the stack of its user */
}

static const struct disk_file_ops memory_ops = {.read = memory_read,
                                                .write = memory_write,
                                                .zero = memory_zero,
                                                .punch = memory_zero,
                                                .sync = memory_sync,
                                                .free = memory_free};

static void patch(struct memory_file *memory, struct bytes_reader *reader)
{
    const uint8_t mend = bytes_read_u8(reader);
    while (bytes_reader_left(reader) >= 3) {
        const uint16_t offset = bytes_read_u16(reader);
        const uint8_t value = bytes_read_u8(reader);
        if (offset < FILE_BYTES) {
            memory->data[FILE_BYTES - 1 - offset] = value;
        }
    }
    if (mend & 1) {
        uint8_t *header = memory->data + FILE_BYTES - OVERLAY_PAGE_BYTES;
        const uint64_t crc = crc32c(0, header, OVERLAY_PAGE_BYTES - 8);
        memcpy(header + OVERLAY_PAGE_BYTES - 8, &crc, sizeof(crc));
    }
    for (unsigned slot = 0; slot < 2 && (mend & 2); slot++) {
        uint8_t *page = memory->data + OVERLAY_BLOCK_BYTES + slot * OVERLAY_PAGE_BYTES;
        const uint32_t crc = crc32c(0, page + 4, OVERLAY_PAGE_BYTES - 4);
        memcpy(page, &crc, sizeof(crc));
    }
}

static void use(struct virtual_disk *disk)
{
    static uint8_t data[DISK_BYTES];
    const struct iovec piece = {.iov_base = data, .iov_len = sizeof(data)};
    const uint64_t size =
        disk->size_bytes < sizeof(data) ? disk->size_bytes : sizeof(data);
    const struct iovec part = {.iov_base = data, .iov_len = (size_t)size};
    REQUIRE(disk->size_bytes <= FILE_BYTES);
    REQUIRE(disk_read(disk, 0, &part, 1, size) == 0);
    REQUIRE(disk_write(disk, 0, &part, 1, size) == 0);
    REQUIRE(disk_discard(disk, 0, size) == 0);
    REQUIRE(disk_flush(disk) == 0);
    (void)disk_read(disk, disk->size_bytes, &piece, 1, sizeof(data)); /* refused */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct memory_file memory;
    static const struct digest none;
    struct bytes_reader reader;
    struct virtual_disk *disk = NULL;
    memset(memory.data, 0, sizeof(memory.data));
    memory.file = (struct disk_file){&memory_ops, FILE_BYTES};
    REQUIRE(disk_overlay_create(&memory.file, DISK_BYTES, 0, &none, NULL) == 0);
    bytes_reader_init(&reader, data, size);
    patch(&memory, &reader);
    const int r = disk_overlay_open(&memory.file, NULL, &none, &disk, NULL);
    if (r == 0) {
        use(disk);
        disk_free(disk);
    } else {
        REQUIRE(r == BERTH_ECORRUPT || r == BERTH_EUNSUPPORTED || r == BERTH_ECONFLICT);
    }
    return 0;
}
