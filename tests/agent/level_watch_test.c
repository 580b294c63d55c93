/* Goal: the level rises only when every host of the cluster, whatever its part, has been
 * well and has known the next for long enough; who holds it back is said. Method: a small
 * state, heartbeats by hand, a scripted clock. */
#include "agent/level_watch.h"
#include "support/state_fixture.h"

#define WAIT_MS 10000
#define BEAT_MS 1000

static struct level_watch *watch;
static uint64_t hosts[3];
static uint64_t now_ms;
static char why[256];

static void start(void)
{
    fixture_start();
    now_ms = 1000000;
    watch = level_watch_new(WAIT_MS);
    ck_assert_ptr_nonnull(watch);
    hosts[0] = h1;
    hosts[1] = add_host("h2", 2);
    hosts[2] = add_host("h3", 3);
}

static void stop(void)
{
    watch = level_watch_free(watch);
    fixture_stop();
}

/* Each host says up to which level it knows, once a second, for so long; 0: nothing. */
static void beat_for(uint64_t ms, uint32_t one, uint32_t two, uint32_t three)
{
    const uint32_t max[] = {one, two, three};
    for (uint64_t end = now_ms + ms; now_ms < end; now_ms += BEAT_MS) {
        for (size_t i = 0; i < 3; i++) {
            const struct level_range range = {1, max[i]};
            ck_assert(max[i] == 0 ||
                      level_watch_heard(watch, hosts[i], range, now_ms) == 0);
        }
    }
    now_ms -= BEAT_MS; /* of the last beat */
}

static uint32_t next(void)
{
    return level_watch_next(watch, state, now_ms, why);
}

START_TEST(it_rises_when_all_have_said_so_for_long_enough)
{
    beat_for(WAIT_MS, 2, 2, 2);
    ck_assert_uint_eq(next(), 0);
    ck_assert_ptr_nonnull(strstr(why, "h1 has said for 9 s"));
    ck_assert_ptr_nonnull(strstr(why, "and 2 more hosts"));
    now_ms += BEAT_MS;
    beat_for(BEAT_MS, 2, 2, 2);
    ck_assert_uint_eq(next(), 2);
    ck_assert_str_eq(why, "");
}
END_TEST

START_TEST(one_that_does_not_know_it_holds_it_back)
{
    beat_for(3 * WAIT_MS, 2, 1, 2);
    ck_assert_uint_eq(next(), 0);
    ck_assert_ptr_nonnull(strstr(why, "h2 takes part up to level 1"));
    ck_assert_uint_eq(level_watch_highest(watch, state), 2);
}
END_TEST

START_TEST(what_time_does_not_cure_is_told_first)
{
    beat_for(BEAT_MS, 2, 0, 1);
    ck_assert_uint_eq(next(), 0);
    ck_assert_ptr_nonnull(strstr(why, "h3 takes part up to level 1"));
    now_ms += BEAT_MS;
    beat_for(BEAT_MS, 2, 0, 2);
    ck_assert_uint_eq(next(), 0);
    ck_assert_ptr_nonnull(strstr(why, "h2 is not heard"));
}
END_TEST

START_TEST(when_nobody_knows_of_more_nothing_waits)
{
    beat_for(3 * WAIT_MS, 1, 1, 1);
    ck_assert_uint_eq(next(), 0);
    ck_assert_str_eq(why, "");
}
END_TEST

START_TEST(a_silent_host_holds_it_back)
{
    beat_for(3 * WAIT_MS, 2, 2, 0);
    ck_assert_uint_eq(next(), 0);
    ck_assert_ptr_nonnull(strstr(why, "h3 is not heard"));
    now_ms += BEAT_MS;
    beat_for(2 * WAIT_MS, 2, 2, 2);
    ck_assert_uint_eq(next(), 2);
    now_ms += BEAT_MS;
    beat_for(LEVEL_SILENT_MS + BEAT_MS, 2, 2, 0); /* it may be the old one by now */
    ck_assert_uint_eq(next(), 0);
    now_ms += BEAT_MS;
    beat_for(BEAT_MS, 2, 2, 2);
    ck_assert_uint_eq(next(), 0);
    ck_assert_ptr_nonnull(strstr(why, "h3 has said for 0 s"));
}
END_TEST

START_TEST(a_lost_host_holds_it_back_until_it_is_removed)
{
    ck_assert_int_eq(host_phase(hosts[2], HOST_PHASE_SUSPECT), 0);
    ck_assert_int_eq(host_phase(hosts[2], HOST_PHASE_LOST), 0);
    beat_for(2 * WAIT_MS, 2, 2, 2);
    ck_assert_uint_eq(next(), 0);
    ck_assert_ptr_nonnull(strstr(why, "berth rm host/h3"));
    ck_assert_int_eq(host_phase(hosts[2], HOST_PHASE_REMOVED), 0);
    ck_assert_uint_eq(next(), 2);
}
END_TEST

START_TEST(of_a_removed_host_nothing_is_kept)
{
    struct level_range range;
    beat_for(2 * WAIT_MS, 2, 2, 1);
    ck_assert(level_watch_range(watch, hosts[2], &range));
    ck_assert_int_eq(host_drain(hosts[2], true), 0);
    ck_assert_int_eq(host_phase(hosts[2], HOST_PHASE_REMOVED), 0);
    level_watch_forget(watch, hosts[2]);
    level_watch_forget(watch, 4711); /* never heard */
    ck_assert(!level_watch_range(watch, hosts[2], &range));
    ck_assert(level_watch_range(watch, hosts[1], &range));
    ck_assert_uint_eq(level_watch_highest(watch, state), 2);
    ck_assert_uint_eq(next(), 2);
    level_watch_reset(watch);
    ck_assert(!level_watch_range(watch, hosts[1], &range));
}
END_TEST

START_TEST(one_that_is_taken_back_begins_anew)
{
    beat_for(WAIT_MS - BEAT_MS, 2, 2, 2);
    now_ms += BEAT_MS;
    beat_for(BEAT_MS, 1, 2, 2);
    now_ms += BEAT_MS;
    beat_for(WAIT_MS - BEAT_MS, 2, 2, 2);
    ck_assert_uint_eq(next(), 0);
    ck_assert_ptr_nonnull(strstr(why, "h1 has said for"));
    now_ms += BEAT_MS;
    beat_for(2 * BEAT_MS + BEAT_MS, 2, 2, 2);
    ck_assert_uint_eq(next(), 2);
}
END_TEST

START_TEST(a_new_leader_hears_all_of_it_again)
{
    beat_for(2 * WAIT_MS, 2, 2, 2);
    ck_assert_uint_eq(next(), 2);
    level_watch_reset(watch);
    ck_assert_uint_eq(next(), 0);
    ck_assert_str_eq(why, "");
    struct level_range range;
    ck_assert(!level_watch_range(watch, hosts[0], &range));
}
END_TEST

START_TEST(a_new_cluster_does_not_wait_until_another_host_is_in)
{
    for (unsigned i = 1; i <= 2; i++) {
        ck_assert_int_eq(host_drain(hosts[i], true), 0);
        ck_assert_int_eq(host_phase(hosts[i], HOST_PHASE_REMOVED), 0);
    }
    beat_for(BEAT_MS, 2, 0, 0);
    ck_assert_uint_eq(next(), 0); /* it may have been upgraded just now */
    level_watch_found(watch, hosts[0]);
    ck_assert_uint_eq(next(), 2);
    level_watch_reset(watch); /* who leads anew knows nothing of that */
    beat_for(BEAT_MS, 2, 0, 0);
    ck_assert_uint_eq(next(), 0);
    level_watch_found(watch, hosts[0]);
    hosts[1] = add_host("h4", 4);
    beat_for(BEAT_MS, 2, 2, 0);
    ck_assert_uint_eq(next(), 0);
    ck_assert_ptr_nonnull(strstr(why, "wanted are 10 s"));
}
END_TEST

START_TEST(it_rises_no_further_than_this_release_knows)
{
    const uint32_t known = level_range_up_to(0).max;
    ck_assert_int_eq(raise_level(known), 0);
    beat_for(2 * WAIT_MS, known + 1, known + 1, known + 1);
    ck_assert_uint_eq(next(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("level_watch");
    TCase *tests = tcase_create("level_watch");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, what_time_does_not_cure_is_told_first);
    tcase_add_test(tests, it_rises_when_all_have_said_so_for_long_enough);
    tcase_add_test(tests, one_that_does_not_know_it_holds_it_back);
    tcase_add_test(tests, when_nobody_knows_of_more_nothing_waits);
    tcase_add_test(tests, a_silent_host_holds_it_back);
    tcase_add_test(tests, a_lost_host_holds_it_back_until_it_is_removed);
    tcase_add_test(tests, of_a_removed_host_nothing_is_kept);
    tcase_add_test(tests, one_that_is_taken_back_begins_anew);
    tcase_add_test(tests, a_new_leader_hears_all_of_it_again);
    tcase_add_test(tests, a_new_cluster_does_not_wait_until_another_host_is_in);
    tcase_add_test(tests, it_rises_no_further_than_this_release_knows);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
