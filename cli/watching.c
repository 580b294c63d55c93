#include "cli/watching.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse_number.h"
#include "cli/connection.h"
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/remote.h"
#include "cli/sse.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define RESUME_MS 500

struct watching {
    struct cli *cli;
    struct sse sse;
    uint64_t since;    /* where to go on */
    uint64_t latest;   /* revision of the last event */
    bool listing;      /* the objects as they are are coming */
    uint64_t heard_ms; /* when something last came */
    bool connected;    /* something has come, ever */
};

/* "desired 3  since 2026-10-01 12:00:00: scaled by root" */
static void describe_group(const json_t *status, char *ret_text, size_t size)
{
    const char *reason = json_member_text(status, "scaleReason", "");
    uint64_t scaled_ms = instant_parse(json_member_text(status, "scaled", ""));
    char since[INSTANT_TEXT_SIZE] = "?";
    if (scaled_ms != 0) {
        instant_format_local(scaled_ms, since);
    }
    (void)snprintf(ret_text, size, "desired %" PRIu64 "%s%.19s%s%s",
                   json_member_u64(status, "desired", 0),
                   reason[0] != '\0' ? "  since " : "", reason[0] != '\0' ? since : "",
                   reason[0] != '\0' ? ": " : "", reason);
}

/* Why it is not ready, and that it is drained; why it became ready again was said when it
 * did, and is no reason of what comes later. */
static void describe_host(const json_t *object, char *ret_text, size_t size)
{
    const json_t *spec = view_spec(object);
    const char *phase = view_phase(object, KIND_HOST);
    const char *why = json_member_text(spec, "drainReason", "");
    bool drained = json_is_true(json_object_get(spec, "drain"));
    bool ready = strcmp(phase, "ready") == 0;
    (void)snprintf(ret_text, size, "%-9s %s%s%s%s%s", phase, drained ? "drained" : "",
                   drained && why[0] != '\0' ? ": " : "", drained ? why : "",
                   drained && !ready ? "; " : "",
                   ready ? "" : json_member_text(view_status(object), "reason", ""));
}

/* "PHASE on HOST" and the like, in one short text per kind. */
static void
describe(const json_t *object, const struct kind_info *info, char *ret_text, size_t size)
{
    const json_t *status = view_status(object);
    if (info->kind == KIND_VM) {
        (void)snprintf(ret_text, size, "%-9s %-10s %-15s %s", view_phase(object, KIND_VM),
                       json_member_text(status, "host", "-"), view_vm_address(object),
                       json_member_text(status, "reason", ""));
    } else if (info->kind == KIND_HOST) {
        describe_host(object, ret_text, size);
    } else if (info->kind == KIND_GROUP) {
        describe_group(status, ret_text, size);
    } else {
        (void)snprintf(ret_text, size, "revision %" PRIu64,
                       json_member_u64(view_meta(object), "revision", 0));
    }
}

static void
print_change(struct watching *watching, const char *name, const json_t *object)
{
    struct cli *cli = watching->cli;
    bool gone = strcmp(name, "delete") == 0;
    const json_t *meta = gone ? object : view_meta(object);
    const struct kind_info *info =
        kind_info_by_name(json_member_text(object, "kind", ""));
    char label[OBJECT_LABEL_SIZE];
    char when[INSTANT_TEXT_SIZE];
    char text[CELL_SIZE * 2] = "gone";
    if (cli->format == FORMAT_JSON || cli->format == FORMAT_YAML) {
        CLEANUP_JSON json_t *line =
            json_pack("{s:s, s:O}", "event", name, "object", object);
        CLEANUP_FREE char *json = json_text(line);
        fprintf(cli->out, "%s\n", json != NULL ? json : "");
        return;
    }
    if (info == NULL) {
        return; /* of a newer server */
    }
    object_label(cli, info->word, json_member_text(meta, "tenant", ""),
                 json_member_text(meta, "name", ""), label);
    if (!gone) {
        describe(object, info, text, sizeof(text));
    }
    instant_format_local(clock_wall_ms(clock_system()), when);
    if (cli->format == FORMAT_NAME) {
        fprintf(cli->out, "%s\n", label);
    } else {
        size_t end = strlen(text);
        while (end > 0 && text[end - 1] == ' ') {
            end--;
        }
        fprintf(cli->out, "%s  %-24s %.*s\n", when + 11 /* the time alone */, label,
                (int)end, text);
    }
}

/* Where a new connection would go on. A revision may hold several changes, and the
 * listing at the start is one revision: only what is surely complete is not asked for
 * again. */
static void advance(struct watching *watching, const char *name, const char *id)
{
    uint64_t revision = 0;
    if (parse_u64(id, &revision, NULL) < 0) {
        return;
    }
    if (strcmp(name, "bookmark") == 0) {
        watching->listing = false;
        watching->since = revision;
    } else if (!watching->listing && revision > watching->latest) {
        watching->since =
            watching->latest > watching->since ? watching->latest : watching->since;
    }
    watching->latest = revision;
}

static bool
take_event(void *context, const char *name, const char *id, const char *data, size_t size)
{
    struct watching *watching = context;
    CLEANUP_JSON json_t *object = NULL;
    watching->heard_ms = clock_now_ms(clock_system());
    if (strcmp(name, "reset") == 0) { /* the objects as they are follow */
        cli_note(watching->cli, "the server no longer has all changes since then: the "
                                "objects as they are");
        watching->since = 0;
        watching->latest = 0;
        watching->listing = true;
        return true;
    }
    advance(watching, name, id);
    if (strcmp(name, "bookmark") == 0 || json_parse(data, size, &object, NULL) < 0) {
        return true;
    }
    print_change(watching, name, object);
    return fflush(watching->cli->out) == 0;
}

static bool take_bytes(void *context, const char *data, size_t size)
{
    struct watching *watching = context;
    watching->connected = true;
    return sse_feed(&watching->sse, data, size);
}

static void path_make(const struct watching *watching,
                      const struct kind_info *const *kinds,
                      unsigned kind_count,
                      char *ret_path,
                      size_t capacity)
{
    const char *tenant = watching->cli->tenant;
    char escaped[3 * NAME_SIZE] = "";
    size_t at =
        (size_t)snprintf(ret_path, capacity, "/v1/watch?since=%" PRIu64, watching->since);
    for (unsigned i = 0; i < kind_count && at < capacity; i++) {
        at += (size_t)snprintf(ret_path + at, capacity - at, "%s%s",
                               i == 0 ? "&kinds=" : ",", kinds[i]->word);
    }
    if (tenant != NULL && at < capacity) {
        remote_escape(tenant, escaped, sizeof(escaped));
        (void)snprintf(ret_path + at, capacity - at, "&tenant=%s", escaped);
    }
}

/* One connection; EXIT_OK when it may be resumed. */
static int watch_once(struct watching *watching, const char *path)
{
    struct http_answer answer = {0};
    struct cli *cli = watching->cli;
    struct http *http = connection_http(cli);
    if (http == NULL) {
        return EXIT_FAILED;
    }
    int r = http_stream(http, path, take_bytes, watching, &answer);
    uint64_t silent_ms = clock_now_ms(clock_system()) - watching->heard_ms;
    int code = EXIT_OK;
    if (r == 0 && answer.status >= 300 && answer.status != 503) {
        code = remote_problem(cli, &answer);
    } else if (silent_ms > WATCHING_PATIENCE_MS || (r < 0 && !watching->connected)) {
        code =
            cli_fail(cli, EXIT_UNREACHABLE, "the watch ended and cannot be resumed: %s",
                     answer.text[0] != '\0' ? answer.text : "no leader is known");
    } else if (ferror(cli->out)) {
        code = EXIT_FAILED;
    }
    http_answer_fini(&answer);
    return code;
}

int watching_run(struct cli *cli,
                 const struct kind_info *const *kinds,
                 unsigned kind_count,
                 uint64_t since)
{
    struct watching watching = {.cli = cli, .since = since};
    struct timespec pause = {.tv_nsec = RESUME_MS * 1000000L};
    char path[REMOTE_PATH_SIZE];
    int code = EXIT_OK;
    sse_init(&watching.sse, take_event, &watching);
    watching.heard_ms = clock_now_ms(clock_system());
    while (code == EXIT_OK) {
        path_make(&watching, kinds, kind_count, path, sizeof(path));
        sse_restart(&watching.sse);
        watching.listing = watching.since == 0;
        watching.latest = watching.since;
        code = watch_once(&watching, path);
        if (code == EXIT_OK) {
            (void)nanosleep(&pause, NULL); /* a signal ends the program or the pause */
        }
    }
    sse_fini(&watching.sse);
    return code;
}
