#include "base/digest.h"
#include "consensus/entry_frame.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

static uint8_t entry[ENTRY_FRAME_SIZE_MAX];

static size_t build(size_t count, const char *const *commands)
{
    struct entry_frame_builder builder;
    size_t payload = 0;
    for (size_t i = 0; i < count; i++) {
        payload += strlen(commands[i]);
    }
    size_t size = entry_frame_size(count, payload);
    memset(entry, 0xee, sizeof(entry)); /* padding must be written, not found */
    entry_frame_begin(&builder, entry, size);
    for (size_t i = 0; i < count; i++) {
        entry_frame_add(&builder, commands[i], strlen(commands[i]));
    }
    entry_frame_finish(&builder);
    return size;
}

static const char *const COMMANDS[] = {"one", "", "three is longer", "4"};

START_TEST(commands_come_back_one_by_one)
{
    struct entry_frame_reader reader;
    const uint8_t *data = NULL;
    size_t size = 0;
    size_t total = build(4, COMMANDS);

    ck_assert_uint_eq(total % 8, 0);
    ck_assert_int_eq(entry_frame_open(&reader, entry, total, NULL), 0);
    ck_assert_uint_eq(reader.count, 4);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert(entry_frame_next(&reader, &data, &size));
        ck_assert_uint_eq(size, strlen(COMMANDS[i]));
        ck_assert_int_eq(memcmp(data, COMMANDS[i], size), 0);
    }
    ck_assert(!entry_frame_next(&reader, &data, &size));
}
END_TEST

START_TEST(any_flipped_bit_is_noticed)
{
    struct entry_frame_reader reader;
    size_t total = build(4, COMMANDS);

    for (size_t bit = 0; bit < total * 8; bit++) {
        struct err err = {0};
        entry[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_int_eq(entry_frame_open(&reader, entry, total, &err), BERTH_ECORRUPT);
        ck_assert_str_ne(err.text, "");
        entry[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    ck_assert_int_eq(entry_frame_open(&reader, entry, total, NULL), 0);
}
END_TEST

START_TEST(an_entry_that_was_cut_or_grew_is_refused)
{
    struct entry_frame_reader reader;
    size_t total = build(4, COMMANDS);

    for (size_t size = 0; size < total; size++) {
        ck_assert_int_eq(entry_frame_open(&reader, entry, size, NULL), BERTH_ECORRUPT);
    }
    memset(entry + total, 0, 8);
    ck_assert_int_eq(entry_frame_open(&reader, entry, total + 8, NULL), BERTH_ECORRUPT);
    ck_assert_int_eq(entry_frame_open(&reader, entry, ENTRY_FRAME_SIZE_MAX, NULL),
                     BERTH_ECORRUPT);
}
END_TEST

/* With a good checksum over bad lengths: only the structure can tell. */
static int open_forged(size_t at, uint32_t value, size_t total)
{
    struct entry_frame_reader reader;
    uint8_t saved[4];
    memcpy(saved, entry + at, 4);
    memcpy(entry + at, &value, 4);
    uint32_t sum = crc32c(0, entry + 8, total - 8);
    memcpy(entry + 4, &sum, 4);
    int r = entry_frame_open(&reader, entry, total, NULL);
    memcpy(entry + at, saved, 4);
    return r;
}

START_TEST(lengths_that_do_not_add_up_are_refused_whatever_the_checksum_says)
{
    size_t total = build(2, COMMANDS);

    ck_assert_int_eq(open_forged(8, 0, total), BERTH_ECORRUPT);
    ck_assert_int_eq(open_forged(8, UINT32_MAX, total), BERTH_ECORRUPT);
    ck_assert_int_eq(open_forged(12, 0, total), BERTH_ECORRUPT);
    ck_assert_int_eq(open_forged(12, 1, total), BERTH_ECORRUPT);
    ck_assert_int_eq(open_forged(12, 3, total), BERTH_ECORRUPT);
    ck_assert_int_eq(open_forged(12, UINT32_MAX, total), BERTH_ECORRUPT);
    ck_assert_int_eq(open_forged(16, 2, total), BERTH_ECORRUPT);
    ck_assert_int_eq(open_forged(16, 4, total), BERTH_ECORRUPT);
    ck_assert_int_eq(open_forged(16, UINT32_MAX, total), BERTH_ECORRUPT);
    ck_assert_int_eq(open_forged(16, 3, total), 0);
}
END_TEST

START_TEST(the_size_says_what_fits_one_entry)
{
    ck_assert_uint_eq(entry_frame_size(0, 0), 0);
    ck_assert_uint_eq(entry_frame_size(1, 0), 24);
    ck_assert_uint_eq(entry_frame_size(1, 4), 24);
    ck_assert_uint_eq(entry_frame_size(1, 5), 32);
    ck_assert_uint_eq(entry_frame_size(1, ENTRY_FRAME_COMMAND_MAX), ENTRY_FRAME_SIZE_MAX);
    ck_assert_uint_eq(entry_frame_size(1, ENTRY_FRAME_COMMAND_MAX + 1), 0);
    ck_assert_uint_eq(entry_frame_size(ENTRY_FRAME_COUNT_MAX + 1, 0), 0);
    ck_assert_uint_eq(entry_frame_size(1, SIZE_MAX), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("entry_frame");
    TCase *tcase = tcase_create("entry_frame");
    tcase_add_test(tcase, commands_come_back_one_by_one);
    tcase_add_test(tcase, any_flipped_bit_is_noticed);
    tcase_add_test(tcase, an_entry_that_was_cut_or_grew_is_refused);
    tcase_add_test(tcase,
                   lengths_that_do_not_add_up_are_refused_whatever_the_checksum_says);
    tcase_add_test(tcase, the_size_says_what_fits_one_entry);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
