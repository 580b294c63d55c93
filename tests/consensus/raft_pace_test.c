/* Goal: a leader ticks in time, and a follower with its leader's heartbeats as long as
 * they come. Method: the pace is a value; heartbeats of a thousand beats are played to
 * it, and each tick is made where the ticker would. The ticker runs on a real loop as
 * well. */
#include "consensus/raft_pace.h"
#include "support/test_main.h"

#include <stdint.h>

#define INTERVAL 100

struct follower {
    struct raft_pace pace;
    unsigned ticks;
    unsigned wakes; /* of them that woke the loop by themselves */
};

static void tick_at(struct follower *follower, uint64_t now_ms, bool heard)
{
    follower->ticks++;
    follower->wakes += heard ? 0 : 1;
    raft_pace_ticked(&follower->pace, now_ms, heard);
}

/* No heartbeat comes until then. */
static void silence_until(struct follower *follower, uint64_t until_ms)
{
    uint64_t end_ms;
    while ((end_ms = raft_pace_next(&follower->pace, false).until_ms) <= until_ms) {
        tick_at(follower, end_ms, false);
    }
}

static void heartbeat_at(struct follower *follower, uint64_t now_ms)
{
    silence_until(follower, now_ms - 1);
    if (now_ms >= raft_pace_next(&follower->pace, false).from_ms) {
        tick_at(follower, now_ms, true);
    }
}

/* Each comes a millisecond later than it should, as from a timer. When the last one did.
 */
static uint64_t heartbeats(struct follower *follower, uint64_t from_ms, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        heartbeat_at(follower, from_ms + (uint64_t)i * (INTERVAL + 1));
    }
    return from_ms + (uint64_t)(count - 1) * (INTERVAL + 1);
}

static struct follower new_follower(uint64_t own_ms)
{
    return (struct follower){
        .pace = {.interval_ms = INTERVAL, .own_ms = own_ms, .last_ms = 1000}};
}

/* Wherever between its own times the first heartbeat comes. */
START_TEST(a_follower_comes_to_ride_on_heartbeats)
{
    struct follower follower = new_follower(0);
    uint64_t last_ms = heartbeats(&follower, 1001 + (uint64_t)_i, 50);
    follower.ticks = 0;
    follower.wakes = 0;
    (void)heartbeats(&follower, last_ms + INTERVAL + 1, 1000);
    ck_assert_uint_eq(follower.wakes, 0);
    ck_assert_uint_eq(follower.ticks, 1000);
}
END_TEST

/* Whatever its own times are, it ticks at them from the second tick on, and never less
 * often than it should. */
START_TEST(without_heartbeats_it_has_times_of_its_own)
{
    struct follower follower = new_follower((uint64_t)_i);
    const uint64_t heard_ms = heartbeats(&follower, 1050, 500);
    ck_assert_uint_eq(follower.pace.last_ms, heard_ms);
    uint64_t before_ms = heard_ms;
    for (unsigned i = 0; i < 20; i++) {
        const uint64_t next_ms = raft_pace_next(&follower.pace, false).until_ms;
        ck_assert_uint_gt(next_ms, before_ms);
        ck_assert_uint_le(next_ms, before_ms + INTERVAL + (i == 0 ? INTERVAL / 5 : 0));
        ck_assert(i == 0 || next_ms % INTERVAL == (uint64_t)_i);
        tick_at(&follower, next_ms, false);
        before_ms = next_ms;
    }
}
END_TEST

/* As followers of one leader do, of which only one should stand for election. */
START_TEST(followers_of_the_same_heartbeats_part_when_they_end)
{
    struct follower one = new_follower(20);
    struct follower other = new_follower(70);
    const uint64_t heard_ms = heartbeats(&one, 1050, 500);
    ck_assert_uint_eq(heartbeats(&other, 1050, 500), heard_ms);
    ck_assert_uint_eq(one.pace.last_ms, other.pace.last_ms);
    for (unsigned i = 3; i < 10; i++) {
        silence_until(&one, heard_ms + (uint64_t)i * INTERVAL);
        silence_until(&other, heard_ms + (uint64_t)i * INTERVAL);
        ck_assert_uint_eq((one.pace.last_ms + INTERVAL - other.pace.last_ms) % INTERVAL,
                          INTERVAL / 2);
    }
}
END_TEST

START_TEST(a_leader_rides_on_nothing_and_is_never_early)
{
    struct raft_pace pace = {.interval_ms = INTERVAL, .last_ms = 1000, .rides = true};
    for (unsigned i = 0; i < 50; i++) {
        const struct raft_pace_window window = raft_pace_next(&pace, true);
        ck_assert_uint_eq(window.from_ms, pace.last_ms + INTERVAL);
        ck_assert_uint_eq(window.until_ms, window.from_ms);
        raft_pace_ticked(&pace, window.until_ms + i % 7, false); /* late as the loop is */
    }
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
    ticker = raft_ticker_open(&loop, 5, 3, follows, on_tick, NULL);
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
    tcase_add_loop_test(tests, without_heartbeats_it_has_times_of_its_own, 0, INTERVAL);
    tcase_add_test(tests, followers_of_the_same_heartbeats_part_when_they_end);
    tcase_add_test(tests, a_leader_rides_on_nothing_and_is_never_early);
    tcase_add_test(tests, a_ticker_ticks_until_it_is_closed);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
