#include "base/cleanup.h"
#include "base/random.h"
#include "base/string_map.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct string_map *map;
static int values[3];

static void setup(void)
{
    map = string_map_new();
    ck_assert_ptr_nonnull(map);
}

static void teardown(void)
{
    map = string_map_free(map);
    ck_assert_ptr_null(map);
}

START_TEST(an_empty_map_answers_without_a_table)
{
    struct string_map_entry entry;
    struct string_map_entry *entries = NULL;
    size_t cursor = 0;
    size_t count = 1;

    ck_assert_ptr_null(string_map_get(map, "a"));
    ck_assert_ptr_null(string_map_remove(map, "a"));
    ck_assert(!string_map_next(map, &cursor, &entry));
    ck_assert_int_eq(string_map_sorted(map, &entries, &count), 0);
    ck_assert_ptr_null(entries);
    ck_assert_uint_eq(count, 0);
    ck_assert_ptr_null(string_map_free(NULL));
}
END_TEST

START_TEST(a_value_is_found_replaced_and_removed_by_its_key)
{
    char key[] = "web";
    void *old = &values[2];
    ck_assert_int_eq(string_map_put(map, key, &values[0], &old), 0);
    ck_assert_ptr_null(old);
    key[0] = 'x'; /* the map has its own copy */

    ck_assert_ptr_eq(string_map_get(map, "web"), &values[0]);
    ck_assert_ptr_null(string_map_get(map, "xeb"));
    ck_assert_int_eq(string_map_put(map, "web", &values[1], &old), 0);
    ck_assert_ptr_eq(old, &values[0]);
    ck_assert_uint_eq(string_map_count(map), 1);
    ck_assert_ptr_eq(string_map_remove(map, "web"), &values[1]);
    ck_assert_ptr_null(string_map_get(map, "web"));
    ck_assert_uint_eq(string_map_count(map), 0);
}
END_TEST

START_TEST(the_empty_text_is_a_key_like_any_other)
{
    ck_assert_int_eq(string_map_put(map, "", &values[0], NULL), 0);
    ck_assert_ptr_eq(string_map_get(map, ""), &values[0]);
}
END_TEST

START_TEST(the_sorted_list_does_not_depend_on_history)
{
    const char *const order[] = {"b", "a", "c", "aa", "B"};
    const char *const expected[] = {"B", "a", "aa", "b", "c"};
    ck_assert_int_eq(string_map_put(map, "gone", &values[0], NULL), 0);
    for (size_t i = 0; i < ARRAY_COUNT(order); i++) {
        ck_assert_int_eq(string_map_put(map, order[i], &values[0], NULL), 0);
    }
    ck_assert_ptr_nonnull(string_map_remove(map, "gone"));

    CLEANUP_FREE struct string_map_entry *entries = NULL;
    size_t count = 0;
    ck_assert_int_eq(string_map_sorted(map, &entries, &count), 0);

    ck_assert_uint_eq(count, ARRAY_COUNT(expected));
    for (size_t i = 0; i < count; i++) {
        ck_assert_str_eq(entries[i].key, expected[i]);
    }
}
END_TEST

START_TEST(a_visitor_may_remove_what_it_stands_on_and_misses_nothing)
{
    enum { COUNT = 500 };
    static bool seen[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "%d", i);
        ck_assert_int_eq(string_map_put(map, key, &seen[i], NULL), 0);
    }

    STRING_MAP_EACH (visited, map) {
        bool *mark = visited.entry.value;
        ck_assert(!*mark);
        *mark = true;
        ck_assert_ptr_eq(string_map_remove(map, visited.entry.key), mark);
    }

    ck_assert_uint_eq(string_map_count(map), 0);
    for (int i = 0; i < COUNT; i++) {
        ck_assert(seen[i]);
    }
}
END_TEST

/* The map against an array that is too simple to be wrong. */
START_TEST(random_moves_agree_with_a_plain_array)
{
    enum { KEYS = 200, MOVES = 20000 };
    static int present[KEYS]; /* 0: absent, else the value's index + 1 */
    struct random random;
    random_seed(&random, 7);
    size_t count = 0;
    for (int move = 0; move < MOVES; move++) {
        unsigned key_index = (unsigned)random_below(&random, KEYS);
        unsigned value_index = (unsigned)random_below(&random, 3);
        char key[16];
        (void)snprintf(key, sizeof(key), "key-%u", key_index);
        void *known = present[key_index] > 0 ? &values[present[key_index] - 1] : NULL;
        ck_assert_ptr_eq(string_map_get(map, key), known);
        if (random_below(&random, 2) == 0) {
            void *old = NULL;
            ck_assert_int_eq(string_map_put(map, key, &values[value_index], &old), 0);
            ck_assert_ptr_eq(old, known);
            count += known == NULL;
            present[key_index] = (int)value_index + 1;
        } else {
            ck_assert_ptr_eq(string_map_remove(map, key), known);
            count -= known != NULL;
            present[key_index] = 0;
        }
        ck_assert_uint_eq(string_map_count(map), count);
    }
}
END_TEST

START_TEST(when_memory_runs_out_the_map_is_as_before)
{
    if (!FAULT_HEAP_WORKS) {
        return;
    }
    bool is_done = false;
    for (long n = 0; !is_done; n++) {
        fault_heap_after(n);
        int r = string_map_put(map, "web", &values[0], NULL);
        fault_heap_off();
        is_done = r == 0;
        ck_assert(is_done || r == -ENOMEM);
        ck_assert_uint_eq(string_map_count(map), is_done);
        ck_assert_int_lt(n, 10);
    }
    struct string_map_entry *entries = NULL;
    size_t count = 0;
    fault_heap_after(0);
    int r = string_map_sorted(map, &entries, &count);
    fault_heap_off();
    ck_assert_int_eq(r, -ENOMEM);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("string_map");
    TCase *tcase = tcase_create("string_map");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, an_empty_map_answers_without_a_table);
    tcase_add_test(tcase, a_value_is_found_replaced_and_removed_by_its_key);
    tcase_add_test(tcase, the_empty_text_is_a_key_like_any_other);
    tcase_add_test(tcase, the_sorted_list_does_not_depend_on_history);
    tcase_add_test(tcase, a_visitor_may_remove_what_it_stands_on_and_misses_nothing);
    tcase_add_test(tcase, random_moves_agree_with_a_plain_array);
    tcase_add_test(tcase, when_memory_runs_out_the_map_is_as_before);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
