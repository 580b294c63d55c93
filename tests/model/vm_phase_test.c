#include "model/state.h"
#include "support/test_main.h"

/* The table of model.md, read row by row: "X" for an allowed move. */
static const struct {
    enum phase from;
    const char *row; /* to: pending placed starting running ready migrating stopping
                        stopped failed lost */
} expected[] = {
    {PHASE_PENDING, ".X.....X.."},  {PHASE_PLACED, "..XXX.XXXX"},
    {PHASE_STARTING, "...XX.XXXX"}, {PHASE_RUNNING, "....XXXXXX"},
    {PHASE_READY, "...X.XXXXX"},    {PHASE_MIGRATING, "...XX.XXXX"},
    {PHASE_STOPPING, ".......XXX"}, {PHASE_STOPPED, "X........."},
    {PHASE_FAILED, "X......X.."},   {PHASE_LOST, "X.XXX.XXX."},
};

START_TEST(the_table_allows_these_moves_and_no_others)
{
    for (unsigned to = 0; to < PHASE_COUNT; to++) {
        bool allowed = expected[_i].row[to] == 'X';
        ck_assert_msg(vm_phase_allowed(expected[_i].from, to) == allowed, "%s -> %s",
                      phase_names[expected[_i].from], phase_names[to]);
    }
}
END_TEST

START_TEST(a_process_may_exist_from_placed_to_stopping)
{
    static const bool on_host[PHASE_COUNT] = {
        [PHASE_PLACED] = true, [PHASE_STARTING] = true,  [PHASE_RUNNING] = true,
        [PHASE_READY] = true,  [PHASE_MIGRATING] = true, [PHASE_STOPPING] = true,
    };
    for (unsigned phase = 0; phase < PHASE_COUNT; phase++) {
        ck_assert_msg(vm_phase_on_host(phase) == on_host[phase], "%s",
                      phase_names[phase]);
    }
}
END_TEST

START_TEST(every_phase_on_a_host_can_be_lost)
{
    for (unsigned phase = 0; phase < PHASE_COUNT; phase++) {
        ck_assert(vm_phase_allowed(phase, PHASE_LOST) == vm_phase_on_host(phase));
    }
}
END_TEST

START_TEST(only_what_was_asked_to_stop_stays_off_when_its_host_goes)
{
    for (int intent = 0; stop_intent_names[intent] != NULL; intent++) {
        const struct vm vm = {
            .status = {.phase = PHASE_LOST, .intent = (uint32_t)intent}};
        ck_assert_int_eq(vm_stays_off(&vm), intent == STOP_INTENT_STOP);
    }
}
END_TEST

START_TEST(every_phase_leads_back_to_pending_and_stopped)
{
    uint32_t reached[PHASE_COUNT] = {0}; /* bit n: phase n can be reached */
    for (unsigned from = 0; from < PHASE_COUNT; from++) {
        reached[from] = UINT32_C(1) << from;
    }
    for (unsigned round = 0; round < PHASE_COUNT; round++) {
        for (unsigned from = 0; from < PHASE_COUNT; from++) {
            for (unsigned to = 0; to < PHASE_COUNT; to++) {
                if (vm_phase_allowed(from, to)) {
                    reached[from] |= reached[to];
                }
            }
        }
    }
    for (unsigned from = 0; from < PHASE_COUNT; from++) {
        ck_assert_uint_eq(reached[from], (UINT32_C(1) << PHASE_COUNT) - 1);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vm_phase");
    TCase *tests = tcase_create("vm_phase");
    tcase_add_loop_test(tests, the_table_allows_these_moves_and_no_others, 0,
                        PHASE_COUNT);
    tcase_add_test(tests, a_process_may_exist_from_placed_to_stopping);
    tcase_add_test(tests, every_phase_on_a_host_can_be_lost);
    tcase_add_test(tests, only_what_was_asked_to_stop_stays_off_when_its_host_goes);
    tcase_add_test(tests, every_phase_leads_back_to_pending_and_stopped);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
