/* Goal: an answer is given once and in order, to a client that is still there. */
#include "api/exchange.h"
#include "base/err.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

static char said[64]; /* what the sink was told: h, d, e, r; c: the handler was told */

static char head_said[128];

static void say(const char *what)
{
    size_t used = strlen(said);
    snprintf(said + used, sizeof(said) - used, "%s", what);
}

static void told_head(void *sink,
                      int status,
                      const char *type,
                      const struct exchange_header *headers,
                      unsigned count)
{
    (void)sink, (void)status, (void)type;
    for (unsigned i = 0; i < count; i++) {
        size_t used = strlen(head_said);
        snprintf(head_said + used, sizeof(head_said) - used, "%s: %s|", headers[i].name,
                 headers[i].value);
    }
    say("h");
}

static int told_data(void *sink, const void *data, size_t size)
{
    (void)sink, (void)data, (void)size;
    say("d");
    return 0;
}

static void told_end(void *sink)
{
    (void)sink;
    say("e");
}

static void told_cut(void *sink)
{
    (void)sink;
    say("x");
}

static void told_released(void *sink)
{
    (void)sink;
    say("r");
}

static void told_cancel(void *context)
{
    say("c");
    exchange_unref(context);
}

static const struct exchange_sink ops = {.head = told_head,
                                         .data = told_data,
                                         .end = told_end,
                                         .released = told_released,
                                         .cut = told_cut};

START_TEST(an_answer_is_one_head_then_data_then_one_end)
{
    struct exchange_request request = {.method = "GET", .path = strdup("/v1/vms")};
    struct exchange *exchange = exchange_new(&request, &ops, NULL);

    ck_assert_ptr_null(request.path); /* taken */
    ck_assert_int_eq(exchange_data(exchange, "x", 1), BERTH_ECLOSED);
    exchange_head(exchange, 200, NULL, NULL, 0);
    exchange_head(exchange, 500, NULL, NULL, 0);
    ck_assert_int_eq(exchange_data(exchange, "x", 1), 0);
    ck_assert_int_eq(exchange_data(exchange, "", 0), 0);
    exchange_end(exchange);
    exchange_end(exchange);
    exchange_cancel(exchange);
    ck_assert_int_eq(exchange_data(exchange, "x", 1), BERTH_ECLOSED);
    ck_assert_ptr_null(exchange_unref(exchange));
    ck_assert_str_eq(said, "hder");
}
END_TEST

START_TEST(a_whole_answer_tells_its_length_first)
{
    struct exchange_request request = {.method = "GET", .path = strdup("/v1/vms")};
    struct exchange *exchange = exchange_new(&request, &ops, NULL);
    const struct exchange_header headers[] = {{"ETag", "\"7\""}};

    exchange_answer(exchange, 200, "text/plain", headers, 1, "hello", 5);
    ck_assert(exchange_ended(exchange));
    exchange_unref(exchange);
    ck_assert_str_eq(said, "hder");
    ck_assert_str_eq(head_said, "Content-Length: 5|ETag: \"7\"|");
}
END_TEST

START_TEST(what_is_revoked_ends_for_both_sides)
{
    struct exchange_request request = {.method = "GET", .path = strdup("/v1/vms")};
    struct exchange *exchange = exchange_new(&request, &ops, NULL);

    exchange_on_cancel(exchange, told_cancel, exchange_ref(exchange));
    exchange_head(exchange, 101, NULL, NULL, 0);
    exchange_revoke(exchange);
    exchange_revoke(exchange);
    exchange_cancel(exchange);
    ck_assert_int_eq(exchange_data(exchange, "x", 1), BERTH_ECLOSED);
    exchange_unref(exchange);
    ck_assert_str_eq(said, "hcxr");
}
END_TEST

START_TEST(what_is_revoked_before_its_answer_is_refused)
{
    struct exchange_request request = {.method = "GET", .path = strdup("/v1/vms")};
    struct exchange *exchange = exchange_new(&request, &ops, NULL);

    exchange_on_cancel(exchange, told_cancel, exchange_ref(exchange));
    exchange_revoke(exchange);
    exchange_head(exchange, 101, NULL, NULL, 0); /* too late */
    exchange_unref(exchange);
    ck_assert_str_eq(said, "chder");
}
END_TEST

START_TEST(a_client_that_goes_away_is_told_once_and_hears_no_more)
{
    struct exchange_request request = {.method = "GET", .path = strdup("/v1/vms")};
    struct exchange *exchange = exchange_new(&request, &ops, NULL);

    exchange_on_cancel(exchange, told_cancel, exchange_ref(exchange));
    exchange_head(exchange, 200, NULL, NULL, 0);
    exchange_cancel(exchange);
    exchange_cancel(exchange);
    ck_assert(exchange_ended(exchange) && exchange_begun(exchange));
    ck_assert_int_eq(exchange_data(exchange, "x", 1), BERTH_ECLOSED);
    exchange_end(exchange);
    exchange_unref(exchange);
    ck_assert_str_eq(said, "hcr");
}
END_TEST

static void told_input(void *context, const void *data, size_t size)
{
    (void)data;
    ck_assert_uint_eq(size, 2);
    say("i");
    exchange_end(context);
    exchange_unref(context); /* the transport still holds its own */
}

START_TEST(input_reaches_the_handler_until_the_end)
{
    struct exchange_request request = {.method = "GET", .path = strdup("/v1/vms")};
    struct exchange *exchange = exchange_new(&request, &ops, NULL);

    exchange_input(exchange, "ab", 2); /* nobody listens yet */
    exchange_on_input(exchange, told_input, exchange_ref(exchange));
    exchange_input(exchange, "", 0);
    exchange_input(exchange, "ab", 2);
    exchange_input(exchange, "ab", 2);
    exchange_unref(exchange);
    ck_assert_str_eq(said, "ier");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exchange_answer");
    TCase *tests = tcase_create("exchange_answer");
    tcase_add_test(tests, an_answer_is_one_head_then_data_then_one_end);
    tcase_add_test(tests, a_whole_answer_tells_its_length_first);
    tcase_add_test(tests, what_is_revoked_ends_for_both_sides);
    tcase_add_test(tests, what_is_revoked_before_its_answer_is_refused);
    tcase_add_test(tests, a_client_that_goes_away_is_told_once_and_hears_no_more);
    tcase_add_test(tests, input_reaches_the_handler_until_the_end);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
