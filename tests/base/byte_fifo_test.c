/* Goal: pieces stay what and where they are until they are dropped, in order, and blocks
 * go back with their last piece. */
#include "base/byte_fifo.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#define PIECES 4000

static struct byte_fifo *fifo;

static void setup(void)
{
    fifo = byte_fifo_new();
    ck_assert_ptr_nonnull(fifo);
}

static void teardown(void)
{
    fifo = byte_fifo_free(fifo);
    ck_assert_ptr_null(fifo);
}

/* Of all sizes, some of them larger than a block. */
static size_t size_of(unsigned n)
{
    return n % 500 == 499 ? BYTE_FIFO_BLOCK + n : 1 + n * 7 % 300;
}

START_TEST(pieces_keep_their_bytes_until_they_are_dropped)
{
    static uint8_t *pieces[PIECES];
    for (unsigned n = 0; n < PIECES; n++) {
        pieces[n] = byte_fifo_push(fifo, size_of(n));
        ck_assert_ptr_nonnull(pieces[n]);
        ck_assert_uint_eq((uintptr_t)pieces[n] % alignof(max_align_t), 0);
        memset(pieces[n], (int)(n % 251), size_of(n));
    }
    for (unsigned n = 0; n < PIECES; n++) {
        ck_assert_uint_eq(pieces[n][0], n % 251);
        ck_assert_uint_eq(pieces[n][size_of(n) - 1], n % 251);
        byte_fifo_drop(fifo);
    }
    ck_assert_uint_eq(byte_fifo_bytes(fifo), 0);
}
END_TEST

START_TEST(what_is_kept_bounds_what_is_held)
{
    const unsigned kept = 100;
    for (unsigned n = 0; n < PIECES; n++) {
        ck_assert_ptr_nonnull(byte_fifo_push(fifo, 100));
        if (n >= kept) {
            byte_fifo_drop(fifo);
        }
    }
    ck_assert_uint_le(byte_fifo_bytes(fifo), kept * 112 + 2 * BYTE_FIFO_BLOCK);
}
END_TEST

START_TEST(without_memory_nothing_changes)
{
    uint8_t *piece = byte_fifo_push(fifo, 8);
    const size_t before = byte_fifo_bytes(fifo);
    fault_heap_after(0);
    const void *none = byte_fifo_push(fifo, BYTE_FIFO_BLOCK);
    fault_heap_off();
    ck_assert_ptr_null(none);
    ck_assert_uint_eq(byte_fifo_bytes(fifo), before);
    ck_assert_ptr_nonnull(piece);
    byte_fifo_drop(fifo);
    ck_assert_uint_eq(byte_fifo_bytes(fifo), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("byte_fifo");
    TCase *tests = tcase_create("byte_fifo");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, pieces_keep_their_bytes_until_they_are_dropped);
    tcase_add_test(tests, what_is_kept_bounds_what_is_held);
    if (FAULT_HEAP_WORKS) {
        tcase_add_test(tests, without_memory_nothing_changes);
    }
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
