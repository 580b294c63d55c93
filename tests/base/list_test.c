#include "base/cleanup.h"
#include "base/list.h"
#include "support/test_main.h"

struct item {
    struct list link;
    unsigned number;
};

static struct list head;
static struct item items[3];

static void setup(void)
{
    list_init(&head);
    for (unsigned i = 0; i < ARRAY_COUNT(items); i++) {
        items[i].number = i;
        list_push_back(&head, &items[i].link);
    }
}

static unsigned number_of(struct list *link)
{
    ck_assert_ptr_nonnull(link);
    return LIST_ITEM(link, struct item, link)->number;
}

START_TEST(items_come_out_of_the_front_in_their_order)
{
    for (unsigned i = 0; i < ARRAY_COUNT(items); i++) {
        ck_assert_uint_eq(number_of(list_pop_front(&head)), i);
        ck_assert(list_empty(&items[i].link));
    }
    ck_assert(list_empty(&head));
    ck_assert_ptr_null(list_pop_front(&head));
}
END_TEST

START_TEST(items_come_out_of_the_back_newest_first)
{
    for (unsigned i = ARRAY_COUNT(items); i-- > 0;) {
        ck_assert_uint_eq(number_of(list_pop_back(&head)), i);
        ck_assert(list_empty(&items[i].link));
    }
    ck_assert(list_empty(&head));
    ck_assert_ptr_null(list_pop_back(&head));
}
END_TEST

START_TEST(a_removed_item_is_an_empty_head)
{
    list_remove(&items[1].link);
    list_remove(&items[1].link);
    ck_assert(list_empty(&items[1].link));
    ck_assert_uint_eq(number_of(list_pop_front(&head)), 0);
    ck_assert_uint_eq(number_of(list_pop_front(&head)), 2);
    ck_assert(list_empty(&head));
}
END_TEST

START_TEST(all_items_move_behind_those_that_are_there)
{
    struct list other;
    struct item early = {.number = 9};
    list_init(&other);
    list_push_front(&other, &early.link);
    list_move_all(&other, &head);
    ck_assert(list_empty(&head));
    ck_assert_uint_eq(number_of(list_pop_front(&other)), 9);
    for (unsigned i = 0; i < ARRAY_COUNT(items); i++) {
        ck_assert_uint_eq(number_of(list_pop_front(&other)), i);
    }
    ck_assert(list_empty(&other));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("list");
    TCase *tests = tcase_create("list");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, items_come_out_of_the_front_in_their_order);
    tcase_add_test(tests, items_come_out_of_the_back_newest_first);
    tcase_add_test(tests, a_removed_item_is_an_empty_head);
    tcase_add_test(tests, all_items_move_behind_those_that_are_there);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
