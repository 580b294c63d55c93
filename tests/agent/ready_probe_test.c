/* Goal: ready after `pass` good attempts, not ready after `fail` bad ones, whatever the
 * peer does. Method: a scripted HTTP server in the same loop. */
#include "agent/ready_probe.h"
#include "base/loop.h"
#include "support/test_main.h"

#include <check.h>
#include <uv.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct bench {
    uv_loop_t loop;
    uv_tcp_t server;
    struct loop_timer *deadline;
    struct ready_probe *probe;
    struct probe_spec spec;
    const char *answer; /* NULL: never; "": closes at once */
    unsigned requests;
    char request[1024]; /* the last one */
    unsigned changes;
    bool ready;
    char reason[128];
    bool close_in_callback;
};

struct connection {
    uv_tcp_t tcp;
    uv_write_t write;
    struct bench *bench;
    char buffer[1024];
};

static void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long");
}

static void connection_free(uv_handle_t *handle)
{
    free(handle->data);
}

static void connection_close(struct connection *connection)
{
    if (!uv_is_closing((uv_handle_t *)&connection->tcp)) {
        uv_close((uv_handle_t *)&connection->tcp, connection_free);
    }
}

static void on_written(uv_write_t *request, int status)
{
    (void)status;
    connection_close(request->data);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    struct connection *connection = handle->data;
    (void)suggested;
    *ret_buffer = uv_buf_init(connection->buffer, sizeof(connection->buffer) - 1);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;
    struct bench *bench = connection->bench;
    if (count < 0) {
        connection_close(connection);
        return;
    }
    buffer->base[count] = '\0';
    memcpy(bench->request, buffer->base, (size_t)count + 1);
    bench->requests++;
    if (bench->answer != NULL) {
        static char text[2048];
        memcpy(text, bench->answer, strlen(bench->answer) + 1);
        uv_buf_t answer = uv_buf_init(text, (unsigned)strlen(text));
        connection->write.data = connection;
        uv_write(&connection->write, stream, &answer, 1, on_written);
    }
}

static void on_connection(uv_stream_t *server, int status)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    (void)status;
    connection->bench = server->data;
    uv_tcp_init(server->loop, &connection->tcp);
    connection->tcp.data = connection;
    uv_accept(server, (uv_stream_t *)&connection->tcp);
    uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read);
}

static void on_changed(void *context, bool ready, const char *reason)
{
    struct bench *bench = context;
    bench->changes++;
    bench->ready = ready;
    strncpy(bench->reason, reason, sizeof(bench->reason) - 1);
    if (bench->close_in_callback) {
        bench->probe = ready_probe_close(bench->probe);
    }
}

static char root[] = "/";
static char path[] = "health?deep=1";

static void bench_init(struct bench *bench)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int size = sizeof(address);
    memset(bench, 0, sizeof(*bench));
    ck_assert_int_eq(uv_loop_init(&bench->loop), 0);
    uv_tcp_init(&bench->loop, &bench->server);
    bench->server.data = bench;
    ck_assert_int_eq(uv_tcp_bind(&bench->server, (struct sockaddr *)(void *)&address, 0),
                     0);
    ck_assert_int_eq(uv_listen((uv_stream_t *)&bench->server, 16, on_connection), 0);
    uv_tcp_getsockname(&bench->server, (struct sockaddr *)(void *)&address, &size);
    bench->deadline = loop_timer_new(&bench->loop, 200000, 0, on_deadline, NULL);
    bench->spec = (struct probe_spec){
        .port = ntohs(address.sin_port),
        .path = root,
        .every_ms = 10,
        .timeout_ms = 5000,
        .pass = 1,
        .fail = 1,
    };
}

static void bench_open(struct bench *bench)
{
    struct err err = {0};
    bench->probe = ready_probe_open(&bench->loop, &bench->spec, INADDR_LOOPBACK,
                                    on_changed, bench, &err);
    ck_assert_msg(bench->probe != NULL, "%s", err.text);
    ck_assert_str_eq(ready_probe_reason(bench->probe), "not tried yet");
    ck_assert_uint_eq(bench->changes, 0);
}

static void close_connections(uv_handle_t *handle, void *context)
{
    struct bench *bench = context;
    if (handle->type == UV_TCP && handle != (uv_handle_t *)&bench->server) {
        connection_close(handle->data);
    }
}

static void bench_fini(struct bench *bench)
{
    bench->probe = ready_probe_close(bench->probe);
    bench->deadline = loop_timer_close(bench->deadline);
    uv_run(&bench->loop, UV_RUN_NOWAIT); /* the probe's own socket is freed here */
    uv_walk(&bench->loop, close_connections, bench);
    uv_close((uv_handle_t *)&bench->server, NULL);
    uv_run(&bench->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench->loop), 0);
}

static void run_to_change(struct bench *bench, unsigned want)
{
    while (bench->changes < want) {
        uv_run(&bench->loop, UV_RUN_ONCE);
    }
}

static void run_until_reason(struct bench *bench, const char *want)
{
    while (strcmp(ready_probe_reason(bench->probe), want) != 0) {
        uv_run(&bench->loop, UV_RUN_ONCE);
    }
}

START_TEST(without_a_probe_running_is_ready)
{
    struct bench bench;
    bench_init(&bench);
    bench.spec.port = 0;

    bench_open(&bench);
    run_to_change(&bench, 1);

    ck_assert(bench.ready);
    ck_assert_uint_eq(bench.requests, 0);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_get_is_sent_and_a_good_status_makes_it_ready)
{
    struct bench bench;
    bench_init(&bench);
    bench.spec.path = path;
    bench.answer = "HTTP/1.1 204 No Content\r\n\r\n";

    bench_open(&bench);
    run_to_change(&bench, 1);

    ck_assert(bench.ready);
    ck_assert(ready_probe_is_ready(bench.probe));
    ck_assert_str_eq(bench.reason, "HTTP 204");
    ck_assert_ptr_nonnull(
        strstr(bench.request, "GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
    bench_fini(&bench);
}
END_TEST

START_TEST(good_and_bad_attempts_are_counted_in_a_row)
{
    struct bench bench;
    bench_init(&bench);
    bench.spec.pass = 3;
    bench.spec.fail = 2;
    bench.answer = "HTTP/1.0 200 OK\r\n\r\n";

    bench_open(&bench);
    run_to_change(&bench, 1);
    ck_assert_uint_eq(bench.requests, 3);
    bench.answer = "HTTP/1.0 503 No\r\n\r\n";
    run_to_change(&bench, 2);

    ck_assert_uint_eq(bench.requests, 5);
    ck_assert(!bench.ready);
    ck_assert_str_eq(bench.reason, "HTTP 503");
    bench_fini(&bench);
}
END_TEST

struct bad_row {
    const char *answer;
    const char *reason;
};

static const struct bad_row bad[] = {
    {"HTTP/1.1 400 Bad\r\n", "HTTP 400"},
    {"HTTP/1.1 199 Odd\r\n", "HTTP 199"},
    {"HTTP/1.1 2000 Odd\r\n", "not an HTTP answer"},
    {"SSH-2.0-OpenSSH\r\n", "not an HTTP answer"},
    {"HTTP/1.1 20", "not an HTTP answer"},
    {"", "no answer"},
};

START_TEST(anything_else_is_not_ready)
{
    struct bench bench;
    bench_init(&bench);
    bench.answer = bad[_i].answer;

    bench_open(&bench);
    run_until_reason(&bench, bad[_i].reason);

    ck_assert_uint_eq(bench.changes, 0);
    bench_fini(&bench);
}
END_TEST

START_TEST(an_endless_line_is_cut_off)
{
    struct bench bench;
    static char endless[1500];
    bench_init(&bench);
    memset(endless, 'x', sizeof(endless) - 1);
    bench.answer = endless;

    bench_open(&bench);
    run_until_reason(&bench, "not an HTTP answer");

    bench_fini(&bench);
}
END_TEST

START_TEST(silence_ends_at_the_timeout_and_is_tried_again)
{
    struct bench bench;
    bench_init(&bench);
    bench.spec.timeout_ms = 20;

    bench_open(&bench);
    run_until_reason(&bench, "no answer in time");
    bench.answer = "HTTP/1.1 200 OK\r\n\r\n";
    run_to_change(&bench, 1);

    ck_assert(bench.ready);
    bench_fini(&bench);
}
END_TEST

START_TEST(connecting_is_enough_without_a_path)
{
    struct bench bench;
    bench_init(&bench);
    bench.spec.path = NULL;

    bench_open(&bench);
    run_to_change(&bench, 1);
    ck_assert_str_eq(bench.reason, "connected");
    uv_close((uv_handle_t *)&bench.server, NULL);
    run_to_change(&bench, 2);

    ck_assert(!bench.ready);
    ck_assert_str_eq(bench.reason, "connect: connection refused");
    uv_run(&bench.loop, UV_RUN_NOWAIT);
    uv_tcp_init(&bench.loop, &bench.server);
    bench_fini(&bench);
}
END_TEST

START_TEST(what_it_met_again_and_again_is_said_until_it_is_ready)
{
    struct bench bench;
    char text[128];
    bench_init(&bench);
    bench.answer = "HTTP/1.1 503 No\r\n\r\n";
    bench_open(&bench);
    run_until_reason(&bench, "HTTP 503");
    ck_assert_ptr_null(ready_probe_trouble(bench.probe)); /* once is nothing yet */
    while (ready_probe_trouble(bench.probe) == NULL) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    ck_assert_uint_ge(bench.requests, READY_PROBE_STANDS);
    (void)snprintf(text, sizeof(text), "not ready: probe http/%u: HTTP 503",
                   bench.spec.port);
    ck_assert_str_eq(ready_probe_trouble(bench.probe), text);
    ck_assert_uint_eq(bench.changes, 0);
    bench.answer = "HTTP/1.1 200 OK\r\n\r\n";
    run_to_change(&bench, 1);
    ck_assert_ptr_null(ready_probe_trouble(bench.probe));
    bench_fini(&bench);
}
END_TEST

START_TEST(it_may_be_closed_in_its_callback_or_at_any_step)
{
    struct bench bench;
    bench_init(&bench);
    bench.answer = "HTTP/1.1 200 OK\r\n\r\n";
    bench.close_in_callback = _i == 0;

    bench_open(&bench);
    if (_i == 0) {
        run_to_change(&bench, 1);
    }
    for (int step = 1; step < _i; step++) {
        uv_run(&bench.loop, UV_RUN_NOWAIT);
    }

    bench_fini(&bench);
}
END_TEST

START_TEST(a_path_that_smuggles_a_header_is_refused)
{
    struct bench bench;
    bench_init(&bench);
    static char smuggled[] = "/ HTTP/1.1\r\nX: y";
    bench.spec.path = smuggled;
    struct err err = {0};

    ck_assert_ptr_null(ready_probe_open(&bench.loop, &bench.spec, INADDR_LOOPBACK,
                                        on_changed, &bench, &err));
    ck_assert_int_eq(err.code, BERTH_EINVALID);
    bench_fini(&bench);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ready_probe");
    TCase *tests = tcase_create("ready_probe");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, without_a_probe_running_is_ready);
    tcase_add_test(tests, a_get_is_sent_and_a_good_status_makes_it_ready);
    tcase_add_test(tests, good_and_bad_attempts_are_counted_in_a_row);
    tcase_add_test(tests, what_it_met_again_and_again_is_said_until_it_is_ready);
    tcase_add_loop_test(tests, anything_else_is_not_ready, 0,
                        sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(tests, an_endless_line_is_cut_off);
    tcase_add_test(tests, silence_ends_at_the_timeout_and_is_tried_again);
    tcase_add_test(tests, connecting_is_enough_without_a_path);
    tcase_add_loop_test(tests, it_may_be_closed_in_its_callback_or_at_any_step, 0, 8);
    tcase_add_test(tests, a_path_that_smuggles_a_header_is_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
