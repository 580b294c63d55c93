/* Goal: a view takes what jansson takes, holds what its tree holds, and refuses the rest
 * in its words.
 * Method: a table of what is hard, and documents with bytes changed at random, each read
 * by both. */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/json_view.h"
#include "base/random.h"
#include "json_same.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <errno.h>
#include <stdlib.h>

#define CHANGES 60000

/* True when both took it. */
static bool check(const char *text, size_t size)
{
    struct json_view *view = NULL;
    json_t *tree = NULL;
    struct err err = {0};
    struct err told = {0};
    int r = json_view_parse(text, size, &view, &err);
    int wanted = json_parse(text, size, &tree, &told);
    if (wanted == 0 && memchr(text, '\0', size) != NULL) { /* it steps over some */
        wanted = err_set(&told, BERTH_EINVALID, "a NUL is in the document");
    }
    ck_assert_msg(r == wanted, "%d, not %d (%s): %.*s", r, wanted, told.text, (int)size,
                  text);
    ck_assert_str_eq(err.text, told.text);
    ck_assert_msg(r < 0 || json_same(json_view_root(view), tree), "%.*s", (int)size,
                  text);
    json_view_free(view);
    json_decref(tree);
    return r == 0;
}

static const struct row {
    const char *text;
    bool taken;
} rows[] = {
    {"{}", true},
    {"[]", true},
    {" \t\r\n{ \"a\" : [ 1 , -2.5e-3 , true , false , null , \"x\" ] , \"b\" : { } } ",
     true},
    {"[[[]],[{\"\":{}}],0,-0,1E2,0.0]", true},
    {"[9223372036854775807,-9223372036854775808]", true},
    {"[9223372036854775808]", false},
    {"[-9223372036854775809]", false},
    {"[1e308,1e-999,-0.0]", true},
    {"[1e309]", false},
    {"[01]", false},
    {"[-]", false},
    {"[1.]", false},
    {"[.5]", false},
    {"[1e]", false},
    {"[1e+]", false},
    {"[+1]", false},
    {"[0x1]", false},
    {"[1,]", false},
    {"[,1]", false},
    {"[1 2]", false},
    {"[1", false},
    {"[1}", false},
    {"{\"a\":1,}", false},
    {"{\"a\" 1}", false},
    {"{\"a\":}", false},
    {"{a:1}", false},
    {"{1:1}", false},
    {"{\"a\":1]", false},
    {"{} {}", false},
    {"{}x", false},
    {"", false},
    {"  ", false},
    {"1", false},
    {"\"a\"", false},
    {"null", false},
    {"[nul]", false},
    {"[nulla]", false},
    {"[true1]", false},
    {"[True]", false},
    {"[NaN]", false},
    {"[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4\\u20AC\\ud83d\\ude00 \xc3\xa4\"]",
     true},
    {"[\"\\u0000\"]", false},
    {"{\"\\u0000\":1}", false},
    {"[\"\\ud83d\"]", false},
    {"[\"\\ud83d\\u0041\"]", false},
    {"[\"\\ude00\"]", false},
    {"[\"\\u12g4\"]", false},
    {"[\"\\u12", false},
    {"[\"\\x\"]", false},
    {"[\"\\", false},
    {"[\"a", false},
    {"[\"\n\"]", false},
    {"[\"\x7f\"]", true},
    {"[\"\xff\"]", false},
    {"[\"\xc3\"]", false},
    {"[\"\xc0\xaf\"]", false},
    {"[\"\xed\xa0\x80\"]", false},
    {"[\xc3\xa4]", false},
    {"{\"a\":1,\"b\":2,\"a\":3}", false},
    {"{\"a\":1,\"\\u0061\":2}", false},
    {"{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}", true},
    {"{\"x\":{\"a\":1,\"a\":2}}", false},
};

START_TEST(it_takes_what_jansson_takes)
{
    const struct row *row = &rows[_i];
    ck_assert_msg(check(row->text, strlen(row->text)) == row->taken, "%s", row->text);
}
END_TEST

START_TEST(a_nul_in_the_text_is_no_end)
{
    ck_assert(!check("{}\0", 3));
    ck_assert(!check("[\"a\0b\"]", 7));
    ck_assert(!check("[1\0]", 4));
    ck_assert(!check("\0", 1));
}
END_TEST

/* Up to the key that comes twice, however many there are. */
START_TEST(many_keys_are_compared_too)
{
    for (unsigned count = 2; count < 60; count++) {
        char text[1024] = "{";
        size_t size = 1;
        for (unsigned i = 0; i < count; i++) {
            size += (size_t)snprintf(text + size, sizeof(text) - size, "%s\"k%u\":%u",
                                     i > 0 ? "," : "", i * 7 % 61, i);
        }
        ck_assert(check(text, (size_t)snprintf(text + size, 8, "}") + size));
        size += (size_t)snprintf(text + size, sizeof(text) - size, ",\"k%u\":0}",
                                 (count - 1) * 7 % 61);
        ck_assert(!check(text, size));
    }
}
END_TEST

static bool nested(size_t depth, const char *inner)
{
    size_t inner_size = strlen(inner);
    CLEANUP_FREE char *text = malloc(2 * depth + inner_size);
    memset(text, '[', depth);
    memcpy(text + depth, inner, inner_size);
    memset(text + depth + inner_size, ']', depth);
    return check(text, 2 * depth + inner_size);
}

START_TEST(depth_is_bounded_as_jansson_does)
{
    ck_assert(nested(2047, "1"));
    ck_assert(nested(2048, ""));
    ck_assert(!nested(2048, "1"));
    ck_assert(!nested(2049, ""));
}
END_TEST

START_TEST(a_document_that_is_too_large_is_refused)
{
    CLEANUP_FREE char *text = malloc(JSON_SIZE_MAX + 1);
    memset(text, ' ', JSON_SIZE_MAX + 1);
    memcpy(text, "[]", 2);
    ck_assert(check(text, JSON_SIZE_MAX));
    ck_assert(!check(text, JSON_SIZE_MAX + 1));
}
END_TEST

START_TEST(changed_documents_are_taken_by_both_or_none)
{
    static const char signs[] = "{}[]\",:\\u0123456789abcdefDtrn.-+eE \n\x80\xc3\xff\x01";
    struct random random;
    unsigned taken = 0;
    random_seed(&random, 7);
    for (unsigned n = 0; n < CHANGES; n++) {
        char text[256];
        const char *from =
            rows[random_below(&random, sizeof(rows) / sizeof(rows[0]))].text;
        size_t size = strlen(from);
        memcpy(text, from, size);
        for (uint64_t left = random_below(&random, 3); left > 0 && size > 0; left--) {
            size_t at = (size_t)random_below(&random, size);
            if (random_below(&random, 3) == 0) { /* one less */
                memmove(text + at, text + at + 1, size - at - 1);
                size--;
            } else {
                text[at] = signs[random_below(&random, sizeof(signs))];
            }
        }
        taken += check(text, size) ? 1 : 0;
    }
    ck_assert_uint_gt(taken, CHANGES / 20);
    ck_assert_uint_lt(taken, CHANGES - CHANGES / 20);
}
END_TEST

START_TEST(a_value_is_asked_for_by_name_and_type)
{
    static const char text[] = "{\"a\":\"x\",\"n\":3,\"r\":0.5,\"t\":true,\"l\":[1]}";
    struct json_view *view = NULL;
    ck_assert_int_eq(json_view_parse(text, strlen(text), &view, NULL), 0);
    const struct json_value *root = json_view_root(view);
    const struct json_value *list = json_value_member(root, "l");
    ck_assert_str_eq(json_value_member_text(root, "a", "y"), "x");
    ck_assert_str_eq(json_value_member_text(root, "n", "y"), "y");
    ck_assert_str_eq(json_value_member_text(root, "z", "y"), "y");
    ck_assert_str_eq(json_value_member_text(list, "z", "y"), "y");
    ck_assert_int_eq(json_value_integer(json_value_member(root, "n")), 3);
    ck_assert_int_eq(json_value_integer(json_value_member(root, "r")), 0);
    ck_assert(json_value_real(json_value_member(root, "n")) == 0);
    ck_assert(json_value_is_bool(json_value_member(root, "t")));
    ck_assert(!json_value_is_bool(json_value_member(root, "a")));
    ck_assert_uint_eq(json_value_count(json_value_member(root, "a")), 0);
    ck_assert_int_eq(json_value_type(json_value_member(NULL, "a")), JSON_VALUE_MISSING);
    ck_assert_ptr_null(json_view_root(NULL));
    ck_assert_ptr_null(json_view_free(view));
}
END_TEST

START_TEST(without_memory_it_says_so)
{
    struct json_view *view = NULL;
    struct err err = {0};
    if (!FAULT_HEAP_WORKS) {
        return;
    }
    fault_heap_after(0);
    int r = json_view_parse("[]", 2, &view, &err);
    fault_heap_off();
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_ptr_null(view);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json_view");
    TCase *tcase = tcase_create("json_view");
    tcase_add_loop_test(tcase, it_takes_what_jansson_takes, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_test(tcase, a_nul_in_the_text_is_no_end);
    tcase_add_test(tcase, many_keys_are_compared_too);
    tcase_add_test(tcase, depth_is_bounded_as_jansson_does);
    tcase_add_test(tcase, a_document_that_is_too_large_is_refused);
    tcase_add_test(tcase, changed_documents_are_taken_by_both_or_none);
    tcase_add_test(tcase, a_value_is_asked_for_by_name_and_type);
    tcase_add_test(tcase, without_memory_it_says_so);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
