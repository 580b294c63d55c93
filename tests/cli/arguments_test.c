/* Goal: a command line is read as its writer meant it, or refused with what was perhaps
 * meant. */
#include "cli_fixture.h"

static const struct good {
    const char *line;
    const char *command;
    const char *words; /* joined by blanks */
    const char *tenant;
    enum cli_format format;
} goods[] = {
    {"ls", "ls", "", NULL, FORMAT_TABLE},
    {"ls vm -t shop", "ls", "vm", "shop", FORMAT_TABLE},
    {"-t shop ls vm", "ls", "vm", "shop", FORMAT_TABLE},
    {"-tshop ls vm -ojson", "ls", "vm", "shop", FORMAT_JSON},
    {"--tenant=shop ls --output=wide", "ls", "", "shop", FORMAT_WIDE},
    {"--tenant shop ls --output yaml", "ls", "", "shop", FORMAT_YAML},
    {"ls -o name -o json", "ls", "", NULL, FORMAT_JSON}, /* the last one wins */
    {"host ls", "host ls", "", NULL, FORMAT_TABLE},
    {"host show h1", "host show", "h1", NULL, FORMAT_TABLE},
    {"scale web 5 --wait", "scale", "web 5", NULL, FORMAT_TABLE},
    {"rm vm/a -- -f", "rm", "vm/a -f", NULL, FORMAT_TABLE},
    {"apply -", "apply", "-", NULL, FORMAT_TABLE},
    {"help host ls", "help", "host ls", NULL, FORMAT_TABLE},
    {"console --help", "console", "", NULL, FORMAT_TABLE}, /* words are not missed */
};

START_TEST(a_line_is_taken_apart)
{
    const struct good *row = &goods[_i];
    char words[256] = "";
    ck_assert_msg(cli_given(row->line) == EXIT_OK, "%s: %s", row->line, cli_err());
    for (unsigned i = 0; i < cli.word_count; i++) {
        size_t used = strlen(words);
        snprintf(words + used, sizeof(words) - used, "%s%s", i > 0 ? " " : "",
                 cli.words[i]);
    }
    ck_assert_str_eq(cli.command->name, row->command);
    ck_assert_str_eq(words, row->words);
    ck_assert_int_eq(cli.format, row->format);
    if (row->tenant != NULL) {
        ck_assert_str_eq(cli.tenant, row->tenant);
    } else {
        ck_assert_ptr_null(cli.tenant);
    }
}
END_TEST

static const struct bad {
    const char *line;
    const char *said;
} bads[] = {
    {"lss", "there is no command \"lss\"; did you mean \"ls\"?"},
    {"aply x", "did you mean \"apply\"?"},
    {"exlpain vm/x", "did you mean \"explain\"?"}, /* two neighbours swapped */
    {"frobnicate", "there is no command \"frobnicate\"; berth help lists them"},
    {"host", "\"host\" needs a second word: host ls, host show"},
    {"token", "token create, token join, token ls"},
    {"show", "berth show needs KIND/NAME; see berth show --help"},
    {"show vm/a vm/b", "berth show: unexpected \"vm/b\""},
    {"ls --lable a=b", "there is no flag --lable; did you mean --label?"},
    {"ls --frobnicate", "there is no flag --frobnicate; see berth ls --help"},
    {"ls -z", "there is no flag -z"},
    {"--frob ls", "there is no flag --frob; see berth --help"},
    {"ls -o xml", "--output: wanted table, wide, json, yaml or name, not \"xml\""},
    {"ls -o", "--output needs a value: FORMAT"},
    {"ls --wide=yes", "there is no flag --wide=yes"},
    {"ls --quiet=yes", "--quiet takes no value"},
};

START_TEST(a_line_that_makes_no_sense_is_refused_with_advice)
{
    ck_assert_int_eq(cli_given(bads[_i].line), EXIT_USAGE);
    ck_assert_contains(cli_err(), bads[_i].said);
    ck_assert_int_eq(strncmp(cli_err(), "berth: ", 7), 0);
    ck_assert_str_eq(cli_out(), "");
}
END_TEST

START_TEST(flags_of_a_command_go_before_those_of_all)
{
    ck_assert_int_eq(cli_given("rm -f a.yaml -f b.yaml --file c.yaml"), EXIT_OK);
    unsigned cursor = 0;
    ck_assert_str_eq(cli_flag_next(&cli, "file", &cursor), "a.yaml");
    ck_assert_str_eq(cli_flag_next(&cli, "file", &cursor), "b.yaml");
    ck_assert_str_eq(cli_flag_next(&cli, "file", &cursor), "c.yaml");
    ck_assert_ptr_null(cli_flag_next(&cli, "file", &cursor));
    ck_assert_str_eq(cli_flag(&cli, "file"), "c.yaml"); /* the last one wins */
    ck_assert_ptr_null(cli_flag(&cli, "wait"));

    ck_assert_int_eq(cli_given("events -f"), EXIT_OK); /* here it follows */
    ck_assert_str_eq(cli_flag(&cli, "follow"), "");
}
END_TEST

START_TEST(durations_have_units)
{
    uint64_t ms = 0;
    ck_assert_int_eq(cli_given("apply x --timeout 2m"), EXIT_OK);
    ck_assert_int_eq(cli_flag_duration(&cli, "timeout", 7, &ms), EXIT_OK);
    ck_assert_uint_eq(ms, 120000);
    ck_assert_int_eq(cli_given("apply x"), EXIT_OK);
    ck_assert_int_eq(cli_flag_duration(&cli, "timeout", 7, &ms), EXIT_OK);
    ck_assert_uint_eq(ms, 7);
    ck_assert_int_eq(cli_given("apply x --timeout 90"), EXIT_OK);
    ck_assert_int_eq(cli_flag_duration(&cli, "timeout", 7, &ms), EXIT_USAGE);
    ck_assert_contains(cli_err(), "--timeout: ");
}
END_TEST

START_TEST(the_environment_stands_in_for_flags_and_flags_win)
{
    static char name[] = "berth";
    static char ls[] = "ls";
    static char flag[] = "-tbank";
    char *argv[] = {name, ls, flag, NULL};
    cli_fresh();
    ck_assert_int_eq(setenv("BERTH_TENANT", "shop", 1), 0);
    ck_assert_int_eq(setenv("BERTH_STATE", "/srv/berth", 1), 0);
    ck_assert_int_eq(setenv("BERTH_TOKEN", "", 1), 0); /* as good as none */
    ck_assert_int_eq(setenv("NO_COLOR", "1", 1), 0);
    ck_assert_int_eq(cli_parse(&cli, 2, argv), EXIT_OK);
    ck_assert_str_eq(cli.tenant, "shop");
    ck_assert_str_eq(cli.state, "/srv/berth");
    ck_assert(cli.state_given && cli.no_color);
    ck_assert_ptr_null(cli.token);
    ck_assert_int_eq(cli_parse(&cli, 3, argv), EXIT_OK);
    ck_assert_str_eq(cli.tenant, "bank");
}
END_TEST

START_TEST(no_word_at_all_is_no_command)
{
    ck_assert_int_eq(cli_given(""), EXIT_OK);
    ck_assert_ptr_null(cli.command);
    ck_assert_int_eq(cli_given("-q"), EXIT_OK);
    ck_assert_ptr_null(cli.command);
}
END_TEST

START_TEST(more_than_there_is_room_for_is_refused)
{
    static char name[] = "berth";
    static char rm[] = "rm";
    static char flag[] = "-f";
    static char word[] = "vm/x";
    char **argv = calloc(2200, sizeof(*argv));
    argv[0] = name;
    argv[1] = rm;
    for (int i = 2; i < 2100; i++) {
        argv[i] = word;
    }
    ck_assert_int_eq(cli_parse(&cli, 2100, argv), EXIT_USAGE);
    ck_assert_contains(cli_err(), "more than 1000 words");
    cli_fresh();
    for (int i = 2; i < 2 + 2 * (CLI_GIVEN_MAX + 1); i += 2) {
        argv[i] = flag;
    }
    ck_assert_int_eq(cli_parse(&cli, 2 + 2 * (CLI_GIVEN_MAX + 1), argv), EXIT_USAGE);
    ck_assert_contains(cli_err(), "more than 96 flags");
    free(argv);
}
END_TEST

static const struct near {
    const char *word;
    const char *nearest; /* NULL: none is near */
} nears[] = {
    {"vm", "vm"},
    {"vms", "vm"},
    {"templte", "template"},
    {"gruop", "group"},
    {"hsot", "host"},
    {"x", NULL},
    {"", NULL},
    {"temple", "template"},
    {"tem", "vm"},
    {"kubernetes", NULL},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
};

START_TEST(the_nearest_is_within_two_edits_and_no_other_word)
{
    static const char *const words[] = {"vm", "template", "group", "host"};
    const char *found = cli_nearest(nears[_i].word, words, 4);
    if (nears[_i].nearest == NULL) {
        ck_assert_msg(found == NULL, "%s: %s", nears[_i].word, found);
    } else {
        ck_assert_msg(found != NULL, "%s", nears[_i].word);
        ck_assert_str_eq(found, nears[_i].nearest);
    }
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("arguments", &tests);
    tcase_add_loop_test(tests, a_line_is_taken_apart, 0,
                        sizeof(goods) / sizeof(goods[0]));
    tcase_add_loop_test(tests, a_line_that_makes_no_sense_is_refused_with_advice, 0,
                        sizeof(bads) / sizeof(bads[0]));
    tcase_add_test(tests, flags_of_a_command_go_before_those_of_all);
    tcase_add_test(tests, durations_have_units);
    tcase_add_test(tests, the_environment_stands_in_for_flags_and_flags_win);
    tcase_add_test(tests, no_word_at_all_is_no_command);
    tcase_add_test(tests, more_than_there_is_room_for_is_refused);
    tcase_add_loop_test(tests, the_nearest_is_within_two_edits_and_no_other_word, 0,
                        sizeof(nears) / sizeof(nears[0]));
    return test_main_run(suite);
}
