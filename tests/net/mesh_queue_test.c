#include "net/mesh_queue.h"
#include "support/test_main.h"

static const struct mesh_peer_id peer = {.class = MESH_MEMBER};

static struct mesh_item *item_make(size_t size, uint64_t queued_ms)
{
    zframe_t *frame = zframe_new(NULL, size);
    ck_assert_ptr_nonnull(frame);
    struct mesh_item *item = mesh_item_new(&peer, 0, frame);
    ck_assert_ptr_nonnull(item);
    item->queued_ms = queued_ms;
    return item;
}

START_TEST(a_queue_is_full_at_its_count_or_its_bytes)
{
    struct mesh_queue queue;
    mesh_queue_init(&queue, 3, 100);
    mesh_queue_push(&queue, item_make(1, 0));
    mesh_queue_push(&queue, item_make(1, 0));
    ck_assert(!mesh_queue_full(&queue));
    ck_assert(!mesh_queue_half_free(&queue));
    mesh_queue_push(&queue, item_make(1, 0));
    ck_assert(mesh_queue_full(&queue));
    ck_assert_uint_eq(mesh_queue_clear(&queue), 3);
    ck_assert(mesh_queue_half_free(&queue));
    mesh_queue_push(&queue, item_make(500, 0)); /* one of any size fits */
    ck_assert(mesh_queue_full(&queue));
    ck_assert_uint_eq(queue.bytes, 500);
    ck_assert_uint_eq(mesh_queue_clear(&queue), 1);
    ck_assert_uint_eq(queue.bytes, 0);
}
END_TEST

START_TEST(what_is_put_back_comes_out_first)
{
    struct mesh_queue queue;
    mesh_queue_init(&queue, 9, 100);
    mesh_queue_push(&queue, item_make(1, 0));
    mesh_queue_push(&queue, item_make(2, 0));
    struct mesh_item *first = mesh_queue_pop(&queue);
    mesh_queue_push(&queue, item_make(3, 0));
    mesh_queue_push_front(&queue, first);
    for (size_t size = 1; size <= 3; size++) {
        struct mesh_item *item = mesh_queue_pop(&queue);
        ck_assert_uint_eq(mesh_item_size(item), size);
        (void)mesh_item_free(item);
    }
    ck_assert_ptr_null(mesh_queue_pop(&queue));
    ck_assert_uint_eq(queue.count, 0);
}
END_TEST

START_TEST(old_items_are_dropped_and_younger_ones_stay)
{
    struct mesh_queue queue;
    mesh_queue_init(&queue, 9, 100);
    for (uint64_t ms = 10; ms <= 40; ms += 10) {
        mesh_queue_push(&queue, item_make(1, ms));
    }
    ck_assert_uint_eq(mesh_queue_drop_older(&queue, 30), 2);
    ck_assert_uint_eq(queue.count, 2);
    ck_assert_uint_eq(mesh_queue_drop_older(&queue, 30), 0);
    ck_assert_uint_eq(mesh_queue_clear(&queue), 2);
}
END_TEST

START_TEST(notices_take_no_room_and_survive_their_queue)
{
    struct mesh_queue queue;
    struct mesh_item notice = {.kind = MESH_ITEM_UP};
    list_init(&notice.link);
    mesh_queue_init(&queue, 1, 1);
    mesh_queue_push(&queue, &notice);
    ck_assert(!mesh_queue_full(&queue));
    ck_assert(!mesh_queue_empty(&queue));
    ck_assert_uint_eq(mesh_queue_clear(&queue), 0);
    ck_assert(list_empty(&notice.link));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mesh_queue");
    TCase *c = tcase_create("mesh_queue");
    tcase_add_test(c, a_queue_is_full_at_its_count_or_its_bytes);
    tcase_add_test(c, what_is_put_back_comes_out_first);
    tcase_add_test(c, old_items_are_dropped_and_younger_ones_stay);
    tcase_add_test(c, notices_take_no_room_and_survive_their_queue);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main_run(suite());
}
