/* Goal: bash completes commands, flags, kinds and names of the cluster. Method: the
 * script in a real bash, its function called as TAB would. */
#include "berth_fixture.h"

/* What bash offers for the words, the last of which is being typed; one a line. */
static void complete(const char *words)
{
    static char bash[] = "/bin/bash";
    static char option[] = "-c";
    char script[4096];
    char *args[] = {bash, option, script, NULL};
    snprintf(script, sizeof(script),
             "PATH=%s:$PATH; source <(berth completion bash); COMP_WORDS=(berth %s); "
             "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _berth; "
             "printf '%%s\\n' \"${COMPREPLY[@]}\" | sort -u",
             BERTH_BINARY_DIR, words);
    struct child child = child_start(args, NULL);
    child_wait(&child);
}

static const struct row {
    const char *words;
    const char *offers;
} rows[] = {
    {"dra", "drain\n"},          {"ho", "host\n"},
    {"host ''", "ls\nshow\n"},   {"-t default ls --gr", "--group\n"},
    {"ls --tok", "--token\n"},   {"ls -o j", "json\n"},
    {"ls netw", "network\n"},    {"show netw", "network/\n"},
    {"drain h", "h1\nh2\nh3\n"}, {"show host/h", "host/h1\nhost/h2\nhost/h3\n"},
    {"rm -t def", "default\n"},  {"show template/", "template/plain\n"},
};

START_TEST(bash_is_offered_what_may_follow)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        complete(rows[i].words);
        ck_assert_msg(strcmp(ran.out, rows[i].offers) == 0, "%s: %s%s", rows[i].words,
                      ran.out, ran.err);
    }
}
END_TEST

START_TEST(without_a_cluster_it_is_silent)
{
    served_end(0);
    complete("drain h");
    ck_assert_str_eq(ran.out, "\n");
    ck_assert_str_eq(ran.err, "");
    assert_ran("completion zsh", 0);
    ck_assert_contains(ran.out, "bashcompinit\n");
    assert_ran("completion fish", 2);
    ck_assert_contains(ran.err, "wanted bash or zsh");
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("completion", &tests);
    tcase_add_test(tests, bash_is_offered_what_may_follow);
    tcase_add_test(tests, without_a_cluster_it_is_silent);
    return test_main_run(suite);
}
