/* events: what happened, one line each. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse_number.h"
#include "cli/event_list.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/sight.h"
#include "cli/timeline.h"
#include "cli/watching.h"

#include <inttypes.h>
#include <time.h>

#define FOLLOW_MS     500
#define LIMIT_DEFAULT 100
#define LIMIT_MAX     100000

struct asked {
    char filter[REMOTE_PATH_SIZE / 2]; /* "&kind=..&name=.." */
    uint64_t since;
    uint64_t limit; /* the newest so many are shown */
};

static int filter_make(struct cli *cli, struct asked *asked)
{
    const char *text = cli_flag(cli, "name");
    struct object_name name;
    char tenant[3 * NAME_SIZE] = "";
    size_t at = 0;
    if (cli->tenant != NULL) {
        remote_escape(cli->tenant, tenant, sizeof(tenant));
    }
    if (text != NULL) { /* what it names may be gone: it is not looked up */
        int code = object_name_parse(cli, text, KIND_NONE, &name);
        if (code != EXIT_OK) {
            return code;
        }
        at = (size_t)snprintf(asked->filter, sizeof(asked->filter), "&kind=%s&name=%s",
                              name.info->word, name.name);
        if (name.tenant[0] != '\0') {
            (void)snprintf(tenant, sizeof(tenant), "%s", name.tenant);
        }
    }
    unsigned cursor = 0;
    const char *kind = cli_flag_next(cli, "kind", &cursor);
    if (kind != NULL && cli_flag_next(cli, "kind", &cursor) != NULL) {
        return cli_fail(cli, EXIT_USAGE,
                        "--kind is given once: events of one kind, or "
                        "without it of all");
    }
    const struct kind_info *info = kind != NULL ? object_kind(cli, kind) : NULL;
    if (kind != NULL && info == NULL) {
        return EXIT_USAGE;
    }
    if (info != NULL && text != NULL && info != name.info) {
        return cli_fail(cli, EXIT_USAGE, "--kind %s: --name %s is %s %s", info->word,
                        text, kind_article(name.info), name.info->word);
    }
    if (info != NULL && text == NULL) {
        at = (size_t)snprintf(asked->filter, sizeof(asked->filter), "&kind=%s",
                              info->word);
    }
    if (tenant[0] != '\0') {
        (void)snprintf(asked->filter + at, sizeof(asked->filter) - at, "&tenant=%s",
                       tenant);
    }
    return EXIT_OK;
}

static int asked_read(struct cli *cli, struct asked *asked)
{
    const char *since = cli_flag(cli, "since");
    const char *limit = cli_flag(cli, "limit");
    struct err err;
    *asked = (struct asked){.limit = since != NULL ? LIMIT_MAX : LIMIT_DEFAULT};
    if (since != NULL && parse_u64(since, &asked->since, &err) < 0) {
        return cli_fail(cli, EXIT_USAGE, "--since: %s", err.text);
    }
    if (limit != NULL && (parse_u64(limit, &asked->limit, &err) < 0 ||
                          asked->limit == 0 || asked->limit > LIMIT_MAX)) {
        return cli_fail(cli, EXIT_USAGE, "--limit: wanted 1 to %d", LIMIT_MAX);
    }
    return filter_make(cli, asked);
}

static void newest_only(json_t *items, uint64_t limit)
{
    while (json_array_size(items) > limit) {
        (void)json_array_remove(items, 0); /* at most some thousands are held */
    }
}

static void print_items(struct cli *cli, const json_t *items, uint64_t limit)
{
    size_t count = json_array_size(items);
    for (size_t i = count > limit ? count - (size_t)limit : 0; i < count; i++) {
        const json_t *event = json_array_get(items, i);
        if (output_is_document(cli)) {
            CLEANUP_FREE char *text = json_text(event);
            output_json(cli, text != NULL ? text : "");
            fputc('\n', cli->out);
        } else {
            char line[EVENT_LINE_SIZE];
            event_format(cli, event, line);
            fprintf(cli->out, "%s\n", line);
        }
    }
}

/* A berthd that restarts, or a cluster that elects, is waited for as long as a watch
 * waits: what happened meanwhile is told then. */
static int follow(struct cli *cli, struct asked *asked)
{
    struct timespec pause = {.tv_nsec = FOLLOW_MS * 1000000L};
    uint64_t heard_ms = 0; /* 0: never */
    bool told = false;
    for (;;) {
        CLEANUP_JSON json_t *items = NULL;
        uint64_t now_ms = clock_now_ms(clock_system());
        bool patient = heard_ms != 0 && now_ms - heard_ms < WATCHING_PATIENCE_MS;
        int code = event_list_follow(cli, asked->filter, &asked->since, patient, &items);
        if (code != EXIT_OK) {
            return code;
        }
        if (items != NULL) {
            heard_ms = clock_now_ms(clock_system());
            print_items(cli, items, asked->limit);
            asked->limit = LIMIT_MAX;
        } else if (!told) {
            cli_note(cli, "no answer; waiting for one");
        }
        told = items == NULL;
        if (fflush(cli->out) != 0) {
            return EXIT_OK; /* cli_main sees faults of it */
        }
        (void)nanosleep(&pause, NULL); /* a signal ends the program or the pause */
    }
}

/* Of what was never there nothing can have happened. With --since that is no news of it.
 */
static int check_name(struct cli *cli)
{
    const char *text = cli_flag(cli, "name");
    CLEANUP_JSON json_t *object = NULL;
    struct object_name name;
    if (text == NULL || cli_flag(cli, "since") != NULL) {
        return EXIT_OK;
    }
    int code = object_name_find(cli, text, KIND_NONE, &name);
    code = code == EXIT_OK ? object_get(cli, &name, &object) : code;
    if (code == EXIT_OK) {
        cli_note(cli, "no event of %s is remembered", text);
    }
    return code;
}

int run_events(struct cli *cli)
{
    struct asked asked;
    CLEANUP_JSON json_t *items = NULL;
    int code = asked_read(cli, &asked);
    if (code != EXIT_OK) {
        return code;
    }
    if (!output_is_document(cli)) {
        sight_note(cli);
    }
    if (cli_flag(cli, "follow") != NULL) {
        return follow(cli, &asked);
    }
    code = event_list_get(cli, asked.filter, &asked.since, &items);
    if (code == EXIT_OK && json_array_size(items) == 0) {
        code = check_name(cli);
    }
    if (code == EXIT_OK && output_is_document(cli)) {
        newest_only(items, asked.limit);
        CLEANUP_JSON json_t *list =
            json_pack("{s:O, s:I}", "items", items, "revision", (json_int_t)asked.since);
        return output_document(cli, list);
    }
    print_items(cli, items, asked.limit);
    return code;
}
