/* Goal: a login checks the key before the secret leaves the machine, remembers both, and
 * a server with another key is not spoken to. */
#include "berth_fixture.h"

static char server[64];

static void login_start(void)
{
    fixture_start_with("tls");
    serve("token ana ana-secret operator default");
    (void)unsetenv("BERTH_STATE");
    snprintf(server, sizeof(server), "https://127.0.0.1:%u", served_port);
}

static int login(const char *flags, const char *fed)
{
    char line[512];
    snprintf(line, sizeof(line), "login %s %s", server, flags);
    return berth_fed(line, fed);
}

static char *context(void)
{
    char *text = temp_dir_read(&folder, ".config/berth/context.json");
    return text != NULL ? text : strdup("");
}

START_TEST(a_pinned_server_is_remembered_and_used)
{
    char flags[128];
    char wanted[128];
    struct stat status;
    char path[512];
    snprintf(flags, sizeof(flags), "--pin %s", served_pin);
    ck_assert_msg(login(flags, "ana-secret\n") == 0, "%s", ran.err);
    snprintf(wanted, sizeof(wanted),
             "logged in to %s as token:ana, operator of tenant default\n", server);
    ck_assert_str_eq(ran.out, wanted);
    snprintf(path, sizeof(path), "%s/.config/berth/context.json", folder.path);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
    char *text = context();
    ck_assert_contains(text, served_pin);
    free(text);

    (void)setenv("BERTH_STATE", "/nowhere", 1);
    assert_ran("ls vm", 9); /* a state that was said goes before */
    (void)unsetenv("BERTH_STATE");
    assert_ran("ls vm -t default", 0);
    assert_ran("host show h1", 6); /* not with this role */
    ck_assert_contains(ran.err, "berth: ");
}
END_TEST

START_TEST(a_script_needs_no_login)
{
    char pins[256];
    (void)setenv("BERTH_SERVER", server, 1);
    (void)setenv("BERTH_TOKEN", "ana-secret", 1);
    (void)unsetenv("BERTH_STATE");
    assert_ran("ls vm -t default", 9); /* whose key is that? */
    snprintf(pins, sizeof(pins),
             "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=;%s", served_pin);
    (void)setenv("BERTH_PIN", pins, 1);
    assert_ran("ls vm -t default", 0);
    assert_ran(
        "ls vm -t default --pin sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 9);
    (void)setenv("BERTH_PIN", "sha256//a;", 1);
    assert_ran("ls vm -t default", 2);
    ck_assert_contains(ran.err, "--pin: wanted sha256//...");
    (void)unsetenv("BERTH_PIN");
    (void)unsetenv("BERTH_TOKEN");
    (void)unsetenv("BERTH_SERVER");
}
END_TEST

/* Root of the host asks, unless a token was said: by that it may less here. */
START_TEST(a_token_that_is_said_counts_before_the_local_socket)
{
    (void)setenv("BERTH_STATE", folder.path, 1);
    assert_ran("host show h1", 0);
    assert_ran("host show h1 --token ana-secret", 6);
    (void)setenv("BERTH_TOKEN", "ana-secret", 1);
    assert_ran("host show h1", 6);
    assert_ran("ls vm -t default", 0);
    (void)setenv("BERTH_TOKEN", "no-token", 1);
    assert_ran("ls vm -t default", 6);
    ck_assert_contains(ran.err, "hint: the token of BERTH_TOKEN is of another cluster, "
                                "has expired or was removed; without it root of this "
                                "host asks\n");
    (void)unsetenv("BERTH_TOKEN");
}
END_TEST

START_TEST(trust_takes_the_key_it_sees)
{
    ck_assert_int_eq(login("--trust --token ana-secret", ""), 0);
    char *text = context();
    ck_assert_contains(text, served_pin);
    free(text);
}
END_TEST

START_TEST(without_a_yes_nothing_is_trusted_and_the_pin_is_shown)
{
    ck_assert_int_eq(login("", "ana-secret\n"), 2);
    ck_assert_contains(ran.err, served_pin);
    ck_assert_contains(ran.err, "is that the right one? Then: --pin sha256//");
    char *text = context();
    ck_assert_str_eq(text, "");
    free(text);
}
END_TEST

START_TEST(another_key_is_not_spoken_to)
{
    ck_assert_int_eq(login("--pin sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                           "ana-secret\n"),
                     9);
    ck_assert_contains(ran.err, "cannot reach");
    char *text = context();
    ck_assert_str_eq(text, "");
    free(text);
}
END_TEST

START_TEST(a_key_that_changes_later_is_noticed)
{
    ck_assert_int_eq(login("--trust --token ana-secret", ""), 0);
    char *text = context();
    char *pin = strstr(text, served_pin);
    ck_assert_ptr_nonnull(pin);
    pin[10] = pin[10] == 'A' ? 'B' : 'A'; /* as if the server had another now */
    temp_dir_write(&folder, ".config/berth/context.json", text);
    free(text);
    assert_ran("ls vm -t default", 9);
    ck_assert_contains(ran.err, ": it shows another key than the pinned one\n"
                                "hint: if it was set up anew, berth login ");
}
END_TEST

START_TEST(a_token_that_is_none_is_not_remembered)
{
    ck_assert_int_eq(login("--trust", "wrong\n"), 6);
    ck_assert_int_eq(login("--trust", "\n"), 2);
    ck_assert_contains(ran.err, "the token is empty");
    ck_assert_int_eq(login("--trust", ""), 2);
    ck_assert_contains(ran.err, "no token: give it in BERTH_TOKEN");
    char *text = context();
    ck_assert_str_eq(text, "");
    free(text);
}
END_TEST

static const struct bad {
    const char *line;
    const char *said;
} bads[] = {
    {"login http://h1", "tokens travel over https only"},
    {"login h1/path", "is no server"},
    {"login user@h1", "is no server"},
    {"login h1 --pin 12", "--pin: wanted sha256//..."},
    {"login", "berth login needs SERVER"},
};

static void a_server_that_is_none_is_refused_row(size_t i)
{
    assert_ran(bads[i].line, 2);
    ck_assert_contains(ran.err, bads[i].said);
}

START_TEST(a_server_that_is_none_is_refused)
{
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        a_server_that_is_none_is_refused_row(i);
    }
}
END_TEST

START_TEST(a_broken_context_is_named_not_overwritten)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/.config", folder.path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/.config/berth", folder.path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    temp_dir_write(&folder, ".config/berth/context.json", "{\"current\": ");
    assert_ran("ls", 1);
    ck_assert_contains(ran.err, "context.json: ");
    ck_assert_int_eq(login("--trust --token ana-secret", ""), 1);
    char *text = context();
    ck_assert_str_eq(text, "{\"current\": ");
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_login");
    TCase *tests = tcase_create("run_login");
    tcase_add_checked_fixture(tests, login_start, fixture_stop);
    tcase_add_test(tests, a_pinned_server_is_remembered_and_used);
    tcase_add_test(tests, a_script_needs_no_login);
    tcase_add_test(tests, a_token_that_is_said_counts_before_the_local_socket);
    tcase_add_test(tests, trust_takes_the_key_it_sees);
    tcase_add_test(tests, without_a_yes_nothing_is_trusted_and_the_pin_is_shown);
    tcase_add_test(tests, another_key_is_not_spoken_to);
    tcase_add_test(tests, a_key_that_changes_later_is_noticed);
    tcase_add_test(tests, a_token_that_is_none_is_not_remembered);
    tcase_add_test(tests, a_server_that_is_none_is_refused);
    tcase_add_test(tests, a_broken_context_is_named_not_overwritten);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
