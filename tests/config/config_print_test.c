/* Goal: a reader sees the place, and nothing of a file's bytes reaches the terminal raw.
 */
#include "config_fixture.h"
#include "support/test_main.h"

#include <stdio.h>

static char *faults_of(const char *name, const char *text, size_t size)
{
    struct config config;
    (void)config_read(name, text, size, &config); /* the faults are what is looked at */
    char *printed = fixture_faults(&config);
    config_fini(&config);
    return printed;
}

START_TEST(a_good_file_prints_nothing)
{
    static const char text[] =
        "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a}\n";
    CLEANUP_FREE char *printed = faults_of("a.yaml", text, strlen(text));
    ck_assert_str_eq(printed, "");
}
END_TEST

START_TEST(a_warning_alone_changes_nothing_about_the_outcome)
{
    static const char text[] =
        "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a, uid: 7}\n";
    CLEANUP_FREE char *printed = faults_of("a.yaml", text, strlen(text));
    ck_assert_str_eq(
        printed, "a.yaml:3:21: warning BE1110: \"uid\" is written by the server and is "
                 "ignored here\n"
                 "    2 | kind: Tenant\n"
                 "    3 | metadata: {name: a, uid: 7}\n"
                 "      |                     ^^^\n"
                 "0 errors, 1 warning.\n");
}
END_TEST

START_TEST(the_first_line_has_none_before_it)
{
    CLEANUP_FREE char *printed = faults_of("a.yaml", "a: [b\n", 6);
    ck_assert_str_eq(printed, "a.yaml:1:4: error BE1100: a list is not closed\n"
                              "    1 | a: [b\n"
                              "      |    ^ add ] or a comma\n"
                              "1 error, 0 warnings. Nothing was changed.\n");
}
END_TEST

START_TEST(long_lines_are_cut_between_characters)
{
    char text[2048] = "apiVersion: berth/v1 # ";
    size_t size = strlen(text);
    for (unsigned i = 0; i < 300; i++) {
        memcpy(text + size, "\xc3\xa4", 2);
        size += 2;
    }
    CLEANUP_FREE char *printed = faults_of("a.yaml", text, size);
    const char *line = strstr(printed, "    1 | ");
    size_t columns = 0;
    ck_assert_ptr_nonnull(line);
    for (line += strlen("    1 | "); strncmp(line, "...\n", 4) != 0; line++) {
        ck_assert_int_ne(*line, '\n');
        columns += ((unsigned char)*line & 0xc0) != 0x80 ? 1 : 0;
    }
    ck_assert_uint_eq(columns, 120);
    ck_assert_mem_eq(line - 2, "\xc3\xa4", 2);
}
END_TEST

START_TEST(the_caret_stands_below_wide_characters)
{
    static const char text[] =
        "apiVersion: berth/v1\nkind: Tenant\n"
        "metadata: {\"\xe6\x9d\xb1\xe4\xba\xac\": 1, x: 2, name: a}\n";
    CLEANUP_FREE char *printed = faults_of("a.yaml", text, strlen(text));
    ck_assert_msg(strstr(printed, "      |            ^^^^^^ ") != NULL &&
                      strstr(printed, "      |                       ^ ") != NULL,
                  "%s", printed);
}
END_TEST

/* All bytes but line ends, in the text and in the file's name. */
START_TEST(no_control_character_is_printed)
{
    char text[600] = "a: \"";
    char name[256];
    size_t size = strlen(text);
    for (unsigned byte = 1; byte < 256; byte++) {
        name[byte - 1] = (char)byte;
        text[size++] = (char)byte;
        text[size++] = ' ';
    }
    name[255] = '\0';
    CLEANUP_FREE char *printed = faults_of(name, text, size);
    ck_assert_ptr_nonnull(strstr(printed, "BE1100"));
    for (const char *at = printed; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        ck_assert_msg((byte >= 0x20 && byte != 0x7f) || byte == '\n', "byte %02x", byte);
    }
}
END_TEST

START_TEST(a_nul_does_not_end_the_text)
{
    static const char text[] = "a: b\0c\nkind: [\n";
    CLEANUP_FREE char *printed = faults_of("a.yaml", text, sizeof(text) - 1);
    ck_assert_str_eq(
        printed, "a.yaml:1:5: error BE1100: a control character stands in the text\n"
                 "    1 | a: b c\n"
                 "      |     ^ delete it, or write it as an escape in double quotes\n"
                 "1 error, 0 warnings. Nothing was changed.\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_print");
    TCase *tests = tcase_create("config_print");
    tcase_add_test(tests, a_good_file_prints_nothing);
    tcase_add_test(tests, a_warning_alone_changes_nothing_about_the_outcome);
    tcase_add_test(tests, the_first_line_has_none_before_it);
    tcase_add_test(tests, long_lines_are_cut_between_characters);
    tcase_add_test(tests, the_caret_stands_below_wide_characters);
    tcase_add_test(tests, no_control_character_is_printed);
    tcase_add_test(tests, a_nul_does_not_end_the_text);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
