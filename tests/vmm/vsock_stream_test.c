/* Goal: no byte of a connection is lost or doubled, and neither side has more in flight
 * than the other said it takes. Method: a pair of sockets whose far end reads when the
 * test says so; counters that have gone round. */
#include "base/err.h"
#include "support/test_main.h"
#include "vmm/vsock_stream.h"

#include <check.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct vsock_stream stream;
static int ends[2];

static void set_up(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as the program does */
    vsock_stream_init(&stream);
    ck_assert_int_eq(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
}

static void tear_down(void)
{
    vsock_stream_fini(&stream);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)(offset * 31 + offset / 251);
}

/* Sends the next bytes in two pieces. */
static int take(uint64_t offset, uint32_t size)
{
    static uint8_t data[2 * VSOCK_BUFFER_BYTES];
    const struct iovec pieces[2] = {{data, size / 3}, {data + size / 3, size - size / 3}};
    for (uint32_t i = 0; i < size; i++) {
        data[i] = byte_at(offset + i);
    }
    return vsock_stream_take(&stream, ends[0], pieces, 2, size);
}

/* Reads and checks what has arrived. */
static uint64_t receive(uint64_t offset, size_t most)
{
    static uint8_t data[4096];
    uint64_t total = 0;
    while (total < most) {
        const ssize_t got = recv(ends[1], data, sizeof(data), MSG_DONTWAIT);
        if (got <= 0) {
            break;
        }
        for (ssize_t i = 0; i < got; i++) {
            ck_assert_uint_eq(data[i], byte_at(offset + total + (uint64_t)i));
        }
        total += (uint64_t)got;
    }
    return total;
}

/* How many bytes the socket takes before it is full. */
static uint64_t fill(void)
{
    uint64_t sent = 0;
    while (vsock_stream_waiting(&stream) == 0) {
        ck_assert_int_eq(take(sent, 5000), 0);
        sent += 5000;
    }
    return sent;
}

START_TEST(what_the_socket_does_not_take_waits_and_comes_in_order)
{
    stream.received = stream.forwarded = stream.told = _i == 0 ? 0 : UINT32_MAX - 70000;
    uint64_t sent = fill();
    uint64_t got = 0;
    while (VSOCK_BUFFER_BYTES - vsock_stream_waiting(&stream) >= 7001) {
        ck_assert_int_eq(take(sent, 7001), 0);
        sent += 7001;
    }
    for (unsigned round = 0; round < 40; round++) {
        const uint32_t room = VSOCK_BUFFER_BYTES - vsock_stream_waiting(&stream);
        const uint32_t size = room < 7001 ? room : 7001;
        ck_assert_int_eq(take(sent, size), 0);
        sent += size;
        got += receive(got, 6000);
        ck_assert_int_eq(vsock_stream_drain(&stream, ends[0]), 0);
    }
    while (vsock_stream_waiting(&stream) > 0) {
        got += receive(got, SIZE_MAX);
        ck_assert_int_eq(vsock_stream_drain(&stream, ends[0]), 0);
    }
    got += receive(got, SIZE_MAX);

    ck_assert_uint_eq(got, sent);
    ck_assert_ptr_null(stream.buffer);
    ck_assert_uint_eq(stream.received, stream.forwarded);
}
END_TEST

START_TEST(more_than_the_credit_is_refused_and_the_last_byte_of_it_is_not)
{
    (void)fill();
    const uint32_t room = VSOCK_BUFFER_BYTES - vsock_stream_waiting(&stream);

    ck_assert_int_eq(take(0, room + 1), BERTH_EPROTO);
    ck_assert_int_eq(take(0, room), 0);
    ck_assert_int_eq(take(0, 1), BERTH_EPROTO);
    ck_assert_int_eq(take(0, 0), 0);

    ck_assert_uint_eq(vsock_stream_waiting(&stream), VSOCK_BUFFER_BYTES);
}
END_TEST

START_TEST(a_socket_that_has_gone_is_an_error)
{
    (void)close(ends[1]);
    ends[1] = -1;

    ck_assert_int_eq(take(0, 10), -EPIPE);
}
END_TEST

START_TEST(the_guest_is_told_before_it_has_to_stop)
{
    uint64_t sent = 0;
    while (!vsock_stream_must_tell(&stream)) {
        ck_assert_uint_lt(sent, VSOCK_BUFFER_BYTES);
        ck_assert_int_eq(take(sent, 1000), 0);
        sent += 1000;
        (void)receive(sent - 1000, SIZE_MAX);
    }

    stream.told = stream.forwarded;

    ck_assert(!vsock_stream_must_tell(&stream));
}
END_TEST

static const struct {
    uint32_t sent;
    uint32_t buffer;
    uint32_t forwarded;
    uint32_t room;
} credits[] = {
    {0, 0, 0, 0},
    {0, 1000, 0, 1000},
    {900, 1000, 0, 100},
    {1000, 1000, 0, 0},
    {1000, 1000, 400, 400},
    {5, 1000, UINT32_MAX - 4, 990}, /* gone round */
    {1000, 100, 0, 0},              /* a buffer that has shrunk */
    {10, 1000, 20, 0},              /* more forwarded than was sent: a lie */
    {0, UINT32_MAX, 0, UINT32_MAX},
};

START_TEST(the_guest_gets_no_more_than_it_takes)
{
    stream.sent = credits[_i].sent;
    vsock_stream_hear(&stream, credits[_i].buffer, credits[_i].forwarded);

    ck_assert_uint_eq(vsock_stream_room(&stream), credits[_i].room);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vsock_stream");
    TCase *tests = tcase_create("vsock_stream");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, what_the_socket_does_not_take_waits_and_comes_in_order, 0,
                        2);
    tcase_add_test(tests, more_than_the_credit_is_refused_and_the_last_byte_of_it_is_not);
    tcase_add_test(tests, a_socket_that_has_gone_is_an_error);
    tcase_add_test(tests, the_guest_is_told_before_it_has_to_stop);
    tcase_add_loop_test(tests, the_guest_gets_no_more_than_it_takes, 0,
                        (int)(sizeof(credits) / sizeof(credits[0])));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
