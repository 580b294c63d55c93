/* Goal: what is plugged is what the guest can touch, and nothing else. Method: a view
 * over a file; process_vm_readv touches it as KVM would, and says when it may not. */
#include "base/cleanup.h"
#include "plug_faults.h"
#include "support/test_main.h"
#include "vmm/ram_plug.h"

#include <check.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK  RAM_PLUG_BLOCK_BYTES
#define BLOCKS 70u /* more than a word has */

static const struct ram_backing plain;
static struct ram_plug *plug;
static int file;

static void setup(void)
{
    struct err err = {0};
    file = ram_backing_make(&plain, BLOCKS * BLOCK, &err);
    ck_assert_msg(file >= 0 &&
                      ram_plug_new(file, BLOCKS * BLOCK, &plain, &plug, &err) == 0,
                  "%s", err.text);
}

static void teardown(void)
{
    plug = ram_plug_free(plug);
    (void)close(file);
}

/* The first and the last byte of a block, by somebody who gets an error. */
static bool guest_touches(uint32_t block)
{
    bool can[2];
    for (unsigned i = 0; i < 2; i++) {
        char byte;
        struct iovec to = {&byte, 1};
        struct iovec from = {
            ram_plug_view(plug) + block * BLOCK + (i == 0 ? 0 : BLOCK - 1), 1};
        can[i] = process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
    }
    ck_assert(can[0] == can[1]);
    return can[0];
}

START_TEST(a_guest_touches_what_is_plugged_and_nothing_else)
{
    ck_assert_int_eq(ram_plug_set(plug, 3, 2, true), 0);
    ck_assert_int_eq(ram_plug_set(plug, 62, 4, true), 0);
    ck_assert_int_eq(ram_plug_set(plug, 63, 1, false), 0);

    for (uint32_t i = 0; i < BLOCKS; i++) {
        const bool is_plugged = i == 3 || i == 4 || i == 62 || i == 64 || i == 65;
        ck_assert(ram_plug_has(plug, i) == is_plugged);
        ck_assert(guest_touches(i) == is_plugged);
    }
    ck_assert_uint_eq(ram_plug_plugged(plug), 5);
}
END_TEST

START_TEST(blocks_that_are_plugged_already_count_once)
{
    ck_assert_int_eq(ram_plug_set(plug, 0, 2, true), 0);
    ck_assert_int_eq(ram_plug_set(plug, 1, 2, true), 0);
    ck_assert_int_eq(ram_plug_set(plug, 5, 2, false), 0);

    ck_assert_uint_eq(ram_plug_plugged(plug), 3);
    ck_assert_int_eq(ram_plug_set(plug, 0, BLOCKS, false), 0);
    ck_assert_uint_eq(ram_plug_plugged(plug), 0);
}
END_TEST

/* By kind of fault: whole or half done, all is as it was, and costs what it cost. */
START_TEST(what_cannot_be_unplugged_stays_plugged)
{
    const uint32_t plugged[] = {1, 2, 63, 64, 69};
    for (unsigned i = 0; i < ARRAY_COUNT(plugged); i++) {
        ck_assert_int_eq(ram_plug_set(plug, plugged[i], 1, true), 0);
    }

    plug_fault_set((enum plug_fault)_i);
    ck_assert_int_eq(ram_plug_set(plug, 0, BLOCKS, false), -ENOMEM);
    ck_assert_uint_gt(plug_fault.hits, 0);
    plug_fault_set(PLUG_FAULT_NONE);

    ck_assert_uint_eq(ram_plug_plugged(plug), ARRAY_COUNT(plugged));
    for (uint32_t i = 0, at = 0; i < BLOCKS; i++) {
        const bool is_plugged = at < ARRAY_COUNT(plugged) && plugged[at] == i;
        at += is_plugged ? 1 : 0;
        ck_assert(ram_plug_has(plug, i) == is_plugged);
        ck_assert(guest_touches(i) == is_plugged);
    }
    ck_assert_int_eq(ram_plug_set(plug, 0, BLOCKS, false), 0);
    ck_assert_uint_eq(ram_plug_plugged(plug), 0);
}
END_TEST

START_TEST(what_cannot_be_plugged_is_out_of_reach)
{
    ck_assert_int_eq(ram_plug_set(plug, 3, 1, true), 0);

    plug_fault_set(PLUG_FAULT_PROTECT_HALF);
    ck_assert_int_eq(ram_plug_set(plug, 4, 4, true), -ENOMEM);
    plug_fault_set(PLUG_FAULT_NONE);

    for (uint32_t i = 0; i < 9; i++) {
        ck_assert(guest_touches(i) == (i == 3));
    }
    ck_assert_uint_eq(ram_plug_plugged(plug), 1);
}
END_TEST

START_TEST(what_is_held_is_not_unplugged)
{
    ck_assert_int_eq(ram_plug_set(plug, 4, 3, true), 0);
    ck_assert(!ram_plug_hold(plug, 6 * BLOCK + 1, BLOCK)); /* the next one is not there */
    ck_assert(!ram_plug_hold(plug, 3 * BLOCK, BLOCK + 1));
    ck_assert(ram_plug_hold(plug, 5 * BLOCK - 1, 2));
    ck_assert(ram_plug_hold(plug, 5 * BLOCK, BLOCK));

    ck_assert_int_eq(ram_plug_set(plug, 6, 1, false), 0);
    ck_assert_int_eq(ram_plug_set(plug, 4, 1, false), -EBUSY);
    ck_assert_int_eq(ram_plug_set(plug, 0, BLOCKS, false), -EBUSY);
    ck_assert_uint_eq(ram_plug_plugged(plug), 2);
    ck_assert(guest_touches(4) && guest_touches(5) && !guest_touches(6));
    ram_plug_let_go(plug, 5 * BLOCK - 1, 2);
    ck_assert_int_eq(ram_plug_set(plug, 4, 1, false), 0);
    ck_assert_int_eq(ram_plug_set(plug, 5, 1, false), -EBUSY);
    ram_plug_let_go(plug, 5 * BLOCK, BLOCK);
    ck_assert_int_eq(ram_plug_set(plug, 5, 1, false), 0);
    ck_assert_uint_eq(ram_plug_plugged(plug), 0);
}
END_TEST

START_TEST(what_is_unplugged_costs_nothing)
{
    struct stat stat;
    ck_assert_int_eq(ram_plug_set(plug, 0, 2, true), 0);
    memset(ram_plug_view(plug), 1, 2 * BLOCK);

    ck_assert_int_eq(ram_plug_set(plug, 0, 1, false), 0);

    ck_assert_int_eq(fstat(file, &stat), 0);
    ck_assert_uint_eq((uint64_t)stat.st_blocks * 512, BLOCK);
}
END_TEST

START_TEST(runs_end_where_the_next_block_is_another)
{
    ck_assert_int_eq(ram_plug_set(plug, 1, 2, true), 0);

    ck_assert_uint_eq(ram_plug_run(plug, 0, UINT64_MAX, false), BLOCK);
    ck_assert_uint_eq(ram_plug_run(plug, 0, UINT64_MAX, true), 0);
    ck_assert_uint_eq(ram_plug_run(plug, BLOCK + 5, UINT64_MAX, true), 2 * BLOCK - 5);
    ck_assert_uint_eq(ram_plug_run(plug, BLOCK + 5, 7, true), 7);
    ck_assert_uint_eq(ram_plug_run(plug, 3 * BLOCK, UINT64_MAX, false),
                      (BLOCKS - 3) * BLOCK);
    ck_assert_uint_eq(ram_plug_run(plug, BLOCKS * BLOCK, 1, false), 0);
}
END_TEST

START_TEST(a_region_has_not_too_many_blocks)
{
    ck_assert_uint_eq(ram_plug_block_bytes(BLOCK), BLOCK);
    ck_assert_uint_eq(ram_plug_block_bytes(RAM_PLUG_BLOCKS_MAX * BLOCK), BLOCK);
    ck_assert_uint_eq(ram_plug_block_bytes((RAM_PLUG_BLOCKS_MAX + 1) * BLOCK), 2 * BLOCK);
    ck_assert_uint_eq(ram_plug_block_bytes(UINT64_C(256) << 30), UINT64_C(16) << 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ram_plug");
    TCase *tests = tcase_create("ram_plug");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_guest_touches_what_is_plugged_and_nothing_else);
    tcase_add_test(tests, blocks_that_are_plugged_already_count_once);
    tcase_add_loop_test(tests, what_cannot_be_unplugged_stays_plugged, 1,
                        PLUG_FAULT_COUNT);
    tcase_add_test(tests, what_cannot_be_plugged_is_out_of_reach);
    tcase_add_test(tests, what_is_held_is_not_unplugged);
    tcase_add_test(tests, what_is_unplugged_costs_nothing);
    tcase_add_test(tests, runs_end_where_the_next_block_is_another);
    tcase_add_test(tests, a_region_has_not_too_many_blocks);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
