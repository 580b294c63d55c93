/* Goal: a snapshot is made of the VM of the path and answered by its uid; a VM goes back
 * to one of its own by name, and to nothing else. */
#include "http_fixture.h"

#define OBJECTS                                                                     \
    "{\"objects\":[{\"apiVersion\":\"berth/v1\",\"kind\":\"VM\",\"metadata\":{"     \
    "\"name\":\"db\"},\"spec\":{\"template\":{\"name\":\"plain\"}}},{"              \
    "\"apiVersion\":\"berth/v1\",\"kind\":\"VM\",\"metadata\":{\"name\":\"other\"}" \
    ",\"spec\":{\"template\":{\"name\":\"plain\"}}}]}"
#define D "/v1/tenants/default"

static void snapshot_start(void)
{
    fixture_start();
    ck_assert_int_eq(ask("POST", "/v1/apply", "", OBJECTS), 200);
    await(D "/vms/db", "\"phase\":\"ready\"");
    await(D "/vms/other", "\"phase\":\"ready\"");
}

static int post(const char *path, const char *body)
{
    return ask("POST", path, "", body);
}

START_TEST(one_is_made_and_read)
{
    ck_assert_int_eq(post(D "/vms/db:snapshot", "{\"name\":\"before\"}"), 201);
    uint64_t uid = json_member_u64(reply.document, "uid", 0);
    ck_assert_contains(reply.body, "\"name\":\"before\"");
    await(D "/snapshots/before", "\"phase\":\"ready\"");
    ck_assert_uint_eq(
        json_member_u64(json_object_get(reply.document, "metadata"), "uid", 1), uid);
    ck_assert_contains(reply.body, "\"size\":\"5MiB\"");
    ck_assert_contains(reply.body, "\"host\":\"h");
    ck_assert_contains(reply.body, "\"vm\":\"db\"");
    ck_assert_int_eq(post(D "/vms/db:snapshot", NULL), 201);
    ck_assert_contains(reply.body, "\"name\":\"db-1\"");
    await(D "/snapshots/db-1", "\"phase\":\"ready\"");
    ck_assert_int_eq(get("/v1/tenants/default"), 200);
    ck_assert_contains(reply.body, "\"snapshots\":2");

    ck_assert_int_eq(post(D "/vms/db:snapshot", "{\"name\":\"before\"}"), 409);
    assert_problem(409, "BERTH_EEXISTS");
    ck_assert_int_eq(post(D "/vms/db:snapshot", "{\"name\":\"No\"}"), 422);
    ck_assert_int_eq(post(D "/vms/db:snapshot", "{\"name\":7}"), 422);
    ck_assert_int_eq(post(D "/vms/none:snapshot", NULL), 404);
}
END_TEST

START_TEST(it_is_written_by_nothing_else)
{
    ck_assert_int_eq(ask("PUT", D "/snapshots/mine", "",
                         "{\"apiVersion\":\"berth/v1\",\"kind\":\"Snapshot\","
                         "\"metadata\":{\"name\":\"mine\"},\"spec\":{\"vm\":\"db\"}}"),
                     422);
    ck_assert_int_eq(get(D "/snapshots/mine"), 404);
}
END_TEST

START_TEST(a_vm_goes_back_to_its_own)
{
    ck_assert_int_eq(post(D "/vms/db:snapshot", "{\"name\":\"before\"}"), 201);
    await(D "/snapshots/before", "\"phase\":\"ready\"");

    ck_assert_int_eq(post(D "/vms/other:restore", "{\"snapshot\":\"before\"}"), 404);
    ck_assert_contains(said("detail"), "vm other has no snapshot before");
    ck_assert_int_eq(post(D "/vms/db:restore", "{\"snapshot\":\"none\"}"), 404);
    ck_assert_int_eq(post(D "/vms/db:restore", "{}"), 422);
    ck_assert_int_eq(post(D "/vms/db:restore", "{\"snapshot\":\"before\",\"lazy\":1}"),
                     422);
    ck_assert_contains(said("detail"), "lazy: true or false");
    ck_assert_int_eq(post(D "/vms/db:restore", "{\"snapshot\":\"before\",\"lazy\":true}"),
                     200);
    await(D "/vms/db", "\"epoch\":2");
    await(D "/vms/db", "\"phase\":\"ready\"");
    ck_assert_ptr_null(strstr(reply.body, "restoreUid"));
    ck_assert_int_eq(get("/v1/events?name=db"), 200);
    ck_assert_contains(reply.body, "restored by root");

    ck_assert_int_eq(ask("DELETE", D "/snapshots/before", "", NULL), 200);
    for (;;) {
        if (get(D "/snapshots/before") == 404) {
            break;
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api_snapshot");
    TCase *tests = tcase_create("api_snapshot");
    tcase_add_checked_fixture(tests, snapshot_start, fixture_stop);
    tcase_add_test(tests, one_is_made_and_read);
    tcase_add_test(tests, it_is_written_by_nothing_else);
    tcase_add_test(tests, a_vm_goes_back_to_its_own);
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
