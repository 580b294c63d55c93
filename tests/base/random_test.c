#include "base/random.h"
#include "support/test_main.h"

#include <signal.h>
#include <string.h>

START_TEST(the_same_seed_gives_the_same_run)
{
    struct random a;
    struct random b;
    random_seed(&a, 42);
    random_seed(&b, 42);
    for (int i = 0; i < 100; i++) {
        ck_assert_uint_eq(random_u64(&a), random_u64(&b));
    }
}
END_TEST

/* Replays of old seeds must stay valid: the first numbers of seed 0 are pinned. They were
 * computed from the published algorithms (splitmix64 for the state, xoshiro256** for the
 * stream). */
START_TEST(the_stream_of_a_seed_never_changes)
{
    struct random random;
    random_seed(&random, 0);
    ck_assert_uint_eq(random.state[0], UINT64_C(0xe220a8397b1dcdaf));
    ck_assert_uint_eq(random_u64(&random), UINT64_C(0x99ec5f36cb75f2b4));
    ck_assert_uint_eq(random_u64(&random), UINT64_C(0xbf6e1f784956452a));
    ck_assert_uint_eq(random_u64(&random), UINT64_C(0x1a5f849d4933e6e0));
    for (int i = 3; i < 99; i++) {
        (void)random_u64(&random);
    }
    ck_assert_uint_eq(random_u64(&random), UINT64_C(0x3cb72d021fba219c));
}
END_TEST

START_TEST(different_seeds_differ_even_when_small)
{
    struct random a;
    struct random b;
    random_seed(&a, 0);
    random_seed(&b, 1);
    ck_assert_uint_ne(random_u64(&a), random_u64(&b));
}
END_TEST

START_TEST(bounded_numbers_stay_below_and_reach_every_value)
{
    struct random random;
    unsigned hits[7] = {0};
    random_seed(&random, 3);
    for (int i = 0; i < 7000; i++) {
        uint64_t value = random_below(&random, 7);
        ck_assert_uint_lt(value, 7);
        hits[value]++;
    }
    for (int i = 0; i < 7; i++) { /* the seed is fixed: no chance is involved */
        ck_assert_uint_gt(hits[i], 850);
        ck_assert_uint_lt(hits[i], 1150);
    }
    ck_assert_uint_eq(random_below(&random, 1), 0);
}
END_TEST

/* Of a bound that does not divide 2^64: without a second draw the lower third would get
 * one half. */
START_TEST(a_large_bound_is_as_fair_as_a_small_one)
{
    struct random random;
    const uint64_t third = UINT64_C(1) << 62;
    unsigned low = 0;
    random_seed(&random, 5);
    for (int i = 0; i < 3000; i++) {
        low += random_below(&random, 3 * third) < third;
    }
    ck_assert_uint_gt(low, 900);
    ck_assert_uint_lt(low, 1100);
}
END_TEST

START_TEST(a_bound_of_zero_aborts)
{
    struct random random;
    random_seed(&random, 3);
    (void)random_below(&random, 0);
}
END_TEST

START_TEST(secrets_fill_the_whole_buffer_and_differ)
{
    unsigned char a[1000] = {0};
    unsigned char b[1000] = {0};
    random_secret(a, sizeof(a));
    random_secret(b, sizeof(b));
    ck_assert_mem_ne(a, b, 16);
    ck_assert_mem_ne(a + 984, b + 984, 16);
    random_secret(a, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("random");
    TCase *tcase = tcase_create("random");
    tcase_add_test(tcase, the_same_seed_gives_the_same_run);
    tcase_add_test(tcase, the_stream_of_a_seed_never_changes);
    tcase_add_test(tcase, different_seeds_differ_even_when_small);
    tcase_add_test(tcase, bounded_numbers_stay_below_and_reach_every_value);
    tcase_add_test(tcase, a_large_bound_is_as_fair_as_a_small_one);
    tcase_add_test_raise_signal(tcase, a_bound_of_zero_aborts, SIGABRT);
    tcase_add_test(tcase, secrets_fill_the_whole_buffer_and_differ);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
