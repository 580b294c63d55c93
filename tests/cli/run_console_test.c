/* Goal: a console is raw bytes both ways on a terminal, leaves at Ctrl-], and gives the
 * terminal back; in a pipe it only tells. */
#include "answers.h"

#include <pty.h>
#include <termios.h>

static void console_start(void)
{
    fixture_start();
    serve("vms vm 1");
}

static int terminal = -1;
static char *text;
static size_t text_size;

static pid_t on_a_terminal(const char *line)
{
    char *args[ARGS_MAX];
    berth_args(line, args);
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)execv(args[0], args);
        _exit(127);
    }
    text = calloc(1, 1);
    text_size = 0;
    return pid;
}

static void expect(const char *part)
{
    struct pollfd wait = {.fd = terminal, .events = POLLIN};
    while (strstr(text, part) == NULL) {
        ck_assert_msg(poll(&wait, 1, RAN_MS) > 0 && gather(terminal, &text, &text_size),
                      "no \"%s\" in \"%s\"", part, text);
    }
}

static void type(const char *keys)
{
    ck_assert_int_eq(write(terminal, keys, strlen(keys)), (ssize_t)strlen(keys));
}

static int end(pid_t pid)
{
    int status = 0;
    struct pollfd wait = {.fd = terminal, .events = POLLIN};
    while (poll(&wait, 1, RAN_MS) > 0 && gather(terminal, &text, &text_size)) {
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    (void)close(terminal);
    free(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

START_TEST(keys_pass_as_they_are_and_ctrl_bracket_leaves)
{
    pid_t pid = on_a_terminal("console vm-00000");
    expect("Connected to vm/vm-00000. Ctrl-] leaves.");
    expect("login: ");
    type("root\r");
    expect("<root\r>");
    type("\003"); /* Ctrl-C is the guest's */
    expect("<\003>");
    type("\035never"); /* what stands behind the key goes nowhere */
    ck_assert_int_eq(end(pid), 0);
}
END_TEST

START_TEST(the_end_of_the_console_is_the_end)
{
    pid_t pid = on_a_terminal("console vm-00000");
    expect("login: ");
    type("\004"); /* at which this console ends */
    ck_assert_int_eq(end(pid), 0);
}
END_TEST

START_TEST(a_terminal_is_given_back_also_by_a_signal)
{
    struct termios state;
    pid_t pid = on_a_terminal("console vm-00000");
    expect("login: ");
    type("x"); /* raw by now */
    expect("<x>");
    ck_assert_int_eq(tcgetattr(terminal, &state), 0);
    ck_assert_uint_eq(state.c_lflag & ICANON, 0);
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    for (unsigned i = 0; i < 1000 && (state.c_lflag & ICANON) == 0; i++) {
        struct pollfd wait = {.fd = terminal, .events = 0};
        (void)poll(&wait, 1, 10);
        ck_assert_int_eq(tcgetattr(terminal, &state), 0);
    }
    ck_assert_uint_ne(state.c_lflag & ICANON, 0);
    ck_assert_int_eq(end(pid), 128 + SIGTERM);
}
END_TEST

START_TEST(a_pipe_is_told_and_never_asks)
{
    assert_ran("console vm-00000 --no-follow", 0);
    ck_assert_str_eq(ran.out, "boot\r\nlogin: ");
    ck_assert_str_eq(ran.err, "");
    struct child child = berth_start("console vm-00000"); /* stdin is a pipe */
    char *told = NULL;
    size_t size = 0;
    while ((told == NULL || strstr(told, "login: ") == NULL) &&
           gather(child.out, &told, &size)) {
    }
    ck_assert_str_eq(told, "boot\r\nlogin: ");
    free(told);
    served_end(SIGKILL); /* the server dies in the middle */
    child_wait(&child);
    ck_assert_int_eq(ran.code, 0);
    ck_assert_str_eq(ran.out, "");
}
END_TEST

START_TEST(a_console_that_cannot_be_is_told)
{
    assert_ran("console none", 3);
    ck_assert_contains(ran.err, "vm/none is not there");
    assert_ran("console vm-00000 -t shop", 3);
    serve("set no_scheduler");
    serve("vms late 1");
    assert_ran("console late-00000", 4);
    ck_assert_contains(ran.err, "vm/late-00000 does not run yet: it waits for a host");
    ck_assert_contains(ran.err, "berth explain vm/late-00000 -t default says why");
    served_end(0);
    assert_ran("console vm-00000 -t default", 9);
}
END_TEST

START_TEST(of_a_stopped_vm_it_is_told_how_it_starts)
{
    static const struct route table[] = {
        {"GET /v1/tenants/default/vms/jump/console",
         "HTTP/1.1 404 X\r\nContent-Type: application/problem+json\r\nConnection: "
         "close\r\n\r\n{\"title\": \"The VM has no console on this host yet\"}"},
        {"GET /v1/tenants/default/vms/jump ",
         ANSWER_JSON(
             "{\"status\": {\"phase\": \"stopped\", \"reason\": \"switched off by "
             "its user\"}}")},
        {NULL, NULL},
    };
    static const char *const ways[] = {"console default/vm/jump",
                                       "console default/vm/jump --no-follow"};
    served_end(0);
    answers_start(NULL, table);
    for (size_t i = 0; i < 2; i++) {
        assert_ran(ways[i], 4);
        ck_assert_contains(ran.err, "default/vm/jump is stopped (switched off by its "
                                    "user): it has a console when it runs");
        ck_assert_contains(ran.err, "hint: berth start default/vm/jump");
    }
    answers_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_console");
    TCase *tests = tcase_create("run_console");
    tcase_add_checked_fixture(tests, console_start, fixture_stop);
    tcase_add_test(tests, keys_pass_as_they_are_and_ctrl_bracket_leaves);
    tcase_add_test(tests, the_end_of_the_console_is_the_end);
    tcase_add_test(tests, a_terminal_is_given_back_also_by_a_signal);
    tcase_add_test(tests, a_pipe_is_told_and_never_asks);
    tcase_add_test(tests, a_console_that_cannot_be_is_told);
    tcase_add_test(tests, of_a_stopped_vm_it_is_told_how_it_starts);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
