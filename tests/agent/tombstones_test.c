/* Goal: what a host remembers of VMs that it forgot is found, replaced and removed by VM,
 * and does not cost a piece of the heap for each. */
#include "agent/tombstones.h"
#include "base/random.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <errno.h>

#define VMS   300
#define STEPS 20000

static struct tombstones *set;

static void setup(void)
{
    set = tombstones_new();
    ck_assert_ptr_nonnull(set);
}

static void teardown(void)
{
    set = tombstones_free(set);
    ck_assert_ptr_null(set);
}

static int put(uint64_t uid, uint64_t epoch)
{
    return tombstones_put(set, uid,
                          &(struct tombstone){.epoch_seen = epoch,
                                              .epoch_ended = epoch + 1,
                                              .since_wall_ms = epoch + 2});
}

static void assert_is(const struct tombstone *tombstone, uint64_t epoch)
{
    ck_assert_ptr_nonnull(tombstone);
    ck_assert_uint_eq(tombstone->epoch_seen, epoch);
    ck_assert_uint_eq(tombstone->epoch_ended, epoch + 1);
    ck_assert_uint_eq(tombstone->since_wall_ms, epoch + 2);
}

START_TEST(an_empty_set_holds_nothing)
{
    ck_assert_uint_eq(tombstones_count(set), 0);
    ck_assert_ptr_null(tombstones_get(set, 7));
    tombstones_remove(set, 7);
    ck_assert_uint_eq(tombstones_count(set), 0);
    ck_assert_ptr_null(tombstones_free(NULL));
}
END_TEST

START_TEST(the_last_takes_the_place_of_one_that_goes)
{
    uint64_t uid = 0;
    ck_assert_int_eq(put(1, 10), 0);
    ck_assert_int_eq(put(2, 20), 0);
    ck_assert_int_eq(put(3, 30), 0);
    tombstones_remove(set, 1);

    ck_assert_uint_eq(tombstones_count(set), 2);
    ck_assert_ptr_null(tombstones_get(set, 1));
    assert_is(tombstones_get(set, 2), 20);
    assert_is(tombstones_get(set, 3), 30);
    assert_is(tombstones_at(set, 0, &uid), 30);
    ck_assert_uint_eq(uid, 3);
    tombstones_remove(set, 2); /* the last itself */
    ck_assert_uint_eq(tombstones_count(set), 1);
    assert_is(tombstones_get(set, 3), 30);
}
END_TEST

/* Against an array of epochs by VM, 0: none. */
START_TEST(it_holds_what_was_put_and_not_removed)
{
    struct random random;
    uint64_t model[VMS + 1] = {0};
    size_t count = 0;
    random_seed(&random, (uint64_t)_i + 1);
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t uid = 1 + random_below(&random, VMS);
        if (random_below(&random, 2) == 0) {
            count += model[uid] == 0;
            model[uid] = step + 1;
            ck_assert_int_eq(put(uid, step + 1), 0);
        } else {
            count -= model[uid] != 0;
            model[uid] = 0;
            tombstones_remove(set, uid);
        }
        ck_assert_uint_eq(tombstones_count(set), count);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t uid = 0;
        const struct tombstone *tombstone = tombstones_at(set, i, &uid);
        assert_is(tombstone, model[uid]);
        ck_assert_ptr_eq(tombstone, tombstones_get(set, uid));
        model[uid] = 0; /* each once */
    }
    for (uint64_t uid = 1; uid <= VMS; uid++) {
        ck_assert_uint_eq(model[uid], 0);
    }
}
END_TEST

/* The array and the map double: 1024 take thirteen pieces, one after the other. */
START_TEST(a_thousand_take_a_dozen_pieces_of_the_heap)
{
    unsigned failed = 0; /* the assertions take some as well */
    fault_heap_after(13);
    for (uint64_t uid = 1; uid <= 1024; uid++) {
        failed += put(uid, uid) != 0;
    }
    fault_heap_off();
    ck_assert_uint_eq(failed, 0);
}
END_TEST

START_TEST(without_memory_nothing_has_changed)
{
    for (uint64_t uid = 1; uid <= 64; uid++) {
        ck_assert_int_eq(put(uid, uid), 0);
    }
    for (long left = 0;; left++) {
        fault_heap_after(left);
        int r = put(65, 65);
        int again = put(64, 640); /* of one that is there nothing is needed */
        fault_heap_off();
        ck_assert_int_eq(again, 0);
        assert_is(tombstones_get(set, 64), 640);
        if (r == 0) {
            ck_assert_int_gt(left, 0);
            break;
        }
        ck_assert_int_eq(r, -ENOMEM);
        ck_assert_uint_eq(tombstones_count(set), 64);
        ck_assert_ptr_null(tombstones_get(set, 65));
    }
    assert_is(tombstones_get(set, 65), 65);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tombstones");
    TCase *tests = tcase_create("tombstones");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, an_empty_set_holds_nothing);
    tcase_add_test(tests, the_last_takes_the_place_of_one_that_goes);
    tcase_add_loop_test(tests, it_holds_what_was_put_and_not_removed, 0, 4);
    if (FAULT_HEAP_WORKS) {
        tcase_add_test(tests, a_thousand_take_a_dozen_pieces_of_the_heap);
        tcase_add_test(tests, without_memory_nothing_has_changed);
    }
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
