/* Goal: the device's side of a ring follows the driver that keeps the rules and stops at
 * the one that does not. Method: rings written by hand into guest memory, then one row
 * per broken rule. */
#include "support/test_main.h"
#include "vmm/virtio_queue.h"

#include <check.h>

#include <string.h>

#define RAM_BYTES   UINT64_C(0x100000)
#define DESCRIPTORS UINT64_C(0x1000)
#define AVAILABLE   UINT64_C(0x2000)
#define USED        UINT64_C(0x3000)
#define TABLE       UINT64_C(0x4000)
#define DATA        UINT64_C(0x8000)
#define SIZE        8u

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct descriptor {
    uint64_t address;
    uint32_t size;
    uint16_t flags;
    uint16_t next;
};

static struct guest_memory memory;
static struct virtio_queue queue;
static struct virtio_chain chain;
static uint16_t posted;

static void set_up(void)
{
    guest_memory_init(&memory);
    ck_assert_int_eq(guest_memory_add(&memory, 0, RAM_BYTES, NULL), 0);
    memset(&queue, 0, sizeof(queue));
    queue.size_max = 2 * SIZE;
    virtio_queue_reset(&queue);
    queue.size = SIZE;
    queue.descriptors = DESCRIPTORS;
    queue.available = AVAILABLE;
    queue.used = USED;
    queue.indirect = true;
    ck_assert_int_eq(virtio_queue_check(&queue, &memory), 0);
    queue.enabled = true;
    posted = 0;
}

static void tear_down(void)
{
    guest_memory_fini(&memory);
}

static void put_descriptor(uint64_t table, unsigned index, struct descriptor descriptor)
{
    ck_assert_int_eq(guest_memory_write(&memory, table + 16 * (uint64_t)index,
                                        &descriptor, sizeof(descriptor)),
                     0);
}

static void offer(uint16_t head)
{
    ck_assert_int_eq(guest_memory_store_u16(
                         &memory, AVAILABLE + 4 + 2 * (uint64_t)(posted % SIZE), head),
                     0);
    posted++;
    ck_assert_int_eq(guest_memory_store_u16(&memory, AVAILABLE + 2, posted), 0);
}

static uint16_t word_at(uint64_t address)
{
    uint16_t value = 0;
    ck_assert_int_eq(guest_memory_load_u16(&memory, address, &value), 0);
    return value;
}

START_TEST(a_request_comes_out_as_it_was_put_in)
{
    char text[8] = {0};
    put_descriptor(DESCRIPTORS, 5, (struct descriptor){DATA, 3, NEXT, 2});
    put_descriptor(DESCRIPTORS, 2, (struct descriptor){DATA + 0x100, 4, NEXT, 7});
    put_descriptor(DESCRIPTORS, 7, (struct descriptor){DATA + 0x200, 6, WRITE, 0});
    ck_assert_int_eq(guest_memory_write(&memory, DATA, "abc", 3), 0);
    ck_assert_int_eq(guest_memory_write(&memory, DATA + 0x100, "defg", 4), 0);
    offer(5);

    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);

    ck_assert_uint_eq(chain.head, 5);
    ck_assert_uint_eq(chain.readable_bytes, 7);
    ck_assert_uint_eq(chain.writable_bytes, 6);
    ck_assert_uint_eq(virtio_chain_read(&chain, &memory, 1, text, 7), 6);
    ck_assert_str_eq(text, "bcdefg");
    ck_assert_uint_eq(virtio_chain_write(&chain, &memory, 4, "XYZ", 3), 2);
    ck_assert_uint_eq(word_at(DATA + 0x204), 'X' | 'Y' << 8);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 0);
    virtio_queue_give(&queue, &memory, 5, 6);
    ck_assert_uint_eq(word_at(USED + 2), 1);
    ck_assert_uint_eq(word_at(USED + 4), 5);
    ck_assert_uint_eq(word_at(USED + 8), 6);
}
END_TEST

START_TEST(a_request_in_an_indirect_table_is_the_same)
{
    put_descriptor(DESCRIPTORS, 0, (struct descriptor){TABLE, 3 * 16, INDIRECT, 0});
    put_descriptor(TABLE, 0, (struct descriptor){DATA, 1, NEXT, 2});
    put_descriptor(TABLE, 2, (struct descriptor){DATA + 1, 2, NEXT | WRITE, 1});
    put_descriptor(TABLE, 1, (struct descriptor){DATA + 9, 4, WRITE, 0});
    offer(0);

    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);

    ck_assert_uint_eq(chain.readable_bytes, 1);
    ck_assert_uint_eq(chain.writable_bytes, 6);
}
END_TEST

START_TEST(a_chain_may_be_as_long_as_the_queue)
{
    struct iovec pieces[SIZE];
    for (uint16_t i = 0; i < SIZE; i++) {
        const uint16_t flags = i + 1u < SIZE ? NEXT : 0;
        put_descriptor(DESCRIPTORS, i,
                       (struct descriptor){DATA + i, 1, flags, (uint16_t)(i + 1)});
    }
    offer(0);

    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);

    ck_assert_uint_eq(chain.readable_count, SIZE);
    ck_assert_int_eq(virtio_chain_iovec(&chain, &memory, false, 0, SIZE, pieces, SIZE),
                     (int)SIZE);
    ck_assert_int_eq(
        virtio_chain_iovec(&chain, &memory, false, 0, SIZE, pieces, SIZE - 1),
        BERTH_ETOOLARGE);
    ck_assert_int_eq(virtio_chain_iovec(&chain, &memory, false, 1, SIZE, pieces, SIZE),
                     BERTH_EINVALID);
    ck_assert_int_eq(virtio_chain_iovec(&chain, &memory, true, 0, 1, pieces, SIZE),
                     BERTH_EINVALID);
}
END_TEST

struct bad_row {
    const char *name;
    struct descriptor direct[3]; /* from 0; the head is 0 */
    struct descriptor table[3];  /* at TABLE */
};

static const struct bad_row bads[] = {
    {"a loop", {{DATA, 1, NEXT, 1}, {DATA, 1, NEXT, 0}}, {{0}}},
    {"a loop of nothing", {{DATA, 0, NEXT, 0}}, {{0}}},
    {"next beyond the table", {{DATA, 1, NEXT, SIZE}}, {{0}}},
    {"next far beyond", {{DATA, 1, NEXT, 0xffff}}, {{0}}},
    {"readable after writable", {{DATA, 1, NEXT | WRITE, 1}, {DATA, 1, 0, 0}}, {{0}}},
    {"no byte at all", {{DATA, 0, 0, 0}}, {{0}}},
    {"beyond RAM", {{RAM_BYTES - 1, 2, 0, 0}}, {{0}}},
    {"far beyond RAM", {{UINT64_MAX - 1, 1, WRITE, 0}}, {{0}}},
    {"wraps around", {{UINT64_MAX, 2, 0, 0}}, {{0}}},
    {"four gigabytes", {{DATA, UINT32_MAX, WRITE, 0}}, {{0}}},
    {"table beyond RAM", {{RAM_BYTES - 16, 32, INDIRECT, 0}}, {{0}}},
    {"table of no entry", {{TABLE, 0, INDIRECT, 0}}, {{0}}},
    {"table of half an entry", {{TABLE, 24, INDIRECT, 0}}, {{DATA, 1, 0, 0}}},
    {"table larger than the queue", {{TABLE, 16 * (SIZE + 1), INDIRECT, 0}}, {{0}}},
    {"table with a next", {{TABLE, 16, INDIRECT | NEXT, 1}}, {{DATA, 1, 0, 0}}},
    {"table in a table", {{TABLE, 32, INDIRECT, 0}}, {{TABLE, 32, INDIRECT, 0}}},
    {"loop in a table", {{TABLE, 32, INDIRECT, 0}}, {{DATA, 1, NEXT, 0}}},
    {"one more than the queue has, in two tables",
     {{DATA, 1, NEXT, 1}, {TABLE, 16 * SIZE, INDIRECT, 0}},
     {{DATA, 1, NEXT, 1}, {DATA, 1, NEXT, 2}, {DATA, 1, NEXT, 3}}},
    {"next beyond a table", {{TABLE, 16, INDIRECT, 0}}, {{DATA, 1, NEXT, 1}}},
};

START_TEST(a_bad_chain_breaks_the_queue_and_nothing_else)
{
    const struct bad_row *row = &bads[_i];
    for (unsigned i = 0; i < 3; i++) {
        put_descriptor(DESCRIPTORS, i, row->direct[i]);
        put_descriptor(TABLE, i, row->table[i]);
    }
    for (uint16_t i = 3; i < SIZE; i++) {
        put_descriptor(
            TABLE, i,
            (struct descriptor){DATA, 1, i + 1u < SIZE ? NEXT : 0, (uint16_t)(i + 1)});
    }
    offer(0);

    ck_assert_msg(virtio_queue_next(&queue, &memory, &chain) == BERTH_EPROTO, "%s",
                  row->name);

    ck_assert_ptr_nonnull(queue.fault);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), BERTH_EPROTO);
    ck_assert(!virtio_queue_must_signal(&queue, &memory));
    ck_assert(!virtio_queue_arm(&queue, &memory));
    ck_assert_uint_eq(queue.in_flight_count, 0);
    virtio_queue_reset(&queue);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 0);
}
END_TEST

START_TEST(indirect_descriptors_must_be_negotiated)
{
    queue.indirect = false;
    put_descriptor(DESCRIPTORS, 0, (struct descriptor){TABLE, 16, INDIRECT, 0});
    put_descriptor(TABLE, 0, (struct descriptor){DATA, 1, 0, 0});
    offer(0);

    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), BERTH_EPROTO);
}
END_TEST

START_TEST(an_index_that_jumps_breaks_the_queue)
{
    const uint16_t jump = _i == 0 ? SIZE + 1 : 0x8000;
    ck_assert_int_eq(guest_memory_store_u16(&memory, AVAILABLE + 2, jump), 0);

    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), BERTH_EPROTO);

    ck_assert_str_eq(queue.fault, "an available index that jumped");
}
END_TEST

START_TEST(a_full_ring_is_no_jump)
{
    for (uint16_t i = 0; i < SIZE; i++) {
        put_descriptor(DESCRIPTORS, i, (struct descriptor){DATA, 1, 0, 0});
        offer(i);
    }

    for (uint16_t i = 0; i < SIZE; i++) {
        ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);
    }

    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 0);
    ck_assert_uint_eq(queue.in_flight_count, SIZE);
}
END_TEST

START_TEST(a_head_is_not_taken_twice_while_in_flight)
{
    put_descriptor(DESCRIPTORS, 3, (struct descriptor){DATA, 1, 0, 0});
    offer(3);
    offer(3);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);

    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), BERTH_EPROTO);
}
END_TEST

START_TEST(a_head_can_be_used_again_once_it_was_given_back)
{
    put_descriptor(DESCRIPTORS, 3, (struct descriptor){DATA, 1, 0, 0});
    for (unsigned i = 0; i < 70000; i++) { /* the indexes wrap */
        (void)guest_memory_store_u16(&memory, AVAILABLE + 4 + 2 * (uint64_t)(i % SIZE),
                                     3);
        (void)guest_memory_store_u16(&memory, AVAILABLE + 2, (uint16_t)(i + 1));
        if (virtio_queue_next(&queue, &memory, &chain) != 1) {
            ck_abort_msg("round %u", i);
        }
        virtio_queue_give(&queue, &memory, 3, 0);
    }

    ck_assert_uint_eq(word_at(USED + 2), (uint16_t)70000);
}
END_TEST

START_TEST(a_head_beyond_the_table_breaks_the_queue)
{
    offer(_i == 0 ? SIZE : 0xffff);

    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), BERTH_EPROTO);
}
END_TEST

START_TEST(a_request_put_back_comes_again)
{
    put_descriptor(DESCRIPTORS, 1, (struct descriptor){DATA, 1, 0, 0});
    offer(1);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);

    virtio_queue_unget(&queue, chain.head);

    ck_assert_uint_eq(queue.in_flight_count, 0);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);
    ck_assert_uint_eq(chain.head, 1);
}
END_TEST

static void one_round(void)
{
    offer(1);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);
    virtio_queue_give(&queue, &memory, 1, 0);
}

START_TEST(what_is_staged_is_seen_when_it_is_published)
{
    put_descriptor(DESCRIPTORS, 1, (struct descriptor){DATA, 1, 0, 0});
    put_descriptor(DESCRIPTORS, 2, (struct descriptor){DATA, 1, 0, 0});
    offer(1);
    offer(2);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);

    virtio_queue_stage(&queue, &memory, 1, 0);
    virtio_queue_stage(&queue, &memory, 2, 0);
    ck_assert_uint_eq(word_at(USED + 2), 0);
    virtio_queue_publish(&queue, &memory);

    ck_assert_uint_eq(word_at(USED + 2), 2);
}
END_TEST

START_TEST(the_driver_is_told_by_its_flags)
{
    put_descriptor(DESCRIPTORS, 1, (struct descriptor){DATA, 1, 0, 0});

    ck_assert(!virtio_queue_must_signal(&queue, &memory)); /* nothing was given */
    one_round();
    ck_assert(virtio_queue_must_signal(&queue, &memory));
    ck_assert(!virtio_queue_must_signal(&queue, &memory)); /* it has been told */
    ck_assert_int_eq(guest_memory_store_u16(&memory, AVAILABLE, 1), 0);
    one_round();
    ck_assert(!virtio_queue_must_signal(&queue, &memory));
    virtio_queue_disarm(&queue, &memory);
    ck_assert_uint_eq(word_at(USED), 1);
    ck_assert(!virtio_queue_arm(&queue, &memory));
    ck_assert_uint_eq(word_at(USED), 0);
    offer(1);
    ck_assert(virtio_queue_arm(&queue, &memory)); /* it came in between */
}
END_TEST

START_TEST(the_driver_is_told_by_its_event_index)
{
    const uint64_t used_event = AVAILABLE + 4 + 2 * (uint64_t)SIZE;
    const uint64_t available_event = USED + 4 + 8 * (uint64_t)SIZE;
    queue.event_index = true;
    put_descriptor(DESCRIPTORS, 1, (struct descriptor){DATA, 1, 0, 0});
    ck_assert_int_eq(guest_memory_store_u16(&memory, used_event, 2), 0);

    one_round();
    ck_assert(!virtio_queue_must_signal(&queue, &memory));
    one_round();
    ck_assert(!virtio_queue_must_signal(&queue, &memory));
    one_round(); /* entry 2 */
    ck_assert(virtio_queue_must_signal(&queue, &memory));
    one_round();
    ck_assert(!virtio_queue_must_signal(&queue, &memory));
    ck_assert(!virtio_queue_arm(&queue, &memory));
    ck_assert_uint_eq(word_at(available_event), 4);
}
END_TEST

struct place_row {
    uint16_t size;
    uint64_t descriptors;
    uint64_t available;
    uint64_t used;
    bool sound;
};

static const struct place_row places[] = {
    {SIZE, DESCRIPTORS, AVAILABLE, USED, true},
    {1, DESCRIPTORS, AVAILABLE, USED, true},
    {2 * SIZE, DESCRIPTORS, AVAILABLE, USED, true},
    {4 * SIZE, DESCRIPTORS, AVAILABLE, USED, false}, /* over the maximum */
    {0, DESCRIPTORS, AVAILABLE, USED, false},
    {3, DESCRIPTORS, AVAILABLE, USED, false},
    {0x8000, DESCRIPTORS, AVAILABLE, USED, false},
    {SIZE, DESCRIPTORS + 8, AVAILABLE, USED, false},
    {SIZE, DESCRIPTORS, AVAILABLE + 1, USED, false},
    {SIZE, DESCRIPTORS, AVAILABLE, USED + 2, false},
    {SIZE, RAM_BYTES - 16 * SIZE, AVAILABLE, USED, true},
    {SIZE, RAM_BYTES - 16 * SIZE + 16, AVAILABLE, USED, false},
    {SIZE, DESCRIPTORS, RAM_BYTES - 6 - 2 * SIZE, USED, true},
    {SIZE, DESCRIPTORS, RAM_BYTES - 4 - 2 * SIZE, USED, false},
    {SIZE, DESCRIPTORS, AVAILABLE, RAM_BYTES - 8 - 8 * SIZE, true},
    {SIZE, DESCRIPTORS, AVAILABLE, RAM_BYTES - 4 - 8 * SIZE, false},
    {SIZE, UINT64_MAX - 15, AVAILABLE, USED, false},
};

START_TEST(the_areas_must_be_aligned_and_in_ram)
{
    const struct place_row *row = &places[_i];
    queue.size = row->size;
    queue.descriptors = row->descriptors;
    queue.available = row->available;
    queue.used = row->used;

    ck_assert_int_eq(virtio_queue_check(&queue, &memory),
                     row->sound ? 0 : BERTH_EINVALID);
}
END_TEST

START_TEST(a_restored_queue_goes_on_where_it_stopped)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct virtio_queue other = {.size_max = 2 * SIZE};
    put_descriptor(DESCRIPTORS, 1, (struct descriptor){DATA, 1, 0, 0});
    one_round();
    one_round();
    offer(1);
    bytes_writer_init(&writer, 1024);
    virtio_queue_save(&queue, &writer);

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(virtio_queue_restore(&other, &memory, &reader), 0);

    ck_assert_int_eq(bytes_reader_end(&reader), 0);
    ck_assert_int_eq(virtio_queue_next(&other, &memory, &chain), 1);
    virtio_queue_give(&other, &memory, 1, 0);
    ck_assert_uint_eq(word_at(USED + 2), 3);
    for (size_t size = 0; size < writer.size; size++) {
        bytes_reader_init(&reader, writer.data, size);
        ck_assert_int_eq(virtio_queue_restore(&other, &memory, &reader), BERTH_ECORRUPT);
        ck_assert(!other.enabled);
    }
    other.size_max = SIZE / 2;
    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(virtio_queue_restore(&other, &memory, &reader), BERTH_ECORRUPT);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(a_restored_queue_may_wait_for_its_ram_to_be_plugged)
{
    static const struct ram_backing plain;
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct virtio_queue other = {.size_max = SIZE};
    const uint64_t at = UINT64_C(1) << 30;
    ck_assert_int_eq(
        guest_memory_add_pluggable(&memory, at, 16 * RAM_PLUG_BLOCK_BYTES, &plain, NULL),
        0);
    queue.available = at;
    bytes_writer_init(&writer, 1024);
    virtio_queue_save(&queue, &writer);

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(virtio_queue_restore(&other, &memory, &reader), 0);

    ck_assert_int_lt(virtio_queue_check(&other, &memory), 0);
    ck_assert_int_eq(guest_memory_plug(&memory, 1, 0, 1), 0);
    ck_assert_int_eq(virtio_queue_next(&other, &memory, &chain), 0);
    ck_assert_int_eq(guest_memory_unplug(&memory, 1, 0, 1), 0);
    ck_assert_int_eq(virtio_queue_next(&other, &memory, &chain), BERTH_EPROTO);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(a_queue_goes_on_where_another_left_it)
{
    put_descriptor(DESCRIPTORS, 1, (struct descriptor){DATA, 1, 0, 0});
    one_round();
    offer(1); /* the other takes and gives this one */

    virtio_queue_go_on(&queue, 2);

    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 0);
    offer(1);
    ck_assert_int_eq(virtio_queue_next(&queue, &memory, &chain), 1);
    virtio_queue_give(&queue, &memory, 1, 0);
    ck_assert_uint_eq(word_at(USED + 2), 3);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof((table)[0]))

int main(void)
{
    Suite *suite = suite_create("virtio_queue");
    TCase *tests = tcase_create("virtio_queue");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_request_comes_out_as_it_was_put_in);
    tcase_add_test(tests, a_request_in_an_indirect_table_is_the_same);
    tcase_add_test(tests, a_chain_may_be_as_long_as_the_queue);
    tcase_add_loop_test(tests, a_bad_chain_breaks_the_queue_and_nothing_else, 0,
                        ROWS(bads));
    tcase_add_test(tests, indirect_descriptors_must_be_negotiated);
    tcase_add_loop_test(tests, an_index_that_jumps_breaks_the_queue, 0, 2);
    tcase_add_test(tests, a_full_ring_is_no_jump);
    tcase_add_test(tests, a_head_is_not_taken_twice_while_in_flight);
    tcase_add_test(tests, a_head_can_be_used_again_once_it_was_given_back);
    tcase_add_loop_test(tests, a_head_beyond_the_table_breaks_the_queue, 0, 2);
    tcase_add_test(tests, a_request_put_back_comes_again);
    tcase_add_test(tests, what_is_staged_is_seen_when_it_is_published);
    tcase_add_test(tests, the_driver_is_told_by_its_flags);
    tcase_add_test(tests, the_driver_is_told_by_its_event_index);
    tcase_add_loop_test(tests, the_areas_must_be_aligned_and_in_ram, 0, ROWS(places));
    tcase_add_test(tests, a_restored_queue_may_wait_for_its_ram_to_be_plugged);
    tcase_add_test(tests, a_restored_queue_goes_on_where_it_stopped);
    tcase_add_test(tests, a_queue_goes_on_where_another_left_it);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
