/* Goal: why a VM is where it is, or nowhere, is a table per host with what would help. */
#include "berth_fixture.h"

#define OBJECTS                                                                    \
    "apiVersion: berth/v1\nkind: Template\nmetadata: {name: huge}\nspec: {image: " \
    "linux, memory: "                                                              \
    "{size: 8GiB}}\n---\napiVersion: berth/v1\nkind: VM\nmetadata: {name: "        \
    "whale}\nspec: {template: "                                                    \
    "{name: huge}}\n---\napiVersion: berth/v1\nkind: Group\nmetadata: {name: "     \
    "web}\nspec: {template: "                                                      \
    "{name: plain}, replicas: 1}\n"

START_TEST(every_host_has_its_verdict_reason_and_fix)
{
    ck_assert_int_eq(berth_fed("apply -", OBJECTS), 0);
    await("ls vm -g web", "ready");
    assert_ran("drain h3 --reason 'PSU swap'", 0);
    assert_ran("explain vm/whale", 0);
    assert_like(ran.out, "*\nHOST  VERDICT  REASON *NEAREST FIX\n"
                         "h1    no       *memory*\nh2    no       *memory*\nh3    no *");
    ck_assert_contains(ran.out, "PSU swap");
    assert_ran("explain group/web", 0);
    ck_assert_contains(ran.out, "HOST  VERDICT");
    assert_ran("explain vm/whale -o json", 0);
    ck_assert_contains(ran.out, "\"verdict\": \"no\"");
    assert_ran("explain host/h1", 2);
    ck_assert_contains(ran.err, "explain works for vm/NAME and group/NAME");
    assert_ran("explain vm/none", 3);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("run_explain", &tests);
    tcase_add_test(tests, every_host_has_its_verdict_reason_and_fix);
    return test_main_run(suite);
}
