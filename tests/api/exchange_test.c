/* Goal: a request crosses the mesh unchanged or not at all. */
#include "api/exchange.h"
#include "base/err.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

/* Where the wire keeps what the tests bend: version, flags, digest, then the texts. */
#define AT_VERSION 0
#define AT_FLAGS   1
#define AT_PATH    (2 + DIGEST_SIZE + 4 + 3 + 4) /* behind "PUT" and the length */

static struct exchange_request full_request(void)
{
    struct exchange_request request = {
        .method = "PUT",
        .path = strdup("/v1/tenants/shop/vms/web-1"),
        .query = strdup("wait=1&timeout=5"),
        .if_match = strdup("\"17\""),
        .if_none_match = strdup("*"),
        .idempotency_key = strdup("0123456789abcdef"),
        .last_event_id = strdup("99"),
        .request_id = strdup("r-1"),
        .body = malloc(4),
        .body_size = 4,
        .upgrade = true,
        .credentials = {.has_token = true},
    };
    ck_assert(request.path != NULL && request.query != NULL && request.body != NULL);
    memcpy(request.body, "{\0}\n", 4);
    memset(request.credentials.token_hash.bytes, 0xa5, DIGEST_SIZE);
    return request;
}

static uint8_t *encoded(struct exchange_request request, size_t *ret_size)
{
    uint8_t *data = NULL;
    ck_assert_int_eq(exchange_request_encode(&request, &data, ret_size), 0);
    exchange_request_fini(&request);
    return data;
}

START_TEST(a_full_request_comes_back_the_same)
{
    struct exchange_request sent = full_request();
    struct exchange_request got;
    size_t size = 0;
    uint8_t *data = encoded(full_request(), &size);

    ck_assert_int_eq(exchange_request_decode(data, size, &got), 0);
    ck_assert_str_eq(got.method, sent.method);
    ck_assert_str_eq(got.path, sent.path);
    ck_assert_str_eq(got.query, sent.query);
    ck_assert_str_eq(got.if_match, sent.if_match);
    ck_assert_str_eq(got.if_none_match, sent.if_none_match);
    ck_assert_str_eq(got.idempotency_key, sent.idempotency_key);
    ck_assert_str_eq(got.last_event_id, sent.last_event_id);
    ck_assert_str_eq(got.request_id, sent.request_id);
    ck_assert_uint_eq(got.body_size, sent.body_size);
    ck_assert_mem_eq(got.body, sent.body, sent.body_size);
    ck_assert(got.upgrade && got.credentials.has_token && !got.credentials.local_root);
    ck_assert_mem_eq(got.credentials.token_hash.bytes, sent.credentials.token_hash.bytes,
                     DIGEST_SIZE);
    exchange_request_fini(&sent);
    exchange_request_fini(&got);
    free(data);
}
END_TEST

START_TEST(what_was_not_said_stays_unsaid)
{
    struct exchange_request sent = {.method = "GET",
                                    .path = strdup("/"),
                                    .query = strdup(""),
                                    .credentials = {.local_root = true, .forwarder = 9}};
    struct exchange_request got;
    size_t size = 0;
    uint8_t *data = encoded(sent, &size);

    ck_assert_int_eq(exchange_request_decode(data, size, &got), 0);
    ck_assert_str_eq(got.query, "");
    ck_assert_ptr_null(got.if_match);
    ck_assert_ptr_null(got.request_id);
    ck_assert_ptr_null(got.body);
    ck_assert(got.credentials.local_root && !got.credentials.has_token && !got.upgrade);
    ck_assert_uint_eq(got.credentials.forwarder, 0); /* no sender says where it is */
    exchange_request_fini(&got);
    free(data);
}
END_TEST

static void assert_refused(const uint8_t *data, size_t size)
{
    struct exchange_request got = {.body_size = 1};
    uint8_t *copy = malloc(size > 0 ? size : 1); /* so that ASan sees a read beyond */

    memcpy(copy, data, size);
    ck_assert_int_eq(exchange_request_decode(copy, size, &got), BERTH_EPROTO);
    ck_assert_ptr_null(got.path);
    ck_assert_ptr_null(got.body);
    ck_assert_uint_eq(got.body_size, 0);
    free(copy);
}

START_TEST(every_truncation_and_a_byte_too_many_are_refused)
{
    size_t size = 0;
    uint8_t *data = encoded(full_request(), &size);

    for (size_t cut = 0; cut < size; cut++) {
        assert_refused(data, cut);
    }
    data = realloc(data, size + 1);
    data[size] = 0;
    assert_refused(data, size + 1);
    free(data);
}
END_TEST

static const struct bend {
    size_t at;
    uint8_t value;
} bends[] = {
    {AT_VERSION, 1}, {AT_VERSION, 3},     {AT_FLAGS, 8},      {AT_FLAGS, 0xff},
    {AT_PATH, 'v'},  {AT_PATH + 1, '\0'}, {AT_PATH - 1, 255}, /* a length beyond the end
                                                               */
};

START_TEST(another_version_unknown_flags_and_a_bad_path_are_refused)
{
    size_t size = 0;
    uint8_t *data = encoded(full_request(), &size);

    ck_assert_uint_eq(data[AT_PATH], '/');
    data[bends[_i].at] = bends[_i].value;
    assert_refused(data, size);
    free(data);
}
END_TEST

START_TEST(a_path_or_body_over_its_limit_is_refused)
{
    for (size_t over = 0; over < 2; over++) {
        struct exchange_request sent = {.method = "PUT", .query = strdup("")};
        struct exchange_request got;
        size_t size = 0;
        sent.path = calloc(1, EXCHANGE_PATH_MAX + 2);
        memset(sent.path, '/', EXCHANGE_PATH_MAX + over);
        sent.body_size = EXCHANGE_BODY_MAX;
        sent.body = calloc(1, sent.body_size);
        uint8_t *data = encoded(sent, &size);

        ck_assert_int_eq(exchange_request_decode(data, size, &got),
                         over ? BERTH_EPROTO : 0);
        exchange_request_fini(&got);
        free(data);
    }
    size_t size = 0;
    uint8_t *data = NULL;
    struct exchange_request large = full_request();
    free(large.body);
    large.body_size = EXCHANGE_BODY_MAX + (16u << 10);
    large.body = calloc(1, large.body_size);
    ck_assert_int_eq(exchange_request_encode(&large, &data, &size), BERTH_ETOOLARGE);
    exchange_request_fini(&large);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exchange");
    TCase *tests = tcase_create("exchange");
    tcase_add_test(tests, a_full_request_comes_back_the_same);
    tcase_add_test(tests, what_was_not_said_stays_unsaid);
    tcase_add_test(tests, every_truncation_and_a_byte_too_many_are_refused);
    tcase_add_loop_test(tests, another_version_unknown_flags_and_a_bad_path_are_refused,
                        0, sizeof(bends) / sizeof(bends[0]));
    tcase_add_test(tests, a_path_or_body_over_its_limit_is_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
