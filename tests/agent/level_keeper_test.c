/* Goal: the newest level is in the file, also when the daemon ends at once, and no disk
 * holds the loop up. Method: a disk that hangs (disk_gate_fixture.h). */
#include "agent/level_file.h"
#include "agent/level_keeper.h"
#include "disk_gate_fixture.h"
#include "support/temp_dir.h"

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

static void gate_open(void)
{
    gate.closed = false;
    ck_assert_int_eq(close(gate.pipe[1]), 0);
}

START_TEST(the_newest_level_is_written_while_the_loop_turns)
{
    gate.closed = true;
    level_keeper_tell(keeper, 3);
    while (gate.waiting == 0 && gate.on_loop == 0) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    level_keeper_tell(keeper, 4);
    level_keeper_tell(keeper, 5);
    ck_assert_uint_eq(in_file(), 0);

    gate_open();
    while (in_file() != 5) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }

    ck_assert_uint_eq(gate.on_loop, 0);
}
END_TEST

static void *open_when_main_waits(void *context)
{
    const atomic_bool *over = context;
    while (!gate_main_waits() && !*over) {
        (void)sched_yield();
    }
    gate_open();
    return NULL;
}

START_TEST(the_end_waits_until_it_is_written)
{
    pthread_t opener;
    atomic_bool over = false;
    gate.closed = true;
    level_keeper_tell(keeper, 3);
    while (gate.waiting == 0) {
        (void)sched_yield();
    }
    level_keeper_tell(keeper, 4);
    ck_assert_int_eq(pthread_create(&opener, NULL, open_when_main_waits, &over), 0);

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

    level_keeper_tell(keeper, 3);
    keeper = level_keeper_close(keeper);

    ck_assert_uint_eq(in_file(), 0);
}
END_TEST

START_TEST(a_level_that_cannot_be_written_ends_nothing)
{
    char *away = temp_dir_path(&dir, "away");
    keeper = level_keeper_close(keeper);
    keeper = level_keeper_new(&loop, away, 0);
    level_keeper_tell(keeper, 3);
    keeper = level_keeper_close(keeper);
    ck_assert_int_eq(access(away, F_OK), -1);
    free(away);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("level_keeper");
    TCase *tests = tcase_create("level_keeper");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_newest_level_is_written_while_the_loop_turns);
    tcase_add_test(tests, the_end_waits_until_it_is_written);
    tcase_add_test(tests, what_the_file_says_is_not_written_again);
    tcase_add_test(tests, a_level_that_cannot_be_written_ends_nothing);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
