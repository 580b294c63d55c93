/* A watch's turns are given by the test: no time passes. */
#include "support/test_main.h"
#include "vmm/ram_watch.h"
#include "watch_turns.h"

#include <check.h>

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    struct ram_watch watch;
    atomic_uint begun;
    atomic_uint turns;
    atomic_uint late_turns;
} world;

static void on_begin(void *context)
{
    (void)context;
    atomic_fetch_add(&world.begun, 1);
}

static void on_turn(void *context, bool is_late)
{
    (void)context;
    atomic_fetch_add(&world.late_turns, is_late ? 1 : 0);
    atomic_fetch_add(&world.turns, 1);
}

static void setup(void)
{
    static const struct ram_watch_events events = {on_begin, on_turn, NULL};
    memset(&world, 0, sizeof(world));
    (void)pthread_mutex_init(&world.lock, NULL);
    watch_turns_own();
    ram_watch_setup(&world.watch, &world.lock, 30000, &events);
    ck_assert_int_eq(ram_watch_start(&world.watch), 0);
}

static void teardown(void)
{
    pthread_mutex_lock(&world.lock);
    ram_watch_end(&world.watch);
    pthread_mutex_unlock(&world.lock);
    ram_watch_join(&world.watch);
    ram_watch_fini(&world.watch);
    (void)pthread_mutex_destroy(&world.lock);
    watch_turns_disown();
}

/* They are over when it returns. */
static void pass(unsigned turns)
{
    const unsigned wanted = atomic_load(&world.turns) + turns;
    watch_turns_give(turns);
    while (atomic_load(&world.turns) < wanted) {
        (void)sched_yield();
    }
}

static void moved(void)
{
    pthread_mutex_lock(&world.lock);
    ram_watch_moved(&world.watch);
    pthread_mutex_unlock(&world.lock);
}

static void hurry(bool is_wanted)
{
    pthread_mutex_lock(&world.lock);
    ram_watch_hurry(&world.watch, is_wanted);
    pthread_mutex_unlock(&world.lock);
}

START_TEST(a_turn_is_late_when_nothing_came_in_for_the_whole_patience)
{
    pass(RAM_WATCH_TURNS - 1);
    ck_assert_uint_eq(atomic_load(&world.late_turns), 0);

    pass(1);

    ck_assert_uint_eq(atomic_load(&world.late_turns), 1);
    ck_assert_uint_eq(atomic_load(&world.begun), 1);
}
END_TEST

START_TEST(what_comes_in_begins_the_patience_anew)
{
    pass(RAM_WATCH_TURNS - 1);
    moved();
    pass(RAM_WATCH_TURNS);
    ck_assert_uint_eq(atomic_load(&world.late_turns), 0);

    pass(1);

    ck_assert_uint_eq(atomic_load(&world.late_turns), 1);
}
END_TEST

START_TEST(who_hurries_waits_for_the_patience_whatever_comes_in)
{
    pass(3);
    hurry(true);
    for (unsigned i = 0; i < RAM_WATCH_TURNS - 1; i++) {
        moved();
        pass(1);
    }
    ck_assert_uint_eq(atomic_load(&world.late_turns), 0);

    moved();
    pass(1);
    ck_assert_uint_eq(atomic_load(&world.late_turns), 1);

    hurry(false);
    moved();
    pass(1);
    ck_assert_uint_eq(atomic_load(&world.late_turns), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ram_watch");
    TCase *tests = tcase_create("ram_watch");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_turn_is_late_when_nothing_came_in_for_the_whole_patience);
    tcase_add_test(tests, what_comes_in_begins_the_patience_anew);
    tcase_add_test(tests, who_hurries_waits_for_the_patience_whatever_comes_in);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
