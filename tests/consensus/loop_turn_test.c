#include "consensus/loop_turn.h"
#include "support/test_main.h"

#include <stdbool.h>

static uv_loop_t loop;
static unsigned turns;
static bool closed;

static void count_turn(void *context)
{
    (void)context;
    turns++;
}

/* Hooks do not keep the loop alive; this does. */
static void on_idle(uv_idle_t *idle)
{
    uv_close((uv_handle_t *)idle, NULL);
}

static void on_closed(void *context)
{
    (void)context;
    closed = true;
}

static void setup(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    turns = 0;
    closed = false;
}

static void teardown(void)
{
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

START_TEST(a_turn_runs_before_and_after_the_loop_waits_and_not_once_closed)
{
    struct loop_turn *turn = loop_turn_open(&loop, count_turn, NULL);
    ck_assert_uint_eq(loop_turn_now_ms(turn), uv_now(&loop));

    uv_idle_t idle;
    ck_assert_int_eq(uv_idle_init(&loop, &idle), 0);
    ck_assert_int_eq(uv_idle_start(&idle, on_idle), 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(turns, 2);

    loop_turn_close(turn, on_closed, NULL);
    ck_assert(!closed); /* later, on the loop */
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert(closed);
    ck_assert_uint_eq(turns, 2);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("loop_turn");
    TCase *tcase = tcase_create("loop_turn");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase,
                   a_turn_runs_before_and_after_the_loop_waits_and_not_once_closed);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
