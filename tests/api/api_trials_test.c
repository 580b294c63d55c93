/* Goal: dry runs never hold up the loop together: one a turn, few in line, and a share of
 * the line for each. Method: requests that arrive at the real API within one turn. */
#include "api/exchange.h"
#include "base/digest.h"
#include "http_fixture.h"

#define BODY                                                                         \
    "{\"objects\":[{\"apiVersion\":\"berth/v1\",\"kind\":\"Template\",\"metadata\":" \
    "{\"name\":\"small\",\"tenant\":\"default\"},\"spec\":{\"image\":\"linux\","     \
    "\"memory\":{\"size\":\"64MiB\"}}},"                                             \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"Group\",\"metadata\":"                  \
    "{\"name\":\"web\",\"tenant\":\"default\"},\"spec\":{\"replicas\":1,"            \
    "\"template\":{\"name\":\"small\"}}}]}"

static struct {
    const char *secret; /* of the token that asks; NULL: root */
    bool leaves;        /* no sooner than it has asked */
    unsigned sent;
    unsigned ok;
    unsigned full;
    unsigned other;
    unsigned come_again; /* said when */
    unsigned released;
} crowd;

static void crowd_head(void *sink,
                       int status,
                       const char *content_type,
                       const struct exchange_header *headers,
                       unsigned header_count)
{
    (void)sink;
    (void)content_type;
    *(status == 200 ? &crowd.ok : status == 429 ? &crowd.full : &crowd.other) += 1;
    for (unsigned i = 0; i < header_count; i++) {
        crowd.come_again += strcmp(headers[i].name, "Retry-After") == 0 ? 1 : 0;
    }
}

static int crowd_data(void *sink, const void *data, size_t size)
{
    (void)sink;
    (void)data;
    (void)size;
    return 0;
}

static void crowd_end(void *sink)
{
    (void)sink;
}

static void crowd_released(void *sink)
{
    (void)sink;
    crowd.released++;
}

static void arrive(struct served *server, void *context)
{
    static const struct exchange_sink sink = {.head = crowd_head,
                                              .data = crowd_data,
                                              .end = crowd_end,
                                              .released = crowd_released};
    (void)context;
    for (unsigned i = 0; i < crowd.sent; i++) {
        struct exchange_request request = {.method = "POST",
                                           .path = strdup("/v1/apply"),
                                           .query = strdup("dryRun=plan"),
                                           .body = (uint8_t *)strdup(BODY),
                                           .body_size = sizeof(BODY) - 1};
        request.credentials.local_root = crowd.secret == NULL;
        request.credentials.has_token = crowd.secret != NULL;
        if (crowd.secret != NULL) {
            digest_of(crowd.secret, strlen(crowd.secret),
                      &request.credentials.token_hash);
        }
        struct exchange *exchange = exchange_new(&request, &sink, NULL);
        served_arrives(server, exchange);
        if (crowd.leaves) {
            exchange_cancel(exchange);
        }
        exchange_unref(exchange);
    }
}

static unsigned count_released(const struct served *server)
{
    (void)server;
    return crowd.released;
}

static void await_released(void)
{
    await_counted(count_released, crowd.sent);
}

static void crowd_asks(const char *secret, unsigned count)
{
    memset(&crowd, 0, sizeof(crowd));
    crowd.secret = secret;
    crowd.sent = count;
    served_do(served, arrive, NULL);
    await_released();
    ck_assert_uint_eq(crowd.other, 0);
    ck_assert_uint_eq(crowd.come_again, crowd.full);
}

START_TEST(the_line_is_short_and_who_finds_it_full_is_told_to_come_again)
{
    crowd_asks(NULL, 20);
    ck_assert_uint_eq(crowd.ok, 16);
    ck_assert_uint_eq(crowd.full, 4);

    crowd_asks(NULL, 16); /* the line has moved on */
    ck_assert_uint_eq(crowd.ok, 16);
}
END_TEST

START_TEST(one_token_does_not_fill_the_line)
{
    served_token(served, "ana", "ana", ROLE_OPERATOR, "default", 0);

    crowd_asks("ana", 20);
    ck_assert_uint_eq(crowd.ok, 4);
    ck_assert_uint_eq(crowd.full, 16);
}
END_TEST

START_TEST(for_who_has_gone_nothing_is_tried)
{
    memset(&crowd, 0, sizeof(crowd));
    crowd.leaves = true;
    crowd.sent = 8;
    served_do(served, arrive, NULL);
    await_released();
    ck_assert_uint_eq(counted(served_forecasts), 0);

    crowd_asks(NULL, 1);
    ck_assert_uint_eq(counted(served_forecasts), 1);
}
END_TEST

START_TEST(who_waits_in_line_at_the_end_is_answered)
{
    memset(&crowd, 0, sizeof(crowd));
    crowd.sent = 16;
    served_do(served, arrive, NULL);
    served_stop(served);
    served = NULL;

    ck_assert_uint_eq(crowd.released, 16);
    ck_assert_uint_eq(crowd.ok + crowd.full + crowd.other, 16);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("api_trials", &tests);
    tcase_add_test(tests, the_line_is_short_and_who_finds_it_full_is_told_to_come_again);
    tcase_add_test(tests, one_token_does_not_fill_the_line);
    tcase_add_test(tests, for_who_has_gone_nothing_is_tried);
    tcase_add_test(tests, who_waits_in_line_at_the_end_is_answered);
    return test_main_run(suite);
}
