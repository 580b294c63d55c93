/* Goal: a greeting is read whole, in pieces too, and not a byte more than the line.
 * Method: a pair of sockets; what stays in it is looked at. */
#include "base/err.h"
#include "support/test_main.h"
#include "vmm/vsock_greeting.h"

#include <check.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int ends[2];

static void set_up(void)
{
    ck_assert_int_eq(
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
}

static void tear_down(void)
{
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void say(const char *text)
{
    ck_assert_int_eq(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
}

START_TEST(what_is_no_greeting_is_refused)
{
    static const struct {
        const char *text;
        int result;
        uint32_t port;
    } rows[] = {
        {"CONNECT 0\n", 1, 0},
        {"CONNECT 4294967295\n", 1, UINT32_MAX},
        {"CONNECT 4294967296\n", BERTH_EPROTO, 0},
        {"CONNECT -1\n", BERTH_EPROTO, 0},
        {"CONNECT \n", BERTH_EPROTO, 0},
        {"CONNECT 1 \n", BERTH_EPROTO, 0},
        {"connect 1\n", BERTH_EPROTO, 0},
        {"\n", BERTH_EPROTO, 0},
        {"CONNECT 000000000000000000000001", BERTH_EPROTO, 0}, /* a line without an end */
        {"CONNECT 1", 0, 0},
    };
    struct vsock_greeting greeting = {0};
    uint32_t port = 0;
    say(rows[_i].text);

    ck_assert_int_eq(vsock_greeting_take(&greeting, ends[0], &port), rows[_i].result);
    ck_assert_uint_eq(port, rows[_i].port);
}
END_TEST

START_TEST(what_follows_the_line_stays_in_the_socket)
{
    struct vsock_greeting greeting = {0};
    uint32_t port = 0;
    char rest[8] = "";
    say("CONN");
    ck_assert_int_eq(vsock_greeting_take(&greeting, ends[0], &port), 0);
    ck_assert_int_eq(vsock_greeting_take(&greeting, ends[0], &port), 0);
    say("ECT 22\nssh");

    ck_assert_int_eq(vsock_greeting_take(&greeting, ends[0], &port), 1);
    ck_assert_uint_eq(port, 22);
    ck_assert_int_eq(read(ends[0], rest, sizeof(rest)), 3);
    ck_assert_mem_eq(rest, "ssh", 3);
}
END_TEST

START_TEST(a_client_that_has_gone_is_told_from_one_that_waits)
{
    struct vsock_greeting greeting = {0};
    uint32_t port = 0;
    say("CONNECT");
    ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
    ck_assert_int_eq(vsock_greeting_take(&greeting, ends[0], &port), 0);
    ck_assert_int_eq(vsock_greeting_take(&greeting, ends[0], &port), -ECONNRESET);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vsock_greeting");
    TCase *tests = tcase_create("vsock_greeting");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, what_is_no_greeting_is_refused, 0, 10);
    tcase_add_test(tests, what_follows_the_line_stays_in_the_socket);
    tcase_add_test(tests, a_client_that_has_gone_is_told_from_one_that_waits);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
