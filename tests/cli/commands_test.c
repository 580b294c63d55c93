/* Goal: every command can be found, explains itself with examples that parse, and the
 * reference in docs says the same. */
#include "cli/help.h"
#include "cli_fixture.h"

static unsigned command_count(void)
{
    unsigned count = 0;
    while (cli_commands[count].name != NULL) {
        count++;
    }
    return count;
}

static char *told(void (*tell)(FILE *stream, const struct cli_command *command),
                  const struct cli_command *command)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(stream);
    tell(stream, command);
    ck_assert_int_eq(fclose(stream), 0);
    return text;
}

START_TEST(every_command_has_one_name_a_summary_and_two_examples)
{
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        unsigned lines = 1;
        ck_assert_msg(row->run != NULL && row->group != NULL, "%s", row->name);
        ck_assert_msg(row->words_min <= row->words_max && row->words_max <= CLI_WORDS_MAX,
                      "%s", row->name);
        ck_assert_msg((row->arguments == NULL) == (row->words_max == 0), "%s", row->name);
        ck_assert_msg(strlen(row->summary) > 10 && strlen(row->summary) < 72, "%s",
                      row->summary);
        for (const char *at = row->examples; *at != '\0'; at++) {
            lines += *at == '\n' ? 1 : 0;
        }
        ck_assert_msg(lines >= 2, "%s has %u examples", row->name, lines);
        for (const struct cli_command *other = cli_commands; other != row; other++) {
            ck_assert_str_ne(row->name, other->name);
        }
    }
}
END_TEST

/* The part of an example line that is a command line of berth, without shell. */
static const char *berth_part(const char *line, size_t size, char ret_line[512])
{
    char text[512];
    snprintf(text, sizeof(text), "%.*s", (int)size, line);
    const char *start = strstr(text, "berth ");
    ck_assert_msg(start != NULL, "no berth in \"%s\"", text);
    start += 6;
    size_t end = strcspn(start, "|<>&;");
    while (end > 0 && start[end - 1] == ' ') {
        end--;
    }
    if (start > text + 6 && start[end] == '>') {
        end = strcspn(start, ")");
    }
    snprintf(ret_line, 512, "%.*s", (int)end, start);
    for (char *c = ret_line; *c != '\0'; c++) { /* "PSU swap" is one word to a shell */
        if (*c == '"') {
            char *close = strchr(c + 1, '"');
            for (char *in = c; close != NULL && in <= close; in++) {
                *in = *in == ' ' ? '_' : *in;
            }
            c = close != NULL ? close : c;
        }
    }
    return ret_line;
}

START_TEST(every_example_parses)
{
    const struct cli_command *row = &cli_commands[_i];
    const char *at = row->examples;
    while (*at != '\0') {
        size_t size = strcspn(at, "\n");
        char line[512];
        (void)berth_part(at, size, line);
        ck_assert_msg(cli_given(line) == EXIT_OK, "berth %s: %s", line, cli_err());
        ck_assert_ptr_nonnull(cli.command);
        at += size + (at[size] == '\n' ? 1 : 0);
    }
}
END_TEST

START_TEST(help_of_a_command_has_its_usage_examples_and_flags)
{
    const struct cli_command *row = &cli_commands[_i];
    char usage[128];
    char *text = told(help_command, row);
    snprintf(usage, sizeof(usage), "usage: berth %s", row->name);
    ck_assert_contains(text, usage);
    ck_assert_contains(text, row->summary);
    ck_assert_contains(text, "\nExamples\n  ");
    ck_assert_contains(text, "--output FORMAT");
    for (const struct cli_flag_spec *flag = row->flags; flag->name != NULL; flag++) {
        char name[64];
        snprintf(name, sizeof(name), "--%s", flag->name);
        ck_assert_contains(text, name);
        ck_assert_contains(text, flag->help);
    }
    for (const char *line = text; *line != '\0';) { /* fits a terminal, but for flags */
        size_t size = strcspn(line, "\n");
        ck_assert_msg(size <= 110, "%.*s", (int)size, line);
        line += size + (line[size] == '\n' ? 1 : 0);
    }
    free(text);
}
END_TEST

START_TEST(the_longest_name_wins_and_half_a_name_is_none)
{
    const char *words[] = {"host", "ls", "vm"};
    unsigned used = 0;
    ck_assert_str_eq(cli_command_find(words, 3, &used)->name, "host ls");
    ck_assert_uint_eq(used, 2);
    ck_assert_ptr_null(cli_command_find(words, 1, &used));
    ck_assert_str_eq(cli_command_find(words + 1, 2, &used)->name, "ls");
    ck_assert_ptr_null(cli_command_find(words, 0, &used));
}
END_TEST

START_TEST(the_overview_names_every_command)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    help_overview(stream);
    ck_assert_int_eq(fclose(stream), 0);
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        ck_assert_contains(text, row->summary);
    }
    free(text);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("commands", &tests);
    tcase_add_test(tests, every_command_has_one_name_a_summary_and_two_examples);
    tcase_add_loop_test(tests, every_example_parses, 0, (int)command_count());
    tcase_add_loop_test(tests, help_of_a_command_has_its_usage_examples_and_flags, 0,
                        (int)command_count());
    tcase_add_test(tests, the_longest_name_wins_and_half_a_name_is_none);
    tcase_add_test(tests, the_overview_names_every_command);
    return test_main_run(suite);
}
