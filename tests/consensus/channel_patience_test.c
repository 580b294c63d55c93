/* Whoever is refused again and again calls less and less often, and at once when it is
 * let in. */
#include "consensus/channel_patience.h"
#include "support/test_main.h"

static struct channel_patience patience;

static void setup(void)
{
    patience = (struct channel_patience){0};
}

static void refuse_times(uint64_t id, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        (void)channel_patience_refused(&patience, id);
    }
}

START_TEST(the_first_few_cost_nothing_and_then_each_twice_the_one_before)
{
    static const unsigned EXPECTED[] = {0,   0,   0,    0,    100,  200,
                                        400, 800, 1600, 3200, 3200, 3200};
    for (size_t i = 0; i < sizeof(EXPECTED) / sizeof(EXPECTED[0]); i++) {
        ck_assert_uint_eq(channel_patience_refused(&patience, 7), EXPECTED[i]);
    }
    refuse_times(7, 100000);
    ck_assert_uint_eq(channel_patience_refused(&patience, 7), CHANNEL_PATIENCE_LAST_MS);
}
END_TEST

START_TEST(who_lets_us_in_is_called_at_once_again)
{
    refuse_times(7, 20);
    channel_patience_welcome(&patience, 7);
    ck_assert_uint_eq(channel_patience_refused(&patience, 7), 0);
    channel_patience_welcome(&patience, 9); /* has never refused */
}
END_TEST

START_TEST(members_are_counted_apart)
{
    refuse_times(7, 20);
    ck_assert_uint_eq(channel_patience_refused(&patience, 8), 0);
    channel_patience_welcome(&patience, 8);
    ck_assert_uint_eq(channel_patience_refused(&patience, 7), CHANNEL_PATIENCE_LAST_MS);
}
END_TEST

START_TEST(of_too_many_the_first_is_forgotten)
{
    for (uint64_t id = 1; id <= CHANNEL_PATIENCE_PEERS + 1; id++) {
        refuse_times(id, 20);
    }
    ck_assert_uint_eq(channel_patience_refused(&patience, 2), CHANNEL_PATIENCE_LAST_MS);
    ck_assert_uint_eq(channel_patience_refused(&patience, CHANNEL_PATIENCE_PEERS + 1),
                      CHANNEL_PATIENCE_LAST_MS);
    ck_assert_uint_eq(channel_patience_refused(&patience, 1), 0);
    ck_assert_uint_eq(channel_patience_refused(&patience, 2), 0); /* it was the next */
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("channel_patience");
    TCase *tcase = tcase_create("channel_patience");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, the_first_few_cost_nothing_and_then_each_twice_the_one_before);
    tcase_add_test(tcase, who_lets_us_in_is_called_at_once_again);
    tcase_add_test(tcase, members_are_counted_apart);
    tcase_add_test(tcase, of_too_many_the_first_is_forgotten);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
