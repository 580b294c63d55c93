/* Goal: changes pass together, a copy alone, and a change may end on another thread.
 * Method: the order is made by what the gate itself lets through. */
#include "support/test_main.h"
#include "vmm/copy_gate.h"

#include <check.h>

#include <sched.h>
#include <stdatomic.h>

static struct copy_gate gate;

static void set_up(void)
{
    copy_gate_init(&gate);
}

static void tear_down(void)
{
    copy_gate_fini(&gate);
}

START_TEST(changes_pass_together_and_none_beside_a_copy)
{
    copy_gate_enter(&gate);
    ck_assert(copy_gate_try(&gate));
    copy_gate_leave(&gate);
    copy_gate_leave(&gate);

    copy_gate_begin_copy(&gate);
    ck_assert(!copy_gate_try(&gate));
    copy_gate_end_copy(&gate);

    ck_assert(copy_gate_try(&gate));
    copy_gate_leave(&gate);
}
END_TEST

struct copier {
    pthread_t thread;
    atomic_bool is_in;
};

static void *copy(void *context)
{
    struct copier *copier = context;
    copy_gate_begin_copy(&gate);
    atomic_store(&copier->is_in, true);
    copy_gate_end_copy(&gate);
    return NULL;
}

START_TEST(a_copy_that_waits_holds_later_changes_back_and_goes_first)
{
    struct copier copier = {0};
    ck_assert(copy_gate_try(&gate)); /* begun here, ended by this thread, too */
    ck_assert_int_eq(pthread_create(&copier.thread, NULL, copy, &copier), 0);
    while (copy_gate_try(&gate)) { /* until the other one waits */
        copy_gate_leave(&gate);
        (void)sched_yield();
    }
    ck_assert(!atomic_load(&copier.is_in));

    copy_gate_leave(&gate);
    copy_gate_enter(&gate);

    ck_assert(atomic_load(&copier.is_in));
    copy_gate_leave(&gate);
    ck_assert_int_eq(pthread_join(copier.thread, NULL), 0);
}
END_TEST

static void *leave(void *context)
{
    (void)context;
    copy_gate_leave(&gate);
    return NULL;
}

START_TEST(a_change_ends_on_another_thread)
{
    pthread_t thread;
    copy_gate_enter(&gate);
    ck_assert_int_eq(pthread_create(&thread, NULL, leave, NULL), 0);

    copy_gate_begin_copy(&gate);

    copy_gate_end_copy(&gate);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("copy_gate");
    TCase *tests = tcase_create("copy_gate");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, changes_pass_together_and_none_beside_a_copy);
    tcase_add_test(tests, a_copy_that_waits_holds_later_changes_back_and_goes_first);
    tcase_add_test(tests, a_change_ends_on_another_thread);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
