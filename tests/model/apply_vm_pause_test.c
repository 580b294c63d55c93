/* Goal: a user's pause is one of a run: it is asked for where a VM runs, seen when its
 * host says so, and ends with the run, whatever ends it. */
#include "support/state_fixture.h"

#define PAUSED "paused by its user"

static uint64_t vm;

static void setup(void)
{
    fixture_start();
    ck_assert_int_eq(raise_level(LEVEL_SNAPSHOTS), 0);
    vm = ready_vm("web", h1);
}

static const struct vm *now(void)
{
    return state_vm(state, vm);
}

static void pause_it(void)
{
    ck_assert_int_eq(pause_vm(vm, true), 0);
    ck_assert_int_eq(reports_run(vm, PHASE_RUNNING, ENGINE_KVM, true, PAUSED), 0);
    ck_assert(now()->spec.paused && now()->status.paused);
}

START_TEST(a_pause_is_a_wish_until_the_host_says_that_it_stands_still)
{
    ck_assert_int_eq(pause_vm(vm, true), 0);

    ck_assert(now()->spec.paused && !now()->status.paused);
    ck_assert_uint_eq(now()->status.phase, PHASE_READY);

    ck_assert_int_eq(reports_run(vm, PHASE_RUNNING, ENGINE_KVM, true, PAUSED), 0);
    ck_assert(now()->status.paused);
    ck_assert_uint_eq(now()->status.phase, PHASE_RUNNING);
    ck_assert_uint_eq(now()->status.engine, ENGINE_KVM);
    ck_assert_str_eq(now()->status.reason, PAUSED);
    ck_assert_uint_eq(now()->status.epoch, 1);
}
END_TEST

START_TEST(a_vm_that_goes_on_is_as_it_was)
{
    pause_it();

    ck_assert_int_eq(pause_vm(vm, false), 0);
    ck_assert(!now()->spec.paused && now()->status.paused);
    ck_assert_ptr_null(now()->status.reason); /* it does not stand for its user's sake */
    ck_assert_int_eq(reports_run(vm, PHASE_RUNNING, ENGINE_KVM, false, NULL), 0);

    ck_assert(!now()->status.paused);
    ck_assert_ptr_null(now()->status.reason);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    ck_assert_uint_eq(now()->status.phase, PHASE_READY);
}
END_TEST

START_TEST(what_is_so_already_is_no_change)
{
    ck_assert_int_eq(pause_vm(vm, false), 0);
    pause_it();
    uint64_t revision = state_revision(state);

    ck_assert_int_eq(pause_vm(vm, true), 0);
    ck_assert_int_eq(reports_run(vm, PHASE_RUNNING, ENGINE_KVM, true, PAUSED), 0);

    ck_assert_uint_eq(state_revision(state), revision);
}
END_TEST

/* Each ends the run, and the pause with it; another run begins without one. */
static const enum stop_intent ends[] = {STOP_INTENT_NONE, STOP_INTENT_STOP,
                                        STOP_INTENT_MOVE, STOP_INTENT_RESTART};

START_TEST(a_pause_ends_with_its_run)
{
    pause_it();

    if (ends[_i] != STOP_INTENT_NONE) {
        ck_assert_int_eq(evict(vm, 1, ends[_i]), 0);
        ck_assert(!now()->spec.paused && !now()->status.paused);
    }
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);

    ck_assert(!now()->spec.paused && !now()->status.paused);
    ck_assert_int_eq(pause_vm(vm, true), BERTH_EPHASE);
    ck_assert_contains(answer.text, "it cannot be paused");
    ck_assert_int_eq(pause_vm(vm, false), BERTH_EPHASE);
}
END_TEST

START_TEST(only_what_runs_can_be_paused)
{
    uint64_t other = admit_plain("other");

    ck_assert_int_eq(pause_vm(other, true), BERTH_EPHASE);
    ck_assert_str_eq(answer.text, "vm other is pending: it cannot be paused");
    ck_assert_int_eq(place(other, h1, 1, 0), 0);
    ck_assert_int_eq(pause_vm(other, true), BERTH_EPHASE);
    ck_assert_int_eq(pause_vm(other + 1000, true), BERTH_ENOTFOUND);
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "web"), 0);
    ck_assert_int_eq(pause_vm(vm, true), BERTH_EPHASE);
    ck_assert_contains(answer.text, "is being deleted");
}
END_TEST

START_TEST(a_pause_ends_when_its_host_is_lost_and_the_vm_starts_elsewhere)
{
    pause_it();

    ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);

    ck_assert_uint_eq(now()->status.phase, PHASE_PENDING);
    ck_assert(!now()->spec.paused && !now()->status.paused);
}
END_TEST

START_TEST(a_vm_that_waits_for_its_host_stays_paused_there)
{
    struct template *pet = make_template(DEFAULT_TENANT, "pet", NULL);
    pet->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, pet), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "pet", "pet", ""), 0);
    vm = answer.uid;
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    pause_it();

    ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);

    ck_assert(now()->spec.paused);
    ck_assert_int_eq(pause_vm(vm, true), BERTH_EPHASE);
    ck_assert_contains(answer.text, "may still run on lost host h1");
    ck_assert_int_eq(pause_vm(vm, false), 0); /* when its host is back */
    ck_assert(!now()->spec.paused);
}
END_TEST

START_TEST(a_paused_vm_is_in_a_snapshot_of_the_state)
{
    pause_it();
    uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(state_encode(state, &data, &size), 0);
    struct state *copy = state_new(NULL, NULL);

    ck_assert_int_eq(state_decode(copy, data, size, NULL), 0);

    ck_assert(state_vm(copy, vm)->spec.paused && state_vm(copy, vm)->status.paused);
    ck_assert_uint_eq(state_hash(copy), state_hash(state));
    state_free(copy);
    free(data);
}
END_TEST

START_TEST(below_its_level_nothing_is_paused)
{
    struct err err = {0};
    struct command command;
    command_init(&command, COMMAND_PAUSE_VM);

    ck_assert_int_eq(command_check_level(&command, LEVEL_SNAPSHOTS - 1, &err),
                     BERTH_ELEVEL);

    ck_assert_str_eq(err.text, "pause_vm needs level 3, the cluster is at 2");
    command_fini(&command);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("apply_vm_pause");
    TCase *tests = tcase_create("apply_vm_pause");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, fixture_stop);
    tcase_add_test(tests, a_pause_is_a_wish_until_the_host_says_that_it_stands_still);
    tcase_add_test(tests, a_vm_that_goes_on_is_as_it_was);
    tcase_add_test(tests, what_is_so_already_is_no_change);
    tcase_add_loop_test(tests, a_pause_ends_with_its_run, 0, 4);
    tcase_add_test(tests, only_what_runs_can_be_paused);
    tcase_add_test(tests, a_pause_ends_when_its_host_is_lost_and_the_vm_starts_elsewhere);
    tcase_add_test(tests, a_vm_that_waits_for_its_host_stays_paused_there);
    tcase_add_test(tests, a_paused_vm_is_in_a_snapshot_of_the_state);
    tcase_add_test(tests, below_its_level_nothing_is_paused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
