/* Goal: a server is understood however it is written, and which one is asked follows the
 * order of connection.h. */
#include "cli/connection.h"
#include "cli_fixture.h"
#include "support/temp_dir.h"

static const struct server {
    const char *text;
    const char *url; /* NULL: refused */
} servers[] = {
    {"h1", "https://h1:7443"},
    {"h1:8443", "https://h1:8443"},
    {"https://h1", "https://h1:7443"},
    {"https://h1:8443/", "https://h1:8443"},
    {"10.0.0.4", "https://10.0.0.4:7443"},
    {"[fe80::1]", "https://[fe80::1]:7443"},
    {"[fe80::1]:8443", "https://[fe80::1]:8443"},
    {"http://h1", NULL},
    {"", NULL},
    {"https://", NULL},
    {"h1:65535", "https://h1:65535"},
    {"h1:65536", NULL},
    {"10.0.0.1:99999", NULL},
    {"h1:0", NULL},
    {"h1:", NULL},
    {"h1:https", NULL},
    {"h1:74431234567890", NULL},
    {"[fd00::1]:0", NULL},
    {"h1/v1", NULL},
    {"h1?x", NULL},
    {"h1#x", NULL},
    {"user:secret@h1", NULL},
    {"h 1", NULL},
    {"h1%2f", NULL},
    {"h1\"", NULL},
};

START_TEST(a_server_is_understood_or_refused)
{
    char url[SERVER_URL_SIZE];
    int code = server_url(&cli, servers[_i].text, url);
    if (servers[_i].url != NULL) {
        ck_assert_int_eq(code, EXIT_OK);
        ck_assert_str_eq(url, servers[_i].url);
    } else {
        ck_assert_int_eq(code, EXIT_USAGE);
        ck_assert_str_ne(cli_err(), "");
    }
}
END_TEST

START_TEST(a_server_of_any_length_is_no_overrun)
{
    static char text[4096];
    char url[SERVER_URL_SIZE];
    memset(text, 'a', sizeof(text) - 1);
    for (size_t size = 1; size < sizeof(text); size += 7) {
        text[size] = '\0';
        (void)server_url(&cli, text, url);
        text[size] = 'a';
    }
    ck_assert_int_eq(server_url(&cli, text, url), EXIT_USAGE);
}
END_TEST

START_TEST(the_context_is_where_the_environment_says)
{
    char path[256];
    (void)unsetenv("HOME");
    ck_assert(!context_path(path, sizeof(path)));
    (void)setenv("HOME", "/home/ana", 1);
    ck_assert(context_path(path, sizeof(path)));
    ck_assert_str_eq(path, "/home/ana/.config/berth/context.json");
    (void)setenv("XDG_CONFIG_HOME", "/cfg", 1);
    ck_assert(context_path(path, sizeof(path)));
    ck_assert_str_eq(path, "/cfg/berth/context.json");
    (void)setenv("BERTH_CONTEXT", "/c.json", 1);
    ck_assert(context_path(path, sizeof(path)));
    ck_assert_str_eq(path, "/c.json");
}
END_TEST

static struct temp_dir dir;

static const char *chosen(const char *line)
{
    static char name[SERVER_URL_SIZE + 64];
    char *context = temp_dir_path(&dir, "context.json");
    ck_assert_int_eq(cli_given(line), EXIT_OK);
    (void)setenv("BERTH_CONTEXT", context, 1);
    free(context);
    if (connection_http(&cli) == NULL) {
        return "none";
    }
    (void)connection_name(&cli, name, sizeof(name));
    return name;
}

START_TEST(the_server_asked_is_the_one_that_was_said_last_remembered_or_here)
{
    char line[512];
    char wanted[512];
    temp_dir_init(&dir);
    temp_dir_write(&dir, "context.json",
                   "{\"current\":\"https://h1:7443\",\"servers\":{\"https://h1:7443\":{"
                   "\"token\":\"t1\",\"pin\":\"sha256//x\"}}}");
    ck_assert_str_eq(chosen("ls --server h2"), "https://h2:7443");
    ck_assert_str_eq(cli.target->token, ""); /* nobody else's token */
    connection_close(&cli);
    ck_assert_str_eq(chosen("ls --server h1"), "https://h1:7443");
    ck_assert_str_eq(cli.target->token, "t1");
    ck_assert_str_eq(cli.target->pin, "sha256//x");
    connection_close(&cli);
    ck_assert_str_eq(chosen("ls --server h1 --token t2"), "https://h1:7443");
    ck_assert_str_eq(cli.target->token, "t2");
    connection_close(&cli);
    snprintf(line, sizeof(line), "ls --state %s", dir.path);
    snprintf(wanted, sizeof(wanted), "the berthd of this host (%s/berthd.sock)",
             dir.path);
    ck_assert_str_eq(chosen(line), wanted);
    ck_assert_str_eq(cli.target->token, ""); /* the remembered one is for its server */
    connection_close(&cli);
    snprintf(line, sizeof(line), "ls --state %s --token t3", dir.path);
    ck_assert_str_eq(chosen(line), wanted);
    ck_assert_str_eq(cli.target->token, "t3");
    connection_close(&cli);
    snprintf(line, sizeof(line), "ls --state %s --server h2 --token t4", dir.path);
    ck_assert_str_eq(chosen(line), "https://h2:7443");
    ck_assert_str_eq(cli.target->token, "t4");
    connection_close(&cli);
    ck_assert_str_eq(chosen("ls --server http://h1"), "none");
    connection_close(&cli);
    ck_assert_str_eq(
        chosen("ls --state /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        "none");
    ck_assert_contains(cli_err(), "is too long for a socket");
    connection_close(&cli);
    temp_dir_fini(&dir);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("connection", &tests);
    tcase_add_loop_test(tests, a_server_is_understood_or_refused, 0,
                        sizeof(servers) / sizeof(servers[0]));
    tcase_add_test(tests, a_server_of_any_length_is_no_overrun);
    tcase_add_test(tests, the_context_is_where_the_environment_says);
    tcase_add_test(tests,
                   the_server_asked_is_the_one_that_was_said_last_remembered_or_here);
    return test_main_run(suite);
}
