#include "base/utf8.h"
#include "support/test_main.h"

static const struct {
    const char *text;
    size_t left;
    size_t size;
} rows[] = {
    {"", 0, 0},
    {"", 1, 1}, /* NUL */
    {"a", 1, 1},
    {"\x7f", 1, 1},
    {"\xc3\xa4", 2, 2},
    {"\xc3\xa4", 1, 0},         /* cut */
    {"\x80", 1, 0},             /* the middle of one */
    {"\xc0\xaf", 2, 0},         /* longer than need be */
    {"\xe0\x80\xaf", 3, 0},     /* likewise */
    {"\xf0\x80\x80\x80", 4, 0}, /* likewise */
    {"\xe2\x82\xac", 3, 3},
    {"\xe2\x82\xac", 2, 0},
    {"\xed\xa0\x80", 3, 0}, /* half of a pair */
    {"\xf0\x9f\x98\x80", 4, 4},
    {"\xf4\x90\x80\x80", 4, 0}, /* beyond the last */
    {"\xff", 1, 0},
};

START_TEST(a_character_has_its_size)
{
    ck_assert_uint_eq(utf8_character_size(rows[_i].text, rows[_i].left), rows[_i].size);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("utf8");
    TCase *tcase = tcase_create("utf8");
    tcase_add_loop_test(tcase, a_character_has_its_size, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
