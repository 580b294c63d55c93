/* Goal: a loop that stands is told of once, with its place, and once when it goes on.
 * Method: the decision as a table of looks; then a real loop that stands until it has
 * read in the log that it stands, so that no time decides. */
#include "base/clock.h"
#include "base/loop_watch.h"
#include "base/where.h"
#include "support/test_main.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LONG_MS  500 /* so a look each 100 */
#define SHORT_MS 20  /* of the real ones */

/* ---- the decision ---- */

struct look {
    uint64_t at_ms;
    uint64_t progress;
    enum loop_watch_news news;
    uint64_t ms;
};

#define LOOKS_MAX 12
static const struct look tables[][LOOKS_MAX] = {
    /* it turns */
    {{100, 1, LOOP_WATCH_NOTHING, 0},
     {200, 2, LOOP_WATCH_NOTHING, 0},
     {300, 3, LOOP_WATCH_NOTHING, 0}},
    /* from the start it stands, is told of once, and goes on */
    {{100, 0, LOOP_WATCH_NOTHING, 0},
     {200, 0, LOOP_WATCH_NOTHING, 0},
     {300, 0, LOOP_WATCH_NOTHING, 0},
     {400, 0, LOOP_WATCH_NOTHING, 0},
     {500, 0, LOOP_WATCH_LONG, 500},
     {600, 0, LOOP_WATCH_NOTHING, 0},
     {700, 1, LOOP_WATCH_OVER, 700},
     {800, 1, LOOP_WATCH_NOTHING, 0}},
    /* almost long enough is not told of, neither then nor when it goes on */
    {{100, 1, LOOP_WATCH_NOTHING, 0},
     {200, 1, LOOP_WATCH_NOTHING, 0},
     {300, 1, LOOP_WATCH_NOTHING, 0},
     {400, 1, LOOP_WATCH_NOTHING, 0},
     {500, 1, LOOP_WATCH_NOTHING, 0},
     {590, 2, LOOP_WATCH_NOTHING, 0}},
    /* a second time is a second incident */
    {{100, 0, LOOP_WATCH_NOTHING, 0},
     {300, 0, LOOP_WATCH_NOTHING, 0},
     {500, 0, LOOP_WATCH_LONG, 500},
     {600, 1, LOOP_WATCH_OVER, 600},
     {800, 1, LOOP_WATCH_NOTHING, 0},
     {1000, 1, LOOP_WATCH_NOTHING, 0},
     {1200, 1, LOOP_WATCH_LONG, 600}},
    /* what the looks come too late by is not the loop's */
    {{100, 1, LOOP_WATCH_NOTHING, 0},
     {500, 1, LOOP_WATCH_NOTHING, 0},
     {600, 1, LOOP_WATCH_NOTHING, 0},
     {900, 1, LOOP_WATCH_NOTHING, 0}},
    /* a process that was stopped, which goes on; and one whose loop stands as well */
    {{100, 1, LOOP_WATCH_NOTHING, 0},
     {9200, 1, LOOP_WATCH_STILL, 9000},
     {9300, 2, LOOP_WATCH_NOTHING, 0},
     {19400, 2, LOOP_WATCH_STILL, 10000},
     {19500, 2, LOOP_WATCH_NOTHING, 0},
     {19600, 2, LOOP_WATCH_NOTHING, 0},
     {19700, 2, LOOP_WATCH_NOTHING, 0},
     {19800, 2, LOOP_WATCH_LONG, 500}},
};

START_TEST(a_loop_that_stands_is_told_of_once)
{
    const uint64_t begin_ns = 7 * NS_PER_S;
    struct loop_watch_seen seen = {.since_ns = begin_ns, .looked_ns = begin_ns};
    for (unsigned i = 0; i < LOOKS_MAX && tables[_i][i].at_ms != 0; i++) {
        const struct look *look = &tables[_i][i];
        uint64_t ms = 0;
        enum loop_watch_news news = loop_watch_judge(
            &seen, LONG_MS, look->progress, begin_ns + look->at_ms * NS_PER_MS, &ms);
        ck_assert_msg(news == look->news && ms == look->ms,
                      "table %d at %u ms: news %d, %u ms", _i, (unsigned)look->at_ms,
                      (int)news, (unsigned)ms);
    }
}
END_TEST

/* ---- a real loop ---- */

static uv_loop_t loop;
static struct loop_watch *watch;
static FILE *said; /* what the log says */
static uv_timer_t act;
static char line[1024];

static void setup(void)
{
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    (void)close(fds[1]);
    said = fdopen(fds[0], "r");
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(uv_timer_init(&loop, &act), 0);
    watch = loop_watch_open(&loop, SHORT_MS);
    ck_assert_ptr_nonnull(watch);
}

static void teardown(void)
{
    uv_close((uv_handle_t *)&act, NULL);
    watch = loop_watch_close(watch);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    (void)fclose(said);
}

/* Reads on until the log says this; for ever when it does not. */
static void await_line(const char *words)
{
    do {
        ck_assert_ptr_nonnull(fgets(line, sizeof(line), said));
    } while (strstr(line, words) == NULL);
}

static void stand(uv_timer_t *timer)
{
    (void)timer;
    where_turned(); /* how long we took to come here is nobody's business */
    WHERE("read what is said of us");
    await_line("at=\"read what is said of us\"");
}

START_TEST(a_turn_that_is_long_is_told_of_with_its_place)
{
    ck_assert_int_eq(uv_timer_start(&act, stand, 0, 0), 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);

    ck_assert_ptr_nonnull(strstr(line, "been at one thing for long"));
    ck_assert_ptr_nonnull(strstr(line, "syscall="));
}
END_TEST

static void *read_that_it_is_over(void *context)
{
    await_line("goes on");
    (void)uv_async_send(context);
    return NULL;
}

static void over(uv_async_t *async)
{
    uv_close((uv_handle_t *)async, NULL);
}

START_TEST(its_end_is_told_of_too)
{
    uv_async_t async;
    pthread_t reader;
    ck_assert_int_eq(uv_timer_start(&act, stand, 0, 0), 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);

    ck_assert_int_eq(uv_async_init(&loop, &async, over), 0);
    ck_assert_int_eq(pthread_create(&reader, NULL, read_that_it_is_over, &async), 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT); /* turns until that was read */
    ck_assert_int_eq(pthread_join(reader, NULL), 0);

    const char *length = strstr(line, "stood_ms=");
    ck_assert_ptr_nonnull(length);
    ck_assert_uint_ge(strtoul(length + strlen("stood_ms="), NULL, 10), SHORT_MS);
}
END_TEST

START_TEST(a_phase_of_coming_up_is_told_of_before_the_loop_runs)
{
    where_phase("open the first part");
    where_phase("open the second part");
    await_line("at=\"open the second part\"");
    where_phase(NULL);

    ck_assert_ptr_nonnull(strstr(line, "been at one thing for long"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loop_watch");
    TCase *judge = tcase_create("judge");
    tcase_add_loop_test(judge, a_loop_that_stands_is_told_of_once, 0,
                        (int)(sizeof(tables) / sizeof(tables[0])));
    suite_add_tcase(suite, judge);
    TCase *real = tcase_create("real");
    tcase_add_checked_fixture(real, setup, teardown);
    tcase_add_test(real, a_turn_that_is_long_is_told_of_with_its_place);
    tcase_add_test(real, its_end_is_told_of_too);
    tcase_add_test(real, a_phase_of_coming_up_is_told_of_before_the_loop_runs);
    suite_add_tcase(suite, real);
    return test_main_run(suite);
}
