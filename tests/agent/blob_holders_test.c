/* Goal: whoever needs contents is told of a host that has them, and of no other. */
#include "agent/blob_holders.h"
#include "base/random.h"
#include "support/test_main.h"

#include <string.h>

#define HOSTS 12
#define BLOBS 9

static struct blob_holders *holders;

static struct msg_blob blob_of(uint8_t number)
{
    struct msg_blob blob = {.size_bytes = number};
    /* All begin alike, so that they meet in one place of the index. */
    blob.sha256.bytes[DIGEST_SIZE - 1] = number;
    return blob;
}

static struct blob_holder_pair pair_of(uint8_t number)
{
    const struct msg_blob blob = blob_of(number);
    return blob_holders_of(holders, &blob.sha256, NULL, NULL);
}

static bool even(void *context, uint64_t host)
{
    (void)context;
    return host % 2 == 0;
}

static void start(void)
{
    holders = blob_holders_new();
    ck_assert_ptr_nonnull(holders);
}

static void stop(void)
{
    holders = blob_holders_free(holders);
}

START_TEST(the_lowest_holder_is_named_and_another_to_itself)
{
    const struct msg_blob blob = blob_of(1);
    ck_assert_int_eq(blob_holders_set(holders, 9, &blob, 1), 1);
    ck_assert_int_eq(blob_holders_set(holders, 4, &blob, 1), 1);
    ck_assert_int_eq(blob_holders_set(holders, 7, &blob, 1), 1);

    struct blob_holder_pair pair = pair_of(1);

    ck_assert_uint_eq(blob_holder_for(pair, 1), 4);
    ck_assert_uint_eq(blob_holder_for(pair, 4), 7);
    ck_assert_uint_eq(blob_holder_for(pair_of(2), 4), 0);
}
END_TEST

START_TEST(who_cannot_be_reached_is_passed_over)
{
    const struct msg_blob blob = blob_of(1);
    for (uint64_t host = 3; host < 9; host++) {
        ck_assert_int_eq(blob_holders_set(holders, host, &blob, 1), 1);
    }

    struct blob_holder_pair pair = blob_holders_of(holders, &blob.sha256, even, NULL);

    ck_assert_uint_eq(pair.first, 4);
    ck_assert_uint_eq(pair.second, 6);
}
END_TEST

START_TEST(who_has_not_looked_at_it_comes_last)
{
    struct msg_blob blob = blob_of(1);
    ck_assert_int_eq(blob_holders_set(holders, 7, &blob, 1), 1);
    blob.unchecked = true;
    ck_assert_int_eq(blob_holders_set(holders, 4, &blob, 1), 1);
    ck_assert_int_eq(blob_holders_set(holders, 5, &blob, 1), 1);
    ck_assert_uint_eq(pair_of(1).first, 7);
    ck_assert_uint_eq(pair_of(1).second, 4);
    ck_assert(blob_holders_checks(holders, 5, &blob.sha256));

    blob.unchecked = false;

    ck_assert_int_eq(blob_holders_set(holders, 5, &blob, 1), 1); /* that is news */
    ck_assert_int_eq(blob_holders_set(holders, 5, &blob, 1), 0);
    ck_assert(!blob_holders_checks(holders, 5, &blob.sha256));
    ck_assert_uint_eq(pair_of(1).first, 5);
    ck_assert_uint_eq(pair_of(1).second, 7);
}
END_TEST

START_TEST(the_same_again_is_no_news)
{
    const struct msg_blob blobs[] = {blob_of(1), blob_of(2)};
    ck_assert_int_eq(blob_holders_set(holders, 3, NULL, 0), 0);
    ck_assert_int_eq(blob_holders_set(holders, 3, blobs, 2), 1);
    ck_assert_int_eq(blob_holders_set(holders, 3, blobs, 2), 0);
    ck_assert_int_eq(blob_holders_set(holders, 3, blobs, 1), 1);
    ck_assert_int_eq(blob_holders_set(holders, 3, NULL, 0), 1);
    ck_assert_uint_eq(pair_of(1).first, 0);
}
END_TEST

/* Against a table of who has what. */
START_TEST(it_always_knows_who_holds_what)
{
    bool has[HOSTS + 1][BLOBS] = {0};
    struct random dice;
    random_seed(&dice, (uint64_t)_i);
    for (unsigned step = 0; step < 2000; step++) {
        uint64_t host = 1 + random_below(&dice, HOSTS);
        struct msg_blob said[BLOBS];
        uint32_t count = 0;
        for (uint8_t i = 0; i < BLOBS; i++) {
            has[host][i] = random_below(&dice, 3) == 0;
            if (has[host][i]) {
                said[count++] = blob_of(i);
            }
        }
        ck_assert_int_ge(blob_holders_set(holders, host, said, count), 0);
        for (uint8_t i = 0; i < BLOBS; i++) {
            struct blob_holder_pair wanted = {0};
            for (uint64_t h = HOSTS; h > 0; h--) {
                if (has[h][i]) {
                    wanted =
                        (struct blob_holder_pair){.first = h, .second = wanted.first};
                }
            }
            ck_assert_uint_eq(pair_of(i).first, wanted.first);
            ck_assert_uint_eq(pair_of(i).second, wanted.second);
            const struct msg_blob blob = blob_of(i);
            ck_assert(blob_holders_has(holders, host, &blob.sha256) == has[host][i]);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blob_holders");
    TCase *tests = tcase_create("blob_holders");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, the_lowest_holder_is_named_and_another_to_itself);
    tcase_add_test(tests, who_cannot_be_reached_is_passed_over);
    tcase_add_test(tests, who_has_not_looked_at_it_comes_last);
    tcase_add_test(tests, the_same_again_is_no_news);
    tcase_add_loop_test(tests, it_always_knows_who_holds_what, 1, 4);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
