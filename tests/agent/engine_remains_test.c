/* Goal: a process nobody speaks to is watched, frozen and killed, and its end is told
 * once, after it. Method: a real process that works in the VM's folder. */
#include "agent/engine_remains.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS 5

static struct temp_dir dir;
static uv_loop_t loop;
static struct loop_timer *tick;
static struct engine_host host;
static struct engine_run *run;
static pid_t child;
static unsigned exits;
static enum engine_end end;
static bool unwritten;
static void (*again)(void); /* at each tick, until it has exited; NULL: nothing */

static void on_tick(void *context)
{
    (void)context;
    if (again != NULL && exits == 0) {
        again();
    }
}

static void on_exited(void *context, const struct engine_exit *exit)
{
    (void)context;
    exits++;
    end = exit->end;
    unwritten = exit->unwritten;
    ck_assert(vm_process_pid_is_stopped(child)); /* dead, though not reaped */
}

static const struct engine_events events = {.exited = on_exited};

static void setup(void)
{
    int ready[2];
    char byte;
    temp_dir_init_guarded(&dir);
    exits = 0;
    again = NULL;
    ck_assert_int_eq(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        (void)signal(SIGTERM, SIG_DFL); /* Check's own handler ends the whole test */
        if (chdir(dir.path) == 0) {
            (void)!write(ready[1], "x", 1);
        }
        for (;;) {
            pause();
        }
    }
    ck_assert_int_eq((int)read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    tick = loop_timer_new(&loop, TICK_MS, TICK_MS, on_tick, NULL);
    host = (struct engine_host){.loop = &loop, .clock = clock_system()};
    struct engine_vm vm = {.uid = 7, .epoch = 1};
    const struct vm_process_identity nobody = {0};
    struct err err = {0};
    (void)snprintf(vm.folder, sizeof(vm.folder), "%.90s", dir.path);
    run = engine_remains.adopt(&host, &vm, &nobody, NULL, &events, NULL, &err);
    ck_assert_msg(run != NULL, "%s", err.text);
}

static void teardown(void)
{
    run = run == NULL ? NULL : engine_remains.close(run);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    tick = loop_timer_close(tick);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    temp_dir_fini(&dir);
}

static void wait_exit(void)
{
    while (exits == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    for (unsigned i = 0; i < 20; i++) { /* and it is not told again */
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(exits, 1);
}

START_TEST(a_kill_is_told_when_nothing_is_left)
{
    engine_remains.kill(run);
    ck_assert_uint_eq(exits, 0); /* never inside the call */
    wait_exit();
    ck_assert_int_eq(end, ENGINE_END_KILLED);
    ck_assert(!unwritten); /* it was not even asked to end */
}
END_TEST

START_TEST(an_end_by_itself_is_noticed)
{
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    wait_exit();
    ck_assert_int_eq(end, ENGINE_END_GONE);
}
END_TEST

static const struct {
    uint64_t grace_ms;
    uint64_t ending_ms;
    bool deaf;
} stops[] = {
    {60000, 0, false},
    {20, 60000, true},
    {0, 60000, false}, /* without a grace it still has the time of any program */
    {0, 20, true},
};

START_TEST(a_stop_lets_it_end_and_a_deaf_one_is_killed)
{
    if (stops[_i].deaf) {
        ck_assert_int_eq(kill(child, SIGSTOP), 0);
        ck_assert_int_eq(waitpid(child, NULL, WUNTRACED), child);
    }
    host.ending_ms = stops[_i].ending_ms;
    engine_remains.stop(run, stops[_i].grace_ms);
    wait_exit();
    ck_assert_int_eq(end, stops[_i].deaf ? ENGINE_END_KILLED : ENGINE_END_STOPPED);
    ck_assert_int_eq(unwritten, stops[_i].deaf);
}
END_TEST

static void kill_again(void)
{
    engine_remains.kill(run);
}

static void stop_again(void)
{
    engine_remains.stop(run, 60000);
}

static void (*const asks[])(void) = {kill_again, stop_again};

/* As berthd --cleanup does. */
START_TEST(who_asks_more_often_than_is_looked_still_sees_its_end)
{
    ck_assert_uint_gt(ENGINE_REMAINS_KILL_MS, TICK_MS);
    again = asks[_i];
    wait_exit();
}
END_TEST

START_TEST(it_freezes_and_thaws_by_signals)
{
    int status = 0;
    ck_assert_int_eq(engine_remains.freeze(run, true), 0);
    ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
    ck_assert(WIFSTOPPED(status));
    ck_assert_int_eq(engine_remains.freeze(run, false), 0);
    ck_assert_int_eq(waitpid(child, &status, WCONTINUED), child);
    ck_assert(WIFCONTINUED(status));
    ck_assert_uint_eq(exits, 0);
}
END_TEST

START_TEST(what_needs_an_engine_is_refused)
{
    struct err err = {0};
    const struct engine_vm vm = {0};
    ck_assert_int_eq(engine_remains.cont(run, &err), BERTH_EUNSUPPORTED);
    ck_assert_int_eq(engine_remains.console_write(run, "x", 1), BERTH_EUNSUPPORTED);
    ck_assert_ptr_null(engine_remains.start(&host, &vm, NULL, &events, NULL, &err));
    ck_assert_int_eq(err.code, BERTH_EUNSUPPORTED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_remains");
    TCase *tests = tcase_create("engine_remains");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_kill_is_told_when_nothing_is_left);
    tcase_add_test(tests, an_end_by_itself_is_noticed);
    tcase_add_loop_test(tests, a_stop_lets_it_end_and_a_deaf_one_is_killed, 0,
                        (int)(sizeof(stops) / sizeof(stops[0])));
    tcase_add_loop_test(tests, who_asks_more_often_than_is_looked_still_sees_its_end, 0,
                        (int)(sizeof(asks) / sizeof(asks[0])));
    tcase_add_test(tests, it_freezes_and_thaws_by_signals);
    tcase_add_test(tests, what_needs_an_engine_is_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
