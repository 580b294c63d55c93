/* Goal: root of a host without a part in the log is told that it sees little, and how to
 * see more, wherever it would else take what is hidden for what is not there; nobody else
 * is. Method: answers written by hand, as such a host gives them. */
#include "answers.h"

#define HEALTH(role)                                                                 \
    {                                                                                \
        "GET /healthz",                                                              \
            ANSWER_JSON("{\"status\":\"ok\",\"host\":\"h4\",\"role\":\"" role "\"}") \
    }
#define NONE ANSWER_JSON("{\"items\":[],\"revision\":7}")
#define NOT_ALLOWED                                                                    \
    "HTTP/1.1 403 X\r\nContent-Type: application/problem+json\r\nConnection: "         \
    "close\r\n\r\n{\"status\":403,\"code\":\"BERTH_EFORBIDDEN\",\"detail\":\"you may " \
    "not\",\"hint\":\"ask somebody\"}"
#define WAY                                                                            \
    "hint: root of h4, which has no part in the log, sees hosts and the VMs on h4 "    \
    "only; "                                                                           \
    "a token shows more: BERTH_TOKEN says one, or berth login VOTER remembers it for " \
    "--server VOTER (berth ls host shows who votes)\n"

static const struct route worker[] = {HEALTH("agent"),
                                      {"GET /v1/groups", NONE},
                                      {"GET /v1/vms", NONE},
                                      {"GET /v1/hosts", NONE},
                                      {"GET /v1/events", NONE},
                                      {"GET /v1/tenants", NOT_ALLOWED},
                                      {NULL, NULL}};
static const struct route voter[] = {HEALTH("voter"),
                                     {"GET /v1/groups", NONE},
                                     {"GET /v1/vms", NONE},
                                     {"GET /v1/tenants", NOT_ALLOWED},
                                     {NULL, NULL}};

static const struct row {
    const struct route *host;
    const char *line;
    int code;
    const char *said; /* all of it, on err */
} rows[] = {
    {worker, "ls", 0, WAY "no VMs on h4\n"},
    {worker, "ls vm", 0, WAY "no VMs\n"},
    {worker, "ls vm -t shop", 0, WAY "no VMs in tenant shop\n"},
    {worker, "ls host", 0, "no hosts\n"},
    {worker, "ls vm -q", 0, ""},
    {worker, "ls vm -o json", 0, ""},
    {worker, "events", 0, WAY},
    {worker, "explain vm/a", 3,
     "berth: vm/a is not there, or not for root of h4 to see\n" WAY},
    {worker, "explain vm/a -t shop", 6, "berth: you may not\n" WAY},
    {worker, "ls tenant -q", 6, "berth: you may not\n" WAY},
    {worker, "ls tenant -q --token t", 6, "berth: you may not\nhint: ask somebody\n"},
    {worker, "ls vm --token t", 0, "no VMs\n"},
    {voter, "ls", 0, "no groups and no VMs yet; berth apply FILE makes some\n"},
    {voter, "ls vm", 0, "no VMs\n"},
    {voter, "explain vm/a", 3, "berth: vm/a is not there; berth ls vm\n"},
    {voter, "ls tenant", 6, "berth: you may not\nhint: ask somebody\n"},
};

START_TEST(who_sees_little_is_told_so)
{
    const struct row *row = &rows[_i];
    answers_start(NULL, row->host);
    int code = berth(row->line);
    answers_stop();
    ck_assert_msg(code == row->code && strcmp(ran.err, row->said) == 0,
                  "berth %s: %d: %s%s", row->line, code, ran.out, ran.err);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sight");
    TCase *tests = tcase_create("sight");
    tcase_add_checked_fixture(tests, folder_start, folder_stop);
    tcase_add_loop_test(tests, who_sees_little_is_told_so, 0,
                        sizeof(rows) / sizeof(rows[0]));
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
