/* Goal: what a server sends is passed on with its announced size, and how it ended is
 * said. Method: a server of one answer on loopback; the packets wait in the socket. */
#include "fetch/fetch_http.h"
#include "support/test_main.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct fetch_message ask;
static struct fetch_message end;
static struct fetch_message got;
static uint8_t packet[FETCH_PACKET_MAX];
static int ends[2];
static int listener;
static pthread_t thread;
static const char *answer;

static void *serve(void *context)
{
    char request[4096];
    int fd = accept(listener, NULL, NULL);
    if (recv(fd, request, sizeof(request), 0) > 0) {
        (void)send(fd, answer, strlen(answer), MSG_NOSIGNAL);
    }
    (void)close(fd);
    return context;
}

static void server_start(const char *text)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    answer = text;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, size), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(ask.url, sizeof(ask.url), "http://127.0.0.1:%u/image",
                   ntohs(at.sin_port));
    ck_assert_int_eq(pthread_create(&thread, NULL, serve, NULL), 0);
}

static void server_stop(void)
{
    (void)shutdown(listener, SHUT_RDWR); /* it may be that nobody came */
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    (void)close(listener);
}

static void start(void)
{
    ask = (struct fetch_message){.type = FETCH_ASK, .timeout_s = 20};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
}

static void stop(void)
{
    (void)close(ends[0]);
    (void)close(ends[1]);
}

START_TEST(size_and_content_are_passed_on)
{
    server_start("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\na kernel");

    fetch_http(ends[0], &ask, &end);
    server_stop();

    ck_assert_int_eq(end.type, FETCH_END);
    ck_assert_msg(end.outcome == FETCH_DONE, "%s", end.text);
    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), 0);
    ck_assert_int_eq(got.type, FETCH_SIZE);
    ck_assert_uint_eq(got.size_bytes, 8);
    ck_assert_int_eq(fetch_wire_receive(ends[1], packet, &got), 0);
    ck_assert_int_eq(got.type, FETCH_DATA);
    ck_assert_uint_eq(got.data_size, 8);
    ck_assert_mem_eq(got.data, "a kernel", 8);
}
END_TEST

static const struct {
    const char *answer; /* NULL: no server */
    const char *url;
    enum fetch_outcome outcome;
    const char *words;
} ends_of[] = {
    {"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n", NULL, FETCH_NOT_FOUND, "404"},
    {"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n", NULL, FETCH_FAILED, "500"},
    {"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", NULL, FETCH_FAILED,
     "file"},
    {NULL, "file:///etc/passwd", FETCH_FAILED, "file"},
    {NULL, "gopher://127.0.0.1/", FETCH_FAILED, "gopher"},
    {NULL, "http://127.0.0.1:1/", FETCH_FAILED, "onnect"},
};

START_TEST(a_download_that_fails_says_why)
{
    if (ends_of[_i].answer != NULL) {
        server_start(ends_of[_i].answer);
    } else {
        (void)snprintf(ask.url, sizeof(ask.url), "%s", ends_of[_i].url);
    }

    fetch_http(ends[0], &ask, &end);
    if (ends_of[_i].answer != NULL) {
        server_stop();
    }

    ck_assert_int_eq(end.outcome, ends_of[_i].outcome);
    ck_assert_msg(strstr(end.text, ends_of[_i].words) != NULL, "%s", end.text);
    ck_assert_int_lt(fetch_wire_receive(ends[1], packet, &got), 0); /* nothing came */
}
END_TEST

START_TEST(a_download_that_nobody_hears_ends)
{
    server_start("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\na kernel");
    (void)close(ends[1]);

    fetch_http(ends[0], &ask, &end);
    server_stop();

    ck_assert_int_eq(end.outcome, FETCH_FAILED);
    ends[1] = -1;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fetch_http");
    TCase *tests = tcase_create("fetch_http");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, size_and_content_are_passed_on);
    tcase_add_loop_test(tests, a_download_that_fails_says_why, 0,
                        (int)(sizeof(ends_of) / sizeof(ends_of[0])));
    tcase_add_test(tests, a_download_that_nobody_hears_ends);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
