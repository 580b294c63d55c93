/* Goal: the fake engine keeps the engines' contract: events in order, none inside a call,
 * exited once and last. Method: the engine alone; its life under the supervisor is tested
 * there. */
#include "agent/engine_fake.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct bench {
    struct temp_dir dir;
    uv_loop_t loop;
    struct loop_timer *deadline;
    struct engine_host host;
    struct engine_vm vm;
    struct console_ring *console;
    struct engine_run *run;
    struct vm_process_identity identity;
    char story[64]; /* a letter per event */
    bool refuse;    /* the owner cannot write it down */
    struct engine_exit exit;
};

static struct bench bench;

static void tell(char event)
{
    size_t length = strlen(bench.story);
    ck_assert_uint_lt(length + 1, sizeof(bench.story));
    bench.story[length] = event;
}

static int on_spawned(void *context, const struct vm_process_identity *identity)
{
    (void)context;
    tell('S');
    bench.identity = *identity;
    return bench.refuse ? BERTH_EDISKFULL : 0;
}

static void on_held(void *context)
{
    (void)context;
    tell('h');
}

static void on_running(void *context)
{
    (void)context;
    tell('r');
}

static void on_paused(void *context)
{
    (void)context;
    tell('p');
}

static void on_exited(void *context, const struct engine_exit *exit)
{
    (void)context;
    tell('x');
    bench.exit = *exit;
    bench.run = engine_fake.close(bench.run);
}

static const struct engine_events events = {
    .spawned = on_spawned,
    .held = on_held,
    .running = on_running,
    .paused = on_paused,
    .exited = on_exited,
};

static void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long, after %s", bench.story);
}

static void setup(void)
{
    memset(&bench, 0, sizeof(bench));
    signal(SIGPIPE, SIG_IGN);
    temp_dir_init_guarded(&bench.dir);
    ck_assert_int_eq(uv_loop_init(&bench.loop), 0);
    bench.deadline = loop_timer_new(&bench.loop, 40000, 0, on_deadline, NULL);
    bench.host = (struct engine_host){.loop = &bench.loop, .clock = clock_system()};
    bench.console = console_ring_new();
    bench.vm = (struct engine_vm){
        .uid = 9, .epoch = 1, .name = "web-1", .tenant = "shop", .cpu_count = 1};
    (void)snprintf(bench.vm.folder, sizeof(bench.vm.folder), "%.90s", bench.dir.path);
}

static void teardown(void)
{
    if (bench.run != NULL) {
        engine_fake.kill(bench.run);
    }
    while (bench.run != NULL) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    bench.deadline = loop_timer_close(bench.deadline);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench.loop), 0);
    console_ring_free(bench.console);
    temp_dir_fini(&bench.dir);
}

static void start(void)
{
    struct err err = {0};
    bench.run =
        engine_fake.start(&bench.host, &bench.vm, bench.console, &events, NULL, &err);
    ck_assert_msg(bench.run != NULL, "%s", err.text);
    ck_assert_str_eq(bench.story, "");
}

static void wait_story(const char *want)
{
    while (strcmp(bench.story, want) != 0) {
        ck_assert_msg(strncmp(bench.story, want, strlen(bench.story)) == 0,
                      "%s is not on the way to %s", bench.story, want);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

START_TEST(a_life_is_told_in_order)
{
    start();
    ck_assert_int_eq(engine_fake.cont(bench.run, NULL), BERTH_EPHASE); /* not held yet */
    wait_story("Sh");
    ck_assert_int_eq(engine_fake.pause(bench.run, NULL), BERTH_EPHASE);
    ck_assert_int_eq(engine_fake.cont(bench.run, NULL), 0);
    ck_assert_str_eq(bench.story, "Sh"); /* not inside the call */
    wait_story("Shr");
    ck_assert_int_eq(engine_fake.pause(bench.run, NULL), 0);
    wait_story("Shrp");
    ck_assert_int_eq(engine_fake.cont(bench.run, NULL), 0);
    wait_story("Shrpr");

    engine_fake.stop(bench.run, 30000);
    wait_story("Shrprx");

    ck_assert_int_eq(bench.exit.end, ENGINE_END_STOPPED);
    ck_assert_int_eq(bench.exit.process.exit_status, 0);
}
END_TEST

START_TEST(a_paused_vm_that_thaws_stays_paused)
{
    start();
    wait_story("Sh");
    ck_assert_int_eq(engine_fake.cont(bench.run, NULL), 0);
    wait_story("Shr");
    ck_assert_int_eq(engine_fake.pause(bench.run, NULL), 0);
    wait_story("Shrp");

    ck_assert_int_eq(engine_fake.freeze(bench.run, true), 0);
    ck_assert_int_eq(engine_fake.freeze(bench.run, false), 0);
    while (!vm_process_pid_is_stopped(bench.identity.pid)) {
        sched_yield();
    }
    for (unsigned turn = 0; turn < 5; turn++) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    ck_assert(vm_process_pid_is_stopped(bench.identity.pid));
}
END_TEST

START_TEST(a_process_that_cannot_be_written_down_does_not_run)
{
    bench.refuse = true;
    start();

    wait_story("Sx");

    ck_assert_int_eq(bench.exit.end, ENGINE_END_START_FAILED);
    ck_assert_int_eq(vm_process_verify(&bench.identity), BERTH_ENOTFOUND);
    char *held = temp_dir_read(&bench.dir, "held");
    ck_assert_ptr_null(held);
}
END_TEST

START_TEST(a_kill_before_there_is_a_process_spawns_none)
{
    start();

    engine_fake.kill(bench.run);
    wait_story("x");

    ck_assert_int_eq(bench.exit.end, ENGINE_END_KILLED);
}
END_TEST

START_TEST(a_closed_run_lives_on_and_says_no_more)
{
    start();
    wait_story("Sh");
    bench.run = engine_fake.close(bench.run);
    uv_run(&bench.loop, UV_RUN_NOWAIT);

    ck_assert_int_eq(vm_process_verify(&bench.identity), 0);
    memset(bench.story, 0, sizeof(bench.story));
    struct err err = {0};
    bench.run = engine_fake.adopt(&bench.host, &bench.vm, &bench.identity, bench.console,
                                  &events, NULL, &err);
    ck_assert_msg(bench.run != NULL, "%s", err.text);
    wait_story("h");

    ck_assert_int_eq(engine_fake.cont(bench.run, NULL), 0);
    wait_story("hr");
}
END_TEST

START_TEST(a_vm_whose_folder_is_taken_away_ends)
{
    char folder[ENGINE_FOLDER_MAX + 1];
    start();
    wait_story("Sh");
    (void)snprintf(folder, sizeof(folder), "%s", bench.vm.folder);

    temp_dir_fini(&bench.dir);

    wait_story("Shx");
    ck_assert_int_eq(access(folder, F_OK), -1);
    ck_assert_int_eq(bench.exit.end, ENGINE_END_CRASHED);
}
END_TEST

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    Suite *suite = suite_create("engine_fake");
    TCase *tests = tcase_create("engine_fake");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_life_is_told_in_order);
    tcase_add_test(tests, a_paused_vm_that_thaws_stays_paused);
    tcase_add_test(tests, a_process_that_cannot_be_written_down_does_not_run);
    tcase_add_test(tests, a_kill_before_there_is_a_process_spawns_none);
    tcase_add_test(tests, a_closed_run_lives_on_and_says_no_more);
    tcase_add_test(tests, a_vm_whose_folder_is_taken_away_ends);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
