/* Goal: whatever bytes a client sends, it gets an answer that says what is wrong, or
 * loses its connection, and nobody else notices. Method: raw bytes on the real server's
 * socket; after each ill treatment another client is served. */
#include "api/exchange.h"
#include "api/http_request.h"
#include "api/http_server.h"
#include "api/query.h"
#include "base/heap.h"
#include "http_fixture.h"

#define OBJECT                                                                 \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":" \
    "\"shop\"}}"

static void assert_still_serves(void)
{
    ck_assert_int_eq(get("/healthz"), 200);
    ck_assert_str_eq(said("status"), "ok");
}

START_TEST(an_answer_has_its_length_type_and_request_id)
{
    ck_assert_int_eq(ask("GET", "/v1/tenants", "X-Request-Id: my-7\r\n", NULL), 200);

    ck_assert_str_eq(header("Content-Type"), "application/json");
    ck_assert_uint_eq(strtoul(header("Content-Length"), NULL, 10), reply.size);
    ck_assert_str_eq(header("X-Request-Id"), "my-7");
    ck_assert_str_eq(header("X-Content-Type-Options"), "nosniff");
    ck_assert_int_eq(reply.body[reply.size - 1], '\n');
}
END_TEST

START_TEST(a_request_without_an_id_gets_a_new_one_each_time)
{
    char first[64];
    (void)get("/v1/nowhere");
    snprintf(first, sizeof(first), "%s", said("requestId"));
    (void)get("/v1/nowhere");

    ck_assert_uint_eq(strlen(first), 16);
    ck_assert_str_ne(first, said("requestId"));
    ck_assert_str_eq(header("X-Request-Id"), said("requestId"));
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_their_order)
{
    int fd = connect_local();
    ck_assert(say(
        fd,
        "GET /v1/hosts/h1 HTTP/1.1\r\nHost: x\r\n\r\n"
        "PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nContent-Length: 68\r\n\r\n" OBJECT
        "GET /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    char *text = hear(fd, NULL);
    const char *host = strstr(text, "\"kind\":\"Host\"");
    const char *put = host != NULL ? strstr(host, "\"kind\":\"Tenant\"") : NULL;
    const char *got = put != NULL ? strstr(put + 1, "\"kind\":\"Tenant\"") : NULL;

    ck_assert_msg(got != NULL, "%s", text);
    free(text);
    (void)close(fd);
}
END_TEST

START_TEST(a_client_that_closes_its_side_is_still_answered)
{
    int fd = connect_local();
    ck_assert(
        say(fd, "GET /v1/hosts/h1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    char *text = hear(fd, NULL);

    ck_assert_contains(text, "HTTP/1.1 200");
    ck_assert_contains(text, "\"h1\"");
    free(text);
    (void)close(fd);
}
END_TEST

START_TEST(a_client_that_leaves_in_the_middle_leaves_nothing_behind)
{
    static const char *const beginnings[] = {
        "G",
        "GET /v1/hosts HTTP/1.1\r\nHost:",
        "GET /v1/hosts HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{\"api",
        "POST /v1/blobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nabc",
        "GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        int fd = connect_local();
        ck_assert(say(fd, beginnings[i]));
        (void)close(fd);
    }
    assert_still_serves();
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
}
END_TEST

/* The heap is told, so that what they took goes back; for one or two it is not worth it.
 */
START_TEST(of_many_clients_that_left_nothing_stays_resident)
{
    const unsigned many = HEAP_FREED_MIN / HTTP_CONNECTION_BYTES;
    (void)heap_give_back(); /* what the start told, if anything */
    (void)heap_give_back();
    assert_still_serves();
    ck_assert(!heap_give_back());
    ck_assert(!heap_give_back());

    for (unsigned i = 0; i < many + 2; i++) { /* of the last the end may be on its way */
        assert_still_serves();
    }
    ck_assert(!heap_give_back()); /* more may leave */
    ck_assert(heap_give_back());
}
END_TEST

/* MHD itself refuses these, before there is a request of ours. */
static const struct refusal {
    const char *what;
    const char *bytes;
    int status_low; /* any status from here below 500, or the connection just ends */
} refusals[] = {
    {"no HTTP at all", "\x16\x03\x01\x02 \x01\xfc\x03\x03\r\n\r\n", 400},
    {"no version", "GET /healthz\r\n\r\n", 400},
    {"another protocol", "GET /healthz SMTP/1.1\r\nHost: x\r\n\r\n", 400},
    {"a header without a colon", "GET /healthz HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n",
     400},
    {"no host", "GET /healthz HTTP/1.1\r\n\r\n", 400},
    {"a length that is none",
     "PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nContent-Length: 6x7\r\n\r\n" OBJECT,
     400},
    {"a negative length",
     "PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" OBJECT,
     400},
    {"a chunk size that is none",
     "PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
     "zz\r\n" OBJECT "\r\n0\r\n\r\n",
     400},
    {"a chunk that does not end",
     "PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
     "5\r\n" OBJECT "\r\n0\r\n\r\n",
     400},
};

static void malformed_bytes_are_refused_row(size_t i)
{
    int fd = connect_local();
    (void)say(fd, refusals[i].bytes);
    (void)shutdown(fd, SHUT_WR);
    char *text = hear(fd, NULL);

    if (text[0] != '\0') {
        reply_take(text);
        ck_assert_msg(reply.status >= refusals[i].status_low && reply.status < 500,
                      "%s: %s", refusals[i].what, text);
    }
    free(text);
    (void)close(fd);
    assert_still_serves();
    ck_assert_int_eq(get("/v1/tenants/shop"), 404); /* nothing of it was done */
}

START_TEST(malformed_bytes_are_refused)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        malformed_bytes_are_refused_row(i);
    }
}
END_TEST

START_TEST(a_chunked_body_is_put_together)
{
    ask_raw("PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
            "21\r\n{\"apiVersion\":\"berth/v1\",\"kind\":\"\r\n"
            "23\r\nTenant\",\"metadata\":{\"name\":\"shop\"}}\r\n0\r\n\r\n");

    ck_assert_int_eq(reply.status, 200);
    ck_assert_int_eq(get("/v1/tenants/shop"), 200);
}
END_TEST

START_TEST(headers_beyond_the_connections_memory_are_refused)
{
    size_t size = 200000;
    char *large = malloc(size);
    memset(large, 'x', size - 1);
    large[size - 1] = '\0';
    int fd = connect_local();
    (void)(say(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: ") && say(fd, large) &&
           say(fd, "\r\n\r\n"));
    char *text = hear(fd, NULL);

    ck_assert_msg(text[0] == '\0' || strstr(text, " 431 ") != NULL ||
                      strstr(text, " 413 ") != NULL || strstr(text, " 400 ") != NULL,
                  "%.200s", text);
    free(text);
    free(large);
    (void)close(fd);
    assert_still_serves();
}
END_TEST

START_TEST(a_body_over_its_limit_is_refused_with_the_limit)
{
    size_t size = (600u << 10) + 1;
    char *body = malloc(size);
    memset(body, ' ', size - 1);
    body[size - 1] = '\0';

    (void)ask("PUT", "/v1/tenants/shop", "", body);
    assert_problem(413, "BERTH_ETOOLARGE");
    ck_assert_contains(said("detail"), "480KiB");
    free(body);
}
END_TEST

START_TEST(a_path_or_query_over_its_limit_is_refused_not_cut)
{
    char text[16384] = "/v1/hosts?label=";
    size_t at = strlen(text);
    memset(text + at, 'a', 9000);
    text[at + 9000] = '\0';
    (void)get(text);
    assert_problem(414, "BERTH_ETOOLARGE");

    snprintf(text, sizeof(text), "/v1/hosts/");
    memset(text + 10, '/', 2000);
    text[2010] = '\0';
    (void)get(text);
    assert_problem(414, "BERTH_ETOOLARGE");
}
END_TEST

/* `size` bytes of a URL, encoded as far as they go: "%61%61a". */
static char *encode_a(char *to, size_t size)
{
    for (; size >= 3; size -= 3) {
        to = stpcpy(to, "%61");
    }
    return stpcpy(to, &"aa"[2 - size]);
}

/* A path and a query of so many bytes as they are sent, in as many parameters as there
 * may be. */
static void longest_make(char *to, size_t path_size, size_t query_size)
{
    static const char path[] = "/v1/hosts/";
    to = encode_a(stpcpy(to, path), path_size - strlen(path));
    to = stpcpy(to, "?");
    for (unsigned i = 1; i < QUERY_ITEMS_MAX; i++) {
        to = stpcpy(to, "a&");
    }
    *encode_a(to, query_size - 2 * (QUERY_ITEMS_MAX - 1)) = '\0';
}

/* As many headers, and as long ones, as there is room for beside the longest URL. */
static void headers_make(char *to)
{
    const size_t each = HTTP_HEADERS_BYTES / HTTP_HEADERS_MAX;
    for (unsigned i = 0; i < HTTP_HEADERS_MAX - 3; i++) { /* the others are ask()'s */
        int used = snprintf(to, each, "X-%u: ", i);
        memset(to + used, 'x', each - (size_t)used - 2);
        to = stpcpy(to + each - 2, "\r\n");
    }
}

static const struct longest {
    size_t path;
    size_t query;
    int status;
    const char *code;
} longest[] = {
    {EXCHANGE_PATH_MAX, EXCHANGE_QUERY_MAX, 404, "BERTH_ENOTFOUND"},
    {EXCHANGE_PATH_MAX + 1, EXCHANGE_QUERY_MAX, 414, "BERTH_ETOOLARGE"},
    {EXCHANGE_PATH_MAX, EXCHANGE_QUERY_MAX + 1, 414, "BERTH_ETOOLARGE"},
};

START_TEST(the_longest_path_and_query_are_taken_however_they_are_encoded)
{
    static char url[EXCHANGE_PATH_MAX + EXCHANGE_QUERY_MAX + 3];
    static char headers[HTTP_HEADERS_BYTES + 1];
    static char body[EXCHANGE_BODY_MAX + 1];
    const struct longest *row = &longest[_i];
    longest_make(url, row->path, row->query);
    headers_make(headers);
    memset(body, ' ', EXCHANGE_BODY_MAX);

    (void)ask("PUT", url, headers, body);
    assert_problem(row->status, row->code);
    (void)ask("GET", url, headers, NULL);
    assert_problem(row->status, row->code);
}
END_TEST

static const struct header_limit {
    const char *name;
    size_t limit;
} header_limits[] = {{"If-Match", 128},
                     {"If-None-Match", 128},
                     {"Idempotency-Key", 128},
                     {"Last-Event-ID", 64},
                     {"X-Request-Id", 64}};

static void a_header_over_its_limit_is_refused_not_cut_row(size_t i)
{
    const struct header_limit *row = &header_limits[i];
    char line[512];
    char value[256];
    memset(value, '7', sizeof(value));
    value[row->limit + 1] = '\0';
    snprintf(line, sizeof(line), "%s: %s\r\n", row->name, value);

    (void)ask("PUT", "/v1/tenants/shop", line, OBJECT);
    assert_problem(400, "BERTH_EINVALID");
    ck_assert_contains(said("detail"), row->name);
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);

    snprintf(line, sizeof(line), "%s: \r\n", row->name);
    (void)ask("PUT", "/v1/tenants/shop", line, OBJECT);
    assert_problem(400, "BERTH_EINVALID");
}

START_TEST(a_header_over_its_limit_is_refused_not_cut)
{
    for (size_t i = 0; i < sizeof(header_limits) / sizeof(header_limits[0]); i++) {
        a_header_over_its_limit_is_refused_not_cut_row(i);
    }
}
END_TEST

static const struct strange_path {
    const char *path;
    int status;
} strange_paths[] = {
    {"/v1/hosts/h1%00", 404},       /* not cut at the NUL ... */
    {"/v1/hosts/h1%00:drain", 405}, /* ... nor at the action behind it */
    {"/v1/hosts%00/../../etc/passwd", 404},
    {"/../../../etc/passwd", 404},
    {"/v1/../v1/hosts/h1", 404},
    {"/v1/hosts/%2e%2e", 404},
    {"/v1/hosts/..%2f..%2fetc", 404},
    {"/v1/hosts/h1%2F", 404},
    {"//v1/hosts/h1", 404},
    {"/v1/hosts/%68%31", 200}, /* plain escapes are fine */
    {"/v1/hosts/h1%zz", 404},
    {"/v1/hosts/h1%", 404},
    {"/v1/hosts?tenant=%00", 404},  /* no such tenant, not any tenant */
    {"/v1/hosts/h1?full=%zz", 200}, /* not a yes */
    {"*", 404},
};

static void a_strange_path_names_nothing_else_row(size_t i)
{
    const struct strange_path *row = &strange_paths[i];
    (void)get(row->path);

    ck_assert_msg(reply.status == row->status, "%s: %d %s", row->path, reply.status,
                  reply.body);
    if (row->status >= 400) {
        ck_assert_str_eq(header("Content-Type"), "application/problem+json");
    }
}

START_TEST(a_strange_path_names_nothing_else)
{
    for (size_t i = 0; i < sizeof(strange_paths) / sizeof(strange_paths[0]); i++) {
        a_strange_path_names_nothing_else_row(i);
    }
}
END_TEST

static const char *const methods[] = {"PATCH",   "OPTIONS",           "TRACE",
                                      "CONNECT", "PROPFIND",          "get",
                                      "GETT",    "DELETEDELETEDELETE"};

static void a_method_that_nobody_knows_is_refused_with_those_that_are_row(size_t i)
{
    (void)ask(methods[i], "/v1/hosts/h1", "", NULL);

    assert_problem(405, "BERTH_EUNSUPPORTED");
    ck_assert_str_eq(header("Allow"), "GET, PUT, DELETE");
}

START_TEST(a_method_that_nobody_knows_is_refused_with_those_that_are)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        a_method_that_nobody_knows_is_refused_with_those_that_are_row(i);
    }
}
END_TEST

static const char *const bodies[] = {
    "",         " ",  "{", "{\"a\":1,\"a\":2}", "[]]", "nonsense", "{\"kind\":\"T\xff\"}",
    "\"text\"", "12",
};

static void a_body_that_is_no_object_is_refused_and_says_so_row(size_t i)
{
    (void)ask("PUT", "/v1/tenants/shop", "", bodies[i]);

    ck_assert_msg(reply.status == 400 || reply.status == 422, "%d %s", reply.status,
                  reply.body);
    ck_assert_str_eq(header("Content-Type"), "application/problem+json");
    ck_assert_str_ne(said("detail"), "");
}

START_TEST(a_body_that_is_no_object_is_refused_and_says_so)
{
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        a_body_that_is_no_object_is_refused_and_says_so_row(i);
    }
}
END_TEST

/* So long may a request take: what is no dribbler has to be through in it, on a machine
 * that runs the test only now and then, too. */
#define REQUEST_MS 2000

/* Sends a byte at a time, as long as it is let. */
static bool dribbled_to_the_end(const char *text)
{
    int fd = connect_local();
    bool open = true;
    for (unsigned i = 0; open && i < 2000; i++) {
        struct pollfd end = {.fd = fd, .events = POLLIN | POLLRDHUP};
        open = say_bytes(fd, text[0] != '\0' ? text : " ", 1);
        text += text[0] != '\0' ? 1 : 0;
        open = open && poll(&end, 1, 10) == 0;
    }
    (void)close(fd);
    return open;
}

START_TEST(a_client_that_dribbles_loses_its_place)
{
    fixture_start_with(&(struct served_config){.request_ms = REQUEST_MS});

    ck_assert(!dribbled_to_the_end("GET /healthz HTTP/1.1\r\nX-Slow: "));
    ck_assert(!dribbled_to_the_end(
        "PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n"));
    int half = connect_local(); /* says no more, and nothing whole before */
    ck_assert(say(half, "GET /healthz HT"));
    ck_assert_int_eq(shutdown(half, SHUT_WR), 0);
    char *text = hear(half, NULL);
    ck_assert_ptr_null(strstr(text, " 200 "));
    free(text);
    (void)close(half);
    assert_still_serves();
    fixture_stop();
}
END_TEST

START_TEST(a_stream_is_no_dribbler)
{
    fixture_start_with(&(struct served_config){.request_ms = REQUEST_MS});
    int fd = connect_local();
    ck_assert(say(fd, "GET /v1/watch?kinds=tenant HTTP/1.1\r\nHost: x\r\n\r\n"));
    free(hear(fd, "event: bookmark"));
    int other = connect_local(); /* idle: ended when the time is over */
    free(hear(other, NULL));
    (void)close(other);

    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "", OBJECT), 200);
    free(hear(fd, "\"shop\""));
    (void)close(fd);
    fixture_stop();
}
END_TEST

static void pass(struct served *server, void *context)
{
    (void)server;
    (void)context;
}

/* More than half of what the server below holds for all. */
#define LARGE \
    "GET /v1/vms?limit=1000&full=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

START_TEST(answers_that_nobody_takes_leave_no_room_for_more_and_are_whole)
{
    fixture_start_with(&(struct served_config){.held_max = 1u << 20});
    served_vms(served, "web", 700);
    int slow = connect_local();
    ck_assert(say(slow, LARGE));
    char *first = hear(slow, "\r\n\r\n");
    size_t told = strtoul(strstr(first, "Content-Length: ") + 16, NULL, 10);
    ck_assert_uint_gt(told, 512u << 10);
    ck_assert_uint_lt(told, 1u << 20);

    int other = connect_local();
    ck_assert(say(other, LARGE));
    char *nothing = hear(other, NULL);
    ck_assert_str_eq(nothing, "");
    free(nothing);
    (void)close(other);
    assert_still_serves(); /* what is small */

    char *rest = hear(slow, NULL);
    size_t head_size = (size_t)(strstr(first, "\r\n\r\n") + 4 - first);
    ck_assert_uint_eq(strlen(first) + strlen(rest), head_size + told);
    free(first);
    free(rest);
    (void)close(slow);
    served_do(served, pass, NULL); /* it has let go of what was taken */
    ask_raw(LARGE);
    ck_assert_int_eq(reply.status, 200);
    fixture_stop();
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("http_request", &tests);
    TCase *slow = tcase_create("slow clients");
    tcase_add_test(tests, an_answer_has_its_length_type_and_request_id);
    tcase_add_test(tests, a_request_without_an_id_gets_a_new_one_each_time);
    tcase_add_test(tests, pipelined_requests_are_answered_in_their_order);
    tcase_add_test(tests, a_client_that_closes_its_side_is_still_answered);
    tcase_add_test(tests, a_client_that_leaves_in_the_middle_leaves_nothing_behind);
    tcase_add_test(tests, of_many_clients_that_left_nothing_stays_resident);
    tcase_add_test(tests, malformed_bytes_are_refused);
    tcase_add_test(tests, a_chunked_body_is_put_together);
    tcase_add_test(tests, headers_beyond_the_connections_memory_are_refused);
    tcase_add_test(tests, a_body_over_its_limit_is_refused_with_the_limit);
    tcase_add_test(tests, a_path_or_query_over_its_limit_is_refused_not_cut);
    tcase_add_loop_test(tests,
                        the_longest_path_and_query_are_taken_however_they_are_encoded, 0,
                        sizeof(longest) / sizeof(longest[0]));
    tcase_add_test(tests, a_header_over_its_limit_is_refused_not_cut);
    tcase_add_test(tests, a_strange_path_names_nothing_else);
    tcase_add_test(tests, a_method_that_nobody_knows_is_refused_with_those_that_are);
    tcase_add_test(tests, a_body_that_is_no_object_is_refused_and_says_so);
    tcase_add_test(slow, a_client_that_dribbles_loses_its_place);
    tcase_add_test(slow, a_stream_is_no_dribbler);
    tcase_add_test(slow, answers_that_nobody_takes_leave_no_room_for_more_and_are_whole);
    tcase_set_timeout(slow, 300);
    suite_add_tcase(suite, slow);
    return test_main_run(suite);
}
