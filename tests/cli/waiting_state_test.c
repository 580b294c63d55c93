/* Goal: who waits for VMs to be stopped, or to stand still, waits until that is so of
 * all, not longer than asked, and not for what nobody wishes any more. */
#include "answers.h"

#define VM(name)                                                                    \
    "apiVersion: berth/v1\nkind: VM\nmetadata: {name: " name "}\nspec: {template: " \
    "{name: plain}}\n"

static void two_run(void)
{
    fixture_start();
    ck_assert_int_eq(berth_fed("apply - --wait", VM("jump") "---\n" VM("db")), 0);
}

struct row {
    const char *held; /* what keeps it from being so */
    const char *command;
    const char *not_yet;
    const char *show; /* how both are then listed */
    const char *already;
};

static const struct row rows[] = {
    {"never_stopped", "stop", "is not stopped yet", "*db *stopped*jump *stopped*",
     "vm/jump: is stopped already\nvm/db: is stopped already\n"},
    {"never_paused", "pause", "does not stand still yet",
     "*db *running *paused by its user*jump *running *paused by its user*",
     "vm/jump: is paused already\nvm/db: is paused already\n"},
};

START_TEST(all_are_so_at_its_end_and_none_is_waited_for_too_long)
{
    const struct row *row = &rows[_i];
    char line[128];
    (void)snprintf(line, sizeof(line), "set %s", row->held);
    serve(line);
    (void)snprintf(line, sizeof(line), "%s jump db --wait --timeout 300ms", row->command);
    assert_ran(line, 7);
    ck_assert_contains(ran.err, row->not_yet);
    ck_assert_contains(ran.err, "next: berth show vm/jump");
    (void)snprintf(line, sizeof(line), "clear %s", row->held);
    serve(line);

    (void)snprintf(line, sizeof(line), "%s jump db --wait", row->command);
    assert_ran(line, 0);
    assert_ran("ls vm", 0);
    assert_like(ran.out, row->show);
    assert_ran(line, 0);
    ck_assert_str_eq(ran.out, row->already);

    (void)snprintf(line, sizeof(line), "%s jump --wait --timeout soon", row->command);
    assert_ran(line, 2);
    (void)snprintf(line, sizeof(line), "%s jump db --wait -o json", row->command);
    assert_ran(line, 0);
    json_t *list = json_loads(ran.out, 0, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(list, "items")), 2);
    json_decref(list);
}
END_TEST

/* ---- what no real one says in a test */

#define RUNNING                                                                        \
    "{\"kind\":\"VM\",\"metadata\":{\"name\":\"db\",\"tenant\":\"default\"},\"spec\":" \
    "{},\"status\":{\"phase\":\"ready\",\"host\":\"h2\"}}"

static const char *const taken_back[] = {
    "stop default/vm/db --wait",
    "pause default/vm/db --wait",
};

/* Somebody starts it, or lets it go on, while this waits. */
START_TEST(what_somebody_else_has_taken_back_is_not_waited_for)
{
    const struct route table[] = {
        {"GET /v1/tenants/default/vms/db", ANSWER_JSON(RUNNING)},
        {"POST /v1/tenants/default/vms/db:", ANSWER_JSON(RUNNING)},
        {NULL, NULL}};
    answers_start(NULL, table);
    const int code = berth(taken_back[_i]);
    answers_stop();
    ck_assert_msg(code == 4, "%d: %s", code, ran.err);
    ck_assert_contains(ran.err, "any more: ready");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("waiting_state");
    TCase *real = tcase_create("real");
    TCase *by_hand = tcase_create("by hand");
    tcase_add_checked_fixture(real, two_run, fixture_stop);
    tcase_add_loop_test(real, all_are_so_at_its_end_and_none_is_waited_for_too_long, 0,
                        sizeof(rows) / sizeof(rows[0]));
    tcase_set_timeout(real, 300);
    suite_add_tcase(suite, real);
    tcase_add_checked_fixture(by_hand, folder_start, folder_stop);
    tcase_add_loop_test(by_hand, what_somebody_else_has_taken_back_is_not_waited_for, 0,
                        sizeof(taken_back) / sizeof(taken_back[0]));
    tcase_set_timeout(by_hand, 300);
    suite_add_tcase(suite, by_hand);
    return test_main_run(suite);
}
