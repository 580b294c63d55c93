/* Goal: snapshots are made, listed, removed and gone back to by name; what is lost by it
 * is said and asked for before; --wait ends when it is so, or says why not. */
#include "berth_fixture.h"

#define OBJECTS                                                               \
    "apiVersion: berth/v1\nkind: VM\nmetadata: {name: db}\nspec: {template: " \
    "{name: plain}}\n---\napiVersion: berth/v1\nkind: VM\nmetadata: {name: "  \
    "other}\nspec: {template: {name: plain}}\n"

static void snapshot_start(void)
{
    fixture_start();
    ck_assert_int_eq(berth_fed("apply - --wait", OBJECTS), 0);
}

START_TEST(one_is_made_and_listed_with_what_it_takes)
{
    assert_ran("snapshot make db before --wait", 0);
    assert_like(ran.out, "snapshot/before: is made of vm/db\n"
                         "snapshot/before: ready, 5MiB on h?\n");
    assert_ran("snapshot make db --wait", 0);
    assert_like(ran.out, "snapshot/db-1: is made of vm/db\n*ready*");
    assert_ran("snapshot make other --wait", 0);

    assert_ran("snapshot ls", 0);
    assert_like(ran.out, "*NAME *TENANT *VM *PHASE *HOST *SIZE *TAKEN*before *db *ready "
                         "*h? *5*MiB*db-1*other-1*");
    assert_ran("snapshot ls db", 0);
    ck_assert_contains(ran.out, "db-1");
    ck_assert_ptr_null(strstr(ran.out, "other-1"));
    assert_ran("ls snapshot -o name", 0);
    ck_assert_contains(ran.out, "snapshot/before\n");
    assert_ran("show snapshot/before", 0);
    ck_assert_contains(ran.out, "VM         db");
    assert_ran("snapshot make db before -o json", 4);
    ck_assert_contains(ran.err, "snapshot before of tenant default exists already");
    assert_ran("snapshot make nobody", 3);
    assert_ran("snapshot make", 2);
}
END_TEST

START_TEST(one_that_cannot_be_made_says_why)
{
    serve("set save_fails");
    assert_ran("snapshot make db before --wait", 1);
    ck_assert_contains(ran.err, "snapshot/before is failed: no room on the disk");
    assert_ran("snapshot ls", 0);
    ck_assert_contains(ran.out, "no room on the disk");

    assert_ran("stop db", 0);
    await("show vm/db", "PHASE      stopped");
    assert_ran("snapshot make db", 4);
    ck_assert_contains(ran.err, "vm db is stopped: it cannot be saved in a snapshot");
    serve("set never_saved");
    assert_ran("snapshot make other slow --wait --timeout 300ms", 7);
    ck_assert_contains(ran.err, "snapshot/slow is still being made");
}
END_TEST

START_TEST(they_are_removed_by_name)
{
    assert_ran("snapshot make db one --wait", 0);
    assert_ran("snapshot make db two --wait", 0);

    assert_ran("snapshot rm one snapshot/two --yes --wait", 0);
    ck_assert_contains(ran.out, "removed ");
    assert_ran("snapshot ls", 0);
    ck_assert_str_eq(ran.out, "");
    ck_assert_contains(ran.err, "no snapshots");
    assert_ran("snapshot rm vm/db --yes", 2);
    assert_ran("snapshot rm one --yes", 3);
}
END_TEST

START_TEST(a_vm_goes_back_when_its_user_says_that_it_may)
{
    assert_ran("snapshot make db before --wait", 0);
    assert_ran("restore db before", 2); /* nobody can be asked */
    ck_assert_contains(ran.err, "gives up what default/vm/db has in memory and on its "
                                "disks since 20");
    ck_assert_contains(ran.err, "nothing was restored");
    assert_ran("show vm/db -o json", 0);
    ck_assert_contains(ran.out, "\"epoch\": 1");

    assert_ran("restore db snapshot/before --yes --wait", 0);
    assert_like(ran.out, "vm/db: goes back to snapshot/before\n*vm/db *ready after*\n");
    assert_ran("show vm/db -o json", 0);
    ck_assert_contains(ran.out, "\"epoch\": 2");
    ck_assert_ptr_null(strstr(ran.out, "\"restore\""));

    assert_ran("restore db nothing --yes", 3);
    assert_ran("restore other before --yes", 3);
    ck_assert_contains(ran.err, "vm other has no snapshot before");
}
END_TEST

START_TEST(one_that_waits_for_its_snapshots_host_names_both)
{
    assert_ran("snapshot make db before --wait", 0);
    serve("set no_scheduler");
    assert_ran("restore db before --yes --lazy", 0);
    await("show vm/db -o json", "\"phase\": \"pending\"");
    assert_ran("show vm/db -o json", 0);
    ck_assert_contains(ran.out, "\"restore\": \"before\"");
    ck_assert_contains(ran.out, "\"restoreLazy\": true");
    assert_ran("snapshot rm before --yes", 4);
    ck_assert_contains(ran.err, "vm db is about to start from snapshot before");
    assert_ran("start db --anywhere --yes", 0);
    assert_ran("snapshot rm before --yes --wait", 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_snapshot");
    TCase *tests = tcase_create("run_snapshot");
    tcase_add_checked_fixture(tests, snapshot_start, fixture_stop);
    tcase_add_test(tests, one_is_made_and_listed_with_what_it_takes);
    tcase_add_test(tests, one_that_cannot_be_made_says_why);
    tcase_add_test(tests, they_are_removed_by_name);
    tcase_add_test(tests, a_vm_goes_back_when_its_user_says_that_it_may);
    tcase_add_test(tests, one_that_waits_for_its_snapshots_host_names_both);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
