#include "cli/daemon_flags.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/state_file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define FILE_SIZE_MAX 65536
#define LIST_SIZE     2048
#define JOIN_MEMBER   "join" /* no flag of berthd's is called so */

const char *const daemon_flags[] = {"name",
                                    "address",
                                    "mesh-port",
                                    "raft-port",
                                    "api-port",
                                    "reserve-memory",
                                    "reserve-disk",
                                    "cpu-overcommit",
                                    "backup-every",
                                    "backup-keep",
                                    "backup-folder",
                                    "backup-passphrase-file",
                                    "disk-overcommit",
                                    "image-cache",
                                    "level-max",
                                    "level-wait",
                                    "vm-uids",
                                    NULL};

/* What berthd goes by. */
struct settings {
    json_t *host;  /* host.json, or NULL */
    uint8_t *line; /* arguments, each ended by NUL; or NULL */
    size_t line_size;
};

/* Members of host.json that a flag is kept in. */
static const char *host_member(const char *flag)
{
    static const struct {
        const char *flag;
        const char *member;
    } rows[] = {{"name", "name"},
                {"address", "address"},
                {"mesh-port", "meshPort"},
                {"raft-port", "raftPort"},
                {"api-port", "apiPort"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].flag, flag) == 0) {
            return rows[i].member;
        }
    }
    return NULL;
}

static bool host_has(const json_t *host, const char *flag, const char *value)
{
    const char *name = host_member(flag);
    const json_t *member = name != NULL ? json_object_get(host, name) : NULL;
    return json_is_integer(member)
               ? strtoll(value, NULL, 10) == json_integer_value(member)
               : json_is_string(member) && strcmp(json_string_value(member), value) == 0;
}

static bool host_has_label(const json_t *host, const char *label)
{
    const char *equals = strchr(label, '='); /* checked before */
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(host, "labels"), key, value)
    {
        if (strncmp(key, label, (size_t)(equals - label)) == 0 &&
            key[equals - label] == '\0' && json_is_string(value)) {
            return strcmp(json_string_value(value), equals + 1) == 0;
        }
    }
    return false;
}

/* Whether it was started with "--FLAG VALUE". */
static bool line_has(const struct settings *settings, const char *flag, const char *value)
{
    const char *at = (const char *)settings->line;
    const char *end = at + settings->line_size;
    const char *before = "";
    while (at != NULL && at < end) {
        if (strncmp(before, "--", 2) == 0 && strcmp(before + 2, flag) == 0 &&
            strcmp(at, value) == 0) {
            return true;
        }
        before = at;
        at += strnlen(at, (size_t)(end - at)) + 1;
    }
    return false;
}

static void settings_read(const char *state, pid_t pid, struct settings *ret_settings)
{
    char path[PATH_MAX];
    uint8_t *text = NULL;
    size_t size = 0;
    *ret_settings = (struct settings){0};
    (void)snprintf(path, sizeof(path), "%.4000s/" STATE_FILE_HOST, state);
    if (fd_read_file(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size, NULL) == 0) {
        (void)json_parse((const char *)text, size, &ret_settings->host,
                         NULL); /* NULL then: berthd says so itself */
    }
    free(text);
    (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    if (pid != 0) {
        (void)fd_read_file(AT_FDCWD, path, FILE_SIZE_MAX, &ret_settings->line,
                           &ret_settings->line_size, NULL); /* another user's: none */
    }
}

static void list_add(char list[LIST_SIZE], const char *flag, const char *value)
{
    size_t used = strlen(list);
    (void)snprintf(list + used, LIST_SIZE - used, "%s--%s %.200s", used > 0 ? ", " : "",
                   flag, value); /* the last ones may be cut */
}

/* Those of --name and --label that host.json has otherwise. */
static void list_never(struct cli *cli, const json_t *host, char list[LIST_SIZE])
{
    unsigned cursor = 0;
    const char *name = cli_flag(cli, "name");
    const char *label;
    if (name != NULL && !host_has(host, "name", name)) {
        list_add(list, "name", name);
    }
    while ((label = cli_flag_next(cli, "label", &cursor)) != NULL) {
        if (!host_has_label(host, label)) {
            list_add(list, "label", label);
        }
    }
}

#define NEVER_HINT                                                                    \
    "hint: labels are changed by berth host label HOST KEY=VALUE; a name is that of " \
    "the first start (berth down --forget, then join anew with another)"

int daemon_flags_check(struct cli *cli, const char *state)
{
    char never[LIST_SIZE] = "";
    struct settings settings;
    settings_read(state, 0, &settings);
    list_never(cli, settings.host, never);
    json_decref(settings.host);
    return never[0] == '\0'
               ? (int)EXIT_OK
               : cli_fail(cli, EXIT_CONFLICT, "nothing was started: %s %s\n" NEVER_HINT,
                          never, "cannot be changed by a start");
}

/* ---- from start to start ---- */

static void flags_path(const char *state, char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%.4000s/" STATE_FILE_FLAGS, state);
}

static json_t *flags_read(const char *state)
{
    char path[PATH_MAX];
    CLEANUP_FREE uint8_t *text = NULL;
    json_t *flags = NULL;
    size_t size = 0;
    flags_path(state, path);
    if (fd_read_file(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size, NULL) == 0) {
        (void)json_parse((const char *)text, size, &flags, NULL); /* NULL then */
    }
    return flags;
}

/* Advice, but for the join; a start goes on without it all the same. */
static void flags_write(const char *state, const json_t *flags)
{
    char path[PATH_MAX];
    CLEANUP_FREE char *text = json_text(flags);
    flags_path(state, path);
    if (text != NULL) {
        (void)file_atomic_write(path, text, strlen(text), 0600, NULL);
    }
}

bool daemon_flags_joins(const char *state)
{
    CLEANUP_JSON json_t *flags = flags_read(state);
    return json_is_true(json_object_get(flags, JOIN_MEMBER));
}

void daemon_flags_join_over(const char *state)
{
    CLEANUP_JSON json_t *flags = flags_read(state);
    if (json_object_get(flags, JOIN_MEMBER) != NULL) {
        (void)json_object_del(flags, JOIN_MEMBER);
        flags_write(state, flags);
    }
}

void daemon_flags_remember(struct cli *cli, const char *state, bool joins)
{
    char other[LIST_SIZE] = "";
    CLEANUP_JSON json_t *before = flags_read(state);
    CLEANUP_JSON json_t *now = json_object();
    for (unsigned i = 0; daemon_flags[i] != NULL; i++) {
        const char *flag = daemon_flags[i];
        const char *value = cli_flag(cli, flag);
        const char *last = json_member_text(before, flag, NULL);
        if (host_member(flag) != NULL) {
            continue; /* remembered by berthd */
        }
        if (value != NULL) {
            json_object_set_new(now, flag, json_string(value));
        }
        if (last != NULL && (value == NULL || strcmp(value, last) != 0)) {
            list_add(other, flag, last);
        }
    }
    if (other[0] != '\0') {
        cli_note(cli,
                 "last time it ran with %s: settings are given at every start\n"
                 "hint: berth down, then berth up with them, if that was not meant",
                 other);
    }
    if (joins) {
        json_object_set_new(now, JOIN_MEMBER, json_true());
    }
    if (!json_equal(now, before)) {
        flags_write(state, now);
    }
}

void daemon_flags_tell(struct cli *cli, const char *state, pid_t pid)
{
    char later[LIST_SIZE] = ""; /* those that a restart takes */
    char never[LIST_SIZE] = "";
    struct settings settings;
    settings_read(state, pid, &settings);
    for (unsigned i = 0; pid != 0 && daemon_flags[i] != NULL; i++) {
        const char *flag = daemon_flags[i];
        const char *value = cli_flag(cli, flag);
        if (value != NULL && strcmp(flag, "name") != 0 &&
            !host_has(settings.host, flag, value) && !line_has(&settings, flag, value)) {
            list_add(later, flag, value);
        }
    }
    list_never(cli, settings.host, never);
    if (later[0] != '\0') {
        fprintf(
            cli->err,
            "berth: berthd runs already (pid %d) and does not take: %s\n"
            "hint: berth down, then berth up with them; where systemd starts it, in its "
            "ExecStart\n",
            (int)pid, later);
    }
    if (never[0] != '\0') {
        fprintf(cli->err, "berth: not taken: %s\n" NEVER_HINT "\n", never);
    }
    json_decref(settings.host);
    free(settings.line);
}
