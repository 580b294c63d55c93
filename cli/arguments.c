/* Words and flags of a command line, by the command table. See cli.h. */
#include "base/cleanup.h"
#include "base/parse_number.h"
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

#define STATE_DEFAULT "/var/lib/berth"
#define NAMES_MAX     256 /* commands and flags together, for "did you mean" */
#define DISTANCE_MAX  2
#define DISTANCE_TEXT 40

const char *const cli_format_names[] = {"table", "wide", "json", "yaml", "name", NULL};

const struct cli_flag_spec cli_global_flags[] = {
    {"tenant", 't', "TENANT", "the tenant of names that do not say it"},
    {"output", 'o', "FORMAT", "table, wide, json, yaml or name"},
    {"state", 0, "DIR", "state folder of the local berthd (" STATE_DEFAULT ")"},
    {"server", 0, "HOST", "ask this host over HTTPS: HOST, HOST:PORT or https://..."},
    {"token", 0, "TOKEN",
     "access token, in place of being root here; BERTH_TOKEN is safer"},
    {"pin", 0, "PIN",
     "key of --server, sha256//...; several, joined by ;, for a cluster"},
    {"yes", 'y', NULL, "do not ask before something is removed"},
    {"quiet", 'q', NULL, "no progress and no advice"},
    {"no-color", 0, NULL, "no colours; NO_COLOR=1 does the same"},
    {"help", 'h', NULL, "print help and examples"},
    {NULL, 0, NULL, NULL},
};

/* ---- flags by name ---- */

const char *cli_flag(const struct cli *cli, const char *name)
{
    for (unsigned i = cli->given_count; i-- > 0;) { /* the last one wins */
        if (strcmp(cli->given_names[i], name) == 0) {
            return cli->given_values[i];
        }
    }
    return NULL;
}

const char *cli_flag_next(const struct cli *cli, const char *name, unsigned *cursor)
{
    while (*cursor < cli->given_count) {
        unsigned i = (*cursor)++;
        if (strcmp(cli->given_names[i], name) == 0) {
            return cli->given_values[i];
        }
    }
    return NULL;
}

int cli_flag_duration(struct cli *cli,
                      const char *name,
                      uint64_t fallback_ms,
                      uint64_t *ret_ms)
{
    struct err err;
    const char *text = cli_flag(cli, name);
    *ret_ms = fallback_ms;
    if (text != NULL && parse_duration_ms(text, ret_ms, &err) < 0) {
        return cli_fail(cli, EXIT_USAGE, "--%s: %s", name, err.text);
    }
    return EXIT_OK;
}

/* ---- did you mean ---- */

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned low = a < b ? a : b;
    return low < c ? low : c;
}

/* Edit distance in which swapping two neighbours counts once. */
static unsigned distance(const char *a, const char *b)
{
    unsigned rows[3][DISTANCE_TEXT + 1];
    unsigned *before = rows[0];
    unsigned *above = rows[1];
    unsigned *now = rows[2];
    size_t size_a = strlen(a);
    size_t size_b = strlen(b);
    if (size_a > DISTANCE_TEXT || size_b > DISTANCE_TEXT) {
        return UINT32_MAX;
    }
    memset(rows, 0, sizeof(rows));
    for (unsigned j = 0; j <= size_b; j++) {
        above[j] = j;
    }
    for (unsigned i = 1; i <= size_a; i++) {
        now[0] = i;
        for (unsigned j = 1; j <= size_b; j++) {
            unsigned change = a[i - 1] == b[j - 1] ? 0 : 1;
            now[j] = least(above[j] + 1, now[j - 1] + 1, above[j - 1] + change);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < now[j]) {
                now[j] = before[j - 2] + 1;
            }
        }
        unsigned *free_row = before;
        before = above;
        above = now;
        now = free_row;
    }
    return above[size_b];
}

const char *cli_nearest(const char *word, const char *const *candidates, unsigned count)
{
    const char *best = NULL;
    unsigned best_distance = DISTANCE_MAX + 1;
    size_t length = strlen(word);
    for (unsigned i = 0; i < count; i++) {
        unsigned d = distance(word, candidates[i]);
        /* Two edits of a two-letter word are another word. */
        if (d < best_distance && d < length) {
            best_distance = d;
            best = candidates[i];
        }
    }
    return best;
}

/* ---- commands by their words ---- */

/* Number of words of a command's name when `words` starts with them, else 0. */
static unsigned
name_matches(const char *name, const char *const *words, unsigned word_count)
{
    unsigned used = 0;
    while (*name != '\0') {
        size_t length = strcspn(name, " ");
        if (used == word_count || strlen(words[used]) != length ||
            memcmp(words[used], name, length) != 0) {
            return 0;
        }
        used++;
        name += length + strspn(name + length, " ");
    }
    return used;
}

const struct cli_command *
cli_command_find(const char *const *words, unsigned count, unsigned *ret_used)
{
    const struct cli_command *found = NULL;
    *ret_used = 0;
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        unsigned used = name_matches(row->name, words, count);
        if (used > *ret_used) {
            *ret_used = used;
            found = row;
        }
    }
    return found;
}

static int fail_command(struct cli *cli, const char *word)
{
    const char *names[NAMES_MAX];
    unsigned count = 0;
    char list[512] = "";
    size_t at = 0;
    size_t length = strlen(word);
    for (const struct cli_command *row = cli_commands;
         row->name != NULL && count < NAMES_MAX; row++) {
        names[count++] = row->name;
        if (strncmp(row->name, word, length) == 0 && row->name[length] == ' ' &&
            at < sizeof(list)) {
            at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s",
                                   at > 0 ? ", " : "", row->name);
        }
    }
    if (at > 0) {
        return cli_fail(cli, EXIT_USAGE, "\"%s\" needs a second word: %s", word, list);
    }
    const char *nearest = cli_nearest(word, names, count);
    return nearest != NULL
               ? cli_fail(cli, EXIT_USAGE,
                          "there is no command \"%s\"; did you mean \"%s\"?", word,
                          nearest)
               : cli_fail(cli, EXIT_USAGE,
                          "there is no command \"%s\"; berth help lists them", word);
}

/* ---- flags ---- */

static const struct cli_flag_spec *
flag_in(const struct cli_flag_spec *specs, const char *name, size_t length, char letter)
{
    for (; specs->name != NULL; specs++) {
        if (letter != 0 ? specs->letter == letter
                        : strlen(specs->name) == length &&
                              memcmp(specs->name, name, length) == 0) {
            return specs;
        }
    }
    return NULL;
}

/* The command's own flags go first: -f is a file for one and "follow" for another. */
static const struct cli_flag_spec *flag_find(const struct cli_command *command,
                                             const char *name,
                                             size_t length,
                                             char letter,
                                             bool *ret_global)
{
    const struct cli_flag_spec *spec =
        command != NULL ? flag_in(command->flags, name, length, letter) : NULL;
    *ret_global = spec == NULL;
    return spec != NULL ? spec : flag_in(cli_global_flags, name, length, letter);
}

static int fail_flag(struct cli *cli, const struct cli_command *command, const char *text)
{
    const char *names[NAMES_MAX];
    unsigned count = 0;
    for (const struct cli_flag_spec *spec = cli_global_flags; spec->name != NULL;
         spec++) {
        names[count++] = spec->name;
    }
    for (unsigned i = 0; command != NULL && command->flags[i].name != NULL; i++) {
        names[count++] = command->flags[i].name;
    }
    char name[DISTANCE_TEXT + 1];
    const char *bare = text + strspn(text, "-");
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(bare, "="), bare);
    const char *nearest = text[1] == '-' ? cli_nearest(name, names, count) : NULL;
    if (nearest != NULL) {
        return cli_fail(cli, EXIT_USAGE, "there is no flag %s; did you mean --%s?", text,
                        nearest);
    }
    return cli_fail(cli, EXIT_USAGE, "there is no flag %s; see berth %s%s--help", text,
                    command != NULL ? command->name : "", command != NULL ? " " : "");
}

static int take_format(struct cli *cli, const char *text)
{
    for (unsigned i = 0; i < FORMAT_COUNT; i++) {
        if (strcmp(cli_format_names[i], text) == 0) {
            cli->format = (enum cli_format)i;
            return EXIT_OK;
        }
    }
    return cli_fail(cli, EXIT_USAGE,
                    "--output: wanted table, wide, json, yaml or name, not \"%s\"", text);
}

static int take_global(struct cli *cli, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **text;
        bool *flag;
    } rows[] = {
        {"tenant", &cli->tenant, NULL},     {"server", &cli->server, NULL},
        {"state", &cli->state, NULL},       {"token", &cli->token, NULL},
        {"pin", &cli->pin, NULL},           {"yes", NULL, &cli->yes},
        {"quiet", NULL, &cli->quiet},       {"help", NULL, &cli->help},
        {"no-color", NULL, &cli->no_color},
    };
    if (strcmp(name, "output") == 0) {
        return take_format(cli, value);
    }
    cli->state_given = cli->state_given || strcmp(name, "state") == 0;
    cli->token_from = strcmp(name, "token") == 0 ? "--token" : cli->token_from;
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        if (strcmp(rows[i].name, name) == 0 && rows[i].text != NULL) {
            *rows[i].text = value;
        } else if (strcmp(rows[i].name, name) == 0 && rows[i].flag != NULL) {
            *rows[i].flag = true;
        }
    }
    return EXIT_OK;
}

static int take_flag(struct cli *cli,
                     const struct cli_flag_spec *spec,
                     bool global,
                     const char *value)
{
    if (global) {
        return take_global(cli, spec->name, value);
    }
    if (cli->given_count == CLI_GIVEN_MAX) {
        return cli_fail(cli, EXIT_USAGE, "more than %d flags", CLI_GIVEN_MAX);
    }
    cli->given_names[cli->given_count] = spec->name;
    cli->given_values[cli->given_count++] = value;
    return EXIT_OK;
}

/* One walk over argv. Without a command (first walk) words are gathered and what is no
 * global flag is passed over, as it may be the command's. */
struct walk {
    int argc;
    char **argv;
    int at;
    const char *words[CLI_WORDS_MAX];
    unsigned word_count;
};

static int
walk_flag(struct cli *cli, struct walk *walk, const struct cli_command *command)
{
    const char *text = walk->argv[walk->at];
    bool is_long = text[1] == '-';
    const char *name = text + (is_long ? 2 : 1);
    size_t length = is_long ? strcspn(name, "=") : 1;
    const char *value = name[length] == '\0'  ? NULL
                        : name[length] == '=' ? name + length + 1
                                              : name + length;
    bool global = false;
    const struct cli_flag_spec *spec =
        flag_find(command, name, length, is_long ? '\0' : text[1], &global);
    if (spec == NULL) {
        return fail_flag(cli, command, text);
    }
    if (spec->argument == NULL && value != NULL) {
        return cli_fail(cli, EXIT_USAGE, "--%s takes no value", spec->name);
    }
    if (spec->argument != NULL && value == NULL) {
        if (walk->at + 1 == walk->argc) {
            return cli_fail(cli, EXIT_USAGE, "--%s needs a value: %s", spec->name,
                            spec->argument);
        }
        value = walk->argv[++walk->at];
    }
    return take_flag(cli, spec, global, value != NULL ? value : "");
}

static int walk_all(struct cli *cli, struct walk *walk, const struct cli_command *command)
{
    bool flags = true;
    for (; walk->at < walk->argc; walk->at++) {
        const char *text = walk->argv[walk->at];
        if (flags && strcmp(text, "--") == 0) {
            flags = false;
        } else if (flags && text[0] == '-' && text[1] != '\0' &&
                   (text[1] < '0' ||
                    text[1] > '9')) { /* -1 is a number, if a wrong one */
            int code = walk_flag(cli, walk, command);
            if (code != EXIT_OK) {
                return code;
            }
        } else if (walk->word_count == CLI_WORDS_MAX) {
            return cli_fail(cli, EXIT_USAGE, "more than %d words", CLI_WORDS_MAX);
        } else {
            walk->words[walk->word_count++] = text;
        }
    }
    return EXIT_OK;
}

/* Global flags may stand before the command: the command begins at the first word. */
static int walk_to_command(struct cli *cli, struct walk *walk)
{
    for (; walk->at < walk->argc; walk->at++) {
        const char *text = walk->argv[walk->at];
        if (text[0] != '-') {
            return EXIT_OK;
        }
        int code = walk_flag(cli, walk, NULL);
        if (code != EXIT_OK) {
            return code;
        }
    }
    return EXIT_OK;
}

static int check_words(struct cli *cli)
{
    const struct cli_command *command = cli->command;
    if (cli->help) {
        return EXIT_OK;
    }
    if (cli->word_count < command->words_min) {
        return cli_fail(cli, EXIT_USAGE, "berth %s needs %s; see berth %s --help",
                        command->name, command->arguments, command->name);
    }
    if (cli->word_count > command->words_max) {
        return cli_fail(cli, EXIT_USAGE, "berth %s: unexpected \"%s\"", command->name,
                        cli->words[command->words_max]);
    }
    return EXIT_OK;
}

static void read_environment(struct cli *cli)
{
    static const char *const names[] = {"BERTH_STATE", "BERTH_SERVER", "BERTH_TOKEN",
                                        "BERTH_TENANT", "BERTH_PIN"};
    const char **const places[] = {&cli->state, &cli->server, &cli->token, &cli->tenant,
                                   &cli->pin};
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        const char *value = getenv(names[i]); // NOLINT(concurrency-mt-unsafe)
        if (value != NULL && value[0] != '\0') {
            *places[i] = value;
            cli->token_from = places[i] == &cli->token ? names[i] : cli->token_from;
            cli->state_given = cli->state_given || i == 0;
        }
    }
    const char *no_color = getenv("NO_COLOR"); // NOLINT(concurrency-mt-unsafe)
    cli->no_color = no_color != NULL && no_color[0] != '\0';
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
    struct walk walk = {.argc = argc, .argv = argv, .at = 1};
    unsigned used = 0;
    read_environment(cli);
    cli->state = cli->state != NULL ? cli->state : STATE_DEFAULT;
    int code = walk_to_command(cli, &walk);
    if (code != EXIT_OK || walk.at == argc) {
        return code;
    }
    cli->command = cli_command_find((const char *const *)(uintptr_t)(argv + walk.at),
                                    (unsigned)(argc - walk.at), &used);
    if (cli->command == NULL) {
        return fail_command(cli, argv[walk.at]);
    }
    walk.at += (int)used;
    code = walk_all(cli, &walk, cli->command);
    memcpy(cli->words, walk.words, sizeof(walk.words[0]) * walk.word_count);
    cli->word_count = walk.word_count;
    return code != EXIT_OK ? code : check_words(cli);
}
