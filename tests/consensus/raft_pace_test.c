/* Goal: a leader ticks in time, and a follower with its leader's heartbeats as long as
 * they come. Method: the pace is a value; heartbeats of a thousand beats are played to
 * it, and each tick is made where the ticker would. The ticker itself runs on a real
 * loop, and on one whose time, timer and turns are played. */
#include "consensus/raft_pace.h"
#include "support/test_main.h"

#include <dlfcn.h>
#include <stdint.h>

#define INTERVAL 100

static const struct raft_pace_state FOLLOWS = {.leads = false};
static const struct raft_pace_state LEADS = {.leads = true};

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
    while ((end_ms = raft_pace_next(&follower->pace, FOLLOWS).until_ms) <= until_ms) {
        tick_at(follower, end_ms, false);
    }
}

static void heartbeat_at(struct follower *follower, uint64_t now_ms)
{
    silence_until(follower, now_ms - 1);
    if (now_ms >= raft_pace_next(&follower->pace, FOLLOWS).from_ms) {
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
        const uint64_t next_ms = raft_pace_next(&follower.pace, FOLLOWS).until_ms;
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
        const struct raft_pace_window window = raft_pace_next(&pace, LEADS);
        ck_assert_uint_eq(window.from_ms, pace.last_ms + INTERVAL);
        ck_assert_uint_eq(window.until_ms, window.from_ms);
        raft_pace_ticked(&pace, window.until_ms + i % 7, false); /* late as the loop is */
    }
}
END_TEST

/* Of what it is due for, it is told the moment it is; what has been due stays so where
 * nothing comes of it, and is no reason to tick again. */
START_TEST(a_follower_ticks_when_its_election_is_due)
{
    static const struct {
        bool rides;
        uint64_t due_ms;
        uint64_t until_ms;
    } rows[] = {{false, 1037, 1037}, {false, 1061, 1060}, {false, 1000, 1060},
                {false, 1, 1060},    {true, 1037, 1037},  {true, 1113, 1113},
                {true, 1115, 1114},  {true, 1000, 1114}};
    const struct raft_pace pace = {
        .interval_ms = INTERVAL, .own_ms = 60, .last_ms = 1000, .rides = rows[_i].rides};

    const struct raft_pace_window window = raft_pace_next(
        &pace, (struct raft_pace_state){.leads = false, .due_ms = rows[_i].due_ms});

    ck_assert_uint_eq(window.until_ms, rows[_i].until_ms);
    ck_assert_uint_eq(window.from_ms, rows[_i].rides ? 1095 : 1025);
}
END_TEST

static struct raft_ticker *ticker;
static unsigned seen;

static struct raft_pace_state follows(void *context)
{
    (void)context;
    return FOLLOWS;
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
    uv_loop_t real;
    ck_assert_int_eq(uv_loop_init(&real), 0);
    ticker = raft_ticker_open(&real, 5, 3, follows, on_tick, NULL);
    ck_assert_ptr_nonnull(ticker);
    ck_assert_uint_eq(seen, 0);
    ck_assert_int_eq(uv_run(&real, UV_RUN_DEFAULT), 0);
    ck_assert_uint_eq(seen, 3);
    ck_assert_int_eq(uv_loop_close(&real), 0);
}
END_TEST

/* ---- a loop that is played ---- */

/* What the ticker knows of its loop, where `on`; else the real one's. */
static struct {
    bool on;
    uint64_t now_ms;
    uint64_t due_ms;
    uv_timer_t *timer;
    uv_timer_cb over;
    uv_check_t *check;
    uv_check_cb turned;
} played;

uint64_t uv_now(const uv_loop_t *loop)
{
    return played.on ? played.now_ms : loop->time;
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb over, uint64_t after_ms, uint64_t again)
{
    int (*real)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t) = NULL;
    if (!played.on) {
        *(void **)&real = dlsym(RTLD_NEXT, "uv_timer_start");
        return real(timer, over, after_ms, again);
    }
    ck_assert_uint_eq(again, 0);
    played.timer = timer;
    played.over = over;
    played.due_ms = played.now_ms + after_ms;
    return 0;
}

int uv_check_start(uv_check_t *check, uv_check_cb turned)
{
    int (*real)(uv_check_t *, uv_check_cb) = NULL;
    if (!played.on) {
        *(void **)&real = dlsym(RTLD_NEXT, "uv_check_start");
        return real(check, turned);
    }
    played.check = check;
    played.turned = turned;
    return 0;
}

static uv_loop_t loop;
static struct raft_pace_state state;
static unsigned ticks;

static struct raft_pace_state state_now(void *context)
{
    (void)context;
    return state;
}

static void count_tick(void *context)
{
    (void)context;
    ticks++;
}

/* Time passes, up to a turn of the loop in which messages come. */
static void play_turn(uint64_t now_ms, unsigned heartbeats_heard)
{
    while (played.due_ms < now_ms) {
        played.now_ms = played.due_ms;
        played.over(played.timer);
        played.turned(played.check);
    }
    played.now_ms = now_ms;
    for (unsigned i = 0; i < heartbeats_heard; i++) {
        raft_ticker_heard(ticker);
    }
    played.turned(played.check);
}

static void setup_played(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    played.on = true;
    played.now_ms = 1000;
    state = FOLLOWS;
    ticker = raft_ticker_open(&loop, INTERVAL, 0, state_now, count_tick, NULL);
    ck_assert_ptr_nonnull(ticker);
    ck_assert_uint_eq(played.due_ms, 1000);
    ticks = 0;
}

static void teardown_played(void)
{
    played.on = false;
    ticker = raft_ticker_close(ticker);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

/* It rides since 1050, where its timer stands at 1164. */
static void ride(void)
{
    play_turn(1050, 1);
    ck_assert_uint_eq(ticks, 2); /* the first one, and this */
    ck_assert_uint_eq(played.due_ms, 1164);
    ticks = 0;
}

static const struct {
    uint64_t after_ms;
    bool ticks;
} heard_after[] = {{1, false}, {94, false}, {95, true}, {100, true}, {114, true}};

START_TEST(a_ticker_ticks_with_a_heartbeat_that_comes_in_its_time)
{
    const uint64_t heard_ms = 1050 + heard_after[_i].after_ms;
    ride();

    play_turn(heard_ms, 1);

    ck_assert_uint_eq(ticks, heard_after[_i].ticks ? 1 : 0);
    ck_assert_uint_eq(played.due_ms, heard_after[_i].ticks ? heard_ms + 114 : 1164);
}
END_TEST

START_TEST(a_ticker_whose_heartbeat_is_late_has_ticked_by_itself)
{
    ride();

    play_turn(1165, 1);

    ck_assert_uint_eq(ticks, 1);
    ck_assert_uint_eq(played.due_ms, 1200); /* its own time again */
}
END_TEST

START_TEST(a_turn_ticks_once_and_only_for_what_came_in_it)
{
    ride();

    play_turn(1150, 3);
    ck_assert_uint_eq(ticks, 1);
    play_turn(1200, 1); /* too early to count, also later */
    play_turn(1250, 0);

    ck_assert_uint_eq(ticks, 1);
}
END_TEST

/* As in an election that it has won between two heartbeats of its own. */
START_TEST(a_ticker_that_leads_hears_nothing_and_is_exact)
{
    ride();
    state = LEADS;
    play_turn(1150, 1);
    ck_assert_uint_eq(ticks, 1);
    ck_assert_uint_eq(played.due_ms, 1250);

    play_turn(1245, 1);
    ck_assert_uint_eq(ticks, 1);
    play_turn(1251, 0);

    ck_assert_uint_eq(ticks, 2);
    ck_assert_uint_eq(played.due_ms, 1350);
}
END_TEST

/* Its leader is silent since 1050; asked anew at each tick, it stands at 1377. */
START_TEST(a_ticker_ticks_when_its_election_is_due)
{
    state.due_ms = 1377;
    ride();
    play_turn(1376, 0);
    ck_assert_uint_eq(ticks, 3); /* 1164, 1200, 1300 */
    ck_assert_uint_eq(played.due_ms, 1377);

    play_turn(1378, 0);

    ck_assert_uint_eq(ticks, 4);
    ck_assert_uint_eq(played.due_ms, 1400);
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
    tcase_add_loop_test(tests, a_follower_ticks_when_its_election_is_due, 0, 8);
    tcase_add_test(tests, a_ticker_ticks_until_it_is_closed);
    suite_add_tcase(suite, tests);
    TCase *plays = tcase_create("a loop that is played");
    tcase_add_checked_fixture(plays, setup_played, teardown_played);
    tcase_add_loop_test(plays, a_ticker_ticks_with_a_heartbeat_that_comes_in_its_time, 0,
                        (int)(sizeof(heard_after) / sizeof(heard_after[0])));
    tcase_add_test(plays, a_ticker_whose_heartbeat_is_late_has_ticked_by_itself);
    tcase_add_test(plays, a_turn_ticks_once_and_only_for_what_came_in_it);
    tcase_add_test(plays, a_ticker_ticks_when_its_election_is_due);
    tcase_add_test(plays, a_ticker_that_leads_hears_nothing_and_is_exact);
    suite_add_tcase(suite, plays);
    return test_main_run(suite);
}
