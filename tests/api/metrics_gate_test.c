/* Goal: a host's metrics are read by its root and by tokens with a role in the cluster,
 * on hosts without the state too, and on while there is no leader. Method: the gate with
 * calls made by hand; the leader is the test. */
#include "api/metrics_gate.h"
#include "base/cleanup.h"
#include "support/test_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOREVER UINT64_MAX
#define YES     "{\"subject\":\"token:prometheus\",\"clusterRole\":\"viewer\"}\n"
#define TENANTS \
    "{\"subject\":\"token:ana\",\"clusterRole\":\"\",\"tenantRole\":\"admin\"}\n"

static uv_loop_t loop;
static struct api api;
static struct metrics_gate *gate;
static struct state *state; /* NULL: a host without it */
static unsigned passed;
static int status; /* of the last answer to a reader; 0: none */

/* ---- the leader ---- */

static unsigned asked;
static struct exchange *question; /* held open when the leader keeps silent */
static int leader_status;         /* 0: it keeps silent */
static const char *leader_says;

static void leader_answers(struct exchange *exchange)
{
    exchange_head(exchange, leader_status, "application/json", NULL, 0);
    (void)exchange_data(exchange, leader_says, strlen(leader_says));
    exchange_end(exchange);
}

static void forward(void *context, struct exchange *exchange)
{
    const struct exchange_request *request = exchange_request(exchange);
    (void)context;
    asked++;
    ck_assert_str_eq(request->method, "GET");
    ck_assert_str_eq(request->path, "/v1/self");
    ck_assert(request->credentials.has_token && !request->credentials.local_root);
    if (leader_status == 0) {
        question = exchange_ref(exchange);
    } else {
        leader_answers(exchange);
    }
}

static void leader_is(int answer_status, const char *says)
{
    leader_status = answer_status;
    leader_says = says;
}

static const struct state *state_here(void *context)
{
    (void)context;
    return state;
}

/* ---- readers ---- */

static void reader_head(void *sink,
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

static int reader_data(void *sink, const void *data, size_t size)
{
    (void)sink;
    (void)data;
    (void)size;
    return 0;
}

static void reader_nothing(void *sink)
{
    (void)sink;
}

static struct api_call *reading(struct exchange_credentials credentials)
{
    static const struct exchange_sink sink = {.head = reader_head,
                                              .data = reader_data,
                                              .end = reader_nothing,
                                              .released = reader_nothing};
    struct exchange_request request = {.method = "GET",
                                       .path = strdup("/metrics"),
                                       .query = strdup(""),
                                       .credentials = credentials};
    struct api_call *call = calloc(1, sizeof(*call));
    call->api = &api;
    call->exchange = exchange_new(&request, &sink, NULL);
    call->wall_ms = 1000;
    list_push_back(&api.calls, &call->link);
    api.call_count++;
    status = 0;
    return call;
}

static struct exchange_credentials token(uint8_t hash)
{
    struct exchange_credentials credentials = {.has_token = true};
    memset(credentials.token_hash.bytes, hash, DIGEST_SIZE);
    return credentials;
}

static void allowed(struct api_call *call)
{
    passed++;
    call_answer_text(call, 200, "text/plain", "");
}

/* The status that a reader gets; 0 while it waits. */
static int reads(struct exchange_credentials credentials)
{
    metrics_gate_pass(gate, reading(credentials), allowed);
    return status;
}

/* ---- arranging ---- */

static struct control_plane control = {.state = state_here, .forward = forward};

static void open_gate(uint64_t fresh_ms, uint64_t trust_ms)
{
    gate = metrics_gate_free(gate);
    gate = metrics_gate_new(&api, fresh_ms, trust_ms);
    ck_assert_ptr_nonnull(gate);
}

static void setup(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    api = (struct api){.loop = &loop, .control = &control};
    list_init(&api.calls);
    state = NULL;
    question = NULL;
    passed = asked = 0;
    leader_is(200, YES);
    open_gate(FOREVER, FOREVER);
}

static void teardown(void)
{
    ck_assert_uint_eq(api.call_count, 0);
    gate = metrics_gate_free(gate);
    state = state_free(state);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

START_TEST(root_of_the_host_reads_and_nobody_is_asked)
{
    ck_assert_int_eq(reads((struct exchange_credentials){.local_root = true}), 200);
    ck_assert_uint_eq(asked, 0);
}
END_TEST

START_TEST(who_shows_no_token_is_refused)
{
    ck_assert_int_eq(reads((struct exchange_credentials){0}), 401);
    ck_assert_uint_eq(asked + passed, 0);
}
END_TEST

START_TEST(a_token_that_the_leader_knows_reads_and_is_remembered)
{
    ck_assert_int_eq(reads(token(1)), 200);
    ck_assert_int_eq(reads(token(1)), 200);
    ck_assert_uint_eq(asked, 1);
    ck_assert_int_eq(reads(token(2)), 200);
    ck_assert_uint_eq(asked, 2);
}
END_TEST

START_TEST(a_token_without_a_role_in_the_cluster_does_not_read)
{
    leader_is(200, TENANTS);
    ck_assert_int_eq(reads(token(1)), 403);
    leader_is(401, "{}");
    ck_assert_int_eq(reads(token(1)), 401);
    leader_is(200, "{\"clusterRole\":"); /* cut */
    ck_assert_int_eq(reads(token(1)), 503);
    ck_assert_uint_eq(asked, 3);
    ck_assert_uint_eq(passed, 0);
}
END_TEST

START_TEST(readers_go_on_without_a_leader_and_newcomers_wait)
{
    open_gate(0, FOREVER); /* asks again each time */
    ck_assert_int_eq(reads(token(1)), 200);
    leader_is(503, "{}");

    ck_assert_int_eq(reads(token(1)), 200);
    ck_assert_int_eq(reads(token(1)), 200);
    ck_assert_int_eq(reads(token(2)), 503);

    ck_assert_uint_eq(asked, 4);
}
END_TEST

START_TEST(what_was_good_too_long_ago_has_to_be_asked_first)
{
    open_gate(0, 0);
    ck_assert_int_eq(reads(token(1)), 200);
    leader_is(503, "{}");

    ck_assert_int_eq(reads(token(1)), 503);
}
END_TEST

START_TEST(a_deleted_token_reads_once_more_at_most)
{
    open_gate(0, FOREVER);
    ck_assert_int_eq(reads(token(1)), 200);
    leader_is(401, "{}");

    ck_assert_int_eq(reads(token(1)), 200); /* and the leader is asked meanwhile */
    ck_assert_int_eq(reads(token(1)), 401);
}
END_TEST

START_TEST(a_silent_leader_is_asked_once_about_a_token_that_was_good)
{
    open_gate(0, FOREVER);
    ck_assert_int_eq(reads(token(1)), 200);
    leader_is(0, "");

    ck_assert_int_eq(reads(token(1)), 200);
    ck_assert_int_eq(reads(token(1)), 200);
    ck_assert_uint_eq(asked, 2);
    leader_is(200, YES);
    leader_answers(question);
    exchange_unref(question);
}
END_TEST

START_TEST(an_answer_that_comes_too_late_meets_nobody)
{
    leader_is(0, "");
    struct api_call *call = reading(token(1));
    metrics_gate_pass(gate, call, allowed);
    ck_assert_uint_ne(call->deadline_ms, 0);
    call_fail(call, BERTH_ETIMEOUT, NULL); /* the clock's answer */
    ck_assert_int_eq(status, 504);

    leader_is(200, YES);
    leader_answers(question);
    exchange_unref(question);

    ck_assert_int_eq(status, 504);
    ck_assert_uint_eq(passed, 0);
    ck_assert_int_eq(reads(token(1)), 200); /* it was heard all the same */
    ck_assert_uint_eq(asked, 1);
}
END_TEST

START_TEST(whoever_waits_when_the_host_goes_down_is_told)
{
    leader_is(0, "");
    struct api_call *call = reading(token(1));
    metrics_gate_pass(gate, call, allowed);
    list_remove(&call->link); /* as api_free does */
    call->api = NULL;
    api.call_count--;
    gate = metrics_gate_free(gate);

    exchange_unref(question); /* never answered */

    ck_assert_int_eq(status, 503);
    ck_assert_uint_eq(passed, 0);
}
END_TEST

START_TEST(no_more_tokens_are_remembered_than_there_is_room_for)
{
    for (uint8_t i = 0; i <= METRICS_TOKENS_MAX; i++) {
        ck_assert_int_eq(reads(token(i)), 200);
    }
    asked = 0;

    ck_assert_int_eq(reads(token(METRICS_TOKENS_MAX)), 200);
    ck_assert_uint_eq(asked, 0);
    ck_assert_int_eq(reads(token(0)), 200); /* had to go */
    ck_assert_uint_eq(asked, 1);
}
END_TEST

/* ---- a host with the state ---- */

static void put_token(const char *name, uint8_t hash, const char *tenant)
{
    struct command command;
    struct apply_result result;
    struct token *object = object_new(KIND_TOKEN);
    (void)snprintf(object->meta.name, NAME_SIZE, "%s", name);
    (void)snprintf(object->spec.tenant, NAME_SIZE, "%s", tenant);
    object->spec.role = ROLE_VIEWER;
    memset(object->spec.hash.bytes, hash, DIGEST_SIZE);
    command_init(&command, COMMAND_PUT);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    ck_assert_int_eq(command_set_put(&command, KIND_TOKEN, object, REVISION_ANY), 0);
    object_free(KIND_TOKEN, object);
    state_apply(state, &command, &result);
    ck_assert_msg(result.code == 0, "%s", result.text);
    command_fini(&command);
}

START_TEST(the_state_judges_where_there_is_one)
{
    struct command command;
    struct apply_result result;
    struct tenant *tenant = object_new(KIND_TENANT);
    state = state_new(NULL, NULL);
    (void)snprintf(tenant->meta.name, NAME_SIZE, "shop");
    command_init(&command, COMMAND_PUT);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    ck_assert_int_eq(command_set_put(&command, KIND_TENANT, tenant, REVISION_ANY), 0);
    object_free(KIND_TENANT, tenant);
    state_apply(state, &command, &result);
    command_fini(&command);
    put_token("prometheus", 1, "");
    put_token("ana", 2, "shop");

    ck_assert_int_eq(reads(token(1)), 200);
    ck_assert_int_eq(reads(token(2)), 403);
    ck_assert_int_eq(reads(token(3)), 401);
    ck_assert_uint_eq(asked, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics_gate");
    TCase *tests = tcase_create("metrics_gate");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, root_of_the_host_reads_and_nobody_is_asked);
    tcase_add_test(tests, who_shows_no_token_is_refused);
    tcase_add_test(tests, a_token_that_the_leader_knows_reads_and_is_remembered);
    tcase_add_test(tests, a_token_without_a_role_in_the_cluster_does_not_read);
    tcase_add_test(tests, readers_go_on_without_a_leader_and_newcomers_wait);
    tcase_add_test(tests, what_was_good_too_long_ago_has_to_be_asked_first);
    tcase_add_test(tests, a_deleted_token_reads_once_more_at_most);
    tcase_add_test(tests, a_silent_leader_is_asked_once_about_a_token_that_was_good);
    tcase_add_test(tests, an_answer_that_comes_too_late_meets_nobody);
    tcase_add_test(tests, whoever_waits_when_the_host_goes_down_is_told);
    tcase_add_test(tests, no_more_tokens_are_remembered_than_there_is_room_for);
    tcase_add_test(tests, the_state_judges_where_there_is_one);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
