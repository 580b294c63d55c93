/* Goal: what a host answers by itself is true, and content goes into its store whole or
 * not at all. */
#include "http_fixture.h"

#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define OTHER "3cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static void forget_leader(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->not_leader = true;
    served_knobs(server)->no_leader = true;
}

static void follow(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->not_leader = true;
}

START_TEST(health_is_the_leader_this_host_knows)
{
    ck_assert_int_eq(get("/healthz"), 200);
    ck_assert_str_eq(said("role"), "leader");
    ck_assert_uint_gt(json_member_u64(reply.document, "revision", 0), 0);
    served_do(served, follow, NULL);
    ck_assert_int_eq(get("/healthz"), 200);
    ck_assert_str_eq(said("role"), "voter");
    ck_assert_str_eq(said("leader"), "h2");
    served_do(served, forget_leader, NULL);
    ck_assert_int_eq(get("/healthz"), 503);
    ck_assert_str_eq(said("status"), "no leader");
}
END_TEST

START_TEST(metrics_count_requests_and_problems)
{
    ck_assert_int_eq(get("/metrics"), 200);
    ck_assert_str_eq(header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    ck_assert_contains(reply.body, "berth_build_info 1\n");
    ck_assert_contains(reply.body, "berth_http_requests_total 1\n");
    ck_assert_contains(reply.body, "berth_http_problems_total 0\n");
    (void)get("/v1/nowhere");
    (void)get("/v1/tenants/none");
    ck_assert_int_eq(get("/metrics"), 200);
    ck_assert_contains(reply.body, "berth_http_requests_total 4\n");
    ck_assert_contains(reply.body, "berth_http_problems_total 2\n");
}
END_TEST

START_TEST(version_and_head_are_for_everybody)
{
    ck_assert_int_eq(ask("GET", "/v1/version", "Authorization: Bearer none\r\n", NULL),
                     200);
    ck_assert_str_eq(said("api"), "v1");
    ck_assert_str_eq(said("host"), "h1");
    ck_assert_ptr_nonnull(strstr(reply.body, "levelMax"));
    ck_assert_int_eq(ask("HEAD", "/v1/version", "", NULL), 200);
    ck_assert_uint_eq(reply.size, 0);
    ck_assert_uint_gt(strtoul(header("Content-Length"), NULL, 10), 10);
}
END_TEST

START_TEST(an_upload_is_kept_under_its_digest)
{
    ck_assert_int_eq(get("/v1/blobs/" HELLO), 404);
    ck_assert_int_eq(ask("POST", "/v1/blobs", "Berth-Sha256: " HELLO "\r\n", "hello"),
                     201);
    ck_assert_str_eq(said("sha256"), HELLO);
    ck_assert_uint_eq(json_member_u64(reply.document, "size", 0), 5);
    ck_assert_int_eq(get("/v1/blobs/" HELLO), 200);
    ck_assert_int_eq(ask("HEAD", "/v1/blobs/" HELLO, "", NULL), 200);
    ck_assert_int_eq(ask("POST", "/v1/blobs", "", "hello"), 201); /* again is no harm */
}
END_TEST

START_TEST(an_upload_that_is_something_else_is_refused_and_not_kept)
{
    (void)ask("POST", "/v1/blobs", "Berth-Sha256: " OTHER "\r\n", "hello");
    assert_problem(422, "BERTH_ECORRUPT");
    ck_assert_int_eq(get("/v1/blobs/" OTHER), 404);
    ck_assert_int_eq(get("/v1/blobs/" HELLO), 404);
    (void)ask("POST", "/v1/blobs", "Berth-Sha256: 12\r\n", "hello");
    assert_problem(422, "BERTH_EINVALID");
    ck_assert_int_eq(get("/v1/blobs/" HELLO), 404);
}
END_TEST

START_TEST(an_upload_without_the_right_to_is_refused_and_not_kept)
{
    served_token(served, "ana", "ana", ROLE_VIEWER, "", 0);
    (void)ask("POST", "/v1/blobs", "Authorization: Bearer ana\r\n", "hello");
    assert_problem(403, "BERTH_EFORBIDDEN");
    ck_assert_int_eq(get("/v1/blobs/" HELLO), 404);
}
END_TEST

START_TEST(an_upload_far_over_the_size_of_a_request_streams_through)
{
    size_t size = 3u << 20;
    char *body = malloc(size + 1);
    memset(body, 'x', size);
    body[size] = '\0';
    ck_assert_int_eq(ask("POST", "/v1/blobs", "", body), 201);
    ck_assert_uint_eq(json_member_u64(reply.document, "size", 0), size);
    free(body);
}
END_TEST

START_TEST(an_upload_that_is_cut_off_leaves_nothing)
{
    for (unsigned i = 0; i < 40; i++) { /* more than writers there are at once */
        int fd = connect_local();
        ck_assert(say(
            fd, "POST /v1/blobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhello"));
        (void)close(fd);
    }
    int status;
    do { /* the ends of the others may still be on their way */
        status = ask("POST", "/v1/blobs", "", "hello");
    } while (status == 429);
    ck_assert_int_eq(status, 201);
}
END_TEST

static const char *const bad_fetches[] = {
    "/v1/blobs?url=http%3A%2F%2F127.0.0.1%3A1%2Fx",
    "/v1/blobs?sha256=" HELLO "&url=",
    "/v1/blobs?url=x&sha256=12",
    "/v1/blobs?url=file%3A%2F%2F%2Fetc%2Fpasswd&sha256=" HELLO,
    "/v1/blobs?url=http%3A%2F%2F127.0.0.1%3A1%2Fx&sha256=" HELLO,
};

static void a_fetch_that_cannot_be_is_told_row(size_t i)
{
    (void)ask("POST", bad_fetches[i], "", NULL);
    ck_assert_msg(reply.status >= 400, "%d %s", reply.status, reply.body);
    ck_assert_str_eq(header("Content-Type"), "application/problem+json");
    ck_assert_int_eq(get("/v1/blobs/" HELLO), 404);
}

START_TEST(a_fetch_that_cannot_be_is_told)
{
    for (size_t i = 0; i < sizeof(bad_fetches) / sizeof(bad_fetches[0]); i++) {
        a_fetch_that_cannot_be_is_told_row(i);
    }
}
END_TEST

static char *upload_head(const char *lines, const char *stop, int *ret_fd)
{
    char text[256];
    *ret_fd = connect_local();
    snprintf(text, sizeof(text),
             "POST /v1/blobs HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%s\r\n",
             lines);
    ck_assert(say(*ret_fd, text));
    return hear(*ret_fd, stop);
}

/* Two GiB; far more than the store of the fixture takes. */
START_TEST(an_upload_that_is_too_large_is_refused_before_its_bytes_come)
{
    int fd;
    char *text = upload_head("Content-Length: 2147483648\r\n", NULL, &fd);

    ck_assert_ptr_null(strstr(text, "100 Continue"));
    ck_assert_contains(text, " 413 ");
    ck_assert_contains(text, "2GiB is more than this host takes");
    free(text);
    (void)close(fd);
}
END_TEST

START_TEST(an_upload_that_has_room_is_asked_for)
{
    int fd;
    free(upload_head("Content-Length: 5\r\nConnection: close\r\n", "100 Continue", &fd));

    ck_assert(say(fd, "hello"));
    char *text = hear(fd, NULL);
    ck_assert_contains(text, " 201 ");
    free(text);
    (void)close(fd);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("api_local", &tests);
    tcase_add_test(tests, health_is_the_leader_this_host_knows);
    tcase_add_test(tests, metrics_count_requests_and_problems);
    tcase_add_test(tests, version_and_head_are_for_everybody);
    tcase_add_test(tests, an_upload_is_kept_under_its_digest);
    tcase_add_test(tests, an_upload_that_is_something_else_is_refused_and_not_kept);
    tcase_add_test(tests, an_upload_without_the_right_to_is_refused_and_not_kept);
    tcase_add_test(tests, an_upload_far_over_the_size_of_a_request_streams_through);
    tcase_add_test(tests, an_upload_that_is_cut_off_leaves_nothing);
    tcase_add_test(tests, a_fetch_that_cannot_be_is_told);
    tcase_add_test(tests, an_upload_that_is_too_large_is_refused_before_its_bytes_come);
    tcase_add_test(tests, an_upload_that_has_room_is_asked_for);
    return test_main_run(suite);
}
