#include "vmm/state_stream.h"

#include "base/digest.h"
#include "base/require.h"

#include <inttypes.h>
#include <string.h>

#define MAGIC      "BERTH-VM"
#define MAGIC_SIZE 8u
#define HEAD_SIZE  16u /* id, version, flags, length */

void state_stream_begin(struct bytes_writer *writer)
{
    bytes_write_raw(writer, MAGIC, MAGIC_SIZE);
    bytes_write_u16(writer, STATE_FORMAT_VERSION);
}

void state_stream_put(struct bytes_writer *writer, const struct state_section *section)
{
    REQUIRE(section->size <= STATE_SECTION_MAX);
    const size_t start = writer->size;
    bytes_write_u32(writer, section->id);
    bytes_write_u16(writer, section->version);
    bytes_write_u16(writer, section->flags);
    bytes_write_u64(writer, section->size);
    bytes_write_raw(writer, section->data, section->size);
    if (writer->error == 0) {
        bytes_write_u32(writer, crc32c(0, writer->data + start, writer->size - start));
    }
}

void state_stream_end(struct bytes_writer *writer, uint32_t section_count)
{
    const uint8_t count[4] = {(uint8_t)section_count, (uint8_t)(section_count >> 8),
                              (uint8_t)(section_count >> 16),
                              (uint8_t)(section_count >> 24)};
    const struct state_section end = {
        .id = STATE_END, .version = 1, .data = count, .size = sizeof(count)};
    state_stream_put(writer, &end);
}

int state_reader_init(struct state_reader *reader,
                      const void *data,
                      size_t size,
                      struct err *err)
{
    char magic[MAGIC_SIZE];
    bytes_reader_init(&reader->bytes, data, size);
    reader->section_count = 0;
    bytes_read_raw(&reader->bytes, magic, sizeof(magic));
    const uint16_t version = bytes_read_u16(&reader->bytes);
    if (reader->bytes.error != 0 || memcmp(magic, MAGIC, MAGIC_SIZE) != 0) {
        return err_set(err, BERTH_ECORRUPT, "this is not the state of a machine");
    }
    if (version != STATE_FORMAT_VERSION) {
        return err_set(err, BERTH_EUNSUPPORTED, "state format %u; this program reads %u",
                       version, STATE_FORMAT_VERSION);
    }
    return 0;
}

/* The end mark must count what came before it, and be the end. */
static int end_check(const struct state_reader *reader,
                     const struct state_section *end,
                     struct err *err)
{
    struct bytes_reader count;
    bytes_reader_init(&count, end->data, end->size);
    const uint32_t expected = bytes_read_u32(&count);
    if (bytes_reader_end(&count) != 0 || expected != reader->section_count) {
        return err_set(err, BERTH_ECORRUPT, "the end mark does not count %u sections",
                       reader->section_count);
    }
    if (bytes_reader_left(&reader->bytes) > 0) {
        return err_set(err, BERTH_ECORRUPT, "there are bytes after the end of the state");
    }
    return 0;
}

int state_reader_next(struct state_reader *reader,
                      struct state_section *ret_section,
                      struct err *err)
{
    struct bytes_reader *bytes = &reader->bytes;
    const uint8_t *start = bytes->data + bytes->position;
    struct state_section section = {0};
    section.id = bytes_read_u32(bytes);
    section.version = bytes_read_u16(bytes);
    section.flags = bytes_read_u16(bytes);
    const uint64_t length = bytes_read_u64(bytes);
    if (length > STATE_SECTION_MAX || length > bytes_reader_left(bytes)) {
        bytes_reader_fail(bytes);
    }
    section.size = bytes->error == 0 ? (size_t)length : 0;
    section.data = bytes_read_view(bytes, section.size); /* NULL when it is empty */
    const uint32_t crc = bytes_read_u32(bytes);
    if (bytes->error != 0 || crc != crc32c(0, start, HEAD_SIZE + section.size)) {
        bytes_reader_fail(bytes);
        return err_set(err, BERTH_ECORRUPT, "section %u of the state is damaged",
                       reader->section_count + 1);
    }
    if (section.id == STATE_END) {
        return end_check(reader, &section, err);
    }
    if (++reader->section_count > STATE_SECTIONS_MAX) {
        return err_set(err, BERTH_ECORRUPT, "the state has more than %u sections",
                       STATE_SECTIONS_MAX);
    }
    *ret_section = section;
    return 1;
}

int state_section_unknown(const struct state_section *section, struct err *err)
{
    if (section->flags & STATE_OPTIONAL) {
        return 0;
    }
    return err_set(err, BERTH_EUNSUPPORTED,
                   "the state needs section %" PRIu32
                   " version %u, which this program does not know",
                   section->id, section->version);
}
