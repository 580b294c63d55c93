/* Goal: what a URL names is in the store whole or not at all, or there is a reason; a
 * server that never answers holds nobody up. Method: the real store and berth-fetch; HTTP
 * by a thread on loopback that serves one answer. */
#include "image_store_fixture.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- fetching ---- */

struct server {
    int fd;
    const char *head;
    size_t body_size; /* of 'x' */
    unsigned times;   /* clients, one after the other */
    pthread_t thread;
    char url[64];
};

static void serve_one(const struct server *server)
{
    char request[4096];
    char chunk[4096];
    int fd = accept(server->fd, NULL, NULL);
    memset(chunk, 'x', sizeof(chunk));
    if (fd >= 0 && recv(fd, request, sizeof(request), 0) > 0 &&
        send(fd, server->head, strlen(server->head), MSG_NOSIGNAL) > 0) {
        size_t left = server->body_size;
        ssize_t sent = 1;
        while (left > 0 && sent > 0) {
            sent = send(fd, chunk, left < sizeof(chunk) ? left : sizeof(chunk),
                        MSG_NOSIGNAL);
            left -= sent > 0 ? (size_t)sent : 0;
        }
    }
    (void)close(fd);
}

static void *serve(void *context)
{
    const struct server *server = context;
    for (unsigned i = 0; i < server->times; i++) {
        serve_one(server);
    }
    return NULL;
}

static void server_start_times(struct server *server,
                               const char *head,
                               size_t body_size,
                               unsigned times)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    server->head = head;
    server->body_size = body_size;
    server->times = times;
    ck_assert_int_eq(bind(server->fd, (struct sockaddr *)&at, size), 0);
    ck_assert_int_eq(listen(server->fd, 1), 0);
    ck_assert_int_eq(getsockname(server->fd, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%u/image",
                   ntohs(at.sin_port));
    ck_assert_int_eq(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_start(struct server *server, const char *head, size_t body_size)
{
    server_start_times(server, head, body_size, 1);
}

static void server_stop(struct server *server)
{
    ck_assert_int_eq(pthread_join(server->thread, NULL), 0);
    ck_assert_int_eq(close(server->fd), 0);
}

#define FOUND "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

static const struct {
    const char *head;
    const char *content; /* whose digest is expected */
    int code;
} fetches[] = {
    {FOUND, "xxxxxxxxxx", 0},
    {FOUND, "yyyyyyyyyy", BERTH_ECORRUPT},
    {"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n", "xxxxxxxxxx",
     BERTH_ENOTFOUND},
    {"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n", "xxxxxxxxxx", BERTH_EUNREACHABLE},
    {"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", "xxxxxxxxxx", BERTH_EUNREACHABLE},
};

START_TEST(a_fetch_ends_with_the_file_or_the_reason)
{
    struct server server;
    struct digest expected = digest_of_text(fetches[_i].content);
    server_start(&server, fetches[_i].head, 10);

    image_store_fetch(store, server.url, &expected, take_answer, NULL);
    wait_for_answer();
    server_stop(&server);

    ck_assert_msg(answer.code == fetches[_i].code, "%d: %s", answer.code, answer.text);
    ck_assert_uint_eq(answer.text[0] != '\0', answer.code != 0);
    ck_assert_int_eq(has("xxxxxxxxxx"), answer.code == 0);
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

/* Announced, or only met on the way. */
static const char *const large_heads[] = {
    "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", FOUND};

START_TEST(a_fetch_of_more_than_the_limit_is_refused)
{
    struct server server;
    struct digest expected = digest_of_text("never mind");
    server_start(&server, large_heads[_i], LIMIT + 1);

    image_store_fetch(store, server.url, &expected, take_answer, NULL);
    wait_for_answer();
    server_stop(&server);

    ck_assert_msg(answer.code == BERTH_ETOOLARGE, "%d: %s", answer.code, answer.text);
    ck_assert_ptr_nonnull(strstr(answer.text, "--image-cache"));
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

START_TEST(a_fetch_without_a_digest_is_refused)
{
    struct digest none = {0};

    image_store_fetch(store, "http://127.0.0.1:1/image", &none, take_answer, NULL);
    ck_assert_uint_eq(answer.count, 0); /* no callback inside a call */
    wait_for_answer();

    ck_assert_int_eq(answer.code, BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(answer.text, "SHA-256"));
}
END_TEST

/* ---- a server that never answers ---- */

#define STUCK 8 /* more than the store and libuv have threads for */

static char stuck_url[64];
static int stuck_socket;

/* It listens, so that connections are made, and does nothing else. */
static void stuck_server_start(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    stuck_socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(stuck_socket, (struct sockaddr *)&at, size), 0);
    ck_assert_int_eq(listen(stuck_socket, 2 * IMAGE_STORE_FETCHES_MAX), 0);
    ck_assert_int_eq(getsockname(stuck_socket, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(stuck_url, sizeof(stuck_url), "http://127.0.0.1:%u/image",
                   ntohs(at.sin_port));
}

static void fetch_stuck(unsigned count)
{
    struct digest expected = digest_of_text("never mind");
    for (unsigned i = 0; i < count; i++) {
        image_store_fetch(store, stuck_url, &expected, take_answer, NULL);
    }
}

static bool file_seen;

static void see_file(uv_fs_t *request)
{
    ck_assert_int_eq((int)request->result, 0);
    file_seen = true;
    uv_fs_req_cleanup(request);
}

START_TEST(fetches_that_hang_hold_up_neither_libuvs_threads_nor_uploads)
{
    uv_fs_t request;
    stuck_server_start();
    fetch_stuck(STUCK);

    ck_assert_int_eq(uv_fs_stat(&loop, &request, dir.path, see_file), 0);
    while (!file_seen) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(answer.count, 0); /* they still hang */
    ck_assert_int_eq(upload("a kernel", NULL), 0);

    ck_assert_uint_eq(answer.count, 1);
    store_close(); /* ends them */
    ck_assert_uint_eq(answer.count, 1);
    ck_assert_uint_eq(leftovers(), 0);
    ck_assert_int_eq(close(stuck_socket), 0);
    store_open(LIMIT);
}
END_TEST

START_TEST(one_fetch_too_many_is_refused_while_the_others_hang)
{
    stuck_server_start();
    fetch_stuck(IMAGE_STORE_FETCHES_MAX);

    fetch_stuck(1);
    ck_assert_uint_eq(answer.count, 0); /* no callback inside a call */
    wait_for_answer();

    ck_assert_int_eq(answer.code, BERTH_EFULL);
    ck_assert_ptr_nonnull(strstr(answer.text, "under way"));
    ck_assert_int_eq(close(stuck_socket), 0);
}
END_TEST

/* ---- a full disk ---- */

START_TEST(room_is_made_for_a_fetch_that_says_how_much_comes)
{
    struct server server;
    char *old = many((size_t)150 * 1024);
    char *new = many((size_t)160 * 1024);
    struct digest expected = digest_of_text(new);
    ck_assert_int_eq(upload(old, NULL), 0);
    server_start_times(&server, "HTTP/1.1 200 OK\r\nContent-Length: 163840\r\n\r\n",
                       strlen(new), 2);

    image_store_fetch(store, server.url, &expected, take_answer, NULL);
    wait_for_answer();
    server_stop(&server);

    ck_assert_msg(answer.code == 0, "%d: %s", answer.code, answer.text);
    ck_assert(has(new));
    ck_assert(!has(old));
    free(old);
    free(new);
}
END_TEST

START_TEST(a_fetch_to_a_full_disk_says_so)
{
    struct server server;
    struct digest expected = digest_of_text("never mind");
    server_start(&server, FOUND, (size_t)4 * DISK_SIZE);

    image_store_fetch(store, server.url, &expected, take_answer, NULL);
    wait_for_answer();
    server_stop(&server);

    ck_assert_msg(answer.code == BERTH_EDISKFULL, "%d: %s", answer.code, answer.text);
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

int main(void)
{
    if (!test_main_finds(BERTH_BINARY_DIR "/berth-fetch")) {
        return 1;
    }
    Suite *suite = suite_create("image_store_fetch");
    TCase *tests = tcase_create("image_store_fetch");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_fetch_ends_with_the_file_or_the_reason, 0, 5);
    tcase_add_loop_test(tests, a_fetch_of_more_than_the_limit_is_refused, 0, 2);
    tcase_add_test(tests, a_fetch_without_a_digest_is_refused);
    tcase_add_test(tests, fetches_that_hang_hold_up_neither_libuvs_threads_nor_uploads);
    tcase_add_test(tests, one_fetch_too_many_is_refused_while_the_others_hang);
    suite_add_tcase(suite, tests);
    if (geteuid() == 0) {
        TCase *full = tcase_create("full disk");
        tcase_add_checked_fixture(full, start_on_small_disk, stop_on_small_disk);
        tcase_set_timeout(full, 60);
        tcase_add_test(full, a_fetch_to_a_full_disk_says_so);
        tcase_add_test(full, room_is_made_for_a_fetch_that_says_how_much_comes);
        suite_add_tcase(suite, full);
    }
    return test_main_run(suite);
}
