/* Goal: documents come out as asked, and spans and instants read the same everywhere. */
#include "cli/output.h"
#include "cli_fixture.h"

#include <inttypes.h>
#include <time.h>

#define VM(name) "{'kind':'VM','metadata':{'name':'" name "','tenant':'shop'}}"

static const struct document {
    const char *line;
    const char *document;
    const char *text;
} documents[] = {
    {"ls -o json", "{'items':[],'revision':7}",
     "{\n  \"items\": [],\n  \"revision\": 7\n}\n"},
    {"ls -o yaml", "{'items':[{'a':'x: y'}],'revision':7}",
     "items:\n- a: 'x: y'\nrevision: 7\n"},
    {"ls -o json", "{'a':'\xc2\x9b 31m','b':'\xc2\xa0\xe2\x82\xac'}",
     "{\n  \"a\": \"\\u009b 31m\",\n  \"b\": \"\xc2\xa0\xe2\x82\xac\"\n}\n"},
    {"ls -o yaml", "{'a':'\xc2\x9b 31m'}", "a: \"\\x9B 31m\"\n"},
    {"ls -o name", "{'items':[" VM("a") "," VM("b") "]}", "shop/vm/a\nshop/vm/b\n"},
    {"ls -o name -t shop", "{'items':[" VM("a") "]}", "vm/a\n"},
    {"show vm/a -o name", VM("a"), "shop/vm/a\n"},
    {"ls -o name", "{'items':[]}", ""},
    {"ls -o name", "{'items':[{'kind':'Ship','metadata':{'name':'x'}}]}", "Ship/x\n"},
};

START_TEST(a_document_comes_out_in_the_format_asked_for)
{
    ck_assert_int_eq(cli_given(documents[_i].line), EXIT_OK);
    ck_assert(output_is_document(&cli));
    json_t *document = doc(documents[_i].document);
    ck_assert_int_eq(output_document(&cli, document), EXIT_OK);
    ck_assert_str_eq(cli_out(), documents[_i].text);
    json_decref(document);
}
END_TEST

static const struct span {
    uint64_t ms;
    const char *text;
} spans[] = {
    {0, "0 ms"},
    {999, "999 ms"},
    {1000, "1.0 s"},
    {2149, "2.1 s"},
    {9999, "9.9 s"},
    {10000, "10 s"},
    {119999, "119 s"},
    {120000, "2 min"},
    {7199999, "119 min"},
    {7200000, "2 h"},
    {172799999, "47 h"},
    {172800000, "2 d"},
    {UINT64_MAX, "213503982334 d"},
};

START_TEST(a_span_is_short)
{
    char text[SPAN_TEXT_SIZE];
    span_format(spans[_i].ms, text);
    ck_assert_str_eq(text, spans[_i].text);
}
END_TEST

static const struct instant {
    const char *text;
    uint64_t ms;
} instants[] = {
    {"1970-01-01T00:00:01.250Z", 1250},
    {"1970-01-01T00:00:01Z", 1000},
    {"2026-11-23T09:15:04.123Z", UINT64_C(1795425304123)},
    {"2026-11-23T09:15:04.1Z", UINT64_C(1795425304100)},
    {"2026-11-23T09:15:04.123456Z", UINT64_C(1795425304123)},
    {"2026-11-23T09:15:04", 0},       /* of which zone? */
    {"2026-11-23T09:15:04+01:00", 0}, /* the API says Z */
    {"2026-11-23", 0},
    {"1969-12-31T23:59:59Z", 0},
    {"", 0},
    {"now", 0},
    {NULL, 0},
};

START_TEST(an_instant_is_read_or_is_none)
{
    ck_assert_msg(instant_parse(instants[_i].text) == instants[_i].ms, "%s: %" PRIu64,
                  instants[_i].text, instant_parse(instants[_i].text));
}
END_TEST

START_TEST(an_instant_is_shown_in_local_time)
{
    char text[INSTANT_TEXT_SIZE];
    (void)setenv("TZ", "CET-1", 1);
    tzset();
    instant_format_local(UINT64_C(1795425304123), text);
    ck_assert_str_eq(text, "2026-11-23 10:15:04.123");
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("output", &tests);
    tcase_add_loop_test(tests, a_document_comes_out_in_the_format_asked_for, 0,
                        sizeof(documents) / sizeof(documents[0]));
    tcase_add_loop_test(tests, a_span_is_short, 0, sizeof(spans) / sizeof(spans[0]));
    tcase_add_loop_test(tests, an_instant_is_read_or_is_none, 0,
                        sizeof(instants) / sizeof(instants[0]));
    tcase_add_test(tests, an_instant_is_shown_in_local_time);
    return test_main_run(suite);
}
