/* Goal: a request is done once however often it is sent, under the conditions it names,
 * or is answered in time for being late. Method: the same requests over the socket again,
 * with the world changed in between. */
#include "api/exchange.h"
#include "http_fixture.h"

#define SHOP(label)                                                                     \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":\"shop\"," \
    "\"labels\":{\"v\":\"" label "\"}}}"
#define KEY(key) "Idempotency-Key: " key "\r\n"

static const char *label(void)
{
    ck_assert_int_eq(get("/v1/tenants/shop"), 200);
    const json_t *meta = json_object_get(reply.document, "metadata");
    return json_member_text(json_object_get(meta, "labels"), "v", "");
}

START_TEST(a_retry_is_answered_and_not_done_again)
{
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one")), 200);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "", SHOP("two")), 200);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one")), 200);

    ck_assert_str_eq(label(), "two");
}
END_TEST

START_TEST(a_retry_of_what_was_refused_is_refused_again)
{
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/shop", KEY("k1"), NULL), 404);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "", SHOP("one")), 200);
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/shop", KEY("k1"), NULL), 404);

    ck_assert_str_eq(label(), "one");
}
END_TEST

START_TEST(a_condition_that_was_met_counts_for_the_retry_too)
{
    char headers[128];
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "", SHOP("one")), 200);
    snprintf(headers, sizeof(headers), "If-Match: %s\r\n" KEY("k1"), header("ETag"));
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", headers, SHOP("two")), 200);

    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", headers, SHOP("two")), 200);
    ck_assert_str_eq(label(), "two");
}
END_TEST

static const struct other {
    const char *method;
    const char *path;
    const char *headers;
    const char *body;
} others[] = {
    {"PUT", "/v1/tenants/shop", "", SHOP("two")},
    {"PUT", "/v1/tenants/shop", "If-None-Match: *\r\n", SHOP("one")},
    {"DELETE", "/v1/tenants/shop", "", NULL},
    {"POST", "/v1/apply", "", SHOP("one")},
    {"POST", "/v1/apply?dryRun=plan", "", SHOP("one")},
    {"POST", "/v1/hosts/h1:drain", "", NULL},
};

static void a_key_is_good_for_one_request_only_row(size_t i)
{
    const struct other *row = &others[i];
    char headers[128];
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one")), 200);
    snprintf(headers, sizeof(headers), "%s%s", row->headers, KEY("k1"));
    (void)ask(row->method, row->path, headers, row->body);

    assert_problem(422, "BERTH_EREUSED");
    ck_assert_str_eq(label(), "one");
    ck_assert_int_eq(get("/v1/hosts/h1"), 200);
    ck_assert_ptr_null(strstr(reply.body, "\"drain\":true"));
}

START_TEST(a_key_is_good_for_one_request_only)
{
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        a_key_is_good_for_one_request_only_row(i);
    }
}
END_TEST

START_TEST(a_first_write_with_a_key_takes_one_round_of_the_log)
{
    unsigned before = counted(served_rounds);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one")), 200);

    ck_assert_uint_eq(counted(served_rounds) - before, 1);
}
END_TEST

/* What is answered by what the handler saw has not been in the log. */
START_TEST(a_key_is_used_up_by_what_is_refused_before_the_log_too)
{
    (void)ask("PUT", "/v1/tenants/other", KEY("k1"), SHOP("one"));
    assert_problem(422, "BERTH_EINVALID");
    (void)ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one"));
    assert_problem(422, "BERTH_EREUSED");
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
}
END_TEST

static void slow_proposals(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->slow_proposals = true;
}

static void log_goes_on(struct served *server, void *context)
{
    (void)context;
    served_log_goes_on(server);
}

static int put_unheard(const char *key, const char *body)
{
    char text[1024];
    int fd = connect_local();
    snprintf(text, sizeof(text),
             "PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
             "Idempotency-Key: %s\r\nContent-Length: %zu\r\n\r\n%s",
             key, strlen(body), body);
    ck_assert(say(fd, text));
    return fd;
}

static void assert_hears(int fd, const char *status)
{
    char *text = hear(fd, NULL);
    ck_assert_msg(strstr(text, status) != NULL, "%.300s", text);
    free(text);
    (void)close(fd);
}

START_TEST(of_two_requests_with_one_key_at_once_the_second_is_not_done)
{
    served_do(served, slow_proposals, NULL);
    int first = put_unheard("k1", SHOP("one"));
    await_counted(served_slow_proposals, 2); /* the guard and the command */
    int second = put_unheard("k1", SHOP("two"));
    await_counted(served_slow_proposals, 3); /* its guard alone: the key is on its way */
    int again = put_unheard("k1", SHOP("one"));
    await_counted(served_slow_proposals, 4);
    served_do(served, log_goes_on, NULL);

    assert_hears(first, " 200 ");
    assert_hears(second, " 422 ");
    assert_hears(again, " 200 ");
    ck_assert_str_eq(label(), "one");
}
END_TEST

static void lose_proposals(struct served *server, void *context)
{
    const bool *lose = context;
    served_knobs(server)->lose_proposals = *lose;
}

/* An unknown outcome, which leaves a doubt. */
static void leave_a_doubt(const char *key)
{
    char header_line[64];
    bool lose = true;
    snprintf(header_line, sizeof(header_line), "Idempotency-Key: %s\r\n", key);
    served_do(served, lose_proposals, &lose);
    (void)ask("POST", "/v1/apply", header_line, SHOP("lost"));
    assert_problem(504, "BERTH_EUNKNOWN");
    lose = false;
    served_do(served, lose_proposals, &lose);
}

/* The log may still have its guard under way, which the state does not show. */
START_TEST(a_key_whose_first_outcome_is_unknown_is_not_taken_for_a_new_one)
{
    leave_a_doubt("k1");

    (void)ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("two"));
    assert_problem(422, "BERTH_EREUSED");
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
    unsigned before = counted(served_rounds);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k2"), SHOP("two")), 200);
    ck_assert_uint_eq(counted(served_rounds) - before, 1);
}
END_TEST

START_TEST(an_unknown_outcome_costs_other_keys_no_round_of_the_log)
{
    leave_a_doubt("k1");
    unsigned before = counted(served_rounds);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k2"), SHOP("two")), 200);
    ck_assert_uint_eq(counted(served_rounds) - before, 1);
}
END_TEST

START_TEST(a_key_is_used_up_without_the_log_also_with_an_outcome_unknown)
{
    leave_a_doubt("k1");
    (void)ask("PUT", "/v1/tenants/other", KEY("k2"), SHOP("one"));
    assert_problem(422, "BERTH_EINVALID");
    (void)ask("PUT", "/v1/tenants/shop", KEY("k2"), SHOP("one"));
    assert_problem(422, "BERTH_EREUSED");
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
}
END_TEST

static void lose_first(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->lose_first = true;
}

START_TEST(what_came_through_without_its_guard_is_not_told_as_done)
{
    served_do(served, lose_first, NULL);
    (void)ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one"));
    assert_problem(429, "BERTH_EFULL");
}
END_TEST

/* ---- two that come in one turn of the loop ---- */

static struct twin {
    int status;
    bool released;
} twins[2];

static void twin_head(void *sink,
                      int status,
                      const char *content_type,
                      const struct exchange_header *headers,
                      unsigned header_count)
{
    struct twin *twin = sink;
    (void)content_type;
    (void)headers;
    (void)header_count;
    twin->status = status;
}

static int twin_data(void *sink, const void *data, size_t size)
{
    (void)sink;
    (void)data;
    (void)size;
    return 0;
}

static void twin_end(void *sink)
{
    (void)sink;
}

static void twin_released(void *sink)
{
    struct twin *twin = sink;
    twin->released = true;
}

static unsigned twins_released(const struct served *server)
{
    (void)server;
    return (unsigned)twins[0].released + (unsigned)twins[1].released;
}

static void twin_arrives(struct served *server, struct twin *twin, const char *body)
{
    static const struct exchange_sink sink = {
        .head = twin_head, .data = twin_data, .end = twin_end, .released = twin_released};
    struct exchange_request request = {.method = "PUT",
                                       .path = strdup("/v1/tenants/shop"),
                                       .query = strdup(""),
                                       .idempotency_key = strdup("k2"),
                                       .body = (uint8_t *)strdup(body),
                                       .body_size = strlen(body),
                                       .credentials = {.local_root = true}};
    struct exchange *exchange = exchange_new(&request, &sink, twin);
    served_arrives(server, exchange);
    exchange_unref(exchange);
}

/* The barrier of the first comes before what the log gets of the second, and is passed
 * when that has been given up. */
static void twins_arrive(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->hold_reads = true;
    twin_arrives(server, &twins[0], SHOP("one"));
    served_knobs(server)->lose_proposals = true;
    twin_arrives(server, &twins[1], SHOP("two"));
    served_knobs(server)->lose_proposals = false;
    served_reads_go_on(server);
}

START_TEST(a_key_that_is_in_doubt_since_its_barrier_began_is_not_taken_for_a_new_one)
{
    leave_a_doubt("k1");
    memset(twins, 0, sizeof(twins));
    served_do(served, twins_arrive, NULL);
    await_counted(twins_released, 2);

    ck_assert_int_eq(twins[1].status, 504);
    ck_assert_int_eq(twins[0].status, 422);
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
}
END_TEST

/* ---- what a host asks again ---- */

struct repeat {
    struct twin twin;
    const char *key;
    const char *body;
    uint64_t since;
};

static void repeat_arrives(struct served *server, void *context)
{
    static const struct exchange_sink sink = {
        .head = twin_head, .data = twin_data, .end = twin_end, .released = twin_released};
    struct repeat *repeat = context;
    struct exchange_request request = {.method = "PUT",
                                       .path = strdup("/v1/tenants/shop"),
                                       .query = strdup(""),
                                       .idempotency_key = strdup(repeat->key),
                                       .body = (uint8_t *)strdup(repeat->body),
                                       .body_size = strlen(repeat->body),
                                       .credentials = {.local_root = true}};
    struct exchange *exchange = exchange_new(&request, &sink, &repeat->twin);
    if (repeat->since != 0) {
        exchange_note_asked(exchange, repeat->since);
        exchange_set_repeat(exchange);
    }
    served_arrives(server, exchange);
    exchange_unref(exchange);
}

static struct repeat *awaited_repeat;

static unsigned repeat_released(const struct served *server)
{
    (void)server;
    return (unsigned)awaited_repeat->twin.released;
}

/* since 0: it comes for the first time. The status. */
static int sent_on(const char *key, const char *body, uint64_t since)
{
    struct repeat repeat = {.key = key, .body = body, .since = since};
    awaited_repeat = &repeat;
    served_do(served, repeat_arrives, &repeat);
    await_counted(repeat_released, 1);
    return repeat.twin.status;
}

static void read_revision(struct served *server, void *context)
{
    *(uint64_t *)context = state_revision(served_state(server));
}

static uint64_t revision_now(void)
{
    uint64_t revision = 0;
    served_do(served, read_revision, &revision);
    return revision;
}

/* As many answers as one subject has, and a few more; the label is the last one's. */
static void forget_all(const char *label)
{
    char body[256];
    (void)snprintf(body, sizeof(body), SHOP("%s"), label);
    for (unsigned i = 0; i < STATE_REQUESTS_MAX / 4 + 8; i += 2) {
        char key[16];
        (void)snprintf(key, sizeof(key), "%s%u", label, i);
        ck_assert_int_eq(sent_on(key, body, 0), 200);
    }
}

/* The log does not remember a key for ever, and a later write would be undone. */
START_TEST(what_a_host_asks_again_is_not_done_when_the_log_may_have_forgotten_it)
{
    const uint64_t before = revision_now();
    ck_assert_int_eq(sent_on("w", SHOP("one"), 0), 200);
    ck_assert_int_eq(sent_on("w", SHOP("one"), before), 200); /* it is remembered */
    forget_all("two");
    ck_assert_int_eq(sent_on("w", SHOP("one"), before), 504);
    ck_assert_str_eq(label(), "two");
    ck_assert_int_eq(sent_on("w", SHOP("one"), before), 504); /* nothing was begun */
    ck_assert_str_eq(label(), "two");
}
END_TEST

/* A subject whose answers go all the time is no reason, as long as they are old. */
START_TEST(what_a_host_asks_again_is_done_when_only_older_answers_were_forgotten)
{
    forget_all("two");
    const uint64_t before = revision_now();
    ck_assert_int_eq(sent_on("w", SHOP("one"), before), 200); /* the first was lost */
    ck_assert_str_eq(label(), "one");
    ck_assert_int_eq(sent_on("x", SHOP("three"), 0), 200);
    ck_assert_int_eq(sent_on("w", SHOP("one"), before), 200);
    ck_assert_str_eq(label(), "three");
}
END_TEST

START_TEST(keys_of_two_subjects_are_two_keys)
{
    served_token(served, "ana", "ana", ROLE_ADMIN, "", 0);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one")), 200);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop",
                         KEY("k1") "Authorization: Bearer ana\r\n", SHOP("two")),
                     200);

    ck_assert_str_eq(label(), "two");
}
END_TEST

START_TEST(reading_needs_no_key_and_uses_none_up)
{
    ck_assert_int_eq(ask("GET", "/v1/tenants", KEY("k1"), NULL), 200);
    ck_assert_int_eq(ask("GET", "/v1/hosts", KEY("k1"), NULL), 200);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one")), 200);
}
END_TEST

#define PAIR                                                                           \
    "{\"objects\":["                                                                   \
    "{\"apiVersion\":\"berth/"                                                         \
    "v1\",\"kind\":\"Template\",\"metadata\":{\"name\":\"small\"},"                    \
    "\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":\"64MiB\"}}},"                 \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"Group\",\"metadata\":{\"name\":\"web\"}," \
    "\"spec\":{\"template\":{\"name\":\"missing\"},\"replicas\":1}}]}"

START_TEST(a_retry_of_an_apply_that_was_half_done_gets_the_same_answer)
{
    (void)ask("POST", "/v1/apply", KEY("k1"), PAIR);
    assert_problem(422, "BERTH_ENOTFOUND");
    ck_assert_int_eq(get("/v1/tenants/default/templates/small"),
                     200); /* the other half */

    (void)ask("POST", "/v1/apply", KEY("k1"), PAIR);
    assert_problem(422, "BERTH_ENOTFOUND"); /* and not "reused" */
}
END_TEST

START_TEST(a_retry_of_an_apply_that_was_done_changes_nothing_back)
{
    ck_assert_int_eq(ask("POST", "/v1/apply", KEY("k1"), SHOP("one")), 200);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "", SHOP("two")), 200);
    ck_assert_int_eq(ask("POST", "/v1/apply", KEY("k1"), SHOP("one")), 200);

    ck_assert_str_eq(label(), "two");
}
END_TEST

#define JUMP(power)                                                                     \
    "{\"objects\":[{\"apiVersion\":\"berth/v1\",\"kind\":\"VM\",\"metadata\":{"         \
    "\"name\":\"jump\"},\"spec\":{\"template\":{\"name\":\"plain\"},\"power\":\"" power \
    "\"}}]}"

/* The VM is there by then, so that the retry would switch it on. */
START_TEST(a_retry_of_an_apply_that_made_a_vm_does_not_undo_what_was_done_since)
{
    ck_assert_int_eq(ask("POST", "/v1/apply", KEY("k1"), JUMP("on")), 200);
    ck_assert_int_eq(ask("POST", "/v1/apply", KEY("k2"), JUMP("off")), 200);

    ck_assert_int_eq(ask("POST", "/v1/apply", KEY("k1"), JUMP("on")), 200);

    ck_assert_int_eq(get("/v1/tenants/default/vms/jump"), 200);
    ck_assert_ptr_nonnull(strstr(reply.body, "\"power\":\"off\""));
}
END_TEST

static uint64_t epoch_of(const char *vm)
{
    char path[96];
    snprintf(path, sizeof(path), "/v1/tenants/default/vms/%s", vm);
    ck_assert_int_eq(get(path), 200);
    return json_member_u64(json_object_get(reply.document, "status"), "epoch", 0);
}

/* By then the VM is in another run: the command would be another one. */
START_TEST(a_retry_of_a_restart_restarts_nothing_and_is_answered_the_same)
{
    served_vms(served, "vm", 1);
    while (epoch_of("vm-00000") != 1) { /* the played agent starts it */
    }
    ck_assert_int_eq(
        ask("POST", "/v1/tenants/default/vms/vm-00000:restart", KEY("k1"), NULL), 200);
    uint64_t revision = json_member_u64(reply.document, "revision", 0);
    while (epoch_of("vm-00000") != 2) {
    }
    ck_assert_int_eq(
        ask("POST", "/v1/tenants/default/vms/vm-00000:restart", KEY("k1"), NULL), 200);
    ck_assert_uint_eq(json_member_u64(reply.document, "revision", 0), revision);
}
END_TEST

/* The leader may have gone before it made the first. */
START_TEST(a_join_token_that_is_asked_for_again_is_another)
{
    ck_assert_int_eq(ask("POST", "/v1/join-tokens", KEY("k1"), "{}"), 201);
    ck_assert_int_eq(ask("POST", "/v1/join-tokens", KEY("k1"), "{}"), 201);
}
END_TEST

START_TEST(a_token_that_was_made_and_deleted_is_not_made_by_a_retry)
{
    ck_assert_int_eq(ask("POST", "/v1/tokens", KEY("k1"), "{\"name\":\"ci\"}"), 201);
    ck_assert_int_eq(ask("DELETE", "/v1/tokens/ci", "", NULL), 200);
    (void)ask("POST", "/v1/tokens", KEY("k1"), "{\"name\":\"ci\"}");
    assert_problem(409, "BERTH_EEXISTS");
    ck_assert_int_eq(get("/v1/tokens/ci"), 404);
}
END_TEST

START_TEST(a_secret_is_shown_once_also_to_a_retry)
{
    ck_assert_int_eq(ask("POST", "/v1/tokens", KEY("k1"), "{\"name\":\"ci\"}"), 201);
    ck_assert_str_ne(said("token"), "");
    (void)ask("POST", "/v1/tokens", KEY("k1"), "{\"name\":\"ci\"}");

    assert_problem(409, "BERTH_EEXISTS");
    ck_assert_contains(said("detail"), "shown once");
}
END_TEST

/* Nobody is told to delete somebody else's. */
START_TEST(a_retry_is_told_of_a_token_that_another_request_made)
{
    ck_assert_int_eq(ask("POST", "/v1/tokens", KEY("k0"), "{\"name\":\"ci\"}"), 201);
    for (unsigned i = 0; i < 2; i++) {
        (void)ask("POST", "/v1/tokens", KEY("k1"), "{\"name\":\"ci\"}");
        assert_problem(409, "BERTH_EEXISTS");
        ck_assert_ptr_null(strstr(said("detail"), "under this Idempotency-Key"));
    }
}
END_TEST

/* ---- conditions ---- */

START_TEST(an_etag_is_a_condition_for_the_next_write)
{
    char old[128];
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "", SHOP("one")), 200);
    snprintf(old, sizeof(old), "If-Match: %s\r\n", header("ETag"));
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", old, SHOP("two")), 200);

    (void)ask("PUT", "/v1/tenants/shop", old, SHOP("three"));
    assert_problem(412, "BERTH_ECONFLICT");
    (void)ask("DELETE", "/v1/tenants/shop", old, NULL);
    assert_problem(412, "BERTH_ECONFLICT");
    ck_assert_str_eq(label(), "two");
    snprintf(old, sizeof(old), "If-Match: %s\r\n", header("ETag"));
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/shop", old, NULL), 200);
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
}
END_TEST

/* As when somebody else's write comes between this one and its answer. */
START_TEST(the_etag_of_a_write_is_its_own_and_not_that_of_a_later_one)
{
    char first[64];
    char old[128];
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one")), 200);
    snprintf(first, sizeof(first), "%s", header("ETag"));
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "", SHOP("two")), 200);

    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", KEY("k1"), SHOP("one")), 200);

    ck_assert_str_eq(header("ETag"), first);
    snprintf(old, sizeof(old), "\"%llu\"",
             (unsigned long long)json_member_u64(reply.document, "revision", 0));
    ck_assert_str_eq(old, first);
    snprintf(old, sizeof(old), "If-Match: %s\r\n", first);
    (void)ask("PUT", "/v1/tenants/shop", old, SHOP("three"));
    assert_problem(412, "BERTH_ECONFLICT");
    ck_assert_str_eq(label(), "two");
}
END_TEST

START_TEST(if_none_match_creates_only)
{
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "If-None-Match: *\r\n", SHOP("one")),
                     200);
    (void)ask("PUT", "/v1/tenants/shop", "If-None-Match: *\r\n", SHOP("two"));

    assert_problem(412, "BERTH_EEXISTS");
    ck_assert_str_eq(label(), "one");
}
END_TEST

static const char *const bad_conditions[] = {
    "If-Match: *\r\n",
    "If-Match: \"0\"\r\n",
    "If-Match: W/\"5\"\r\n",
    "If-Match: \"5\r\n",
    "If-Match: \"\"\r\n",
    "If-Match: \"18446744073709551615\"\r\n",
    "If-Match: \"18446744073709551616\"\r\n",
    "If-None-Match: \"5\"\r\n",
    "If-Match: \"1\", \"2\"\r\n",
};

static void a_condition_that_is_not_understood_is_not_ignored_row(size_t i)
{
    (void)ask("PUT", "/v1/tenants/shop", bad_conditions[i], SHOP("one"));
    assert_problem(422, "BERTH_EINVALID");
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
}

START_TEST(a_condition_that_is_not_understood_is_not_ignored)
{
    for (size_t i = 0; i < sizeof(bad_conditions) / sizeof(bad_conditions[0]); i++) {
        a_condition_that_is_not_understood_is_not_ignored_row(i);
    }
}
END_TEST

/* ---- lateness ---- */

static void hold_proposals(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->hold_proposals = true;
}

START_TEST(a_log_that_does_not_answer_is_answered_for_and_says_it_may_be_done)
{
    served_do(served, hold_proposals, NULL);
    (void)ask("PUT", "/v1/tenants/shop", "", SHOP("one"));

    assert_problem(504, "BERTH_ETIMEOUT");
    ck_assert_contains(said("detail"), "may still be done");
}
END_TEST

START_TEST(a_client_that_leaves_while_it_waits_takes_nothing_down)
{
    int fd = connect_local();
    ck_assert(say(
        fd, "PUT /v1/tenants/shop HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n" SHOP(
                "one")));
    (void)close(fd);
    ck_assert_int_eq(get("/healthz"), 200);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("api_call", &tests);
    tcase_add_test(tests, a_retry_is_answered_and_not_done_again);
    tcase_add_test(tests, a_retry_of_what_was_refused_is_refused_again);
    tcase_add_test(tests, a_condition_that_was_met_counts_for_the_retry_too);
    tcase_add_test(tests, a_key_is_good_for_one_request_only);
    tcase_add_test(tests, a_first_write_with_a_key_takes_one_round_of_the_log);
    tcase_add_test(tests, a_key_is_used_up_by_what_is_refused_before_the_log_too);
    tcase_add_test(tests, of_two_requests_with_one_key_at_once_the_second_is_not_done);
    tcase_add_test(tests,
                   a_key_whose_first_outcome_is_unknown_is_not_taken_for_a_new_one);
    tcase_add_test(tests, an_unknown_outcome_costs_other_keys_no_round_of_the_log);
    tcase_add_test(tests, a_key_is_used_up_without_the_log_also_with_an_outcome_unknown);
    tcase_add_test(tests, what_came_through_without_its_guard_is_not_told_as_done);
    tcase_add_test(
        tests, a_key_that_is_in_doubt_since_its_barrier_began_is_not_taken_for_a_new_one);
    tcase_add_test(tests,
                   what_a_host_asks_again_is_not_done_when_the_log_may_have_forgotten_it);
    tcase_add_test(tests,
                   what_a_host_asks_again_is_done_when_only_older_answers_were_forgotten);
    tcase_add_test(tests, keys_of_two_subjects_are_two_keys);
    tcase_add_test(tests, reading_needs_no_key_and_uses_none_up);
    tcase_add_test(tests, a_retry_of_an_apply_that_was_half_done_gets_the_same_answer);
    tcase_add_test(tests, a_retry_of_an_apply_that_was_done_changes_nothing_back);
    tcase_add_test(tests,
                   a_retry_of_an_apply_that_made_a_vm_does_not_undo_what_was_done_since);
    tcase_add_test(tests, a_retry_of_a_restart_restarts_nothing_and_is_answered_the_same);
    tcase_add_test(tests, a_join_token_that_is_asked_for_again_is_another);
    tcase_add_test(tests, a_token_that_was_made_and_deleted_is_not_made_by_a_retry);
    tcase_add_test(tests, a_secret_is_shown_once_also_to_a_retry);
    tcase_add_test(tests, a_retry_is_told_of_a_token_that_another_request_made);
    tcase_add_test(tests, an_etag_is_a_condition_for_the_next_write);
    tcase_add_test(tests, the_etag_of_a_write_is_its_own_and_not_that_of_a_later_one);
    tcase_add_test(tests, if_none_match_creates_only);
    tcase_add_test(tests, a_condition_that_is_not_understood_is_not_ignored);
    tcase_add_test(tests,
                   a_log_that_does_not_answer_is_answered_for_and_says_it_may_be_done);
    tcase_add_test(tests, a_client_that_leaves_while_it_waits_takes_nothing_down);
    return test_main_run(suite);
}
