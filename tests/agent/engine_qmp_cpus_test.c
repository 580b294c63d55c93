/* Goal: a VM gets the CPUs that it is to have before it begins and while it runs, each
 * once, also when a connection is lost in between. Method: a scripted peer at the control
 * socket. The real program is in engine_kvm_test.c. */
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
    ck_assert_uint_eq(helds, 0);
    answer("query-status", "return", "{\"status\": \"prelaunch\"}");

    turn_until(&helds);
    ck_assert_uint_eq(notes, 0);
    engine_qmp_kill(run);
    turn_until(&exits);
    ck_assert_int_eq(end, ENGINE_END_KILLED);
}
END_TEST

START_TEST(more_come_while_it_runs_and_none_twice)
{
    begin(1, 4);
    adopt_kind(&plugs);
    greet();
    answer("query-hotpluggable-cpus", "return", "[" CPU(0, THERE) ", " CPU(1, "") "]");
    answer("query-status", "return", "{\"status\": \"running\"}");

    engine_qmp_plug(run, 3);

    answer("query-hotpluggable-cpus", "return",
           "[" CPU(0, THERE) ", " CPU(1, "") ", " CPU(2, "") ", " CPU(3, "") "]");
    answer("device_add", "return", "{}");
    answer("device_add", "return", "{}");
    engine_qmp_plug(run, 3);
    answer("query-hotpluggable-cpus", "return",
           "[" CPU(0, THERE) ", " CPU(1, THERE) ", " CPU(2, THERE) ", " CPU(3, "") "]");
    say_event("STOP"); /* heard behind that, and nothing was added */
    answer("query-status", "return", "{\"status\": \"running\"}");
    ck_assert_uint_eq(notes, 0);
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

    answer("query-hotpluggable-cpus", "return", "[" CPU(0, THERE) ", " CPU(1, "") "]");
    answer("device_add", "return", "{}");
    answer("query-status", "return", "{\"status\": \"running\"}");
    ck_assert_uint_eq(notes, 0);
}
END_TEST

START_TEST(one_that_is_refused_is_told_of)
{
    begin(2, 4);
    adopt_kind(&plugs);
    greet();
    answer("query-hotpluggable-cpus", "return", "[" CPU(1, "") "]");
    answer("device_add", "error", "{\"class\": \"GenericError\", \"desc\": \"full\"}");
    answer("query-status", "return", "{\"status\": \"running\"}");

    turn_until(&notes);

    ck_assert_msg(strstr(note, "a CPU was not added: ") == note &&
                      strstr(note, "full") != NULL,
                  "%s", note);
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
    tcase_add_test(tests, one_that_is_refused_is_told_of);
    tcase_add_loop_test(tests, where_none_may_come_nothing_is_asked, 0, 2);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
