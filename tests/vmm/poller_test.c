/* Goal: what happens to a descriptor reaches the watch that waits for it and no other.
 * Method: pipes and events on one thread, then an end from another. */
#include "support/test_main.h"
#include "vmm/poller.h"

#include <check.h>

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static struct poller *poller;
static int pair[2];

struct seen {
    unsigned count;
    uint64_t token;
    unsigned events;
    int remove_watch; /* from inside the callback; -1: none */
};

static void set_up(void)
{
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

static void tear_down(void)
{
    poller_free(poller);
    close(pair[0]);
    close(pair[1]);
}

static void on_event(void *context, uint64_t token, unsigned events)
{
    struct seen *seen = context;
    seen->count++;
    seen->token = token;
    seen->events = events;
    if (seen->remove_watch >= 0) {
        poller_remove(poller, seen->remove_watch);
        seen->remove_watch = -1;
    }
}

START_TEST(only_what_is_waited_for_is_told)
{
    struct seen seen = {.remove_watch = -1};
    const int watch = poller_add(poller, pair[0], 0, on_event, &seen, 42);
    ck_assert_int_ge(watch, 0);
    ck_assert_int_eq(write(pair[1], "x", 1), 1);

    ck_assert_int_eq(poller_step(poller, 0), 0);
    poller_change(poller, watch, POLLER_READABLE);
    ck_assert_int_eq(poller_step(poller, 0), 1);
    ck_assert_uint_eq(seen.events, POLLER_READABLE);
    ck_assert_uint_eq(seen.token, 42);
    poller_change(poller, watch, POLLER_READABLE | POLLER_WRITABLE);
    ck_assert_int_eq(poller_step(poller, 0), 1);
    ck_assert_uint_eq(seen.events, POLLER_READABLE | POLLER_WRITABLE);
    poller_remove(poller, watch);
    ck_assert_int_eq(poller_step(poller, 0), 0);

    ck_assert_uint_eq(seen.count, 2);
}
END_TEST

START_TEST(a_hang_up_wakes_who_waits_and_nobody_else)
{
    struct seen seen = {.remove_watch = -1};
    const int watch = poller_add(poller, pair[0], POLLER_WRITABLE, on_event, &seen, 0);
    ck_assert_int_ge(watch, 0);
    close(pair[1]);
    pair[1] = -1;

    ck_assert_int_eq(poller_step(poller, 0), 1);
    ck_assert_uint_eq(seen.events, POLLER_WRITABLE);
    poller_change(poller, watch, 0);

    ck_assert_int_eq(poller_step(poller, 0), 0);
}
END_TEST

/* What one side will not say any more is no hang-up: it may hear. */
START_TEST(who_has_read_to_the_end_waits_for_the_hang_up_alone)
{
    struct seen seen = {.remove_watch = -1};
    const int watch = poller_add(poller, pair[0], POLLER_HUNG_UP, on_event, &seen, 0);
    ck_assert_int_ge(watch, 0);
    ck_assert_int_eq(write(pair[1], "x", 1), 1);
    ck_assert_int_eq(shutdown(pair[1], SHUT_WR), 0);
    ck_assert_int_eq(poller_step(poller, 0), 0);

    close(pair[1]);
    pair[1] = -1;

    ck_assert_int_eq(poller_step(poller, 0), 1);
    ck_assert_uint_eq(seen.events, POLLER_HUNG_UP);
}
END_TEST

START_TEST(whether_one_is_ready_can_be_asked_without_firing_any)
{
    struct seen seen = {.remove_watch = -1};
    struct seen other = {.remove_watch = -1};
    const int event = eventfd(1, 0);
    const int watch = poller_add(poller, pair[0], POLLER_READABLE, on_event, &seen, 0);
    ck_assert_int_ge(poller_add(poller, event, POLLER_READABLE, on_event, &other, 0), 0);

    ck_assert(!poller_is_ready(poller, watch));
    ck_assert_int_eq(write(pair[1], "x", 1), 1);
    ck_assert(poller_is_ready(poller, watch));

    ck_assert_uint_eq(seen.count + other.count, 0);
    ck_assert_int_eq(poller_step(poller, 0), 2);
    (void)close(event);
}
END_TEST

START_TEST(a_watch_removed_in_the_same_round_stays_silent)
{
    /* Both are ready in one step; the first callback removes the other's watch, whose
     * slot goes to a third descriptor that is not ready. */
    struct seen first = {.remove_watch = -1};
    struct seen second = {.remove_watch = -1};
    const int a = eventfd(1, 0);
    const int b = eventfd(1, 0);
    const int watch_a = poller_add(poller, a, POLLER_READABLE, on_event, &first, 0);
    const int watch_b = poller_add(poller, b, POLLER_READABLE, on_event, &second, 0);
    first.remove_watch = watch_b;
    second.remove_watch = watch_a;

    ck_assert_int_eq(poller_step(poller, 0), 1);

    ck_assert_uint_eq(first.count + second.count, 1);
    close(a);
    close(b);
}
END_TEST

START_TEST(watches_have_a_limit_and_are_used_again)
{
    struct seen seen = {.remove_watch = -1};
    int watch = 0;
    unsigned count = 0;
    int fds[POLLER_WATCHES_MAX];
    while (count < POLLER_WATCHES_MAX) {
        fds[count] = dup(pair[0]);
        watch = poller_add(poller, fds[count], POLLER_READABLE, on_event, &seen, count);
        ck_assert_int_ge(watch, 0);
        count++;
    }

    ck_assert_int_eq(poller_add(poller, pair[0], POLLER_READABLE, on_event, &seen, 0),
                     BERTH_EFULL);
    poller_remove(poller, watch);
    ck_assert_int_eq(poller_add(poller, pair[0], POLLER_READABLE, on_event, &seen, 0),
                     watch);
    ck_assert_int_eq(poller_add(poller, -1, POLLER_READABLE, on_event, &seen, 0),
                     BERTH_EFULL);
    poller_remove(poller, watch);
    ck_assert_int_eq(poller_add(poller, -1, POLLER_READABLE, on_event, &seen, 0), -EBADF);
    for (unsigned i = 0; i < count; i++) {
        close(fds[i]);
    }
}
END_TEST

static void *end_it(void *context)
{
    poller_end(context);
    return NULL;
}

START_TEST(another_thread_can_end_it)
{
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, end_it, poller), 0);

    ck_assert_int_eq(poller_run(poller), 0);

    pthread_join(thread, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("poller");
    TCase *tests = tcase_create("poller");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, only_what_is_waited_for_is_told);
    tcase_add_test(tests, a_hang_up_wakes_who_waits_and_nobody_else);
    tcase_add_test(tests, who_has_read_to_the_end_waits_for_the_hang_up_alone);
    tcase_add_test(tests, whether_one_is_ready_can_be_asked_without_firing_any);
    tcase_add_test(tests, a_watch_removed_in_the_same_round_stays_silent);
    tcase_add_test(tests, watches_have_a_limit_and_are_used_again);
    tcase_add_test(tests, another_thread_can_end_it);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
