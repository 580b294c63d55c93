/* Goal: a stream comes back as it was written, or is refused. Method: a small stream,
 * whole; cut at every byte; with every bit of it turned. */
#include "base/bytes.h"
#include "base/err.h"
#include "support/test_main.h"
#include "vmm/state_stream.h"

#include <check.h>

#include <string.h>

static const struct state_section sections[] = {
    {STATE_MACHINE, 1, 0, (const uint8_t *)"layout", 6},
    {STATE_DEVICE, 2, 0, (const uint8_t *)"", 0},
    {77, 1, STATE_OPTIONAL, (const uint8_t *)"later", 5},
};
enum { SECTIONS = sizeof(sections) / sizeof(sections[0]) };

static void write_stream(struct bytes_writer *writer)
{
    bytes_writer_init(writer, 4096);
    state_stream_begin(writer);
    for (unsigned i = 0; i < SECTIONS; i++) {
        state_stream_put(writer, &sections[i]);
    }
    state_stream_end(writer, SECTIONS);
    ck_assert_int_eq(writer->error, 0);
}

/* Reads to the end: the number of sections, or the error. */
static int read_stream(const void *data, size_t size)
{
    struct state_reader reader;
    struct state_section section;
    int count = 0;
    int r = state_reader_init(&reader, data, size, NULL);
    if (r < 0) {
        return r;
    }
    while ((r = state_reader_next(&reader, &section, NULL)) == 1) {
        count++;
    }
    return r < 0 ? r : count;
}

START_TEST(a_stream_comes_back_as_it_was_written)
{
    struct bytes_writer writer;
    struct state_reader reader;
    struct state_section section;
    struct err err = {0};
    write_stream(&writer);

    ck_assert_int_eq(state_reader_init(&reader, writer.data, writer.size, &err), 0);
    for (unsigned i = 0; i < SECTIONS; i++) {
        ck_assert_msg(state_reader_next(&reader, &section, &err) == 1, "%s", err.text);
        ck_assert_uint_eq(section.id, sections[i].id);
        ck_assert_uint_eq(section.version, sections[i].version);
        ck_assert_uint_eq(section.flags, sections[i].flags);
        ck_assert_uint_eq(section.size, sections[i].size);
        if (section.size > 0) {
            ck_assert_mem_eq(section.data, sections[i].data, section.size);
        }
    }
    ck_assert_int_eq(state_reader_next(&reader, &section, &err), 0);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(a_cut_stream_is_refused_at_every_byte)
{
    struct bytes_writer writer;
    write_stream(&writer);

    for (size_t size = 0; size < writer.size; size++) {
        ck_assert_int_eq(read_stream(writer.data, size), BERTH_ECORRUPT);
    }

    ck_assert_int_eq(read_stream(writer.data, writer.size), SECTIONS);
    bytes_write_u8(&writer, 0);
    ck_assert_int_eq(read_stream(writer.data, writer.size), BERTH_ECORRUPT);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(a_stream_with_any_bit_turned_is_refused)
{
    struct bytes_writer writer;
    write_stream(&writer);

    for (size_t bit = 0; bit < writer.size * 8; bit++) {
        writer.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_int_lt(read_stream(writer.data, writer.size), 0);
        writer.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }

    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(only_optional_sections_are_skipped)
{
    struct err err = {0};

    ck_assert_int_eq(state_section_unknown(&sections[2], &err), 0);
    ck_assert_int_eq(state_section_unknown(&sections[0], &err), BERTH_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "section 1 "));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state_stream");
    TCase *tests = tcase_create("state_stream");
    tcase_add_test(tests, a_stream_comes_back_as_it_was_written);
    tcase_add_test(tests, a_cut_stream_is_refused_at_every_byte);
    tcase_add_test(tests, a_stream_with_any_bit_turned_is_refused);
    tcase_add_test(tests, only_optional_sections_are_skipped);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
