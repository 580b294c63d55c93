/* Goal: rule 2 of the model. Method: small lengths, so that every instant of a lease's
 * life and every order of heartbeats, losses and acks can be tried. */
#include "agent/lease.h"
#include "base/clock.h"
#include "support/test_main.h"

#include <check.h>

static const struct lease_config tiny = {
    .length_ns = 1000,
    .clock_error_permille = 10,
    .pause_permille = 700,
    .kill_permille = 900,
};

static struct lease lease_with(const struct lease_config *config)
{
    struct lease lease;
    lease_init(&lease, config, 1);
    return lease;
}

START_TEST(a_host_without_a_lease_must_not_run)
{
    struct lease lease = lease_with(&tiny);

    ck_assert_int_eq(lease_state(&lease, 0), LEASE_KILL);
    ck_assert(!lease_may_run(&lease, 0));
    ck_assert_uint_eq(lease_next_change_ns(&lease, 0), UINT64_MAX);
    ck_assert_uint_eq(lease_granted_ns(&lease), 0);
}
END_TEST

START_TEST(the_lease_counts_from_when_the_heartbeat_was_sent)
{
    struct lease lease = lease_with(&tiny);

    uint64_t sequence = lease_heartbeat(&lease, 500);
    ck_assert(lease_ack(&lease, sequence)); /* whenever the ack arrives */

    ck_assert_uint_eq(lease_granted_ns(&lease), 500);
}
END_TEST

START_TEST(every_instant_of_a_lease_has_the_right_state)
{
    struct lease lease = lease_with(&tiny);
    (void)lease_ack(&lease, lease_heartbeat(&lease, 100));

    for (uint64_t age = 0; age < 2000; age++) {
        uint64_t now = 100 + age;
        enum lease_state want = age < 700   ? LEASE_OK
                                : age < 900 ? LEASE_PAUSE
                                            : LEASE_KILL;
        uint64_t change = age < 700 ? 800 : age < 900 ? 1000 : UINT64_MAX;
        ck_assert_int_eq(lease_state(&lease, now), want);
        ck_assert_uint_eq(lease_next_change_ns(&lease, now), change);
        ck_assert_int_eq(lease_may_run(&lease, now), age < 990);
    }
}
END_TEST

START_TEST(killing_always_comes_before_the_lease_may_be_given_away)
{
    struct lease_config config = tiny;
    for (config.length_ns = 1; config.length_ns < 3000; config.length_ns++) {
        struct lease lease = lease_with(&config);
        (void)lease_ack(&lease, lease_heartbeat(&lease, 7));
        uint64_t now = 7;
        while (lease_state(&lease, now) != LEASE_KILL) {
            ck_assert(lease_may_run(&lease, now));
            uint64_t next = lease_next_change_ns(&lease, now);
            ck_assert_uint_gt(next, now);
            now = next;
        }
        ck_assert_uint_lt(now, 7 + config.length_ns);
    }
}
END_TEST

START_TEST(an_ack_in_time_ends_the_pause)
{
    struct lease lease = lease_with(&tiny);
    (void)lease_ack(&lease, lease_heartbeat(&lease, 0));
    uint64_t second = lease_heartbeat(&lease, 600);
    ck_assert_int_eq(lease_state(&lease, 750), LEASE_PAUSE);

    ck_assert(lease_ack(&lease, second));

    ck_assert_int_eq(lease_state(&lease, 750), LEASE_OK);
    ck_assert_uint_eq(lease_next_change_ns(&lease, 750), 1300);
}
END_TEST

START_TEST(an_ack_that_took_too_long_gives_nothing_to_run_by)
{
    struct lease lease = lease_with(&tiny);
    uint64_t sequence = lease_heartbeat(&lease, 0);

    ck_assert(lease_ack(&lease, sequence));

    ck_assert_int_eq(lease_state(&lease, 5000), LEASE_KILL);
    ck_assert(!lease_may_run(&lease, 5000));
}
END_TEST

START_TEST(acks_out_of_order_never_shorten_a_lease)
{
    struct lease lease = lease_with(&tiny);
    uint64_t first = lease_heartbeat(&lease, 10);
    uint64_t second = lease_heartbeat(&lease, 20);

    ck_assert(lease_ack(&lease, second));
    ck_assert(!lease_ack(&lease, first));

    ck_assert_uint_eq(lease_granted_ns(&lease), 20);
}
END_TEST

START_TEST(an_ack_counts_once_and_only_for_a_heartbeat_of_ours)
{
    struct lease lease;
    lease_init(&lease, &tiny, 1000);
    uint64_t sequence = lease_heartbeat(&lease, 10);
    ck_assert_uint_eq(sequence, 1000);

    ck_assert(!lease_ack(&lease, 1));    /* an earlier run's */
    ck_assert(!lease_ack(&lease, 1001)); /* not sent yet */
    ck_assert(!lease_may_run(&lease, 11));
    ck_assert(lease_ack(&lease, 1000));
    ck_assert(!lease_ack(&lease, 1000));
}
END_TEST

START_TEST(a_forgotten_heartbeat_cannot_be_acked)
{
    struct lease lease = lease_with(&tiny);
    uint64_t oldest = lease_heartbeat(&lease, 1);
    uint64_t kept = 0;
    for (unsigned i = 0; i < LEASE_HEARTBEATS_MAX; i++) {
        uint64_t sequence = lease_heartbeat(&lease, 2 + i);
        kept = i == 0 ? sequence : kept;
    }

    ck_assert(!lease_ack(&lease, oldest));
    ck_assert(lease_ack(&lease, kept));
    ck_assert_uint_eq(lease_granted_ns(&lease), 2);
}
END_TEST

START_TEST(a_sequence_may_wrap)
{
    struct lease lease;
    lease_init(&lease, &tiny, UINT64_MAX);
    uint64_t last = lease_heartbeat(&lease, 1);
    uint64_t zero = lease_heartbeat(&lease, 2);

    ck_assert_uint_eq(last, UINT64_MAX);
    ck_assert_uint_eq(zero, 0);
    ck_assert(lease_ack(&lease, last));
    ck_assert(lease_ack(&lease, zero));
    ck_assert_uint_eq(lease_granted_ns(&lease), 2);
}
END_TEST

/* All 4^6 ways in which six heartbeats can be lost, acked at once, acked after the next,
 * or acked after all: the grant is always the newest acked send time, at every step. */
START_TEST(any_mix_of_losses_and_delays_grants_the_newest_acked)
{
    enum { HEARTBEATS = 6 };
    for (unsigned mix = 0; mix < 1u << (2 * HEARTBEATS); mix++) {
        struct lease lease = lease_with(&tiny);
        uint64_t sequences[HEARTBEATS];
        uint64_t newest = 0;
        for (unsigned i = 0; i < HEARTBEATS; i++) {
            uint64_t sent = 100 * (i + 1);
            sequences[i] = lease_heartbeat(&lease, sent);
            if ((mix >> (2 * i) & 3) == 1) {
                ck_assert(lease_ack(&lease, sequences[i]));
                newest = sent;
            }
            if (i > 0 && (mix >> (2 * (i - 1)) & 3) == 2) {
                uint64_t earlier = sent - 100;
                ck_assert_int_eq(lease_ack(&lease, sequences[i - 1]), earlier > newest);
                newest = earlier > newest ? earlier : newest;
            }
            ck_assert_uint_eq(lease_granted_ns(&lease), newest);
            ck_assert_int_eq(lease_may_run(&lease, sent),
                             newest != 0 && sent < newest + 990);
        }
        for (unsigned i = 0; i < HEARTBEATS; i++) {
            if ((mix >> (2 * i) & 3) == 3) {
                (void)lease_ack(&lease, sequences[i]);
                newest = 100 * (i + 1) > newest ? 100 * (i + 1) : newest;
            }
        }
        ck_assert_uint_eq(lease_granted_ns(&lease), newest);
    }
}
END_TEST

START_TEST(a_restarted_daemon_goes_on_with_the_grant_it_wrote_down)
{
    struct lease lease = lease_with(&tiny);

    lease_restore(&lease, 400, 500);
    ck_assert_int_eq(lease_state(&lease, 500), LEASE_OK);
    lease_restore(&lease, 300, 500); /* an older one changes nothing */

    ck_assert_uint_eq(lease_granted_ns(&lease), 400);
}
END_TEST

START_TEST(a_grant_of_another_boot_is_ignored)
{
    struct lease lease = lease_with(&tiny);

    lease_restore(&lease, 400, 399);

    ck_assert(!lease_may_run(&lease, 400));
}
END_TEST

START_TEST(the_longest_times_do_not_overflow)
{
    struct lease_config config = tiny;
    config.length_ns = UINT64_MAX;
    struct lease lease = lease_with(&config);
    (void)lease_ack(&lease, lease_heartbeat(&lease, UINT64_MAX - 1));

    ck_assert_int_eq(lease_state(&lease, UINT64_MAX - 1), LEASE_OK);
    ck_assert(lease_may_run(&lease, UINT64_MAX - 1));
}
END_TEST

START_TEST(the_default_is_six_seconds)
{
    struct lease_config config = lease_config_default();
    struct lease lease = lease_with(&config);
    (void)lease_ack(&lease, lease_heartbeat(&lease, 0));

    ck_assert_int_eq(lease_state(&lease, 4200 * NS_PER_MS - 1), LEASE_OK);
    ck_assert_int_eq(lease_state(&lease, 4200 * NS_PER_MS), LEASE_PAUSE);
    ck_assert_int_eq(lease_state(&lease, 5400 * NS_PER_MS), LEASE_KILL);
    ck_assert(lease_may_run(&lease, 5940 * NS_PER_MS - 1));
    ck_assert(!lease_may_run(&lease, 5940 * NS_PER_MS));
    ck_assert_str_eq(lease_state_name(LEASE_PAUSE), "pause");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lease");
    TCase *tests = tcase_create("lease");
    tcase_add_test(tests, a_host_without_a_lease_must_not_run);
    tcase_add_test(tests, the_lease_counts_from_when_the_heartbeat_was_sent);
    tcase_add_test(tests, every_instant_of_a_lease_has_the_right_state);
    tcase_add_test(tests, killing_always_comes_before_the_lease_may_be_given_away);
    tcase_add_test(tests, an_ack_in_time_ends_the_pause);
    tcase_add_test(tests, an_ack_that_took_too_long_gives_nothing_to_run_by);
    tcase_add_test(tests, acks_out_of_order_never_shorten_a_lease);
    tcase_add_test(tests, an_ack_counts_once_and_only_for_a_heartbeat_of_ours);
    tcase_add_test(tests, a_forgotten_heartbeat_cannot_be_acked);
    tcase_add_test(tests, a_sequence_may_wrap);
    tcase_add_test(tests, any_mix_of_losses_and_delays_grants_the_newest_acked);
    tcase_add_test(tests, a_restarted_daemon_goes_on_with_the_grant_it_wrote_down);
    tcase_add_test(tests, a_grant_of_another_boot_is_ignored);
    tcase_add_test(tests, the_longest_times_do_not_overflow);
    tcase_add_test(tests, the_default_is_six_seconds);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
