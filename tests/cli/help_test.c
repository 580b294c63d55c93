/* Goal: topics are told, and docs/cli.md is what the program says of itself. */
#include "cli/help.h"
#include "cli_fixture.h"
#include "model/objects.h"

static char *text_of(bool (*tell)(FILE *stream, const char *name), const char *name)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(stream);
    ck_assert(tell(stream, name));
    ck_assert_int_eq(fclose(stream), 0);
    return text;
}

START_TEST(each_topic_is_listed_and_told)
{
    static const char *const topics[] = {"names",       "output", "exit-codes",
                                         "environment", "roles",  "waiting"};
    char *list = text_of(help_topic, "topics");
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
        ck_assert_contains(list, topics[i]);
        char *text = text_of(help_topic, topics[i]);
        ck_assert_uint_gt(strlen(text), 100);
        for (const char *line = text; *line != '\0';) {
            size_t size = strcspn(line, "\n");
            ck_assert_msg(size <= 100, "%.*s", (int)size, line);
            line += size + (line[size] == '\n' ? 1 : 0);
        }
        free(text);
    }
    ck_assert_contains(list, "reference");
    free(list);
    ck_assert(!help_topic(cli.out, "gardening"));
}
END_TEST

/* The table's texts name what other tables have. */
START_TEST(commands_name_all_topics_and_all_kinds)
{
    static const char help[] = "help";
    static const char ls[] = "ls";
    const char *const words[] = {help, ls};
    const char *topics[32];
    unsigned used;
    unsigned count = help_topic_names(topics, 32);
    const struct cli_command *about = cli_command_find(&words[0], 1, &used);
    const struct cli_command *list = cli_command_find(&words[1], 1, &used);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_contains(about->more, topics[i]);
    }
    for (int kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        ck_assert_contains(list->more, kind_info((enum kind)kind)->word);
    }
}
END_TEST

START_TEST(every_exit_code_has_its_line)
{
    char *text = text_of(help_topic, "exit-codes");
    for (int code = EXIT_OK; code <= EXIT_UNREACHABLE; code++) {
        char line[16];
        snprintf(line, sizeof(line), "  %d  ", code);
        ck_assert_contains(text, line);
    }
    free(text);
}
END_TEST

START_TEST(the_reference_in_docs_is_the_programs)
{
    char *text = NULL;
    size_t size = 0;
    static char kept[1u << 20];
    FILE *stream = open_memstream(&text, &size);
    help_reference(stream);
    ck_assert_int_eq(fclose(stream), 0);
    FILE *file = fopen(BERTH_SOURCE_DIR "/docs/cli.md", "re");
    ck_assert_ptr_nonnull(file);
    kept[fread(kept, 1, sizeof(kept) - 1, file)] = '\0';
    (void)fclose(file);
    ck_assert_msg(strcmp(kept, text) == 0,
                  "docs/cli.md is out of date: berth help reference > docs/cli.md");
    free(text);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("help", &tests);
    tcase_add_test(tests, each_topic_is_listed_and_told);
    tcase_add_test(tests, commands_name_all_topics_and_all_kinds);
    tcase_add_test(tests, every_exit_code_has_its_line);
    tcase_add_test(tests, the_reference_in_docs_is_the_programs);
    return test_main_run(suite);
}
