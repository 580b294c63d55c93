/* Goal: what is said arrives as it was said, and nothing else is taken for it. Method:
 * packets by hand, and a real socket pair. */
#include "base/err.h"
#include "fetch/fetch_wire.h"
#include "support/test_main.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct fetch_message sent;
static struct fetch_message got;
static uint8_t packet[FETCH_PACKET_MAX];
static char data[FETCH_DATA_MAX];
static int ends[2];

static void start(void)
{
    memset(&sent, 0, sizeof(sent));
    memset(data, 'x', sizeof(data));
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
}

static void stop(void)
{
    (void)close(ends[0]);
    (void)close(ends[1]);
}

START_TEST(an_ask_arrives)
{
    sent.type = FETCH_ASK;
    sent.timeout_s = 7;
    memset(sent.url, 'u', sizeof(sent.url) - 1); /* the longest */

    ck_assert_int_eq(fetch_wire_send(ends[0], &sent), 0);

    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), 0);
    ck_assert_int_eq(got.type, FETCH_ASK);
    ck_assert_uint_eq(got.timeout_s, 7);
    ck_assert_str_eq(got.url, sent.url);
}
END_TEST

START_TEST(a_size_data_and_an_end_arrive_in_order)
{
    sent.type = FETCH_SIZE;
    sent.size_bytes = UINT64_MAX;
    ck_assert_int_eq(fetch_wire_send(ends[0], &sent), 0);
    sent.type = FETCH_DATA;
    sent.data = data;
    sent.data_size = sizeof(data);
    ck_assert_int_eq(fetch_wire_send(ends[0], &sent), 0);
    sent.type = FETCH_END;
    sent.outcome = FETCH_FAILED;
    (void)strcpy(sent.text, "no route");
    ck_assert_int_eq(fetch_wire_send(ends[0], &sent), 0);

    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), 0);
    ck_assert_uint_eq(got.size_bytes, UINT64_MAX);
    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), 0);
    ck_assert_uint_eq(got.data_size, sizeof(data));
    ck_assert_mem_eq(got.data, data, sizeof(data));
    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), 0);
    ck_assert_int_eq(got.outcome, FETCH_FAILED);
    ck_assert_str_eq(got.text, "no route");
}
END_TEST

START_TEST(what_is_missing_arrives)
{
    sent.type = FETCH_MISSING;
    (void)strcpy(sent.text, "files");

    ck_assert_int_eq(fetch_wire_send(ends[0], &sent), 0);

    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), 0);
    ck_assert_int_eq(got.type, FETCH_MISSING);
    ck_assert_str_eq(got.text, "files");
}
END_TEST

START_TEST(nothing_is_waited_for_and_an_end_is_seen)
{
    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), -EAGAIN);
    (void)close(ends[0]);

    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), -ECONNRESET);
    sent.type = FETCH_SIZE;
    ck_assert_int_eq(fetch_wire_send(ends[1], &sent), -EPIPE);
    ends[0] = -1;
}
END_TEST

START_TEST(what_is_longer_than_a_packet_is_refused)
{
    static uint8_t large[FETCH_PACKET_MAX + 1] = {FETCH_WIRE_VERSION, FETCH_DATA};
    ck_assert_int_eq(send(ends[0], large, sizeof(large), 0), (ssize_t)sizeof(large));

    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), BERTH_EPROTO);
    ck_assert_int_eq(got.type, FETCH_NONE);
}
END_TEST

#define V FETCH_WIRE_VERSION

static const struct {
    uint8_t bytes[16];
    size_t size;
    int code;
} bad[] = {
    {{0}, 0, BERTH_EPROTO},
    {{V}, 1, BERTH_EPROTO},
    {{V + 1, FETCH_SIZE}, 10, BERTH_EUNSUPPORTED},
    {{V, FETCH_NONE}, 2, BERTH_EPROTO},
    {{V, FETCH_MISSING + 1}, 2, BERTH_EPROTO},
    {{V, FETCH_MISSING, 1, 0, 0, 0, '\n'}, 7, BERTH_EPROTO},
    {{V, FETCH_SIZE}, 9, BERTH_EPROTO},  /* cut */
    {{V, FETCH_SIZE}, 11, BERTH_EPROTO}, /* and more */
    {{V, FETCH_DATA}, 2, BERTH_EPROTO},  /* none */
    {{V, FETCH_END, 0, 0, 0, 0, 0}, 7, BERTH_EPROTO},
    {{V, FETCH_END, FETCH_UNABLE + 1, 0, 0, 0, 0}, 7, BERTH_EPROTO},
    {{V, FETCH_END, FETCH_DONE, 1, 0, 0, 0, '\n'}, 8, BERTH_EPROTO},
    {{V, FETCH_END, FETCH_DONE, 0xff, 0xff, 0xff, 0xff, 'a'}, 8, BERTH_EPROTO},
    {{V, FETCH_ASK, 1, 0, 0, 0, 2, 0, 0, 0, 'u', 0}, 12, BERTH_EPROTO},
};

START_TEST(what_is_malformed_is_refused)
{
    ck_assert_int_eq(fetch_wire_decode(bad[_i].bytes, bad[_i].size, &got), bad[_i].code);
    ck_assert_int_eq(got.type, FETCH_NONE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fetch_wire");
    TCase *tests = tcase_create("fetch_wire");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, an_ask_arrives);
    tcase_add_test(tests, a_size_data_and_an_end_arrive_in_order);
    tcase_add_test(tests, what_is_missing_arrives);
    tcase_add_test(tests, nothing_is_waited_for_and_an_end_is_seen);
    tcase_add_test(tests, what_is_longer_than_a_packet_is_refused);
    tcase_add_loop_test(tests, what_is_malformed_is_refused, 0,
                        (int)(sizeof(bad) / sizeof(bad[0])));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
