/* Goal: a group says what it lacks and why, and a plan what would become of its VMs.
 * Method: small clusters in which that is so, the text or the numbers compared. */
#include "explain_fixture.h"
#include "model/state_rebirth.h"

/* ---- groups ---- */

START_TEST(a_group_says_what_it_lacks_and_why)
{
    put_group("web", "plain", 10);
    settle_all();
    explain_group("web");
    ck_assert_str_eq(text("subject"), "group/web");
    ck_assert_str_eq(
        text("summary"),
        "web needs 2 more VMs (8 of 10 placed), each cpu 1, memory 128MiB: no "
        "host takes it (1 host: 1 memory).");

    ck_assert_int_eq(scale("web", 8, true), 0);
    settle_all();
    explain_group("web");
    ck_assert_str_eq(text("summary"),
                     "web has all its VMs (8 of 8 placed, 8 ready); each "
                     "needs cpu 1, memory 128MiB.");

    known_wait = "image linux is nowhere";
    explain_group("web");
    ck_assert_str_eq(text("summary"),
                     "web has all its VMs (8 of 8 placed, 8 ready); each needs cpu 1, "
                     "memory 128MiB. None can start: image linux is nowhere.");
}
END_TEST

START_TEST(a_group_at_its_quota_is_told_so)
{
    struct tenant *tenant = make_tenant(DEFAULT_TENANT);
    tenant->spec.quota.vms = 3;
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    put_group("web", "plain", 4);
    settle_all();
    explain_group("web");

    ck_assert_contains(text("summary"),
                       "quota of tenant default: vms 3 of 3 in use, 1 more asked");
}
END_TEST

START_TEST(a_group_says_of_which_vms_it_is_not_known_where_they_are)
{
    struct err err;
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    const struct rebirth rebirth = {.wall_ms = fixture_wall_ms, .reason = "restored"};
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(level_at_least(LEVEL_PLACE_UNKNOWN), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("db", "patient", 2);
    settle_all();
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0);
    explain_group("db");
    ck_assert_str_eq(
        text("summary"),
        "db: since the cluster began again it is not known where 2 of its 2 VMs are (0 "
        "ready, 2 wanted); it starts and gives up none of those by itself: berth explain "
        "vm/db-1.");
}
END_TEST

START_TEST(a_group_says_which_vms_wait_for_a_lost_host)
{
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("db", "patient", 2);
    settle_all();
    const uint64_t host = vm_named("db-1")->status.host;
    ck_assert_uint_eq(vm_named("db-2")->status.host, host);
    ck_assert_int_eq(host_phase(host, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(scale("db", 1, true), 0);
    settle_all();
    explain_group("db");
    ck_assert_str_eq(text("summary"),
                     "db: 2 of its 2 VMs wait for a lost host, where they may still run "
                     "(0 ready, 1 wanted); it starts and gives up none of those by "
                     "itself: berth explain vm/db-1.");
}
END_TEST

/* That one is lost says nothing of why another is nowhere. */
START_TEST(a_group_with_a_lost_vm_says_what_the_others_wait_for)
{
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("db", "patient", 1);
    settle_all();
    ck_assert_int_eq(host_phase(vm_named("db-1")->status.host, HOST_PHASE_LOST), 0);
    struct tenant *tenant = make_tenant(DEFAULT_TENANT);
    tenant->spec.quota.vms = 1;
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    ck_assert_int_eq(scale("db", 3, true), 0);
    settle_all();
    explain_group("db");
    ck_assert_str_eq(
        text("summary"),
        "db: 1 of its 1 VMs waits for a lost host, where it may still run "
        "(0 ready, 3 wanted); it starts and gives up none of those by "
        "itself: berth explain vm/db-1. db needs 2 more VMs (0 of 3 placed), "
        "each cpu 1, memory 128MiB: quota of tenant default: vms 1 of 1 in "
        "use, 1 more asked.");
}
END_TEST

START_TEST(a_group_on_its_way_out_says_so)
{
    put_group("web", "plain", 2);
    settle_all();
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "web"), 0);
    settle();
    explain_group("web");
    ck_assert_str_eq(text("summary"), "web is being deleted: 2 VMs are still to go.");
}
END_TEST

START_TEST(a_group_that_scales_by_load_shows_its_numbers)
{
    struct group *group = make_group(DEFAULT_TENANT, "web", "plain", 0);
    struct record_list list = {0};
    struct scale_target *target = record_list_add(&scale_target_record, &list);
    target->target_permille = 500;
    target->window_ms = 5000;
    group->spec.autoscale.min = 2;
    group->spec.autoscale.max = 6;
    group->spec.autoscale.targets.items = list.items;
    group->spec.autoscale.targets.count = list.count;
    ck_assert_int_eq(put(KIND_GROUP, group), 0);
    settle_all();
    for (unsigned i = 0; i < 2; i++) { /* ready, and ready for its window */
        now_ns += i * 5 * NS_PER_S;
        scheduler_vm_load(scheduler, vm_named("web-1")->meta.uid, 900, true, now_ns);
        scheduler_vm_load(scheduler, vm_named("web-2")->meta.uid, 700, true, now_ns);
    }
    explain_group("web");

    const json_t *scale = json_object_get(answered, "autoscale");
    ck_assert_uint_eq(json_member_u64(scale, "cpuPermille", 0), 800);
    ck_assert_uint_eq(json_member_u64(scale, "targetPermille", 0), 500);
    ck_assert_uint_eq(json_member_u64(scale, "measuredVms", 0), 2);
    ck_assert_uint_eq(json_member_u64(scale, "wish", 0), 4);
    ck_assert_uint_eq(json_member_u64(scale, "desired", 0), 2);
}
END_TEST

/* ---- plans ---- */

static void forecast(const char *group, const char *template, uint32_t count)
{
    const struct template *found = FIND(KIND_TEMPLATE, DEFAULT_TENANT, template);
    json_decref(answered);
    answered = scheduler_forecast(scheduler, state, DEFAULT_TENANT, group, &found->spec,
                                  count, now_ns);
    ck_assert_ptr_nonnull(answered);
}

START_TEST(a_plan_says_where_new_vms_would_go_and_what_is_missing)
{
    (void)make_host("h2", 2, 4000, 256 * MIB);
    hear_all();
    forecast(NULL, "plain", 12);

    ck_assert_uint_eq(json_array_size(json_object_get(answered, "placed")), 10);
    ck_assert_uint_eq(json_member_u64(answered, "unplaced", 0), 2);
    ck_assert_str_eq(said("h1", "rule"), "memory");
    ck_assert_str_eq(said("h2", "rule"), "memory");
    ck_assert_uint_eq(step_once(), 0); /* nothing was really taken */
    forecast(NULL, "plain", 10);
    ck_assert_ptr_null(json_object_get(answered, "hosts"));
}
END_TEST

START_TEST(a_plan_of_a_new_group_obeys_its_spread)
{
    struct template *template = make_template(DEFAULT_TENANT, "apart", NULL);
    template->spec.placement.spread.by = SPREAD_HOST;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    (void)make_host("h2", 2, 4000, 1 * GIB);
    hear_all();
    forecast(NULL, "apart", 3);
    ck_assert_uint_eq(json_array_size(json_object_get(answered, "placed")), 2);
    ck_assert_str_eq(said("h1", "rule"), "spread");

    put_group("web", "apart", 1);
    settle_all();
    forecast("web", "apart", 3);
    ck_assert_uint_eq(json_array_size(json_object_get(answered, "placed")), 1);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("explain_groups");
    Suite *suite = suite_create("explain_groups");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, a_group_says_what_it_lacks_and_why);
    tcase_add_test(tests, a_group_at_its_quota_is_told_so);
    tcase_add_test(tests, a_group_says_of_which_vms_it_is_not_known_where_they_are);
    tcase_add_test(tests, a_group_says_which_vms_wait_for_a_lost_host);
    tcase_add_test(tests, a_group_with_a_lost_vm_says_what_the_others_wait_for);
    tcase_add_test(tests, a_group_on_its_way_out_says_so);
    tcase_add_test(tests, a_group_that_scales_by_load_shows_its_numbers);
    tcase_add_test(tests, a_plan_says_where_new_vms_would_go_and_what_is_missing);
    tcase_add_test(tests, a_plan_of_a_new_group_obeys_its_spread);
    return test_main_run(suite);
}
