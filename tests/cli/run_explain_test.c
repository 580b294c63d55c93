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

#define LARGER                                                                      \
    "apiVersion: berth/v1\nkind: Template\nmetadata: {name: small}\nspec: {image: " \
    "linux, memory: {size: %s}}\n"
#define OF_SMALL                                                                       \
    "---\napiVersion: berth/v1\nkind: Group\nmetadata: {name: web}\nspec: {template: " \
    "{name: small}, replicas: 2}\n"

START_TEST(vms_that_are_older_than_their_template_are_told)
{
    char text[1024];
    snprintf(text, sizeof(text), LARGER OF_SMALL, "64MiB");
    ck_assert_int_eq(berth_fed("apply - --wait", text), 0);
    assert_ran("explain group/web", 0);
    ck_assert_ptr_null(strstr(ran.out, "has changed"));
    snprintf(text, sizeof(text), LARGER, "96MiB");
    ck_assert_int_eq(berth_fed("apply -", text), 0);
    assert_ran("explain group/web", 0);
    ck_assert_contains(ran.out,
                       "Template small has changed since 2 VMs were made from it: "
                       "they keep what they were made with; berth rm vm/NAME has "
                       "the group make a new one.\n");
    assert_ran("explain vm/web-1", 0);
    ck_assert_contains(ran.out,
                       "Template small has changed since 1 VM was made from it: it "
                       "keeps what it was made with;");
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("run_explain", &tests);
    tcase_add_test(tests, every_host_has_its_verdict_reason_and_fix);
    tcase_add_test(tests, vms_that_are_older_than_their_template_are_told);
    return test_main_run(suite);
}
