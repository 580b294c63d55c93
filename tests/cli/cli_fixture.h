/* The CLI in the test's own process: an invocation with memory for streams.
 *
 * cli_given(words...) parses a command line; what it said is in cli_out() and cli_err().
 * For whole commands against a server see berth_fixture.h.
 */
#pragma once

#include "cli/cli.h"
#include "support/test_main.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 32

static struct cli cli;
static char *cli_out_text;
static char *cli_err_text;
static size_t cli_out_size;
static size_t cli_err_size;

static inline void cli_drop(void)
{
    if (cli.out != NULL) {
        (void)fclose(cli.out);
        (void)fclose(cli.err);
    }
    free(cli_out_text);
    free(cli_err_text);
    cli_out_text = NULL;
    cli_err_text = NULL;
    memset(&cli, 0, sizeof(cli));
}

static inline void cli_fresh(void)
{
    static const char *const variables[] = {
        "BERTH_STATE", "BERTH_SERVER", "BERTH_TOKEN",   "BERTH_TENANT",
        "BERTH_PIN",   "NO_COLOR",     "BERTH_CONTEXT", "XDG_CONFIG_HOME"};
    cli_drop();
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        (void)unsetenv(variables[i]);
    }
    cli.out = open_memstream(&cli_out_text, &cli_out_size);
    cli.err = open_memstream(&cli_err_text, &cli_err_size);
    ck_assert(cli.out != NULL && cli.err != NULL);
}

static inline const char *cli_out(void)
{
    (void)fflush(cli.out);
    return cli_out_text;
}

static inline const char *cli_err(void)
{
    (void)fflush(cli.err);
    return cli_err_text;
}

static char *cli_line; /* what argv borrows */

/* Parses "ls vm -t shop" into a fresh invocation; words are divided by blanks. */
static inline int cli_given(const char *line)
{
    static char name[] = "berth";
    static char *argv[WORDS_MAX];
    int argc = 0;
    cli_fresh();
    free(cli_line);
    cli_line = strdup(line);
    ck_assert_ptr_nonnull(cli_line);
    argv[argc++] = name;
    for (char *at = cli_line; *at != '\0' && argc < WORDS_MAX - 1;) {
        argv[argc++] = at;
        at += strcspn(at, " ");
        while (*at == ' ') {
            *at++ = '\0';
        }
    }
    argv[argc] = NULL;
    return cli_parse(&cli, argc, argv);
}

static inline void cli_stop(void)
{
    cli_drop();
    free(cli_line);
    cli_line = NULL;
}

/* A document from its text, quotes written as '. */
static inline json_t *doc(const char *text)
{
    json_t *document = NULL;
    char *copy = strdup(text);
    ck_assert_ptr_nonnull(copy);
    for (char *c = copy; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    ck_assert_msg(json_parse(copy, strlen(copy), &document, NULL) == 0, "%s", copy);
    free(copy);
    return document;
}

static inline Suite *cli_suite(const char *name, TCase **ret_case)
{
    Suite *suite = suite_create(name);
    *ret_case = tcase_create(name);
    tcase_add_checked_fixture(*ret_case, cli_fresh, cli_stop);
    tcase_set_timeout(*ret_case, 100);
    suite_add_tcase(suite, *ret_case);
    return suite;
}

#define ck_assert_contains(text, part) \
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" is not in \"%.2000s\"", part, text)
