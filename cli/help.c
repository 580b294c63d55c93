#include "cli/help.h"

#include "base/cleanup.h"
#include "base/version.h"

#include <string.h>

#define TEXT_COLUMNS 78
#define LEFT_COLUMNS 26

struct topic {
    const char *name;
    const char *summary;
    const char *text;
};

static const struct topic topics[] = {
    {"names", "how objects are named",
     "An object is named kind/name, such as vm/web-1 or host/r1u04. A command that takes "
     "one\n"
     "kind only (console, scale, drain) takes the bare name as well.\n"
     "\n"
     "Templates, groups, VMs, networks and disks belong to a tenant. tenant/kind/name "
     "says it;\n"
     "so does -t TENANT or BERTH_TENANT for all names of a command. Where it is not "
     "said, it is\n"
     "found: the one tenant that has an object of that name. Images may belong to a "
     "tenant or to\n"
     "the cluster; hosts, tenants and tokens belong to the cluster.\n"},
    {"output", "formats and streams",
     "Results go to stdout; progress, advice and faults go to stderr. -o chooses the "
     "format:\n"
     "\n"
     "  table  columns for people (default); on a terminal a row is one line, with ... "
     "for\n"
     "         what is not shown, and columns may be left out; never in a pipe\n"
     "  wide   the same with all columns\n"
     "  json   the API's document: an object, or {\"items\": [...], \"revision\": N}\n"
     "  yaml   the same as YAML\n"
     "  name   kind/name, one a line, good for xargs berth rm\n"
     "\n"
     "Commands that change an object give it as it is afterwards (with --wait: after the "
     "wait);\n"
     "start, stop, restart, pause, resume and rm give {\"items\": [...]} of those that "
     "it "
     "was done\n"
     "to, rm as they last were. What they say in sentences goes to stderr then. A "
     "command\n"
     "without a document (down, login, console, completion, help) refuses these formats "
     "with\n"
     "exit code 2.\n"
     "\n"
     "Colours are used on a terminal only, and not with --no-color or NO_COLOR=1. -q "
     "leaves out\n"
     "progress and advice. Nothing is ever asked when stdin is no terminal.\n"},
    {"exit-codes", "what a script may rely on",
     "  0  done\n"
     "  1  failed\n"
     "  2  wrong usage, or the input is not valid\n"
     "  3  not found\n"
     "  4  conflict: changed in the meantime, in use, or not in this phase\n"
     "  5  no capacity, or the quota does not allow it\n"
     "  6  not authenticated, or not allowed\n"
     "  7  not done by --timeout. --wait gave up, or up: berthd is not up yet, or down: "
     "it "
     "has not\n"
     "     ended; they go on with it. join: nobody let this host in; what was begun is "
     "undone\n"
     "  8  plan --exit-code: there are changes\n"
     "  9  the server cannot be reached, or the cluster has no leader\n"},
    {"environment", "variables and files",
     "  BERTH_STATE    state folder of the local berthd, as --state\n"
     "  BERTH_SERVER   server to ask over HTTPS, as --server\n"
     "  BERTH_TOKEN    access token, as --token, but not in the process list\n"
     "  BERTH_PIN      key of the server, as --pin; sha256//A;sha256//B for any of two "
     "hosts\n"
     "  BERTH_TENANT   tenant, as -t\n"
     "  BERTH_CONTEXT  the file that `berth login` writes "
     "(~/.config/berth/context.json)\n"
     "  NO_COLOR       no colours\n"
     "\n"
     "Without --server or --state berth asks the local berthd when its socket is there, "
     "else the\n"
     "server of the last `berth login`. A token that is said is sent to either; to the "
     "local\n"
     "berthd its rights then count, not those of root.\n"},
    {"roles", "who may do what",
     "A token has a role in the cluster or, with --tenant, in one tenant; members of a "
     "Tenant\n"
     "have theirs there. Each role may all that the one before it may:\n"
     "\n"
     "            in a tenant                           in the whole cluster\n"
     "  viewer    see its VMs, groups, templates,       see hosts and every tenant's "
     "objects;\n"
     "            networks, images and events           read the metrics\n"
     "  operator  make, change and remove them; scale,  the same in every tenant\n"
     "            start, stop, restart, pause, use\n"
     "            consoles; upload image files\n"
     "  admin     (as operator)                         tenants and quotas, cluster-wide "
     "images,\n"
     "                                                  hosts (drain, rm), tokens, join "
     "tokens,\n"
     "                                                  backups\n"
     "\n"
     "Cluster-wide images may be seen by all. Root on a voter, asking its berthd by the "
     "socket\n"
     "without a token, is an admin of the cluster. `berth token create NAME --role ROLE\n"
     "[--tenant TENANT]` makes a token; a denied command ends with exit code 6.\n"},
    {"waiting", "--wait, time-outs and repeats",
     "--wait ends when every VM concerned is ready: running, and passing its probe when "
     "it has\n"
     "one. Each VM's boot is shown step by step. When --timeout ends it (exit code 7) "
     "the cluster\n"
     "goes on; the text says which step is slow, since when, and the last line of the "
     "console.\n"
     "When a quota is all that keeps VMs from being made, that is told at once, and the "
     "wait "
     "ends\n"
     "with exit code 5 as soon as nothing of the tenant is on its way out. A VM that no "
     "host "
     "takes is\n"
     "told at once too, but waited for: any host may come back or get room.\n"
     "\n"
     "Requests that got no answer are repeated for some seconds with the same "
     "Idempotency-Key: the\n"
     "cluster does nothing twice. Ctrl-C ends berth only, never what it asked for.\n"},
};

/* Words of `text` in lines of TEXT_COLUMNS, each line after `indent` blanks. */
static void wrap(FILE *stream, const char *text, int indent)
{
    int column = 0;
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (column > 0 && column + 1 + length > TEXT_COLUMNS) {
            fputc('\n', stream);
            column = 0;
        }
        fprintf(stream, "%*s%.*s", column == 0 ? indent : 1, "", length, text);
        column += length + (column == 0 ? indent : 1);
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', stream);
}

static void print_lines(FILE *stream, const char *lines, const char *before)
{
    while (*lines != '\0') {
        int length = (int)strcspn(lines, "\n");
        fprintf(stream, "%s%.*s\n", before, length, lines);
        lines += length + (lines[length] == '\n' ? 1 : 0);
    }
}

static void print_flags(FILE *stream, const struct cli_flag_spec *flags)
{
    for (; flags->name != NULL; flags++) {
        char left[64];
        char letter[8] = "    ";
        if (flags->letter != 0) {
            (void)snprintf(letter, sizeof(letter), "-%c, ", flags->letter);
        }
        (void)snprintf(left, sizeof(left), "%s--%s%s%s", letter, flags->name,
                       flags->argument != NULL ? " " : "",
                       flags->argument != NULL ? flags->argument : "");
        fprintf(stream, "  %-*s %s\n", LEFT_COLUMNS, left, flags->help);
    }
}

static void print_usage(FILE *stream, const struct cli_command *command)
{
    fprintf(stream, "berth %s%s%s%s", command->name,
            command->arguments != NULL ? " " : "",
            command->arguments != NULL ? command->arguments : "",
            command->flags[0].name != NULL ? " [flags]" : "");
}

void help_overview(FILE *stream)
{
    const char *group = "";
    fprintf(stream,
            "berth %s: VMs on a rack of hosts\n\nusage: berth [flags] COMMAND "
            "[arguments] [flags]\n",
            BERTH_VERSION);
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        char left[64];
        if (strcmp(group, row->group) != 0) {
            group = row->group;
            fprintf(stream, "\n%s\n", group);
        }
        (void)snprintf(left, sizeof(left), "%s%s%s", row->name,
                       row->arguments != NULL ? " " : "",
                       row->arguments != NULL ? row->arguments : "");
        fprintf(stream, "  %-*s %s\n", LEFT_COLUMNS, left, row->summary);
    }
    fprintf(stream, "\nFlags of every command\n");
    print_flags(stream, cli_global_flags);
    fprintf(stream,
            "\nBegin with `berth up`. `berth COMMAND --help` has examples; `berth "
            "help topics` more.\n");
}

void help_command(FILE *stream, const struct cli_command *command)
{
    fprintf(stream, "berth %s: %s\n\nusage: ", command->name, command->summary);
    print_usage(stream, command);
    fputc('\n', stream);
    if (command->more != NULL) {
        fputc('\n', stream);
        wrap(stream, command->more, 0);
    }
    fprintf(stream, "\nExamples\n");
    print_lines(stream, command->examples, "  ");
    if (command->flags[0].name != NULL) {
        fprintf(stream, "\nFlags\n");
        print_flags(stream, command->flags);
    }
    fprintf(stream, "\nFlags of every command\n");
    print_flags(stream, cli_global_flags);
}

bool help_family(FILE *stream, const char *word)
{
    size_t length = strlen(word);
    bool found = false;
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        if (strncmp(row->name, word, length) == 0 && row->name[length] == ' ') {
            char left[64];
            (void)snprintf(left, sizeof(left), "%s%s%s", row->name,
                           row->arguments != NULL ? " " : "",
                           row->arguments != NULL ? row->arguments : "");
            fprintf(stream, "  %-*s %s\n", LEFT_COLUMNS, left, row->summary);
            found = true;
        }
    }
    if (found) {
        fprintf(stream, "\n`berth help %s WORD` has examples.\n", word);
    }
    return found;
}

bool help_topic(FILE *stream, const char *name)
{
    bool all = strcmp(name, "topics") == 0;
    for (size_t i = 0; i < ARRAY_COUNT(topics); i++) {
        if (all) {
            fprintf(stream, "  %-14s %s\n", topics[i].name, topics[i].summary);
        } else if (strcmp(name, topics[i].name) == 0) {
            fputs(topics[i].text, stream);
            return true;
        }
    }
    if (all) {
        fprintf(stream, "  %-14s %s\n", "reference",
                "all of it as Markdown (docs/cli.md)");
    }
    return all;
}

unsigned help_topic_names(const char **ret_names, unsigned max)
{
    unsigned count = 0;
    for (; count < ARRAY_COUNT(topics) && count < max; count++) {
        ret_names[count] = topics[count].name;
    }
    return count;
}

/* ---- reference ---- */

static void reference_flags(FILE *stream, const struct cli_flag_spec *flags)
{
    fprintf(stream, "\n| flag | meaning |\n| --- | --- |\n");
    for (; flags->name != NULL; flags++) {
        fprintf(stream, "| `--%s%s%s`", flags->name, flags->argument != NULL ? " " : "",
                flags->argument != NULL ? flags->argument : "");
        if (flags->letter != 0) {
            fprintf(stream, ", `-%c`", flags->letter);
        }
        fprintf(stream, " | %s |\n", flags->help);
    }
}

static void reference_command(FILE *stream, const struct cli_command *command)
{
    fprintf(stream, "\n### berth %s\n\n`", command->name);
    print_usage(stream, command);
    fprintf(stream, "`: %s.\n", command->summary);
    if (command->more != NULL) {
        fputc('\n', stream);
        wrap(stream, command->more, 0);
    }
    fprintf(stream, "\n```sh\n");
    print_lines(stream, command->examples, "");
    fprintf(stream, "```\n");
    if (command->flags[0].name != NULL) {
        reference_flags(stream, command->flags);
    }
}

void help_reference(FILE *stream)
{
    const char *group = "";
    fprintf(stream, "# The command line\n\n"
                    "Printed by `berth help reference` from the command table "
                    "(cli/commands.c): change it there.\n");
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        if (strcmp(group, row->group) != 0) {
            group = row->group;
            fprintf(stream, "\n## %s\n", group);
        }
        reference_command(stream, row);
    }
    fprintf(stream, "\n## Flags of every command\n");
    reference_flags(stream, cli_global_flags);
    for (size_t i = 0; i < ARRAY_COUNT(topics); i++) {
        fprintf(stream, "\n## %c%s: %s\n\n```text\n%s```\n",
                topics[i].name[0] - 'a' + 'A', topics[i].name + 1, topics[i].summary,
                topics[i].text);
    }
}
