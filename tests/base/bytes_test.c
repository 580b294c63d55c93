#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(what_is_written_is_read_back)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, 4096);
    bytes_write_u8(&writer, 0x12);
    bytes_write_u16(&writer, 0x3456);
    bytes_write_u32(&writer, 0x789abcde);
    bytes_write_u64(&writer, UINT64_C(0xf123456789abcdef));
    bytes_write_raw(&writer, "raw", 3);
    bytes_write_block(&writer, "block", 5);
    bytes_write_text(&writer, "text");
    bytes_write_text(&writer, NULL);
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(bytes_writer_take(&writer, &data, &size), 0);

    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    ck_assert_uint_eq(bytes_read_u8(&reader), 0x12);
    ck_assert_uint_eq(bytes_read_u16(&reader), 0x3456);
    ck_assert_uint_eq(bytes_read_u32(&reader), 0x789abcde);
    ck_assert_uint_eq(bytes_read_u64(&reader), UINT64_C(0xf123456789abcdef));
    char raw[3];
    bytes_read_raw(&reader, raw, 3);
    ck_assert_mem_eq(raw, "raw", 3);
    size_t block_size = 0;
    ck_assert_mem_eq(bytes_read_block(&reader, 5, &block_size), "block", 5);
    ck_assert_uint_eq(block_size, 5);
    char text[5];
    bytes_read_text(&reader, text, sizeof(text));
    ck_assert_str_eq(text, "text");
    bytes_read_text(&reader, text, sizeof(text));
    ck_assert_str_eq(text, "");
    ck_assert_int_eq(bytes_reader_end(&reader), 0);
}
END_TEST

START_TEST(numbers_are_little_endian)
{
    const uint8_t data[] = {1, 2, 3, 4};
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, sizeof(data));
    ck_assert_uint_eq(bytes_read_u32(&reader), 0x04030201);
}
END_TEST

START_TEST(reading_beyond_the_end_fails_for_good_and_gives_zeros)
{
    const uint8_t data[] = {1, 2, 3};
    char raw[3] = "xx";
    char text[4] = "xxx";
    size_t size = 9;
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, sizeof(data));

    ck_assert_uint_eq(bytes_read_u32(&reader), 0);

    ck_assert_uint_eq(bytes_read_u8(&reader), 0);
    bytes_read_raw(&reader, raw, sizeof(raw));
    ck_assert_mem_eq(raw, "\0\0\0", 3);
    ck_assert_ptr_null(bytes_read_view(&reader, 1));
    ck_assert_ptr_null(bytes_read_block(&reader, 10, &size));
    ck_assert_uint_eq(size, 0);
    bytes_read_text(&reader, text, sizeof(text));
    ck_assert_str_eq(text, "");
    ck_assert_uint_eq(bytes_reader_left(&reader), 0);
    ck_assert_int_eq(bytes_reader_end(&reader), BERTH_EPROTO);
}
END_TEST

START_TEST(bytes_that_are_left_over_are_a_fault)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, "ab", 2);
    (void)bytes_read_u8(&reader);
    ck_assert_uint_eq(bytes_reader_left(&reader), 1);
    ck_assert_int_eq(bytes_reader_end(&reader), BERTH_EPROTO);
    (void)bytes_read_u8(&reader);
    ck_assert_int_eq(bytes_reader_end(&reader), 0);
}
END_TEST

START_TEST(an_empty_message_ends_well)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, NULL, 0);
    ck_assert_ptr_null(bytes_read_view(&reader, 0));
    ck_assert_int_eq(bytes_reader_end(&reader), 0);
    (void)bytes_read_u8(&reader);
    ck_assert_int_eq(bytes_reader_end(&reader), BERTH_EPROTO);
}
END_TEST

struct bad_text {
    const char *what;
    const uint8_t data[12];
    size_t size;
};

/* Read into a text of capacity 4. */
static const struct bad_text bad_texts[] = {
    {"does not fit", {4, 0, 0, 0, 'a', 'b', 'c', 'd'}, 8},
    {"holds a NUL", {3, 0, 0, 0, 'a', 0, 'c'}, 7},
    {"longer than the message", {3, 0, 0, 0, 'a', 'b'}, 6},
    {"length cut", {3, 0}, 2},
    {"length near 2^32", {0xff, 0xff, 0xff, 0xff, 'a'}, 5},
};

START_TEST(a_bad_text_is_refused_and_reads_as_empty)
{
    const struct bad_text *row = &bad_texts[_i];
    char text[4] = "xxx";
    struct bytes_reader reader;
    bytes_reader_init(&reader, row->data, row->size);

    bytes_read_text(&reader, text, sizeof(text));

    ck_assert_str_eq(text, "");
    ck_assert_int_eq(reader.error, BERTH_EPROTO);
}
END_TEST

START_TEST(a_block_over_its_limit_is_refused)
{
    const uint8_t data[] = {2, 0, 0, 0, 'a', 'b'};
    size_t size = 9;
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, sizeof(data));
    ck_assert_ptr_null(bytes_read_block(&reader, 1, &size));
    ck_assert_uint_eq(size, 0);
    ck_assert_int_eq(bytes_reader_end(&reader), BERTH_EPROTO);
}
END_TEST

START_TEST(a_sub_reader_cannot_see_beyond_its_part)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, "abcd", 4);

    struct bytes_reader sub = bytes_read_sub(&reader, 2);
    ck_assert_uint_eq(bytes_read_u8(&sub), 'a');
    ck_assert_uint_eq(bytes_read_u16(&sub), 0);
    ck_assert_int_eq(bytes_reader_end(&sub), BERTH_EPROTO);

    ck_assert_uint_eq(bytes_read_u8(&reader), 'c');
    struct bytes_reader none = bytes_read_sub(&reader, 0);
    ck_assert_int_eq(bytes_reader_end(&none), 0);
    struct bytes_reader beyond = bytes_read_sub(&reader, 2);
    ck_assert_int_eq(bytes_reader_end(&beyond), BERTH_EPROTO);
    ck_assert_int_eq(bytes_reader_end(&reader), BERTH_EPROTO);
}
END_TEST

START_TEST(a_value_out_of_range_can_fail_the_reader)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, "a", 1);
    (void)bytes_read_u8(&reader);
    bytes_reader_fail(&reader);
    ck_assert_int_eq(bytes_reader_end(&reader), BERTH_EPROTO);
}
END_TEST

START_TEST(a_length_hole_counts_what_follows_it)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, 5000);
    bytes_write_u8(&writer, 9);
    size_t hole = bytes_write_length_hole(&writer);
    for (int i = 0; i < 1000; i++) {
        bytes_write_u8(&writer, (uint8_t)i); /* the buffer moves meanwhile */
    }
    bytes_writer_patch_length(&writer, hole);
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(bytes_writer_take(&writer, &data, &size), 0);

    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    (void)bytes_read_u8(&reader);
    ck_assert_uint_eq(bytes_read_u32(&reader), 1000);
    ck_assert_uint_eq(bytes_reader_left(&reader), 1000);
}
END_TEST

START_TEST(a_writer_stops_at_its_limit_and_hands_nothing_over)
{
    struct bytes_writer writer;
    uint8_t *data = NULL;
    size_t size = 0;
    bytes_writer_init(&writer, 4);
    bytes_write_u32(&writer, 1);
    ck_assert_int_eq(writer.error, 0);
    bytes_write_u8(&writer, 1);
    bytes_write_raw(&writer, "", 0);

    ck_assert_int_eq(bytes_writer_take(&writer, &data, &size), BERTH_ETOOLARGE);
    ck_assert_ptr_null(data);

    bytes_write_u32(&writer, 7); /* empty and usable again */
    ck_assert_int_eq(bytes_writer_take(&writer, &data, &size), 0);
    ck_assert_uint_eq(size, 4);
    free(data);
}
END_TEST

START_TEST(holes_and_formats_after_a_fault_do_nothing)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, 2);
    size_t hole = bytes_write_length_hole(&writer);
    bytes_write_format(&writer, "%d", 5);
    bytes_writer_patch_length(&writer, hole);
    ck_assert_int_eq(writer.error, BERTH_ETOOLARGE);
    ck_assert_uint_eq(writer.size, 0);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(a_text_can_be_built_up_to_exactly_its_limit)
{
    struct bytes_writer writer;
    char *text = NULL;
    bytes_writer_init(&writer, 8);
    bytes_write_format(&writer, "%s-%d", "web", 42);
    bytes_write_format(&writer, "%s", "ab");
    ck_assert_int_eq(bytes_writer_take_text(&writer, &text), 0);
    ck_assert_str_eq(text, "web-42ab");
    free(text);

    bytes_write_format(&writer, "%s", "123456789");
    ck_assert_int_eq(bytes_writer_take_text(&writer, &text), BERTH_ETOOLARGE);
}
END_TEST

START_TEST(a_text_of_nothing_is_an_empty_text)
{
    struct bytes_writer writer;
    char *text = NULL;
    bytes_writer_init(&writer, 0);
    ck_assert_int_eq(bytes_writer_take_text(&writer, &text), 0);
    ck_assert_str_eq(text, "");
    free(text);
}
END_TEST

START_TEST(when_memory_runs_out_the_writer_says_so_at_the_end)
{
    if (!FAULT_HEAP_WORKS) {
        return;
    }
    struct bytes_writer writer;
    uint8_t *data = NULL;
    size_t size = 0;
    bytes_writer_init(&writer, 1 << 20);
    fault_heap_after(1);
    for (int i = 0; i < 1000; i++) {
        bytes_write_u64(&writer, 1);
    }
    fault_heap_off();
    ck_assert_int_eq(bytes_writer_take(&writer, &data, &size), -ENOMEM);
    ck_assert_ptr_null(data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bytes");
    TCase *tcase = tcase_create("bytes");
    tcase_add_test(tcase, what_is_written_is_read_back);
    tcase_add_test(tcase, numbers_are_little_endian);
    tcase_add_test(tcase, reading_beyond_the_end_fails_for_good_and_gives_zeros);
    tcase_add_test(tcase, bytes_that_are_left_over_are_a_fault);
    tcase_add_test(tcase, an_empty_message_ends_well);
    tcase_add_loop_test(tcase, a_bad_text_is_refused_and_reads_as_empty, 0,
                        ARRAY_COUNT(bad_texts));
    tcase_add_test(tcase, a_block_over_its_limit_is_refused);
    tcase_add_test(tcase, a_sub_reader_cannot_see_beyond_its_part);
    tcase_add_test(tcase, a_value_out_of_range_can_fail_the_reader);
    tcase_add_test(tcase, a_length_hole_counts_what_follows_it);
    tcase_add_test(tcase, a_writer_stops_at_its_limit_and_hands_nothing_over);
    tcase_add_test(tcase, holes_and_formats_after_a_fault_do_nothing);
    tcase_add_test(tcase, a_text_can_be_built_up_to_exactly_its_limit);
    tcase_add_test(tcase, a_text_of_nothing_is_an_empty_text);
    tcase_add_test(tcase, when_memory_runs_out_the_writer_says_so_at_the_end);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
