/* Goal: lists are what a person reads and a script can trust: on a terminal, in a pipe,
 * as documents, over many pages. */
#include "berth_fixture.h"

#include <pty.h>

#define GROUP                                                                       \
    "{apiVersion: berth/v1, kind: Group, metadata: {name: web, labels: {app: x}}, " \
    "spec: "                                                                        \
    "{template: {name: plain}, replicas: 2}}\n"

START_TEST(an_empty_cluster_says_what_comes_next)
{
    assert_ran("ls", 0);
    ck_assert_str_eq(ran.out, "");
    ck_assert_str_eq(ran.err, "no groups and no VMs yet; berth apply FILE makes some\n");
    assert_ran("ls vm -t default", 0);
    ck_assert_str_eq(ran.err, "no VMs in tenant default\n");
    static const char *const asks[] = {"ls -t shop", "ls vm -t shop", "ls vm -t shop -w"};
    for (size_t i = 0; i < 3; i++) {
        assert_ran(asks[i], 3);
        ck_assert_str_eq(ran.err, "berth: tenant shop does not exist\n"
                                  "hint: berth ls tenant lists those you may see\n");
    }
    assert_ran("ls vm -q", 0);
    ck_assert_str_eq(ran.err, "");
    assert_ran("ls vm -o json", 0); /* still a document */
    assert_like(ran.out, "{\n  \"items\": \\[\\],\n  \"revision\": [0-9]*\n}\n");
}
END_TEST

#define LABELLED                                                                        \
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: both, labels: {app: x, tier: " \
    "y, note: \"a,b\"}}\nspec: {template: {name: plain}, replicas: 0}\n"

START_TEST(the_overview_has_groups_and_vms)
{
    ck_assert_int_eq(berth_fed("apply - --wait", GROUP), 0);
    assert_ran("ls", 0);
    assert_like(ran.out, "GROUPS\n"
                         "NAME  TENANT   READY  AUTOSCALE  TEMPLATE *AGE  REASON\n"
                         "web   default    2/2  -          plain *\n"
                         "\n"
                         "VMS\n"
                         "NAME   TENANT   PHASE  HOST  ADDRESS  CPU *AGE  REASON\n"
                         "web-1  default  ready  h[123]    -         2%  *  -\n"
                         "web-2  default  ready  h[123]    -         2%  *  -\n");
    ck_assert_str_eq(ran.err, "");
    assert_ran("ls -o name", 0);
    ck_assert_str_eq(ran.out, "default/group/web\ndefault/vm/web-1\ndefault/vm/web-2\n");
    assert_ran("ls vm -g web -t default -o name", 0);
    ck_assert_str_eq(ran.out, "vm/web-1\nvm/web-2\n");
    assert_ran("ls vm -g group/none -o name", 3);
    ck_assert_contains(ran.err, "group/none is not there; berth ls group");
    assert_ran("ls vm -g wep -t default", 3);
    ck_assert_contains(ran.err, "did you mean \"web\"?");
    assert_ran("ls group -l app=x -l app=y", 0); /* all labels count */
    ck_assert_str_eq(ran.err, "no groups\n");
    ck_assert_int_eq(berth_fed("apply -", LABELLED), 0);
    assert_ran("ls group -l app=x,tier=y -o name", 0);
    ck_assert_str_eq(ran.out, "default/group/both\n");
    assert_ran("ls group -l app=x,tier=z -o name", 0);
    ck_assert_str_eq(ran.out, "");
    assert_ran("ls group -l note=a,b -o name", 0); /* a value may hold one */
    ck_assert_str_eq(ran.out, "default/group/both\n");
    assert_ran("ls group -l app", 2);
    ck_assert_str_eq(ran.err, "berth: --label: wanted KEY=VALUE, not \"app\"\n");
}
END_TEST

START_TEST(hosts_are_listed_with_what_they_carry)
{
    assert_ran("host ls", 0);
    assert_like(
        ran.out,
        "NAME  PHASE  ROLE *ADDRESS   VMS *CPU USED *MEM USED *MEM PLACED *DISK PLACED "
        "*HEARD  NOTE\n"
        "h1    ready  * 10.0.0.1  *0.5/64 *64MiB *0B/1GiB *0B/100GiB *\n"
        "h2    ready  * 10.0.0.2  *\n"
        "h3    ready  * 10.0.0.3  *\n");
    assert_ran("host ls -o name", 0);
    ck_assert_str_eq(ran.out, "host/h1\nhost/h2\nhost/h3\n");
    assert_ran("ls hosts -o yaml", 0);
    ck_assert_contains(ran.out, "kind: Host");
}
END_TEST

START_TEST(many_pages_are_one_list)
{
    serve("set no_scheduler");
    serve("vms vm 450");
    assert_ran("ls vm -o json", 0);
    json_t *document = NULL;
    ck_assert_int_eq(json_parse(ran.out, strlen(ran.out), &document, NULL), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(document, "items")), 450);
    ck_assert(json_is_integer(json_object_get(document, "revision")));
    json_decref(document);
    assert_ran("ls vm", 0);
    unsigned lines = 0;
    for (const char *at = ran.out; *at != '\0'; at++) {
        lines += *at == '\n' ? 1 : 0;
    }
    ck_assert_uint_eq(lines, 451);
    ck_assert_ptr_null(strchr(ran.out, '\033'));
}
END_TEST

/* Everything a program says on a terminal of its own, 60 columns wide. */
static char *on_a_terminal(const char *line)
{
    struct winsize size = {.ws_row = 24, .ws_col = 60};
    char *args[ARGS_MAX];
    int terminal = -1;
    size_t used = 0;
    char *text = calloc(1, 1);
    berth_args(line, args);
    pid_t pid = forkpty(&terminal, NULL, NULL, &size);
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)execv(args[0], args);
        _exit(127);
    }
    struct pollfd wait = {.fd = terminal, .events = POLLIN};
    while (poll(&wait, 1, RAN_MS) > 0 && gather(terminal, &text, &used)) {
    }
    (void)close(terminal);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    return text;
}

START_TEST(colours_and_cutting_are_for_terminals)
{
    ck_assert_int_eq(berth_fed("apply - --wait", GROUP), 0);
    char *text = on_a_terminal("ls vm");
    ck_assert_contains(text, "\033[32mready");
    free(text);
    text = on_a_terminal("ls vm --no-color");
    ck_assert_ptr_null(strstr(text, "\033[32m"));
    ck_assert_contains(text, "ready");
    free(text);
    (void)setenv("NO_COLOR", "1", 1);
    text = on_a_terminal("ls vm");
    ck_assert_ptr_null(strstr(text, "\033[32m"));
    free(text);
    (void)unsetenv("NO_COLOR");
    assert_ran("ls vm", 0);
    ck_assert_ptr_null(strchr(ran.out, '\033'));
}
END_TEST

START_TEST(a_reader_that_leaves_ends_it_quietly)
{
    serve("set no_scheduler");
    serve("vms vm 2000");
    struct child child = berth_start("ls vm -o json");
    (void)close(child.out); /* as `| head -0` does */
    child.out = child.err;
    child.err = dup(child.err);
    child_wait(&child);
    ck_assert_int_eq(ran.code, 128 + SIGPIPE);
    ck_assert_str_eq(ran.out, "");
}
END_TEST

START_TEST(a_full_disk_is_a_failure)
{
    char *args[ARGS_MAX];
    int status = 0;
    berth_args("host ls", args);
    pid_t pid = fork();
    if (pid == 0) {
        (void)(freopen("/dev/full", "w", stdout) != NULL);
        (void)execv(args[0], args);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 1);
}
END_TEST

START_TEST(a_kind_that_is_none_is_guessed)
{
    assert_ran("ls vsm", 2);
    ck_assert_str_eq(ran.err, "berth: there is no kind \"vsm\"; did you mean \"vm\"?\n");
    assert_ran("ls Spaceships", 2);
    ck_assert_contains(ran.err, "tenant, template, group, vm");
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("run_ls", &tests);
    tcase_add_test(tests, an_empty_cluster_says_what_comes_next);
    tcase_add_test(tests, the_overview_has_groups_and_vms);
    tcase_add_test(tests, hosts_are_listed_with_what_they_carry);
    tcase_add_test(tests, many_pages_are_one_list);
    tcase_add_test(tests, colours_and_cutting_are_for_terminals);
    tcase_add_test(tests, a_reader_that_leaves_ends_it_quietly);
    tcase_add_test(tests, a_full_disk_is_a_failure);
    tcase_add_test(tests, a_kind_that_is_none_is_guessed);
    return test_main_run(suite);
}
