/* Goal: what is named goes, users before what they use, and only after a yes where one
 * can be asked for. */
#include "answers.h"
#include "base/cleanup.h"

#include <pty.h>

#define OBJECTS                                                                     \
    "apiVersion: berth/v1\nkind: Template\nmetadata: {name: small}\nspec: {image: " \
    "linux, memory: "                                                               \
    "{size: 64MiB}}\n---\napiVersion: berth/v1\nkind: Group\nmetadata: {name: "     \
    "web}\nspec: "                                                                  \
    "{template: {name: small}, replicas: 2}\n---\napiVersion: berth/v1\nkind: "     \
    "VM\nmetadata: "                                                                \
    "{name: jump}\nspec: {template: {name: small}}\n"

static void rm_start(void)
{
    fixture_start();
    temp_dir_write(&folder, "a.yaml", OBJECTS);
    ck_assert_int_eq(berth_fed("apply - --wait", OBJECTS), 0);
}

START_TEST(the_objects_of_a_file_go_in_an_order_that_works)
{
    char line[1024];
    snprintf(line, sizeof(line), "rm -f %s/a.yaml --wait", folder.path);
    assert_ran(line, 0);
    assert_ran("ls -o name", 0);
    ck_assert_str_eq(ran.out, "");
    assert_ran("ls template -o name", 0);
    ck_assert_str_eq(ran.out, "default/template/plain\n");
    assert_ran(line, 0); /* gone already is as it should be */
}
END_TEST

START_TEST(what_is_in_use_or_not_there_is_told)
{
    assert_ran("rm template/small", 4);
    ck_assert_contains(ran.err, "web");
    assert_ran("rm template/small image/linux --timeout 700ms", 4);
    ck_assert_contains(ran.err, "default/template/small waits: template small of tenant "
                                "default is used by ");
    ck_assert_contains(ran.err, "for its users to go (--timeout)");
    assert_ran("rm vm/none", 3);
    ck_assert_contains(ran.err, "vm/none is not there");
    assert_ran("rm vm/jump -t other", 3);
    ck_assert_contains(ran.err, "tenant other does not exist");
    assert_ran("rm vm/web-1", 0);
    ck_assert_contains(ran.err, "group/web makes a new one in its place; for fewer: "
                                "berth scale web N");
    assert_ran("rm", 2);
    ck_assert_contains(ran.err, "berth rm needs KIND/NAME... or -f FILE");
    assert_ran("rm jump", 2);
    ck_assert_contains(ran.err, "say its kind, such as vm/jump");
}
END_TEST

/* On a terminal, with what is typed at the question. */
static int at_a_terminal(const char *line, const char *typed, char **ret_text)
{
    char *args[ARGS_MAX];
    int terminal = -1;
    int status = 0;
    size_t size = 0;
    char *text = calloc(1, 1);
    berth_args(line, args);
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)execv(args[0], args);
        _exit(127);
    }
    struct pollfd wait = {.fd = terminal, .events = POLLIN};
    bool asked = false;
    while (poll(&wait, 1, RAN_MS) > 0 && gather(terminal, &text, &size)) {
        if (!asked && strstr(text, "[y/N] ") != NULL) {
            asked = true;
            ck_assert_int_eq(write(terminal, typed, strlen(typed)),
                             (ssize_t)strlen(typed));
        }
    }
    (void)close(terminal);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    *ret_text = text;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

START_TEST(a_terminal_is_asked_and_told_what_is_lost)
{
    char *text = NULL;
    ck_assert_int_eq(at_a_terminal("rm group/web vm/jump", "n\n", &text), 1);
    ck_assert_contains(text, "This removes:");
    ck_assert_contains(text, "default/group/web, with 2 VMs and their disks");
    ck_assert_contains(text, "default/vm/jump, with its disks");
    ck_assert_contains(text, "nothing was removed");
    free(text);
    assert_ran("ls vm -o name", 0);
    ck_assert_contains(ran.out, "vm/jump");
    ck_assert_int_eq(at_a_terminal("rm vm/jump", "\004", &text),
                     1); /* Ctrl-D is no yes */
    free(text);
    ck_assert_int_eq(at_a_terminal("rm vm/jump -t default", "y\n", &text), 0);
    ck_assert_contains(text, "  default/vm/jump, with its disks"); /* which one, always */
    free(text);
    ck_assert_int_eq(at_a_terminal("rm group/web --yes", "", &text), 0);
    ck_assert_ptr_null(strstr(text, "[y/N]"));
    free(text);
    await("ls", "");
}
END_TEST

START_TEST(waiting_for_the_end_can_be_over_before_it)
{
    serve("set no_scheduler"); /* nobody carries it out */
    assert_ran("rm group/web --wait --timeout 500ms", 7);
    ck_assert_contains(ran.err,
                       "group/web is still there; the cluster goes on removing it");
    ck_assert_contains(ran.err, "next: berth show");
}
END_TEST

START_TEST(waiting_ends_when_that_very_one_is_gone)
{
    assert_ran("show vm/web-1 -o json", 0);
    char *before = strdup(ran.out);
    assert_ran("rm vm/web-1 --wait", 0); /* its group makes another web-1 */
    await("show vm/web-1 -o json", "\"uid\"");
    ck_assert_str_ne(ran.out, before);
    free(before);
}
END_TEST

/* ---- a host that is lost ---- */

#define LOST_ON_H2                                                                       \
    ANSWER_JSON("{\"items\":[{\"kind\":\"VM\",\"metadata\":{\"name\":\"db\",\"tenant\":" \
                "\"shop\"},\"status\":{\"phase\":\"lost\",\"host\":\"h2\"}}]}")

/* The word is sent only after a yes, and for a host where there is something to say. */
START_TEST(a_host_where_vms_may_still_run_is_removed_by_its_users_word_only)
{
    static const struct route table[] = {
        {"GET /v1/vms", LOST_ON_H2},
        {"DELETE /v1/hosts/h2?surelyOff=true ", ANSWER_JSON("{\"revision\":7}")},
        {"DELETE /v1/hosts/h3 ", ANSWER_JSON("{\"revision\":8}")},
        {"GET /v1/hosts?",
         ANSWER_JSON("{\"items\":[{\"status\":{\"voter\":\"voter\"}},{\"status\":{"
                     "\"voter\":\"voter\"}},{\"status\":{\"voter\":\"none\"}}]}")},
        {NULL, NULL}};
    answers_start(NULL, table);
    int refused = berth("rm host/h2");
    char *said = strdup(ran.err);
    int forced = berth("rm host/h2 --force");
    int done = berth("rm host/h2 host/h3 --yes");
    answers_stop();
    ck_assert_msg(refused == 2, "%d: %s", refused, said);
    ck_assert_contains(said, "  shop/vm/db is lost, it may still run on h2\n");
    ck_assert_contains(said,
                       "needs --yes where nobody can be asked; nothing was removed");
    ck_assert_int_eq(forced, 2);
    ck_assert_msg(done == 0, "%d: %s", done, ran.err);
    ck_assert_contains(ran.err, "two hosts vote in the log now");
    free(said);
}
END_TEST

/* It is not asked about first, and refused then. */
START_TEST(who_removes_a_host_in_service_is_told_before_the_question)
{
    static const struct route table[] = {
        {"GET /v1/vms", ANSWER_JSON("{\"items\":[]}")},
        {"GET /v1/hosts/h3", ANSWER_JSON("{\"kind\":\"Host\",\"metadata\":{\"name\":"
                                         "\"h3\"},\"spec\":{},\"status\":{\"phase\":"
                                         "\"ready\"}}")},
        {"GET /v1/hosts/h4",
         ANSWER_JSON("{\"kind\":\"Host\",\"metadata\":{\"name\":\"h4\"},\"spec\":{"
                     "\"drain\":true},\"status\":{\"phase\":\"ready\"}}")},
        {NULL, NULL}};
    char *text = NULL;
    answers_start(NULL, table);
    int code = at_a_terminal("rm host/h3 host/h4", "y\n", &text);
    answers_stop();
    ck_assert_msg(code == 4, "%d: %s", code, text);
    ck_assert_contains(text, "host h3 is in service: nothing was removed");
    ck_assert_contains(text, "hint: berth drain h3 --wait, then this again");
    ck_assert_ptr_null(strstr(text, "h4 is in service"));
    ck_assert_ptr_null(strstr(text, "[y/N]"));
    free(text);
}
END_TEST

#define REFUSED(detail)                                                     \
    "HTTP/1.1 422 X\r\nContent-Type: application/problem+json\r\n"          \
    "Connection: close\r\n\r\n{\"status\":422,\"code\":\"BERTH_EINVALID\"," \
    "\"detail\":\"" detail "\"}"

/* A row: what the leader says to the word, and whether the host goes without it. */
static const struct {
    const char *said;
    bool goes;
} wordless[] = {
    {REFUSED("query: surelyOff is not known here"), true},
    {REFUSED("query: force is not known here"), false},
};

/* Its users' racks are upgraded host by host: the leader may not know the word yet. */
START_TEST(a_leader_of_before_is_asked_without_the_word_that_it_does_not_know)
{
    const struct route table[] = {
        {"GET /v1/vms", LOST_ON_H2},
        {"DELETE /v1/hosts/h2?surelyOff=true ", wordless[_i].said},
        {"DELETE /v1/hosts/h2 ", ANSWER_JSON("{\"revision\":7}")},
        {"GET /v1/hosts?", ANSWER_JSON("{\"items\":[]}")},
        {NULL, NULL}};
    answers_start(NULL, table);
    int refused = berth("rm host/h2");
    int done = berth("rm host/h2 --yes");
    answers_stop();
    ck_assert_int_eq(refused, 2); /* it is the user's word all the same */
    ck_assert_msg(done == (wordless[_i].goes ? 0 : 2), "%d: %s", done, ran.err);
    ck_assert_int_eq(strstr(ran.err, "does not ask whether h2 is surely off") != NULL,
                     wordless[_i].goes);
    ck_assert_int_eq(strstr(ran.out, "removed    host/h2") != NULL, wordless[_i].goes);
}
END_TEST

#define TENANT "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: shop}\n"

START_TEST(a_token_that_keeps_its_tenant_is_told_before_anything_is_removed)
{
    char line[1024];
    temp_dir_write(&folder, "b.yaml", TENANT "---\n" OBJECTS);
    snprintf(line, sizeof(line), "apply %s/b.yaml", folder.path);
    assert_ran(line, 0);
    serve("token deploy abc operator shop");
    snprintf(line, sizeof(line), "rm -f %s/b.yaml --wait --timeout 1s", folder.path);
    assert_ran(line, 4);
    ck_assert_contains(ran.err, "tenant shop is used by token deploy\n"
                                "hint: berth rm token/deploy\n");
    ck_assert_contains(ran.err, "nothing was removed");
    assert_ran("ls vm -o name", 0);
    ck_assert_contains(ran.out, "vm/jump");
    snprintf(line, sizeof(line), "rm -f %s/b.yaml token/deploy --wait", folder.path);
    assert_ran(line, 0); /* in whatever order they are named */
    assert_ran("show tenant/shop", 3);
}
END_TEST

START_TEST(an_object_of_two_files_is_not_removed_twice)
{
    char line[1024];
    char wanted[1024];
    temp_dir_write(&folder, "b.yaml", OBJECTS);
    snprintf(line, sizeof(line), "rm -f %s/a.yaml -f %s/b.yaml", folder.path,
             folder.path);
    assert_ran(line, 2);
    snprintf(wanted, sizeof(wanted),
             "%s/b.yaml:3:18: error BE1102: Template \"small\" "
             "stands in %s/a.yaml:3:18 already",
             folder.path, folder.path);
    ck_assert_contains(ran.err, wanted);
    ck_assert_contains(ran.err, "3 errors, 0 warnings. Nothing was changed.");
    ck_assert_str_eq(ran.out, "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_rm");
    TCase *tests = tcase_create("run_rm");
    tcase_add_checked_fixture(tests, rm_start, fixture_stop);
    tcase_add_test(tests, the_objects_of_a_file_go_in_an_order_that_works);
    tcase_add_test(tests, what_is_in_use_or_not_there_is_told);
    tcase_add_test(tests, a_terminal_is_asked_and_told_what_is_lost);
    tcase_add_test(tests, waiting_for_the_end_can_be_over_before_it);
    tcase_add_test(tests, waiting_ends_when_that_very_one_is_gone);
    tcase_add_test(tests,
                   a_token_that_keeps_its_tenant_is_told_before_anything_is_removed);
    tcase_add_test(tests, an_object_of_two_files_is_not_removed_twice);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    TCase *lost = tcase_create("lost");
    tcase_add_checked_fixture(lost, folder_start, folder_stop);
    tcase_add_test(lost,
                   a_host_where_vms_may_still_run_is_removed_by_its_users_word_only);
    tcase_add_test(lost, who_removes_a_host_in_service_is_told_before_the_question);
    tcase_add_loop_test(
        lost, a_leader_of_before_is_asked_without_the_word_that_it_does_not_know, 0,
        ARRAY_COUNT(wordless));
    tcase_set_timeout(lost, 300);
    suite_add_tcase(suite, lost);
    return test_main_run(suite);
}
