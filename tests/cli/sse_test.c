/* Goal: the same events come out of a stream however it is cut into pieces. */
#include "cli/sse.h"
#include "cli_fixture.h"

static char trail[8192];
static bool go_on;

static bool
take(void *context, const char *name, const char *id, const char *data, size_t size)
{
    size_t used = strlen(trail);
    ck_assert_ptr_eq(context, trail);
    ck_assert_uint_eq(strlen(data), size);
    snprintf(trail + used, sizeof(trail) - used, "[%s %s %s]", name, id, data);
    return go_on;
}

static const struct stream {
    const char *bytes;
    const char *events;
} streams[] = {
    {"", ""},
    {"data: a\n\n", "[message  a]"},
    {"event: put\nid: 7\ndata: {}\n\n", "[put 7 {}]"},
    {"event:put\nid:7\ndata:{}\n\n", "[put 7 {}]"},                  /* no blank */
    {"data:  a\n\n", "[message   a]"},                               /* one blank only */
    {"id: 7\ndata: a\n\ndata: b\n\n", "[message 7 a][message 7 b]"}, /* ids stay */
    {"id: 7\ndata: a\n\nid\ndata: b\n\n", "[message 7 a][message  b]"},
    {"event: x\ndata: a\n\ndata: b\n\n", "[x  a][message  b]"}, /* names do not */
    {"data: a\ndata: b\ndata\n\n", "[message  a\nb\n]"},
    {": comment\ndata: a\nretry: 5\nunknown: x\n\n", "[message  a]"},
    {"event: put\nid: 9\n\n", ""}, /* nothing to say */
    {"data: a\r\n\r\ndata: b\r\rdata: c\n\n", "[message  a][message  b][message  c]"},
    {"data: a\n", ""}, /* not ended */
    {"\n\n\n", ""},
    {"data: \xc3\xa4 \xe2\x82\xac\n\n", "[message  \xc3\xa4 \xe2\x82\xac]"},
};

START_TEST(events_come_out_whatever_the_pieces)
{
    const struct stream *row = &streams[_i];
    size_t size = strlen(row->bytes);
    for (size_t piece = 1; piece <= size + 1; piece++) {
        struct sse sse;
        trail[0] = '\0';
        go_on = true;
        sse_init(&sse, take, trail);
        for (size_t at = 0; at < size; at += piece) {
            ck_assert(
                sse_feed(&sse, row->bytes + at, size - at < piece ? size - at : piece));
        }
        ck_assert_msg(strcmp(trail, row->events) == 0, "pieces of %zu: %s", piece, trail);
        sse_fini(&sse);
    }
}
END_TEST

START_TEST(a_taker_ends_the_stream)
{
    struct sse sse;
    trail[0] = '\0';
    go_on = false;
    sse_init(&sse, take, trail);
    ck_assert(!sse_feed(&sse, "data: a\n\ndata: b\n\n", 18));
    ck_assert_str_eq(trail, "[message  a]");
    sse_fini(&sse);
}
END_TEST

START_TEST(a_new_connection_begins_without_the_half_event_of_the_old)
{
    struct sse sse;
    trail[0] = '\0';
    go_on = true;
    sse_init(&sse, take, trail);
    ck_assert(sse_feed(&sse, "id: 7\nevent: x\ndata: ha", 23));
    sse_restart(&sse);
    ck_assert(sse_feed(&sse, "data: b\n\n", 9));
    ck_assert_str_eq(trail, "[message 7 b]"); /* the id is where it stands */
    sse_fini(&sse);
}
END_TEST

START_TEST(an_event_without_end_is_a_fault_not_a_flood)
{
    struct sse sse;
    static char block[65536];
    bool fine = true;
    memset(block, 'x', sizeof(block));
    for (unsigned line = 0; line < 2; line++) { /* one long line, then many lines */
        unsigned blocks = 0;
        go_on = true;
        trail[0] = '\0';
        sse_init(&sse, take, trail);
        fine = true;
        while (fine && blocks++ < SSE_EVENT_MAX / sizeof(block) + 2) {
            fine = (line == 0 || sse_feed(&sse, "\ndata: ", 7)) &&
                   sse_feed(&sse, block, sizeof(block));
        }
        ck_assert(!fine);
        ck_assert_str_eq(trail, "");
        sse_fini(&sse);
    }
}
END_TEST

START_TEST(names_and_ids_that_are_too_long_are_passed_over)
{
    struct sse sse;
    char bytes[1024];
    trail[0] = '\0';
    go_on = true;
    snprintf(bytes, sizeof(bytes), "id: %0300d\nevent: %0300d\ndata: a\n\n", 7, 7);
    sse_init(&sse, take, trail);
    ck_assert(sse_feed(&sse, bytes, strlen(bytes)));
    ck_assert_str_eq(trail, "[message  a]");
    sse_fini(&sse);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("sse", &tests);
    tcase_add_loop_test(tests, events_come_out_whatever_the_pieces, 0,
                        sizeof(streams) / sizeof(streams[0]));
    tcase_add_test(tests, a_taker_ends_the_stream);
    tcase_add_test(tests, a_new_connection_begins_without_the_half_event_of_the_old);
    tcase_add_test(tests, an_event_without_end_is_a_fault_not_a_flood);
    tcase_add_test(tests, names_and_ids_that_are_too_long_are_passed_over);
    return test_main_run(suite);
}
