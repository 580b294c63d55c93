/* Real timers and processes, but no test depends on how long anything takes: each runs
 * its loop until the event has come, with Check's own time limit as the bound. A closed
 * loop proves that nothing was left in it. */
#include "base/cleanup.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOREVER_MS 600000 /* far beyond the test's own limit */

static uv_loop_t loop;

static void setup(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
}

/* Runs what is left and proves that it ends. */
static void teardown(void)
{
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

struct ticks {
    struct loop_timer *timer;
    int count;
    int close_at;
};

static void tick(void *context)
{
    struct ticks *ticks = context;
    ticks->count++;
    if (ticks->count == ticks->close_at) {
        ticks->timer = loop_timer_close(ticks->timer);
    }
}

START_TEST(a_timer_repeats_until_it_is_closed_from_its_callback)
{
    struct ticks ticks = {.close_at = 3};
    ticks.timer = loop_timer_new(&loop, 0, 1, tick, &ticks);
    ck_assert_int_eq(ticks.count, 0); /* never inside the call */
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(ticks.count, 3);
    ck_assert_ptr_null(ticks.timer);
    ck_assert_ptr_null(loop_timer_close(NULL));
}
END_TEST

START_TEST(a_one_shot_timer_fires_once_and_can_start_anew)
{
    struct ticks ticks = {0};
    ticks.timer = loop_timer_new(&loop, 1, 0, tick, &ticks);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(ticks.count, 1);
    loop_timer_again(ticks.timer, 0, 0);
    ck_assert_int_eq(ticks.count, 1);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(ticks.count, 2);
    (void)loop_timer_close(ticks.timer);
}
END_TEST

#define TIMES 8

struct times {
    unsigned count;
    uint64_t at_ms[TIMES];
};

static void note_time(void *context)
{
    struct times *times = context;
    times->at_ms[times->count++ % TIMES] = uv_now(&loop);
}

START_TEST(timers_of_one_interval_fire_together_whenever_they_began)
{
    struct times one = {0};
    struct times two = {0};
    bool together = false;
    struct loop_timer *first = loop_timer_new(&loop, 1, 50, note_time, &one);
    struct loop_timer *second = loop_timer_new(&loop, 20, 50, note_time, &two);
    while (two.count < 2 || one.count < 3) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    for (unsigned i = 1; i < 3; i++) { /* in one turn of the loop, however late that is */
        together = together || one.at_ms[i] == two.at_ms[1];
    }
    ck_assert(together);
    (void)loop_timer_close(first);
    (void)loop_timer_close(second);
}
END_TEST

START_TEST(a_closed_timer_does_not_fire)
{
    struct ticks ticks = {0};
    ticks.timer = loop_timer_new(&loop, 0, 0, tick, &ticks);
    (void)loop_timer_close(ticks.timer);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(ticks.count, 0);
}
END_TEST

static void wake_once(uv_idle_t *idle)
{
    uv_close((uv_handle_t *)idle, NULL);
}

START_TEST(a_slack_timer_fires_when_the_loop_is_awake_for_something_else)
{
    struct ticks ticks = {0};
    ticks.timer = loop_timer_new(&loop, 0, 0, tick, &ticks);
    loop_timer_slacken(ticks.timer, FOREVER_MS);
    uv_idle_t idle;
    ck_assert_int_eq(uv_idle_init(&loop, &idle), 0);
    ck_assert_int_eq(uv_idle_start(&idle, wake_once), 0);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(ticks.count, 1);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(ticks.count, 1); /* once is once */
    (void)loop_timer_close(ticks.timer);
}
END_TEST

START_TEST(a_slack_timer_wakes_the_loop_when_nothing_else_does)
{
    struct ticks ticks = {.close_at = 3};
    ticks.timer = loop_timer_new(&loop, 0, 1, tick, &ticks);
    loop_timer_slacken(ticks.timer, 1);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(ticks.count, 3);
    ck_assert_ptr_null(ticks.timer);
}
END_TEST

START_TEST(a_deferred_timer_fires_an_interval_later)
{
    struct ticks late = {0};
    late.timer = loop_timer_new(&loop, 0, FOREVER_MS, tick, &late);
    loop_timer_defer(late.timer); /* it was due at once */
    struct ticks end = {.close_at = 1};
    end.timer = loop_timer_new(&loop, 1, 0, tick, &end);
    (void)uv_run(&loop, UV_RUN_ONCE);
    ck_assert_int_eq(end.count, 1);
    ck_assert_int_eq(late.count, 0);
    loop_timer_again(late.timer, 0, 1); /* and goes on when it is told to */
    (void)uv_run(&loop, UV_RUN_ONCE);
    ck_assert_int_gt(late.count, 0);
    (void)loop_timer_close(late.timer);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
}
END_TEST

struct batches {
    struct loop_batch *batch;
    int count;
    bool again; /* from inside, once */
};

static void batch_done(void *context)
{
    struct batches *batches = context;
    batches->count++;
    if (batches->again) {
        batches->again = false;
        loop_batch_ask(batches->batch);
    }
}

START_TEST(what_is_asked_for_many_times_is_done_once_before_the_loop_waits)
{
    struct batches batches = {0};
    batches.batch = loop_batch_new(&loop, batch_done, &batches);
    for (unsigned i = 0; i < 3; i++) {
        loop_batch_ask(batches.batch);
    }
    ck_assert_int_eq(batches.count, 0);  /* never inside the call */
    (void)uv_run(&loop, UV_RUN_DEFAULT); /* nothing else keeps it */
    ck_assert_int_eq(batches.count, 1);
    (void)loop_batch_close(batches.batch);
    ck_assert_ptr_null(loop_batch_close(NULL));
}
END_TEST

/* Then the loop has decided to wait: it must not, for ten minutes of a timer. */
START_TEST(what_is_asked_for_while_the_loop_is_about_to_wait_is_done_all_the_same)
{
    struct batches batches = {.again = true};
    struct ticks ticks = {0};
    ticks.timer = loop_timer_new(&loop, FOREVER_MS, 0, tick, &ticks);
    batches.batch = loop_batch_new(&loop, batch_done, &batches);
    loop_batch_ask(batches.batch);
    (void)uv_run(&loop, UV_RUN_ONCE);
    ck_assert_int_eq(batches.count, 1);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(batches.count, 2);
    (void)loop_batch_close(batches.batch);
    (void)loop_timer_close(ticks.timer);
}
END_TEST

START_TEST(a_closed_batch_is_silent)
{
    struct batches batches = {0};
    batches.batch = loop_batch_new(&loop, batch_done, &batches);
    loop_batch_ask(batches.batch);
    (void)loop_batch_close(batches.batch);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(batches.count, 0);
}
END_TEST

struct posts {
    struct loop_post *post;
    int count;
};

static void posted(void *context)
{
    struct posts *posts = context;
    posts->count++;
    posts->post = loop_post_close(posts->post);
}

static void *send_many(void *context)
{
    for (int i = 0; i < 1000; i++) {
        loop_post_send(context);
    }
    return NULL;
}

START_TEST(many_posts_from_a_thread_wake_the_loop)
{
    struct posts posts = {0};
    pthread_t thread;
    posts.post = loop_post_new(&loop, posted, &posts);
    ck_assert_int_eq(pthread_create(&thread, NULL, send_many, posts.post), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(posts.count, 0); /* on the loop, not in the thread */
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(posts.count, 1);
}
END_TEST

START_TEST(a_closed_post_is_silent)
{
    struct posts posts = {0};
    posts.post = loop_post_new(&loop, posted, &posts);
    loop_post_send(posts.post);
    (void)loop_post_close(posts.post);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(posts.count, 0);
    ck_assert_ptr_null(loop_post_close(NULL));
}
END_TEST

/* ---- children ---- */

struct outcome {
    struct loop_child *child;
    int count;
    bool close_inside;
    struct loop_child_result result;
    size_t output_size;
    size_t errors_size;
    char output[256]; /* the start */
    char errors[256];
};

static void child_done(void *context, const struct loop_child_result *result)
{
    struct outcome *outcome = context;
    outcome->count++;
    outcome->result = *result;
    outcome->output_size = strlen(result->output);
    outcome->errors_size = strlen(result->errors);
    (void)stpncpy(outcome->output, result->output, sizeof(outcome->output) - 1);
    (void)stpncpy(outcome->errors, result->errors, sizeof(outcome->errors) - 1);
    if (outcome->close_inside) {
        outcome->child = loop_child_close(outcome->child);
    }
}

static void run_shell(struct outcome *outcome,
                      const char *script,
                      const char *input,
                      uint64_t timeout_ms)
{
    struct err err = {0};
    const char *const argv[] = {"sh", "-c", script, NULL};
    outcome->child =
        loop_child_run(&loop, argv, input, timeout_ms, child_done, outcome, &err);
    ck_assert_msg(outcome->child != NULL, "%s", err.text);
    ck_assert_int_eq(outcome->count, 0); /* never inside the call */
}

START_TEST(a_child_s_output_errors_and_success_are_reported_once)
{
    struct outcome outcome = {0};
    run_shell(&outcome, "cat; echo more; echo bad >&2", "given\n", FOREVER_MS);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(outcome.count, 1);
    ck_assert_int_eq(outcome.result.code, 0);
    ck_assert_str_eq(outcome.output, "given\nmore\n");
    ck_assert_str_eq(outcome.errors, "bad\n");
}
END_TEST

START_TEST(a_child_without_input_reads_an_empty_stdin)
{
    struct outcome outcome = {0};
    run_shell(&outcome, "cat; echo end", NULL, FOREVER_MS);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_str_eq(outcome.output, "end\n");
}
END_TEST

START_TEST(a_failing_child_s_status_and_signal_are_told)
{
    struct outcome status = {0};
    struct outcome killed = {0};
    run_shell(&status, "exit 3", NULL, FOREVER_MS);
    run_shell(&killed, "kill -TERM $$", NULL, FOREVER_MS);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(status.result.code, BERTH_ECHILD);
    ck_assert_int_eq(status.result.exit_status, 3);
    ck_assert_int_eq(killed.result.code, BERTH_ECHILD);
    ck_assert_int_eq(killed.result.signal_number, SIGTERM);
    ck_assert_int_eq(killed.count, 1);
}
END_TEST

START_TEST(a_program_that_does_not_exist_is_refused_at_once)
{
    struct outcome outcome = {0};
    struct err err = {0};
    const char *const argv[] = {"berth-no-such-program", NULL};
    ck_assert_ptr_null(
        loop_child_run(&loop, argv, "x", FOREVER_MS, child_done, &outcome, &err));
    ck_assert_int_eq(err.code, -ENOENT);
    ck_assert_str_eq(err.text, "run berth-no-such-program: No such file or directory");
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(outcome.count, 0);
}
END_TEST

START_TEST(a_child_and_its_children_are_killed_at_the_deadline)
{
    struct outcome outcome = {0};
    int witness[2]; /* not closed on exec: every process of the child holds the writing
                       end */
    char byte;
    ck_assert_int_eq(pipe(witness), 0);
    run_shell(&outcome, "sleep 1000 & sleep 1000", NULL, 300);
    (void)close(witness[1]);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(read(witness[0], &byte, 1), 0); /* the last holder is gone */
    (void)close(witness[0]);
    ck_assert_int_eq(outcome.count, 1);
    ck_assert_int_eq(outcome.result.code, BERTH_ETIMEOUT);
    ck_assert_int_eq(outcome.result.signal_number, SIGKILL);
}
END_TEST

START_TEST(a_child_that_traps_signals_dies_at_its_deadline_too)
{
    struct outcome outcome = {0};
    run_shell(&outcome, "trap '' TERM INT HUP; while :; do :; done", NULL, 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(outcome.result.code, BERTH_ETIMEOUT);
}
END_TEST

START_TEST(output_beyond_the_limit_is_read_and_dropped)
{
    struct outcome outcome = {0};
    run_shell(&outcome,
              "head -c 1000000 /dev/zero | tr '\\0' x; head -c 65536 /dev/zero | tr "
              "'\\0' y >&2",
              NULL, FOREVER_MS);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(outcome.result.code, 0);
    ck_assert_uint_eq(outcome.output_size, LOOP_CHILD_OUTPUT_MAX);
    ck_assert_uint_eq(outcome.errors_size, LOOP_CHILD_OUTPUT_MAX);
}
END_TEST

START_TEST(a_child_that_does_not_read_its_input_costs_nothing)
{
    struct outcome outcome = {0};
    enum { SIZE = 1 << 20 };
    CLEANUP_FREE char *input = malloc(SIZE + 1);
    memset(input, 'x', SIZE);
    input[SIZE] = '\0';
    run_shell(&outcome, "exec <&-; echo fine", input, FOREVER_MS);
    memset(input, 'y', SIZE); /* it was copied */
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(outcome.result.code, 0);
    ck_assert_str_eq(outcome.output, "fine\n");
}
END_TEST

START_TEST(a_process_left_behind_does_not_hold_the_report)
{
    struct outcome outcome = {0};
    run_shell(&outcome, "setsid sleep 1000 & echo $!", NULL, FOREVER_MS);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(outcome.count, 1);
    ck_assert_int_eq(outcome.result.code, 0);
    char *end = NULL;
    long pid = strtol(outcome.output, &end, 10);
    ck_assert_int_gt(pid, 1);
    (void)kill((pid_t)pid, SIGKILL);
}
END_TEST

START_TEST(a_closed_child_is_killed_reaped_and_silent)
{
    struct outcome outcome = {0};
    run_shell(&outcome, "sleep 1000", NULL, FOREVER_MS);
    ck_assert_ptr_null(loop_child_close(outcome.child));
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(outcome.count, 0);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
    ck_assert_int_eq(errno, ECHILD);
    ck_assert_ptr_null(loop_child_close(NULL));
}
END_TEST

START_TEST(closing_inside_the_callback_is_harmless)
{
    struct outcome outcome = {.close_inside = true};
    run_shell(&outcome, "echo x", NULL, FOREVER_MS);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(outcome.count, 1);
}
END_TEST

static void close_from_timer(void *context)
{
    struct outcome *outcome = context;
    if (outcome->count == 0) {
        (void)loop_child_close(outcome->child);
    }
}

/* Closing at every moment of a short life: before the output, between, after the exit. */
START_TEST(a_child_may_be_closed_at_any_moment)
{
    struct outcome outcome = {0};
    run_shell(&outcome, "echo x; echo y >&2; exit 1", "z", FOREVER_MS);
    struct loop_timer *timer =
        loop_timer_new(&loop, (uint64_t)_i, 0, close_from_timer, &outcome);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_le(outcome.count, 1);
    (void)loop_timer_close(timer);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

START_TEST(many_children_at_once_do_not_mix_their_outputs)
{
    enum { COUNT = 20 };
    static struct outcome outcomes[COUNT];
    char script[COUNT][32];
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(script[i], sizeof(script[i]), "echo %d; exit %d", i, i);
        run_shell(&outcomes[i], script[i], NULL, FOREVER_MS);
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < COUNT; i++) {
        char expected[16];
        (void)snprintf(expected, sizeof(expected), "%d\n", i);
        ck_assert_str_eq(outcomes[i].output, expected);
        ck_assert_int_eq(outcomes[i].result.exit_status, i);
    }
}
END_TEST

START_TEST(no_descriptor_is_left_behind)
{
    int first = dup(STDIN_FILENO);
    (void)close(first);
    for (int i = 0; i < 5; i++) {
        struct outcome outcome = {0};
        run_shell(&outcome, "cat", "x", FOREVER_MS);
        (void)uv_run(&loop, UV_RUN_DEFAULT);
    }
    int next = dup(STDIN_FILENO);
    (void)close(next);
    /* The loop keeps one pipe of its own for child signals. */
    ck_assert_int_le(next, first + 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loop");
    TCase *tcase = tcase_create("loop");
    tcase_set_timeout(tcase, 30);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_timer_repeats_until_it_is_closed_from_its_callback);
    tcase_add_test(tcase, a_one_shot_timer_fires_once_and_can_start_anew);
    tcase_add_test(tcase, timers_of_one_interval_fire_together_whenever_they_began);
    tcase_add_test(tcase, a_closed_timer_does_not_fire);
    tcase_add_test(tcase, a_slack_timer_fires_when_the_loop_is_awake_for_something_else);
    tcase_add_test(tcase, a_slack_timer_wakes_the_loop_when_nothing_else_does);
    tcase_add_test(tcase, a_deferred_timer_fires_an_interval_later);
    tcase_add_test(tcase,
                   what_is_asked_for_many_times_is_done_once_before_the_loop_waits);
    tcase_add_test(
        tcase, what_is_asked_for_while_the_loop_is_about_to_wait_is_done_all_the_same);
    tcase_add_test(tcase, a_closed_batch_is_silent);
    tcase_add_test(tcase, many_posts_from_a_thread_wake_the_loop);
    tcase_add_test(tcase, a_closed_post_is_silent);
    tcase_add_test(tcase, a_child_s_output_errors_and_success_are_reported_once);
    tcase_add_test(tcase, a_child_without_input_reads_an_empty_stdin);
    tcase_add_test(tcase, a_failing_child_s_status_and_signal_are_told);
    tcase_add_test(tcase, a_program_that_does_not_exist_is_refused_at_once);
    tcase_add_test(tcase, a_child_and_its_children_are_killed_at_the_deadline);
    tcase_add_test(tcase, a_child_that_traps_signals_dies_at_its_deadline_too);
    tcase_add_test(tcase, output_beyond_the_limit_is_read_and_dropped);
    tcase_add_test(tcase, a_child_that_does_not_read_its_input_costs_nothing);
    tcase_add_test(tcase, a_process_left_behind_does_not_hold_the_report);
    tcase_add_test(tcase, a_closed_child_is_killed_reaped_and_silent);
    tcase_add_test(tcase, closing_inside_the_callback_is_harmless);
    tcase_add_loop_test(tcase, a_child_may_be_closed_at_any_moment, 0, 12);
    tcase_add_test(tcase, many_children_at_once_do_not_mix_their_outputs);
    tcase_add_test(tcase, no_descriptor_is_left_behind);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
