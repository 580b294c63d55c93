/* Goal: a backup is made at one revision, fetched in pieces by who may, and forgotten. */
#include "http_fixture.h"

#define ADMIN  "berth-00000000000000000000000000000001"
#define VIEWER "berth-00000000000000000000000000000002"

#define TENANT(name)                                                                  \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":\"" name \
    "\"}}"

static char made_id[64];
static uint64_t made_size;

static int make(void)
{
    int status = ask("POST", "/v1/backups", "", NULL);
    snprintf(made_id, sizeof(made_id), "%s", said("id"));
    made_size = json_member_u64(reply.document, "size", 0);
    return status;
}

static const char *piece(uint64_t offset)
{
    static char path[256];
    snprintf(path, sizeof(path), "/v1/backups/%s?offset=%llu", made_id,
             (unsigned long long)offset);
    return path;
}

/* As the size of what came: a backup is no text. */
static uint64_t length(void)
{
    const char *value = header("Content-Length");
    return value != NULL ? strtoull(value, NULL, 10) : 0;
}

static void hold_scheduler(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->no_scheduler = true;
}

START_TEST(a_backup_comes_in_pieces_that_add_up)
{
    served_do(served, hold_scheduler, NULL);
    served_vms(served, "many", 1000);
    ck_assert_int_eq(make(), 201);
    ck_assert_uint_gt(json_member_u64(reply.document, "revision", 0), 600);
    ck_assert_uint_eq(strlen(said("sha256")), 64);
    ck_assert_uint_gt(made_size, 200 << 10);
    uint64_t at = 0;
    unsigned pieces = 0;
    while (at < made_size) {
        ck_assert_int_eq(get(piece(at)), 200);
        ck_assert_str_eq(header("Content-Type"), "application/octet-stream");
        ck_assert_uint_gt(length(), 0);
        if (at == 0) {
            ck_assert_int_eq(strncmp(reply.body, "BERTHBK1", 8), 0);
        }
        at += length();
        pieces++;
    }
    ck_assert_uint_eq(at, made_size);
    ck_assert_uint_gt(pieces, 1);
}
END_TEST

START_TEST(it_holds_what_was_answered_before_and_stays_as_it_was)
{
    ck_assert_int_eq(ask("PUT", "/v1/tenants/late", "", TENANT("late")), 200);
    uint64_t revision = strtoull(header("Berth-Revision"), NULL, 10);
    ck_assert_int_eq(make(), 201);
    ck_assert_uint_ge(json_member_u64(reply.document, "revision", 0), revision);
    uint64_t size = made_size;
    ck_assert_int_eq(ask("PUT", "/v1/tenants/later", "", TENANT("later")), 200);
    ck_assert_int_eq(get(piece(0)), 200);
    ck_assert_uint_eq(length(), size);
}
END_TEST

START_TEST(two_are_kept_and_dropped_when_told)
{
    ck_assert_int_eq(make(), 201);
    char first[64];
    memcpy(first, made_id, sizeof(first));
    ck_assert_int_eq(make(), 201);
    (void)make();
    assert_problem(429, "BERTH_EFULL");
    char path[128];
    snprintf(path, sizeof(path), "/v1/backups/%s", first);
    ck_assert_int_eq(ask("DELETE", path, "", NULL), 200);
    ck_assert_int_eq(ask("DELETE", path, "", NULL), 200);
    (void)get(path);
    assert_problem(404, "BERTH_ENOTFOUND");
    ck_assert_int_eq(make(), 201);
    (void)get(piece(made_size + 1));
    assert_problem(422, "BERTH_EINVALID");
}
END_TEST

START_TEST(only_an_admin_of_the_cluster_may)
{
    served_token(served, "root", ADMIN, ROLE_ADMIN, "", 0);
    served_token(served, "viewer", VIEWER, ROLE_VIEWER, "", 0);
    served_token(served, "tenant-admin", "berth-3", ROLE_ADMIN, "default", 0);
    ck_assert_int_eq(make(), 201);
    const char *path = piece(0);
    static const char *const others[] = {"Authorization: Bearer " VIEWER "\r\n",
                                         "Authorization: Bearer berth-3\r\n"};
    for (size_t i = 0; i < 2; i++) {
        (void)ask("POST", "/v1/backups", others[i], NULL);
        assert_problem(403, "BERTH_EFORBIDDEN");
        (void)ask("GET", path, others[i], NULL);
        assert_problem(403, "BERTH_EFORBIDDEN");
    }
    ck_assert_int_eq(ask("GET", path, "Authorization: Bearer " ADMIN "\r\n", NULL), 200);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("api_backup", &tests);
    tcase_add_test(tests, a_backup_comes_in_pieces_that_add_up);
    tcase_add_test(tests, it_holds_what_was_answered_before_and_stays_as_it_was);
    tcase_add_test(tests, two_are_kept_and_dropped_when_told);
    tcase_add_test(tests, only_an_admin_of_the_cluster_may);
    return test_main_run(suite);
}
