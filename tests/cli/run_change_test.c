/* Goal: scale, start, stop and restart do what they say to the objects named, and --wait
 * ends when it is so. */
#include "answers.h"

#include <pty.h>

#define OBJECTS                                                                          \
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: web}\nspec: {template: {name: " \
    "plain}, "                                                                           \
    "replicas: 1}\n---\napiVersion: berth/v1\nkind: VM\nmetadata: {name: jump}\nspec: "  \
    "{template: {name: plain}}\n"

static void change_start(void)
{
    fixture_start();
    ck_assert_int_eq(berth_fed("apply - --wait", OBJECTS), 0);
}

START_TEST(a_group_is_scaled_up_and_down)
{
    assert_ran("scale web 3 --wait", 0);
    assert_like(ran.out,
                "group/web: 3 VMs wanted\n*web-1 *ready after*\n*web-2 *ready after*\n"
                "*web-3 *ready after*\n");
    assert_ran("scale web -1", 2);
    ck_assert_contains(ran.err, "\"-1\": wanted a number of VMs, 0 to ");
    assert_ran("scale default/group/web 1", 0);
    ck_assert_str_eq(ran.out, "group/web: 1 VM wanted\n");
    assert_ran("scale web 1 --wait", 0);
    assert_ran("scale web many", 2);
    ck_assert_contains(ran.err, "\"many\": wanted a number of VMs, 0 to 10000");
    assert_ran("scale web 10001", 2);
    assert_ran("scale wbe 1", 3);
    ck_assert_contains(ran.err, "did you mean \"web\"?");
    assert_ran("scale vm/jump 1", 2);
}
END_TEST

START_TEST(a_vm_is_stopped_started_and_restarted)
{
    assert_ran("stop jump", 0);
    ck_assert_str_eq(ran.out, "vm/jump: stops\n");
    await("show vm/jump", "PHASE      stopped");
    assert_ran("stop jump", 0);
    ck_assert_str_eq(ran.out, "vm/jump: is stopped already\n");
    assert_ran("start jump --wait", 0);
    assert_like(ran.out, "vm/jump: starts\ndefault/vm/jump *ready after*\n");
    assert_ran("start jump", 0);
    ck_assert_str_eq(ran.out, "vm/jump: runs already\n");
    assert_ran("restart jump --wait", 0); /* ready before is not ready again */
    assert_like(ran.out, "vm/jump: restarts\ndefault/vm/jump *ready after*\n");
    assert_ran("show vm/jump -o json", 0);
    ck_assert_contains(ran.out, "\"epoch\": 3");
}
END_TEST

START_TEST(a_stopped_vm_is_listed_where_its_disks_are_until_it_starts_anywhere)
{
    assert_ran("stop jump", 0);
    await("show vm/jump", "PHASE      stopped");
    assert_ran("ls vm", 0);
    assert_like(ran.out, "*jump *stopped *(h?)*");
    assert_ran("explain vm/jump", 0);
    ck_assert_contains(ran.out, " keeps its disks; it is switched off");
    assert_ran("start jump web-1 --anywhere", 2);
    assert_like(ran.err,
                "This gives disks up, with all that they hold:\n  default/vm/jump is "
                "stopped, its disks are on h?\nberth: --anywhere needs --yes *; "
                "nothing was started\n");
    assert_ran("start jump --anywhere --wait --yes", 0);
    assert_ran("show vm/jump -o json", 0);
    ck_assert_ptr_null(strstr(ran.out, "diskEpoch"));

    /* One that is on already, and waits for the host that has them. */
    assert_ran("stop jump", 0);
    await("show vm/jump", "PHASE      stopped");
    serve("set no_scheduler");
    assert_ran("start jump", 0);
    assert_ran("start jump", 0);
    ck_assert_str_eq(ran.out, "vm/jump: is on already, and waits for a host\n");
    assert_ran("start jump --anywhere --yes", 0);
    assert_like(ran.out, "vm/jump: starts anywhere; its disks on h? are given up\n");
    assert_ran("start jump --anywhere --yes", 0); /* once */
    ck_assert_str_eq(ran.out, "vm/jump: is on already, and waits for a host\n");
    assert_ran("stop jump --anywhere", 2);
}
END_TEST

START_TEST(a_start_says_what_the_host_of_its_disks_lacks)
{
    assert_ran("stop jump", 0);
    await("show vm/jump", "PHASE      stopped");
    assert_ran("show vm/jump -o json", 0);
    const char *at = strstr(ran.out, "\"diskHost\": \"");
    ck_assert_ptr_nonnull(at);
    char host[3] = {at[13], at[14], '\0'};
    char line[256];
    (void)snprintf(line, sizeof(line), "drain %s", host);
    assert_ran(line, 0);
    assert_ran("start jump", 0);
    (void)snprintf(
        line, sizeof(line),
        "vm/jump: is on and waits: its disks are on %s, which is drained: berth "
        "undrain %s, or berth start jump --anywhere\n",
        host, host);
    ck_assert_str_eq(ran.out, line);
    ck_assert_str_eq(ran.err, "--anywhere gives its disks up, with all that they hold\n");
    assert_ran("show vm/jump -o json", 0); /* whose disks those are is said once */
    ck_assert_contains(ran.out, "start jump --anywhere (switched on by its user)\"");
    ck_assert_ptr_null(strstr(ran.out, "its disks are on host"));
    assert_ran("start jump", 0); /* asked again */
    ck_assert_str_eq(ran.out, line);
}
END_TEST

/* It goes by members, not by how the cluster words its reason. */
START_TEST(what_a_start_waits_for_is_told_in_the_clusters_words)
{
    static const struct {
        const char *status;
        const char *said;
    } rows[] = {
        {"\"diskHost\":\"h2\",\"waits\":\"h2 (which has them) is full\",\"reason\":\"x\"",
         "vm/db: is on and waits: h2 (which has them) is full\n"},
        {"\"diskHost\":\"h2\",\"reason\":\"its disks are on h2, as ever\"",
         "vm/db: starts\n"},
        {"\"waits\":\"no host: 3 of 3 are full\"", "vm/db: starts\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char vm[512];
        (void)snprintf(vm, sizeof(vm),
                       ANSWER_JSON("{\"kind\":\"VM\",\"metadata\":{\"name\":\"db\","
                                   "\"tenant\":\"default\"},\"spec\":{\"power\":\"off\"},"
                                   "\"status\":{\"phase\":\"pending\",%s}}"),
                       rows[i].status);
        const struct route table[] = {{"GET /v1/tenants/default/vms/db", vm},
                                      {"POST /v1/tenants/default/vms/db:", vm},
                                      {NULL, NULL}};
        answers_start(NULL, table);
        int code = berth("start default/vm/db");
        answers_stop();
        ck_assert_msg(code == 0, "%d: %s", code, ran.err);
        ck_assert_str_eq(ran.out, rows[i].said);
    }
}
END_TEST

START_TEST(of_many_the_first_fault_is_the_exit_code_and_the_rest_is_done)
{
    assert_ran("stop none jump", 3);
    ck_assert_str_eq(ran.out, "vm/jump: stops\n");
    ck_assert_contains(ran.err, "vm/none is not there");
}
END_TEST

START_TEST(waiting_for_a_restart_can_be_over_before_it)
{
    serve("phase starting");
    assert_ran("restart jump --wait --timeout 500ms", 7);
    ck_assert_contains(ran.err, "after 500 ms 0 of 1 VM is ready");
    assert_ran("restart jump --wait --timeout soon", 2);
}
END_TEST

/* ---- of a host that is lost ---- */

#define LOST_VM(power)                                                                 \
    "{\"kind\":\"VM\",\"metadata\":{\"name\":\"db\",\"tenant\":\"default\"},\"spec\":" \
    "{" power "},\"status\":{\"phase\":\"lost\",\"host\":\"h2\"}}"

START_TEST(a_vm_on_a_lost_host_is_not_said_to_be_stopped)
{
    const char *const vms[] = {ANSWER_JSON(LOST_VM("")),
                               ANSWER_JSON(LOST_VM("\"power\":\"off\""))};
    const struct route table[] = {{"GET /v1/tenants/default/vms/db", vms[_i]},
                                  {"POST /v1/tenants/default/vms/db:", vms[_i]},
                                  {NULL, NULL}};
    answers_start(NULL, table);
    int code = berth("stop default/vm/db");
    answers_stop();
    ck_assert_msg(code == 0, "%d: %s", code, ran.err);
    ck_assert_str_eq(ran.out,
                     "vm/db: stops when its host is back; it may still run there\n");
}
END_TEST

/* What is asked, of which power, and what is told. */
static const struct {
    const char *vm;
    const char *line;
    const char *said;
} lost_rows[] = {
    {ANSWER_JSON(LOST_VM("")), "start default/vm/db",
     "vm/db: is on already, but its host is lost: it may still run there\n"},
    {ANSWER_JSON(LOST_VM("\"power\":\"off\"")), "start default/vm/db",
     "vm/db: starts when its host is back; it may still run there\n"},
    /* Nothing is asked about disks that are not given up: a cluster of an earlier release
     * does nothing then. */
    {ANSWER_JSON(LOST_VM("")), "start default/vm/db --anywhere",
     "vm/db: is on already, but its host is lost: it may still run there\n"},
};

START_TEST(of_a_vm_on_a_lost_host_it_is_told_what_starts_it)
{
    const struct route table[] = {{"GET /v1/tenants/default/vms/db", lost_rows[_i].vm},
                                  {"POST /v1/tenants/default/vms/db:", lost_rows[_i].vm},
                                  {NULL, NULL}};
    answers_start(NULL, table);
    int code = berth(lost_rows[_i].line);
    answers_stop();
    ck_assert_msg(code == 0, "%d: %s", code, ran.err);
    ck_assert_str_eq(ran.out, lost_rows[_i].said);
    ck_assert_str_eq(ran.err,
                     "next: bring h2 back, or berth rm host/h2 once it is surely "
                     "off: the VM then starts elsewhere, with new disks\n");
}
END_TEST

START_TEST(of_a_lost_vm_whose_disks_are_elsewhere_it_is_told_where)
{
    static const char vm[] = ANSWER_JSON(
        "{\"kind\":\"VM\",\"metadata\":{\"name\":\"db\",\"tenant\":\"default\"},\"spec\":"
        "{}"
        ",\"status\":{\"phase\":\"lost\",\"host\":\"h2\",\"diskHost\":\"h1\"}}");
    const struct route table[] = {{"GET /v1/tenants/default/vms/db", vm},
                                  {"POST /v1/tenants/default/vms/db:", vm},
                                  {NULL, NULL}};
    answers_start(NULL, table);
    int code = berth("start default/vm/db");
    answers_stop();
    ck_assert_msg(code == 0, "%d: %s", code, ran.err);
    ck_assert_str_eq(ran.err,
                     "next: bring h2 back, or berth rm host/h2 once it is surely "
                     "off: the VM then starts on h1, with its disks\n");
}
END_TEST

#define UNKNOWN_VM(more)                                                          \
    ANSWER_JSON(                                                                  \
        "{\"kind\":\"VM\",\"metadata\":{\"name\":\"db\",\"tenant\":\"default\"}," \
        "\"spec\":{},\"status\":{\"placeUnknown\":true," more "}}")

/* A line that needs the word of its user, of which VM. */
static const struct {
    const char *vm;
    const char *line;
} unknown_rows[] = {
    {UNKNOWN_VM("\"phase\":\"stopped\""), "start default/vm/db --anywhere"},
    {UNKNOWN_VM("\"phase\":\"stopped\",\"diskHost\":\"h3\""), "start default/vm/db"},
};

START_TEST(a_start_of_a_vm_that_may_run_unknown_is_asked_about)
{
    const struct route table[] = {
        {"GET /v1/tenants/default/vms/db", unknown_rows[_i].vm},
        {"POST /v1/tenants/default/vms/db:start", unknown_rows[_i].vm},
        {NULL, NULL}};
    char line[128];
    answers_start(NULL, table);
    int code = berth(unknown_rows[_i].line);
    char *said = strdup(ran.err);
    (void)snprintf(line, sizeof(line), "%s --yes", unknown_rows[_i].line);
    int forced = berth(line);
    answers_stop();
    ck_assert_msg(code == 2, "%d: %s", code, said);
    ck_assert_contains(said, "it is not known where these run");
    ck_assert_contains(said, "  default/vm/db is stopped, it may still run there\n");
    ck_assert_contains(said,
                       "needs --yes where nobody can be asked; nothing was started");
    ck_assert_msg(forced == 0, "%d: %s", forced, ran.err);
    free(said);
}
END_TEST

START_TEST(of_a_lost_vm_that_may_run_unknown_it_is_told_that_it_stays_stopped)
{
    static const char vm[] = UNKNOWN_VM("\"phase\":\"lost\",\"host\":\"h2\"");
    const struct route table[] = {{"GET /v1/tenants/default/vms/db", vm},
                                  {"POST /v1/tenants/default/vms/db:", vm},
                                  {NULL, NULL}};
    answers_start(NULL, table);
    int code = berth("start default/vm/db");
    answers_stop();
    ck_assert_msg(code == 0, "%d: %s", code, ran.err);
    ck_assert_str_eq(ran.err, "next: berth down --forget on h2 ends it there; once it "
                              "surely runs nowhere, berth rm host/h2, and berth start db "
                              "--anywhere starts it with new disks\n");
}
END_TEST

#define VM_OFF(phase)                                                             \
    ANSWER_JSON(                                                                  \
        "{\"kind\":\"VM\",\"metadata\":{\"name\":\"db\",\"tenant\":\"default\"}," \
        "\"spec\":{\"power\":\"off\"},\"status\":{\"phase\":\"" phase             \
        "\",\"host\":\"h2\"}}")

/* Its user switches it off meanwhile: what has failed runs no more, what is on a lost
 * host may. */
START_TEST(waiting_ends_when_one_shall_be_off_and_runs_no_more)
{
    static const struct {
        const char *vm;
        int code;
        const char *said;
    } rows[] = {
        {VM_OFF("failed"), 0, ""},
        {VM_OFF("lost"), 7,
         "default/vm/db is lost: its host is not heard, and it may still run there\n"},
    };
    const struct route table[] = {{"GET /v1/tenants/default/vms/db", rows[_i].vm},
                                  {"POST /v1/tenants/default/vms/db:", rows[_i].vm},
                                  {NULL, NULL}};
    answers_start(NULL, table);
    int code = berth("start default/vm/db --wait --timeout 300ms");
    answers_stop();
    ck_assert_msg(code == rows[_i].code, "%d: %s", code, ran.err);
    ck_assert_contains(ran.err, rows[_i].said);
}
END_TEST

/* What holds a VM up is said above the progress, which gives no reason of its own. */
START_TEST(the_progress_on_a_terminal_counts_what_is_held_up)
{
    static const struct route table[] = {
        {"GET /v1/tenants/default/vms/db", VM_OFF("lost")},
        {"POST /v1/tenants/default/vms/db:", VM_OFF("lost")},
        {NULL, NULL}};
    char *args[ARGS_MAX];
    char *text = calloc(1, 1);
    size_t size = 0;
    int terminal = -1;
    int status = 0;
    answers_start(NULL, table);
    berth_args("start default/vm/db --wait --timeout 1s", args);
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)execv(args[0], args);
        _exit(127);
    }
    struct pollfd wait = {.fd = terminal, .events = POLLIN};
    while (poll(&wait, 1, RAN_MS) > 0 && gather(terminal, &text, &size)) {
    }
    (void)close(terminal);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    answers_stop();
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    ck_assert_contains(text, "; 1 held up, as told");
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_change");
    TCase *tests = tcase_create("run_change");
    tcase_add_checked_fixture(tests, change_start, fixture_stop);
    tcase_add_test(tests, a_group_is_scaled_up_and_down);
    tcase_add_test(tests, a_vm_is_stopped_started_and_restarted);
    tcase_add_test(tests,
                   a_stopped_vm_is_listed_where_its_disks_are_until_it_starts_anywhere);
    tcase_add_test(tests, a_start_says_what_the_host_of_its_disks_lacks);
    tcase_add_test(tests, of_many_the_first_fault_is_the_exit_code_and_the_rest_is_done);
    tcase_add_test(tests, waiting_for_a_restart_can_be_over_before_it);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    TCase *lost = tcase_create("lost");
    tcase_add_checked_fixture(lost, folder_start, folder_stop);
    tcase_add_loop_test(lost, a_vm_on_a_lost_host_is_not_said_to_be_stopped, 0, 2);
    tcase_add_loop_test(lost, a_start_of_a_vm_that_may_run_unknown_is_asked_about, 0,
                        sizeof(unknown_rows) / sizeof(unknown_rows[0]));
    tcase_add_test(lost,
                   of_a_lost_vm_that_may_run_unknown_it_is_told_that_it_stays_stopped);
    tcase_add_test(lost, of_a_lost_vm_whose_disks_are_elsewhere_it_is_told_where);
    tcase_add_loop_test(lost, of_a_vm_on_a_lost_host_it_is_told_what_starts_it, 0, 3);
    tcase_add_loop_test(lost, waiting_ends_when_one_shall_be_off_and_runs_no_more, 0, 2);
    tcase_add_test(lost, what_a_start_waits_for_is_told_in_the_clusters_words);
    tcase_add_test(lost, the_progress_on_a_terminal_counts_what_is_held_up);
    tcase_set_timeout(lost, 300);
    suite_add_tcase(suite, lost);
    return test_main_run(suite);
}
