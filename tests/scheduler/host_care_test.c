/* Goal: a failing host is called what it is, once; a drained host empties without anyone
 * being down for nothing; a network leaves a host after its last VM. Method: steps of the
 * whole scheduler, every command applied. */
#include "model/state_rebirth.h"
#include "scheduler_fixture.h"

static uint64_t h2;

static void setup(void)
{
    cluster_start();
    h2 = make_host("h2", 2, 4000, 1 * GIB);
    hear_all();
}

static unsigned in_phase(enum phase phase)
{
    unsigned count = 0;
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_next(state, KIND_VM, &cursor)) != NULL;) {
        count += vm->status.phase == (uint32_t)phase;
    }
    return count;
}

static void ready_vms(const char *prefix, unsigned count, uint64_t host)
{
    for (unsigned i = 0; i < count; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "%s-%u", prefix, i);
        (void)ready_vm(name, host);
    }
}

static enum host_phase phase_of(uint64_t host)
{
    return state_host(state, host)->status.phase;
}

/* ---- hosts that fail ---- */

START_TEST(a_silent_host_becomes_suspect_then_lost_and_its_vms_go_elsewhere)
{
    uint64_t vm = ready_vm("a", h2);
    silent_host = h2;
    unsigned moves = 0;
    uint64_t began_ns = now_ns;
    while (phase_of(h2) != HOST_PHASE_LOST) {
        ck_assert(scheduler_may_renew(scheduler, state_host(state, h2), false));
        time_passes(50);
        hear_all();
        uint32_t count = step_once();
        moves += commands_of(COMMAND_HOST_PHASE);
        ck_assert_uint_eq(commands_of(COMMAND_HOST_PHASE), count);
        bool given_up =
            count > 0 && decisions->commands[0].body.host_phase.phase == HOST_PHASE_LOST;
        ck_assert(given_up !=
                  scheduler_may_renew(scheduler, state_host(state, h2), false));
        apply_batch();
        ck_assert(state_vm(state, vm)->status.epoch == 1);
        ck_assert_uint_lt(now_ns - began_ns, 7 * NS_PER_S);
    }
    ck_assert_uint_eq(moves, 2);
    ck_assert_uint_gt(now_ns - began_ns, host_watch_lease_over_ns());
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_PENDING);
    hear(h2); /* back at this moment: its old orders still name the VM */
    ck_assert(!scheduler_may_renew(scheduler, state_host(state, h2), true));
    settle();
    ck_assert_int_eq(phase_of(h2), HOST_PHASE_READY);
    ck_assert(!scheduler_may_renew(scheduler, state_host(state, h2), false));
    ck_assert(scheduler_may_renew(scheduler, state_host(state, h2), true));

    ck_assert_uint_eq(host_of_vm("a"), h1);
    ck_assert_uint_eq(state_vm(state, vm)->status.epoch, 2);
}
END_TEST

START_TEST(nothing_else_is_decided_beside_the_fate_of_hosts)
{
    (void)admit_plain("a");
    silent_host = h2;
    time_passes(1600);
    hear_all();

    ck_assert_uint_eq(step_once(), 1);
    ck_assert_uint_eq(commands_of(COMMAND_HOST_PHASE), 1);
    apply_batch();
    ck_assert_uint_eq(step_and_apply(), 1);
    ck_assert_uint_eq(host_of_vm("a"), h1);
}
END_TEST

START_TEST(a_suspect_host_gets_nothing_and_keeps_what_it_has)
{
    uint64_t vm = ready_vm("a", h2);
    ck_assert_int_eq(host_drain(h1, true), 0);
    silent_host = h2;
    time_passes(1600);
    hear_all();
    settle();
    (void)admit_plain("b");
    settle();

    ck_assert_uint_eq(host_of_vm("b"), 0);
    ck_assert_uint_eq(state_vm(state, vm)->status.host, h2);
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_READY);

    silent_host = 0;
    hear_all();
    settle();
    ck_assert_uint_eq(host_of_vm("b"), h2);
}
END_TEST

START_TEST(a_vm_that_waits_for_its_host_is_not_started_elsewhere)
{
    struct template *template = make_template(DEFAULT_TENANT, "waits", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    uint64_t vm = admit_one("a", "waits");
    ck_assert_int_eq(place(vm, h2, 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    silent_host = h2;
    for (unsigned i = 0; i < 100; i++) {
        time_passes(250);
        hear_all();
        settle();
    }
    ck_assert_int_eq(phase_of(h2), HOST_PHASE_LOST);
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_LOST);
    ck_assert_uint_eq(state_vm(state, vm)->status.host, h2);
    ck_assert_uint_eq(state_vm(state, vm)->status.epoch, 1);
}
END_TEST

/* ---- drain ---- */

START_TEST(a_drained_host_empties_a_few_at_a_time)
{
    ready_vms("a", 8, h2);
    ck_assert_int_eq(host_drain(h2, true), 0);
    unsigned most = 0;
    for (unsigned i = 0; i < 20 && vms_on(h2) > 0; i++) {
        settle();
        most = in_phase(PHASE_STOPPING) > most ? in_phase(PHASE_STOPPING) : most;
        hosts_work();
    }
    settle_all();

    ck_assert_uint_eq(most, 4);
    ck_assert_uint_eq(vms_on(h2), 0);
    ck_assert_uint_eq(vms_on(h1), 8);
    ck_assert_uint_eq(in_phase(PHASE_READY), 8);
    ck_assert_uint_eq(step_once(), 0);
}
END_TEST

START_TEST(nobody_is_stopped_for_a_drain_that_has_nowhere_to_put_it)
{
    ready_vms("a", 4, h2);
    ready_vms("b", 7, h1); /* room for one more */
    ck_assert_int_eq(host_drain(h2, true), 0);

    settle();
    ck_assert_uint_eq(in_phase(PHASE_STOPPING), 1);
    /* Its room is still to be filled: nobody else may leave for it. */
    for (unsigned i = 0; i < 5; i++) {
        (void)host_drain(h1, i % 2 == 0); /* the revision moves */
        (void)host_drain(h1, false);
        settle();
        ck_assert_uint_eq(in_phase(PHASE_STOPPING), 1);
    }
    settle_all();
    ck_assert_uint_eq(vms_on(h2), 3);
    ck_assert_uint_eq(in_phase(PHASE_READY), 11);
}
END_TEST

START_TEST(two_drained_hosts_do_not_count_on_the_same_room)
{
    uint64_t h3 = make_host("h3", 3, 4000, 128 * MIB);
    hear_all();
    ready_vms("a", 4, h1);
    ready_vms("b", 4, h2);
    ck_assert_int_eq(host_drain(h1, true), 0);
    ck_assert_int_eq(host_drain(h2, true), 0);
    settle();
    ck_assert_uint_eq(in_phase(PHASE_STOPPING), 1);
    settle_all();
    ck_assert_uint_eq(vms_on(h3), 1);
    ck_assert_uint_eq(in_phase(PHASE_READY), 8);
}
END_TEST

START_TEST(a_vm_that_stops_for_drains_stays_off)
{
    struct template *template = make_template(DEFAULT_TENANT, "stays", NULL);
    template->spec.lifecycle.host_drain = HOST_DRAIN_STOP;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    uint64_t vm = admit_one("a", "stays");
    ck_assert_int_eq(place(vm, h2, 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    ck_assert_int_eq(host_drain(h2, true), 0);
    settle_all();

    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_STOPPED);
    ck_assert_int_eq(state_vm(state, vm)->spec.power, POWER_OFF);
}
END_TEST

START_TEST(hard_anti_affinity_keeps_a_vm_on_the_drained_host_until_there_is_another)
{
    struct template *template = make_template(DEFAULT_TENANT, "apart", NULL);
    template->spec.placement.spread.by = SPREAD_HOST;
    template->spec.placement.spread.max = 1;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    put_group("web", "apart", 2);
    settle_all();
    ck_assert_uint_eq(vms_on(h1), 1);
    ck_assert_uint_eq(vms_on(h2), 1);
    ck_assert_int_eq(host_drain(h2, true), 0);
    settle_all();
    ck_assert_uint_eq(vms_on(h2), 1);
    ck_assert_uint_eq(in_phase(PHASE_READY), 2);

    uint64_t h3 = make_host("h3", 3, 4000, 1 * GIB);
    hear_all();
    settle_all();
    ck_assert_uint_eq(vms_on(h3), 1);
    ck_assert_uint_eq(vms_on(h2), 0);
}
END_TEST

START_TEST(a_drained_host_that_is_not_heard_is_left_alone)
{
    ready_vms("a", 2, h2);
    ck_assert_int_eq(host_drain(h2, true), 0);
    silent_host = h2;
    time_passes(1600);
    hear_all();
    settle();

    ck_assert_int_eq(phase_of(h2), HOST_PHASE_SUSPECT);
    ck_assert_uint_eq(in_phase(PHASE_READY), 2);
}
END_TEST

/* ---- networks ---- */

static bool front_is_on(uint64_t host)
{
    const struct network *network = state_network(state, front);
    for (uint32_t i = 0; i < network->status.hosts.count; i++) {
        if (network->status.hosts.items[i].host == host) {
            return true;
        }
    }
    return false;
}

START_TEST(a_network_leaves_a_host_after_its_last_vm)
{
    ck_assert_int_eq(host_drain(h1, true), 0);
    ck_assert_int_eq(network_host(front, h1, ADDRESS(2)), 0); /* for nothing */
    uint64_t vm = admit_one("a", "web");
    settle_all();
    ck_assert_uint_eq(host_of_vm("a"), h2);
    ck_assert(front_is_on(h2));
    time_passes(6000);
    hear_all();
    settle();
    ck_assert(!front_is_on(h1));
    ck_assert(front_is_on(h2));

    ck_assert_int_eq(evict(vm, state_vm(state, vm)->status.epoch, STOP_INTENT_DELETE), 0);
    hosts_work();
    settle();
    ck_assert(front_is_on(h2)); /* not at every step: it costs a look at all VMs */
    time_passes(6000);
    hear_all();
    settle();
    ck_assert(!front_is_on(h2));
    time_passes(60000);
    hear_all();
    ck_assert_uint_eq(step_once(), 0);
}
END_TEST

START_TEST(a_network_stays_where_a_vm_is_about_to_be)
{
    ck_assert_int_eq(host_drain(h2, true), 0);
    time_passes(6000);
    hear_all();
    (void)admit_one("a", "web");
    (void)step_once(); /* the sweep and the placement meet in one batch */
    ck_assert_uint_eq(commands_of(COMMAND_PLACE_VM), 1);
    apply_batch();
    ck_assert(front_is_on(h1));

    uint64_t vm = vm_named("a")->meta.uid;
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    ck_assert_int_eq(host_drain(h2, false), 0);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(9)), 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), 0);
    time_passes(6000);
    hear_all();
    settle();
    ck_assert(front_is_on(h2));
}
END_TEST

static bool any(void *context, const struct host *host)
{
    (void)context;
    (void)host;
    return true;
}

/* Its host is heard late, and says then that it has run the VM all the while. */
START_TEST(a_network_stays_where_a_vm_may_run_of_which_that_is_not_known)
{
    struct err err;
    ck_assert_int_eq(level_at_least(LEVEL_PLACE_UNKNOWN), 0);
    struct template *template = make_template(DEFAULT_TENANT, "patient", "front");
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_int_eq(host_drain(h1, true), 0);
    uint64_t vm = admit_one("db", "patient");
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h2);
    const uint64_t epoch = state_vm(state, vm)->status.epoch;
    const struct rebirth rebirth = {
        .wall_ms = fixture_wall_ms, .reason = "recovered", .keeps = any};
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0);
    ck_assert_uint_eq(host_of_vm("db"), 0);
    ck_assert(state_place_unknown(state, state_vm(state, vm)));

    time_passes(6000);
    hear_all();
    settle();

    ck_assert(front_is_on(h2));
    ck_assert_int_eq(report(vm, h2, epoch, PHASE_RUNNING, 0), 0);
    ck_assert_uint_eq(host_of_vm("db"), h2);

    /* Of one that has stopped there, as is known, only the disks are left. */
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    ck_assert_uint_eq(state_vm(state, vm)->status.disk_host, h2);
    time_passes(6000);
    hear_all();
    settle();
    ck_assert(!front_is_on(h2));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("host_care");
    Suite *suite = suite_create("host_care");
    tcase_add_checked_fixture(tests, setup, cluster_stop);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests,
                   a_silent_host_becomes_suspect_then_lost_and_its_vms_go_elsewhere);
    tcase_add_test(tests, nothing_else_is_decided_beside_the_fate_of_hosts);
    tcase_add_test(tests, a_suspect_host_gets_nothing_and_keeps_what_it_has);
    tcase_add_test(tests, a_vm_that_waits_for_its_host_is_not_started_elsewhere);
    tcase_add_test(tests, a_drained_host_empties_a_few_at_a_time);
    tcase_add_test(tests, nobody_is_stopped_for_a_drain_that_has_nowhere_to_put_it);
    tcase_add_test(tests, two_drained_hosts_do_not_count_on_the_same_room);
    tcase_add_test(tests, a_vm_that_stops_for_drains_stays_off);
    tcase_add_test(
        tests, hard_anti_affinity_keeps_a_vm_on_the_drained_host_until_there_is_another);
    tcase_add_test(tests, a_drained_host_that_is_not_heard_is_left_alone);
    tcase_add_test(tests, a_network_leaves_a_host_after_its_last_vm);
    tcase_add_test(tests, a_network_stays_where_a_vm_is_about_to_be);
    tcase_add_test(tests, a_network_stays_where_a_vm_may_run_of_which_that_is_not_known);
    return test_main_run(suite);
}
