/* Goal: a drained host empties before the eyes of who waits, or says what is left. */
#include "berth_fixture.h"

static void drain_start(void)
{
    fixture_start();
    serve("vms vm 6");
    await("show vm/vm-00005", "PHASE      ready");
}

START_TEST(draining_moves_what_is_there_and_undraining_takes_it_back)
{
    assert_ran("drain h1 --reason 'L\xc3\xbc"
               "fter' --wait",
               0);
    assert_like(ran.out, "host/h1 is drained: no new VMs, those there move away\n"
                         "h1 is empty after *\n");
    assert_ran("host ls", 0);
    ck_assert_contains(ran.out, "drained: L\xc3\xbc"
                                "fter");
    assert_ran("undrain h1", 0);
    ck_assert_str_eq(ran.out, "host/h1 takes VMs again\n");
    assert_ran("undrain h1", 0);
    ck_assert_str_eq(ran.out, "host/h1 was not drained: nothing is changed\n");
    assert_ran("host ls", 0);
    ck_assert_ptr_null(strstr(ran.out, "drained"));
}
END_TEST

START_TEST(stopped_vms_are_named_that_stay_with_their_disks)
{
    assert_ran("ls vm -o json", 0);
    assert_ran("stop vm/vm-00000 vm/vm-00001 vm/vm-00002 vm/vm-00003 vm/vm-00004 "
               "vm/vm-00005",
               0);
    await("show vm/vm-00005", "PHASE      stopped");
    await("show vm/vm-00000", "PHASE      stopped");
    assert_ran("drain h1 --wait", 0);
    ck_assert_contains(ran.out, " is stopped and keeps its disks on h1\n");
    ck_assert_contains(ran.err, "next: berth undrain h1 before they start there");
    assert_ran("rm host/h1", 4);
    ck_assert_contains(ran.err, "host h1 keeps the disks of ");
    ck_assert_contains(ran.err, "--force");
    assert_ran("rm host/h1 --force", 2);
    assert_like(ran.err, "This removes:\n  host/h1\nand gives disks up, *\n  "
                         "default/vm/vm-0000? is stopped, its disks are on h1\n*");
    ck_assert_contains(ran.err, "berth: --force needs --yes where nobody can be asked; "
                                "nothing was removed\n");
    assert_ran("rm host/h1 --force --yes", 4); /* but not what carries the log */
    ck_assert_ptr_null(strstr(ran.err, "disks"));
}
END_TEST

START_TEST(the_last_host_that_takes_vms_says_that_they_stay)
{
    assert_ran("drain h1 --wait", 0);
    assert_ran("drain h2 --wait", 0);
    assert_ran("drain h3", 0);
    ck_assert_contains(ran.out, "host/h3 is drained: no new VMs; no other host takes VMs "
                                "either, so 6 VMs stay there until one does\n");
    assert_ran("drain h3 --wait", 5);
    ck_assert_contains(ran.err, "there is nowhere to go");
    ck_assert_ptr_null(strstr(ran.out, "keeps its disks"));

    /* Those that do not have to move are named all the same. */
    assert_ran("stop vm/vm-00000", 0);
    await("show vm/vm-00000", "PHASE      stopped");
    assert_ran("drain h3 --wait", 5);
    ck_assert_contains(ran.out, "vm/vm-00000 is stopped and keeps its disks on h3\n");
}
END_TEST

START_TEST(who_waits_too_long_is_told_what_is_left)
{
    serve("set no_scheduler");
    assert_ran("drain host/h1 --wait --timeout 500ms", 7);
    ck_assert_contains(ran.err, "VMs still on h1: ");
    ck_assert_contains(ran.err, "next: berth explain vm/vm-0000");
}
END_TEST

/* Two that no other host takes. */
#define PINNED                                                                 \
    "apiVersion: berth/v1\nkind: Template\nmetadata: {name: here}\nspec:\n"    \
    "  image: linux\n  memory: {size: 64MiB}\n"                                \
    "  placement: {require: [host.name == h1]}\n---\napiVersion: berth/v1\n"   \
    "kind: VM\nmetadata: {name: pin}\nspec: {template: {name: here}}\n---\n"   \
    "apiVersion: berth/v1\nkind: VM\nmetadata: {name: old}\nspec: {template: " \
    "{name: here}}\n"

START_TEST(who_waits_too_long_is_told_why_and_what_stays_with_its_disks)
{
    ck_assert_int_eq(berth_fed("apply - --wait", PINNED), 0);
    assert_ran("stop vm/old", 0);
    await("show vm/old", "PHASE      stopped");

    assert_ran("drain h1 --wait --timeout 500ms", 7);

    ck_assert_contains(ran.err, "  pin is ready: is to leave h1, which is drained; no "
                                "host: 1 of 3 is drained, 2 of 3 fail placement.require;"
                                " next: berth explain vm/pin");
    ck_assert_contains(ran.out, "vm/old is stopped and keeps its disks on h1\n");
}
END_TEST

/* It is stopping when the drain begins, and stays where it is. */
START_TEST(what_stops_during_a_drain_has_not_left)
{
    ck_assert_int_eq(berth_fed("apply - --wait", PINNED), 0);
    serve("set never_stopped");
    assert_ran("stop vm/pin vm/old", 0);
    struct child child = berth_start("drain h1 --wait");
    await("host ls", "drained");
    await("show vm/old", "PHASE      stopping");
    serve("clear never_stopped");
    child_wait(&child);

    ck_assert_int_eq(ran.code, 0);
    ck_assert_ptr_null(strstr(ran.err, "vm/pin has left"));
    ck_assert_ptr_null(strstr(ran.err, "vm/old has left"));
    ck_assert_contains(ran.out, "vm/old is stopped and keeps its disks on h1\n");
}
END_TEST

START_TEST(a_host_that_is_none_is_not_drained)
{
    assert_ran("drain h9", 3);
    assert_ran("undrain h9", 3);
    assert_ran("drain vm/x", 2);
    assert_ran("drain h1 --timeout 5", 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_drain");
    TCase *tests = tcase_create("run_drain");
    tcase_add_checked_fixture(tests, drain_start, fixture_stop);
    tcase_add_test(tests, draining_moves_what_is_there_and_undraining_takes_it_back);
    tcase_add_test(tests, stopped_vms_are_named_that_stay_with_their_disks);
    tcase_add_test(tests, the_last_host_that_takes_vms_says_that_they_stay);
    tcase_add_test(tests, who_waits_too_long_is_told_what_is_left);
    tcase_add_test(tests, who_waits_too_long_is_told_why_and_what_stays_with_its_disks);
    tcase_add_test(tests, what_stops_during_a_drain_has_not_left);
    tcase_add_test(tests, a_host_that_is_none_is_not_drained);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
