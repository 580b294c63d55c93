/* Goal: bash completes commands, flags, kinds and names of the cluster. Method: the
 * script in a real bash, its function called as TAB would. */
#include "berth_fixture.h"

/* Gives names all the time that they need: the second of a person who waits is none under
 * load. */
#define PATIENT "timeout() { shift; \"$@\"; }; "

/* What bash offers for the words, the last of which is being typed; one a line. First it
 * runs what is to come before. */
static void complete_after(const char *before, const char *words)
{
    static char bash[] = "/bin/bash";
    static char option[] = "-c";
    char script[4096];
    char *args[] = {bash, option, script, NULL};
    snprintf(script, sizeof(script),
             "PATH=%s:$PATH; source <(berth completion bash); %s COMP_WORDS=(berth %s); "
             "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _berth; "
             "printf '%%s\\n' \"${COMPREPLY[@]}\" | sort",
             BERTH_BINARY_DIR, before, words);
    struct child child = child_start(args, NULL);
    child_wait(&child);
}

static void complete(const char *words)
{
    complete_after(PATIENT, words);
}

static const struct row {
    const char *words;
    const char *offers;
} rows[] = {
    {"dra", "drain\n"},
    {"ho", "host\n"},
    {"host ''", "label\nls\nshow\n"},
    {"host label h", "h1\nh2\nh3\n"},
    {"-t default ls --gr", "--group\n"},
    {"ls --tok", "--token\n"},
    {"ls -o j", "json\n"},
    {"ls netw", "network\n"},
    {"show netw", "network/\n"},
    {"drain h", "h1\nh2\nh3\n"},
    {"show host/h", "host/h1\nhost/h2\nhost/h3\n"},
    {"help exi", "exit-codes\n"},
    {"help tok", "token\n"},
    {"help token j", "join\n"},
    {"help appl", "apply\n"},
    {"help rol", "roles\n"},
    {"events --kind netw", "network\n"},
    {"rm -t def", "default\n"},
    {"show template/", "template/plain\n"},
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

/* Bash gives an address as several words. */
START_TEST(names_come_from_whom_the_line_asks)
{
    static const char told[] = "timeout() { echo \"$*\" >\"$BERTH_STATE/asked\"; }; ";
    static const struct {
        const char *words;
        const char *asked;
    } lines[] = {
        {"drain ''", "1 berth ls host -o name -q\n"},
        {"--server https : //h2 : 7443 drain ''",
         "1 berth ls host -o name -q --server https://h2:7443\n"},
        {"--server = h2 --pin sha256//x --token y console -t shop ''",
         "1 berth ls vm -o name -q --server h2 --pin sha256//x --token y -t shop\n"},
        {"ls -g web --state /srv/b -t ''",
         "1 berth ls tenant -o name -q --state /srv/b\n"},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        complete_after(told, lines[i].words);
        char *asked = temp_dir_read(&folder, "asked");
        ck_assert_str_eq(asked, lines[i].asked);
        free(asked);
    }
    complete("--state /no/such/folder drain h");
    ck_assert_str_eq(ran.out, "\n");
}
END_TEST

/* A server that sends what a shell would run, in the place of `timeout 1 berth ls`. */
START_TEST(a_name_that_is_code_is_not_run)
{
    static const char hostile[] =
        "timeout() { printf '%s\\n' default/h1 'default/$(echo run >&2)' "
        "'default/`echo run >&2`' 'default/h2;echo run' 'default/h 3' 'default/-h' "
        "default/h-4.b_c; }; ";
    static const char *const words[] = {"drain ''", "show vm ''", "-t ''"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        complete_after(hostile, words[i]);
        ck_assert_msg(strstr(ran.out, "run") == NULL && ran.err[0] == '\0', "%s: %s%s",
                      words[i], ran.out, ran.err);
    }
    complete_after(hostile, "drain ''");
    ck_assert_str_eq(ran.out, "h-4.b_c\nh1\n");
    complete_after(hostile, "show vm/");
    ck_assert_str_eq(ran.out, "vm/h-4.b_c\nvm/h1\n");
    ck_assert_str_eq(ran.err, "");
}
END_TEST

/* The name of a file may hold blanks, and signs that mean something to a shell. */
START_TEST(a_file_with_blanks_is_one_word)
{
    complete_after("cd \"$(mktemp -d)\"; touch 'my vms.yaml' 'my*'; ", "apply my");
    ck_assert_str_eq(ran.out, "my vms.yaml\nmy*\n");
    ck_assert_str_eq(ran.err, "");
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
    tcase_add_test(tests, names_come_from_whom_the_line_asks);
    tcase_add_test(tests, a_name_that_is_code_is_not_run);
    tcase_add_test(tests, a_file_with_blanks_is_one_word);
    tcase_add_test(tests, without_a_cluster_it_is_silent);
    return test_main_run(suite);
}
