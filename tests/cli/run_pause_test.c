/* Goal: pause and resume do what they say to the VMs named, say what is so already, and
 * --wait ends when it is so. */
#include "berth_fixture.h"

#define OBJECTS                                                                         \
    "apiVersion: berth/v1\nkind: VM\nmetadata: {name: jump}\nspec: {template: "         \
    "{name: plain}}\n---\napiVersion: berth/v1\nkind: VM\nmetadata: {name: db}\nspec: " \
    "{template: {name: plain}}\n"

static void pause_start(void)
{
    fixture_start();
    ck_assert_int_eq(berth_fed("apply - --wait", OBJECTS), 0);
}

START_TEST(a_vm_stands_still_and_goes_on)
{
    assert_ran("pause jump --wait", 0);
    ck_assert_str_eq(ran.out, "vm/jump: pauses\n");
    assert_ran("ls vm", 0);
    assert_like(ran.out, "*jump *running *paused by its user*");
    assert_ran("show vm/jump -o json", 0);
    ck_assert_contains(ran.out, "\"paused\": true");
    assert_ran("pause jump db --wait", 0);
    ck_assert_str_eq(ran.out, "vm/jump: is paused already\nvm/db: pauses\n");
    assert_ran("start jump", 0);
    ck_assert_str_eq(ran.out, "vm/jump: is paused: berth resume lets it go on\n");

    assert_ran("resume jump --wait", 0);
    assert_like(ran.out, "vm/jump: goes on\ndefault/vm/jump *ready after*\n");
    assert_ran("resume jump", 0);
    ck_assert_str_eq(ran.out, "vm/jump: is not paused\n");
    assert_ran("show vm/db -o json", 0);
    ck_assert_contains(ran.out, "\"paused\": true");
}
END_TEST

START_TEST(one_that_does_not_run_is_not_paused)
{
    assert_ran("stop jump", 0);
    await("show vm/jump", "PHASE      stopped");
    assert_ran("pause jump db", 4);
    ck_assert_contains(ran.err, "vm jump is stopped: it cannot be paused");
    ck_assert_str_eq(ran.out, "vm/db: pauses\n");
    assert_ran("resume jump", 4);
    assert_ran("pause nobody", 3);
    assert_ran("pause", 2);
}
END_TEST

START_TEST(going_on_is_waited_for)
{
    assert_ran("pause jump --wait", 0);
    serve("set never_paused");
    assert_ran("resume jump --wait --timeout 300ms", 7);
    ck_assert_contains(ran.err, "vm/jump is running on h1");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_pause");
    TCase *tests = tcase_create("run_pause");
    tcase_add_checked_fixture(tests, pause_start, fixture_stop);
    tcase_add_test(tests, a_vm_stands_still_and_goes_on);
    tcase_add_test(tests, one_that_does_not_run_is_not_paused);
    tcase_add_test(tests, going_on_is_waited_for);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
