/* Goal: a token is alone on stdout, works at once, and is never shown again. */
#include "berth_fixture.h"

START_TEST(a_secret_is_alone_on_stdout_and_listed_without_it)
{
    assert_ran("token create ci --role operator --ttl 1h -t default", 0);
    assert_like(ran.out, "berth-????????????????????????????????*\n");
    ck_assert_ptr_eq(strchr(ran.out, '\n') + 1, ran.out + strlen(ran.out));
    ck_assert_str_eq(ran.err, "");
    char secret[128];
    snprintf(secret, sizeof(secret), "%.*s", (int)strcspn(ran.out, "\n"), ran.out);
    assert_ran("token ls", 0);
    assert_like(ran.out,
                "NAME *ROLE *TENANT *EXPIRES *AGE\n*ci *operator *default *20*\n*");
    ck_assert_ptr_null(strstr(ran.out, secret));
    assert_ran("token ls -o json", 0);
    ck_assert_ptr_null(strstr(ran.out, secret));
    assert_ran("token create ci", 4);
    assert_ran("rm token/ci", 0);
}
END_TEST

START_TEST(a_join_token_is_one_word)
{
    assert_ran("token join", 0);
    assert_like(ran.out, "berth-join-*\n");
    assert_ran("token join --ttl 25h", 2);
    assert_ran("token create CI", 2);
    assert_ran("token create ci --role king", 2);
    ck_assert_contains(ran.err, "--role: \"king\": wanted viewer, operator or admin");
    served_end(0);
    assert_ran("token create ci --role king", 2); /* no server is needed to tell */
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("run_token", &tests);
    tcase_add_test(tests, a_secret_is_alone_on_stdout_and_listed_without_it);
    tcase_add_test(tests, a_join_token_is_one_word);
    return test_main_run(suite);
}
