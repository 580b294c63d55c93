#include "consensus/log_check.h"

#include "base/bytes.h"

#include <stdio.h>
#include <string.h>

#define FORMAT_SIZE ((size_t)8)
#define ALIGNMENT   ((size_t)8) /* of batches: all that is in them is of such a size */
#define CRC_POLY    UINT32_C(0x04c11db7)
#define CRC_TOP     UINT32_C(0x80000000)
#define TERM_MAX    (UINT64_C(1) << 48) /* no log has seen so many elections */
#define TYPE_MIN    1                   /* a command, a barrier, a list of members */
#define TYPE_MAX    3

struct image {
    const uint8_t *data;
    size_t size;
    size_t used;   /* the last byte that is not zero stands before this one */
    uint64_t work; /* bytes looked at while searching, or bits */
};

enum batch_state {
    BATCH_SOUND = 0,
    BATCH_DAMAGED,  /* it was written whole */
    BATCH_HEADLESS, /* a part of its header may not have been written */
    BATCH_TORN      /* a part of its data may not have been written; nothing is behind */
};

/* ---- checksums ---- */

static uint32_t crc_step(uint32_t crc)
{
    return crc << 1 ^ ((crc & CRC_TOP) != 0 ? CRC_POLY : 0);
}

uint32_t log_check_crc32(const uint8_t *data, size_t size)
{
    static _Thread_local uint32_t table[256];
    uint32_t crc = 0;
    for (uint32_t i = 0; table[255] == 0 && i < 256; i++) {
        table[i] = i << 24;
        for (unsigned bit = 0; bit < 8; bit++) {
            table[i] = crc_step(table[i]);
        }
    }
    for (size_t i = 0; i < size; i++) {
        crc = crc << 8 ^ table[(crc >> 24 ^ data[i]) & 0xff];
    }
    return crc;
}

/* Whether checksums that differ so do because one bit of `size` bytes, or of the checksum
 * that was stored, is another. */
static bool is_one_bit(struct image *image, uint32_t difference, size_t size)
{
    uint32_t of_bit = CRC_POLY; /* of the last bit of all; then of the one before */
    if ((difference & (difference - 1)) == 0) {
        return true;
    }
    for (uint64_t bit = 0; bit < (uint64_t)size * 8; bit++) {
        if (of_bit == difference) {
            return true;
        }
        of_bit = crc_step(of_bit);
        image->work++;
    }
    return false;
}

/* ---- sectors ---- */

static bool is_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* Likewise while searching; the processor looks at some bytes at a time. */
static bool is_zeros(struct image *image, size_t at, size_t size)
{
    image->work += size / 16 + 1;
    return is_zero(image->data + at, size);
}

/* Whether every sector that holds a byte of [from, to) has something in it, within the
 * batch that lies in [start, end). */
static bool
is_written(struct image *image, size_t start, size_t end, size_t from, size_t to)
{
    for (size_t sector = from - from % LOG_CHECK_SECTOR; sector < to;
         sector += LOG_CHECK_SECTOR) {
        size_t first = sector < start ? start : sector;
        size_t behind = end - sector < LOG_CHECK_SECTOR ? end : sector + LOG_CHECK_SECTOR;
        if (is_zeros(image, first, behind - first)) {
            return false;
        }
    }
    return true;
}

/* ---- a batch ---- */

struct batch {
    size_t start;
    size_t data;      /* where its data begins */
    size_t data_size; /* 0 <= it <= what the file has */
    uint32_t data_crc;
};

/* The entry's share of the header; its size, or -1 when no entry has such a one. */
static int64_t entry_size(struct bytes_reader *reader)
{
    uint64_t term = bytes_read_u64(reader);
    uint8_t type = bytes_read_u8(reader);
    (void)bytes_read_u8(reader);
    (void)bytes_read_u16(reader);
    uint32_t size = bytes_read_u32(reader);
    bool sane = term != 0 && term <= TERM_MAX && type >= TYPE_MIN && type <= TYPE_MAX &&
                size % ALIGNMENT == 0;
    return sane ? (int64_t)size : -1;
}

/* BATCH_SOUND: the header is. Where it is not, it is damaged as far as it was written. */
static enum batch_state
read_header(struct image *image, size_t start, struct batch *ret_batch)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, image->data + start, image->size - start);
    if (bytes_reader_left(&reader) < LOG_CHECK_BATCH_HEAD) {
        return BATCH_DAMAGED;
    }
    if (!is_written(image, start, image->size, start, start + LOG_CHECK_BATCH_HEAD)) {
        return BATCH_HEADLESS;
    }
    uint32_t crc = bytes_read_u32(&reader);
    struct batch batch = {.start = start, .data_crc = bytes_read_u32(&reader)};
    uint64_t count = bytes_read_u64(&reader);
    if (count == 0 || count > bytes_reader_left(&reader) / LOG_CHECK_ENTRY_HEAD) {
        return BATCH_DAMAGED;
    }
    for (uint64_t i = 0; i < count; i++) {
        size_t at = start + reader.position;
        image->work += LOG_CHECK_ENTRY_HEAD;
        if (!is_written(image, start, image->size, at, at + LOG_CHECK_ENTRY_HEAD)) {
            return BATCH_HEADLESS;
        }
        int64_t size = entry_size(&reader);
        if (size < 0) {
            return BATCH_DAMAGED;
        }
        batch.data_size += (size_t)size; /* of fewer than 2^32 entries */
    }
    const size_t summed = 8; /* behind the two checksums */
    image->work += reader.position;
    if (log_check_crc32(image->data + start + summed, reader.position - summed) != crc ||
        batch.data_size > bytes_reader_left(&reader)) {
        return BATCH_DAMAGED;
    }
    batch.data = start + reader.position;
    *ret_batch = batch;
    return BATCH_SOUND;
}

/* The batch that begins at `start`, before `used`. */
static enum batch_state look(struct image *image, size_t start, size_t *ret_end)
{
    struct batch batch = {0};
    enum batch_state state = read_header(image, start, &batch);
    if (state != BATCH_SOUND) {
        return state;
    }
    size_t end = batch.data + batch.data_size;
    uint32_t crc = log_check_crc32(image->data + batch.data, batch.data_size);
    image->work += batch.data_size;
    if (crc == batch.data_crc) {
        *ret_end = end;
        return BATCH_SOUND;
    }
    bool whole = image->used > end || is_written(image, start, end, start, end) ||
                 (batch.data_size <= LOG_CHECK_ONE_BIT_MAX &&
                  is_one_bit(image, crc ^ batch.data_crc, batch.data_size));
    return whole ? BATCH_DAMAGED : BATCH_TORN;
}

/* A batch whose length is not known stands at `start`. */
static bool is_followed(struct image *image, size_t start)
{
    size_t end = 0;
    image->work = 0;
    for (size_t at = start + ALIGNMENT; at < image->used; at += ALIGNMENT) {
        const size_t left = LOG_CHECK_SECTOR - at % LOG_CHECK_SECTOR;
        if (left < image->used - at && is_zeros(image, at, left)) {
            at += left - ALIGNMENT; /* no batch begins there that is written */
            continue;
        }
        if (look(image, at, &end) == BATCH_SOUND || image->work > LOG_CHECK_WORK_MAX) {
            return true;
        }
    }
    return false;
}

/* ---- a file ---- */

static int lost(struct err *err, const char *name, size_t at)
{
    return err_set(err, BERTH_ECORRUPT,
                   "%s: the entries at byte %zu are damaged, and had been stored: "
                   "entries were lost; " LOG_CHECK_HELP,
                   name, at);
}

static size_t used_of(const uint8_t *data, size_t size)
{
    while (size > 0 && is_zero(data + size - 1 - (size - 1) % LOG_CHECK_SECTOR,
                               (size - 1) % LOG_CHECK_SECTOR + 1)) {
        size -= (size - 1) % LOG_CHECK_SECTOR + 1;
    }
    while (size > 0 && data[size - 1] == 0) {
        size--;
    }
    return size;
}

int log_check_file(struct log_check *check,
                   const char *name,
                   const uint8_t *data,
                   size_t size,
                   struct err *err)
{
    struct image image = {.data = data, .size = size, .used = used_of(data, size)};
    size_t at = FORMAT_SIZE;
    enum batch_state state = BATCH_SOUND;
    if (image.used > FORMAT_SIZE && check->ended_in[0] != '\0') {
        return err_set(err, BERTH_ECORRUPT,
                       "%s holds entries, but %s before it ends too early: entries were "
                       "lost; " LOG_CHECK_HELP,
                       name, check->ended_in);
    }
    if (image.used > 0 && (size < FORMAT_SIZE || !is_zero(data + 1, FORMAT_SIZE - 1) ||
                           data[0] != LOG_CHECK_FORMAT)) {
        return err_set(err, BERTH_ECORRUPT, "%s does not begin as a file of the log does",
                       name);
    }
    while (state == BATCH_SOUND && at < image.used) {
        state = look(&image, at, &at);
    }
    if (state == BATCH_DAMAGED || (state == BATCH_HEADLESS && is_followed(&image, at))) {
        return lost(err, name, at);
    }
    if (state != BATCH_SOUND || at == FORMAT_SIZE) {
        (void)snprintf(check->ended_in, sizeof(check->ended_in), "%s", name);
    }
    return 0;
}
