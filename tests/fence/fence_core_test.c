/* Goal: rule 2 of the model, as the fence keeps it. Method: small lengths, so that every
 * instant of a lease's life can be tried. */
#include "base/clock.h"
#include "base/err.h"
#include "fence/fence_core.h"
#include "support/test_main.h"

#include <check.h>

#include <stdlib.h>

#define SECOND NS_PER_S

static struct fence_core *core_with(uint64_t length_ns)
{
    const struct fence_rules rules = fence_rules_default(length_ns);
    struct fence_core *core = malloc(sizeof(*core));
    ck_assert_ptr_nonnull(core);
    fence_core_init(core, &rules);
    return core;
}

static int watch(struct fence_core *core, uint64_t uid, uint64_t epoch, int32_t pid)
{
    const struct fence_vm vm = {.uid = uid, .epoch = epoch, .pid = pid, .start_ticks = 7};
    return fence_core_watch(core, &vm);
}

START_TEST(without_a_lease_whatever_is_watched_must_end)
{
    struct fence_core *core = core_with(SECOND);

    ck_assert_int_eq(fence_core_phase(core, 0), FENCE_PHASE_KILL);
    ck_assert_uint_eq(fence_core_next_ns(core, 5), UINT64_MAX); /* nothing is watched */
    ck_assert_int_eq(watch(core, 1, 1, 100), 0);
    ck_assert_uint_le(fence_core_next_ns(core, 5), 5 + FENCE_RETRY_NS);
    free(core);
}
END_TEST

START_TEST(every_instant_of_a_lease_has_the_right_phase)
{
    struct fence_core *core =
        core_with(1000000); /* a millisecond: 1000 ns are 1 permille */
    ck_assert_int_eq(fence_core_lease(core, 5000, 5000), 1);
    ck_assert_int_eq(watch(core, 1, 1, 100), 0);

    for (uint64_t age = 0; age < 1200; age++) {
        uint64_t now_ns = 5000 + age * 1000;
        enum fence_phase want = age < 700   ? FENCE_PHASE_RUN
                                : age < 900 ? FENCE_PHASE_FREEZE
                                : age < 990 ? FENCE_PHASE_KILL
                                            : FENCE_PHASE_OVERDUE;
        ck_assert_int_eq(fence_core_phase(core, now_ns), want);
        uint64_t next_ns = fence_core_next_ns(core, now_ns);
        ck_assert_uint_gt(next_ns, now_ns);
        if (age < 700) {
            ck_assert_uint_eq(next_ns, 5000 + 700000);
        } else if (age < 900) {
            ck_assert_uint_le(next_ns, 5000 + 900000);
        }
    }
    free(core);
}
END_TEST

START_TEST(killing_comes_before_the_lease_may_be_given_away_for_every_length)
{
    struct fence_core *core = core_with(SECOND);
    for (uint64_t length_ns = 1000000; length_ns < 1003000; length_ns++) {
        core->rules = fence_rules_default(length_ns);
        core->held = core->count != 0;
        core->granted_ns = 0;
        ck_assert_int_eq(fence_core_lease(core, 7, 7), 1);
        ck_assert_int_eq(watch(core, 1, 1, 100), 0);
        uint64_t now_ns = 7;
        while (fence_core_phase(core, now_ns) != FENCE_PHASE_KILL) {
            ck_assert_int_ne(fence_core_phase(core, now_ns), FENCE_PHASE_OVERDUE);
            now_ns = fence_core_next_ns(core, now_ns);
        }
        ck_assert_uint_le(now_ns, 7 + length_ns / 1000 * 901);
    }
    free(core);
}
END_TEST

START_TEST(a_lease_only_ever_moves_forward)
{
    struct fence_core *core = core_with(SECOND);

    ck_assert_int_eq(fence_core_lease(core, 500, 600), 1);
    ck_assert_int_eq(fence_core_lease(core, 500, 700), 0);
    ck_assert_int_eq(fence_core_lease(core, 499, 700), 0);
    ck_assert_uint_eq(core->granted_ns, 500);
    ck_assert_int_eq(fence_core_lease(core, 701, 700), BERTH_EINVALID); /* the future */
    ck_assert_uint_eq(core->granted_ns, 500);
    ck_assert_int_eq(fence_core_lease(core, 700, 700), 1);
    ck_assert_uint_eq(core->granted_ns, 700);
    free(core);
}
END_TEST

START_TEST(a_vm_is_watched_once_and_no_second_process_of_it_is_taken)
{
    struct fence_core *core = core_with(SECOND);

    int slot = watch(core, 9, 3, 100);
    ck_assert_int_eq(slot, 0);
    ck_assert_int_eq(watch(core, 9, 3, 100), slot); /* again */
    ck_assert_int_eq(watch(core, 9, 3, 101), BERTH_EINUSE);
    ck_assert_int_eq(watch(core, 9, 4, 101), BERTH_EINUSE);
    ck_assert_int_eq(watch(core, 9, 2, 101), BERTH_ESTALE);
    ck_assert_uint_eq(core->count, 1);
    ck_assert_int_eq(fence_core_find(core, 9, 3), slot);
    ck_assert_int_eq(fence_core_find(core, 9, 2), BERTH_ENOTFOUND);

    fence_core_remove(core, (unsigned)slot);
    ck_assert_int_eq(watch(core, 9, 4, 101), slot); /* the earlier one has ended */
    free(core);
}
END_TEST

START_TEST(nonsense_is_not_watched)
{
    struct fence_core *core = core_with(SECOND);

    ck_assert_int_eq(watch(core, 0, 1, 100), BERTH_EINVALID);
    ck_assert_int_eq(watch(core, 1, 0, 100), BERTH_EINVALID);
    ck_assert_int_eq(watch(core, 1, 1, 1), BERTH_EINVALID); /* init */
    ck_assert_int_eq(watch(core, 1, 1, 0), BERTH_EINVALID);
    ck_assert_int_eq(fence_core_find(core, 0, 0), BERTH_ENOTFOUND); /* a free slot */
    ck_assert_uint_eq(core->count, 0);
    free(core);
}
END_TEST

START_TEST(the_table_has_a_bound_and_free_slots_are_used_again)
{
    struct fence_core *core = core_with(SECOND);
    for (unsigned i = 0; i < FENCE_VMS_MAX; i++) {
        ck_assert_int_eq(watch(core, i + 1, 1, 100), (int)i);
    }

    ck_assert_int_eq(watch(core, 99999, 1, 100), BERTH_EFULL);
    fence_core_remove(core, 17);
    ck_assert_int_eq(watch(core, 99999, 1, 100), 17);
    for (unsigned i = 0; i < FENCE_VMS_MAX; i++) {
        fence_core_remove(core, i);
    }
    ck_assert_uint_eq(core->count, 0);
    ck_assert_uint_eq(core->top, 0);
    free(core);
}
END_TEST

/* Whatever happens after the last feeding, the dog bites before L(1-d) is over. */
START_TEST(a_quick_watchdog_always_bites_in_time)
{
    struct fence_core *core = core_with(6 * SECOND);
    const uint64_t timeout_ns = 5 * SECOND;
    ck_assert(fence_core_watchdog_in_time(core, timeout_ns));
    ck_assert_int_eq(fence_core_lease(core, SECOND, SECOND), 1);
    ck_assert_int_eq(watch(core, 1, 1, 100), 0);

    for (uint64_t now_ns = SECOND; now_ns < 9 * SECOND; now_ns += 10 * NS_PER_MS) {
        bool in_time = now_ns + timeout_ns <= SECOND + 5940 * NS_PER_MS;
        ck_assert_int_eq(fence_core_may_pet(core, timeout_ns, now_ns), in_time);
    }
    fence_core_remove(core, 0); /* killed at 0.9 L: nothing has to be reset any more */
    ck_assert(fence_core_may_pet(core, timeout_ns, 6500 * NS_PER_MS));
    free(core);
}
END_TEST

/* Whenever renewals stop: fed as it is told to be, it does not bite before what was
 * killed had time to end, nor later than it must. */
START_TEST(a_quick_watchdog_leaves_time_for_the_kill)
{
    uint64_t room_ns = 400 * NS_PER_MS;
    for (uint64_t timeout_ns = SECOND; timeout_ns <= 5 * SECOND; timeout_ns += SECOND) {
        for (uint64_t fed_ns = 0; fed_ns <= SECOND; fed_ns += 10 * NS_PER_MS) {
            struct fence_core *core = core_with(6 * SECOND);
            ck_assert_int_eq(fence_core_lease(core, SECOND, SECOND), 1);
            ck_assert_int_eq(watch(core, 1, 1, 100), 0);
            uint64_t last_ns = fed_ns;
            uint64_t next_ns;
            while (next_ns = fence_core_next_pet_ns(core, timeout_ns, last_ns),
                   fence_core_may_pet(core, timeout_ns, next_ns)) {
                ck_assert_uint_gt(next_ns, last_ns);
                last_ns = next_ns;
            }
            ck_assert_uint_ge(last_ns + timeout_ns, SECOND + 5400 * NS_PER_MS + room_ns);
            ck_assert_uint_le(last_ns + timeout_ns, SECOND + 5940 * NS_PER_MS);
            free(core);
        }
    }
}
END_TEST

START_TEST(a_slow_watchdog_is_fed_until_vms_are_overdue)
{
    struct fence_core *core = core_with(6 * SECOND);
    const uint64_t timeout_ns = 60 * SECOND;
    ck_assert(!fence_core_watchdog_in_time(core, timeout_ns));
    ck_assert_int_eq(fence_core_lease(core, SECOND, SECOND), 1);
    ck_assert_int_eq(watch(core, 1, 1, 100), 0);

    ck_assert(fence_core_may_pet(core, timeout_ns, 6900 * NS_PER_MS));
    ck_assert(!fence_core_may_pet(core, timeout_ns, 6940 * NS_PER_MS));
    free(core);
}
END_TEST

START_TEST(a_host_that_was_never_leased_feeds_only_while_it_runs_nothing)
{
    struct fence_core *core = core_with(6 * SECOND);

    ck_assert(fence_core_may_pet(core, SECOND, SECOND));
    ck_assert_int_eq(watch(core, 1, 1, 100), 0);
    ck_assert(!fence_core_may_pet(core, SECOND, SECOND));
    ck_assert(!fence_core_may_pet(core, 60 * SECOND, SECOND));
    free(core);
}
END_TEST

START_TEST(rules_that_could_not_be_kept_are_not_valid)
{
    struct fence_rules rules = fence_rules_default(6 * SECOND);
    ck_assert(fence_rules_valid(&rules));

    rules.kill_permille = 991;
    ck_assert(!fence_rules_valid(&rules));
    rules.kill_permille = rules.freeze_permille;
    ck_assert(!fence_rules_valid(&rules));
    rules = fence_rules_default(999999);
    ck_assert(!fence_rules_valid(&rules));
    rules = fence_rules_default(UINT64_MAX);
    ck_assert(!fence_rules_valid(&rules));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("fence_core");
    TCase *tcase = tcase_create("core");
    tcase_add_test(tcase, without_a_lease_whatever_is_watched_must_end);
    tcase_add_test(tcase, every_instant_of_a_lease_has_the_right_phase);
    tcase_add_test(tcase,
                   killing_comes_before_the_lease_may_be_given_away_for_every_length);
    tcase_add_test(tcase, a_lease_only_ever_moves_forward);
    tcase_add_test(tcase, a_vm_is_watched_once_and_no_second_process_of_it_is_taken);
    tcase_add_test(tcase, nonsense_is_not_watched);
    tcase_add_test(tcase, the_table_has_a_bound_and_free_slots_are_used_again);
    tcase_add_test(tcase, a_quick_watchdog_always_bites_in_time);
    tcase_add_test(tcase, a_quick_watchdog_leaves_time_for_the_kill);
    tcase_add_test(tcase, a_slow_watchdog_is_fed_until_vms_are_overdue);
    tcase_add_test(tcase, a_host_that_was_never_leased_feeds_only_while_it_runs_nothing);
    tcase_add_test(tcase, rules_that_could_not_be_kept_are_not_valid);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
