/* Goal: actions do what they say to one object, questions are answered, and tokens made
 * here open doors. */
#include "base/cleanup.h"
#include "http_fixture.h"

#define OBJECTS                                                                        \
    "{\"objects\":["                                                                   \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"Group\",\"metadata\":{\"name\":\"web\"}," \
    "\"spec\":{\"template\":{\"name\":\"plain\"},\"replicas\":1}},"                    \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"VM\",\"metadata\":{\"name\":\"jump\"},"   \
    "\"spec\":{\"template\":{\"name\":\"plain\"}}}]}"
#define D "/v1/tenants/default"

static void actions_start(void)
{
    fixture_start();
    ck_assert_int_eq(ask("POST", "/v1/apply", "", OBJECTS), 200);
}

static int post(const char *path, const char *body)
{
    return ask("POST", path, "", body);
}

START_TEST(scaling_sets_what_is_wanted_and_says_by_whom)
{
    ck_assert_int_eq(post(D "/groups/web:scale", "{\"replicas\":3}"), 200);
    ck_assert_uint_gt(json_member_u64(reply.document, "revision", 0), 0);
    await(D "/groups/web", "\"ready\":3");
    ck_assert_contains(reply.body, "scaled by root");
    ck_assert_contains(reply.body, "\"replicas\":3");
}
END_TEST

static const char *const bad_scales[] = {
    "",
    "{}",
    "{\"replicas\":-1}",
    "{\"replicas\":\"3\"}",
    "{\"replicas\":2.5}",
    "{\"replicas\":10001}",
    "{\"replicas\":18446744073709551617}",
    "[3]",
};

static void a_scale_that_is_no_number_is_refused_row(size_t i)
{
    (void)post(D "/groups/web:scale", bad_scales[i]);
    ck_assert_msg(reply.status == 422 || reply.status == 400, "%d %s", reply.status,
                  reply.body);
    ck_assert_int_eq(get(D "/groups/web"), 200);
    ck_assert_contains(reply.body, "\"desired\":1");
}

START_TEST(a_scale_that_is_no_number_is_refused)
{
    for (size_t i = 0; i < sizeof(bad_scales) / sizeof(bad_scales[0]); i++) {
        a_scale_that_is_no_number_is_refused_row(i);
    }
}
END_TEST

START_TEST(power_actions_move_a_vm)
{
    await(D "/vms/jump", "\"phase\":\"ready\"");
    ck_assert_int_eq(post(D "/vms/jump:stop", NULL), 200);
    await(D "/vms/jump", "\"phase\":\"stopped\"");
    ck_assert_int_eq(post(D "/vms/jump:start", NULL), 200);
    await(D "/vms/jump", "\"phase\":\"ready\"");
    const json_t *status = json_object_get(reply.document, "status");
    uint64_t epoch = json_member_u64(status, "epoch", 0);
    ck_assert_int_eq(post(D "/vms/jump:restart", NULL), 200);
    do {
        await(D "/vms/jump", "\"phase\":\"ready\"");
        status = json_object_get(reply.document, "status");
    } while (json_member_u64(status, "epoch", 0) <= epoch);
    ck_assert_int_eq(get("/v1/events?name=jump"), 200);
    ck_assert_contains(reply.body, "restarted by root");
}
END_TEST

START_TEST(a_paused_vm_stands_still_until_it_goes_on)
{
    await(D "/vms/jump", "\"phase\":\"ready\"");
    ck_assert_int_eq(post(D "/vms/jump:pause", NULL), 200);
    do {
        await(D "/vms/jump", "\"phase\":\"running\"");
    } while (!json_is_true(
        json_object_get(json_object_get(reply.document, "status"), "paused")));
    ck_assert(
        json_is_true(json_object_get(json_object_get(reply.document, "spec"), "paused")));
    ck_assert_contains(reply.body, "\"reason\":\"paused by its user\"");
    ck_assert_int_eq(post(D "/vms/jump:pause", NULL), 200); /* as it is */

    ck_assert_int_eq(post(D "/vms/jump:resume", NULL), 200);
    await(D "/vms/jump", "\"phase\":\"ready\"");
    ck_assert_ptr_null(strstr(reply.body, "paused"));

    ck_assert_int_eq(post(D "/vms/jump:stop", NULL), 200);
    await(D "/vms/jump", "\"phase\":\"stopped\"");
    ck_assert_int_eq(post(D "/vms/jump:pause", NULL), 409);
    assert_problem(409, "BERTH_EPHASE");
    ck_assert_contains(said("detail"), "vm jump is stopped: it cannot be paused");
    ck_assert_int_eq(post(D "/vms/none:pause", NULL), 404);
}
END_TEST

START_TEST(a_stopped_vm_shows_who_keeps_its_disks_until_they_are_given_up)
{
    await(D "/vms/jump", "\"phase\":\"ready\"");
    ck_assert_int_eq(post(D "/vms/jump:stop", NULL), 200);
    await(D "/vms/jump", "\"phase\":\"stopped\"");
    ck_assert_contains(reply.body, "\"diskHost\":\"h");
    ck_assert_int_eq(post(D "/vms/jump:start", "{\"anywhere\":\"yes\"}"), 422);
    ck_assert_int_eq(post(D "/vms/jump:start", "{\"anywhere\":true}"), 200);
    await(D "/vms/jump", "\"phase\":\"ready\"");
    ck_assert_ptr_null(strstr(reply.body, "diskHost\""));
    ck_assert_ptr_null(strstr(reply.body, "diskEpoch"));
}
END_TEST

/* As when db was placed at its snapshot and has not begun there: told by nothing but the
 * words, so its record is made to say so. */
static void keep_elsewhere(struct served *server, void *context)
{
    const struct state *state = served_state(server);
    const struct vm *vm = state_get(state, KIND_VM, DEFAULT_TENANT, "db");
    const struct host *host;
    size_t cursor = 0;
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL &&
           host->meta.uid == vm->status.host) {
    }
    ck_assert_ptr_nonnull(host);
    ((struct vm *)(uintptr_t)vm)->status.disk_host = host->meta.uid;
    (void)snprintf(context, NAME_SIZE, "%s", host->meta.name);
}

START_TEST(of_a_lost_vm_no_disks_are_given_up_and_it_is_told_what_to_do)
{
    static const char *const actions[] = {"start", "restart"};
    char host[8];
    ck_assert_int_eq(
        post("/v1/apply",
             "{\"objects\":[{\"apiVersion\":\"berth/v1\",\"kind\":\"Template\","
             "\"metadata\":{\"name\":\"pet\"},\"spec\":{\"image\":\"linux\",\"memory\":{"
             "\"size\":\"64MiB\"},\"lifecycle\":{\"hostFailure\":\"wait\"}}},{"
             "\"apiVersion\":\"berth/v1\",\"kind\":\"VM\",\"metadata\":{\"name\":\"db\"},"
             "\"spec\":{\"template\":{\"name\":\"pet\"}}}]}"),
        200);
    await(D "/vms/db", "\"phase\":\"ready\"");
    (void)snprintf(
        host, sizeof(host), "%s",
        json_member_text(json_object_get(reply.document, "status"), "host", ""));
    served_do(served, lose_host, host);
    await(D "/vms/db", "\"phase\":\"lost\"");
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        char path[64];
        char way[64];
        (void)snprintf(path, sizeof(path), D "/vms/db:%s", actions[i]);
        (void)snprintf(way, sizeof(way), "(berth rm host/%s)", host);
        (void)post(path, "{\"anywhere\":true}");
        assert_problem(409, "BERTH_EPHASE");
        ck_assert_contains(said("detail"), "vm db may still run on lost host");
        ck_assert_contains(said("detail"), way);
        ck_assert_contains(said("detail"), "the VM then starts elsewhere");
    }
    ck_assert_int_eq(post(D "/vms/db:start", NULL), 200); /* it is on */
    ck_assert_int_eq(post(D "/vms/db:stop", NULL), 200);
    (void)post(D "/vms/db:start", "{\"anywhere\":true}");
    assert_problem(409, "BERTH_EPHASE");
    ck_assert_contains(said("detail"), "stays so, and berth start db then starts it");
    ck_assert_int_eq(post(D "/vms/db:start", NULL), 200);
    ck_assert_int_eq(get(D "/vms/db/explain"), 200);
    ck_assert_contains(said("summary"), "it may still run there: bring h");

    char path[64];
    (void)snprintf(path, sizeof(path), "/v1/hosts/%s", host);
    (void)ask("DELETE", path, "", NULL);
    assert_problem(409, "BERTH_EPHASE");
    ck_assert_contains(said("detail"), "1 VM may still run on lost host");
    ck_assert_contains(said("detail"), "vm db of tenant default");
    ck_assert_contains(said("detail"), "surelyOff=true");
    (void)snprintf(path, sizeof(path), "/v1/hosts/%s?force=true", host);
    (void)ask("DELETE", path, "", NULL);
    assert_problem(409, "BERTH_EPHASE");
    (void)post(D "/vms/db:start", "{\"surelyOff\":1}");
    assert_problem(422, "BERTH_EINVALID");

    char keeper[NAME_SIZE];
    char way[NAME_SIZE + 64];
    served_do(served, keep_elsewhere, keeper);
    (void)snprintf(way, sizeof(way), "the VM then starts on %s with the disks", keeper);
    (void)post(D "/vms/db:start", "{\"anywhere\":true}");
    assert_problem(409, "BERTH_EPHASE");
    ck_assert_contains(said("detail"), way);
}
END_TEST

START_TEST(a_host_that_keeps_disks_is_deleted_by_force_only)
{
    await(D "/vms/jump", "\"phase\":\"ready\"");
    char host[64];
    (void)snprintf(
        host, sizeof(host), "/v1/hosts/%s",
        json_member_text(json_object_get(reply.document, "status"), "host", ""));
    ck_assert_int_eq(post(D "/vms/jump:stop", NULL), 200);
    await(D "/vms/jump", "\"phase\":\"stopped\"");
    char drain[80];
    (void)snprintf(drain, sizeof(drain), "%s:drain", host);
    ck_assert_int_eq(post(drain, NULL), 200);
    ck_assert_int_eq(ask("DELETE", host, "", NULL), 409);
    ck_assert_contains(reply.body, "keeps the disks of 1 VM");
    ck_assert_int_eq(ask("DELETE", D "/vms/jump?force=true", "", NULL), 422);
}
END_TEST

START_TEST(draining_is_told_with_its_reason_and_taken_back)
{
    await(D "/vms/jump", "\"phase\":\"ready\"");
    ck_assert_int_eq(post("/v1/hosts/h1:drain", "{\"reason\":\"PSU swap\"}"), 200);
    ck_assert_int_eq(get("/v1/hosts/h1"), 200);
    ck_assert_contains(reply.body, "\"drain\":true");
    ck_assert_contains(reply.body, "PSU swap");
    ck_assert_int_eq(post("/v1/hosts/h1:undrain", NULL), 200);
    ck_assert_int_eq(get("/v1/hosts/h1"), 200);
    ck_assert_ptr_null(strstr(reply.body, "\"drain\":true"));

    char body[600] = "{\"reason\":\"";
    memset(body + 11, 'x', 256);
    snprintf(body + 11 + 256, sizeof(body) - 11 - 256, "\"}");
    (void)post("/v1/hosts/h1:drain", body);
    assert_problem(422, "BERTH_EINVALID");
}
END_TEST

START_TEST(labels_of_a_host_are_set_and_taken_away)
{
    ck_assert_int_eq(
        post("/v1/hosts/h1:label", "{\"labels\":{\"rack\":\"r1\",\"zone\":\"a\"}}"), 200);
    ck_assert_int_eq(
        post("/v1/hosts/h1:label", "{\"labels\":{\"rack\":null,\"gen\":\"4\"}}"), 200);
    ck_assert_int_eq(get("/v1/hosts/h1"), 200);
    ck_assert_contains(reply.body, "\"labels\":{\"zone\":\"a\",\"gen\":\"4\"}");
    ck_assert_int_eq(get("/v1/hosts?label=gen=4"), 200);
    ck_assert_contains(reply.body, "\"h1\"");
    ck_assert_int_eq(get("/v1/events?name=h1"), 200);
    ck_assert_contains(reply.body, "labelled");
}
END_TEST

START_TEST(labels_of_a_host_that_has_changed_since_it_was_seen_stay)
{
    char seen[64];
    ck_assert_int_eq(get("/v1/hosts/h1"), 200);
    snprintf(seen, sizeof(seen), "If-Match: %s\r\n", header("ETag"));
    ck_assert_int_eq(
        ask("POST", "/v1/hosts/h1:label", seen, "{\"labels\":{\"rack\":\"r1\"}}"), 200);
    (void)ask("POST", "/v1/hosts/h1:label", seen, "{\"labels\":{\"rack\":\"r2\"}}");
    assert_problem(412, "BERTH_ECONFLICT");
    (void)ask("POST", "/v1/hosts/h1:label", "If-Match: soon\r\n",
              "{\"labels\":{\"rack\":\"r2\"}}");
    assert_problem(422, "BERTH_EINVALID");
    ck_assert_int_eq(get("/v1/hosts/h1"), 200);
    ck_assert_contains(reply.body, "\"rack\":\"r1\"");
}
END_TEST

static const char *const without_revision[] = {
    "/v1/hosts/h1:drain",
    "/v1/hosts/h1:undrain",
    "/v1/tenants/shop/vms/jump:start",
    "/v1/tenants/shop/vms/jump:stop",
    "/v1/tenants/shop/vms/jump:restart",
    "/v1/tenants/shop/vms/jump:pause",
    "/v1/tenants/shop/vms/jump:resume",
    "/v1/tenants/shop/vms/jump:snapshot",
    "/v1/tenants/shop/vms/jump:restore",
    "/v1/tenants/shop/groups/web:scale",
};

START_TEST(a_condition_that_cannot_be_kept_is_not_passed_over)
{
    for (size_t i = 0; i < ARRAY_COUNT(without_revision); i++) {
        (void)ask("POST", without_revision[i], "If-Match: \"1\"\r\n", "{\"replicas\":1}");
        assert_problem(422, "BERTH_EINVALID");
        ck_assert_contains(reply.body, "this action goes by no revision");
        (void)ask("POST", without_revision[i], "If-None-Match: *\r\n",
                  "{\"replicas\":1}");
        assert_problem(422, "BERTH_EINVALID");
    }
}
END_TEST

START_TEST(labels_of_a_host_need_their_level)
{
    fixture_stop();
    fixture_start_with(&(struct served_config){.level = LEVEL_HOST_LABELS - 1});
    (void)post("/v1/hosts/h1:label", "{\"labels\":{\"rack\":\"r1\"}}");
    assert_problem(409, "BERTH_ELEVEL");
    ck_assert_int_eq(get("/v1/hosts/h1"), 200);
    ck_assert_ptr_null(strstr(reply.body, "\"rack\""));
}
END_TEST

START_TEST(labels_of_a_host_that_make_no_sense_are_refused)
{
    static const char *const bodies[] = {"{}",
                                         "{\"labels\":{}}",
                                         "{\"labels\":[\"a=b\"]}",
                                         "{\"labels\":{\"a\":1}}",
                                         "{\"labels\":{\"a-\":\"b\"}}",
                                         "{\"labels\":{\"\":\"b\"}}"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        (void)post("/v1/hosts/h1:label", bodies[i]);
        assert_problem(422, "BERTH_EINVALID");
    }
    char body[256] = "{\"labels\":{\"";
    memset(body + strlen(body), 'k', 64);
    strcat(body, "\":null}}");
    (void)post("/v1/hosts/h1:label", body);
    assert_problem(422, "BERTH_EINVALID");
}
END_TEST

static const char *const absent[] = {
    D "/groups/none:scale", D "/vms/none:start",    D "/vms/none:stop",
    D "/vms/none:restart",  "/v1/hosts/none:drain", "/v1/hosts/none:undrain",
    "/v1/hosts/none:label",
};

static void an_action_on_what_is_not_there_names_it_row(size_t i)
{
    (void)post(absent[i], "{\"replicas\":1}");
    assert_problem(404, "BERTH_ENOTFOUND");
    ck_assert_contains(said("detail"), " none ");
    ck_assert_contains(said("detail"), "does not exist");
}

START_TEST(an_action_on_what_is_not_there_names_it)
{
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        an_action_on_what_is_not_there_names_it_row(i);
    }
}
END_TEST

START_TEST(explanations_have_a_verdict_per_host)
{
    await(D "/vms/jump", "\"phase\":\"ready\"");
    ck_assert_int_eq(get(D "/vms/jump/explain"), 200);
    ck_assert_uint_eq(json_array_size(json_object_get(reply.document, "hosts")), 3);
    ck_assert_contains(reply.body, "\"here\"");
    ck_assert_str_ne(said("summary"), "");
    ck_assert_int_eq(get(D "/groups/web/explain"), 200);
    ck_assert_str_eq(said("subject"), "group/web");
    ck_assert_int_eq(get(D "/groups/none/explain"), 404);
}
END_TEST

START_TEST(a_token_that_was_made_opens_what_its_role_allows)
{
    char headers[256];
    ck_assert_int_eq(post("/v1/tokens",
                          "{\"name\":\"ci\",\"role\":\"operator\",\"tenant\":\"default\","
                          "\"ttl\":\"1h\"}"),
                     201);
    ck_assert_contains(said("token"), "berth-");
    snprintf(headers, sizeof(headers), "Authorization: Bearer %s\r\n", said("token"));
    ck_assert_int_eq(ask("GET", "/v1/self", headers, NULL), 200);
    ck_assert_str_eq(said("subject"), "token:ci");
    ck_assert_str_eq(said("tenantRole"), "operator");
    ck_assert_int_eq(ask("POST", D "/vms/jump:stop", headers, NULL), 200);
    ck_assert_int_eq(ask("POST", "/v1/hosts/h1:drain", headers, NULL), 403);
    ck_assert_int_eq(get("/v1/tokens/ci"), 200);
    ck_assert_contains(reply.body, "\"expires\"");

    (void)post("/v1/tokens", "{\"name\":\"ci\"}");
    assert_problem(409, "BERTH_EEXISTS"); /* nobody's token is replaced */
    ck_assert_int_eq(ask("DELETE", "/v1/tokens/ci", "", NULL), 200);
    ck_assert_int_eq(ask("GET", "/v1/self", headers, NULL), 401);
}
END_TEST

static const struct bad_token {
    const char *path;
    const char *body;
    const char *detail;
} bad_tokens[] = {
    {"/v1/tokens", "", "name"},
    {"/v1/tokens", "{}", "name"},
    {"/v1/tokens", "{\"name\":\"CI\"}", "name"},
    {"/v1/tokens", "{\"name\":7}", "name"},
    {"/v1/tokens", "{\"name\":\"ci\",\"role\":\"join\"}", "role"},
    {"/v1/tokens", "{\"name\":\"ci\",\"role\":\"root\"}", "role"},
    {"/v1/tokens", "{\"name\":\"ci\",\"tenant\":\"../x\"}", "name"},
    {"/v1/tokens", "{\"name\":\"ci\",\"ttl\":\"7\"}", "unit"},
    {"/v1/join-tokens", "{\"ttl\":\"25h\"}", "24h"},
    {"/v1/join-tokens", "{\"ttl\":\"0s\"}", "ttl"},
    {"/v1/join-tokens", "{\"ttl\":\"soon\"}", ""},
};

static void a_token_that_makes_no_sense_is_refused_row(size_t i)
{
    (void)post(bad_tokens[i].path, bad_tokens[i].body);
    assert_problem(422, "BERTH_EINVALID");
    ck_assert_contains(said("detail"), bad_tokens[i].detail);
}

START_TEST(a_token_that_makes_no_sense_is_refused)
{
    for (size_t i = 0; i < sizeof(bad_tokens) / sizeof(bad_tokens[0]); i++) {
        a_token_that_makes_no_sense_is_refused_row(i);
    }
}
END_TEST

START_TEST(a_join_token_is_made_with_or_without_a_body)
{
    ck_assert_int_eq(post("/v1/join-tokens", NULL), 201);
    ck_assert_contains(said("token"), "berth-join-");
    ck_assert_int_eq(post("/v1/join-tokens", "{\"ttl\":\"24h\"}"), 201);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api_actions");
    TCase *tests = tcase_create("api_actions");
    tcase_add_checked_fixture(tests, actions_start, fixture_stop);
    tcase_add_test(tests, scaling_sets_what_is_wanted_and_says_by_whom);
    tcase_add_test(tests, a_scale_that_is_no_number_is_refused);
    tcase_add_test(tests, power_actions_move_a_vm);
    tcase_add_test(tests, a_paused_vm_stands_still_until_it_goes_on);
    tcase_add_test(tests, a_stopped_vm_shows_who_keeps_its_disks_until_they_are_given_up);
    tcase_add_test(tests, of_a_lost_vm_no_disks_are_given_up_and_it_is_told_what_to_do);
    tcase_add_test(tests, a_host_that_keeps_disks_is_deleted_by_force_only);
    tcase_add_test(tests, draining_is_told_with_its_reason_and_taken_back);
    tcase_add_test(tests, labels_of_a_host_are_set_and_taken_away);
    tcase_add_test(tests, labels_of_a_host_that_has_changed_since_it_was_seen_stay);
    tcase_add_test(tests, a_condition_that_cannot_be_kept_is_not_passed_over);
    tcase_add_test(tests, labels_of_a_host_need_their_level);
    tcase_add_test(tests, labels_of_a_host_that_make_no_sense_are_refused);
    tcase_add_test(tests, an_action_on_what_is_not_there_names_it);
    tcase_add_test(tests, explanations_have_a_verdict_per_host);
    tcase_add_test(tests, a_token_that_was_made_opens_what_its_role_allows);
    tcase_add_test(tests, a_token_that_makes_no_sense_is_refused);
    tcase_add_test(tests, a_join_token_is_made_with_or_without_a_body);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
