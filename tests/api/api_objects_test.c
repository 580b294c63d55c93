/* Goal: objects are listed whole and in order however small the pages, read, written and
 * deleted by their rules, and the events about them told. */
#include "http_fixture.h"

#define OBJECT(kind, tenant, name, rest)                                                \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"" kind "\",\"metadata\":{\"name\":\"" name \
    "\"" tenant "}" rest "}"
#define IN(tenant) ",\"tenant\":\"" tenant "\""
#define SMALL      ",\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":\"64MiB\"}}"

static void apply(const char *objects)
{
    char body[8192];
    snprintf(body, sizeof(body), "{\"objects\":[%s]}", objects);
    ck_assert_msg(ask("POST", "/v1/apply", "", body) == 200, "%s", reply.body);
}

/* "tenant/name " of each item. */
static void names_add(char *text, size_t size)
{
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(reply.document, "items"), index, item)
    {
        const json_t *meta = json_object_get(item, "metadata");
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s/%s ", json_member_text(meta, "tenant", ""),
                 json_member_text(meta, "name", ""));
    }
}

/* Tenants whose names begin alike, and labels. */
static void many_templates(void)
{
    apply(OBJECT("Tenant", "", "shop", "") "," OBJECT(
        "Tenant", "", "shop-2", "") "," OBJECT("Tenant", "", "a", ""));
    apply(
        OBJECT("Template", IN("shop") ",\"labels\":{\"app\":\"x\",\"tier\":\"1\"}", "zed", SMALL) "," OBJECT(
            "Template", IN("shop") ",\"labels\":{\"app\":\"x\"}", "alpha",
            SMALL) "," OBJECT("Template", IN("shop-2") ",\"labels\":{\"tier\":\"1\"}",
                              "alpha",
                              SMALL) "," OBJECT("Template", IN("shop-2"), "b",
                                                SMALL) "," OBJECT("Template", IN("a"),
                                                                  "b-1",
                                                                  SMALL) "," OBJECT("Temp"
                                                                                    "lat"
                                                                                    "e",
                                                                                    IN("a"),
                                                                                    "b",
                                                                                    SMALL));
}

START_TEST(pages_of_any_size_give_every_object_once_and_in_order)
{
    char whole[512] = "";
    many_templates();
    ck_assert_int_eq(get("/v1/templates"), 200);
    names_add(whole, sizeof(whole));
    ck_assert_str_eq(whole, "a/b a/b-1 default/plain shop/alpha shop/zed shop-2/alpha "
                            "shop-2/b ");
    for (unsigned limit = 1; limit <= 8; limit++) {
        char path[256];
        char seen[512] = "";
        char page[128] = "";
        unsigned pages = 0;
        do {
            snprintf(path, sizeof(path), "/v1/templates?limit=%u%s%s", limit,
                     page[0] != '\0' ? "&page=" : "", page);
            ck_assert_int_eq(get(path), 200);
            ck_assert_uint_le(item_count(), limit);
            names_add(seen, sizeof(seen));
            snprintf(page, sizeof(page), "%s", said("next"));
            pages++;
        } while (page[0] != '\0' && pages < 10);
        ck_assert_msg(strcmp(seen, whole) == 0, "limit %u: %s", limit, seen);
        ck_assert_uint_eq(pages, (7 + limit - 1) / limit);
    }
}
END_TEST

START_TEST(a_page_goes_on_where_its_last_object_has_gone)
{
    char seen[512] = "";
    many_templates();
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/shop/templates/alpha", "", NULL), 200);
    ck_assert_int_eq(get("/v1/templates?page=shop%2Falpha"), 200);
    names_add(seen, sizeof(seen));

    ck_assert_str_eq(seen, "shop/zed shop-2/alpha shop-2/b ");
}
END_TEST

START_TEST(objects_of_the_cluster_have_pages_too)
{
    ck_assert_int_eq(get("/v1/hosts?limit=2"), 200);
    ck_assert_uint_eq(item_count(), 2);
    ck_assert_str_eq(said("next"), "/h2");
    ck_assert_int_eq(get("/v1/hosts?limit=2&page=%2Fh2"), 200);
    ck_assert_uint_eq(item_count(), 1);
    ck_assert_str_eq(said("next"), "");
}
END_TEST

static const struct narrowed {
    const char *query;
    const char *names;
} narrowed[] = {
    {"?tenant=shop", "shop/alpha shop/zed "},
    {"?label=app%3Dx", "shop/alpha shop/zed "},
    {"?label=tier%3D1", "shop/zed shop-2/alpha "},
    {"?label=app%3Dx&label=tier%3D1", "shop/zed "}, /* all of them count */
    {"?label=tier%3D1&label=app%3Dx", "shop/zed "},
    {"?label=app%3D", ""},
    {"?label=app%3Dx&tenant=shop-2", ""},
    {"?label=app%3Dx&limit=1", "shop/alpha "},
    {"?group=web", ""}, /* templates belong to no group */
};

static void a_list_is_narrowed_by_what_is_asked_row(size_t i)
{
    char path[128];
    char seen[512] = "";
    many_templates();
    snprintf(path, sizeof(path), "/v1/templates%s", narrowed[i].query);
    ck_assert_int_eq(get(path), 200);
    names_add(seen, sizeof(seen));

    ck_assert_msg(strcmp(seen, narrowed[i].names) == 0, "%s: %s", path, seen);
}

START_TEST(a_list_is_narrowed_by_what_is_asked)
{
    for (size_t i = 0; i < sizeof(narrowed) / sizeof(narrowed[0]); i++) {
        a_list_is_narrowed_by_what_is_asked_row(i);
    }
}
END_TEST

static const char *const bad_lists[] = {
    "?limit=0",      "?limit=1001", "?limit=x",
    "?limit=-1",     "?label=app",  "?label=%3Dx",
    "?page=noslash", "?page=a/",    "?label=a%3Db&label=c",
    "?lable=a%3Db",
};

static void a_list_that_is_not_understood_is_refused_row(size_t i)
{
    char path[128];
    snprintf(path, sizeof(path), "/v1/templates%s", bad_lists[i]);
    (void)get(path);

    assert_problem(422, "BERTH_EINVALID");
}

START_TEST(a_list_that_is_not_understood_is_refused)
{
    for (size_t i = 0; i < sizeof(bad_lists) / sizeof(bad_lists[0]); i++) {
        a_list_that_is_not_understood_is_refused_row(i);
    }
}
END_TEST

START_TEST(an_object_is_shown_with_what_the_leader_knows)
{
    const json_t *status;
    apply(OBJECT("Group", "", "web",
                 ",\"spec\":{\"template\":{\"name\":\"plain\"},\"replicas\":2}"));
    do {
        ck_assert_int_eq(get("/v1/tenants/default/groups/web"), 200);
        status = json_object_get(reply.document, "status");
    } while (json_member_u64(status, "ready", 0) < 2);
    ck_assert_uint_eq(json_member_u64(status, "desired", 0), 2);
    ck_assert_uint_eq(json_member_u64(status, "vms", 0), 2);
    ck_assert_str_eq(header("Content-Type"), "application/json");

    ck_assert_int_eq(get("/v1/vms?group=web"), 200);
    ck_assert_uint_eq(item_count(), 2);
    status = json_object_get(json_array_get(json_object_get(reply.document, "items"), 0),
                             "status");
    ck_assert_str_eq(json_member_text(status, "phase", ""), "ready");
    ck_assert_int_eq(json_member_text(status, "host", "")[0], 'h');
    ck_assert_uint_eq(json_member_u64(json_object_get(status, "live"), "cpuPermille", 0),
                      20);

    ck_assert_int_eq(get("/v1/hosts/h1"), 200);
    status = json_object_get(reply.document, "status");
    ck_assert_str_eq(json_member_text(status, "phase", ""), "ready");
    ck_assert_str_eq(json_member_text(json_object_get(status, "live"), "cpuUsed", ""),
                     "500m");
    ck_assert_str_eq(json_member_text(json_object_get(status, "live"), "memoryUsed", ""),
                     "64MiB");
}
END_TEST

START_TEST(full_shows_what_is_at_its_default)
{
    ck_assert_int_eq(get("/v1/tenants/default/templates/plain"), 200);
    ck_assert_ptr_null(strstr(reply.body, "\"cpu\""));
    ck_assert_int_eq(get("/v1/tenants/default/templates/plain?full=true"), 200);
    ck_assert_ptr_nonnull(strstr(reply.body, "\"cpu\""));
}
END_TEST

START_TEST(a_secret_is_in_no_document)
{
    served_token(served, "ana", "ana-secret", ROLE_ADMIN, "", 0);
    static const char *const paths[] = {"/v1/tokens/ana", "/v1/tokens/ana?full=true",
                                        "/v1/tokens?full=true"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        ck_assert_int_eq(get(paths[i]), 200);
        ck_assert_ptr_nonnull(strstr(reply.body, "ana"));
        ck_assert_ptr_null(strstr(reply.body, "hash"));
    }
}
END_TEST

static const struct wrong_put {
    const char *path;
    const char *body;
    int status;
    const char *detail;
} wrong_puts[] = {
    {"/v1/tenants/shop", "", 422, "must hold the object"},
    {"/v1/tenants/shop", OBJECT("Tenant", "", "bank", ""), 422, "differ from the path"},
    {"/v1/tenants/shop", OBJECT("Host", "", "shop", ""), 422, "differ from the path"},
    {"/v1/tenants/default/templates/small",
     OBJECT("Template", IN("shop"), "small", SMALL), 422, "differ from the path"},
    {"/v1/tenants/shop", OBJECT("Tenant", "", "shop", ",\"spec\":{\"quotas\":1}"), 422,
     "quotas"},
    {"/v1/tenants/shop", OBJECT("Ship", "", "shop", ""), 422, "kind: expected one"},
    {"/v1/hosts/h1", OBJECT("Host", "", "h1", ""), 422, "not written by PUT"},
    {"/v1/tokens/ci", OBJECT("Token", "", "ci", ",\"spec\":{\"role\":\"admin\"}"), 422,
     "not written by PUT"},
    {"/v1/tenants/default/vms/jump",
     OBJECT("VM", "", "jump", ",\"spec\":{\"template\":{\"name\":\"plain\"}}"), 422,
     "not written by PUT"},
    {"/v1/tenants/default/disks/data",
     OBJECT("Disk", "", "data", ",\"spec\":{\"size\":\"1GiB\"}"), 422, "not supported"},
    {"/v1/tenants/default/groups/web",
     OBJECT("Group", "", "web", ",\"spec\":{\"template\":{\"name\":\"none\"}}"), 404,
     "none"},
    {"/v1/tenants/UPPER", OBJECT("Tenant", "", "UPPER", ""), 422, "name"},
};

static void a_put_that_does_not_fit_is_refused_with_what_is_wrong_row(size_t i)
{
    const struct wrong_put *row = &wrong_puts[i];
    (void)ask("PUT", row->path, "", row->body);

    ck_assert_msg(reply.status == row->status, "%s: %d %s", row->path, reply.status,
                  reply.body);
    ck_assert_contains(said("detail"), row->detail);
}

START_TEST(a_put_that_does_not_fit_is_refused_with_what_is_wrong)
{
    for (size_t i = 0; i < sizeof(wrong_puts) / sizeof(wrong_puts[0]); i++) {
        a_put_that_does_not_fit_is_refused_with_what_is_wrong_row(i);
    }
}
END_TEST

START_TEST(what_is_in_use_is_not_deleted_and_says_by_what)
{
    apply(OBJECT("Group", "", "web",
                 ",\"spec\":{\"template\":{\"name\":\"plain\"},\"replicas\":0}"));
    (void)ask("DELETE", "/v1/tenants/default/templates/plain", "", NULL);
    assert_problem(409, "BERTH_EINUSE");
    ck_assert_contains(said("detail"), "web");

    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/groups/web", "", NULL), 200);
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/templates/plain", "", NULL), 200);
    ck_assert_uint_gt(json_member_u64(reply.document, "revision", 0), 0);
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/templates/plain", "", NULL), 404);
}
END_TEST

START_TEST(events_are_told_in_order_narrowed_and_the_newest_ones)
{
    uint64_t since;
    many_templates();
    ck_assert_int_eq(get("/v1/events?kind=template"), 200);
    ck_assert_uint_eq(item_count(), 7);
    since = json_member_u64(reply.document, "revision", 0);
    apply(OBJECT("Template", IN("a"), "late", SMALL));

    char path[128];
    snprintf(path, sizeof(path), "/v1/events?since=%llu", (unsigned long long)since);
    ck_assert_int_eq(get(path), 200);
    ck_assert_uint_eq(item_count(), 1);
    json_t *last = json_array_get(json_object_get(reply.document, "items"), 0);
    ck_assert_str_eq(json_member_text(last, "name", ""), "late");
    ck_assert_str_eq(json_member_text(last, "verb", ""), "created");
    ck_assert_str_eq(json_member_text(last, "tenant", ""), "a");

    ck_assert_int_eq(get("/v1/events?kind=template&limit=2"), 200);
    ck_assert_uint_eq(item_count(), 2);
    last = json_array_get(json_object_get(reply.document, "items"), 1);
    ck_assert_str_eq(json_member_text(last, "name", ""), "late");
    ck_assert_int_eq(get("/v1/events?tenant=shop&kind=template"), 200);
    ck_assert_uint_eq(item_count(), 2);
    ck_assert_int_eq(get("/v1/events?name=alpha"), 200);
    ck_assert_uint_eq(item_count(), 2);
    ck_assert_int_eq(get("/v1/events?kind=ship"), 422);
    assert_problem(422, "BERTH_EINVALID");
    ck_assert_str_eq(said("detail"), "kind: \"ship\" is no kind");
    ck_assert_int_eq(get("/v1/events?tenant=shpo"), 404);
    ck_assert_str_eq(said("detail"), "tenant shpo does not exist");
}
END_TEST

START_TEST(events_of_others_are_not_told)
{
    many_templates();
    served_token(served, "ana", "ana", ROLE_VIEWER, "shop", 0);
    ck_assert_int_eq(ask("GET", "/v1/events", "Authorization: Bearer ana\r\n", NULL),
                     200);
    size_t index;
    json_t *item;
    ck_assert_uint_gt(item_count(), 0);
    json_array_foreach(json_object_get(reply.document, "items"), index, item)
    {
        const char *kind = json_member_text(item, "kind", "");
        bool own = strcmp(json_member_text(item, "tenant", ""), "shop") == 0 ||
                   (strcmp(kind, "Tenant") == 0 &&
                    strcmp(json_member_text(item, "name", ""), "shop") == 0) ||
                   strcmp(kind, "Image") == 0;
        ck_assert_msg(own, "%s %s", kind, json_member_text(item, "name", ""));
    }
    ck_assert_int_eq(
        ask("GET", "/v1/events?tenant=a", "Authorization: Bearer ana\r\n", NULL),
        404); /* as one that is not there */
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("api_objects", &tests);
    tcase_add_test(tests, pages_of_any_size_give_every_object_once_and_in_order);
    tcase_add_test(tests, a_page_goes_on_where_its_last_object_has_gone);
    tcase_add_test(tests, objects_of_the_cluster_have_pages_too);
    tcase_add_test(tests, a_list_is_narrowed_by_what_is_asked);
    tcase_add_test(tests, a_list_that_is_not_understood_is_refused);
    tcase_add_test(tests, an_object_is_shown_with_what_the_leader_knows);
    tcase_add_test(tests, full_shows_what_is_at_its_default);
    tcase_add_test(tests, a_secret_is_in_no_document);
    tcase_add_test(tests, a_put_that_does_not_fit_is_refused_with_what_is_wrong);
    tcase_add_test(tests, what_is_in_use_is_not_deleted_and_says_by_what);
    tcase_add_test(tests, events_are_told_in_order_narrowed_and_the_newest_ones);
    tcase_add_test(tests, events_of_others_are_not_told);
    return test_main_run(suite);
}
