/* Goal: whatever a server does, the user reads what happened and a script gets the right
 * exit code. Method: answers written by hand on a UNIX socket, in place of a server's. */
#include "answers.h"

#define PROBLEM(status, code, detail)                                                  \
    "HTTP/1.1 " status " X\r\nContent-Type: application/problem+json\r\n"              \
    "Connection: close\r\n\r\n{\"title\":\"T\",\"status\":" status ",\"code\":\"" code \
    "\",\"detail\":\"" detail "\",\"hint\":\"do better\"}"

static const struct problem {
    const char *answer;
    int code;
    const char *said;
} problems[] = {
    {PROBLEM("400", "BERTH_EINVALID", "malformed"), 2,
     "berth: malformed\nhint: do better\n"},
    {PROBLEM("401", "BERTH_EAUTH", "who"), 6, "berth: who\nhint: the cluster does not "},
    {PROBLEM("403", "BERTH_EFORBIDDEN", "no"), 6, "berth: no\n"},
    {PROBLEM("409", "BERTH_EINUSE", "in use"), 4, "berth: in use\n"},
    {PROBLEM("409", "BERTH_EQUOTA", "quota"), 5, "berth: quota\n"},
    {PROBLEM("409", "BERTH_ENOCAPACITY", "full"), 5, "berth: full\n"},
    {PROBLEM("412", "BERTH_ECONFLICT", "changed"), 4, "berth: changed\n"},
    {PROBLEM("413", "BERTH_ETOOLARGE", "large"), 2, "berth: large\n"},
    {PROBLEM("414", "BERTH_ETOOLARGE", "long"), 2, "berth: long\n"},
    {PROBLEM("422", "BERTH_EINVALID", "invalid"), 2, "berth: invalid\n"},
    {PROBLEM("429", "BERTH_EFULL", "busy"), 1, "berth: busy\n"},
    {PROBLEM("500", "BERTH_EBUG", "bug"), 1, "berth: bug\n"},
    {PROBLEM("504", "BERTH_ETIMEOUT", "late"), 9, "berth: late\n"},
    {PROBLEM("599", "BERTH_ENEW", "of a newer server"), 1, "berth: of a newer server\n"},
    {"HTTP/1.1 502 Bad\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>", 1,
     "berth: the server answered 502\n"},
    {ANSWER("text/html", "<html>hello</html>"), 1, "the answer is no JSON"},
    {"SSH-2.0-OpenSSH_9.2\r\n", 9, "cannot reach the berthd of this host"},
    {ANSWER("application/json", "[]"), 0, "no hosts"},
    {ANSWER("application/json", "{\"items\":7}"), 0, "no hosts"},
    {ANSWER("application/json", "{\"items\":[null,7,{}]}"), 0, ""},
};

static void a_problem_is_read_out_and_has_its_exit_code_row(size_t i)
{
    const bool asks_again = strstr(problems[i].answer, " 422 ") != NULL; /* whole */
    const char *const texts[] = {problems[i].answer,
                                 asks_again ? problems[i].answer : NULL, NULL};
    answers_start(texts, NULL);
    int code = berth("host ls");
    answers_stop();
    ck_assert_msg(code == problems[i].code, "%d, not %d: %s%s", code, problems[i].code,
                  ran.out, ran.err);
    ck_assert_contains(ran.err, problems[i].said);
}

START_TEST(a_problem_is_read_out_and_has_its_exit_code)
{
    for (size_t i = 0; i < sizeof(problems) / sizeof(problems[0]); i++) {
        a_problem_is_read_out_and_has_its_exit_code_row(i);
    }
}
END_TEST

START_TEST(a_server_that_knows_no_fields_is_asked_for_whole_objects)
{
    const char *const texts[] = {
        PROBLEM("422", "BERTH_EINVALID", "in words of its own"),
        ANSWER("application/json", "{\"items\":[{\"metadata\":{\"name\":\"h7\"}}]}"),
        PROBLEM("422", "BERTH_EINVALID",
                "fields: a vm has no \\\"status.templateChanged\\\""),
        ANSWER("application/json", "{\"items\":[{\"metadata\":{\"name\":\"old-1\"}}]}"),
        NULL};
    answers_start(texts, NULL);
    ck_assert_int_eq(berth("host ls -o name"), 0);
    ck_assert_contains(ran.out, "h7");
    ck_assert_str_eq(ran.err, "");
    ck_assert_int_eq(berth("ls vm -o wide"), 0); /* it knows others than are asked for */
    answers_stop();
    ck_assert_contains(ran.out, "old-1");
    ck_assert_str_eq(ran.err, "");
}
END_TEST

START_TEST(what_is_refused_with_fields_and_without_is_told_once)
{
    const char *const texts[] = {
        PROBLEM("422", "BERTH_EINVALID", "label: =x is no selector"),
        PROBLEM("422", "BERTH_EINVALID", "label: =x is no selector"), NULL};
    answers_start(texts, NULL);
    ck_assert_int_eq(berth("ls host"), 2);
    answers_stop();
    ck_assert_str_eq(ran.err, "berth: label: =x is no selector\nhint: do better\n");
}
END_TEST

START_TEST(every_fault_of_a_problem_is_a_line)
{
    static const char refusal[] =
        "HTTP/1.1 422 X\r\nContent-Type: application/problem+json\r\nConnection: "
        "close\r\n\r\n"
        "{\"title\":\"T\",\"detail\":\"nothing was changed\",\"errors\":[{\"pointer\":"
        "\"/objects/1\",\"message\":\"bad\",\"hint\":\"fix "
        "it\"},{\"pointer\":\"/objects/2\","
        "\"message\":\"worse\"}]}";
    const char *const texts[] = {refusal, refusal, NULL}; /* with fields, and whole */
    answers_start(texts, NULL);
    ck_assert_int_eq(berth("ls host"), 2);
    answers_stop();
    ck_assert_str_eq(ran.err, "berth: nothing was changed\n"
                              "  /objects/1: bad; fix it\n"
                              "  /objects/2: worse\n");
}
END_TEST

#define HOSTS ANSWER("application/json", "{\"items\":[{\"metadata\":{\"name\":\"h9\"}}]}")

static const struct hiccup {
    const char *what;
    const char *first; /* then HOSTS */
} hiccups[] = {
    {"no leader yet", PROBLEM("503", "BERTH_ENOLEADER", "none")},
    {"the connection is closed", ""},
    {"an answer that is cut", ANSWER("application/json", "{\"items\":[{\"meta")},
    {"a head that is cut", "HTTP/1.1 200 OK\r\nContent-Ty"},
    {"a length that is not kept",
     "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"items"},
};

static void what_may_pass_is_asked_again_row(size_t i)
{
    const char *const texts[] = {hiccups[i].first, HOSTS, NULL};
    answers_start(texts, NULL);
    int code = berth("ls host");
    answers_stop();
    ck_assert_msg(code == 0, "%s: %d %s", hiccups[i].what, code, ran.err);
    ck_assert_contains(ran.out, "h9");
}

START_TEST(what_may_pass_is_asked_again)
{
    for (size_t i = 0; i < sizeof(hiccups) / sizeof(hiccups[0]); i++) {
        what_may_pass_is_asked_again_row(i);
    }
}
END_TEST

START_TEST(pages_are_followed_by_what_next_says_escaped)
{
    const char *const texts[] = {
        ANSWER("application/json",
               "{\"items\":[{\"metadata\":{\"name\":\"h1\"}}],\"revision\":5,"
               "\"next\":\"a&b/c d\"}"),
        ANSWER("application/json",
               "{\"items\":[{\"metadata\":{\"name\":\"h2\"}}],\"revision\":9}"),
        NULL};
    answers_start(texts, NULL);
    ck_assert_int_eq(berth("ls host -o json"), 0);
    answers_stop();
    ck_assert_contains(ran.out, "h1");
    ck_assert_contains(ran.out, "h2");
    ck_assert_contains(ran.out,
                       "\"revision\": 5"); /* a watch goes on from the first page */
}
END_TEST

START_TEST(nobody_there_is_said_with_what_to_do)
{
    assert_ran("ls", 9);
    ck_assert_contains(ran.err, "no berthd runs on this host");
    ck_assert_contains(ran.err, "hint: berth up starts it");
    temp_dir_write(&folder, "berthd.sock", ""); /* as a killed one leaves it */
    assert_ran("ls", 9);
    ck_assert_contains(ran.err, "has ended, and only its socket is left\n"
                                "hint: berth up starts it again; why it ended is in ");
    ck_assert_contains(ran.err, folder.path);
    assert_ran("ls --server 127.0.0.1:1 --token x", 9);
    ck_assert_contains(ran.err, "cannot reach https://127.0.0.1:1: nobody listens there\n"
                                "hint: is berthd up on that host");
    assert_ran("login 127.0.0.1:1 --token x", 9);
    ck_assert_contains(ran.err, "nobody listens there\n");
    assert_ran("ls --server nowhere.invalid --token x", 9);
    ck_assert_contains(ran.err,
                       "nowhere.invalid:7443: that name is not known here\nhint: ");
    ck_assert_ptr_null(strstr(ran.err, "login"));
}
END_TEST

/* Whose token it was, not which header to send. */
START_TEST(a_bad_token_is_told_with_where_it_came_from)
{
    char context[512];
    const char *const texts[] = {problems[1].answer, NULL};
    answers_start(texts, NULL);
    assert_ran("ls host", 6);
    answers_stop();
    ck_assert_str_eq(ran.err,
                     "berth: who\nhint: the cluster does not know this host; berth "
                     "login asks it with a token\n");
    fixture_start_with("tls");
    (void)unsetenv("BERTH_STATE");
    snprintf(
        context, sizeof(context),
        "{\"current\":\"https://127.0.0.1:%u\",\"servers\":{\"https://127.0.0.1:%u\":{"
        "\"token\":\"old\",\"pin\":\"%s\"}}}",
        served_port, served_port, served_pin);
    temp_dir_write(&folder, "context.json", context);
    char *path = temp_dir_path(&folder, "context.json");
    (void)setenv("BERTH_CONTEXT", path, 1);
    assert_ran("ls host", 6);
    ck_assert_contains(ran.err, "hint: the token of ");
    ck_assert_contains(ran.err, path);
    ck_assert_ptr_null(strstr(ran.err, "Authorization"));
    assert_ran("ls host --token wrong", 6);
    ck_assert_contains(ran.err, "hint: the token of --token is of another cluster, ");
    (void)setenv("BERTH_TOKEN", "wrong", 1);
    assert_ran("ls host", 6);
    ck_assert_contains(ran.err, "hint: the token of BERTH_TOKEN is of ");
    free(path);
    (void)unsetenv("BERTH_TOKEN");
    (void)unsetenv("BERTH_CONTEXT");
    served_end(0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("remote");
    TCase *tests = tcase_create("remote");
    tcase_add_checked_fixture(tests, folder_start, folder_stop);
    tcase_add_test(tests, a_problem_is_read_out_and_has_its_exit_code);
    tcase_add_test(tests, a_server_that_knows_no_fields_is_asked_for_whole_objects);
    tcase_add_test(tests, what_is_refused_with_fields_and_without_is_told_once);
    tcase_add_test(tests, every_fault_of_a_problem_is_a_line);
    tcase_add_test(tests, what_may_pass_is_asked_again);
    tcase_add_test(tests, pages_are_followed_by_what_next_says_escaped);
    tcase_add_test(tests, nobody_there_is_said_with_what_to_do);
    tcase_add_test(tests, a_bad_token_is_told_with_where_it_came_from);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
