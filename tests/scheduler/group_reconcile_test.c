/* Goal: a group has as many VMs as it wants, within what its tenant may have, and gives
 * up the right ones. Method: steps of the whole scheduler, every command applied. */
#include "model/state_rebirth.h"
#include "scheduler_fixture.h"

static uint64_t h2;

static void setup(void)
{
    cluster_start();
    set_host(h1, 64000, 64 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    h2 = make_host("h2", 2, 64000, 64 * GIB);
    hear_all();
}

static void desire(const char *group, uint32_t count)
{
    ck_assert_int_eq(scale(group, count, true), 0);
}

static uint32_t size_of(const char *group)
{
    return state_group_vms(state, group_named(group));
}

static bool is_there(const char *name)
{
    return vm_named(name) != NULL;
}

/* ---- growing ---- */

START_TEST(a_group_gets_its_vms_with_the_lowest_free_names)
{
    (void)admit_plain("web-2"); /* somebody else's */
    put_group("web", "plain", 3);
    settle_all();

    ck_assert_uint_eq(size_of("web"), 3);
    ck_assert(is_there("web-1") && is_there("web-3") && is_there("web-4"));
    ck_assert_str_eq(vm_named("web-2")->spec.group, "");
}
END_TEST

static void label(void *object, const char *key, const char *value)
{
    ck_assert_int_eq(label_set(&object_meta(object)->labels, key, value), 0);
}

START_TEST(vms_have_the_labels_of_their_group_and_then_of_their_template)
{
    struct template *template = make_template(DEFAULT_TENANT, "labelled", NULL);
    struct group *group = make_group(DEFAULT_TENANT, "web", "labelled", 1);
    label(template, "app", "any");
    label(template, "tier", "front");
    label(group, "app", "web");
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_int_eq(put(KIND_GROUP, group), 0);
    settle_all();

    const struct label_list *labels = &vm_named("web-1")->meta.labels;
    ck_assert_uint_eq(labels->count, 2);
    ck_assert_str_eq(label_value(labels, "app"), "web");
    ck_assert_str_eq(label_value(labels, "tier"), "front");
}
END_TEST

START_TEST(a_vm_that_is_deleted_comes_back_under_its_name)
{
    put_group("web", "plain", 3);
    settle_all();
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "web-2"), 0);
    settle_all();

    ck_assert_uint_eq(size_of("web"), 3);
    ck_assert(is_there("web-2") && !is_there("web-4"));
}
END_TEST

/* Apply counts those on their way out: asking for more before they are gone would be
 * refused at every step. */
START_TEST(a_group_that_changes_its_mind_waits_for_the_leavers)
{
    put_group("web", "plain", 4);
    settle_all();
    desire("web", 1);
    settle();
    desire("web", 4);
    ck_assert_uint_eq(settle(), 0);
    settle_all();

    ck_assert_uint_eq(size_of("web"), 4);
}
END_TEST

START_TEST(groups_with_alike_long_names_do_not_take_each_others)
{
    char one[NAME_SIZE];
    char other[NAME_SIZE];
    memset(one, 'a', sizeof(one));
    one[63] = '\0';
    memcpy(other, one, sizeof(other));
    other[62] = 'b';
    put_group(one, "plain", 5);
    put_group(other, "plain", 5);
    settle_all();

    ck_assert_uint_eq(size_of(one), 5);
    ck_assert_uint_eq(size_of(other), 5);
}
END_TEST

START_TEST(a_large_group_does_not_keep_others_from_being_placed)
{
    put_group("huge", "plain", 300);
    put_group("more", "plain", 300);
    (void)admit_plain("a");
    (void)step_once();
    ck_assert_uint_ge(commands_of(COMMAND_ADMIT_VM), 100);
    ck_assert_uint_eq(commands_of(COMMAND_PLACE_VM), 1);
    apply_batch();
    settle_all();
    ck_assert_uint_eq(size_of("huge"), 300);
    ck_assert_uint_eq(size_of("more"), 300);
}
END_TEST

/* ---- quota ---- */

static void put_quota(uint32_t vms, uint64_t memory_bytes)
{
    struct tenant *tenant = make_tenant(DEFAULT_TENANT);
    tenant->spec.quota.vms = vms;
    tenant->spec.quota.memory_bytes = memory_bytes;
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
}

START_TEST(a_quota_is_never_run_against)
{
    put_quota(5, UNLIMITED);
    put_group("web", "plain", 4);
    put_group("db", "plain", 4);
    settle_all(); /* apply_batch fails the test at the first refusal */
    ck_assert_uint_eq(size_of("web") + size_of("db"), 5);
    ck_assert_uint_eq(step_once(), 0);

    put_quota(8, UINT64_C(7) * 128 * MIB);
    settle_all();
    ck_assert_uint_eq(size_of("web") + size_of("db"), 7);
    put_quota(UNLIMITED32, UNLIMITED);
    settle_all();
    ck_assert_uint_eq(size_of("web") + size_of("db"), 8);
}
END_TEST

START_TEST(tenants_without_quota_left_do_not_hold_up_others)
{
    for (unsigned i = 0; i < STEP_TENANTS_MAX + 6; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "t%u", i);
        struct tenant *tenant = make_tenant(name);
        tenant->spec.quota.vms = i < STEP_TENANTS_MAX + 5 ? 0 : 1;
        ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
        ck_assert_int_eq(put(KIND_TEMPLATE, make_template(name, "plain", NULL)), 0);
        ck_assert_int_eq(put(KIND_GROUP, make_group(name, "web", "plain", 2)), 0);
    }
    settle_all();

    char last[NAME_SIZE];
    (void)snprintf(last, sizeof(last), "t%u", STEP_TENANTS_MAX + 5);
    const struct group *group = FIND(KIND_GROUP, last, "web");
    ck_assert_uint_eq(state_group_vms(state, group), 1);
}
END_TEST

START_TEST(more_tenants_than_one_step_takes_follow_in_the_next)
{
    for (unsigned i = 0; i < STEP_TENANTS_MAX + 6; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "t%u", i);
        ck_assert_int_eq(put(KIND_TENANT, make_tenant(name)), 0);
        ck_assert_int_eq(put(KIND_TEMPLATE, make_template(name, "plain", NULL)), 0);
        ck_assert_int_eq(put(KIND_GROUP, make_group(name, "web", "plain", 2)), 0);
    }
    settle_all();
    ck_assert_uint_eq(state_count(state, KIND_VM), UINT64_C(2) * (STEP_TENANTS_MAX + 6));
}
END_TEST

/* ---- shrinking ---- */

START_TEST(who_serves_least_goes_first)
{
    put_group("web", "plain", 6);
    settle_all();
    /* web-1 fails for good, web-2 is not ready, web-3 is on a drained host with no room
     * elsewhere, the rest serve. */
    uint64_t h3 = make_host("h3", 3, 64000, 64 * GIB);
    hear_all();
    const char *order[] = {"web-1", "web-2", "web-3", "web-6", "web-5", "web-4"};
    uint64_t three = vm_named("web-3")->meta.uid;
    ck_assert_int_eq(evict(three, 1, STOP_INTENT_MOVE), 0);
    ck_assert_int_eq(reports(three, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(three, h3, 2, 0), 0);
    ck_assert_int_eq(reports(three, PHASE_READY), 0);
    set_host(h1, 64000, 64 * MIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    set_host(h2, 64000, 64 * MIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    ck_assert_int_eq(host_drain(h3, true), 0);
    ck_assert_int_eq(reports(vm_named("web-1")->meta.uid, PHASE_FAILED), 0);
    ck_assert_int_eq(reports(vm_named("web-2")->meta.uid, PHASE_RUNNING), 0);
    for (uint32_t left = 6; left > 1; left--) {
        desire("web", left - 1);
        settle();
        hosts_work();
        for (uint32_t i = 0; i < 6; i++) {
            ck_assert_msg(is_there(order[i]) == (i >= 6 - left + 1), "%s with %u left",
                          order[i], left - 1);
        }
    }
}
END_TEST

START_TEST(nothing_is_given_up_while_a_host_fails_unless_the_group_goes)
{
    put_group("web", "plain", 4);
    put_group("gone", "plain", 4);
    settle_all();
    silent_host = h2;
    time_passes(1600);
    hear_all();
    settle();
    desire("web", 1);
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "gone"), 0);
    settle_all();
    ck_assert_uint_eq(size_of("web"), 4);
    ck_assert_uint_le(size_of("gone"), 2); /* those on the silent host cannot stop yet */

    silent_host = 0;
    hear_all();
    settle_all();
    ck_assert_uint_eq(size_of("web"), 1);
    ck_assert_ptr_null(group_named("gone"));
}
END_TEST

/* Both in one batch: a pending VM of the group goes, and is not placed. */
START_TEST(a_pending_vm_that_is_given_up_is_not_placed)
{
    put_group("web", "plain", 5);
    (void)step_and_apply();
    desire("web", 2);
    settle_all();

    ck_assert_uint_eq(size_of("web"), 2);
    ck_assert(is_there("web-1") && is_there("web-2"));
}
END_TEST

/* Shrinking chooses VMs on drained hosts, which the drain would move as well. */
START_TEST(a_vm_is_not_sent_two_ways_at_once)
{
    put_group("web", "plain", 8);
    settle_all();
    ck_assert_int_eq(host_drain(h2, true), 0);
    desire("web", 6);
    settle_all();

    ck_assert_uint_eq(size_of("web"), 6);
    ck_assert_uint_eq(vms_on(h2), 0);
    ck_assert_uint_eq(vms_on(h1), 6);
}
END_TEST

START_TEST(a_deleted_group_goes_with_its_last_vm)
{
    put_group("web", "plain", 300);
    settle_all();
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "web"), 0);
    settle_all();

    ck_assert_ptr_null(group_named("web"));
    ck_assert_uint_eq(state_count(state, KIND_VM), 0);
}
END_TEST

/* ---- on a lost host ---- */

/* Three of the group's VMs, which wait for their hosts, are on h1, and one on h2, which
 * is lost. Its name. */
static const char *lose_one(void)
{
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    set_host(h2, 64000, 64 * MIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    put_group("db", "patient", 3);
    settle_all();
    set_host(h1, 64000, 64 * MIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    set_host(h2, 64000, 64 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    desire("db", 4);
    settle_all();
    ck_assert_uint_eq(vms_on(h2), 1);
    silent_host = h2;
    for (unsigned ms = 0; ms < 9000; ms += 500) {
        time_passes(500);
        hear_all();
        settle_all();
    }
    ck_assert_uint_eq(state_host(state, h2)->status.phase, HOST_PHASE_LOST);
    ck_assert_uint_eq(vm_named("db-4")->status.phase, PHASE_LOST);
    return "db-4";
}

/* It may run there, cut off: another of its name would run beside it, and it would be a
 * stray, with its disks. */
START_TEST(one_that_waits_for_its_lost_host_is_not_given_up_and_none_instead)
{
    const char *lost = lose_one();
    const uint64_t uid = vm_named(lost)->meta.uid;
    desire("db", 3);
    settle_all();
    ck_assert(is_there(lost));
    ck_assert_uint_eq(size_of("db"), 4); /* three run, as many as are wanted */

    desire("db", 2);
    settle_all();
    ck_assert(is_there(lost) && !is_there("db-3"));
    desire("db", 4);
    settle_all();
    ck_assert_uint_eq(vm_named(lost)->meta.uid, uid);
    ck_assert_uint_eq(size_of("db"), 4);

    desire("db", 3);
    silent_host = 0;
    hear_all();
    settle();
    ck_assert_int_eq(reports(uid, PHASE_READY), 0);
    settle_all(); /* it is back, and they are one too many */
    ck_assert_uint_eq(size_of("db"), 3);
}
END_TEST

START_TEST(one_that_waits_for_its_lost_host_goes_by_its_users_word)
{
    const char *lost = lose_one();
    desire("db", 3);
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, lost), 0);
    settle_all();
    ck_assert(!is_there(lost));
    ck_assert_uint_eq(size_of("db"), 3);
}
END_TEST

START_TEST(one_that_waits_for_its_lost_host_goes_with_its_group)
{
    (void)lose_one();
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "db"), 0);
    settle_all();
    ck_assert_ptr_null(group_named("db"));
}
END_TEST

/* ---- after a rebirth ---- */

static bool any(void *context, const struct host *host)
{
    (void)context;
    (void)host;
    return true;
}

/* Five VMs that wait for their hosts; the cluster begins again, and of the first three it
 * is known since that they are on them. */
static void found_but_two(void)
{
    struct err err;
    struct template *template = make_template(DEFAULT_TENANT, "patient", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(level_at_least(LEVEL_PLACE_UNKNOWN), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("db", "patient", 5);
    settle_all();
    const struct rebirth rebirth = {
        .wall_ms = fixture_wall_ms, .reason = "recovered", .keeps = any};
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0);
    hear_all();
    for (unsigned i = 1; i <= 3; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "db-%u", i);
        const struct vm *vm = vm_named(name);
        ck_assert_int_eq(report(vm->meta.uid, vm->status.disk_host, 1, PHASE_RUNNING, 0),
                         0);
    }
    settle_all();
}

static bool is_unknown(const char *name)
{
    return state_place_unknown(state, vm_named(name));
}

/* They may run where nobody was heard yet, and would be ended there with their disks. */
START_TEST(one_that_may_run_somewhere_is_not_given_up_and_none_instead)
{
    found_but_two();
    ck_assert(is_unknown("db-4") && is_unknown("db-5"));
    desire("db", 4);
    settle_all();
    ck_assert_uint_eq(size_of("db"), 5);

    desire("db", 2); /* the three that are known are one too many, whatever comes */
    settle_all();
    ck_assert_uint_eq(size_of("db"), 4);
    ck_assert(!is_there("db-3") && is_there("db-4") && is_there("db-5"));

    const struct vm *five = vm_named("db-5");
    ck_assert_int_eq(report(five->meta.uid, five->status.disk_host, 1, PHASE_RUNNING, 0),
                     0);
    settle_all(); /* it is found, and they are as many as are wanted, and one more */
    ck_assert_uint_eq(size_of("db"), 3);
    ck_assert(is_there("db-4"));

    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "db-4"), 0);
    settle_all(); /* as its user has said */
    ck_assert_uint_eq(size_of("db"), 2);
}
END_TEST

START_TEST(with_their_group_they_go)
{
    found_but_two();
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "db"), 0);
    settle_all();
    ck_assert_ptr_null(group_named("db"));
}
END_TEST

/* ---- by load ---- */

START_TEST(measured_load_scales_a_group_through_the_log)
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
    group->spec.autoscale.up.cooldown_ms = 0;
    group->spec.autoscale.down.cooldown_ms = 0;
    group->spec.autoscale.down.stable_ms = 20000;
    ck_assert_int_eq(put(KIND_GROUP, group), 0);
    settle_all();
    ck_assert_uint_eq(size_of("web"), 2);
    for (unsigned i = 0; i < 120; i++) {
        size_t cursor = 0;
        time_passes(500);
        hear_all();
        for (const struct vm *vm; (vm = state_next(state, KIND_VM, &cursor)) != NULL;) {
            scheduler_vm_load(scheduler, vm->meta.uid, i < 60 ? 900 : 50,
                              vm->status.phase == PHASE_READY, now_ns);
        }
        settle_all();
        if (i == 59) {
            ck_assert_uint_eq(size_of("web"), 6);
            ck_assert_ptr_nonnull(
                strstr(group_named("web")->status.scale_reason, "cpu 90 % of"));
        }
    }
    ck_assert_uint_lt(size_of("web"), 6);
    ck_assert_int_eq(
        scheduler_vm_cpu(scheduler, vm_named("web-1")->meta.uid, 5 * NS_PER_S, now_ns),
        50);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("group_reconcile");
    Suite *suite = suite_create("group_reconcile");
    tcase_add_checked_fixture(tests, setup, cluster_stop);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, a_group_gets_its_vms_with_the_lowest_free_names);
    tcase_add_test(tests, vms_have_the_labels_of_their_group_and_then_of_their_template);
    tcase_add_test(tests, a_vm_that_is_deleted_comes_back_under_its_name);
    tcase_add_test(tests, a_group_that_changes_its_mind_waits_for_the_leavers);
    tcase_add_test(tests, groups_with_alike_long_names_do_not_take_each_others);
    tcase_add_test(tests, a_large_group_does_not_keep_others_from_being_placed);
    tcase_add_test(tests, a_quota_is_never_run_against);
    tcase_add_test(tests, tenants_without_quota_left_do_not_hold_up_others);
    tcase_add_test(tests, more_tenants_than_one_step_takes_follow_in_the_next);
    tcase_add_test(tests, who_serves_least_goes_first);
    tcase_add_test(tests, nothing_is_given_up_while_a_host_fails_unless_the_group_goes);
    tcase_add_test(tests, a_pending_vm_that_is_given_up_is_not_placed);
    tcase_add_test(tests, a_vm_is_not_sent_two_ways_at_once);
    tcase_add_test(tests, a_deleted_group_goes_with_its_last_vm);
    tcase_add_test(tests,
                   one_that_waits_for_its_lost_host_is_not_given_up_and_none_instead);
    tcase_add_test(tests, one_that_waits_for_its_lost_host_goes_by_its_users_word);
    tcase_add_test(tests, one_that_waits_for_its_lost_host_goes_with_its_group);
    tcase_add_test(tests, one_that_may_run_somewhere_is_not_given_up_and_none_instead);
    tcase_add_test(tests, with_their_group_they_go);
    tcase_add_test(tests, measured_load_scales_a_group_through_the_log);
    return test_main_run(suite);
}
