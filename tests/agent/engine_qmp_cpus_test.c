/* Goal: a VM gets the CPUs that it is to have before it begins and while it runs, each
 * once, also when a connection is lost in between, its program is busy, or has refused.
 * Method: a scripted peer at the control socket. The real program is in
 * engine_kvm_test.c. */
#include "qmp_peer.h"

#define CPU(core, more) "{\"type\": \"t\", \"props\": {\"core-id\": " #core "}" more "}"
#define THERE           ", \"qom-path\": \"/m\""

static struct engine_qmp_kind plugs;

static void begin(uint32_t count, uint32_t max)
{
    plugs = kind;
    plugs.plugs_cpus = true;
    vm.cpu_count = count;
    vm.cpu_max = max;
}

/* To the question which there are: all of the first so many, in places for 64. */
static void answer_there(uint32_t there)
{
    char text[4096];
    int at = snprintf(text, sizeof(text), "{\"id\": %ld, \"return\": [",
                      hear("query-hotpluggable-cpus"));
    for (uint32_t core = 0; core < 64; core++) {
        at += snprintf(text + at, sizeof(text) - (size_t)at,
                       "%s{\"type\": \"t\", \"props\": {\"core-id\": %u}%s}",
                       core == 0 ? "" : ", ", core, core < there ? THERE : "");
    }
    at += snprintf(text + at, sizeof(text) - (size_t)at, "]}\r\n");
    ck_assert_int_eq(fd_write_full(peer, text, (size_t)at), 0);
}

static void turn_until_plugged(unsigned times)
{
    while (plugged < times) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void refuse_one(void)
{
    answer("device_add", "error",
           "{\"class\": \"GenericError\", \"desc\": \"being saved\"}");
}

/* Adopted with so many of so many, and found running. */
static void adopt_running(uint32_t count, uint32_t max)
{
    begin(count, max);
    adopt_kind(&plugs);
    greet();
    answer_there(count);
    answer("query-status", "return", "{\"status\": \"running\"}");
    turn_until(&runs);
    ck_assert_uint_eq(plugged, 1);
}

START_TEST(a_cpu_that_is_missing_comes_before_the_guest_begins)
{
    struct err err = {0};
    begin(2, 2);
    run = engine_qmp_start(&plugs, &host, &vm, console, &events, NULL, &err);
    ck_assert_msg(run != NULL, "%s", err.text);
    turn_until(&spawns);
    peer_listen();
    ck_assert_msg(engine_qmp_release(run, &err) == 0, "%s", err.text);
    greet();

    answer("query-hotpluggable-cpus", "return", "[" CPU(1, "") ", " CPU(0, THERE) "]");
    answer("device_add", "return", "{}");
    answer("query-hotpluggable-cpus", "return", "[" CPU(1, THERE) ", " CPU(0, THERE) "]");
    ck_assert_uint_eq(helds, 0);
    answer("query-status", "return", "{\"status\": \"prelaunch\"}");

    turn_until(&helds);
    ck_assert_uint_eq(cpus, 2);
    ck_assert_str_eq(missing, "");
    engine_qmp_kill(run);
    turn_until(&exits);
    ck_assert_int_eq(end, ENGINE_END_KILLED);
}
END_TEST

START_TEST(more_come_while_it_runs_and_none_twice)
{
    adopt_running(1, 4);

    engine_qmp_plug(run, 3);

    ck_assert_uint_eq(plugged, 1); /* not inside of the call */
    answer_there(1);
    answer("device_add", "return", "{}");
    answer_there(2);
    answer("device_add", "return", "{}");
    answer_there(3);
    turn_until_plugged(2);
    ck_assert_uint_eq(cpus, 3);
    engine_qmp_plug(run, 3);
    answer_there(3);
    turn_until_plugged(3);
    say_event("STOP"); /* heard behind that, and nothing was added */
    answer("query-status", "return", "{\"status\": \"running\"}");
    ck_assert_str_eq(missing, "");
}
END_TEST

START_TEST(sixty_three_come_one_after_the_other)
{
    adopt_running(1, 64);

    engine_qmp_plug(run, 64);

    for (uint32_t there = 1; there < 64; there++) {
        answer_there(there);
        answer("device_add", "return", "{}");
    }
    answer_there(64);
    turn_until_plugged(2);
    ck_assert_uint_eq(cpus, 64);
    ck_assert_str_eq(missing, "");
    ck_assert_uint_eq(exits, 0);
}
END_TEST

START_TEST(what_was_lost_with_its_connection_is_told_over_the_next)
{
    begin(1, 2);
    adopt_kind(&plugs);
    greet();
    answer("query-hotpluggable-cpus", "return", "[" CPU(0, THERE) "]");
    answer("query-status", "return", "{\"status\": \"running\"}");
    engine_qmp_plug(run, 2);
    (void)hear("query-hotpluggable-cpus");
    fd_close(&peer);

    greet();

    answer_there(1);
    (void)hear("device_add");
    fd_close(&peer);

    greet();

    answer_there(1);
    answer("device_add", "return", "{}");
    answer_there(2);
    answer("query-status", "return", "{\"status\": \"running\"}");
    ck_assert_str_eq(missing, "");
}
END_TEST

/* A machine refuses while it is being saved. */
START_TEST(one_that_is_refused_is_told_of_and_tried_again)
{
    adopt_running(1, 2);
    engine_qmp_plug(run, 2);
    answer_there(1);
    refuse_one();
    turn_until_plugged(2);
    ck_assert_uint_eq(cpus, 1);
    ck_assert_msg(strstr(missing, "a CPU is not there yet: ") == missing &&
                      strstr(missing, "being saved") != NULL,
                  "%s", missing);

    answer_there(1);
    refuse_one();
    answer_there(1);
    answer("device_add", "return", "{}");
    answer_there(2);

    turn_until_plugged(4);
    ck_assert_uint_eq(cpus, 2);
    ck_assert_str_eq(missing, "");
}
END_TEST

/* It begins with fewer then, and gets the others while it runs. */
START_TEST(one_that_is_refused_before_the_guest_begins_is_tried_again)
{
    struct err err = {0};
    begin(2, 2);
    run = engine_qmp_start(&plugs, &host, &vm, console, &events, NULL, &err);
    ck_assert_msg(run != NULL, "%s", err.text);
    turn_until(&spawns);
    peer_listen();
    ck_assert_msg(engine_qmp_release(run, &err) == 0, "%s", err.text);
    greet();
    answer_there(1);
    refuse_one();
    ck_assert_uint_eq(helds, 0);
    answer("query-status", "return", "{\"status\": \"prelaunch\"}");
    turn_until(&helds);
    ck_assert_str_ne(missing, "");

    answer_there(1);
    answer("device_add", "return", "{}");
    answer_there(2);

    turn_until_plugged(2);
    ck_assert_str_eq(missing, "");
    engine_qmp_kill(run);
    turn_until(&exits);
}
END_TEST

START_TEST(a_question_that_is_not_answered_is_asked_again)
{
    adopt_running(1, 2);
    engine_qmp_plug(run, 2);
    if (_i == 0) {
        (void)hear("query-hotpluggable-cpus");
    } else {
        answer_there(1);
        (void)hear("device_add");
    }
    turn_until_plugged(2);
    ck_assert_msg(strstr(missing, "no answer in time") != NULL, "%s", missing);

    answer_there(2); /* it was added all the same */

    turn_until_plugged(3);
    ck_assert_str_eq(missing, "");
}
END_TEST

START_TEST(one_that_is_said_to_be_added_and_is_not_is_tried_later)
{
    adopt_running(1, 2);
    engine_qmp_plug(run, 2);
    answer_there(1);
    answer("device_add", "return", "{}");
    answer_there(1);

    turn_until_plugged(2);

    ck_assert_msg(strstr(missing, "has not added it") != NULL, "%s", missing);
}
END_TEST

/* Neither its CPUs nor its status are worth its life. */
START_TEST(a_program_that_has_much_to_answer_is_asked_later)
{
    adopt_running(1, 2);
    for (unsigned i = 0; i < QMP_COMMANDS_MAX; i++) {
        ck_assert_int_eq(
            engine_qmp_command(engine_qmp_run_of(run), "query-version", NULL, NULL), 0);
    }
    engine_qmp_plug(run, 2);
    engine_qmp_status_ask(engine_qmp_run_of(run));
    turn_until_plugged(2);
    ck_assert_str_ne(missing, "");
    for (unsigned i = 0; i < QMP_COMMANDS_MAX; i++) {
        answer("query-version", "return", "{}");
    }

    long status = hear("query-status");
    answer_to(status, "return", "{\"status\": \"running\"}");
    answer_there(2);

    turn_until_plugged(3);
    ck_assert_uint_eq(exits, 0);
    ck_assert_str_eq(missing, "");
}
END_TEST

/* What is tried again meanwhile does not ask before. */
START_TEST(the_status_is_asked_once_behind_the_cpus)
{
    adopt_running(1, 2);
    fd_close(&peer);
    greet();
    long asked = hear("query-hotpluggable-cpus");
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
    answer("cont", "error", "{\"class\": \"GenericError\", \"desc\": \"not now\"}");

    answer("cont", "return", "{}"); /* tried again, and alone */
    answer_to(asked, "return", "[" CPU(0, THERE) ", " CPU(1, "") "]");

    answer("query-status", "return", "{\"status\": \"running\"}");
}
END_TEST

START_TEST(where_none_may_come_nothing_is_asked)
{
    begin(2, 0);
    plugs.plugs_cpus = _i == 0;
    vm.cpu_max = _i == 0 ? 0 : 4; /* QEMU's begin with all that they get */
    adopt_kind(&plugs);
    greet();
    answer("query-status", "return", "{\"status\": \"running\"}");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_qmp_cpus");
    TCase *tests = tcase_create("peer");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_cpu_that_is_missing_comes_before_the_guest_begins);
    tcase_add_test(tests, more_come_while_it_runs_and_none_twice);
    tcase_add_test(tests, what_was_lost_with_its_connection_is_told_over_the_next);
    tcase_add_test(tests, sixty_three_come_one_after_the_other);
    tcase_add_test(tests, one_that_is_refused_is_told_of_and_tried_again);
    tcase_add_test(tests, one_that_is_refused_before_the_guest_begins_is_tried_again);
    tcase_add_loop_test(tests, a_question_that_is_not_answered_is_asked_again, 0, 2);
    tcase_add_test(tests, one_that_is_said_to_be_added_and_is_not_is_tried_later);
    tcase_add_test(tests, a_program_that_has_much_to_answer_is_asked_later);
    tcase_add_test(tests, the_status_is_asked_once_behind_the_cpus);
    tcase_add_loop_test(tests, where_none_may_come_nothing_is_asked, 0, 2);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
