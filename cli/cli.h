/* The CLI's shared ground: what a command gets, how it speaks, how it ends.
 *
 * Shapes: struct cli is one invocation: global flags, the command's own flags and words,
 * streams, the connection (made at first use, so that help costs nothing). Commands are
 * rows of one table (cli/commands.c), which gives parsing, help, reference and dispatch.
 * Streams: results on out, everything else on err; tests put memory there. Threads: one.
 * Ownership: words and flag values borrow argv. Exit codes: enum cli_exit.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum cli_exit {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2, /* usage or validation */
    EXIT_NOT_FOUND = 3,
    EXIT_CONFLICT = 4, /* or a stale plan */
    EXIT_CAPACITY = 5, /* or quota */
    EXIT_AUTH = 6,
    EXIT_TIMED_OUT =
        7,            /* not by --timeout; what was waited for goes on, a join does not */
    EXIT_CHANGES = 8, /* plan --exit-code: there are changes */
    EXIT_UNREACHABLE = 9,
};

enum cli_format {
    FORMAT_TABLE = 0,
    FORMAT_WIDE,
    FORMAT_JSON,
    FORMAT_YAML,
    FORMAT_NAME,
    FORMAT_COUNT
};
extern const char *const cli_format_names[]; /* NULL-terminated */

#define CLI_WORDS_MAX 1000 /* files of a large folder, names of a large rm */
#define CLI_FLAGS_MAX 24   /* different flags of one command */
#define CLI_GIVEN_MAX 96   /* flags on one command line, labels among them */

/* A flag of a command: its value is found by name with cli_flag. */
struct cli_flag_spec {
    const char *name;     /* without -- */
    char letter;          /* or 0 */
    const char *argument; /* NULL: takes none */
    const char *help;
};

/* What -o json, yaml and name give; a format that there is not is wrong usage. */
enum cli_documents {
    DOCUMENTS_ALL = 0, /* all three */
    DOCUMENTS_UNNAMED, /* no name: it is about no object */
    DOCUMENTS_NONE,    /* none: it prints no object of the API */
};

struct cli;
struct cli_command {
    const char *group;     /* heading in help */
    const char *name;      /* "host ls" */
    const char *arguments; /* "KIND/NAME..." for the usage line, or NULL */
    const char *summary;
    const char *more;     /* paragraphs for its own help, or NULL */
    const char *examples; /* lines, each a command */
    unsigned words_min;
    unsigned words_max;
    int (*run)(struct cli *cli);
    enum cli_documents documents;
    struct cli_flag_spec flags[CLI_FLAGS_MAX + 1]; /* ends with a NULL name */
};

struct http;
struct cli {
    const struct cli_command *command;
    FILE *out;
    FILE *err;
    bool in_tty;
    bool out_tty;
    bool err_tty;
    /* global flags */
    const char *state;  /* state folder of the local berthd */
    const char *server; /* as given, or NULL: the local socket */
    const char *token;
    const char *token_from; /* "--token" or "BERTH_TOKEN" */
    const char *pin;        /* of the server: one, or several joined by ; */
    const char *tenant;     /* -t, or NULL */
    enum cli_format format;
    bool no_color;
    bool quiet;
    bool yes;
    bool help;
    bool state_given;
    /* the command's own */
    const char *words[CLI_WORDS_MAX];
    unsigned word_count;
    const char *given_names[CLI_GIVEN_MAX];
    const char *given_values[CLI_GIVEN_MAX];
    unsigned given_count;
    struct http *http;         /* made at first use */
    struct connection *target; /* what http borrows */
    int connect_code;          /* why there is no http, as an exit code; or 0 */
};

/* The command table, ended by a NULL name, and the flags every command takes. */
extern const struct cli_command cli_commands[];
extern const struct cli_flag_spec cli_global_flags[];

/* Value of a flag ("" for one without argument), or NULL when it was not given. */
const char *cli_flag(const struct cli *cli, const char *name);
/* All values of a repeatable flag: *cursor starts at 0; NULL at the end. */
const char *cli_flag_next(const struct cli *cli, const char *name, unsigned *cursor);
/* A duration flag in ms, or the fallback; EXIT_OK or EXIT_USAGE (said). */
int cli_flag_duration(struct cli *cli,
                      const char *name,
                      uint64_t fallback_ms,
                      uint64_t *ret_ms);

/* Fills the invocation from argv (and the environment); EXIT_OK or EXIT_USAGE (said).
 * cli->command is NULL when there is no word at all. */
int cli_parse(struct cli *cli, int argc, char **argv);
/* Parses, dispatches, ends; the exit code. `cli` has its streams set. */
int cli_main(struct cli *cli, int argc, char **argv);

/* Says a fault on err, "berth: ...", and returns the code. */
int cli_fail(struct cli *cli, enum cli_exit code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A line of progress or advice on err, unless --quiet. */
void cli_note(struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The command whose words argv starts with, and how many words it has; NULL when none. */
const struct cli_command *
cli_command_find(const char *const *words, unsigned count, unsigned *ret_used);
/* The candidate within edit distance 2 of word that is nearest, or NULL. */
const char *cli_nearest(const char *word, const char *const *candidates, unsigned count);

static inline void cli_json_drop(json_t **document)
{
    json_decref(*document);
}
#define CLEANUP_JSON __attribute__((cleanup(cli_json_drop)))
