/* Goal: a group is done when it is what it wants, and a console's last words are words.
 * (The waiting itself: run_apply_test, run_change_test.) */
#include "cli/waiting.h"
#include "cli_fixture.h"

#define READY "{'status':{'phase':'ready'}}"
#define OTHER "{'status':{'phase':'running'}}"

static const struct growth {
    const char *group;
    const char *vms;
    bool done;
    uint64_t ready;
    uint64_t wanted;
} groups[] = {
    {"{'spec':{'replicas':2},'status':{'desired':2}}", "[" READY "," READY "]", true, 2,
     2},
    {"{'spec':{'replicas':2},'status':{'desired':2}}", "[" READY "," OTHER "]", false, 1,
     2},
    {"{'spec':{'replicas':2},'status':{'desired':2}}", "[" READY "]", false, 1, 2},
    /* one too many is still going */
    {"{'spec':{'replicas':1},'status':{'desired':1}}", "[" READY "," READY "]", false, 2,
     1},
    /* the change has not arrived yet */
    {"{'spec':{'replicas':1},'status':{'desired':3}}", "[" READY "]", false, 1, 1},
    {"{'spec':{'replicas':0},'status':{}}", "[]", true, 0, 0},
    {"{'spec':{},'status':{'desired':1}}", "[" READY "]", true, 1,
     1}, /* one is the default */
    {"{'spec':{'autoscale':{'min':2,'max':5}},'status':{'desired':3}}",
     "[" READY "," READY "," READY "]", true, 3, 3},
    {"{'spec':{'autoscale':{'min':2,'max':5}},'status':{'desired':1}}", "[" READY "]",
     false, 1, 2},
    {"{'spec':{'autoscale':{'max':5}},'status':{}}", "[]", true, 0, 0},
};

START_TEST(a_group_is_done_when_it_is_what_it_wants)
{
    uint64_t ready = 99;
    uint64_t wanted = 99;
    json_t *group = doc(groups[_i].group);
    json_t *vms = doc(groups[_i].vms);
    ck_assert_int_eq(waiting_group_done(group, vms, &ready, &wanted), groups[_i].done);
    ck_assert_uint_eq(ready, groups[_i].ready);
    ck_assert_uint_eq(wanted, groups[_i].wanted);
    json_decref(group);
    json_decref(vms);
}
END_TEST

static const struct console {
    const char *text;
    const char *line;
} consoles[] = {
    {"", ""},
    {"one", "one"},
    {"one\n", "one"},
    {"one\r\ntwo\r\n", "two"},
    {"one\n\n  \n", "one"}, /* blank lines say nothing */
    {"\033[1;31mred\033[0m\n", "red"},
    {"a\033[2J\033[Hb", "ab"},
    {"\033", ""},
    {"\033[", ""},
    {"x\033[12;", "x"},
    {"tab\there\007\n", "tabhere"},
    {"caf\xc3\xa9\n", "caf\xc3\xa9"},
    {"login: \r\033[Kpassword: ", "password: "},
};

START_TEST(the_last_line_that_says_something_is_told_without_controls)
{
    char line[64];
    waiting_last_line(consoles[_i].text, line, sizeof(line));
    ck_assert_str_eq(line, consoles[_i].line);
}
END_TEST

START_TEST(a_line_without_end_is_cut)
{
    char line[16];
    static char text[5000];
    memset(text, 'x', sizeof(text) - 1);
    waiting_last_line(text, line, sizeof(line));
    ck_assert_str_eq(line, "xxxxxxxxxxxxxxx");
}
END_TEST

START_TEST(progress_is_for_terminals_that_want_it)
{
    progress_show(&cli, "%d of %d", 1, 2);
    progress_clear(&cli);
    ck_assert_str_eq(cli_err(), "");
    cli.err_tty = true;
    progress_show(&cli, "%d of %d", 1, 2);
    ck_assert_str_eq(cli_err(), "\r\033[K1 of 2");
    cli_fresh();
    cli.err_tty = true;
    cli.quiet = true;
    progress_show(&cli, "%d of %d", 1, 2);
    ck_assert_str_eq(cli_err(), "");
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("waiting", &tests);
    tcase_add_loop_test(tests, a_group_is_done_when_it_is_what_it_wants, 0,
                        sizeof(groups) / sizeof(groups[0]));
    tcase_add_loop_test(tests, the_last_line_that_says_something_is_told_without_controls,
                        0, sizeof(consoles) / sizeof(consoles[0]));
    tcase_add_test(tests, a_line_without_end_is_cut);
    tcase_add_test(tests, progress_is_for_terminals_that_want_it);
    return test_main_run(suite);
}
