/* Goal: a host's first start makes it somebody, later ones keep who it is. */
#include "agent/berthd_identity.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

static struct identity identity;
static struct err err;

static void start(void)
{
    memset(&identity, 0, sizeof(identity));
    memset(&err, 0, sizeof(err));
}

static void stop(void)
{
    for (uint32_t i = 0; i < identity.labels.count; i++) {
        free(identity.labels.items[i].value);
    }
    free(identity.labels.items);
}

static int complete(const struct berthd_config *config)
{
    return berthd_identity_complete(&identity, config, &err);
}

START_TEST(a_first_start_takes_what_the_user_says)
{
    const char *const labels[] = {"zone=a", "note=x=y", NULL};
    const struct berthd_config config = {
        .name = "node-1", .address = 0x0a000001, .raft_port = 9, .labels = labels};

    ck_assert_int_eq(complete(&config), 0);

    ck_assert_str_eq(identity.name, "node-1");
    ck_assert_uint_eq(identity.address, 0x0a000001);
    ck_assert_uint_eq(identity.mesh_port, BERTHD_MESH_PORT);
    ck_assert_uint_eq(identity.raft_port, 9);
    ck_assert_uint_eq(identity.api_port, BERTHD_API_PORT);
    ck_assert_uint_eq(identity.labels.count, 2);
    ck_assert_str_eq(identity.labels.items[1].key, "note");
    ck_assert_str_eq(identity.labels.items[1].value, "x=y");
}
END_TEST

START_TEST(a_later_start_keeps_all_but_ports)
{
    const char *const labels[] = {"zone=b", NULL};
    const struct berthd_config first = {.name = "node-1", .address = 0x0a000001};
    const struct berthd_config later = {.api_port = 8443, .labels = labels};
    ck_assert_int_eq(complete(&first), 0);

    ck_assert_int_eq(complete(&later), 0);

    ck_assert_str_eq(identity.name, "node-1");
    ck_assert_uint_eq(identity.address, 0x0a000001);
    ck_assert_uint_eq(identity.api_port, 8443);
    ck_assert_uint_eq(identity.labels.count, 0);
}
END_TEST

START_TEST(a_host_keeps_its_name)
{
    const struct berthd_config first = {.name = "node-1", .address = 1};
    const struct berthd_config other = {.name = "node-2"};
    ck_assert_int_eq(complete(&first), 0);
    identity.uid = 7; /* a cluster has taken it */

    ck_assert_int_eq(complete(&other), BERTH_EINVALID);

    ck_assert_ptr_nonnull(strstr(err.text, "node-1 already"));
    ck_assert_str_eq(identity.name, "node-1");
}
END_TEST

START_TEST(a_name_that_no_cluster_took_may_change)
{
    const struct berthd_config first = {.name = "node-1", .address = 1};
    const struct berthd_config other = {.name = "node-2"};
    ck_assert_int_eq(complete(&first), 0); /* and the join was refused */

    ck_assert_int_eq(complete(&other), 0);

    ck_assert_str_eq(identity.name, "node-2");
    ck_assert_uint_eq(identity.address, 1);
}
END_TEST

START_TEST(https_is_left_out_when_it_is_not_wanted)
{
    const struct berthd_config config = {
        .name = "node-1", .address = 1, .api_port = 8443, .no_https = true};
    ck_assert_int_eq(complete(&config), 0);
    ck_assert_uint_eq(identity.api_port, 0);
}
END_TEST

START_TEST(what_cannot_be_is_refused_with_its_reason)
{
    const char *const labels[] = {"zone", NULL};
    const struct berthd_config bad_name = {.name = "Node 1", .address = 1};
    const struct berthd_config bad_label = {
        .name = "node-1", .address = 1, .labels = labels};

    ck_assert_int_eq(complete(&bad_name), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "\"Node 1\""));

    memset(&identity, 0, sizeof(identity));
    ck_assert_int_eq(complete(&bad_label), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "KEY=VALUE"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("berthd_identity");
    TCase *tests = tcase_create("berthd_identity");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, a_first_start_takes_what_the_user_says);
    tcase_add_test(tests, a_later_start_keeps_all_but_ports);
    tcase_add_test(tests, a_host_keeps_its_name);
    tcase_add_test(tests, a_name_that_no_cluster_took_may_change);
    tcase_add_test(tests, https_is_left_out_when_it_is_not_wanted);
    tcase_add_test(tests, what_cannot_be_is_refused_with_its_reason);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
