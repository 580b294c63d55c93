/* Goal: VMs that wait are placed in the right order, with addresses and epochs that apply
 * takes; VMs that ended are started again when, and only when, they should be. Method:
 * steps of the whole scheduler, every command applied. */
#include "scheduler_fixture.h"

static uint64_t h2;

static void setup(void)
{
    cluster_start();
    h2 = make_host("h2", 2, 4000, 1 * GIB);
    hear_all();
}

static void admit_priority(const char *name, uint32_t priority, uint64_t memory_bytes)
{
    struct template *template = make_template(DEFAULT_TENANT, name, NULL);
    template->spec.placement.priority = priority;
    template->spec.memory.size_bytes = memory_bytes;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    (void)admit_one(name, name);
}

/* ---- placement ---- */

START_TEST(pending_vms_are_placed_with_the_next_epoch)
{
    uint64_t vm = admit_plain("a");
    settle();
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_PLACED);
    ck_assert_uint_eq(state_vm(state, vm)->status.epoch, 1);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_MOVE), 0);
    settle_all();
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_READY);
    ck_assert_uint_eq(state_vm(state, vm)->status.epoch, 2);
}
END_TEST

START_TEST(what_is_switched_off_is_not_placed)
{
    uint64_t vm = admit_plain("a");
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_uint_eq(settle(), 0);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_uint_eq(settle(), 1);
}
END_TEST

START_TEST(higher_priority_goes_first_then_the_larger_then_the_older)
{
    ck_assert_int_eq(host_drain(h2, true), 0);
    admit_priority("low", 10, 512 * MIB);
    admit_priority("small", 50, 128 * MIB);
    admit_priority("large", 50, 640 * MIB);
    admit_priority("high", 90, 256 * MIB);
    settle(); /* 1 GiB: 256 + 640 + 128 */

    ck_assert_uint_eq(host_of_vm("high"), h1);
    ck_assert_uint_eq(host_of_vm("large"), h1);
    ck_assert_uint_eq(host_of_vm("small"), h1);
    ck_assert_uint_eq(host_of_vm("low"), 0);
}
END_TEST

START_TEST(who_may_go_to_few_hosts_goes_before_who_may_go_to_any)
{
    struct template *ruled = make_template(DEFAULT_TENANT, "ruled", NULL);
    ruled->spec.memory.size_bytes = 512 * MIB;
    ruled->spec.placement.require.items = calloc(1, sizeof(char *));
    ruled->spec.placement.require.items[0] = strdup("host.name == h1");
    ruled->spec.placement.require.count = 1;
    ck_assert_int_eq(put(KIND_TEMPLATE, ruled), 0);
    admit_priority("large-1", 50, 640 * MIB);
    admit_priority("large-2", 50, 640 * MIB);
    (void)admit_one("bound", "ruled");
    settle();

    ck_assert_uint_eq(host_of_vm("bound"), h1);
    ck_assert_uint_eq(host_of_vm("large-1"), h2);
    ck_assert_uint_eq(host_of_vm("large-2"), 0);
}
END_TEST

START_TEST(a_vm_that_fits_nowhere_holds_nobody_up)
{
    admit_priority("giant", 100, 512 * GIB);
    for (unsigned i = 0; i < 8; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "a-%u", i);
        (void)admit_plain(name);
    }
    ck_assert_uint_eq(settle(), 8);
    ck_assert_uint_eq(host_of_vm("giant"), 0);
    ck_assert_uint_eq(step_once(), 0); /* and nothing is tried again and again */

    (void)make_host("h3", 3, 64000, 1024 * GIB);
    hear_all();
    ck_assert_uint_eq(settle(), 1);
    ck_assert_uint_ne(host_of_vm("giant"), 0);
}
END_TEST

START_TEST(a_batch_never_overfills_a_host)
{
    for (unsigned i = 0; i < 40; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "a-%u", i);
        (void)admit_plain(name);
    }
    ck_assert_uint_eq(step_once(), 16);
    ck_assert_uint_eq(commands_of(COMMAND_PLACE_VM), 16);
    apply_batch();
    ck_assert_uint_eq(vms_on(h1), 8);
    ck_assert_uint_eq(vms_on(h2), 8);
    ck_assert_uint_eq(step_once(), 0);
}
END_TEST

START_TEST(room_promised_to_a_migration_is_not_given_away)
{
    for (unsigned i = 0; i < 8; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "a-%u", i);
        (void)ready_vm(name, i < 7 ? h1 : h2);
    }
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm_named("a-7")->meta.uid, 1, h1),
                     0);
    ck_assert_int_eq(host_drain(h2, true), 0);
    (void)admit_plain("b");
    while (step_and_apply() > 0) { /* whatever else there is to do */
    }
    ck_assert_uint_eq(host_of_vm("b"), 0);
}
END_TEST

START_TEST(addresses_of_a_batch_are_all_different_and_stay)
{
    uint32_t seen[12];
    for (unsigned i = 0; i < 12; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "a-%u", i);
        (void)admit_one(name, "web");
    }
    settle_all();
    for (unsigned i = 0; i < 12; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "a-%u", i);
        const struct vm *vm = vm_named(name);
        seen[i] = vm->status.nics.items[0].ipv4;
        ck_assert_uint_ne(seen[i], 0);
        for (unsigned j = 0; j < i; j++) {
            ck_assert_uint_ne(seen[i], seen[j]);
        }
    }
    uint64_t vm = vm_named("a-5")->meta.uid;
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_MOVE), 0);
    settle_all();
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_READY);
    ck_assert_uint_eq(state_vm(state, vm)->status.nics.items[0].ipv4, seen[5]);
}
END_TEST

START_TEST(two_nics_in_one_network_get_two_addresses)
{
    struct template *template = make_template(DEFAULT_TENANT, "twin", "front");
    struct record_list list = {.items = template->spec.nics.items, .count = 1};
    struct nic_spec *nic = record_list_add(&nic_spec_record, &list);
    set_name(nic->name, "eth1");
    set_name(nic->network, "front");
    template->spec.nics.items = list.items;
    template->spec.nics.count = list.count;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    (void)admit_one("a", "twin");
    settle();

    const struct vm *vm = vm_named("a");
    ck_assert_int_eq(vm->status.phase, PHASE_PLACED);
    ck_assert_uint_ne(vm->status.nics.items[0].ipv4, vm->status.nics.items[1].ipv4);
}
END_TEST

START_TEST(a_full_network_holds_up_only_its_own_vms)
{
    ck_assert_int_eq(put(KIND_NETWORK, make_network(DEFAULT_TENANT, "tiny",
                                                    ((uint64_t)0x0a010000 << 8) | 29)),
                     0);
    put_machine("small", 1, 64 * MIB, "tiny");
    for (unsigned i = 0; i < 8; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "t-%u", i);
        (void)admit_one(name, "small");
    }
    (void)admit_plain("a");
    settle_all();

    ck_assert_uint_ne(host_of_vm("a"), 0);
    unsigned placed = 0;
    for (unsigned i = 0; i < 8; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "t-%u", i);
        placed += host_of_vm(name) != 0;
    }
    ck_assert_uint_eq(placed, 4); /* six, less the gateway and one host */
    ck_assert_uint_eq(step_once(), 0);
}
END_TEST

START_TEST(more_than_a_batch_follows_in_the_next)
{
    set_host(h1, 4000000, 1024 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    set_host(h2, 4000000, 1024 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    for (unsigned i = 0; i < DECISIONS_MAX + 88; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "a-%u", i);
        (void)admit_plain(name);
    }
    ck_assert_uint_eq(step_and_apply(), DECISIONS_MAX);
    ck_assert_uint_eq(step_and_apply(), 88);
    ck_assert_uint_eq(step_and_apply(), 0);
}
END_TEST

/* A batch that is full in the middle of a VM (its host's address, but not its place). */
START_TEST(a_batch_never_ends_in_the_middle_of_a_vm)
{
    set_host(h1, 4000000, 1024 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    ck_assert_int_eq(host_drain(h2, true), 0);
    for (unsigned i = 0; i < DECISIONS_MAX - 1; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "a-%u", i);
        (void)admit_plain(name);
    }
    put_machine("late", 1, 64 * MIB, "front"); /* smaller, so last in the batch */
    (void)admit_one("b", "late");

    ck_assert_uint_eq(step_once(), DECISIONS_MAX - 1);
    ck_assert_uint_eq(commands_of(COMMAND_NETWORK_HOST), 0);
    apply_batch();
    ck_assert_uint_eq(step_once(), 2);
    apply_batch();
    ck_assert_uint_eq(host_of_vm("b"), h1);
}
END_TEST

/* ---- restart ---- */

static void put_restart(enum restart_policy policy, uint32_t attempts)
{
    struct template *template = make_template(DEFAULT_TENANT, "r", NULL);
    template->spec.lifecycle.restart.policy = policy;
    template->spec.lifecycle.restart.attempts = attempts;
    template->spec.lifecycle.restart.backoff_ms = 1000;
    template->spec.lifecycle.restart.backoff_max_ms = 5000;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

static uint64_t running(void)
{
    uint64_t vm = admit_one("a", "r");
    settle_all();
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_READY);
    return vm;
}

static const struct {
    enum restart_policy policy;
    enum phase end;
    bool again;
} ends[] = {
    {RESTART_ON_FAILURE, PHASE_FAILED, true}, {RESTART_ON_FAILURE, PHASE_STOPPED, false},
    {RESTART_ALWAYS, PHASE_FAILED, true},     {RESTART_ALWAYS, PHASE_STOPPED, true},
    {RESTART_NEVER, PHASE_FAILED, false},     {RESTART_NEVER, PHASE_STOPPED, false},
};

START_TEST(the_policy_says_who_is_started_again)
{
    put_restart(ends[_i].policy, 10);
    uint64_t vm = running();
    ck_assert_int_eq(reports(vm, ends[_i].end), 0);
    ck_assert_uint_eq(settle(), 0); /* not before the back-off is over */
    time_passes(1000);
    hear_all();
    settle_all();

    ck_assert_int_eq(state_vm(state, vm)->status.phase,
                     ends[_i].again ? PHASE_READY : ends[_i].end);
    ck_assert_uint_eq(state_vm(state, vm)->status.epoch, ends[_i].again ? 2 : 1);
}
END_TEST

START_TEST(each_failure_in_a_row_waits_longer_until_it_stays_failed)
{
    static const uint64_t waits_ms[] = {1000, 2000, 4000, 5000};
    put_restart(RESTART_ON_FAILURE, 4);
    uint64_t vm = running();
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
        time_passes(waits_ms[i] - 1);
        hear_all();
        ck_assert_uint_eq(settle(), 0);
        time_passes(1);
        ck_assert_uint_gt(settle(), 0);
        settle_all();
        ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_READY);
        ck_assert_uint_eq(state_vm(state, vm)->status.epoch, i + 2);
    }
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    for (unsigned i = 0; i < 100; i++) {
        time_passes(1000);
        hear_all();
        ck_assert_uint_eq(settle(), 0);
    }
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_FAILED);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0); /* berth start */
    settle_all();
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_READY);
}
END_TEST

START_TEST(no_attempts_means_no_restart)
{
    put_restart(RESTART_ON_FAILURE, 0);
    uint64_t vm = running();
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    time_passes(60000);
    hear_all();
    ck_assert_uint_eq(settle(), 0);
}
END_TEST

START_TEST(a_vm_that_its_user_stops_while_it_waits_stays_stopped)
{
    put_restart(RESTART_ALWAYS, 10);
    uint64_t vm = running();
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    time_passes(60000);
    hear_all();
    ck_assert_uint_eq(settle(), 0);
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_STOPPED);
}
END_TEST

START_TEST(a_wall_clock_that_stepped_back_does_not_hold_a_restart_for_ever)
{
    put_restart(RESTART_ON_FAILURE, 10);
    uint64_t vm = running();
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    fixture_wall_ms -= 100000;
    settle_all();
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_READY);
}
END_TEST

START_TEST(the_next_step_is_due_when_the_backoff_ends)
{
    put_restart(RESTART_ON_FAILURE, 10);
    uint64_t vm = running();
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    time_passes(970);
    hear_all();
    ck_assert_uint_eq(step_once(), 0);

    ck_assert_uint_eq(scheduler_next_ns(scheduler, state, now_ns),
                      now_ns + 30 * NS_PER_MS);
    time_passes(30);
    ck_assert_uint_gt(step_once(), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("vm_care");
    Suite *suite = suite_create("vm_care");
    tcase_add_checked_fixture(tests, setup, cluster_stop);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, pending_vms_are_placed_with_the_next_epoch);
    tcase_add_test(tests, what_is_switched_off_is_not_placed);
    tcase_add_test(tests, higher_priority_goes_first_then_the_larger_then_the_older);
    tcase_add_test(tests, who_may_go_to_few_hosts_goes_before_who_may_go_to_any);
    tcase_add_test(tests, a_vm_that_fits_nowhere_holds_nobody_up);
    tcase_add_test(tests, a_batch_never_overfills_a_host);
    tcase_add_test(tests, room_promised_to_a_migration_is_not_given_away);
    tcase_add_test(tests, addresses_of_a_batch_are_all_different_and_stay);
    tcase_add_test(tests, two_nics_in_one_network_get_two_addresses);
    tcase_add_test(tests, a_full_network_holds_up_only_its_own_vms);
    tcase_add_test(tests, more_than_a_batch_follows_in_the_next);
    tcase_add_test(tests, a_batch_never_ends_in_the_middle_of_a_vm);
    tcase_add_loop_test(tests, the_policy_says_who_is_started_again, 0,
                        sizeof(ends) / sizeof(ends[0]));
    tcase_add_test(tests, each_failure_in_a_row_waits_longer_until_it_stays_failed);
    tcase_add_test(tests, no_attempts_means_no_restart);
    tcase_add_test(tests, a_vm_that_its_user_stops_while_it_waits_stays_stopped);
    tcase_add_test(tests,
                   a_wall_clock_that_stepped_back_does_not_hold_a_restart_for_ever);
    tcase_add_test(tests, the_next_step_is_due_when_the_backoff_ends);
    return test_main_run(suite);
}
