/* Goal: a leader ticks in time, and a follower with its leader's heartbeats as long as
 * they come. Method: the pace is a value; heartbeats of a thousand beats are played to
 * it, and each tick is made where the ticker would. The ticker runs on a real loop once.
 */
#include "consensus/raft_pace.h"
#include "support/test_main.h"

#include <stdint.h>

#define INTERVAL 100

struct follower {
    struct raft_pace pace;
    uint64_t ticked_ms;
    unsigned ticks;
    unsigned wakes; /* of them that woke the loop by themselves */
};

static void tick_at(struct follower *follower, uint64_t now_ms)
{
    const struct raft_pace_window window = raft_pace_next(&follower->pace, false);
    follower->wakes += now_ms >= window.until_ms ? 1 : 0;
    raft_pace_ticked(&follower->pace, &window, now_ms);
    follower->ticked_ms = now_ms;
    follower->ticks++;
}

/* Nothing wakes the loop until then, but our own timer. */
static void silence_until(struct follower *follower, uint64_t until_ms)
{
    uint64_t end_ms;
    while ((end_ms = raft_pace_next(&follower->pace, false).until_ms) <= until_ms) {
        tick_at(follower, end_ms);
    }
}

static void heartbeat_at(struct follower *follower, uint64_t now_ms)
{
    silence_until(follower, now_ms - 1);
    if (now_ms >= raft_pace_next(&follower->pace, false).from_ms) {
        tick_at(follower, now_ms);
    }
}

/* Each beat comes a millisecond later than it should, as from a timer. */
static uint64_t beats(struct follower *follower, uint64_t from_ms, unsigned count)
{
    uint64_t now_ms = from_ms;
    for (unsigned i = 0; i < count; i++) {
        heartbeat_at(follower, now_ms);
        now_ms += INTERVAL + 1;
    }
    return now_ms - INTERVAL - 1;
}

static struct follower new_follower(uint64_t now_ms)
{
    return (struct follower){.pace = {.interval_ms = INTERVAL, .last_ms = now_ms}};
}

/* Wherever in its time the first heartbeat comes. */
START_TEST(a_follower_comes_to_ride_on_heartbeats)
{
    struct follower follower = new_follower(1000);
    uint64_t last_ms = beats(&follower, 1000 + (uint64_t)_i, 100);
    follower.ticks = 0;
    follower.wakes = 0;
    (void)beats(&follower, last_ms + INTERVAL + 1, 1000);
    ck_assert_uint_eq(follower.wakes, 0);
    ck_assert_uint_eq(follower.ticks, 1000);
}
END_TEST

/* The first look may wait for a heartbeat; from the second on each is when it would have
 * been. */
START_TEST(without_heartbeats_it_keeps_time)
{
    struct follower follower = new_follower(1000);
    const uint64_t last_ms = beats(&follower, 1000, 500);
    ck_assert_uint_eq(follower.ticked_ms, last_ms);
    follower.ticks = 0;
    silence_until(&follower, last_ms + INTERVAL + INTERVAL / 4);
    ck_assert_uint_eq(follower.ticks, 1);
    for (unsigned i = 2; i < 20; i++) {
        silence_until(&follower, last_ms + i * INTERVAL);
        ck_assert_uint_eq(follower.ticked_ms, last_ms + i * INTERVAL);
    }
    ck_assert_uint_eq(follower.ticks, 19);
}
END_TEST

START_TEST(a_leader_rides_on_nothing_and_is_never_early)
{
    struct raft_pace pace = {.interval_ms = INTERVAL, .last_ms = 1000, .rides = true};
    for (unsigned i = 0; i < 50; i++) {
        const struct raft_pace_window window = raft_pace_next(&pace, true);
        ck_assert_uint_eq(window.from_ms, pace.last_ms + INTERVAL);
        ck_assert_uint_eq(window.until_ms, window.from_ms);
        const uint64_t now_ms = window.until_ms + i % 7; /* as late as the loop is */
        raft_pace_ticked(&pace, &window, now_ms);
        ck_assert_uint_eq(pace.last_ms, now_ms);
    }
}
END_TEST

/* A process that was stopped does not make up for what it missed. */
START_TEST(after_a_standstill_there_is_one_tick)
{
    struct follower follower = new_follower(1000);
    (void)beats(&follower, 1000, 50);
    follower.ticks = 0;
    tick_at(&follower, 100000);
    silence_until(&follower, 100000 + INTERVAL - 1);
    ck_assert_uint_eq(follower.ticks, 1);
}
END_TEST

static struct raft_ticker *ticker;
static unsigned seen;

static bool follows(void *context)
{
    (void)context;
    return false;
}

static void on_tick(void *context)
{
    (void)context;
    seen++;
    if (seen == 3) {
        ticker = raft_ticker_close(ticker);
    }
}

START_TEST(a_ticker_ticks_until_it_is_closed)
{
    uv_loop_t loop;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ticker = raft_ticker_open(&loop, 5, follows, on_tick, NULL);
    ck_assert_ptr_nonnull(ticker);
    ck_assert_uint_eq(seen, 0);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_uint_eq(seen, 3);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_pace");
    TCase *tests = tcase_create("raft_pace");
    tcase_add_loop_test(tests, a_follower_comes_to_ride_on_heartbeats, 0, INTERVAL);
    tcase_add_test(tests, without_heartbeats_it_keeps_time);
    tcase_add_test(tests, a_leader_rides_on_nothing_and_is_never_early);
    tcase_add_test(tests, after_a_standstill_there_is_one_tick);
    tcase_add_test(tests, a_ticker_ticks_until_it_is_closed);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
