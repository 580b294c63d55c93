/* Goal: the program tells about itself with and without a server. */
#include "answers.h"

START_TEST(versions_are_told_of_both)
{
    assert_ran("version", 0);
    assert_like(
        ran.out,
        "berth   *\nberthd  * (host h1, leader h1, API v1, levels 1 to *)\nlevel   4\n");
    assert_ran("version --local", 0);
    ck_assert_contains(ran.out, "berthd  not reached\n");
    assert_ran("version -o json", 0);
    ck_assert_contains(ran.out, "\"leader\": \"h1\"");
    ck_assert_contains(ran.out, "\"level\": 4");
    served_end(0);
    assert_ran("version", 0);
    ck_assert_contains(ran.out, "berthd  not reached\n");
}
END_TEST

START_TEST(a_server_of_before_there_were_levels_is_of_the_first)
{
    static const struct route table[] = {
        {"GET /v1/version",
         ANSWER_JSON("{\"version\":\"0.9\",\"host\":\"h1\",\"api\":\"v1\"}")},
        {NULL, NULL}};
    served_end(0);
    answers_start(NULL, table);
    int code = berth("version");
    answers_stop();
    ck_assert_msg(code == 0, "%d: %s", code, ran.err);
    assert_like(ran.out,
                "berth   *\nberthd  0.9 (host h1, leader none, API v1, level 1)\n");
}
END_TEST

START_TEST(help_needs_no_server_and_guesses)
{
    served_end(0);
    assert_ran("help", 0);
    ck_assert_contains(ran.out, "usage: berth [flags] COMMAND");
    assert_ran("", 0);
    ck_assert_contains(ran.out, "Begin with `berth up`");
    assert_ran("help host ls", 0);
    ck_assert_contains(ran.out, "berth host ls: list hosts");
    assert_ran("apply --help", 0);
    ck_assert_contains(ran.out, "\nExamples\n  berth apply");
    assert_ran("help exit-codes", 0);
    assert_ran("help token", 0);
    assert_like(ran.out, "  token create NAME *\n  token join *\n  token ls *\n*");
    assert_ran("help token rm", 2);
    assert_ran("ls --help", 0);
    ck_assert_contains(ran.out, "tenant, template, group, vm, network, image");
    assert_ran("help aply", 2);
    ck_assert_str_eq(ran.err, "berth: no help on \"aply\"; did you mean \"apply\"?\n");
    assert_ran("help exit-code", 2);
    ck_assert_contains(ran.err, "did you mean \"exit-codes\"?");
    assert_ran("schema", 0);
    json_t *document = NULL;
    ck_assert_int_eq(json_parse(ran.out, strlen(ran.out), &document, NULL), 0);
    json_decref(document);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("run_about", &tests);
    tcase_add_test(tests, versions_are_told_of_both);
    tcase_add_test(tests, a_server_of_before_there_were_levels_is_of_the_first);
    tcase_add_test(tests, help_needs_no_server_and_guesses);
    return test_main_run(suite);
}
