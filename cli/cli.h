/* The CLI's shared ground: what a command gets, how it talks to the API, how it ends.
 *
 * Shapes: struct cli is one invocation: global flags, the command's own flags and words,
 * the connection. Commands are rows of one table (cli/commands.c), which gives parsing,
 * help and dispatch. Streams: results on stdout, everything else on stderr. No prompts.
 * Threads: one. Exit codes: enum cli_exit.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

enum cli_exit {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2, /* usage or validation */
    EXIT_NOT_FOUND = 3,
    EXIT_CONFLICT = 4, /* or a stale plan */
    EXIT_CAPACITY = 5, /* or quota */
    EXIT_AUTH = 6,
    EXIT_TIMED_OUT = 7, /* --wait gave up; the object is still working */
    EXIT_CHANGES = 8,   /* plan --exit-code: there are changes */
    EXIT_UNREACHABLE = 9,
};

enum cli_format { FORMAT_TABLE = 0, FORMAT_WIDE, FORMAT_JSON, FORMAT_YAML, FORMAT_NAME };

#define CLI_WORDS_MAX  64
#define CLI_FLAGS_MAX  24
#define CLI_LABELS_MAX 32

/* A flag of a command: its value is found by name with cli_flag. */
struct cli_flag_spec {
    const char *name;     /* without -- */
    char letter;          /* or 0 */
    const char *argument; /* NULL: takes none */
    const char *help;
};

struct cli;
struct cli_command {
    const char *name;      /* "host ls" */
    const char *arguments; /* "KIND/NAME..." for the usage line */
    const char *summary;
    const char *examples; /* lines, each a command */
    unsigned words_min;
    unsigned words_max;
    struct cli_flag_spec flags[CLI_FLAGS_MAX]; /* ends with a NULL name */
    int (*run)(struct cli *cli);
};

struct http;
struct cli {
    const struct cli_command *command;
    const char *program;
    const char *state;  /* state folder of the local berthd */
    const char *server; /* https://host:port, or NULL: the local socket */
    const char *tenant; /* -t, or NULL */
    enum cli_format format;
    bool no_color;
    bool quiet;
    const char *words[CLI_WORDS_MAX];
    unsigned word_count;
    const char *flag_names[CLI_FLAGS_MAX + CLI_LABELS_MAX];
    const char *flag_values[CLI_FLAGS_MAX + CLI_LABELS_MAX];
    unsigned flag_count;
    struct http *http; /* made at first use */
};

/* Value of a flag ("" for one without argument), or NULL when it was not given. */
const char *cli_flag(const struct cli *cli, const char *name);
/* The command table, ended by a NULL name. */
extern const struct cli_command cli_commands[];

/* Says a fault on stderr: "berth: ..." and returns the code. */
int cli_fail(enum cli_exit code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Exit code and text of a problem document or transport fault. */
struct http_answer;
int cli_problem(const struct http_answer *answer);

/* kind/name, tenant/kind/name, or a bare name (kind from `kind_hint`, may be NULL). */
struct cli_name {
    const char *plural;
    const char *word;
    char tenant[64]; /* "" for cluster-wide kinds */
    char name[64];
};
int cli_name_parse(const struct cli *cli,
                   const char *text,
                   const char *kind_hint,
                   struct cli_name *ret_name);
/* "/v1/tenants/shop/vms/web-1" + suffix into a fresh string. */
char *cli_path(const struct cli_name *name, const char *suffix);
/* "did you mean" among candidates; NULL when none is near. */
const char *cli_nearest(const char *word, const char *const *candidates, unsigned count);
