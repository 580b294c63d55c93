/* Goal: what a crash leaves is let through, and whatever else has happened to the log's
 * open files is refused. Method: files are made in memory; every state that a crash can
 * leave is tried (any of the sectors of the last write are not there, at every alignment
 * of it), and every single bit is turned over. */
#include "consensus/log_check.h"
#include "support/corpus_seed.h"
#include "support/log_image.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

#define FILE_SIZE ((size_t)16384)
#define SECTOR    ((size_t)LOG_CHECK_SECTOR)

static struct log_image image;
static struct log_check check;
static struct err err;
static uint8_t payload[4096];

static void setup(void)
{
    log_image_init(&image, FILE_SIZE);
    check = (struct log_check){0};
    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)(i * 7 % 255 + 1); /* no zeros */
    }
}

static void teardown(void)
{
    log_image_fini(&image);
}

static size_t add(size_t first_size, size_t second_size)
{
    const struct log_image_entry entries[] = {{7, 1, payload, first_size},
                                              {7, 3, payload, second_size}};
    return log_image_batch(&image, entries, second_size > 0 ? 2 : 1);
}

static int looked_at(const char *name)
{
    err = (struct err){0};
    return log_check_file(&check, name, image.data, image.size, &err);
}

static int looked_at_anew(void)
{
    check = (struct log_check){0};
    return looked_at("open-1");
}

/* The disk did not get to those sectors of the write that begins at `start`. */
static void lose_sectors(size_t start, size_t end, unsigned which)
{
    size_t first = start / SECTOR;
    for (size_t sector = first; sector * SECTOR < end; sector++) {
        if ((which >> (sector - first) & 1) != 0) {
            size_t from = sector * SECTOR < start ? start : sector * SECTOR;
            size_t to = (sector + 1) * SECTOR < end ? (sector + 1) * SECTOR : end;
            memset(image.data + from, 0, to - from);
        }
    }
}

START_TEST(whole_files_one_after_another_are_let_through)
{
    add(8, 0);
    add(1000, 64);
    ck_assert_int_eq(looked_at("open-1"), 0);
    ck_assert_int_eq(looked_at("open-2"), 0);
    ck_assert_str_eq(check.ended_in, "");
    ck_assert_int_eq(log_check_file(&check, "open-3", image.data, image.used, &err), 0);
    memset(image.data, 0, image.size);
    ck_assert_int_eq(looked_at("open-4"), 0);
    ck_assert_str_eq(check.ended_in, "open-4");
    ck_assert_int_eq(looked_at("open-5"), 0);
    ck_assert_int_eq(log_check_file(&check, "open-6", NULL, 0, &err), 0);
}
END_TEST

START_TEST(a_bit_that_turned_over_anywhere_is_found)
{
    add(8, 0);
    add(1000, 64);
    add(520, 0);
    for (size_t bit = 0; bit < image.used * 8; bit++) {
        image.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_msg(looked_at_anew() == BERTH_ECORRUPT, "bit %zu of byte %zu", bit % 8,
                      bit / 8);
        ck_assert_ptr_nonnull(strstr(err.text, "open-1"));
        image.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(looked_at_anew(), 0);
}
END_TEST

/* How many choices there are of sectors to lose, none included. */
static unsigned choices(size_t start, size_t end)
{
    return 1u << ((end - 1) / SECTOR - start / SECTOR + 1);
}

/* The write before is of a size that puts the last one at each place of a sector. */
START_TEST(what_a_crash_left_of_the_last_write_is_let_through)
{
    const size_t before = (size_t)_i * 8;
    for (unsigned lost = 1, count = 2; lost < count; lost++) {
        log_image_fini(&image);
        log_image_init(&image, FILE_SIZE);
        add(8 + before, 0);
        size_t start = add(1200, 424);
        count = choices(start, image.used);
        lose_sectors(start, image.used, lost);
        ck_assert_msg(looked_at_anew() == 0, "%zu before, %x lost: %s", before, lost,
                      err.text);
    }
}
END_TEST

START_TEST(the_same_with_a_write_behind_it_is_refused)
{
    const size_t before = (size_t)_i * 8;
    for (unsigned lost = 1, count = 2; lost < count; lost++) {
        log_image_fini(&image);
        log_image_init(&image, FILE_SIZE);
        add(8 + before, 0);
        size_t start = add(1200, 424);
        size_t end = image.used;
        count = choices(start, end);
        add(8, 0);
        lose_sectors(start, end, lost);
        ck_assert_msg(looked_at_anew() == BERTH_ECORRUPT, "%zu before, %x lost", before,
                      lost);
    }
}
END_TEST

START_TEST(a_later_file_that_holds_something_belies_a_torn_one)
{
    size_t start = add(1200, 0);
    lose_sectors(start, image.used, 2);
    ck_assert_int_eq(looked_at("open-7"), 0);
    ck_assert_str_eq(check.ended_in, "open-7");
    memset(image.data, 0, image.size);
    ck_assert_int_eq(looked_at("open-8"), 0);
    add(8, 0);

    ck_assert_int_eq(looked_at("open-9"), BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(err.text, "open-9"));
    ck_assert_ptr_nonnull(strstr(err.text, "open-8"));
}
END_TEST

/* The space has its format before anything is written (log_space.h). */
START_TEST(a_first_write_without_its_first_sector_is_a_torn_one)
{
    add(1200, 0);
    memset(image.data + 8, 0, SECTOR - 8);
    ck_assert_msg(looked_at_anew() == 0, "%s", err.text);
    ck_assert_str_eq(check.ended_in, "open-1");
}
END_TEST

START_TEST(files_made_ready_behind_a_torn_one_hold_nothing)
{
    size_t start = add(1200, 0);
    lose_sectors(start, image.used, 2);
    ck_assert_int_eq(looked_at_anew(), 0);
    memset(image.data + 8, 0, image.size - 8);
    ck_assert_msg(looked_at("open-2") == 0, "%s", err.text);
    image.data[8] = 1;
    ck_assert_int_eq(looked_at("open-3"), BERTH_ECORRUPT);
}
END_TEST

START_TEST(one_wrong_bit_beside_a_sector_of_zeros_is_found)
{
    memset(payload + 600, 0, 2 * SECTOR);
    size_t start = add(2048, 0);
    for (size_t bit = start * 8; bit < image.used * 8; bit++) {
        image.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_msg(looked_at_anew() == BERTH_ECORRUPT, "bit %zu of byte %zu", bit % 8,
                      bit / 8);
        image.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
END_TEST

/* The limit of it, see docs/reliability.md. */
START_TEST(two_wrong_bytes_beside_a_sector_of_zeros_pass_as_torn)
{
    memset(payload + 600, 0, 2 * SECTOR);
    size_t start = add(2048, 0);
    image.data[start + 100] ^= 0x55;
    image.data[start + 1900] ^= 0x55;
    ck_assert_int_eq(looked_at_anew(), 0);
    ck_assert_str_eq(check.ended_in, "open-1");
}
END_TEST

START_TEST(a_file_that_begins_with_something_else_is_refused)
{
    add(8, 0);
    memset(image.data, 0, 8);
    ck_assert_int_eq(looked_at_anew(), BERTH_ECORRUPT);
    ck_assert_int_eq(log_check_file(&check, "open-1", payload, 5, &err), BERTH_ECORRUPT);
}
END_TEST

START_TEST(a_batch_that_is_cut_off_is_refused)
{
    add(1200, 0);
    for (size_t size = 9; size < image.used; size++) {
        check = (struct log_check){0};
        ck_assert_int_eq(log_check_file(&check, "open-1", image.data, size, &err),
                         BERTH_ECORRUPT);
    }
}
END_TEST

/* Every place behind the hole looks like the header of a great many entries. */
START_TEST(a_search_without_an_end_is_given_up)
{
    log_image_fini(&image);
    log_image_init(&image, (size_t)8 << 20);
    add(8, 0);
    for (size_t at = 2 * SECTOR; at + 16 <= image.size; at += 16) {
        image.data[at] = 1;
        image.data[at + 10] = 4;
        image.data[at + 8] = 1;
    }
    memset(image.data + 8, 0, 2 * SECTOR - 8);
    ck_assert_int_eq(looked_at_anew(), BERTH_ECORRUPT);
}
END_TEST

/* What is zeros is not looked at for each place in it. */
START_TEST(a_long_hole_is_searched_through)
{
    log_image_fini(&image);
    log_image_init(&image, (size_t)160 << 20);
    add(8, 0);
    image.data[image.size - 1] = 1;
    memset(image.data + 8, 0, SECTOR - 8);
    ck_assert_msg(looked_at_anew() == 0, "%s", err.text);
    ck_assert_str_eq(check.ended_in, "open-1");
}
END_TEST

/* Sectors that are zeros but for the end take a look of 500 bytes at each place. */
START_TEST(a_search_among_zeros_is_given_up_too)
{
    log_image_fini(&image);
    log_image_init(&image, (size_t)64 << 20);
    add(8, 0);
    for (size_t at = 2 * SECTOR; at < image.size; at += SECTOR) {
        image.data[at - 1] = 1;
    }
    memset(image.data + 8, 0, SECTOR - 8);
    ck_assert_int_eq(looked_at_anew(), BERTH_ECORRUPT);
}
END_TEST

START_TEST(the_fuzzers_seeds_are_whole_and_torn_files)
{
    static const char *const names[] = {"whole", "torn", "lost"};
    uint8_t seed[1 + 2048] = {0};
    uint8_t *read = NULL;
    size_t size = 0;
    add(8, 0);
    size_t start = add(600, 64);
    if (_i == 1) {
        lose_sectors(start, image.used, 2);
    } else if (_i == 2) {
        lose_sectors(start, image.used, 1);
        add(16, 0);
    }
    memcpy(seed + 1, image.data, sizeof(seed) - 1);
    corpus_seed("consensus_log", names[_i], seed, sizeof(seed), &read, &size);

    ck_assert_int_eq(log_check_file(&check, "open-1", read + 1, size - 1, &err),
                     _i == 2 ? BERTH_ECORRUPT : 0);
    ck_assert_str_eq(check.ended_in, _i == 1 ? "open-1" : "");
    free(read);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("log_check");
    TCase *tcase = tcase_create("log_check");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, whole_files_one_after_another_are_let_through);
    tcase_add_test(tcase, a_bit_that_turned_over_anywhere_is_found);
    tcase_add_loop_test(tcase, what_a_crash_left_of_the_last_write_is_let_through, 0,
                        (int)SECTOR / 8);
    tcase_add_loop_test(tcase, the_same_with_a_write_behind_it_is_refused, 0,
                        (int)SECTOR / 8);
    tcase_add_test(tcase, a_later_file_that_holds_something_belies_a_torn_one);
    tcase_add_test(tcase, a_first_write_without_its_first_sector_is_a_torn_one);
    tcase_add_test(tcase, files_made_ready_behind_a_torn_one_hold_nothing);
    tcase_add_test(tcase, one_wrong_bit_beside_a_sector_of_zeros_is_found);
    tcase_add_test(tcase, two_wrong_bytes_beside_a_sector_of_zeros_pass_as_torn);
    tcase_add_test(tcase, a_file_that_begins_with_something_else_is_refused);
    tcase_add_test(tcase, a_batch_that_is_cut_off_is_refused);
    tcase_add_test(tcase, a_search_without_an_end_is_given_up);
    tcase_add_test(tcase, a_long_hole_is_searched_through);
    tcase_add_test(tcase, a_search_among_zeros_is_given_up_too);
    tcase_add_loop_test(tcase, the_fuzzers_seeds_are_whole_and_torn_files, 0, 3);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
