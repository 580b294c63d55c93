/* Goal: a thread's place is the innermost block that it is in, and only who is watched
 * leaves a trace. */
#include "base/where.h"
#include "support/test_main.h"

#include <pthread.h>

static struct where where;

static void setup(void)
{
    atomic_store(&where.at, NULL);
    atomic_store(&where.progress, 0);
}

static void teardown(void)
{
    where_watch(NULL);
}

static const char *at(void)
{
    return atomic_load(&where.at);
}

START_TEST(blocks_nest_and_are_left)
{
    where_watch(&where);
    where_phase("come up");
    {
        WHERE("write a file");
        ck_assert_str_eq(at(), "write a file");
        {
            WHERE("wait for the disk");
            ck_assert_str_eq(at(), "wait for the disk");
        }
        ck_assert_str_eq(at(), "write a file");
    }
    ck_assert_str_eq(at(), "come up");
    where_phase(NULL);
    ck_assert_ptr_null(at());
}
END_TEST

START_TEST(turns_and_phases_are_progress_and_blocks_are_not)
{
    where_watch(&where);
    {
        WHERE("write a file");
    }
    ck_assert_uint_eq(atomic_load(&where.progress), 0);
    where_turned();
    ck_assert_uint_eq(atomic_load(&where.progress), 1);
    where_phase("come up");
    ck_assert_uint_eq(atomic_load(&where.progress), 2);
}
END_TEST

static void *be_elsewhere(void *context)
{
    (void)context;
    WHERE("elsewhere");
    where_turned();
    where_phase("elsewhere");
    ck_assert_ptr_null(at());
    return NULL;
}

START_TEST(a_thread_that_nobody_watches_leaves_no_trace)
{
    pthread_t thread;
    where_watch(&where);
    ck_assert_int_eq(pthread_create(&thread, NULL, be_elsewhere, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    where_watch(NULL);
    WHERE("not watched any more");

    ck_assert_ptr_null(at());
    ck_assert_uint_eq(atomic_load(&where.progress), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("where");
    TCase *tests = tcase_create("where");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, blocks_nest_and_are_left);
    tcase_add_test(tests, turns_and_phases_are_progress_and_blocks_are_not);
    tcase_add_test(tests, a_thread_that_nobody_watches_leaves_no_trace);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
