/* Goal: every row of the table is reached by the path it describes, and by no other. */
#include "api/routes.h"
#include "base/cleanup.h"
#include "support/test_main.h"

#include <string.h>

#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define T   "/v1/tenants/shop"

/* In the order of the table. */
static const struct reach {
    const char *method;
    const char *path;
    enum kind kind;
    const char *tenant;
    const char *name;
} reaches[] = {
    {"GET", "/healthz", KIND_NONE, "", ""},
    {"GET", "/metrics", KIND_NONE, "", ""},
    {"GET", "/v1/version", KIND_NONE, "", ""},
    {"GET", "/v1/level", KIND_NONE, "", ""},
    {"GET", "/v1/self", KIND_NONE, "", ""},
    {"GET", "/v1/blobs/" SHA, KIND_NONE, "", ""},
    {"POST", "/v1/blobs", KIND_NONE, "", ""},
    {"POST", "/v1/apply", KIND_NONE, "", ""},
    {"GET", "/v1/events", KIND_NONE, "", ""},
    {"GET", "/v1/watch", KIND_NONE, "", ""},
    {"POST", "/v1/join-tokens", KIND_TOKEN, "", ""},
    {"POST", "/v1/tokens", KIND_TOKEN, "", ""},
    {"POST", "/v1/backups", KIND_NONE, "", ""},
    {"GET", "/v1/backups/0123", KIND_NONE, "", "0123"},
    {"DELETE", "/v1/backups/0123", KIND_NONE, "", "0123"},
    {"POST", "/v1/hosts/h1:drain", KIND_HOST, "", "h1"},
    {"POST", "/v1/hosts/h1:undrain", KIND_HOST, "", "h1"},
    {"POST", "/v1/hosts/h1:label", KIND_HOST, "", "h1"},
    {"POST", T "/groups/web:scale", KIND_GROUP, "shop", "web"},
    {"POST", T "/vms/web-1:start", KIND_VM, "shop", "web-1"},
    {"POST", T "/vms/web-1:stop", KIND_VM, "shop", "web-1"},
    {"POST", T "/vms/web-1:restart", KIND_VM, "shop", "web-1"},
    {"POST", T "/vms/web-1:pause", KIND_VM, "shop", "web-1"},
    {"POST", T "/vms/web-1:resume", KIND_VM, "shop", "web-1"},
    {"POST", T "/vms/web-1:snapshot", KIND_VM, "shop", "web-1"},
    {"POST", T "/vms/web-1:restore", KIND_VM, "shop", "web-1"},
    {"GET", T "/groups/web/explain", KIND_GROUP, "shop", "web"},
    {"GET", T "/vms/web-1/explain", KIND_VM, "shop", "web-1"},
    {"GET", T "/vms/web-1/console", KIND_VM, "shop", "web-1"},
    {"GET", T "/vms/web-1", KIND_VM, "shop", "web-1"},
    {"PUT", T "/groups/web", KIND_GROUP, "shop", "web"},
    {"DELETE", T "/networks/lan", KIND_NETWORK, "shop", "lan"},
    {"GET", T "/vms", KIND_VM, "shop", ""},
    {"GET", "/v1/tenants/shop", KIND_TENANT, "", "shop"},
    {"PUT", "/v1/hosts/h1", KIND_HOST, "", "h1"},
    {"DELETE", "/v1/tokens/ci", KIND_TOKEN, "", "ci"},
    {"GET", "/v1/vms", KIND_VM, "", ""},
};

static const struct route *route;
static struct route_target target;
static char allow[ROUTE_ALLOW_SIZE];

static int match(const char *method, const char *path)
{
    route = NULL;
    return routes_match(method, path, &route, &target, allow);
}

START_TEST(every_row_is_reached_by_its_path)
{
    unsigned count = 0;
    const struct route *table = routes_table(&count);
    const struct reach *reach = &reaches[_i];

    ck_assert_uint_eq(count, ARRAY_COUNT(reaches));
    ck_assert_int_eq(match(reach->method, reach->path), 0);
    ck_assert_str_eq(route->pattern, table[_i].pattern);
    ck_assert_ptr_eq(route, &table[_i]);
    ck_assert_int_eq(target.kind, reach->kind);
    ck_assert_str_eq(target.tenant, reach->tenant);
    ck_assert_str_eq(target.name, reach->name);
    ck_assert(route->handler != NULL);
}
END_TEST

START_TEST(head_is_served_where_get_is_except_for_streams)
{
    int got = match("HEAD", reaches[_i].path);
    int served = match("GET", reaches[_i].path);
    int wanted = served == 0 && route->stream ? BERTH_EUNSUPPORTED : served;

    ck_assert_int_eq(got, wanted);
}
END_TEST

START_TEST(a_digest_in_the_path_is_read)
{
    ck_assert_int_eq(match("GET", "/v1/blobs/" SHA), 0);
    ck_assert_uint_eq(target.sha256.bytes[0], 0x01);
    ck_assert_uint_eq(target.sha256.bytes[DIGEST_SIZE - 1], 0xef);
}
END_TEST

#define LONG \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const char *const unknown[] = {
    "",
    "/",
    "healthz",
    "/healthz/",
    "//healthz",
    "/v2/version",
    "/v1/ships",
    "/v1/vm",              /* not the plural */
    "/v1/hosts/",          /* no name */
    "/v1/vms/web-1",       /* a tenant's kind without its tenant */
    T "/hosts/h1",         /* a cluster's kind in a tenant */
    T "/vms/web-1/disks",  /* nothing below */
    T "/vms/web-1/",       /* no such place */
    "/v1/tenants//vms/a",  /* no tenant */
    "/v1/hosts/h1:fly",    /* no such action */
    "/v1/hosts/:drain",    /* nobody drains */
    "/v1/tenants/a:drain", /* not theirs */
    T "/vms/web-1:scale",  /* an action of groups */
    T "/groups/web:start", /* an action of VMs */
    "/v1/blobs/0123",      /* not a digest */
    "/v1/hosts/" LONG,
    "/v1/hosts/" LONG LONG,
};

START_TEST(other_paths_are_not_found_with_any_method)
{
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE"};

    for (size_t i = 0; i < ARRAY_COUNT(methods); i++) {
        ck_assert_msg(match(methods[i], unknown[_i]) == BERTH_ENOTFOUND, "%s %s",
                      methods[i], unknown[_i]);
        ck_assert_str_eq(allow, "");
    }
}
END_TEST

static const struct refusal {
    const char *method;
    const char *path;
    const char *allow;
} refusals[] = {
    {"POST", "/healthz", "GET"},
    {"GET", "/v1/apply", "POST"},
    {"GET", "/v1/hosts/h1:drain", "POST"},
    {"HEAD", "/v1/watch", "GET"},
    {"DELETE", "/v1/tokens", "POST, GET"},
    {"POST", "/v1/hosts/h1", "GET, PUT, DELETE"},
    {"PATCH", T "/vms/web-1", "GET, PUT, DELETE"},
    {"PUT", T "/vms", "GET"},
    {"get", "/v1/vms", "GET"},
};

START_TEST(another_method_is_refused_with_those_allowed)
{
    ck_assert_int_eq(match(refusals[_i].method, refusals[_i].path), BERTH_EUNSUPPORTED);
    ck_assert_str_eq(allow, refusals[_i].allow);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("routes");
    TCase *tests = tcase_create("routes");
    tcase_add_loop_test(tests, every_row_is_reached_by_its_path, 0, ARRAY_COUNT(reaches));
    tcase_add_loop_test(tests, head_is_served_where_get_is_except_for_streams, 0,
                        ARRAY_COUNT(reaches));
    tcase_add_test(tests, a_digest_in_the_path_is_read);
    tcase_add_loop_test(tests, other_paths_are_not_found_with_any_method, 0,
                        ARRAY_COUNT(unknown));
    tcase_add_loop_test(tests, another_method_is_refused_with_those_allowed, 0,
                        ARRAY_COUNT(refusals));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
