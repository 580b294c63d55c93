/* Goal: a token that was copied whole is read back; one that was not is refused in words.
 */
#include "model/join_token.h"
#include "support/test_main.h"

#include <string.h>

static struct join_token sample(void)
{
    struct join_token token = {.address = 0x0a630001, .port = 7441};
    memset(token.key.bytes, 0x5a, sizeof(token.key.bytes));
    memset(token.secret, 0xc3, sizeof(token.secret));
    return token;
}

START_TEST(a_token_is_read_back_as_it_was)
{
    struct join_token token = sample();
    struct join_token back;
    struct err err;
    char text[JOIN_TOKEN_TEXT_SIZE];

    join_token_format(&token, text);

    ck_assert_int_eq(strncmp(text, "berth-join-", 11), 0);
    ck_assert_int_eq(join_token_parse(text, &back, &err), 0);
    ck_assert_uint_eq(back.address, token.address);
    ck_assert_uint_eq(back.port, token.port);
    ck_assert_mem_eq(back.key.bytes, token.key.bytes, sizeof(token.key.bytes));
    ck_assert_mem_eq(back.secret, token.secret, sizeof(token.secret));
}
END_TEST

START_TEST(every_cut_of_a_token_is_refused)
{
    struct join_token token = sample();
    struct join_token back;
    char text[JOIN_TOKEN_TEXT_SIZE];
    join_token_format(&token, text);
    size_t size = strlen(text);

    for (size_t length = 0; length < size; length++) {
        struct err err = {0};
        char cut[JOIN_TOKEN_TEXT_SIZE];
        memcpy(cut, text, length);
        cut[length] = '\0';
        ck_assert_int_eq(join_token_parse(cut, &back, &err), BERTH_EINVALID);
        ck_assert_ptr_nonnull(strstr(err.text, "token"));
    }
}
END_TEST

START_TEST(a_longer_text_is_refused)
{
    struct join_token token = sample();
    struct join_token back;
    struct err err;
    char text[JOIN_TOKEN_TEXT_SIZE + 8];
    join_token_format(&token, text);
    strcat(text, "AAAA");

    ck_assert_int_eq(join_token_parse(text, &back, &err), BERTH_EINVALID);
}
END_TEST

START_TEST(what_is_no_token_is_refused)
{
    static const char *const texts[] = {"", "hello", "berth-join-", "berth-join-!!!!",
                                        "BERTH-JOIN-AAAA"};
    struct join_token back;
    struct err err;

    ck_assert_int_eq(join_token_parse(texts[_i], &back, &err), BERTH_EINVALID);
}
END_TEST

START_TEST(the_stored_hash_is_not_the_secret_and_differs_by_secret)
{
    uint8_t one[JOIN_SECRET_SIZE] = {1};
    uint8_t two[JOIN_SECRET_SIZE] = {2};
    struct digest a = join_secret_hash(one);
    struct digest b = join_secret_hash(two);

    ck_assert(!digest_equal(&a, &b));
    ck_assert_mem_ne(a.bytes, one, sizeof(one));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("join_token");
    TCase *tests = tcase_create("join_token");
    tcase_add_test(tests, a_token_is_read_back_as_it_was);
    tcase_add_test(tests, every_cut_of_a_token_is_refused);
    tcase_add_test(tests, a_longer_text_is_refused);
    tcase_add_loop_test(tests, what_is_no_token_is_refused, 0, 5);
    tcase_add_test(tests, the_stored_hash_is_not_the_secret_and_differs_by_secret);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
