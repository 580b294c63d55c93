/* Goal: the newest level is in the file, also when the daemon ends at once, and no disk
 * holds the loop up. Method: a disk that hangs (support/disk_gate.h). */
#include "agent/level_file.h"
#include "agent/level_keeper.h"
#include "support/disk_gate.h"
#include "support/temp_dir.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>

static struct temp_dir dir;
static uv_loop_t loop;
static struct level_keeper *keeper;

static void start(void)
{
    temp_dir_init(&dir);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    keeper = level_keeper_new(&loop, dir.path, 0);
    ck_assert_ptr_nonnull(keeper);
    ck_assert_int_eq(pipe2(gate.pipe, O_CLOEXEC), 0);
}

static void stop(void)
{
    keeper = level_keeper_close(keeper);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    temp_dir_fini(&dir);
}

static uint32_t in_file(void)
{
    const struct level_range any = {LEVEL_FIRST, LEVEL_LIMIT};
    uint32_t level = 0;
    ck_assert_int_eq(level_file_check(dir.path, any, &level, NULL), 0);
    return level;
}

START_TEST(the_newest_level_is_written_while_the_loop_turns)
{
    gate.closed = true;
    level_keeper_tell(keeper, 3, 0);
    while (gate.waiting == 0 && gate.on_loop == 0) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    level_keeper_tell(keeper, 4, 0);
    level_keeper_tell(keeper, 5, 0);
    ck_assert_uint_eq(in_file(), 0);

    gate_open();
    while (in_file() != 5) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }

    ck_assert_uint_eq(gate.on_loop, 0);
}
END_TEST

START_TEST(the_end_waits_until_it_is_written)
{
    pthread_t opener;
    atomic_bool over = false;
    gate.closed = true;
    level_keeper_tell(keeper, 3, 0);
    while (gate.waiting == 0) {
        (void)sched_yield();
    }
    level_keeper_tell(keeper, 4, 0);
    ck_assert_int_eq(pthread_create(&opener, NULL, gate_open_when_main_waits, &over), 0);

    keeper = level_keeper_close(keeper);

    uint32_t level = in_file();
    over = true;
    ck_assert_int_eq(pthread_join(opener, NULL), 0);
    ck_assert_uint_eq(level, 4);
}
END_TEST

START_TEST(what_the_file_says_is_not_written_again)
{
    keeper = level_keeper_close(keeper);
    keeper = level_keeper_new(&loop, dir.path, 3);

    level_keeper_tell(keeper, 3, 0);
    keeper = level_keeper_close(keeper);

    ck_assert_uint_eq(in_file(), 0);
}
END_TEST

/* A host without a log has nothing else that says it. */
START_TEST(a_level_that_could_not_be_written_is_tried_again_in_time)
{
    gate.full = 1;
    level_keeper_tell(keeper, 3, 1000);
    while (gate.failed == 0) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }

    if (_i == 0) { /* told again and again, as leaders do */
        while (in_file() != 3) {
            level_keeper_tell(keeper, 3, 1000 + LEVEL_KEEPER_RETRY_MS);
            (void)uv_run(&loop, UV_RUN_NOWAIT);
        }
    } else if (_i == 1) { /* another one does not wait */
        while (in_file() != 4) {
            level_keeper_tell(keeper, 4, 1001);
            (void)uv_run(&loop, UV_RUN_NOWAIT);
        }
    } else { /* the last words */
        keeper = level_keeper_close(keeper);
        ck_assert_uint_eq(in_file(), 3);
    }
}
END_TEST

START_TEST(a_full_disk_is_not_asked_at_every_word)
{
    gate.full = UINT_MAX;

    for (unsigned i = 0; i < 1000; i++) {
        level_keeper_tell(keeper, 3, 1000 + LEVEL_KEEPER_RETRY_MS - 1);
        while (gate.failed == 0) {
            (void)sched_yield();
        }
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }

    ck_assert_uint_eq(gate.failed, 1);
    keeper = level_keeper_close(keeper); /* which tries once more */
    ck_assert_uint_eq(gate.failed, 2);
    ck_assert_uint_eq(in_file(), 0);
}
END_TEST

int main(void)
{
    if (!gate_sees_main()) {
        return test_main_skip("what threads wait for cannot be seen here");
    }
    Suite *suite = suite_create("level_keeper");
    TCase *tests = tcase_create("level_keeper");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_newest_level_is_written_while_the_loop_turns);
    tcase_add_test(tests, the_end_waits_until_it_is_written);
    tcase_add_test(tests, what_the_file_says_is_not_written_again);
    tcase_add_loop_test(tests, a_level_that_could_not_be_written_is_tried_again_in_time,
                        0, 3);
    tcase_add_test(tests, a_full_disk_is_not_asked_at_every_word);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
