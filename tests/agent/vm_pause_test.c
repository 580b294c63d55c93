/* Goal: a VM stands still for its user and for nothing else, whoever asks when. Method:
 * real processes of the fake engine, which are stopped as a whole (supervisor_fixture.h).
 */
#include "supervisor_fixture.h"

static int pause_it(bool paused)
{
    return vm_supervisor_pause(bench.supervisor, UID, 1, paused, NULL);
}

static void wait_state(pid_t pid, char state)
{
    while (!is_state(pid, state)) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static struct vm_report wait_paused(bool paused)
{
    while (report_of(UID).paused != paused) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    return report_of(UID);
}

static pid_t start_ready(void)
{
    start(UID, 1, false);
    return wait_phase(UID, PHASE_READY).pid;
}

START_TEST(a_paused_vm_stands_still_and_is_running_for_all_others)
{
    pid_t pid = start_ready();

    ck_assert_int_eq(pause_it(true), 0);

    struct vm_report paused = wait_paused(true);
    wait_state(pid, 'T');
    ck_assert_int_eq(paused.phase, PHASE_RUNNING);
    ck_assert_str_eq(paused.reason, "paused by its user");
    ck_assert_int_eq(pause_it(true), 0); /* once more changes nothing */
    ck_assert(report_of(UID).paused);

    ck_assert_int_eq(pause_it(false), 0);

    struct vm_report ready = wait_phase(UID, PHASE_READY);
    ck_assert(!ready.paused);
    ck_assert_str_eq(ready.reason, "");
    wait_state(pid, 'S');
}
END_TEST

/* ---- an engine that counts what it is told ---- */

static unsigned conts_told, pauses_told;

static int counting_cont(struct engine_run *run, struct err *err)
{
    conts_told++;
    return engine_fake.cont(run, err);
}

static int counting_pause(struct engine_run *run, struct err *err)
{
    pauses_told++;
    return engine_fake.pause(run, err);
}

START_TEST(a_pause_takes_back_a_word_to_go_on_that_is_under_way)
{
    struct engine_ops counting = engine_fake;
    const struct engine_ops *const counted[] = {&counting, NULL};
    counting.cont = counting_cont;
    counting.pause = counting_pause;
    close_supervisor();
    bench.engines = counted;
    open_supervisor();
    (void)start_ready();
    ck_assert_int_eq(pause_it(true), 0);
    (void)wait_paused(true);
    conts_told = pauses_told = 0;

    ck_assert_int_eq(pause_it(false), 0);
    ck_assert_int_eq(pause_it(true), 0); /* before it runs */

    ck_assert_uint_eq(pauses_told, 1);
    ck_assert_int_eq(pause_it(false), 0);
    ck_assert_uint_eq(conts_told, 2); /* the first may be lost */
    (void)wait_phase(UID, PHASE_READY);
    close_supervisor(); /* before its engine goes */
    bench.engines = engines;
    open_supervisor();
}
END_TEST

START_TEST(one_that_has_not_begun_is_paused_as_soon_as_it_runs)
{
    start(UID, 1, true);
    (void)wait_held(UID);
    ck_assert_int_eq(pause_it(true), 0);
    ck_assert(!report_of(UID).paused);

    ck_assert_int_eq(vm_supervisor_cont(bench.supervisor, UID, 1, NULL), 0);

    ck_assert_int_eq(wait_paused(true).phase, PHASE_RUNNING);
    wait_state(report_of(UID).pid, 'T');
}
END_TEST

START_TEST(a_stop_ends_a_pause_for_the_guest_is_to_hear_of_it)
{
    (void)start_ready();
    ck_assert_int_eq(pause_it(true), 0);
    (void)wait_paused(true);

    ck_assert_int_eq(vm_supervisor_stop(bench.supervisor, UID, 1, UINT64_MAX, NULL), 0);

    ck_assert_str_eq(wait_phase(UID, PHASE_STOPPED).reason, "stopped");
    ck_assert(!report_of(UID).paused);
}
END_TEST

START_TEST(a_pause_outlives_the_daemon)
{
    pid_t pid = start_ready();
    ck_assert_int_eq(pause_it(true), 0);
    (void)wait_paused(true);
    close_supervisor();
    open_supervisor();
    ck_assert_int_eq(vm_supervisor_resume_all(bench.supervisor),
                     1); /* the lease's part */

    (void)wait_paused(true);

    wait_state(pid, 'T');
    ck_assert_int_eq(pause_it(false), 0);
    (void)wait_phase(UID, PHASE_READY);
    wait_state(pid, 'S');
}
END_TEST

/* As a daemon that died while it made a snapshot leaves it. */
START_TEST(what_stands_still_without_a_word_goes_on)
{
    pid_t pid = start_ready();
    wait_record(UID, VM_RECORD_RUNNING);
    close_supervisor();
    temp_dir_write(&bench.dir, "vms/7/paused", "");
    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    wait_state(pid, 'T');
    open_supervisor();
    ck_assert_int_eq(vm_supervisor_resume_all(bench.supervisor),
                     1); /* the lease's part */

    wait_state(pid, 'S');
    ck_assert(!report_of(UID).paused);
}
END_TEST

START_TEST(a_frozen_vm_is_paused_when_it_thaws)
{
    pid_t pid = start_ready();
    ck_assert_uint_eq(vm_supervisor_freeze_all(bench.supervisor), 1);

    ck_assert_int_eq(pause_it(true), 0);
    ck_assert(!report_of(UID).paused);
    ck_assert_uint_eq(vm_supervisor_resume_all(bench.supervisor), 1);

    (void)wait_paused(true);
    wait_state(pid, 'T');
}
END_TEST

START_TEST(orders_for_others_are_not_heard)
{
    pid_t pid = start_ready();
    ck_assert_int_eq(vm_supervisor_pause(bench.supervisor, UID, 2, true, NULL), 0);
    ck_assert_int_eq(vm_supervisor_pause(bench.supervisor, UID + 1, 1, true, NULL),
                     BERTH_ENOTFOUND);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    (void)wait_phase(UID, PHASE_FAILED);
    ck_assert_int_eq(pause_it(true), 0);
    ck_assert(!report_of(UID).paused);

    start(UID, 2, false); /* a new run is not paused by what was said of the last */

    ck_assert(!wait_phase(UID, PHASE_READY).paused);
}
END_TEST

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    Suite *suite = suite_create("vm_pause");
    TCase *tests = tcase_create("vm_pause");
    tcase_set_timeout(tests, 250);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_paused_vm_stands_still_and_is_running_for_all_others);
    tcase_add_test(tests, a_pause_takes_back_a_word_to_go_on_that_is_under_way);
    tcase_add_test(tests, one_that_has_not_begun_is_paused_as_soon_as_it_runs);
    tcase_add_test(tests, a_stop_ends_a_pause_for_the_guest_is_to_hear_of_it);
    tcase_add_test(tests, a_pause_outlives_the_daemon);
    tcase_add_test(tests, what_stands_still_without_a_word_goes_on);
    tcase_add_test(tests, a_frozen_vm_is_paused_when_it_thaws);
    tcase_add_test(tests, orders_for_others_are_not_heard);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
