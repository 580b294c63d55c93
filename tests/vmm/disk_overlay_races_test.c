/* Goal: what two threads do to one page of an overlay's bitmap loses nothing that a flush
 * was answered for. Method: the source itself, with a step of the other thread where it
 * does the most harm, between two steps of the first; then the power goes. */
#include "power_file.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What comes between; each once. */
static void (*after_a_bit)(void);
static void (*before_memory)(void);
static unsigned no_memory; /* allocations from now on, from the next one, that fail */

static void step(void (**between)(void))
{
    void (*once)(void) = *between;
    *between = NULL;
    if (once != NULL) {
        once();
    }
}

static uint8_t bit_set(_Atomic uint8_t *at, uint8_t mask)
{
    const uint8_t was = atomic_fetch_or(at, mask);
    step(&after_a_bit);
    return was;
}

static void *more_memory(void *memory, size_t size)
{
    step(&before_memory);
    if (no_memory > 0 && --no_memory == 0) {
        return NULL;
    }
    return realloc(memory, size);
}

#undef atomic_fetch_or
#define atomic_fetch_or(at, mask) bit_set(at, mask)
#define realloc(memory, size)     more_memory(memory, size)
#include "vmm/disk_overlay.c" /* as one of its own, for what it calls */
#undef realloc

/* Three pages of the bitmap. */
#define DISK_BYTES (3 * PAGE_BLOCKS * BLOCK)

static struct power_file file;
static struct virtual_disk *disk;
static const struct digest no_base;

static uint64_t block_of_page(unsigned page)
{
    return page * PAGE_BLOCKS * BLOCK + 5 * BLOCK;
}

static void write_page(unsigned page)
{
    uint8_t data[BLOCK] = {(uint8_t)(page + 1)};
    const struct iovec piece = {data, sizeof(data)};
    ck_assert_int_eq(disk_write(disk, block_of_page(page), &piece, 1, sizeof(data)), 0);
}

static void setup(void)
{
    after_a_bit = before_memory = NULL;
    no_memory = 0;
    power_file_init(&file, disk_overlay_file_size(DISK_BYTES), 3);
    ck_assert_int_eq(disk_overlay_create(&file.file, DISK_BYTES, 0, &no_base, NULL), 0);
    ck_assert_int_eq(disk_overlay_open(&file.file, NULL, &no_base, &disk, NULL), 0);
}

static void teardown(void)
{
    disk_free(disk);
    power_file_fini(&file);
}

static bool holds_after_a_crash(unsigned page)
{
    power_file_crash(&file);
    disk_free(disk);
    ck_assert_int_eq(disk_overlay_open(&file.file, NULL, &no_base, &disk, NULL), 0);
    return disk_overlay_holds(disk, block_of_page(page));
}

static void write_and_flush(void)
{
    write_page(1);
    ck_assert_int_eq(disk_flush(disk), 0);
}

/* The first has set the bit, and no more. */
START_TEST(a_block_that_two_take_is_durable_when_one_of_them_has_flushed)
{
    bool held;
    after_a_bit = write_and_flush;

    write_page(1);

    ck_assert(after_a_bit == NULL);
    held = holds_after_a_crash(1);
    ck_assert(held);
}
END_TEST

static void write_first(void)
{
    write_page(0);
}

START_TEST(a_page_that_becomes_dirty_in_a_flush_takes_no_others_place)
{
    write_page(1);
    before_memory = write_first;

    ck_assert_int_eq(disk_flush(disk), 0);

    ck_assert(before_memory == NULL);
    ck_assert(holds_after_a_crash(1));
}
END_TEST

/* Nothing was lost: the next one does it. */
START_TEST(a_flush_without_memory_is_made_another_time)
{
    write_page(0);
    write_page(1);
    write_page(2);
    no_memory = (unsigned)_i + 1;

    ck_assert_int_eq(disk_flush(disk), -ENOMEM);
    ck_assert_int_eq(disk_flush(disk), 0);

    for (unsigned page = 0; page < 3; page++) {
        ck_assert(holds_after_a_crash(page));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_overlay_races");
    TCase *tests = tcase_create("disk_overlay_races");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_block_that_two_take_is_durable_when_one_of_them_has_flushed);
    tcase_add_test(tests, a_page_that_becomes_dirty_in_a_flush_takes_no_others_place);
    tcase_add_loop_test(tests, a_flush_without_memory_is_made_another_time, 0, 3);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
