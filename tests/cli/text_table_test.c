/* Goal: tables are aligned, never cut or coloured off a terminal, and hold any text. */
#include "base/cleanup.h"
#include "cli/text_table.h"
#include "cli_fixture.h"

#include <locale.h>

static struct text_table *table_of(const char *const cells[][2], unsigned rows)
{
    struct text_table *table = text_table_new(&cli);
    ck_assert_ptr_nonnull(table);
    text_table_column(table, "NAME", 0);
    text_table_column(table, "N", COLUMN_RIGHT);
    text_table_column(table, "WHY", COLUMN_CUT);
    for (unsigned i = 0; i < rows; i++) {
        text_table_row(table);
        text_table_cell(table, cells[i][0], text_color(cells[i][0]));
        text_table_cell(table, "7", NULL);
        text_table_cell(table, cells[i][1], NULL);
    }
    ck_assert_uint_eq(text_table_rows(table), rows);
    return table;
}

START_TEST(columns_are_aligned_and_lines_end_with_their_text)
{
    static const char *const cells[][2] = {{"ready", "-"}, {"a-longer-name", "because"}};
    struct text_table *table = table_of(cells, 2);
    ck_assert_int_eq(text_table_print(table), 0);
    ck_assert_str_eq(cli_out(), "NAME           N  WHY\n"
                                "ready          7  -\n"
                                "a-longer-name  7  because\n");
    (void)text_table_free(table);
}
END_TEST

START_TEST(nothing_is_cut_where_no_terminal_is)
{
    static char longer[2000];
    memset(longer, 'x', sizeof(longer) - 1);
    const char *const cells[][2] = {{"a", longer}};
    struct text_table *table = table_of(cells, 1);
    ck_assert_int_eq(text_table_print(table), 0);
    ck_assert_contains(cli_out(), longer);
    (void)text_table_free(table);
}
END_TEST

static struct text_table *table_in(const char *terminal_columns)
{
    cli_fresh();
    cli.out_tty = true;
    cli.no_color = true;
    ck_assert_int_eq(setenv("COLUMNS", terminal_columns, 1), 0);
    struct text_table *table = text_table_new(&cli);
    ck_assert_ptr_nonnull(table);
    text_table_column(table, "NAME", 0);
    text_table_column(table, "USED", COLUMN_RIGHT | COLUMN_SPARE);
    text_table_column(table, "WHY", COLUMN_CUT);
    text_table_row(table);
    text_table_cell(table, "a-name-of-some-length", NULL);
    text_table_cell(table, "123456", NULL);
    text_table_cell(table, "because it had to be so and so it was", NULL);
    return table;
}

static const struct {
    const char *columns;
    const char *out;
    const char *err;
} fitted[] = {
    {"68",
     "NAME                     USED  WHY\n"
     "a-name-of-some-length  123456  because it had to be so and so it was\n",
     ""},
    {"67",
     "NAME                     USED  WHY\n"
     "a-name-of-some-length  123456  because it had to be so and so it...\n",
     ""},
    {"55",
     "NAME                     USED  WHY\n"
     "a-name-of-some-length  123456  because it had to be...\n",
     ""},
    {"54",
     "NAME                   WHY\n"
     "a-name-of-some-length  because it had to be...\n",
     "the terminal is too narrow for USED (-o wide has all)\n"},
    {"33",
     "NAME                   WHY\n"
     "a-name-of-some-length  because...\n",
     "the terminal is too narrow for USED (-o wide has all)\n"},
    {"20",
     "NAME        WHY\n"
     "a-name-...  becau...\n",
     "the terminal is too narrow for USED (-o wide has all)\n"},
};

START_TEST(a_row_fits_a_terminal_and_says_what_is_not_shown)
{
    struct text_table *table = table_in(fitted[_i].columns);
    ck_assert_int_eq(text_table_print(table), 0);
    ck_assert_str_eq(cli_out(), fitted[_i].out);
    ck_assert_str_eq(cli_err(), fitted[_i].err);
    (void)text_table_free(table);
}
END_TEST

/* In the locale of berth_main.c. */
START_TEST(text_of_any_script_is_written_as_it_is_aligned_and_cut_between_characters)
{
    static const char *const cells[][2] = {
        {"L\xc3\xbc"
         "fter",
         "\xe6\x8f\x9b\xe6\x8f\x9b\xe6\x8f\x9b\xe6\x8f\x9b\xe6\x8f\x9b"},
        {"plain",
         "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"}};
    ck_assert_ptr_nonnull(setlocale(LC_CTYPE, "C.UTF-8"));
    struct text_table *table = table_of(cells, 2);
    ck_assert_int_eq(text_table_print(table), 0);
    ck_assert_str_eq(
        cli_out(),
        "NAME    N  WHY\n"
        "L\xc3\xbc"
        "fter  7  \xe6\x8f\x9b\xe6\x8f\x9b\xe6\x8f\x9b\xe6\x8f\x9b\xe6\x8f\x9b\n"
        "plain   7  "
        "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\n");
    (void)text_table_free(table);
    cli_fresh();
    cli.out_tty = true;
    cli.no_color = true;
    ck_assert_int_eq(setenv("COLUMNS", "19", 1), 0); /* 8 for the last */
    table = table_of(cells, 2);
    ck_assert_int_eq(text_table_print(table), 0);
    ck_assert_str_eq(cli_out(),
                     "NAME    N  WHY\n"
                     "L\xc3\xbc"
                     "fter  7  \xe6\x8f\x9b\xe6\x8f\x9b...\n"
                     "plain   7  \xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4...\n");
    (void)text_table_free(table);
}
END_TEST

START_TEST(wide_tables_spare_no_column)
{
    struct text_table *table = table_in("54");
    cli.format = FORMAT_WIDE;
    ck_assert_int_eq(text_table_print(table), 0);
    ck_assert_str_eq(cli_out(),
                     "NAME                     USED  WHY\n"
                     "a-name-of-some-length  123456  because it had to be...\n");
    ck_assert_str_eq(cli_err(), "");
    (void)text_table_free(table);
}
END_TEST

START_TEST(colours_are_for_terminals_that_want_them)
{
    cli.out_tty = false;
    ck_assert(!text_colored(&cli));
    cli.out_tty = true;
    ck_assert(text_colored(&cli));
    cli.no_color = true;
    ck_assert(!text_colored(&cli));
}
END_TEST

START_TEST(control_characters_do_not_reach_the_terminal)
{
    const char *const cells[][2] = {{"a", "\033[31mred\007"}};
    struct text_table *table = table_of(cells, 1);
    ck_assert_int_eq(text_table_print(table), 0);
    ck_assert_ptr_null(strchr(cli_out(), '\033'));
    ck_assert_ptr_null(strchr(cli_out(), '\007'));
    ck_assert_contains(cli_out(), "red");
    (void)text_table_free(table);
}
END_TEST

START_TEST(words_have_the_colour_of_what_they_mean)
{
    ck_assert_str_eq(text_color("ready"), "green");
    ck_assert_str_eq(text_color("lost"), "red");
    ck_assert_str_eq(text_color("pending"), "yellow");
    ck_assert_ptr_null(text_color("web-1"));
    ck_assert_ptr_null(text_color(""));
}
END_TEST

START_TEST(a_table_without_rows_is_no_fault)
{
    struct text_table *table = table_of(NULL, 0);
    ck_assert_int_eq(text_table_print(table), 0);
    (void)text_table_free(table);
    ck_assert_ptr_null(text_table_free(NULL));
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("text_table", &tests);
    tcase_add_test(tests, columns_are_aligned_and_lines_end_with_their_text);
    tcase_add_test(tests, nothing_is_cut_where_no_terminal_is);
    tcase_add_loop_test(tests, a_row_fits_a_terminal_and_says_what_is_not_shown, 0,
                        ARRAY_COUNT(fitted));
    tcase_add_test(
        tests, text_of_any_script_is_written_as_it_is_aligned_and_cut_between_characters);
    tcase_add_test(tests, wide_tables_spare_no_column);
    tcase_add_test(tests, colours_are_for_terminals_that_want_them);
    tcase_add_test(tests, control_characters_do_not_reach_the_terminal);
    tcase_add_test(tests, words_have_the_colour_of_what_they_mean);
    tcase_add_test(tests, a_table_without_rows_is_no_fault);
    return test_main_run(suite);
}
