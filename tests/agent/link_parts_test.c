/* Goal: what was cut is put together as it was, and nothing else ever is. Method: a large
 * message of bytes that differ, its parts in order, out of order, twice, of two senders.
 */
#include "agent/link_parts.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

#define PARTS_MAX (LINK_PARTS_MAX / MESSAGE_PART_MAX)

static struct msg_part cut[PARTS_MAX];
static unsigned cut_count;
static unsigned cut_fails_at; /* 0: never */
static struct link_parts parts;
static uint8_t *made;

static int keep(void *context, const struct msg_part *part)
{
    ck_assert_ptr_eq(context, cut);
    ck_assert_uint_lt(cut_count, PARTS_MAX);
    if (cut_fails_at != 0 && cut_count + 1 == cut_fails_at) {
        return BERTH_EFULL;
    }
    ck_assert_int_eq(record_copy(&msg_part_record, part, &cut[cut_count++]), 0);
    return 0;
}

static int make(uint64_t id, size_t size)
{
    made = realloc(made, size);
    for (size_t i = 0; i < size; i++) {
        made[i] = (uint8_t)(i % 251);
    }
    return link_parts_cut(id, MESSAGE_ORDERS, made, size, keep, cut);
}

static void clean_up(void)
{
    for (unsigned i = 0; i < cut_count; i++) {
        record_fini(&msg_part_record, &cut[i]);
    }
    link_parts_reset(&parts);
    free(made);
}

static int add(uint64_t from, unsigned index)
{
    return link_parts_add(&parts, from, &cut[index]);
}

static const size_t sizes[] = {1, MESSAGE_PART_MAX, MESSAGE_PART_MAX + 1,
                               3 * MESSAGE_PART_MAX - 7, LINK_PARTS_MAX};

START_TEST(what_was_cut_is_put_together)
{
    ck_assert_int_eq(make(9, sizes[_i]), 0);
    ck_assert_uint_eq(cut_count, (sizes[_i] + MESSAGE_PART_MAX - 1) / MESSAGE_PART_MAX);

    for (unsigned i = 0; i < cut_count; i++) {
        ck_assert_int_eq(add(2, i), i + 1 == cut_count);
    }

    ck_assert_uint_eq(parts.size, sizes[_i]);
    ck_assert_uint_eq(parts.type, MESSAGE_ORDERS);
    ck_assert_mem_eq(parts.data, made, sizes[_i]);
    clean_up();
}
END_TEST

START_TEST(what_does_not_follow_on_is_dropped_with_what_has_come)
{
    ck_assert_int_eq(make(9, 3 * MESSAGE_PART_MAX), 0);
    ck_assert_int_eq(add(2, 0), 0);
    switch (_i) {
    case 0: /* one is missing */
        ck_assert_int_eq(add(2, 2), BERTH_EPROTO);
        break;
    case 1: /* longer than the whole */
        cut[0].total = cut[1].total = MESSAGE_PART_MAX + 1;
        ck_assert_int_eq(add(2, 0), 0);
        ck_assert_int_eq(add(2, 1), BERTH_EPROTO);
        cut[0].total = cut[1].total = cut[2].total;
        break;
    default: /* twice */
        ck_assert_int_eq(add(2, 1), 0);
        ck_assert_int_eq(add(2, 1), BERTH_EPROTO);
        break;
    }
    ck_assert_int_eq(add(2, 1), BERTH_EPROTO); /* nothing has begun any more */

    ck_assert_int_eq(add(2, 0), 0); /* sent again */
    ck_assert_int_eq(add(2, 1), 0);
    ck_assert_int_eq(add(2, 2), 1);
    clean_up();
}
END_TEST

/* As when a leader was deposed and the new one's orders are on their way already. */
START_TEST(what_is_left_of_another_message_breaks_nothing_off)
{
    ck_assert_int_eq(make(9, 3 * MESSAGE_PART_MAX), 0);
    ck_assert_int_eq(add(2, 0), 0);
    cut[1].id += _i == 0 ? 0 : 1;
    ck_assert_int_eq(add(_i == 0 ? 3 : 2, 1), BERTH_EPROTO);
    cut[1].id -= _i == 0 ? 0 : 1;

    ck_assert_int_eq(add(2, 1), 0);
    ck_assert_int_eq(add(2, 2), 1);

    ck_assert_mem_eq(parts.data, made, parts.total);
    clean_up();
}
END_TEST

START_TEST(who_begins_anew_is_heard)
{
    ck_assert_int_eq(make(9, 2 * MESSAGE_PART_MAX), 0);
    ck_assert_int_eq(add(2, 0), 0);
    ck_assert_int_eq(add(3, 0), 0); /* another leader */

    ck_assert_int_eq(add(3, 1), 1);

    ck_assert_uint_eq(parts.from, 3);
    clean_up();
}
END_TEST

START_TEST(nothing_too_large_and_no_other_message_is_begun)
{
    ck_assert_int_eq(make(9, 10), 0);
    if (_i == 0) {
        cut[0].total = LINK_PARTS_MAX + 1;
    } else {
        cut[0].type = MESSAGE_HEARTBEAT;
    }

    ck_assert_int_eq(add(2, 0), BERTH_EPROTO);

    ck_assert_ptr_null(parts.data);
    clean_up();
}
END_TEST

START_TEST(a_part_without_bytes_is_none)
{
    ck_assert_int_eq(make(9, 10), 0);
    cut[0].data.size = 0;

    ck_assert_int_eq(add(2, 0), BERTH_EPROTO);
    clean_up();
}
END_TEST

START_TEST(cutting_ends_where_a_part_cannot_be_sent)
{
    cut_fails_at = 2;

    ck_assert_int_eq(make(9, 3 * MESSAGE_PART_MAX), BERTH_EFULL);

    ck_assert_uint_eq(cut_count, 1);
    clean_up();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("link_parts");
    TCase *tests = tcase_create("link_parts");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, what_was_cut_is_put_together, 0,
                        (int)(sizeof(sizes) / sizeof(sizes[0])));
    tcase_add_loop_test(tests, what_does_not_follow_on_is_dropped_with_what_has_come, 0,
                        3);
    tcase_add_loop_test(tests, what_is_left_of_another_message_breaks_nothing_off, 0, 2);
    tcase_add_test(tests, who_begins_anew_is_heard);
    tcase_add_loop_test(tests, nothing_too_large_and_no_other_message_is_begun, 0, 2);
    tcase_add_test(tests, a_part_without_bytes_is_none);
    tcase_add_test(tests, cutting_ends_where_a_part_cannot_be_sent);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
