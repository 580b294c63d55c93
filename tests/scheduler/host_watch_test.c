/* Goal: rule 3 of the model. A host is given up only when its lease is provably over, by
 * whichever leader looks at it; and silence and return are seen when they should be.
 * Method: virtual time; every boundary is tried on both sides by a nanosecond. */
#include "base/clock.h"
#include "scheduler/host_watch.h"
#include "support/test_main.h"

#include <string.h>

#define HOST  UINT64_C(5)
#define LEAD  (100 * NS_PER_S)
#define MS(n) ((n)*NS_PER_MS)

static struct host_watch *watch;
static struct host host;
static char reason[256];
static const struct host_load load = {.cpu_used_mcpu = 1500};

/* A leadership begins with a look at every host that there is. */
static void lead(uint64_t now_ns)
{
    host_watch_lead(watch, now_ns);
    (void)host_watch_judge(watch, &host, now_ns, reason);
}

static void setup(void)
{
    watch = host_watch_new();
    ck_assert_ptr_nonnull(watch);
    host = (struct host){.meta.uid = HOST};
    lead(LEAD);
}

static void teardown(void)
{
    watch = host_watch_free(watch);
}

static void heard(uint64_t now_ns)
{
    ck_assert_int_eq(
        host_watch_heard(watch, HOST, &load, now_ns, 1000000 + now_ns / NS_PER_MS), 0);
}

static enum host_phase judged(enum host_phase phase, uint64_t now_ns)
{
    host.status.phase = phase;
    reason[0] = '\0';
    return host_watch_judge(watch, &host, now_ns, reason);
}

/* The longest that the host itself may run VMs on one grant, by a clock that is slow by
 * d: it counts L*(1-d) of its own seconds, which take L*(1-d)*(1+d) of real ones. */
static uint64_t host_runs_at_most_ns(void)
{
    uint64_t own_ns = LEASE_NS - LEASE_NS * LEASE_DRIFT_PERMILLE / 1000;
    return own_ns + own_ns * LEASE_DRIFT_PERMILLE / 1000;
}

START_TEST(a_lease_is_over_after_its_length_its_drift_and_the_margin)
{
    ck_assert_uint_eq(host_watch_lease_over_ns(),
                      LEASE_NS + LEASE_NS * LEASE_DRIFT_PERMILLE / 1000 +
                          LEASE_MARGIN_NS);
    /* The leader's clock may be fast by d as well. */
    uint64_t leader_waits_ns = host_watch_lease_over_ns() -
                               host_watch_lease_over_ns() * LEASE_DRIFT_PERMILLE / 1000;
    ck_assert_uint_gt(leader_waits_ns, host_runs_at_most_ns());
}
END_TEST

START_TEST(a_host_that_is_heard_stays_ready)
{
    for (uint64_t now_ns = LEAD; now_ns < LEAD + MS(60000); now_ns += HEARTBEAT_NS) {
        heard(now_ns);
        ck_assert_int_eq(judged(HOST_PHASE_READY, now_ns + HEARTBEAT_NS),
                         HOST_PHASE_READY);
    }
}
END_TEST

/* Silence since the last heartbeat (at LEAD + 20 s), and what becomes of a host that the
 * log calls `from`. */
static const struct {
    enum host_phase from;
    uint64_t silent_ns;
    enum host_phase want;
} silences[] = {
    {HOST_PHASE_READY, 0, HOST_PHASE_READY},
    {HOST_PHASE_READY, SUSPECT_NS, HOST_PHASE_READY},
    {HOST_PHASE_READY, SUSPECT_NS + 1, HOST_PHASE_SUSPECT},
    {HOST_PHASE_READY, MS(6060) + LEASE_MARGIN_NS, HOST_PHASE_SUSPECT},
    {HOST_PHASE_READY, MS(6060) + LEASE_MARGIN_NS + 1, HOST_PHASE_LOST},
    {HOST_PHASE_SUSPECT, 0, HOST_PHASE_READY},
    {HOST_PHASE_SUSPECT, SUSPECT_NS, HOST_PHASE_READY},
    {HOST_PHASE_SUSPECT, SUSPECT_NS + 1, HOST_PHASE_SUSPECT},
    {HOST_PHASE_SUSPECT, LEASE_NS, HOST_PHASE_SUSPECT},
    {HOST_PHASE_SUSPECT, MS(6060) + LEASE_MARGIN_NS, HOST_PHASE_SUSPECT},
    {HOST_PHASE_SUSPECT, MS(6060) + LEASE_MARGIN_NS + 1, HOST_PHASE_LOST},
    {HOST_PHASE_LOST, 0, HOST_PHASE_READY},
    {HOST_PHASE_LOST, SUSPECT_NS + 1, HOST_PHASE_LOST},
    {HOST_PHASE_LOST, MS(3600000), HOST_PHASE_LOST},
    {HOST_PHASE_REMOVED, 0, HOST_PHASE_REMOVED},
    {HOST_PHASE_REMOVED, MS(3600000), HOST_PHASE_REMOVED},
};

START_TEST(a_host_that_joins_under_a_leader_is_silent_from_then)
{
    uint64_t joined_ns = LEAD + MS(60000);
    host.meta.uid = HOST + 1;
    ck_assert_int_eq(judged(HOST_PHASE_READY, joined_ns), HOST_PHASE_READY);
    ck_assert_int_eq(judged(HOST_PHASE_READY, joined_ns + SUSPECT_NS), HOST_PHASE_READY);
    ck_assert_int_eq(judged(HOST_PHASE_READY, joined_ns + SUSPECT_NS + 1),
                     HOST_PHASE_SUSPECT);
    ck_assert_int_eq(
        judged(HOST_PHASE_SUSPECT, joined_ns + host_watch_lease_over_ns() + 1),
        HOST_PHASE_LOST);
}
END_TEST

START_TEST(silence_has_its_consequences_to_the_nanosecond)
{
    heard(LEAD + MS(20000));

    enum host_phase phase =
        judged(silences[_i].from, LEAD + MS(20000) + silences[_i].silent_ns);

    ck_assert_int_eq(phase, silences[_i].want);
    ck_assert_int_eq(reason[0] != '\0', phase != silences[_i].from);
}
END_TEST

START_TEST(a_new_leader_gives_nobody_up_before_it_has_led_a_whole_lease)
{
    const uint64_t over_ns = LEAD + host_watch_lease_over_ns();

    ck_assert_int_eq(judged(HOST_PHASE_SUSPECT, LEAD), HOST_PHASE_SUSPECT);
    ck_assert_int_eq(judged(HOST_PHASE_SUSPECT, over_ns), HOST_PHASE_SUSPECT);
    ck_assert_int_eq(judged(HOST_PHASE_READY, LEAD + SUSPECT_NS), HOST_PHASE_READY);
    ck_assert_int_eq(judged(HOST_PHASE_READY, LEAD + SUSPECT_NS + 1), HOST_PHASE_SUSPECT);
    ck_assert_int_eq(judged(HOST_PHASE_SUSPECT, over_ns + 1), HOST_PHASE_LOST);
    ck_assert_ptr_nonnull(strstr(reason, "never heard by this leader"));
}
END_TEST

/* It led before, heard the host, lost the leadership, and another may have renewed. */
START_TEST(a_leader_that_leads_again_forgets_what_it_heard_before)
{
    heard(LEAD + MS(1000));
    const uint64_t again_ns = LEAD + MS(4000);
    lead(again_ns);
    uint64_t wall_ms = 0;
    struct host_load seen;

    ck_assert(!host_watch_seen(watch, HOST, &wall_ms, &seen));
    ck_assert_int_eq(judged(HOST_PHASE_SUSPECT, again_ns + host_watch_lease_over_ns()),
                     HOST_PHASE_SUSPECT);
    ck_assert_int_eq(judged(HOST_PHASE_LOST, again_ns), HOST_PHASE_LOST);
    ck_assert_int_eq(
        judged(HOST_PHASE_SUSPECT, again_ns + host_watch_lease_over_ns() + 1),
        HOST_PHASE_LOST);
}
END_TEST

START_TEST(each_heartbeat_puts_the_end_off_by_a_whole_lease)
{
    uint64_t last_ns = LEAD;
    for (unsigned i = 0; i < 200; i++) {
        last_ns += MS(37) * (i % 11);
        heard(last_ns);
        ck_assert_int_eq(judged(HOST_PHASE_SUSPECT, last_ns + host_watch_lease_over_ns()),
                         HOST_PHASE_SUSPECT);
        ck_assert_int_eq(
            judged(HOST_PHASE_SUSPECT, last_ns + host_watch_lease_over_ns() + 1),
            HOST_PHASE_LOST);
    }
}
END_TEST

START_TEST(time_that_stands_still_or_steps_back_is_no_silence)
{
    heard(LEAD + MS(9000));

    ck_assert_int_eq(judged(HOST_PHASE_READY, LEAD + MS(9000)), HOST_PHASE_READY);
    ck_assert_int_eq(judged(HOST_PHASE_READY, LEAD), HOST_PHASE_READY);
    ck_assert_int_eq(judged(HOST_PHASE_READY, 0), HOST_PHASE_READY);
}
END_TEST

START_TEST(a_leadership_from_the_first_tick_of_the_clock_counts_too)
{
    lead(0);
    heard(0);

    ck_assert_int_eq(judged(HOST_PHASE_SUSPECT, 0), HOST_PHASE_READY);
    ck_assert_int_eq(judged(HOST_PHASE_READY, SUSPECT_NS + 1), HOST_PHASE_SUSPECT);
}
END_TEST

START_TEST(hosts_are_watched_one_by_one)
{
    heard(LEAD + MS(1000));
    ck_assert_int_eq(host_watch_heard(watch, HOST + 1, &load, LEAD + MS(9000), 1), 0);

    ck_assert_int_eq(judged(HOST_PHASE_READY, LEAD + MS(9000)), HOST_PHASE_LOST);
    host.meta.uid = HOST + 1;
    ck_assert_int_eq(judged(HOST_PHASE_READY, LEAD + MS(9000)), HOST_PHASE_READY);
}
END_TEST

START_TEST(the_reason_says_how_long_and_since_when)
{
    heard(LEAD + MS(1234));

    (void)judged(HOST_PHASE_READY, LEAD + MS(1234) + MS(2000));
    ck_assert_str_eq(reason, "no heartbeat for 2.0 s (last heartbeat 00:18:21.234)");
    (void)judged(HOST_PHASE_SUSPECT, LEAD + MS(1234) + MS(6500));
    ck_assert_str_eq(reason,
                     "its lease is over: silent for 6.5 s (last heartbeat 00:18:21.234)");
    heard(LEAD + MS(9000));
    (void)judged(HOST_PHASE_LOST, LEAD + MS(9000));
    ck_assert_str_eq(reason, "heartbeats are back");
}
END_TEST

START_TEST(what_a_host_said_last_is_kept)
{
    uint64_t wall_ms = 0;
    struct host_load seen = {0};
    ck_assert(!host_watch_seen(watch, HOST, &wall_ms, &seen));

    heard(LEAD + MS(500));

    ck_assert(host_watch_seen(watch, HOST, &wall_ms, &seen));
    ck_assert_uint_eq(wall_ms, 1000000 + 100500);
    ck_assert_uint_eq(seen.cpu_used_mcpu, 1500);
}
END_TEST

/* ---- leases of hosts that were given up ---- */

static bool renewed(enum host_phase phase, bool orders_taken)
{
    host.status.phase = phase;
    return host_watch_may_renew(watch, &host, orders_taken);
}

START_TEST(a_host_that_is_heard_is_renewed_whatever_its_orders)
{
    ck_assert(!renewed(HOST_PHASE_READY, true)); /* nothing was heard that could be */
    heard(LEAD);
    ck_assert(renewed(HOST_PHASE_READY, false));
    ck_assert(renewed(HOST_PHASE_SUSPECT, false));
    ck_assert(!host_watch_may_renew(watch, NULL, true)); /* it was removed */
}
END_TEST

/* The decision is on its way through the log: the host looks as it did. */
START_TEST(a_host_is_not_renewed_from_when_it_is_given_up)
{
    heard(LEAD);
    ck_assert_int_eq(host_watch_give_up(watch, HOST), 0);
    heard(LEAD + MS(7000));

    ck_assert(!renewed(HOST_PHASE_READY, false));
    ck_assert(!renewed(HOST_PHASE_SUSPECT, false));
    ck_assert(!renewed(HOST_PHASE_SUSPECT, true));
    ck_assert(!renewed(HOST_PHASE_LOST, true));
    ck_assert(!renewed(HOST_PHASE_READY, false)); /* it may still hold its old orders */
    ck_assert(renewed(HOST_PHASE_READY, true));
    ck_assert(renewed(HOST_PHASE_READY, false)); /* and from then on like any other */
}
END_TEST

START_TEST(a_host_that_an_earlier_leader_gave_up_has_to_start_anew_as_well)
{
    heard(LEAD);
    ck_assert(!renewed(HOST_PHASE_LOST, true));
    ck_assert(!renewed(HOST_PHASE_READY, false));
    ck_assert(renewed(HOST_PHASE_READY, true));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("host_watch");
    TCase *tests = tcase_create("host_watch");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_lease_is_over_after_its_length_its_drift_and_the_margin);
    tcase_add_test(tests, a_host_that_is_heard_stays_ready);
    tcase_add_test(tests, a_host_that_joins_under_a_leader_is_silent_from_then);
    tcase_add_loop_test(tests, silence_has_its_consequences_to_the_nanosecond, 0,
                        sizeof(silences) / sizeof(silences[0]));
    tcase_add_test(tests, a_new_leader_gives_nobody_up_before_it_has_led_a_whole_lease);
    tcase_add_test(tests, a_leader_that_leads_again_forgets_what_it_heard_before);
    tcase_add_test(tests, each_heartbeat_puts_the_end_off_by_a_whole_lease);
    tcase_add_test(tests, time_that_stands_still_or_steps_back_is_no_silence);
    tcase_add_test(tests, a_leadership_from_the_first_tick_of_the_clock_counts_too);
    tcase_add_test(tests, hosts_are_watched_one_by_one);
    tcase_add_test(tests, the_reason_says_how_long_and_since_when);
    tcase_add_test(tests, what_a_host_said_last_is_kept);
    tcase_add_test(tests, a_host_that_is_heard_is_renewed_whatever_its_orders);
    tcase_add_test(tests, a_host_is_not_renewed_from_when_it_is_given_up);
    tcase_add_test(tests,
                   a_host_that_an_earlier_leader_gave_up_has_to_start_anew_as_well);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
