/* Goal: a VM whose disks a host keeps starts there or waits, and says for what; drains
 * and losses leave stopped VMs where they are. Method: hosts of 1 GiB, VMs of half of
 * that with a disk that fits a host once; steps of the whole scheduler, every command
 * applied; hosts say that they keep disks. */
#include "base/json.h"
#include "model/state_rebirth.h"
#include "scheduler_fixture.h"

static uint64_t h2;
static json_t *answered;

static void put_pet(const char *name, enum host_failure host_failure)
{
    struct template *template = make_template(DEFAULT_TENANT, name, NULL);
    struct record_list disks = {0};
    struct disk_spec *disk = record_list_add(&disk_spec_record, &disks);
    ck_assert_ptr_nonnull(disk);
    set_name(disk->name, "data");
    disk->size_bytes = 6 * GIB; /* of the 10 that a host has */
    template->spec.disks.items = disks.items;
    template->spec.disks.count = disks.count;
    template->spec.memory.size_bytes = 512 * MIB;
    template->spec.lifecycle.host_failure = host_failure;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

/* A VM of that template, which ran on h2 and is off. */
static uint64_t stopped_on_h2(const char *template)
{
    uint64_t vm = admit_one("db", template);
    ck_assert_int_eq(host_drain(h1, true), 0);
    settle_all();
    ck_assert_int_eq(host_drain(h1, false), 0);
    ck_assert_uint_eq(host_of_vm("db"), h2);
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    settle_all();
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_STOPPED);
    ck_assert_uint_eq(vm_named("db")->status.disk_host, h2);
    return vm;
}

/* Two VMs of 512 MiB take what h2 has. */
static void fill_h2(void)
{
    put_machine("half", 1, 512 * MIB, NULL);
    ck_assert_int_eq(host_drain(h1, true), 0);
    (void)admit_one("a", "half");
    (void)admit_one("b", "half");
    settle_all();
    ck_assert_int_eq(host_drain(h1, false), 0);
    ck_assert_uint_eq(vms_on(h2), 2);
}

static void lose_h2(void)
{
    silent_host = h2;
    for (unsigned ms = 0; ms < 9000; ms += 500) {
        time_passes(500);
        hear_all();
        settle_all();
    }
    ck_assert_uint_eq(state_host(state, h2)->status.phase, HOST_PHASE_LOST);
}

static const char *summary(void)
{
    json_decref(answered);
    answered = scheduler_explain_vm(scheduler, state, vm_named("db"), NULL);
    ck_assert_ptr_nonnull(answered);
    return json_member_text(answered, "summary", "");
}

static const char *said(const char *host, const char *key)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(answered, "hosts"), i, row)
    {
        if (strcmp(json_member_text(row, "host", ""), host) == 0) {
            return json_member_text(row, key, "");
        }
    }
    return "no such row";
}

static const char *waits(void)
{
    static char words[256];
    unsigned looks = 1;
    (void)scheduler_pending_reason(scheduler, state, vm_named("db"), &looks, words,
                                   sizeof(words));
    return words;
}

static void setup(void)
{
    cluster_start();
    answered = NULL;
    h2 = make_host("h2", 2, 4000, 1 * GIB);
    hear_all();
    put_pet("pet", HOST_FAILURE_RESTART);
    put_pet("loyal", HOST_FAILURE_WAIT);
}

static void teardown(void)
{
    json_decref(answered);
    cluster_stop();
}

START_TEST(a_stopped_vm_starts_where_its_disks_are)
{
    uint64_t vm = stopped_on_h2("pet");
    ck_assert_str_eq(summary(),
                     "db is stopped (seen): h2 keeps its disks; it is switched "
                     "off: berth start db. It needs cpu 1, memory 512MiB, "
                     "disk 6GiB.");
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_ptr_nonnull(strstr(summary(), "it goes to h2 next"));
    ck_assert_str_eq(said("h1", "rule"), "home");
    ck_assert_str_eq(said("h1", "reason"), "its disks are on h2");

    settle();

    ck_assert_uint_eq(host_of_vm("db"),
                      h2); /* though its disk is counted there already */
    ck_assert_uint_eq(vm_named("db")->status.epoch, 2);
    ck_assert_uint_eq(vm_named("db")->status.disk_epoch, 1);
    ck_assert_str_eq(vm_named("db")->status.reason, "its disks are there");
}
END_TEST

START_TEST(a_plan_says_that_it_starts_where_its_disks_are)
{
    (void)stopped_on_h2("pet");
    json_decref(answered);
    answered = scheduler_forecast_vm(scheduler, state, vm_named("db"));
    const json_t *placed = json_object_get(answered, "placed");
    ck_assert_uint_eq(json_array_size(placed), 1);
    ck_assert_str_eq(json_member_text(json_array_get(placed, 0), "host", ""), "h2");
    ck_assert_str_eq(json_member_text(answered, "diskHost", ""), "h2");

    fill_h2();
    json_decref(answered);
    answered = scheduler_forecast_vm(scheduler, state, vm_named("db"));
    ck_assert_uint_eq(json_member_u64(answered, "unplaced", 0), 1);
    ck_assert_str_eq(said("h1", "rule"), "home");
    ck_assert_str_eq(said("h2", "rule"), "memory");
}
END_TEST

START_TEST(kept_disks_are_room_that_others_do_not_get)
{
    (void)stopped_on_h2("pet");
    ck_assert_int_eq(host_drain(h1, true), 0);
    (void)admit_one("other", "pet");
    settle_all();
    ck_assert_uint_eq(host_of_vm("other"), 0);
}
END_TEST

START_TEST(without_room_at_home_it_waits_and_says_both_ways_out)
{
    uint64_t vm = stopped_on_h2("pet");
    fill_h2();
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_uint_eq(settle(), 0);
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_PENDING);
    ck_assert_ptr_nonnull(
        strstr(summary(), "its disks are on h2, which does not take it now (memory: 0B "
                          "free of 512MiB): free 512MiB on h2, or add a host; or "
                          "give the disks up: berth start db --anywhere"));
    ck_assert_str_eq(said("h2", "rule"), "memory");
    ck_assert_str_eq(waits(), "its disks are on h2, which lacks memory: free 512MiB on "
                              "h2, or add a host, or berth start db --anywhere");
    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_str_eq(waits(),
                     "its disks are on h2, which is drained: berth undrain h2, or "
                     "berth start db --anywhere");
    ck_assert_int_eq(host_drain(h2, false), 0);

    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "a"), 0);
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h2);
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_READY);
}
END_TEST

START_TEST(given_up_disks_let_it_start_elsewhere)
{
    uint64_t vm = stopped_on_h2("pet");
    fill_h2();
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    settle();
    ck_assert_int_eq(set_power_at(vm, POWER_ON, true), 0);
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h1);
    ck_assert_uint_eq(vm_named("db")->status.disk_epoch, 0);
}
END_TEST

START_TEST(who_waits_for_its_home_holds_nobody_up)
{
    uint64_t vm = stopped_on_h2("pet");
    fill_h2();
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    (void)admit_one("later", "pet"); /* the same kind of VM, but free to go */
    settle_all();
    ck_assert_uint_eq(host_of_vm("later"), h1);
}
END_TEST

/* Larger ones are placed first, but not where they have a choice and others have none. */
START_TEST(who_has_a_choice_leaves_a_home_to_who_has_none)
{
    put_pet("pet", HOST_FAILURE_RESTART);
    uint64_t db = stopped_on_h2("pet");
    put_machine("large", 1, 640 * MIB, NULL);
    ck_assert_int_eq(set_power(db, POWER_ON), 0);
    (void)admit_one("a", "large");
    (void)admit_one("b", "large");

    settle_all();

    ck_assert_uint_eq(host_of_vm("db"), h2);
    ck_assert_uint_eq(host_of_vm("a"), h1);
    ck_assert_uint_eq(vm_named("b")->status.phase, PHASE_PENDING);
}
END_TEST

START_TEST(a_batch_does_not_overfill_a_home)
{
    static const char *const names[] = {"db", "a", "b"};
    put_machine("half", 1, 512 * MIB, NULL);
    uint64_t vm = stopped_on_h2("pet");
    fill_h2(); /* a and b */
    ck_assert_int_eq(set_power(vm_named("a")->meta.uid, POWER_OFF), 0);
    ck_assert_int_eq(set_power(vm_named("b")->meta.uid, POWER_OFF), 0);
    settle_all();
    ck_assert_int_eq(set_power(vm_named("a")->meta.uid, POWER_ON), 0);
    ck_assert_int_eq(set_power(vm_named("b")->meta.uid, POWER_ON), 0);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    settle_all();
    unsigned there = 0;
    for (unsigned i = 0; i < 3; i++) {
        there += host_of_vm(names[i]) == h2 ? 1U : 0U;
    }
    ck_assert_uint_eq(there, 2);
}
END_TEST

START_TEST(a_drain_leaves_stopped_vms_and_ends)
{
    uint64_t vm = stopped_on_h2("pet");
    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_uint_eq(settle(), 0);
    ck_assert_uint_eq(vm_named("db")->status.disk_host, h2);
    ck_assert_uint_eq(vms_on(h2), 0);

    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_uint_eq(settle(), 0);
    ck_assert_ptr_nonnull(
        strstr(summary(), "(drained: \"maintenance\"): berth undrain h2"));
    ck_assert_int_eq(host_drain(h2, false), 0);
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h2);
}
END_TEST

START_TEST(disks_on_a_lost_host_hold_their_vm_until_it_starts_anywhere)
{
    uint64_t vm = stopped_on_h2("pet");
    lose_h2();
    ck_assert_uint_eq(vm_named("db")->status.disk_host, h2); /* nobody has asked yet */
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    settle_all();
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_PENDING);
    ck_assert_ptr_nonnull(
        strstr(summary(), "its disks are on h2, which does not take it"));
    ck_assert_int_eq(set_power_at(vm, POWER_ON, true), 0);
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h1);
    ck_assert_uint_eq(vm_named("db")->status.disk_epoch, 0);
}
END_TEST

START_TEST(of_a_lost_vm_it_is_told_whether_it_starts_when_its_host_is_removed)
{
    static const char stays[] = "it is switched off and stays so: berth start db then";
    static const char starts[] = "and it starts elsewhere with new disks";
    uint64_t vm = admit_one("db", "loyal");
    ck_assert_int_eq(host_drain(h1, true), 0);
    settle_all();
    ck_assert_int_eq(host_drain(h1, false), 0);
    lose_h2();
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_LOST);
    ck_assert_ptr_nonnull(strstr(summary(), starts));
    ck_assert_ptr_null(strstr(summary(), stays));
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_ptr_nonnull(strstr(summary(), stays));
    ck_assert_ptr_null(strstr(summary(), starts));

    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), 0);
    settle_all();
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_STOPPED); /* as was told */
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h1);
}
END_TEST

START_TEST(who_waits_for_its_host_waits_off_it_too)
{
    uint64_t vm = stopped_on_h2("loyal");
    lose_h2();
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    settle_all();
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_PENDING);
    ck_assert_ptr_nonnull(
        strstr(summary(), "its disks are on h2, which does not take it"));
    ck_assert_ptr_nonnull(strstr(summary(), "bring h2 back"));
    silent_host = 0;
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_READY), 0);
    hear_all();
    settle_all();
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_PENDING); /* it has no lease */
    ck_assert(scheduler_may_renew(scheduler, state_host(state, h2), true));
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h2);
    ck_assert_uint_eq(vm_named("db")->status.disk_epoch, 1);
}
END_TEST

START_TEST(a_group_shrinks_by_its_stopped_members_first)
{
    put_machine("half", 1, 512 * MIB, NULL);
    put_group("web", "half", 3);
    settle_all();
    uint64_t off = vm_named("web-2")->meta.uid;
    ck_assert_int_eq(set_power(off, POWER_OFF), 0);
    settle_all();
    ck_assert_uint_ne(state_vm(state, off)->status.disk_host, 0);
    ck_assert_uint_eq(state_group_vms(state, group_named("web")),
                      3); /* it is still one */

    ck_assert_int_eq(scale("web", 2, true), 0);
    settle_all();

    ck_assert_ptr_null(state_vm(state, off));
    ck_assert_uint_eq(vm_named("web-1")->status.phase, PHASE_READY);
    ck_assert_uint_eq(vm_named("web-3")->status.phase, PHASE_READY);
}
END_TEST

START_TEST(a_stopped_member_starts_as_what_it_was)
{
    put_machine("half", 1, 512 * MIB, NULL);
    put_group("web", "half", 1);
    settle_all();
    uint64_t vm = vm_named("web-1")->meta.uid;
    uint64_t home = vm_named("web-1")->status.host;
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    settle_all();
    put_machine("half", 1, 4 * GIB, NULL); /* more than any host has */

    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    settle_all();

    ck_assert_uint_eq(host_of_vm("web-1"), home);
    ck_assert_uint_eq(vm_named("web-1")->spec.machine.memory.size_bytes, 512 * MIB);
}
END_TEST

static bool goes_on(void *context, const struct host *host)
{
    (void)context;
    (void)host;
    return true;
}

/* Whatever its restart policy says: nobody knows that it does not run elsewhere. */
START_TEST(a_vm_that_waits_is_not_started_by_a_cluster_that_began_again)
{
    const struct rebirth rebirth = {
        .wall_ms = 1, .reason = "recovered", .keeps = _i == 0 ? goes_on : NULL};
    struct template *template = make_template(DEFAULT_TENANT, "r", NULL);
    template->spec.lifecycle.restart.policy = RESTART_ALWAYS;
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_int_eq(level_at_least(LEVEL_PLACE_UNKNOWN), 0);
    (void)admit_one("db", "r");
    settle_all();
    const char *home = state_host(state, host_of_vm("db"))->meta.name;
    ck_assert_int_eq(state_rebirth(state, &rebirth, NULL), 0);
    settle();
    if (_i == 0) {
        char start[128];
        (void)snprintf(start, sizeof(start),
                       "berth start db starts it with the disks that %s keeps", home);
        ck_assert_int_eq(vm_named("db")->status.phase, PHASE_STOPPED);
        ck_assert_ptr_nonnull(strstr(summary(), "may run on another host of before"));
        ck_assert_ptr_nonnull(strstr(summary(), start));
    } else {
        ck_assert_int_eq(vm_named("db")->status.phase, PHASE_LOST);
        ck_assert_ptr_nonnull(
            strstr(summary(), "it stays stopped until berth start db --anywhere"));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disks_home");
    TCase *tests = tcase_create("disks_home");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_stopped_vm_starts_where_its_disks_are);
    tcase_add_test(tests, a_plan_says_that_it_starts_where_its_disks_are);
    tcase_add_test(tests, kept_disks_are_room_that_others_do_not_get);
    tcase_add_test(tests, without_room_at_home_it_waits_and_says_both_ways_out);
    tcase_add_test(tests, given_up_disks_let_it_start_elsewhere);
    tcase_add_test(tests, who_waits_for_its_home_holds_nobody_up);
    tcase_add_test(tests, who_has_a_choice_leaves_a_home_to_who_has_none);
    tcase_add_test(tests, a_batch_does_not_overfill_a_home);
    tcase_add_test(tests, a_drain_leaves_stopped_vms_and_ends);
    tcase_add_test(tests,
                   of_a_lost_vm_it_is_told_whether_it_starts_when_its_host_is_removed);
    tcase_add_test(tests, disks_on_a_lost_host_hold_their_vm_until_it_starts_anywhere);
    tcase_add_test(tests, who_waits_for_its_host_waits_off_it_too);
    tcase_add_loop_test(
        tests, a_vm_that_waits_is_not_started_by_a_cluster_that_began_again, 0, 2);
    tcase_add_test(tests, a_group_shrinks_by_its_stopped_members_first);
    tcase_add_test(tests, a_stopped_member_starts_as_what_it_was);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
