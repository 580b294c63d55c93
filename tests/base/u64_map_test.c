#include "base/random.h"
#include "base/u64_map.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <errno.h>
#include <signal.h>

static struct u64_map *map;
static int values[3];

static void setup(void)
{
    map = u64_map_new();
    ck_assert_ptr_nonnull(map);
}

static void teardown(void)
{
    map = u64_map_free(map);
    ck_assert_ptr_null(map);
}

START_TEST(an_empty_map_answers_without_a_table)
{
    size_t cursor = 0;
    uint64_t key = 0;
    void *value = NULL;
    ck_assert_ptr_null(u64_map_get(map, 1));
    ck_assert_ptr_null(u64_map_remove(map, 1));
    ck_assert(!u64_map_next(map, &cursor, &key, &value));
    ck_assert_ptr_null(u64_map_free(NULL));
}
END_TEST

START_TEST(a_value_is_found_replaced_and_removed_by_its_key)
{
    ck_assert_int_eq(u64_map_put(map, UINT64_MAX, &values[0]), 0);
    ck_assert_ptr_eq(u64_map_get(map, UINT64_MAX), &values[0]);
    ck_assert_int_eq(u64_map_put(map, UINT64_MAX, &values[1]), 0);
    ck_assert_uint_eq(u64_map_count(map), 1);
    ck_assert_ptr_eq(u64_map_remove(map, UINT64_MAX), &values[1]);
    ck_assert_ptr_null(u64_map_get(map, UINT64_MAX));
    ck_assert_uint_eq(u64_map_count(map), 0);
}
END_TEST

START_TEST(the_reserved_key_is_never_found)
{
    ck_assert_int_eq(u64_map_put(map, 1, &values[0]), 0);
    ck_assert_ptr_null(u64_map_get(map, 0));
    ck_assert_ptr_null(u64_map_remove(map, 0));
}
END_TEST

START_TEST(putting_the_reserved_key_aborts)
{
    (void)u64_map_put(map, 0, &values[0]);
}
END_TEST

START_TEST(putting_no_value_aborts)
{
    (void)u64_map_put(map, 1, NULL);
}
END_TEST

START_TEST(a_visitor_sees_every_entry_once)
{
    enum { COUNT = 300 };
    static int seen[COUNT + 1];
    for (uint64_t key = 1; key <= COUNT; key++) {
        ck_assert_int_eq(u64_map_put(map, key, &seen[key]), 0);
    }

    size_t cursor = 0;
    uint64_t key = 0;
    void *value = NULL;
    while (u64_map_next(map, &cursor, &key, &value)) {
        ck_assert_ptr_eq(value, &seen[key]);
        seen[key]++;
    }

    for (unsigned i = 1; i <= COUNT; i++) {
        ck_assert_int_eq(seen[i], 1);
    }
}
END_TEST

/* Removing closes gaps by moving neighbours: the place for mistakes. A plain array tells.
 */
START_TEST(random_moves_agree_with_a_plain_array)
{
    enum { KEYS = 100, MOVES = 20000 };
    static void *present[KEYS + 1];
    struct random random;
    random_seed(&random, (uint64_t)_i);
    size_t count = 0;
    for (int move = 0; move < MOVES; move++) {
        uint64_t key = 1 + random_below(&random, KEYS);
        void *value = &values[random_below(&random, 3)];
        ck_assert_ptr_eq(u64_map_get(map, key), present[key]);
        if (random_below(&random, 2) == 0) {
            count += present[key] == NULL;
            present[key] = value;
            ck_assert_int_eq(u64_map_put(map, key, value), 0);
        } else {
            count -= present[key] != NULL;
            ck_assert_ptr_eq(u64_map_remove(map, key), present[key]);
            present[key] = NULL;
        }
        ck_assert_uint_eq(u64_map_count(map), count);
    }
}
END_TEST

START_TEST(when_memory_runs_out_the_map_is_as_before)
{
    if (!FAULT_HEAP_WORKS) {
        return;
    }
    fault_heap_after(0);
    int refused = u64_map_put(map, 5, &values[0]);
    fault_heap_off();
    ck_assert_int_eq(refused, -ENOMEM);
    ck_assert_uint_eq(u64_map_count(map), 0);
    ck_assert_int_eq(u64_map_put(map, 5, &values[0]), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("u64_map");
    TCase *tcase = tcase_create("u64_map");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, an_empty_map_answers_without_a_table);
    tcase_add_test(tcase, a_value_is_found_replaced_and_removed_by_its_key);
    tcase_add_test(tcase, the_reserved_key_is_never_found);
    tcase_add_test_raise_signal(tcase, putting_the_reserved_key_aborts, SIGABRT);
    tcase_add_test_raise_signal(tcase, putting_no_value_aborts, SIGABRT);
    tcase_add_test(tcase, a_visitor_sees_every_entry_once);
    tcase_add_loop_test(tcase, random_moves_agree_with_a_plain_array, 1, 4);
    tcase_add_test(tcase, when_memory_runs_out_the_map_is_as_before);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
