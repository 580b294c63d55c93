#include "base/bytes.h"
#include "base/err.h"
#include "consensus/message_screen.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

static struct bytes_writer stream;
static struct message_screen *screen;

static void setup(void)
{
    bytes_writer_init(&stream, 1 << 20);
    screen = message_screen_new();
    ck_assert_ptr_nonnull(screen);
}

static void teardown(void)
{
    screen = message_screen_free(screen);
    bytes_writer_fini(&stream);
}

static void put(uint64_t value)
{
    bytes_write_u64(&stream, value);
}

static void put_zeros(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bytes_write_u8(&stream, 0);
    }
}

static void put_entry(uint8_t type, uint32_t size)
{
    put(3);
    bytes_write_u8(&stream, type);
    put_zeros(3);
    bytes_write_u32(&stream, size);
}

/* Two members in 40 bytes, as libraft writes them. */
static void put_members(const char *address, uint8_t role, uint64_t count)
{
    bytes_write_u8(&stream, 1);
    put(count);
    put(1);
    bytes_write_raw(&stream, "a:1", 4);
    bytes_write_u8(&stream, 1);
    put(2);
    bytes_write_raw(&stream, address, 4);
    bytes_write_u8(&stream, role);
    put_zeros(5);
}

static void put_entries_header(size_t entries, size_t said, size_t unused)
{
    put(1);
    put(40 + 16 * entries + unused);
    put(3);
    put(10);
    put(2);
    put(9);
    put(said);
}

/* A command of 16 bytes and a list of members. */
static void put_good_entries(void)
{
    put_entries_header(2, 2, 0);
    put_entry(1, 16);
    put_entry(3, 40);
    put_zeros(16);
    put_members("b:2", 1, 2);
}

static void put_snapshot(uint64_t members_size, uint64_t data_size, size_t unused)
{
    put(5);
    put(40 + 40 + 8 + unused);
    put(3);
    put(10);
    put(2);
    put(1);
    put(members_size);
    put_members("b:2", 1, 2);
    put(data_size);
    put_zeros(unused);
}

static int feed(size_t piece)
{
    int r = 0;
    for (size_t at = 0; at < stream.size && r == 0; at += piece) {
        size_t left = stream.size - at;
        r = message_screen_feed(screen, stream.data + at, left < piece ? left : piece);
    }
    return r;
}

START_TEST(good_messages_pass_in_pieces_of_any_size)
{
    static const size_t pieces[] = {1, 3, 7, 8, 64, 1000};
    for (unsigned round = 0; round < 3; round++) {
        put_good_entries();
        put_entries_header(0, 0, 8);
        put_zeros(8);
        put(2);
        put(24);
        put_zeros(24);
        put(2); /* of a newer library */
        put(32);
        put_zeros(32);
        put(3);
        put(40);
        put_zeros(40);
        put(4);
        put(24);
        put_zeros(24);
        put_snapshot(40, 100, 8);
        put_zeros(100);
        put(6);
        put(24);
        put_zeros(24);
    }
    ck_assert_int_eq(feed(pieces[_i]), 0);
}
END_TEST

START_TEST(a_type_or_header_length_that_does_not_exist_is_refused)
{
    static const struct {
        uint64_t type;
        uint64_t size;
    } bad[] = {{0, 24}, {7, 24}, {UINT64_MAX, 24}, {2, 0},
               {2, 23}, {2, 25}, {3, 24},          {4, 40},
               {6, 16}, {1, 0},  {1, 16},          {1, 39},
               {5, 47}, {5, 16}, {1, UINT64_MAX},  {5, MESSAGE_SCREEN_HEADER_MAX + 1}};
    put(bad[_i].type);
    put(bad[_i].size);
    put_zeros(64);
    ck_assert_int_eq(feed(1000), BERTH_EPROTO);
    ck_assert_int_eq(message_screen_feed(screen, stream.data, 1),
                     BERTH_EPROTO); /* for good */
}
END_TEST

START_TEST(an_entry_count_that_is_not_the_headers_is_refused)
{
    static const uint64_t said[] = {0, 1, 3, UINT64_MAX, UINT64_C(1) << 60};
    put_entries_header(2, (size_t)said[_i], 0);
    put_entry(1, 16);
    put_entry(1, 16);
    ck_assert_int_eq(feed(1000), BERTH_EPROTO);
}
END_TEST

START_TEST(an_entry_of_an_impossible_type_or_size_is_refused)
{
    static const struct {
        uint8_t type;
        uint32_t size;
    } bad[] = {{0, 8}, {4, 8}, {1, 0}, {1, 7}, {1, 65544}, {1, UINT32_MAX}, {3, 8200}};
    put_entries_header(1, 1, 0);
    put_entry(bad[_i].type, bad[_i].size);
    ck_assert_int_eq(feed(1000), BERTH_EPROTO);
}
END_TEST

START_TEST(members_that_do_not_end_where_they_should_are_refused)
{
    static const struct {
        const char *address;
        uint8_t role;
        uint64_t count;
        int status;
    } lists[] = {{"b:2", 1, 2, 0},
                 {"b:2", 3, 2, BERTH_EPROTO},
                 {"b:2", 1, 4, BERTH_EPROTO},
                 {"b:2", 1, UINT64_MAX, BERTH_EPROTO}};
    put_entries_header(1, 1, 0);
    put_entry(3, 40);
    put_members(lists[_i].address, lists[_i].role, lists[_i].count);
    ck_assert_int_eq(feed(5), lists[_i].status);
}
END_TEST

START_TEST(an_address_without_an_end_is_refused)
{
    put_entries_header(1, 1, 0);
    put_entry(3, 40);
    bytes_write_u8(&stream, 1);
    put(1);
    put(1);
    bytes_write_raw(&stream, "an address that never..", 23);
    ck_assert_int_eq(feed(5), BERTH_EPROTO);
}
END_TEST

START_TEST(a_snapshot_whose_lengths_do_not_add_up_is_refused)
{
    static const struct {
        uint64_t members;
        uint64_t data;
        int status;
    } sizes[] = {
        {40, 8, 0},           {41, 8, BERTH_EPROTO}, {UINT64_MAX, 8, BERTH_EPROTO},
        {0, 8, BERTH_EPROTO}, {40, 0, BERTH_EPROTO}, {40, UINT64_MAX, BERTH_EPROTO}};
    put_snapshot(sizes[_i].members, sizes[_i].data, 0);
    ck_assert_int_eq(feed(1000), sizes[_i].status);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("message_screen");
    TCase *tcase = tcase_create("message_screen");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, good_messages_pass_in_pieces_of_any_size, 0, 6);
    tcase_add_loop_test(tcase, a_type_or_header_length_that_does_not_exist_is_refused, 0,
                        16);
    tcase_add_loop_test(tcase, an_entry_count_that_is_not_the_headers_is_refused, 0, 5);
    tcase_add_loop_test(tcase, an_entry_of_an_impossible_type_or_size_is_refused, 0, 7);
    tcase_add_loop_test(tcase, members_that_do_not_end_where_they_should_are_refused, 0,
                        4);
    tcase_add_test(tcase, an_address_without_an_end_is_refused);
    tcase_add_loop_test(tcase, a_snapshot_whose_lengths_do_not_add_up_is_refused, 0, 6);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
