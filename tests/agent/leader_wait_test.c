/* Goal: a request that finds no leader waits for one, not for ever, and is answered once.
 * Method: a loop with a scripted clock; the test says who leads. */
#include "agent/leader_wait.h"
#include "base/err.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

static uv_loop_t loop;
static struct leader_wait *wait;
static uint64_t now_ms;
static bool ready;
static unsigned again;
static bool put_back;   /* it finds none, after all */
static int status;      /* of the last answer; 0: none */
static char said[1024]; /* with it */
static unsigned released;

static uint64_t scripted_ns(void *context)
{
    (void)context;
    return now_ms * NS_PER_MS;
}

static const struct clock scripted = {.now_ns = scripted_ns, .wall_ms = scripted_ns};

static bool is_ready(void *context)
{
    (void)context;
    return ready;
}

static void on_again(void *context, struct exchange *exchange)
{
    (void)context;
    again++;
    if (put_back) {
        leader_wait_add(wait, exchange);
    }
}

static void take_head(void *sink,
                      int head_status,
                      const char *content_type,
                      const struct exchange_header *headers,
                      unsigned header_count)
{
    (void)sink;
    (void)content_type;
    (void)headers;
    (void)header_count;
    status = head_status;
}

static int take_data(void *sink, const void *data, size_t size)
{
    size_t used = strlen(said);
    (void)sink;
    (void)snprintf(said + used, sizeof(said) - used, "%.*s", (int)size,
                   (const char *)data);
    return 0;
}

static void take_end(void *sink)
{
    (void)sink;
}

static void take_released(void *sink)
{
    (void)sink;
    released++;
}

static const struct exchange_sink sink = {.head = take_head,
                                          .data = take_data,
                                          .end = take_end,
                                          .released = take_released};

static struct exchange *request(void)
{
    struct exchange_request made = {
        .method = "PUT", .path = strdup("/v1/x"), .query = strdup("")};
    return exchange_new(&made, &sink, NULL);
}

static void turns(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void start(void)
{
    const struct leader_wait_events events = {.ready = is_ready, .again = on_again};
    now_ms = 1000;
    again = released = 0;
    ready = put_back = false;
    status = 0;
    said[0] = '\0';
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    wait = leader_wait_new(&loop, &scripted, &events);
    ck_assert_ptr_nonnull(wait);
}

static void stop(void)
{
    wait = leader_wait_free(wait);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

START_TEST(it_goes_on_once_there_is_a_leader)
{
    struct exchange *exchange = request();
    leader_wait_add(wait, exchange);
    turns(3);
    ck_assert_uint_eq(again, 0);
    ck_assert_int_eq(status, 0);

    ready = true;
    turns(1);

    ck_assert_uint_eq(again, 1);
    ck_assert_int_eq(status, 0); /* whoever has it now answers */
    exchange_unref(exchange);
    ck_assert_uint_eq(released, 1);
}
END_TEST

START_TEST(it_does_not_wait_for_ever)
{
    struct exchange *exchange = request();
    leader_wait_add(wait, exchange);
    now_ms += LEADER_WAIT_MS - 1;
    turns(1);
    ck_assert_int_eq(status, 0);
    now_ms += 1;
    turns(1);
    ck_assert_int_eq(status, 503);
    ck_assert_uint_eq(again, 0);
    exchange_unref(exchange);
}
END_TEST

/* A leader had it before, and is gone. */
START_TEST(what_may_have_been_done_is_refused_with_these_words)
{
    struct exchange *exchange = request();
    if (_i == 1) {
        exchange_set_in_doubt(exchange);
    }
    leader_wait_add(wait, exchange);
    now_ms += LEADER_WAIT_MS;
    turns(1);
    ck_assert_int_eq(status, 503);
    ck_assert_ptr_nonnull(strstr(said, "no leader that this host can reach"));
    ck_assert_int_eq(strstr(said, "may still have been done") != NULL, _i == 1);
    exchange_unref(exchange);
}
END_TEST

START_TEST(one_that_comes_back_has_no_new_time)
{
    struct exchange *exchange = request();
    ready = put_back = true;
    leader_wait_add(wait, exchange);
    turns(2);
    ck_assert_uint_eq(again, 2);
    now_ms += LEADER_WAIT_MS;
    turns(1);
    ck_assert_int_eq(status, 503);
    exchange_unref(exchange);
    ck_assert_uint_eq(released, 1);
}
END_TEST

START_TEST(a_client_that_goes_away_does_not_wait)
{
    struct exchange *exchange = request();
    leader_wait_add(wait, exchange);
    exchange_cancel(exchange);
    exchange_unref(exchange);
    ck_assert_uint_eq(released, 1);
    ready = true;
    leader_wait_add(wait, exchange = request()); /* the timer looks once more */
    turns(1);
    ck_assert_uint_eq(again, 1);
    exchange_unref(exchange);
}
END_TEST

START_TEST(one_too_many_is_refused_at_once_and_the_end_answers_all)
{
    static struct exchange *held[LEADER_WAIT_MAX + 1];
    for (unsigned i = 0; i <= LEADER_WAIT_MAX; i++) {
        ck_assert_int_eq(status, 0);
        held[i] = request();
        leader_wait_add(wait, held[i]);
    }
    ck_assert_int_eq(status, 503);
    status = 0;
    wait = leader_wait_free(wait);
    ck_assert_int_eq(status, 503);
    for (unsigned i = 0; i <= LEADER_WAIT_MAX; i++) {
        ck_assert(exchange_ended(held[i]));
        exchange_unref(held[i]);
    }
    ck_assert_uint_eq(released, LEADER_WAIT_MAX + 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("leader_wait");
    TCase *tests = tcase_create("waiting");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, it_goes_on_once_there_is_a_leader);
    tcase_add_test(tests, it_does_not_wait_for_ever);
    tcase_add_loop_test(tests, what_may_have_been_done_is_refused_with_these_words, 0, 2);
    tcase_add_test(tests, one_that_comes_back_has_no_new_time);
    tcase_add_test(tests, a_client_that_goes_away_does_not_wait);
    tcase_add_test(tests, one_too_many_is_refused_at_once_and_the_end_answers_all);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
