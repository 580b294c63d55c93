#include "base/err.h"
#include "consensus/channel_crypto.h"
#include "support/test_main.h"

#include <string.h>

#define CLUSTER 7

static struct channel_identity alice; /* calls, id 1 */
static struct channel_identity bob;   /* is called, id 2 */
static struct channel_identity mallory;
static struct channel_handshake a;
static struct channel_handshake b;
static uint8_t hello[CHANNEL_HELLO_SIZE];
static uint8_t answer[CHANNEL_ANSWER_SIZE];
static uint8_t confirm[CHANNEL_CONFIRM_SIZE];
static struct channel_stream sending;
static struct channel_stream receiving;

static void make_identity(struct channel_identity *identity)
{
    uint8_t secret[CHANNEL_KEY_SIZE];
    randombytes_buf(secret, sizeof(secret));
    channel_identity_of(identity, secret);
}

static void setup(void)
{
    ck_assert_int_ge(sodium_init(), 0);
    make_identity(&alice);
    make_identity(&bob);
    make_identity(&mallory);
}

static int hello_read(uint64_t *ret_caller, uint64_t *ret_called, uint8_t *ret_key)
{
    int r = channel_hello_open(&b, hello, ret_key);
    return r < 0 ? r : channel_hello_finish(&b, hello, ret_caller, ret_called);
}

/* Everything up to the confirmation; flips one bit of the given text on its way. */
static int shake(uint8_t *flipped, size_t bit)
{
    uint64_t caller = 0;
    uint64_t called = 0;
    char address[CHANNEL_ADDRESS_SIZE];
    uint8_t key[CHANNEL_KEY_SIZE];
    channel_handshake_call(&a, &alice, CLUSTER, bob.public_key);
    channel_handshake_listen(&b, &bob, CLUSTER);
    ck_assert_int_eq(channel_hello_write(&a, 1, 2, hello), 0);
    if (flipped == hello) {
        hello[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    int r = hello_read(&caller, &called, key);
    if (r < 0) {
        return r;
    }
    ck_assert_int_eq(channel_answer_write(&b, 2, answer), 0);
    if (flipped == answer) {
        answer[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    r = channel_answer_read(&a, answer, &called);
    if (r < 0) {
        return r;
    }
    channel_confirm_write(&sending, &a, 1, "10.0.0.1:7", confirm);
    if (flipped == confirm) {
        confirm[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    r = channel_confirm_read(&receiving, &b, confirm, &caller, address);
    if (r < 0) {
        return r;
    }
    ck_assert_uint_eq(caller, 1);
    ck_assert_uint_eq(called, 2);
    ck_assert_mem_eq(key, alice.public_key, CHANNEL_KEY_SIZE);
    ck_assert_str_eq(address, "10.0.0.1:7");
    return 0;
}

START_TEST(two_who_know_each_other_get_a_stream)
{
    ck_assert_int_eq(shake(NULL, 0), 0);
    ck_assert_mem_eq(a.hash, b.hash, 32);

    static uint8_t frame[CHANNEL_PREFIX_SIZE + CHANNEL_FRAME_MAX];
    static uint8_t plain[CHANNEL_PLAIN_MAX];
    static uint8_t opened[CHANNEL_PLAIN_MAX];
    const size_t sizes[] = {1, 17, 4096, CHANNEL_PLAIN_MAX};
    for (unsigned i = 0; i < 4; i++) {
        size_t length = 0;
        size_t size = 0;
        randombytes_buf(plain, sizes[i]);
        size_t total = channel_frame_seal(&sending, plain, sizes[i], frame);
        ck_assert_int_eq(channel_frame_length(frame, &length), 0);
        ck_assert_uint_eq(total, CHANNEL_PREFIX_SIZE + length);
        ck_assert_int_eq(channel_frame_open(&receiving, frame, length, opened, &size), 0);
        ck_assert_uint_eq(size, sizes[i]);
        ck_assert_mem_eq(opened, plain, size);
    }
}
END_TEST

START_TEST(any_flipped_bit_in_the_handshake_ends_it)
{
    for (size_t bit = 0; bit < sizeof(hello) * 8; bit++) {
        /* X25519 ignores the highest bit of a public key, but the transcript does not. */
        ck_assert_int_lt(shake(hello, bit), 0);
    }
    for (size_t bit = 0; bit < sizeof(answer) * 8; bit++) {
        ck_assert_int_lt(shake(answer, bit), 0);
    }
    for (size_t bit = 0; bit < sizeof(confirm) * 8; bit++) {
        ck_assert_int_lt(shake(confirm, bit), 0);
    }
}
END_TEST

START_TEST(a_caller_who_expects_another_key_is_not_understood)
{
    uint8_t key[CHANNEL_KEY_SIZE];
    channel_handshake_call(&a, &alice, CLUSTER, mallory.public_key);
    channel_handshake_listen(&b, &bob, CLUSTER);
    ck_assert_int_eq(channel_hello_write(&a, 1, 2, hello), 0);
    ck_assert_int_eq(channel_hello_open(&b, hello, key), BERTH_EAUTH);
}
END_TEST

START_TEST(a_caller_from_another_cluster_is_not_understood)
{
    uint8_t key[CHANNEL_KEY_SIZE];
    channel_handshake_call(&a, &alice, CLUSTER + 1, bob.public_key);
    channel_handshake_listen(&b, &bob, CLUSTER);
    ck_assert_int_eq(channel_hello_write(&a, 1, 2, hello), 0);
    ck_assert_int_eq(channel_hello_open(&b, hello, key), BERTH_EAUTH);
}
END_TEST

START_TEST(a_public_key_alone_does_not_make_its_owner)
{
    uint64_t caller = 0;
    uint64_t called = 0;
    uint8_t key[CHANNEL_KEY_SIZE];
    struct channel_identity pretender = mallory;
    memcpy(pretender.public_key, alice.public_key, CHANNEL_KEY_SIZE);
    channel_handshake_call(&a, &pretender, CLUSTER, bob.public_key);
    channel_handshake_listen(&b, &bob, CLUSTER);
    ck_assert_int_eq(channel_hello_write(&a, 1, 2, hello), 0);

    ck_assert_int_eq(channel_hello_open(&b, hello, key), 0);
    ck_assert_mem_eq(key, alice.public_key, CHANNEL_KEY_SIZE);
    ck_assert_int_eq(channel_hello_finish(&b, hello, &caller, &called), BERTH_EAUTH);
}
END_TEST

START_TEST(who_answers_in_anothers_place_is_not_believed)
{
    uint64_t called = 0;
    uint8_t key[CHANNEL_KEY_SIZE];
    struct channel_identity pretender = mallory;
    memcpy(pretender.public_key, bob.public_key, CHANNEL_KEY_SIZE);
    channel_handshake_call(&a, &alice, CLUSTER, bob.public_key);
    channel_handshake_listen(&b, &pretender, CLUSTER);
    ck_assert_int_eq(channel_hello_write(&a, 1, 2, hello), 0);
    ck_assert_int_eq(channel_hello_open(&b, hello, key), BERTH_EAUTH);
    ck_assert_int_eq(channel_answer_write(&b, 2, answer), BERTH_EAUTH); /* knows no key */
    randombytes_buf(answer, sizeof(answer));
    ck_assert_int_eq(channel_answer_read(&a, answer, &called), BERTH_EAUTH);
}
END_TEST

START_TEST(a_replayed_hello_gets_no_further_than_the_confirmation)
{
    uint64_t caller = 0;
    uint64_t called = 0;
    uint8_t key[CHANNEL_KEY_SIZE];
    char address[CHANNEL_ADDRESS_SIZE];
    ck_assert_int_eq(shake(NULL, 0), 0);

    channel_handshake_listen(&b, &bob, CLUSTER);
    ck_assert_int_eq(hello_read(&caller, &called, key), 0);
    ck_assert_int_eq(channel_answer_write(&b, 2, answer), 0);
    ck_assert_int_eq(channel_confirm_read(&receiving, &b, confirm, &caller, address),
                     BERTH_EAUTH);
}
END_TEST

START_TEST(a_key_of_low_order_is_refused)
{
    static const uint8_t zero[CHANNEL_KEY_SIZE];
    channel_handshake_call(&a, &alice, CLUSTER, zero);
    ck_assert_int_eq(channel_hello_write(&a, 1, 2, hello), BERTH_EAUTH);
}
END_TEST

START_TEST(frames_that_are_repeated_swapped_or_altered_are_refused)
{
    uint8_t first[128];
    uint8_t second[128];
    uint8_t plain[128];
    size_t length = 0;
    size_t size = 0;
    ck_assert_int_eq(shake(NULL, 0), 0);
    (void)channel_frame_seal(&sending, (const uint8_t *)"first", 5, first);
    (void)channel_frame_seal(&sending, (const uint8_t *)"other", 5, second);
    ck_assert_int_eq(channel_frame_length(first, &length), 0);
    struct channel_stream fresh = receiving;

    ck_assert_int_eq(channel_frame_open(&receiving, second, length, plain, &size),
                     BERTH_EAUTH);
    receiving = fresh;
    ck_assert_int_eq(channel_frame_open(&receiving, first, length, plain, &size), 0);
    ck_assert_int_eq(channel_frame_open(&receiving, first, length, plain, &size),
                     BERTH_EAUTH);
    for (size_t bit = 0; bit < (CHANNEL_PREFIX_SIZE + length) * 8; bit++) {
        receiving = fresh;
        first[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_int_eq(channel_frame_open(&receiving, first, length, plain, &size),
                         BERTH_EAUTH);
        first[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}
END_TEST

START_TEST(a_length_that_no_frame_has_is_refused)
{
    size_t length = 0;
    const uint32_t bad[] = {0, CHANNEL_SEAL_SIZE, CHANNEL_FRAME_MAX + 1, UINT32_MAX};
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(channel_frame_length((const uint8_t *)&bad[i], &length),
                         BERTH_EPROTO);
    }
    const uint32_t good = CHANNEL_SEAL_SIZE + 1;
    ck_assert_int_eq(channel_frame_length((const uint8_t *)&good, &length), 0);
}
END_TEST

START_TEST(the_stream_goes_on_over_a_change_of_its_key)
{
    uint8_t frame[64];
    uint8_t plain[64];
    size_t size = 0;
    size_t length = 0;
    ck_assert_int_eq(shake(NULL, 0), 0);
    for (unsigned i = 0; i < CHANNEL_REKEY_FRAMES + 10; i++) {
        (void)channel_frame_seal(&sending, (const uint8_t *)&i, sizeof(i), frame);
        ck_assert_int_eq(channel_frame_length(frame, &length), 0);
        ck_assert_int_eq(channel_frame_open(&receiving, frame, length, plain, &size), 0);
    }
    ck_assert_uint_lt(sending.frames, CHANNEL_REKEY_FRAMES);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("channel_crypto");
    TCase *tcase = tcase_create("channel_crypto");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, two_who_know_each_other_get_a_stream);
    tcase_add_test(tcase, any_flipped_bit_in_the_handshake_ends_it);
    tcase_add_test(tcase, a_caller_who_expects_another_key_is_not_understood);
    tcase_add_test(tcase, a_caller_from_another_cluster_is_not_understood);
    tcase_add_test(tcase, a_public_key_alone_does_not_make_its_owner);
    tcase_add_test(tcase, who_answers_in_anothers_place_is_not_believed);
    tcase_add_test(tcase, a_replayed_hello_gets_no_further_than_the_confirmation);
    tcase_add_test(tcase, a_key_of_low_order_is_refused);
    tcase_add_test(tcase, frames_that_are_repeated_swapped_or_altered_are_refused);
    tcase_add_test(tcase, a_length_that_no_frame_has_is_refused);
    tcase_add_test(tcase, the_stream_goes_on_over_a_change_of_its_key);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
