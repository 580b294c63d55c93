#include "base/cleanup.h"
#include "base/json.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

static json_t *parsed(const char *text)
{
    json_t *document = NULL;
    struct err err = {0};
    ck_assert_msg(json_parse(text, strlen(text), &document, &err) == 0, "%s", err.text);
    return document;
}

START_TEST(a_document_prints_as_it_was_read)
{
    json_t *document = parsed("{\"z\": 1, \"a\": [true, null, \"\xc3\xa9\"]}");
    CLEANUP_FREE char *text = json_text(document);
    CLEANUP_FREE char *pretty = json_text_pretty(document);
    json_decref(document);
    ck_assert_str_eq(text, "{\"z\":1,\"a\":[true,null,\"\xc3\xa9\"]}");
    ck_assert_ptr_nonnull(strstr(pretty, "{\n  \"z\": 1,\n"));
}
END_TEST

/* The two ways of writing agree. */
START_TEST(texts_and_numbers_are_written_as_jansson_does)
{
    char all[128];
    for (unsigned i = 0; i < sizeof(all); i++) {
        all[i] = (char)(i % 127 + 1);
    }
    json_t *document =
        json_pack("{s:[s%,s%,s], s:[I,I,I,i], s:{}, s:[], s:f, s:b, s:n}", "text\n", all,
                  sizeof(all), "a\0b", (size_t)3, "", "numbers", (json_int_t)INT64_MIN,
                  (json_int_t)INT64_MAX, (json_int_t)-10, 0, "none", "empty", "real", 0.1,
                  "no", 0, "null");
    ck_assert_ptr_nonnull(document);
    CLEANUP_FREE char *text = json_text(document);
    CLEANUP_FREE char *theirs = json_dumps(document, JSON_COMPACT);
    json_decref(document);
    ck_assert_ptr_nonnull(theirs);
    ck_assert_str_eq(text, theirs);
    ck_assert_ptr_nonnull(
        strstr(text, "[-9223372036854775808,9223372036854775807,-10,0]"));
}
END_TEST

struct bad_row {
    const char *text;
    const char *told;
};

static const struct bad_row bad_rows[] = {
    {"", "line 1, column 0"},
    {"{\"a\": 1,\n \"a\": 2}", "line 2"},
    {"{\"a\": 1} x", "column 10"},
    {"{\"a\": }", "line 1, column 7"},
    {"[\"\xff\"]", "decode byte 0xff"},
    {"[18446744073709551616]", "too big"},
    {"nonsense", "line 1"},
};

START_TEST(bad_documents_are_refused_with_their_place)
{
    json_t *document = NULL;
    struct err err = {0};
    const char *text = bad_rows[_i].text;
    ck_assert_int_eq(json_parse(text, strlen(text), &document, &err), BERTH_EINVALID);
    ck_assert_msg(strstr(err.text, bad_rows[_i].told) != NULL, "%s", err.text);
    ck_assert_ptr_null(document);
}
END_TEST

START_TEST(an_error_does_not_carry_control_characters)
{
    json_t *document = NULL;
    struct err err = {0};
    const char *text = "[\"\x1b[31m\x07 red\"]";
    ck_assert_int_eq(json_parse(text, strlen(text), &document, &err), BERTH_EINVALID);
    ck_assert_ptr_null(strchr(err.text, '\x1b'));
    ck_assert_ptr_null(strchr(err.text, '\x07'));
    text = "[\x1b]";
    ck_assert_int_eq(json_parse(text, strlen(text), &document, &err), BERTH_EINVALID);
    ck_assert_ptr_null(strchr(err.text, '\x1b'));
}
END_TEST

START_TEST(the_size_given_is_what_is_read)
{
    json_t *document = NULL;
    ck_assert_int_eq(json_parse("[1]garbage", 3, &document, NULL), 0);
    json_decref(document);
}
END_TEST

START_TEST(too_much_text_and_too_much_depth_are_refused)
{
    json_t *document = NULL;
    CLEANUP_FREE char *text = malloc(JSON_SIZE_MAX + 1);
    memset(text, '[', JSON_SIZE_MAX + 1);
    ck_assert_int_eq(json_parse(text, JSON_SIZE_MAX + 1, &document, NULL),
                     BERTH_ETOOLARGE);
    ck_assert_int_eq(json_parse(text, JSON_SIZE_MAX, &document, NULL), BERTH_EINVALID);
}
END_TEST

START_TEST(members_are_read_with_a_fallback)
{
    json_t *document =
        parsed("{\"name\": \"web\", \"cpu\": 1500, \"minus\": -1, \"real\": 1.5}");
    ck_assert_str_eq(json_member_text(document, "name", "x"), "web");
    ck_assert_str_eq(json_member_text(document, "cpu", "x"), "x");
    ck_assert_ptr_null(json_member_text(document, "missing", NULL));
    ck_assert_uint_eq(json_member_u64(document, "cpu", 7), 1500);
    ck_assert_uint_eq(json_member_u64(document, "minus", 7), 7);
    ck_assert_uint_eq(json_member_u64(document, "real", 7), 7);
    ck_assert_uint_eq(json_member_u64(document, "name", 7), 7);
    ck_assert_uint_eq(json_member_u64(NULL, "name", 7), 7);
    json_decref(document);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json");
    TCase *tcase = tcase_create("json");
    tcase_add_test(tcase, a_document_prints_as_it_was_read);
    tcase_add_test(tcase, texts_and_numbers_are_written_as_jansson_does);
    tcase_add_loop_test(tcase, bad_documents_are_refused_with_their_place, 0,
                        ARRAY_COUNT(bad_rows));
    tcase_add_test(tcase, an_error_does_not_carry_control_characters);
    tcase_add_test(tcase, the_size_given_is_what_is_read);
    tcase_add_test(tcase, too_much_text_and_too_much_depth_are_refused);
    tcase_add_test(tcase, members_are_read_with_a_fallback);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
