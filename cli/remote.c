#include "cli/remote.h"

#include "base/state_file.h"
#include "cli/connection.h"
#include "cli/daemon.h"
#include "cli/sight.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- nobody answers ---- */

/* What is wrong, and what to do; with `after` the server stands between. */
static const struct {
    const char *what; /* NULL: what libcurl says */
    const char *hint;
    const char *after;
} troubles[HTTP_TROUBLE_COUNT] = {
    [HTTP_TROUBLE_REFUSED] =
        {"nobody listens there",
         "is berthd up on that host (berth up), and is that the port "
         "of its API?",
         NULL},
    [HTTP_TROUBLE_SILENT] = {"it does not answer",
                             "is the host up, and does a firewall let its API's port "
                             "through? Every other host of the cluster answers as well",
                             NULL},
    [HTTP_TROUBLE_NO_NAME] = {"that name is not known here",
                              "another spelling, or the host's address", NULL},
    [HTTP_TROUBLE_NO_TLS] = {"what listens there does not speak TLS",
                             "the API's port is " SERVER_PORT
                             ", unless --api-port said another",
                             NULL},
    [HTTP_TROUBLE_OTHER_KEY] = {"it shows another key than the pinned one",
                                "if it was set up anew, berth login ",
                                " shows the key it has now; otherwise it is not the host "
                                "that you mean"},
    [HTTP_TROUBLE_UNTRUSTED] = {"its key is not known here", "berth login ",
                                " remembers the key and a token of it; a script gives "
                                "--pin or BERTH_PIN"},
};

static int fail_server(struct cli *cli, const struct http_answer *answer)
{
    const char *server = cli->target->server;
    const char *what = troubles[answer->trouble].what;
    const char *after = troubles[answer->trouble].after;
    (void)cli_fail(cli, EXIT_UNREACHABLE, "cannot reach %s: %s", server,
                   what != NULL ? what : answer->text);
    if (what != NULL) {
        fprintf(cli->err, "hint: %s%s%s\n", troubles[answer->trouble].hint,
                after != NULL ? server : "", after != NULL ? after : "");
    }
    return EXIT_UNREACHABLE;
}

void remote_silent(void *context)
{
    struct cli *cli = context;
    bool stopped = false;
    pid_t pid = daemon_find(cli->state);
    if (pid != 0) {
        cli_note(cli, "berthd (pid %d, %s) does not answer; waiting", (int)pid,
                 daemon_doing(pid, &stopped));
    } else {
        cli_note(cli, "berthd does not answer; waiting");
    }
}

/* It takes connections, or the kernel does in its place, and says nothing. */
static int fail_deaf(struct cli *cli, const char *name)
{
    bool stopped = false;
    pid_t pid = daemon_find(cli->state);
    const char *doing = pid != 0 ? daemon_doing(pid, &stopped) : "not found";
    if (stopped) {
        return cli_fail(cli, EXIT_UNREACHABLE,
                        "%s is %s (pid %d) and answers nothing\n"
                        "hint: kill -CONT %d lets it go on; its VMs may be running "
                        "elsewhere since",
                        name, doing, (int)pid, (int)pid);
    }
    return cli_fail(cli, EXIT_UNREACHABLE,
                    "%s has answered nothing for %d s (pid %d, %s)\n"
                    "hint: is the machine overloaded, or its disk? What it did last is "
                    "in %s/" STATE_FILE_LOG ", or journalctl -u berthd; berth down and "
                    "berth up start it anew",
                    name, HTTP_DEAF_MS / 1000, (int)pid, doing, cli->state);
}

/* A berthd that was killed leaves its socket behind. */
static int fail_local(struct cli *cli, const struct http_answer *answer)
{
    char name[SERVER_URL_SIZE];
    const char *path = cli->target->socket_path;
    (void)connection_name(cli, name, sizeof(name));
    if (access(path, R_OK | W_OK) < 0 && errno == EACCES) {
        return cli_fail(
            cli, EXIT_UNREACHABLE,
            "%s may be used by root only\nhint: sudo berth ..., or berth login "
            "https://HOST:" SERVER_PORT,
            name);
    }
    if (access(path, F_OK) < 0) {
        return cli_fail(cli, EXIT_UNREACHABLE,
                        "no berthd runs on this host: %s is not there\nhint: berth up "
                        "starts it; berth login https://HOST:" SERVER_PORT
                        " asks another host",
                        path);
    }
    if (answer->trouble == HTTP_TROUBLE_DEAF) {
        return fail_deaf(cli, name);
    }
    if (answer->trouble == HTTP_TROUBLE_REFUSED && daemon_find(cli->state) == 0) {
        return cli_fail(
            cli, EXIT_UNREACHABLE,
            "%s has ended, and only its socket is left\nhint: berth up starts "
            "it again; why it ended is in %s/berthd.log, or where systemd has "
            "it in journalctl -u berthd",
            name, cli->state);
    }
    return cli_fail(cli, EXIT_UNREACHABLE,
                    "cannot reach %s: %s\nhint: what it does is in %s/" STATE_FILE_LOG
                    ", or where "
                    "systemd has it in journalctl -u berthd",
                    name, answer->text, cli->state);
}

int remote_unreachable(struct cli *cli, const struct http_answer *answer)
{
    return cli->target->socket_path[0] != '\0' ? fail_local(cli, answer)
                                               : fail_server(cli, answer);
}

/* ---- asking ---- */

typedef int http_caller(struct http *http,
                        const char *method,
                        const char *path,
                        const json_t *body,
                        struct http_answer *ret_answer);

static int answer_by(http_caller *caller,
                     struct cli *cli,
                     const char *method,
                     const char *path,
                     const json_t *body,
                     struct http_answer *ret_answer)
{
    *ret_answer = (struct http_answer){0};
    struct http *http = connection_http(cli);
    if (http == NULL) {
        return cli->connect_code != EXIT_OK ? cli->connect_code : (int)EXIT_FAILED;
    }
    if (caller(http, method, path, body, ret_answer) < 0) {
        return remote_unreachable(cli, ret_answer);
    }
    return EXIT_OK;
}

int remote_answer(struct cli *cli,
                  const char *method,
                  const char *path,
                  const json_t *body,
                  struct http_answer *ret_answer)
{
    return answer_by(http_call, cli, method, path, body, ret_answer);
}

enum cli_exit remote_exit(int status, const char *code)
{
    static const struct {
        int status;
        enum cli_exit code;
    } rows[] = {
        {400, EXIT_USAGE},       {401, EXIT_AUTH},        {403, EXIT_AUTH},
        {404, EXIT_NOT_FOUND},   {409, EXIT_CONFLICT},    {412, EXIT_CONFLICT},
        {413, EXIT_USAGE},       {414, EXIT_USAGE},       {422, EXIT_USAGE},
        {503, EXIT_UNREACHABLE}, {504, EXIT_UNREACHABLE},
    };
    int number = err_code(code);
    if (number == BERTH_EQUOTA || number == BERTH_ENOCAPACITY) {
        return EXIT_CAPACITY;
    }
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].status == status) {
            return rows[i].code;
        }
    }
    return EXIT_FAILED;
}

/* Who sent which token: the server's hint is for those who write headers themselves. */
static void tell_token(struct cli *cli)
{
    const struct connection *target = cli->target;
    const bool local = target->socket_path[0] != '\0';
    if (local && target->token[0] == '\0') {
        fputs("hint: the cluster does not know this host; berth login asks it with a "
              "token\n",
              cli->err);
    } else if (target->token[0] == '\0') {
        fprintf(cli->err,
                "hint: no token was sent: BERTH_TOKEN says one, berth login %s remembers "
                "one\n",
                target->server);
    } else if (local) {
        fprintf(
            cli->err,
            "hint: the token of %s is of another cluster, has expired or was removed; "
            "without it root of this host asks\n",
            target->token_from);
    } else {
        fprintf(
            cli->err,
            "hint: the token of %s is of another cluster, has expired or was removed: "
            "berth token create on a member makes one, berth login %s remembers it\n",
            target->token_from, target->server);
    }
}

int remote_problem(struct cli *cli, const struct http_answer *answer)
{
    const json_t *problem = answer->document;
    const char *title = json_member_text(problem, "title", NULL);
    const char *detail = json_member_text(problem, "detail", NULL);
    const char *hint = json_member_text(problem, "hint", NULL);
    size_t index;
    json_t *fault;
    char host[NAME_SIZE];
    enum cli_exit code =
        remote_exit(answer->status, json_member_text(problem, "code", ""));
    if (title == NULL && detail == NULL) {
        return cli_fail(cli, code, "the server answered %d", answer->status);
    }
    (void)cli_fail(cli, code, "%s", detail != NULL ? detail : title);
    json_array_foreach(json_object_get(problem, "errors"), index, fault)
    {
        const char *fix = json_member_text(fault, "hint", "");
        fprintf(cli->err, "  %s: %s%s%s\n", json_member_text(fault, "pointer", ""),
                json_member_text(fault, "message", ""), fix[0] != '\0' ? "; " : "", fix);
    }
    if (answer->status == 401) {
        tell_token(cli);
    } else if (answer->status == 403 && sight_is_narrow(cli, host)) {
        sight_hint(cli, host);
    } else if (hint != NULL) {
        fprintf(cli->err, "hint: %s\n", hint);
    }
    return (int)code;
}

/* The document of an answer, which is used up; quiet: a 404 is not said. */
static int take_document(struct cli *cli,
                         const char *path,
                         bool quiet,
                         struct http_answer *answer,
                         json_t **ret_document)
{
    int code = EXIT_OK;
    if (answer->status >= 300) {
        code = quiet && answer->status == 404 ? (int)EXIT_NOT_FOUND
                                              : remote_problem(cli, answer);
    } else if (ret_document != NULL) {
        *ret_document = json_incref(answer->document);
        if (*ret_document == NULL) {
            code = cli_fail(cli, EXIT_FAILED, "%s: the answer is no JSON", path);
        }
    }
    http_answer_fini(answer);
    return code;
}

static int call(http_caller *caller,
                struct cli *cli,
                const char *method,
                const char *path,
                const json_t *body,
                bool quiet,
                json_t **ret_document)
{
    struct http_answer answer;
    if (ret_document != NULL) {
        *ret_document = NULL;
    }
    int code = answer_by(caller, cli, method, path, body, &answer);
    if (code != EXIT_OK) {
        http_answer_fini(&answer);
        return code;
    }
    return take_document(cli, path, quiet, &answer, ret_document);
}

int remote_call(struct cli *cli,
                const char *method,
                const char *path,
                const json_t *body,
                json_t **ret_document)
{
    return call(http_call, cli, method, path, body, false, ret_document);
}

int remote_call_long(struct cli *cli,
                     const char *method,
                     const char *path,
                     const json_t *body,
                     json_t **ret_document)
{
    return call(http_call_long, cli, method, path, body, false, ret_document);
}

int remote_call_quiet(struct cli *cli,
                      const char *method,
                      const char *path,
                      const json_t *body,
                      json_t **ret_document)
{
    return call(http_call, cli, method, path, body, true, ret_document);
}

/* *fields becomes NULL when the server may not know them (it is of before `fields`, or of
 * before one of those that are asked for): nothing was answered. What else it refuses it
 * refuses without them as well. */
static int list_page(struct cli *cli,
                     const struct kind_info *info,
                     const char *query,
                     const char *page,
                     const char **fields,
                     json_t **ret_answer)
{
    char path[REMOTE_PATH_SIZE + REMOTE_PATH_SIZE / 2 + REMOTE_FIELDS_SIZE];
    struct http_answer answer;
    *ret_answer = NULL;
    (void)snprintf(path, sizeof(path), "/v1/%s?limit=%d%s%s%s%s%s%s", info->plural,
                   *fields != NULL ? REMOTE_PAGE_THIN : REMOTE_PAGE,
                   *fields != NULL ? "&fields=" : "", *fields != NULL ? *fields : "",
                   query[0] != '\0' ? "&" : "", query, page[0] != '\0' ? "&page=" : "",
                   page);
    int code = remote_answer(cli, "GET", path, NULL, &answer);
    if (code != EXIT_OK || (*fields != NULL && answer.status == 422)) {
        http_answer_fini(&answer);
        *fields = NULL;
        return code;
    }
    return take_document(cli, path, false, &answer, ret_answer);
}

int remote_list(struct cli *cli,
                const struct kind_info *info,
                const char *query,
                const char *fields,
                json_t **ret_list)
{
    char page[REMOTE_PATH_SIZE / 2] = "";
    json_t *items = json_array();
    json_t *list = json_object();
    json_object_set_new(list, "items", items);
    *ret_list = NULL;
    for (unsigned i = 0; i < REMOTE_PAGES; i++) {
        CLEANUP_JSON json_t *answer = NULL;
        const char *before = fields;
        int code = list_page(cli, info, query, page, &fields, &answer);
        if (code == EXIT_OK && answer == NULL && before != NULL) {
            code = list_page(cli, info, query, page, &fields, &answer);
        }
        if (code != EXIT_OK) {
            json_decref(list);
            return code;
        }
        json_array_extend(items, json_object_get(answer, "items"));
        json_t *revision = json_object_get(answer, "revision");
        if (i == 0 && revision != NULL) { /* a watch goes on from the first page */
            json_object_set(list, "revision", revision);
        }
        const char *next = json_member_text(answer, "next", "");
        if (next[0] == '\0') {
            break;
        }
        remote_escape(next, page, sizeof(page));
    }
    *ret_list = list;
    return EXIT_OK;
}

void remote_escape(const char *text, char *ret_text, size_t capacity)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-._~";
    size_t at = 0;
    for (; *text != '\0' && at + 4 <= capacity; text++) {
        if (strchr(plain, *text) != NULL) {
            ret_text[at++] = *text;
        } else {
            at += (size_t)snprintf(ret_text + at, capacity - at, "%%%02X",
                                   (unsigned)(unsigned char)*text);
        }
    }
    ret_text[at < capacity ? at : capacity - 1] = '\0';
}
