/* Goal: nothing that a guest writes acts on the terminal of who reads it.
 * Method: pairs of what is written and what is left, and every cut of them: no byte below
 * space survives whatever comes last. */
#include "cli/plain_text.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *written;
    const char *left;
} pairs[] = {
    {"plain\ttext\n", "plain\ttext\n"},
    {"gr\xc3\xbc\xc3\x9f\n", "gr\xc3\xbc\xc3\x9f\n"},
    {"where am I?\x1b[6n", "where am I?"},
    {"\x1b[1;31mred\x1b[0m", "red"},
    {"\x1b]0;title\x07shown", "shown"},
    {"\x1b]52;c;c2VjcmV0\x1b\\shown", "shown"},
    {"\x1bP1$r\x1b\\shown", "shown"},
    {"\x1b"
     "cshown",
     "shown"},
    {"\x1b\x1b[2Jshown", "shown"},
    {"one\r\ntwo\b\x7f\x07", "one\ntwo"},
    {"\xc2\x9b"
     "6nshown",
     "6nshown"},
    {"\x1b[12\nnext", "\nnext"},
    {"\x9b"
     "6nshown\x85",
     "6nshown"},                                  /* C1 as a byte */
    {"\xe2\x9b\xb5 sails", "\xe2\x9b\xb5 sails"}, /* the same byte in a character */
    {"half \xe2\x9b", "half "},
};

START_TEST(what_is_written_is_left_without_controls)
{
    char text[64];
    (void)strcpy(text, pairs[_i].written);
    size_t size = plain_text(text, strlen(text));
    ck_assert_uint_eq(size, strlen(pairs[_i].left));
    ck_assert_int_eq(memcmp(text, pairs[_i].left, size), 0);
}
END_TEST

START_TEST(a_cut_at_any_byte_leaves_no_control)
{
    for (size_t cut = 0; cut <= strlen(pairs[_i].written); cut++) {
        char *text = malloc(cut + 1); /* exact, so that a read beyond it is seen */
        ck_assert_ptr_nonnull(text);
        memcpy(text, pairs[_i].written, cut);
        size_t size = plain_text(text, cut);
        ck_assert_uint_le(size, cut);
        for (size_t i = 0; i < size; i++) {
            unsigned char byte = (unsigned char)text[i];
            ck_assert(byte >= 0x20 || byte == '\n' || byte == '\t');
        }
        free(text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plain_text");
    TCase *tests = tcase_create("plain_text");
    const int count = (int)(sizeof(pairs) / sizeof(pairs[0]));
    tcase_add_loop_test(tests, what_is_written_is_left_without_controls, 0, count);
    tcase_add_loop_test(tests, a_cut_at_any_byte_leaves_no_control, 0, count);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
