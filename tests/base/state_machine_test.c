#include "base/cleanup.h"
#include "base/state_machine.h"
#include "support/test_main.h"

#include <signal.h>

enum { IDLE, BUSY, DONE };

static bool broken; /* what the invariant says */

static bool invariant(const void *object, unsigned state)
{
    (void)object;
    (void)state;
    return !broken;
}

static const struct state_row rows[] = {
    [IDLE] = {"idle", STATE_BIT(BUSY), STATE_INITIAL},
    [BUSY] = {"busy", STATE_BIT(IDLE) | STATE_BIT(DONE), 0},
    [DONE] = {"done", 0, STATE_FINAL},
};

static const struct state_machine_type type = {.name = "job",
                                               .rows = rows,
                                               .count = ARRAY_COUNT(rows),
                                               .invariant = invariant};

START_TEST(allowed_moves_are_made)
{
    struct state_machine machine;
    state_machine_init(&machine, &type, &rows, IDLE);

    state_machine_move(&machine, BUSY, "job-1", "work came");
    state_machine_move(&machine, IDLE, "job-1", NULL);
    state_machine_move(&machine, BUSY, NULL, NULL);
    state_machine_move(&machine, DONE, "job-1", NULL);

    ck_assert_uint_eq(machine.state, DONE);
    ck_assert_str_eq(state_machine_name(&machine), "done");
}
END_TEST

START_TEST(what_is_allowed_can_be_asked_first)
{
    struct state_machine machine;
    state_machine_init(&machine, &type, NULL, IDLE);
    ck_assert(state_machine_allows(&machine, BUSY));
    ck_assert(!state_machine_allows(&machine, DONE));
    ck_assert(!state_machine_allows(&machine, IDLE));
    ck_assert(!state_machine_allows(&machine, 31));
    ck_assert(!state_machine_allows(&machine, 1000));
}
END_TEST

START_TEST(a_move_that_is_not_allowed_aborts)
{
    struct state_machine machine;
    state_machine_init(&machine, &type, NULL, IDLE);
    state_machine_move(&machine, DONE, "job-1", NULL);
}
END_TEST

START_TEST(a_state_that_does_not_exist_aborts)
{
    struct state_machine machine;
    state_machine_init(&machine, &type, NULL, IDLE);
    state_machine_move(&machine, 77, "job-1", NULL);
}
END_TEST

START_TEST(starting_in_the_middle_aborts)
{
    struct state_machine machine;
    state_machine_init(&machine, &type, NULL, BUSY);
}
END_TEST

START_TEST(a_broken_invariant_aborts)
{
    struct state_machine machine;
    state_machine_init(&machine, &type, NULL, IDLE);
    broken = true;
    state_machine_move(&machine, BUSY, "job-1", NULL);
}
END_TEST

struct sound_row {
    bool is_sound;
    unsigned count;
    struct state_row rows[3];
};

static const struct sound_row sound_rows[] = {
    {true, 1, {{"a", 0, STATE_INITIAL | STATE_FINAL}}},
    {true, 2, {{"a", STATE_BIT(1), STATE_INITIAL}, {"b", STATE_BIT(0), 0}}},
    /* reached only over a later row */
    {true,
     3,
     {{"a", STATE_BIT(2), STATE_INITIAL}, {"b", 0, STATE_FINAL}, {"c", STATE_BIT(1), 0}}},
    /* reached against the order of the rows */
    {true,
     3,
     {{"a", 0, STATE_FINAL}, {"b", STATE_BIT(0), 0}, {"c", STATE_BIT(1), STATE_INITIAL}}},
    {false, 0, {{0}}},
    {false, 1, {{"a", 0, STATE_FINAL}}},                /* no initial */
    {false, 2, {{"a", 0, STATE_INITIAL}, {"b", 0, 0}}}, /* b is not reached */
    {false,
     1,
     {{"a", STATE_BIT(0), STATE_INITIAL | STATE_FINAL}}}, /* a way out of a final */
    {false, 1, {{"a", STATE_BIT(1), STATE_INITIAL}}},     /* leads out of the table */
    {false, 1, {{NULL, 0, STATE_INITIAL}}},
};

START_TEST(an_unsound_table_is_found)
{
    const struct sound_row *row = &sound_rows[_i];
    const struct state_machine_type checked = {
        .name = "x", .rows = row->rows, .count = row->count};
    ck_assert(state_machine_type_sound(&checked) == row->is_sound);
}
END_TEST

START_TEST(a_table_may_have_as_many_states_as_bits)
{
    static struct state_row full[STATE_COUNT_MAX];
    for (unsigned i = 0; i < STATE_COUNT_MAX; i++) {
        full[i] = (struct state_row){"x", i + 1 < STATE_COUNT_MAX ? STATE_BIT(i + 1) : 0,
                                     i == 0 ? STATE_INITIAL : 0};
    }
    struct state_machine_type checked = {
        .name = "x", .rows = full, .count = STATE_COUNT_MAX};
    ck_assert(state_machine_type_sound(&checked));
    checked.count = STATE_COUNT_MAX + 1;
    ck_assert(!state_machine_type_sound(&checked));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state_machine");
    TCase *tcase = tcase_create("state_machine");
    tcase_add_test(tcase, allowed_moves_are_made);
    tcase_add_test(tcase, what_is_allowed_can_be_asked_first);
    tcase_add_test_raise_signal(tcase, a_move_that_is_not_allowed_aborts, SIGABRT);
    tcase_add_test_raise_signal(tcase, a_state_that_does_not_exist_aborts, SIGABRT);
    tcase_add_test_raise_signal(tcase, starting_in_the_middle_aborts, SIGABRT);
    tcase_add_test_raise_signal(tcase, a_broken_invariant_aborts, SIGABRT);
    tcase_add_loop_test(tcase, an_unsound_table_is_found, 0, ARRAY_COUNT(sound_rows));
    tcase_add_test(tcase, a_table_may_have_as_many_states_as_bits);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
