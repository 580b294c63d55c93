#include "base/cleanup.h"
#include "base/err.h"
#include "support/test_main.h"

#include <errno.h>
#include <string.h>

START_TEST(a_fault_is_filled_and_returned_in_one_line)
{
    struct err err = {0};

    int r = err_set(&err, BERTH_EINVALID, "memory: %s is too small", "4KiB");

    ck_assert_int_eq(r, BERTH_EINVALID);
    ck_assert_int_eq(err.code, BERTH_EINVALID);
    ck_assert_str_eq(err.text, "memory: 4KiB is too small");
}
END_TEST

START_TEST(a_caller_without_an_err_gets_the_code_alone)
{
    ck_assert_int_eq(err_set(NULL, BERTH_EBUSY, "x"), BERTH_EBUSY);
    ck_assert_int_eq(err_sys(NULL, -ENOENT, "x"), -ENOENT);
    ck_assert_int_eq(err_wrap(NULL, BERTH_EFULL, "x"), BERTH_EFULL);
}
END_TEST

START_TEST(a_system_fault_carries_the_system_s_words)
{
    struct err err = {0};

    int r = err_sys(&err, -ENOENT, "open %s", "/x");

    ck_assert_int_eq(r, -ENOENT);
    ck_assert_str_eq(err.text, "open /x: No such file or directory");
    (void)err_sys(&err, BERTH_ETIMEOUT, "join");
    ck_assert_str_eq(err.text, "join: timed out");
}
END_TEST

START_TEST(wrapping_grows_the_text_upwards_and_keeps_the_code)
{
    struct err err = {0};
    (void)err_sys(&err, -ENOENT, "attach disk root");

    int r = err_wrap(&err, BERTH_EBUG, "start vm %s", "web-3");

    ck_assert_int_eq(r, -ENOENT);
    ck_assert_str_eq(err.text,
                     "start vm web-3: attach disk root: No such file or directory");
}
END_TEST

START_TEST(wrapping_a_bare_code_says_its_sentence)
{
    struct err err = {0};

    int r = err_wrap(&err, BERTH_ENOTFOUND, "vm web-3");

    ck_assert_int_eq(r, BERTH_ENOTFOUND);
    ck_assert_str_eq(err.text, "vm web-3: not found");
}
END_TEST

START_TEST(an_err_may_be_filled_from_its_own_text)
{
    struct err err = {0};
    (void)err_set(&err, BERTH_EFULL, "inner");

    (void)err_set(&err, BERTH_EBUSY, "outer (%s)", err.text);

    ck_assert_str_eq(err.text, "outer (inner)");
}
END_TEST

/* Characters of one to four bytes, each repeated until the text overflows. */
static const char *const characters[] = {"a", "\xc3\xa9", "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80"};

START_TEST(a_long_text_is_cut_between_characters)
{
    char text[2 * ERR_TEXT_SIZE + 8] = "";
    size_t size = strlen(characters[_i]);
    for (size_t i = 0; i * size < 2 * ERR_TEXT_SIZE; i++) {
        memcpy(text + i * size, characters[_i], size + 1);
    }
    struct err err = {0};

    (void)err_set(&err, BERTH_EINVALID, "%s", text);
    size_t set_length = strlen(err.text);
    (void)err_wrap(&err, BERTH_EINVALID, "ab");
    size_t wrapped_length = strlen(err.text);

    ck_assert_uint_eq(set_length, (ERR_TEXT_SIZE - 1) / size * size);
    ck_assert_uint_eq((wrapped_length - 4) % size, 0);
    ck_assert_uint_gt(wrapped_length, ERR_TEXT_SIZE - 1 - size);
}
END_TEST

static const int all_codes[] = {
#define CODE(code, number, class, sentence) code,
    BERTH_ERRORS(CODE)
#undef CODE
        - ENOENT,
    -EIO,
    -ENOSPC,
    -EAGAIN,
    -EINVAL,
};

START_TEST(every_code_has_a_name_that_leads_back_to_it)
{
    int code = all_codes[_i];
    ck_assert_int_lt(code, 0);
    ck_assert_int_eq(err_code(err_name(code)), code);
    ck_assert_uint_gt(strlen(err_sentence(code)), 3);
}
END_TEST

START_TEST(no_code_is_given_twice)
{
    for (size_t i = 0; i < ARRAY_COUNT(all_codes); i++) {
        for (size_t j = i + 1; j < ARRAY_COUNT(all_codes); j++) {
            ck_assert_int_ne(all_codes[i], all_codes[j]);
        }
    }
}
END_TEST

START_TEST(names_of_success_and_of_the_unknown_exist)
{
    ck_assert_str_eq(err_name(0), "OK");
    ck_assert_str_eq(err_name(-ENOENT), "ENOENT");
    ck_assert_str_eq(err_name(BERTH_ENOTLEADER), "BERTH_ENOTLEADER");
    ck_assert_ptr_nonnull(err_name(-987654));
    ck_assert_ptr_nonnull(err_sentence(-987654));
    ck_assert_ptr_nonnull(err_sentence(12));
    ck_assert_int_eq(err_code("OK"), 0);
    ck_assert_int_eq(err_code("BERTH_ENONSENSE"), 0);
    ck_assert_int_eq(err_code(""), 0);
}
END_TEST

START_TEST(the_class_says_whose_move_is_next)
{
    ck_assert_int_eq(err_class(BERTH_ENOTLEADER), ERR_CLASS_RETRY);
    ck_assert_int_eq(err_class(BERTH_EQUOTA), ERR_CLASS_USER);
    ck_assert_int_eq(err_class(BERTH_EDISKFULL), ERR_CLASS_ENVIRONMENT);
    ck_assert_int_eq(err_class(BERTH_EBUG), ERR_CLASS_BUG);
    ck_assert_int_eq(err_class(-ENOSPC), ERR_CLASS_ENVIRONMENT);
    ck_assert_int_eq(err_class(-EIO), ERR_CLASS_ENVIRONMENT);
    ck_assert_int_eq(err_class(-ENOMEM), ERR_CLASS_ENVIRONMENT);
    ck_assert_int_eq(err_class(-EAGAIN), ERR_CLASS_RETRY);
    ck_assert_int_eq(err_class(-ETIMEDOUT), ERR_CLASS_RETRY);
    ck_assert_int_eq(err_class(-987654), ERR_CLASS_BUG);
    ck_assert_int_eq(err_class(-200), ERR_CLASS_BUG);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("err");
    TCase *tcase = tcase_create("err");
    tcase_add_test(tcase, a_fault_is_filled_and_returned_in_one_line);
    tcase_add_test(tcase, a_caller_without_an_err_gets_the_code_alone);
    tcase_add_test(tcase, a_system_fault_carries_the_system_s_words);
    tcase_add_test(tcase, wrapping_grows_the_text_upwards_and_keeps_the_code);
    tcase_add_test(tcase, wrapping_a_bare_code_says_its_sentence);
    tcase_add_test(tcase, an_err_may_be_filled_from_its_own_text);
    tcase_add_loop_test(tcase, a_long_text_is_cut_between_characters, 0,
                        ARRAY_COUNT(characters));
    tcase_add_loop_test(tcase, every_code_has_a_name_that_leads_back_to_it, 0,
                        ARRAY_COUNT(all_codes));
    tcase_add_test(tcase, no_code_is_given_twice);
    tcase_add_test(tcase, names_of_success_and_of_the_unknown_exist);
    tcase_add_test(tcase, the_class_says_whose_move_is_next);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
