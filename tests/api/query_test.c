/* Goal: a query says what its sender wrote, and whatever cannot be read is refused. */
#include "api/query.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

static struct query parsed(const char *text)
{
    struct query query;
    struct err err = {0};
    ck_assert_msg(query_parse(text, &query, &err) == 0, "%s: %s", text, err.text);
    return query;
}

START_TEST(names_and_values_are_decoded)
{
    struct query query = parsed("tenant=shop&label=app%3Dweb&text=a+b%2Bc&%6eame=%C3%A4");

    ck_assert_uint_eq(query.count, 4);
    ck_assert_str_eq(query_get(&query, "tenant"), "shop");
    ck_assert_str_eq(query_get(&query, "label"), "app=web");
    ck_assert_str_eq(query_get(&query, "text"), "a b+c");
    ck_assert_str_eq(query_get(&query, "name"), "\xc3\xa4");
    ck_assert_ptr_null(query_get(&query, "Tenant"));
    query_fini(&query);
}
END_TEST

START_TEST(an_escaped_ampersand_does_not_begin_another_parameter)
{
    struct query query = parsed("a=1%26b=2&c=x=y");

    ck_assert_uint_eq(query.count, 2);
    ck_assert_str_eq(query_get(&query, "a"), "1&b=2");
    ck_assert_str_eq(query_get(&query, "c"), "x=y");
    ck_assert_ptr_null(query_get(&query, "b"));
    query_fini(&query);
}
END_TEST

START_TEST(empty_pieces_are_no_parameters)
{
    struct query nothing = parsed("");
    struct query query = parsed("&&a=1&&b&");

    ck_assert_uint_eq(nothing.count, 0);
    ck_assert_uint_eq(query.count, 2);
    ck_assert_str_eq(query_get(&query, "a"), "1");
    ck_assert_str_eq(query_get(&query, "b"), "");
    query_fini(&nothing);
    query_fini(&query);
}
END_TEST

START_TEST(the_first_of_two_values_counts)
{
    struct query query = parsed("a=1&a=2");

    ck_assert_str_eq(query_get(&query, "a"), "1");
    query_fini(&query);
}
END_TEST

static const char *const unreadable[] = {"a=%",   "a=%4",  "a=%zz",  "a=%4g",    "%=1",
                                         "a=%00", "%00=1", "a=%%41", "b=1&a=%-1"};

START_TEST(what_cannot_be_decoded_is_refused)
{
    struct query query;
    struct err err = {0};

    ck_assert_int_eq(query_parse(unreadable[_i], &query, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "%XX"));
    ck_assert_uint_eq(query.count, 0);
    ck_assert_ptr_null(query.text);
}
END_TEST

START_TEST(one_parameter_more_than_the_limit_is_refused)
{
    char text[8 * (QUERY_ITEMS_MAX + 1)] = "";
    struct query query;
    struct err err = {0};

    for (int i = 0; i < QUERY_ITEMS_MAX; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "n%d=1&", i);
    }
    query = parsed(text);
    ck_assert_uint_eq(query.count, QUERY_ITEMS_MAX);
    query_fini(&query);
    strcat(text, "more");
    ck_assert_int_eq(query_parse(text, &query, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 32"));
}
END_TEST

START_TEST(a_flag_is_set_by_its_name_true_or_1)
{
    struct query query = parsed("bare&empty=&yes=true&one=1&no=false&zero=0&other=TRUE");

    ck_assert(query_flag(&query, "bare"));
    ck_assert(query_flag(&query, "empty"));
    ck_assert(query_flag(&query, "yes"));
    ck_assert(query_flag(&query, "one"));
    ck_assert(!query_flag(&query, "no"));
    ck_assert(!query_flag(&query, "zero"));
    ck_assert(!query_flag(&query, "other"));
    ck_assert(!query_flag(&query, "absent"));
    query_fini(&query);
}
END_TEST

START_TEST(a_number_is_read_whole_or_refused_with_its_name)
{
    struct query query = parsed("big=18446744073709551615&bad=12x&minus=-1&none=");
    uint64_t value = 0;
    struct err err = {0};

    ck_assert_int_eq(query_u64(&query, "big", 7, &value, &err), 0);
    ck_assert_uint_eq(value, UINT64_MAX);
    ck_assert_int_eq(query_u64(&query, "absent", 7, &value, &err), 0);
    ck_assert_uint_eq(value, 7);
    ck_assert_int_eq(query_u64(&query, "bad", 7, &value, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "query: bad"));
    ck_assert_int_lt(query_u64(&query, "minus", 7, &value, &err), 0);
    ck_assert_int_lt(query_u64(&query, "none", 7, &value, &err), 0);
    query_fini(&query);
}
END_TEST

START_TEST(a_name_that_nobody_knows_is_refused)
{
    static const char known[] = "tenant label";
    struct query good = parsed("label=a&tenant=b");
    struct query typing_error = parsed("tenant=b&lable=a");
    struct err err = {0};

    ck_assert_int_eq(query_check(&good, known, &err), 0);
    ck_assert_int_eq(query_check(&typing_error, known, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "lable"));
    ck_assert_int_eq(query_check(&good, NULL, &err), BERTH_EINVALID);
    ck_assert_int_eq(query_check(&good, "tenant labels", &err), BERTH_EINVALID);
    ck_assert_int_eq(query_check(&good, "tenan label", &err), BERTH_EINVALID);
    query_fini(&good);
    query_fini(&typing_error);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("query");
    TCase *tests = tcase_create("query");
    tcase_add_test(tests, names_and_values_are_decoded);
    tcase_add_test(tests, an_escaped_ampersand_does_not_begin_another_parameter);
    tcase_add_test(tests, empty_pieces_are_no_parameters);
    tcase_add_test(tests, the_first_of_two_values_counts);
    tcase_add_loop_test(tests, what_cannot_be_decoded_is_refused, 0,
                        sizeof(unreadable) / sizeof(unreadable[0]));
    tcase_add_test(tests, one_parameter_more_than_the_limit_is_refused);
    tcase_add_test(tests, a_flag_is_set_by_its_name_true_or_1);
    tcase_add_test(tests, a_number_is_read_whole_or_refused_with_its_name);
    tcase_add_test(tests, a_name_that_nobody_knows_is_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
