/* Bounded byte cursors with a sticky error: the one way in which foreign bytes are read.
 *
 * Shapes: `struct bytes_reader` walks borrowed memory; `struct bytes_writer` grows an
 * owned buffer up to a limit. After the first fault every further call does nothing and
 * returns zeros: read or write the whole message, then check once with bytes_reader_end /
 * bytes_writer_take. Units: sizes in bytes; integers little endian. Threads: none of its
 * own. Errors: readers end in BERTH_EPROTO, writers in BERTH_ETOOLARGE or -ENOMEM.
 * Ownership: pointers given by a reader borrow its memory; a writer owns its buffer until
 * taken.
 */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes_reader {
    const uint8_t *data; /* borrowed */
    size_t size;
    size_t position; /* <= size */
    int error;       /* 0 or BERTH_EPROTO, sticky */
};

void bytes_reader_init(struct bytes_reader *reader, const void *data, size_t size);
uint8_t bytes_read_u8(struct bytes_reader *reader);
uint16_t bytes_read_u16(struct bytes_reader *reader);
uint32_t bytes_read_u32(struct bytes_reader *reader);
uint64_t bytes_read_u64(struct bytes_reader *reader);
/* Copies exactly size bytes out; zeros them on fault. */
void bytes_read_raw(struct bytes_reader *reader, void *ret_data, size_t size);
/* Steps over size bytes and returns where they are (borrowed), or NULL on fault (also for
 * size 0). */
const void *bytes_read_view(struct bytes_reader *reader, size_t size);
/* Reads a u32 length and that many bytes as a view; a length over size_max is a fault. */
const void *
bytes_read_block(struct bytes_reader *reader, size_t size_max, size_t *ret_size);
/* Reads a u32 length and text into `ret_text` (NUL-terminated, capacity counts the NUL);
 * a text that is too long or holds a NUL is a fault. */
void bytes_read_text(struct bytes_reader *reader, char *ret_text, size_t capacity);
/* A reader over the next size bytes, which this reader steps over; on fault the new one
 * is empty and faulted as well. */
struct bytes_reader bytes_read_sub(struct bytes_reader *reader, size_t size);
size_t bytes_reader_left(const struct bytes_reader *reader);
/* Marks the reader faulted (a value was out of range). */
void bytes_reader_fail(struct bytes_reader *reader);
/* 0 when nothing failed and everything was consumed, else BERTH_EPROTO. */
int bytes_reader_end(const struct bytes_reader *reader);

struct bytes_writer {
    uint8_t *data; /* owned; NULL while empty */
    size_t size;
    size_t capacity;
    size_t size_max; /* never grows beyond */
    int error;       /* 0, BERTH_ETOOLARGE or -ENOMEM, sticky */
};

void bytes_writer_init(struct bytes_writer *writer, size_t size_max);
/* Frees the buffer; the writer is empty and usable again. */
/* A hint: about so much will be written. */
void bytes_writer_expect(struct bytes_writer *writer, size_t size);
void bytes_writer_fini(struct bytes_writer *writer);
void bytes_write_u8(struct bytes_writer *writer, uint8_t value);
void bytes_write_u16(struct bytes_writer *writer, uint16_t value);
void bytes_write_u32(struct bytes_writer *writer, uint32_t value);
void bytes_write_u64(struct bytes_writer *writer, uint64_t value);
void bytes_write_raw(struct bytes_writer *writer, const void *data, size_t size);
/* The next size bytes (> 0), for the caller to fill before anything else is written; NULL
 * on fault. For what is written often: several numbers with one look at the room. */
uint8_t *bytes_write_space(struct bytes_writer *writer, size_t size);
/* A number there, in so many bytes; what follows it. */
static inline uint8_t *bytes_put(uint8_t *place, uint64_t value, size_t size)
{
    const uint64_t little = htole64(value);
    memcpy(place, &little, size);
    return place + size;
}
/* u32 length, then the bytes. */
void bytes_write_block(struct bytes_writer *writer, const void *data, size_t size);
/* u32 length, then the text without its NUL; NULL writes length 0. */
void bytes_write_text(struct bytes_writer *writer, const char *text);
/* printf into the buffer, without length or NUL (for building texts). */
void bytes_write_format(struct bytes_writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Reserves a u32 at the current position and returns its offset, to be filled with
 * bytes_writer_patch_length once what it measures has been written. */
size_t bytes_write_length_hole(struct bytes_writer *writer);
/* Stores the number of bytes written after the hole into it. */
void bytes_writer_patch_length(struct bytes_writer *writer, size_t hole);
/* Hands the buffer over (*ret_data owned by the caller, free()); the writer is empty
 * afterwards. 0 or the sticky error, in which case nothing is handed over and the buffer
 * is freed. */
int bytes_writer_take(struct bytes_writer *writer, uint8_t **ret_data, size_t *ret_size);
/* As above for texts: NUL-terminated. */
int bytes_writer_take_text(struct bytes_writer *writer, char **ret_text);
