/* Goal: a group has the VMs its load asks for; it grows at once, shrinks only after the
 * load has been low for long, and never runs away on what it cannot see. Method: a real
 * state, loads on virtual time, and every decision applied as the log would. */
#include "base/clock.h"
#include "model/state_rebirth.h"
#include "scheduler/autoscale.h"
#include "support/state_fixture.h"

#define VMS_MAX 40

static struct load_table *loads;
static struct autoscaler *autoscaler;
static uint64_t now_ns;
static uint64_t vms[VMS_MAX];
static unsigned vm_count;
static char reason[AUTOSCALE_REASON_SIZE];

static struct scale_target *targets_instead; /* of those in the state, which today can
                                                hold one target per metric, so one */

static const struct group *web(void)
{
    static struct group copy;
    const struct group *group = FIND(KIND_GROUP, DEFAULT_TENANT, "web");
    if (targets_instead == NULL) {
        return group;
    }
    copy = *group;
    copy.spec.autoscale.targets.items = targets_instead;
    copy.spec.autoscale.targets.count = 2;
    return &copy;
}

/* Half of the vCPUs over ten seconds. */
static void put_web(uint32_t min, uint32_t max)
{
    struct group *group = make_group(DEFAULT_TENANT, "web", "small", 0);
    struct record_list list = {0};
    struct scale_target *target = record_list_add(&scale_target_record, &list);
    ck_assert_ptr_nonnull(target);
    target->target_permille = 500;
    target->window_ms = 10000;
    group->spec.autoscale.min = min;
    group->spec.autoscale.max = max;
    group->spec.autoscale.targets.items = list.items;
    group->spec.autoscale.targets.count = list.count;
    group->spec.autoscale.up.step = 4;
    group->spec.autoscale.up.cooldown_ms = 60000;
    group->spec.autoscale.down.step = 2;
    group->spec.autoscale.down.cooldown_ms = 120000;
    group->spec.autoscale.down.stable_ms = 300000;
    ck_assert_int_eq(put(KIND_GROUP, group), 0);
}

static void setup(void)
{
    fixture_start();
    loads = load_table_new();
    autoscaler = autoscaler_new();
    ck_assert(loads != NULL && autoscaler != NULL);
    now_ns = 5000 * NS_PER_S;
    fixture_wall_ms = 1000000000;
    vm_count = 0;
    targets_instead = NULL;
    struct template *small = make_template(DEFAULT_TENANT, "small", NULL);
    small->spec.memory.size_bytes = 32 * MIB;
    ck_assert_int_eq(put(KIND_TEMPLATE, small), 0);
    put_web(2, 20);
}

static void teardown(void)
{
    loads = load_table_free(loads);
    autoscaler = autoscaler_free(autoscaler);
    fixture_stop();
}

/* VMs up to `desired`, the first `ready` of which are ready, and warm. */
static void vms_make(unsigned ready)
{
    while (vm_count < web()->status.desired) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "web-%u", vm_count + 1);
        ck_assert_int_eq(admit(DEFAULT_TENANT, name, "small", "web"), 0);
        ck_assert_uint_lt(vm_count, VMS_MAX);
        vms[vm_count++] = answer.uid;
    }
    for (unsigned i = 0; i < ready; i++) {
        if (state_vm(state, vms[i])->status.phase == PHASE_PENDING) {
            ck_assert_int_eq(place(vms[i], h1, 1, 0), 0);
            ck_assert_int_eq(reports(vms[i], PHASE_READY), 0);
            load_table_add(loads, vms[i], 0, true, now_ns - LOAD_WARM_MAX_NS);
        }
    }
}

static void desire(uint32_t count)
{
    ck_assert_int_eq(scale("web", count, false), 0);
}

static void time_passes(uint64_t ms)
{
    now_ns += ms * NS_PER_MS;
    fixture_wall_ms += ms;
}

static void load_all(uint32_t permille)
{
    for (unsigned i = 0; i < vm_count; i++) {
        if (state_vm(state, vms[i]) != NULL &&
            state_vm(state, vms[i])->status.phase == PHASE_READY) {
            load_table_add(loads, vms[i], permille, true, now_ns);
        }
    }
}

static struct autoscale_view looked(void)
{
    struct autoscale_view view;
    autoscale_look(loads, state, web(), now_ns, &view);
    return view;
}

static uint32_t decided(bool may_shrink)
{
    struct autoscale_view view = looked();
    reason[0] = '\0';
    return autoscaler_decide(autoscaler, web(), &view, may_shrink, now_ns,
                             fixture_wall_ms, reason);
}

/* A second of this load, a decision, and the log's answer to it. */
static uint32_t second(uint32_t permille)
{
    time_passes(1000);
    load_all(permille);
    uint32_t desired = decided(true);
    if (desired != web()->status.desired) {
        ck_assert_str_ne(reason, "");
        desire(desired);
    }
    return desired;
}

/* ---- one look ---- */

static const struct {
    uint32_t desired;
    unsigned ready;
    uint32_t permille; /* of the ready ones; the target is 500 */
    uint32_t wish;
} looks[] = {
    {4, 4, 500, 4},
    {4, 4, 549, 4},
    {4, 4, 550, 4},
    {4, 4, 551, 5},
    {4, 4, 451, 4},
    {4, 4, 450, 4},
    {4, 4, 440, 4},
    {4, 4, 374, 3},
    {4, 4, 1000, 8},
    {4, 4, 625, 5},
    {4, 4, 626, 6},
    {4, 4, 0, 2},
    {10, 10, 1000, 20},
    {10, 10, 50, 2},
    {12, 12, 1000, 20},
    /* Half are not ready: what is coming counts as idle on the way up, */
    {8, 4, 1000, 8},
    {6, 4, 1000, 8},
    {8, 4, 800, 8},
    {8, 1, 1000, 8},
    /* and as working at the target on the way down. */
    {8, 4, 250, 6},
    {8, 4, 0, 4},
    {8, 1, 0, 7},
    {8, 7, 0, 2},
};

START_TEST(the_wish_follows_load_and_tolerance)
{
    desire(looks[_i].desired);
    vms_make(looks[_i].ready);
    load_all(looks[_i].permille);

    struct autoscale_view view = looked();

    ck_assert_uint_eq(view.wish, looks[_i].wish);
    ck_assert_uint_eq(view.ready, looks[_i].ready);
    ck_assert_uint_eq(view.coming, looks[_i].desired - looks[_i].ready);
    ck_assert_int_eq(view.mean_permille, (int)looks[_i].permille);
}
END_TEST

START_TEST(what_a_guest_burns_to_boot_is_no_load)
{
    desire(4);
    vms_make(2);
    for (unsigned i = 0; i < 20; i++) { /* the others start */
        time_passes(1000);
        load_all(300);
        load_table_add(loads, vms[2], 1000, false, now_ns);
        load_table_add(loads, vms[3], 1000, false, now_ns);
    }
    for (unsigned i = 2; i < 4; i++) {
        ck_assert_int_eq(place(vms[i], h1, 1, 0), 0);
        ck_assert_int_eq(reports(vms[i], PHASE_READY), 0);
        load_table_add(loads, vms[i], 1000, true, now_ns); /* the end of their start */
    }

    for (unsigned i = 0; i < 9; i++) {
        time_passes(1000);
        load_all(300);
        ck_assert_uint_eq(looked().ready, 2);
        ck_assert_uint_eq(looked().coming, 2);
        ck_assert_int_eq(looked().mean_permille, 300);
    }
    time_passes(1000);
    load_all(300);
    ck_assert_uint_eq(looked().ready, 4);
    ck_assert_int_eq(looked().mean_permille, 300);

    reports(vms[3], PHASE_FAILED); /* and begins anew */
    load_table_add(loads, vms[3], 1000, false, now_ns);
    ck_assert_uint_eq(looked().ready, 3);
}
END_TEST

START_TEST(without_a_measurement_nothing_changes)
{
    desire(6);
    vms_make(0);
    ck_assert_uint_eq(looked().wish, 6);
    ck_assert_int_eq(looked().mean_permille, -1);
    ck_assert_uint_eq(looked().target_permille, 500); /* known all the same */
    ck_assert_uint_eq(decided(true), 6);

    vms_make(6); /* ready, and no heartbeat has told their load yet */
    ck_assert_int_eq(looked().mean_permille, -1);
    ck_assert_uint_eq(decided(true), 6);
}
END_TEST

START_TEST(a_group_does_not_grow_without_end_while_its_vms_do_not_start)
{
    desire(2);
    vms_make(2);
    for (unsigned i = 0; i < 3600; i++) {
        second(1000);
        vms_make(2); /* the new ones stay pending */
    }

    ck_assert_uint_eq(web()->status.desired, 4);
}
END_TEST

START_TEST(vms_that_have_ended_for_good_are_made_up_for)
{
    desire(6);
    vms_make(6);
    ck_assert_int_eq(set_power(vms[5], POWER_OFF), 0); /* its user wants it off */
    load_all(900);

    ck_assert_uint_eq(looked().ended, 1);
    ck_assert_uint_eq(looked().wish, 9 + 1);
}
END_TEST

START_TEST(a_vm_that_will_be_restarted_is_coming)
{
    desire(2);
    vms_make(2);
    ck_assert_int_eq(reports(vms[1], PHASE_FAILED), 0);
    load_all(1000);

    ck_assert_uint_eq(looked().coming, 1);
    ck_assert_uint_eq(looked().ended, 0);
    ck_assert_uint_eq(looked().wish, 2);
}
END_TEST

START_TEST(vms_on_their_way_out_count_for_nothing)
{
    desire(4);
    vms_make(4);
    load_all(1000);
    ck_assert_int_eq(evict(vms[3], 1, STOP_INTENT_DELETE), 0);

    struct autoscale_view view = looked();

    ck_assert_uint_eq(view.ready, 3);
    ck_assert_uint_eq(view.coming + view.ended, 0);
    ck_assert_uint_eq(view.wish, 6);
}
END_TEST

START_TEST(the_target_that_wishes_most_wins)
{
    struct scale_target both[] = {{.target_permille = 800, .window_ms = 10000},
                                  {.target_permille = 300, .window_ms = 600000}};
    targets_instead = both;
    desire(4);
    vms_make(4);
    time_passes(60000);
    load_all(600); /* 600/800 wishes 3, 600/300 wishes 8 */

    struct autoscale_view view = looked();

    ck_assert_uint_eq(view.wish, 8);
    ck_assert_uint_eq(view.target_permille, 300);
    ck_assert_uint_eq(view.window_ms, 600000);
    ck_assert_uint_eq(decided(true), 8);
    ck_assert_str_eq(reason, "cpu 60 % of 4 VMs over 600 s, target 30 %: 4 -> 8");
}
END_TEST

START_TEST(a_target_that_cannot_be_measured_forbids_shrinking)
{
    struct scale_target both[] = {{.target_permille = 500, .window_ms = 600000},
                                  {.target_permille = 500, .window_ms = 1000}};
    targets_instead = both;
    desire(6);
    vms_make(6);
    load_all(100);
    ck_assert_uint_eq(looked().wish, 2);

    time_passes(5000); /* the short window is empty now */
    ck_assert_uint_eq(looked().wish, 6);
    for (unsigned i = 0; i < 3; i++) {
        load_all(1000);
    }
    time_passes(5000);
    ck_assert_uint_gt(looked().wish, 6); /* growing needs no second opinion */
}
END_TEST

static bool any(void *context, const struct host *host)
{
    (void)context;
    (void)host;
    return true;
}

/* Those that were not found yet after a rebirth: what looks like little load may be
 * theirs to carry soon, and what is given up may be one of them. */
START_TEST(vms_that_may_run_elsewhere_forbid_shrinking)
{
    struct err err;
    struct template *small = make_template(DEFAULT_TENANT, "small", NULL);
    small->spec.memory.size_bytes = 32 * MIB;
    small->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(level_at_least(LEVEL_PLACE_UNKNOWN), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, small), 0);
    desire(5);
    vms_make(5);
    const struct rebirth rebirth = {
        .wall_ms = fixture_wall_ms, .reason = "recovered", .keeps = any};
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(report(vms[i], h1, 1, PHASE_RUNNING, 0), 0);
        ck_assert_int_eq(reports(vms[i], PHASE_READY), 0);
    }
    load_all(250);
    ck_assert_uint_eq(looked().ready, 3);
    ck_assert_uint_eq(looked().ended, 2);
    ck_assert_uint_eq(looked().wish, 5);

    load_table_prune(loads, state);
    time_passes(60000);
    load_all(1000); /* growing needs none of them */
    ck_assert_uint_gt(looked().wish, 5);

    time_passes(60000);
    load_all(250);
    for (unsigned i = 3; i < 5; i++) {
        ck_assert_int_eq(start_surely_off(vms[i], true), 0);
        ck_assert_int_eq(set_power(vms[i], POWER_OFF), 0);
    }
    ck_assert_uint_eq(looked().ended, 2);
    ck_assert_uint_eq(looked().wish, 4); /* it is known that they do not run */
}
END_TEST

/* ---- limits ---- */

START_TEST(min_and_max_hold_whatever_the_load)
{
    desire(10);
    vms_make(10);
    put_web(12, 20); /* apply raises it itself */
    ck_assert_uint_eq(web()->status.desired, 12);

    load_all(1000);
    ck_assert_uint_eq(looked().wish, 20);
    load_table_prune(loads, state);
    time_passes(60000);
    load_all(0);
    ck_assert_uint_eq(looked().wish, 12);
}
END_TEST

START_TEST(growth_is_at_once_and_limited_by_step_and_cooldown)
{
    desire(2);
    vms_make(2);
    time_passes(60000);

    ck_assert_uint_eq(second(1000), 4); /* the wish is 4 */
    vms_make(4);
    for (unsigned i = 0; i < 60; i++) { /* the change is seen a second after it */
        ck_assert_uint_eq(second(1000), 4);
    }
    ck_assert_uint_eq(second(1000), 8); /* one step of 4 */
    vms_make(8);
    for (unsigned i = 0; i < 60; i++) {
        ck_assert_uint_eq(second(1000), 8);
    }
    ck_assert_uint_eq(second(1000), 12); /* 16 was the wish, the step allows 4 */
}
END_TEST

START_TEST(it_shrinks_only_after_a_whole_stable_window_and_step_by_step)
{
    desire(8);
    vms_make(8);
    time_passes(1000000); /* no cool-down stands in the way */
    unsigned seconds = 0;
    while (second(100) == 8) {
        ck_assert_uint_lt(seconds++, 1000);
    }

    ck_assert_uint_ge(seconds, 300);
    ck_assert_uint_le(seconds, 302);
    ck_assert_uint_eq(web()->status.desired, 6);
    ck_assert_str_eq(reason, "cpu 10 % of 8 VMs over 10 s, target 50 %: 8 -> 6");
    for (seconds = 0; second(100) == 6; seconds++) {
        ck_assert_uint_lt(seconds, 1000);
    }
    ck_assert_uint_ge(seconds, 120); /* down.cooldown */
    ck_assert_uint_le(seconds, 122);
}
END_TEST

START_TEST(it_never_shrinks_below_the_wish)
{
    desire(8);
    vms_make(8);
    time_passes(1000000);
    for (unsigned i = 0; i < 310; i++) {
        second(420); /* the wish is 7, down.step is 2 */
    }

    ck_assert_uint_eq(web()->status.desired, 7);
}
END_TEST

START_TEST(one_peak_in_the_window_keeps_the_group_as_large)
{
    desire(8);
    vms_make(8);
    time_passes(1000000);
    for (unsigned i = 0; i < 280; i++) {
        ck_assert_uint_eq(second(100), 8);
    }
    time_passes(1000);
    load_all(1000); /* lifts the mean of ten seconds to 180 of 500: the wish is 3 */
    load_all(1000);
    for (unsigned i = 0; i < 12; i++) {
        ck_assert_uint_eq(second(500), 8); /* on target: the wish is 8 */
    }
    for (unsigned i = 0; i < 290; i++) {
        ck_assert_uint_eq(second(100), 8);
    }
    unsigned seconds = 0;
    while (second(100) == 8) {
        ck_assert_uint_lt(seconds++, 40);
    }
}
END_TEST

START_TEST(a_new_leader_waits_a_whole_window_before_it_shrinks)
{
    desire(8);
    vms_make(8);
    time_passes(1000000);
    for (unsigned i = 0; i < 299; i++) {
        ck_assert_uint_eq(second(100), 8);
    }
    autoscaler_forget(autoscaler);

    for (unsigned i = 0; i < 300; i++) {
        ck_assert_uint_eq(second(100), 8);
    }
}
END_TEST

START_TEST(a_gap_in_the_measurements_starts_the_window_anew)
{
    desire(8);
    vms_make(8);
    time_passes(1000000);
    for (unsigned i = 0; i < 200; i++) {
        ck_assert_uint_eq(second(100), 8);
    }
    time_passes(200000); /* nobody looked, or nothing could be seen */

    for (unsigned i = 0; i < 300; i++) {
        ck_assert_uint_eq(second(100), 8);
    }
}
END_TEST

START_TEST(nothing_shrinks_while_hosts_fail_and_growth_goes_on)
{
    desire(8);
    vms_make(8);
    time_passes(1000000);
    for (unsigned i = 0; i < 400; i++) {
        time_passes(1000);
        load_all(100);
        ck_assert_uint_eq(decided(false), 8);
    }
    ck_assert_uint_eq(decided(true), 6);

    time_passes(20000);
    load_all(1000);
    ck_assert_uint_eq(decided(false), 12);
}
END_TEST

/* ---- clocks ---- */

START_TEST(a_wall_clock_that_steps_back_does_not_stop_growth_for_ever)
{
    desire(2);
    vms_make(2);
    time_passes(60000);
    ck_assert_uint_eq(second(1000), 4);
    vms_make(4);
    fixture_wall_ms -= UINT64_C(24) * 3600 * 1000;

    for (unsigned i = 0; i < 60; i++) {
        ck_assert_uint_eq(second(1000), 4);
    }
    ck_assert_uint_eq(second(1000), 8);
}
END_TEST

START_TEST(a_wall_clock_that_steps_forward_does_not_cut_the_cooldown)
{
    desire(2);
    vms_make(2);
    time_passes(60000);
    ck_assert_uint_eq(second(1000), 4);
    vms_make(4);
    ck_assert_uint_eq(second(1000), 4);
    fixture_wall_ms += UINT64_C(24) * 3600 * 1000;

    for (unsigned i = 0; i < 59; i++) {
        ck_assert_uint_eq(second(1000), 4);
    }
}
END_TEST

START_TEST(a_new_leader_goes_by_the_time_in_the_log)
{
    desire(4);
    vms_make(4);
    time_passes(30000);
    autoscaler_forget(autoscaler);
    load_all(1000);
    ck_assert_uint_eq(decided(true), 4); /* half the cool-down is left */
    time_passes(29000);
    load_all(1000);
    ck_assert_uint_eq(decided(true), 4);
    time_passes(1000);
    ck_assert_uint_eq(decided(true), 8);
}
END_TEST

/* ---- memory ---- */

START_TEST(prune_forgets_groups_that_nobody_asks_for)
{
    desire(8);
    vms_make(8);
    time_passes(1000000);
    for (unsigned i = 0; i < 302; i++) {
        time_passes(1000);
        load_all(100);
        (void)decided(false);
        autoscaler_prune(autoscaler, now_ns);
    }
    ck_assert_uint_eq(decided(true), 6); /* it was asked for, so its window is whole */

    autoscaler_prune(autoscaler, now_ns + 61 * NS_PER_S);
    ck_assert_uint_eq(decided(true), 8); /* a new acquaintance */
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("autoscale");
    TCase *tests = tcase_create("autoscale");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, the_wish_follows_load_and_tolerance, 0,
                        sizeof(looks) / sizeof(looks[0]));
    tcase_add_test(tests, what_a_guest_burns_to_boot_is_no_load);
    tcase_add_test(tests, without_a_measurement_nothing_changes);
    tcase_add_test(tests, a_group_does_not_grow_without_end_while_its_vms_do_not_start);
    tcase_add_test(tests, vms_that_have_ended_for_good_are_made_up_for);
    tcase_add_test(tests, a_vm_that_will_be_restarted_is_coming);
    tcase_add_test(tests, vms_on_their_way_out_count_for_nothing);
    tcase_add_test(tests, the_target_that_wishes_most_wins);
    tcase_add_test(tests, a_target_that_cannot_be_measured_forbids_shrinking);
    tcase_add_test(tests, vms_that_may_run_elsewhere_forbid_shrinking);
    tcase_add_test(tests, min_and_max_hold_whatever_the_load);
    tcase_add_test(tests, growth_is_at_once_and_limited_by_step_and_cooldown);
    tcase_add_test(tests, it_shrinks_only_after_a_whole_stable_window_and_step_by_step);
    tcase_add_test(tests, it_never_shrinks_below_the_wish);
    tcase_add_test(tests, one_peak_in_the_window_keeps_the_group_as_large);
    tcase_add_test(tests, a_new_leader_waits_a_whole_window_before_it_shrinks);
    tcase_add_test(tests, a_gap_in_the_measurements_starts_the_window_anew);
    tcase_add_test(tests, nothing_shrinks_while_hosts_fail_and_growth_goes_on);
    tcase_add_test(tests, a_wall_clock_that_steps_back_does_not_stop_growth_for_ever);
    tcase_add_test(tests, a_wall_clock_that_steps_forward_does_not_cut_the_cooldown);
    tcase_add_test(tests, a_new_leader_goes_by_the_time_in_the_log);
    tcase_add_test(tests, prune_forgets_groups_that_nobody_asks_for);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
