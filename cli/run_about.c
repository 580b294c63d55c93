/* version, schema, help. */
#include "base/cleanup.h"
#include "base/version.h"
#include "cli/completion.h"
#include "cli/connection.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/run.h"
#include "config/config.h"

#include <string.h>

#define TOPICS_MAX 64

int run_schema(struct cli *cli)
{
    CLEANUP_FREE char *schema = config_json_schema();
    if (schema == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    if (output_is_document(cli)) {
        CLEANUP_JSON json_t *document = NULL;
        return json_parse(schema, strlen(schema), &document, NULL) == 0
                   ? output_document(cli, document)
                   : cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    fprintf(cli->out, "%s\n", schema);
    return EXIT_OK;
}

int run_completion(struct cli *cli)
{
    if (strcmp(cli->words[0], "bash") == 0) {
        completion_bash(cli->out);
    } else if (strcmp(cli->words[0], "zsh") == 0) {
        completion_zsh(cli->out);
    } else {
        return cli_fail(cli, EXIT_USAGE, "wanted bash or zsh, not \"%s\"", cli->words[0]);
    }
    return EXIT_OK;
}

/* What the server says at that path, under that name, or nothing. */
static void ask(struct http *http, const char *path, json_t *document, const char *name)
{
    struct http_answer answer = {0};
    if (http_try(http, "GET", path, NULL, &answer) == 0 && answer.status == 200) {
        json_object_set(document, name, answer.document);
    }
    http_answer_fini(&answer);
}

static void print_level(struct cli *cli, const json_t *level)
{
    json_int_t at = json_integer_value(json_object_get(level, "level"));
    json_int_t next = json_integer_value(json_object_get(level, "next"));
    const char *waits = json_member_text(level, "waits", "");
    fprintf(cli->out, "level   %" JSON_INTEGER_FORMAT, at);
    if (next > at && waits[0] != '\0') {
        fprintf(cli->out, "; %" JSON_INTEGER_FORMAT " waits: %s", next, waits);
    }
    fputc('\n', cli->out);
}

/* A server that says nothing of levels is of before there were any: its state is of the
 * first. */
static void print_levels_known(struct cli *cli, const json_t *server)
{
    json_int_t most = json_integer_value(json_object_get(server, "levelMax"));
    json_int_t least = json_integer_value(json_object_get(server, "levelMin"));
    if (most == 0) {
        fputs("level 1", cli->out);
    } else {
        fprintf(cli->out, "levels %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT,
                least, most);
    }
}

static void print_versions(struct cli *cli, const json_t *document)
{
    const json_t *server = json_object_get(document, "server");
    const json_t *level = json_object_get(document, "level");
    fprintf(cli->out, "berth   %s\n", BERTH_VERSION);
    if (server == NULL) {
        fputs("berthd  not reached\n", cli->out);
        return;
    }
    const char *leader = json_member_text(server, "leader", "");
    fprintf(cli->out, "berthd  %s (host %s, leader %s, API %s, ",
            json_member_text(server, "version", "?"),
            json_member_text(server, "host", "?"), leader[0] != '\0' ? leader : "none",
            json_member_text(server, "api", "?"));
    print_levels_known(cli, server);
    fputs(")\n", cli->out);
    if (level != NULL) {
        print_level(cli, level);
    }
}

int run_version(struct cli *cli)
{
    CLEANUP_JSON json_t *document = json_pack("{s:s}", "berth", BERTH_VERSION);
    struct http *http = cli_flag(cli, "local") == NULL ? connection_http(cli) : NULL;
    if (http != NULL) {
        ask(http, "/v1/version", document, "server");
    }
    if (json_object_get(document, "server") != NULL) {
        ask(http, "/v1/level", document, "level");
    }
    if (output_is_document(cli)) {
        return output_document(cli, document);
    }
    print_versions(cli, document);
    return EXIT_OK;
}

static int help_unknown(struct cli *cli, const char *word)
{
    const char *names[TOPICS_MAX];
    unsigned count = 0;
    for (const struct cli_command *row = cli_commands;
         row->name != NULL && count < TOPICS_MAX; row++) {
        names[count++] = row->name;
    }
    count += help_topic_names(names + count, TOPICS_MAX - count);
    const char *nearest = cli_nearest(word, names, count);
    return nearest != NULL
               ? cli_fail(cli, EXIT_USAGE, "no help on \"%s\"; did you mean \"%s\"?",
                          word, nearest)
               : cli_fail(cli, EXIT_USAGE,
                          "no help on \"%s\"; berth help lists the commands", word);
}

int run_help(struct cli *cli)
{
    unsigned used = 0;
    if (cli->word_count == 0) {
        help_overview(cli->out);
        return EXIT_OK;
    }
    const struct cli_command *command =
        cli_command_find(cli->words, cli->word_count, &used);
    if (command != NULL) {
        help_command(cli->out, command);
        return EXIT_OK;
    }
    if (cli->word_count == 1 && help_family(cli->out, cli->words[0])) {
        return EXIT_OK;
    }
    if (strcmp(cli->words[0], "reference") == 0) {
        help_reference(cli->out);
        return EXIT_OK;
    }
    return help_topic(cli->out, cli->words[0]) ? EXIT_OK
                                               : help_unknown(cli, cli->words[0]);
}
