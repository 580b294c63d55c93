#include "base/bytes.h"

#include "base/err.h"
#include "base/require.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_SIZE  160
#define CAPACITY_MIN 256 /* most messages fit without growing */

void bytes_reader_init(struct bytes_reader *reader, const void *data, size_t size)
{
    *reader = (struct bytes_reader){.data = data, .size = size};
}

/* The next size bytes, stepped over; NULL on fault. */
static const uint8_t *reader_step(struct bytes_reader *reader, size_t size)
{
    if (reader->error != 0 || size > reader->size - reader->position) {
        bytes_reader_fail(reader);
        return NULL;
    }
    const uint8_t *here = reader->data + reader->position;
    reader->position += size;
    return here;
}

/* A little-endian number of size bytes; 0 on fault. */
static inline uint64_t reader_number(struct bytes_reader *reader, size_t size)
{
    const uint8_t *here = reader_step(reader, size);
    uint64_t little = 0;
    if (here != NULL) {
        memcpy(&little, here, size);
    }
    return le64toh(little);
}

uint8_t bytes_read_u8(struct bytes_reader *reader)
{
    return (uint8_t)reader_number(reader, 1);
}

uint16_t bytes_read_u16(struct bytes_reader *reader)
{
    return (uint16_t)reader_number(reader, 2);
}

uint32_t bytes_read_u32(struct bytes_reader *reader)
{
    return (uint32_t)reader_number(reader, 4);
}

uint64_t bytes_read_u64(struct bytes_reader *reader)
{
    return reader_number(reader, 8);
}

void bytes_read_raw(struct bytes_reader *reader, void *ret_data, size_t size)
{
    if (size == 0) {
        return;
    }
    const uint8_t *here = reader_step(reader, size);
    if (here != NULL) {
        memcpy(ret_data, here, size);
    } else {
        memset(ret_data, 0, size);
    }
}

const void *bytes_read_view(struct bytes_reader *reader, size_t size)
{
    return size > 0 ? reader_step(reader, size) : NULL;
}

const void *
bytes_read_block(struct bytes_reader *reader, size_t size_max, size_t *ret_size)
{
    size_t size = bytes_read_u32(reader);
    if (size > size_max) {
        bytes_reader_fail(reader);
        size = 0;
    }
    const void *view = bytes_read_view(reader, size);
    *ret_size = view != NULL ? size : 0;
    return view;
}

void bytes_read_text(struct bytes_reader *reader, char *ret_text, size_t capacity)
{
    REQUIRE(capacity > 0);
    size_t size = 0;
    const void *view = bytes_read_block(reader, capacity - 1, &size);
    if (view != NULL && memchr(view, '\0', size) != NULL) {
        bytes_reader_fail(reader);
        size = 0;
    }
    if (size > 0) {
        memcpy(ret_text, view, size);
    }
    ret_text[size] = '\0';
}

struct bytes_reader bytes_read_sub(struct bytes_reader *reader, size_t size)
{
    struct bytes_reader sub = {0};
    const uint8_t *here = size > 0 ? reader_step(reader, size) : NULL;
    if (reader->error != 0) {
        sub.error = reader->error;
    } else if (here != NULL) {
        bytes_reader_init(&sub, here, size);
    }
    return sub;
}

size_t bytes_reader_left(const struct bytes_reader *reader)
{
    return reader->error == 0 ? reader->size - reader->position : 0;
}

void bytes_reader_fail(struct bytes_reader *reader)
{
    reader->error = BERTH_EPROTO;
}

int bytes_reader_end(const struct bytes_reader *reader)
{
    return reader->error == 0 && reader->position == reader->size ? 0 : BERTH_EPROTO;
}

void bytes_writer_init(struct bytes_writer *writer, size_t size_max)
{
    *writer = (struct bytes_writer){.size_max = size_max};
}

void bytes_writer_fini(struct bytes_writer *writer)
{
    free(writer->data);
    bytes_writer_init(writer, writer->size_max);
}

static bool writer_grow(struct bytes_writer *writer, size_t needed)
{
    size_t capacity = writer->capacity * 2;
    if (capacity < CAPACITY_MIN) {
        capacity = CAPACITY_MIN;
    }
    if (capacity < needed) {
        capacity = needed;
    }
    uint8_t *data = realloc(writer->data, capacity);
    if (data == NULL) {
        writer->error = -ENOMEM;
        return false;
    }
    writer->data = data;
    writer->capacity = capacity;
    return true;
}

void bytes_writer_expect(struct bytes_writer *writer, size_t size)
{
    const size_t wanted = size < writer->size_max ? size : writer->size_max;
    if (wanted < writer->capacity || writer->error != 0) {
        return;
    }
    uint8_t *data = realloc(writer->data, wanted + 1);
    if (data != NULL) { /* else it grows as it is written */
        writer->data = data;
        writer->capacity = wanted + 1;
    }
}

/* Makes size more bytes writable, and one beyond for a NUL; NULL on fault. */
static inline uint8_t *writer_reserve(struct bytes_writer *writer, size_t size)
{
    if (writer->error != 0) {
        return NULL;
    }
    if (size > writer->size_max - writer->size) {
        writer->error = BERTH_ETOOLARGE;
        return NULL;
    }
    size_t needed = writer->size + size + 1;
    if (needed > writer->capacity && !writer_grow(writer, needed)) {
        return NULL;
    }
    return writer->data + writer->size;
}

static inline void writer_number(struct bytes_writer *writer, uint64_t value, size_t size)
{
    uint8_t *place = writer_reserve(writer, size);
    if (place != NULL) {
        (void)bytes_put(place, value, size);
        writer->size += size;
    }
}

void bytes_write_u8(struct bytes_writer *writer, uint8_t value)
{
    writer_number(writer, value, 1);
}

void bytes_write_u16(struct bytes_writer *writer, uint16_t value)
{
    writer_number(writer, value, 2);
}

void bytes_write_u32(struct bytes_writer *writer, uint32_t value)
{
    writer_number(writer, value, 4);
}

void bytes_write_u64(struct bytes_writer *writer, uint64_t value)
{
    writer_number(writer, value, 8);
}

void bytes_write_raw(struct bytes_writer *writer, const void *data, size_t size)
{
    if (size == 0) {
        return;
    }
    uint8_t *place = writer_reserve(writer, size);
    if (place != NULL) {
        memcpy(place, data, size);
        writer->size += size;
    }
}

uint8_t *bytes_write_space(struct bytes_writer *writer, size_t size)
{
    uint8_t *place = writer_reserve(writer, size);
    writer->size += place != NULL ? size : 0;
    return place;
}

void bytes_write_block(struct bytes_writer *writer, const void *data, size_t size)
{
    if (size > UINT32_MAX) {
        writer->error = writer->error != 0 ? writer->error : BERTH_ETOOLARGE;
        return;
    }
    bytes_write_u32(writer, (uint32_t)size);
    bytes_write_raw(writer, data, size);
}

void bytes_write_text(struct bytes_writer *writer, const char *text)
{
    bytes_write_block(writer, text, text != NULL ? strlen(text) : 0);
}

void bytes_write_format(struct bytes_writer *writer, const char *format, ...)
{
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    char text[FORMAT_SIZE]; /* most are as short: formatted once */
    int length = vsnprintf(text, sizeof(text), format, arguments);
    REQUIRE(length >= 0);
    uint8_t *place = writer_reserve(writer, (size_t)length);
    if (place != NULL && (size_t)length < sizeof(text)) {
        memcpy(place, text, (size_t)length);
        writer->size += (size_t)length;
    } else if (place != NULL) {
        (void)vsnprintf((char *)place, (size_t)length + 1, format, again); /* fits */
        writer->size += (size_t)length;
    }
    va_end(again);
    va_end(arguments);
}

size_t bytes_write_length_hole(struct bytes_writer *writer)
{
    size_t hole = writer->size;
    bytes_write_u32(writer, 0);
    return hole;
}

void bytes_writer_patch_length(struct bytes_writer *writer, size_t hole)
{
    if (writer->error != 0) {
        return;
    }
    REQUIRE(hole <= writer->size && writer->size - hole >= sizeof(uint32_t));
    size_t length = writer->size - hole - sizeof(uint32_t);
    if (length > UINT32_MAX) {
        writer->error = BERTH_ETOOLARGE;
        return;
    }
    (void)bytes_put(writer->data + hole, length, sizeof(uint32_t));
}

int bytes_writer_take(struct bytes_writer *writer, uint8_t **ret_data, size_t *ret_size)
{
    int error = writer->error;
    if (error == 0) {
        *ret_data = writer->data;
        *ret_size = writer->size;
        writer->data = NULL;
    }
    bytes_writer_fini(writer);
    return error;
}

int bytes_writer_take_text(struct bytes_writer *writer, char **ret_text)
{
    uint8_t *end = writer_reserve(writer, 0); /* an empty text needs its byte too */
    if (end != NULL) {
        *end = '\0';
    }
    uint8_t *data = NULL;
    size_t size = 0;
    int r = bytes_writer_take(writer, &data, &size);
    if (r == 0) {
        *ret_text = (char *)data;
    }
    return r;
}
