#include "model/content_hash.h"
#include "support/test_main.h"

#include <string.h>

#define SIZE_MAX_TRIED 70

START_TEST(one_bit_anywhere_changes_the_hash)
{
    uint8_t data[SIZE_MAX_TRIED] = {0};
    size_t size = (size_t)_i;
    uint64_t hash = content_hash(1, data, size);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        uint64_t other = content_hash(1, data, size);
        ck_assert_msg(other != hash, "bit %zu of %zu bytes", bit, size);
        ck_assert_int_gt(__builtin_popcountll(hash ^ other), 10); /* it spreads */
        data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    ck_assert_uint_eq(content_hash(1, data, size), hash);
}
END_TEST

START_TEST(length_and_seed_count)
{
    static const uint8_t zeros[SIZE_MAX_TRIED];
    for (size_t size = 1; size < sizeof(zeros); size++) {
        ck_assert(content_hash(1, zeros, size) != content_hash(1, zeros, size - 1));
        ck_assert(content_hash(1, zeros, size) != content_hash(2, zeros, size));
    }
}
END_TEST

/* Part of the snapshot format: a change would tell all replicas of a mixed cluster apart.
 */
START_TEST(the_values_are_for_ever)
{
    ck_assert_uint_eq(content_hash(0, "", 0), UINT64_C(0x2736785b36e93d73));
    ck_assert_uint_eq(content_hash(4, "0123456789abc", 13), UINT64_C(0x720cf6505adc2215));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("content_hash");
    TCase *tests = tcase_create("content_hash");
    tcase_add_loop_test(tests, one_bit_anywhere_changes_the_hash, 1, SIZE_MAX_TRIED);
    tcase_add_test(tests, length_and_seed_count);
    tcase_add_test(tests, the_values_are_for_ever);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
