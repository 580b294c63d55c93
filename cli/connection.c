#include "cli/connection.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/parse_number.h"
#include "base/state_file.h"
#include "cli/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONTEXT_SIZE_MAX (256u << 10)

/* ---- the context file ---- */

static const char *environment(const char *name)
{
    const char *value = getenv(name); // NOLINT(concurrency-mt-unsafe)
    return value != NULL && value[0] != '\0' ? value : NULL;
}

bool context_path(char *ret_path, size_t capacity)
{
    const char *path = environment("BERTH_CONTEXT");
    const char *config = environment("XDG_CONFIG_HOME");
    const char *home = environment("HOME");
    if (path != NULL) {
        (void)snprintf(ret_path, capacity, "%s", path);
    } else if (config != NULL) {
        (void)snprintf(ret_path, capacity, "%s/berth/context.json", config);
    } else if (home != NULL) {
        (void)snprintf(ret_path, capacity, "%s/.config/berth/context.json", home);
    } else {
        return false;
    }
    return true;
}

/* The file's document, an empty one when there is none; NULL when it is broken (said). */
static json_t *context_read(struct cli *cli)
{
    char path[PATH_MAX];
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    struct err err;
    json_t *document = NULL;
    if (!context_path(path, sizeof(path)) ||
        fd_read_file(AT_FDCWD, path, CONTEXT_SIZE_MAX, &text, &size, &err) == -ENOENT) {
        return json_object();
    }
    if (text == NULL || json_parse((const char *)text, size, &document, &err) < 0) {
        (void)cli_fail(cli, EXIT_FAILED, "%s: %s", path, err.text);
        return NULL;
    }
    return document;
}

static void context_fill(const json_t *context, struct connection *server)
{
    const json_t *row =
        json_object_get(json_object_get(context, "servers"), server->server);
    (void)snprintf(server->token, sizeof(server->token), "%s",
                   json_member_text(row, "token", ""));
    (void)snprintf(server->pin, sizeof(server->pin), "%s",
                   json_member_text(row, "pin", ""));
    (void)context_path(server->token_from, sizeof(server->token_from));
}

static int make_parent(const char *path, struct err *err)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL || slash == folder) {
        return 0;
    }
    *slash = '\0';
    return fd_make_folders(folder, err);
}

int context_save(struct cli *cli, const struct connection *server)
{
    char path[PATH_MAX];
    struct err err = {0};
    CLEANUP_JSON json_t *context = context_read(cli);
    if (context == NULL) {
        return EXIT_FAILED;
    }
    if (!context_path(path, sizeof(path))) {
        return cli_fail(cli, EXIT_FAILED, "HOME is not set: where is the context file?");
    }
    json_t *servers = json_object_get(context, "servers");
    if (!json_is_object(servers)) {
        servers = json_object();
        json_object_set_new(context, "servers", servers);
    }
    json_object_set_new(
        servers, server->server,
        json_pack("{s:s, s:s}", "token", server->token, "pin", server->pin));
    json_object_set_new(context, "current", json_string(server->server));
    CLEANUP_FREE char *text = json_text_pretty(context);
    int r = text == NULL ? -ENOMEM : make_parent(path, &err);
    if (r == 0) {
        r = file_atomic_write(path, text, strlen(text), 0600, &err);
    }
    return r == 0 ? EXIT_OK : cli_fail(cli, EXIT_FAILED, "%s: %s", path, err.text);
}

/* ---- choosing ---- */

/* ":7443", to the end of `length` characters of the host. */
static bool port_valid(const char *port, const char *end)
{
    char text[8];
    uint64_t number = 0;
    size_t size = (size_t)(end - port) - 1;
    if (size >= sizeof(text)) {
        return false;
    }
    (void)snprintf(text, sizeof(text), "%.*s", (int)size, port + 1);
    return parse_u64(text, &number, NULL) == 0 && number > 0 && number <= UINT16_MAX;
}

int server_url(struct cli *cli, const char *text, char ret_url[SERVER_URL_SIZE])
{
    const char *host = text;
    if (strncmp(text, "http://", 7) == 0) {
        return cli_fail(cli, EXIT_USAGE, "%s: tokens travel over https only", text);
    }
    if (strncmp(text, "https://", 8) == 0) {
        host = text + 8;
    }
    size_t length = strcspn(host, "/?#");
    const char *bracket = memchr(host, ']', length);
    const char *port = memchr(bracket != NULL ? bracket : host, ':',
                              length - (size_t)(bracket != NULL ? bracket - host : 0));
    if (length == 0 || host[length + strspn(host + length, "/")] != '\0' ||
        strcspn(host, " \"'@\\%") < length || length > SERVER_URL_SIZE - 32) {
        return cli_fail(cli, EXIT_USAGE,
                        "\"%s\" is no server: wanted HOST, HOST:PORT or "
                        "https://HOST:PORT",
                        text);
    }
    if (port != NULL && !port_valid(port, host + length)) {
        return cli_fail(cli, EXIT_USAGE, "\"%s\": the port is a number from 1 to %d",
                        text, UINT16_MAX);
    }
    (void)snprintf(ret_url, SERVER_URL_SIZE, "https://%.*s%s", (int)length, host,
                   port != NULL ? "" : ":" SERVER_PORT);
    return EXIT_OK;
}

int server_pins(struct cli *cli, const char *text, char ret_pins[PIN_LIST_SIZE])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789+/=";
    const char *at = text;
    size_t size = 0;
    do {
        at += at > text ? 1 : 0;
        size = strcspn(at, ";");
        if (strncmp(at, "sha256//", 8) != 0 || size < 9 || strspn(at, letters) != size) {
            return cli_fail(cli, EXIT_USAGE,
                            "--pin: wanted sha256//... (several joined by ;), not \"%s\"",
                            text);
        }
        at += size;
    } while (*at == ';');
    if (strlen(text) >= PIN_LIST_SIZE) {
        return cli_fail(cli, EXIT_USAGE, "--pin: more keys than fit");
    }
    (void)snprintf(ret_pins, PIN_LIST_SIZE, "%s", text);
    return EXIT_OK;
}

/* One that was said goes before one that is remembered, and before being root here. */
static void take_token(const struct cli *cli, struct connection *target)
{
    if (cli->token != NULL) {
        (void)snprintf(target->token, sizeof(target->token), "%s", cli->token);
        (void)snprintf(target->token_from, sizeof(target->token_from), "%s",
                       cli->token_from);
    }
}

static int
choose_server(struct cli *cli, const json_t *context, struct connection *target)
{
    int code = EXIT_OK;
    if (cli->server != NULL) {
        code = server_url(cli, cli->server, target->server);
    } else {
        (void)snprintf(target->server, sizeof(target->server), "%s",
                       json_member_text(context, "current", ""));
    }
    context_fill(context, target);
    take_token(cli, target);
    if (cli->pin != NULL && code == EXIT_OK) {
        code = server_pins(cli, cli->pin, target->pin);
    }
    return code;
}

static int choose(struct cli *cli, struct connection *target)
{
    int length = snprintf(target->socket_path, sizeof(target->socket_path),
                          "%s/" STATE_FILE_SOCKET, cli->state);
    bool cut = length < 0 || (size_t)length >= sizeof(target->socket_path);
    if (cli->server == NULL &&
        (cli->state_given || (!cut && access(target->socket_path, F_OK) == 0))) {
        take_token(cli, target);
        return cut ? cli_fail(cli, EXIT_USAGE, "--state: %s is too long for a socket",
                              cli->state)
                   : EXIT_OK;
    }
    CLEANUP_JSON json_t *context = context_read(cli);
    if (context == NULL) {
        return EXIT_FAILED;
    }
    if (cli->server == NULL && json_member_text(context, "current", NULL) == NULL) {
        return EXIT_OK; /* the local socket: it is not there, which the call will say */
    }
    target->socket_path[0] = '\0';
    return choose_server(cli, context, target);
}

/* ---- life ---- */

static struct http *connection_start(struct cli *cli)
{
    const struct connection *target = cli->target;
    bool local = target->socket_path[0] != '\0';
    struct http_config config = {
        .socket_path = local ? target->socket_path : NULL,
        .server = local ? NULL : target->server,
        .token = target->token[0] != '\0' ? target->token : NULL,
        .pin = target->pin[0] != '\0' ? target->pin : NULL,
        .silent = target->may_be_silent ? NULL : remote_silent,
        .context = cli,
    };
    cli->http = http_new(&config);
    if (cli->http == NULL) {
        (void)cli_fail(cli, EXIT_FAILED, "libcurl cannot be started");
    }
    return cli->http;
}

struct http *connection_http(struct cli *cli)
{
    if (cli->http != NULL) {
        return cli->http;
    }
    if (cli->target == NULL) {
        cli->target = calloc(1, sizeof(*cli->target));
    }
    if (cli->target == NULL) {
        return NULL;
    }
    cli->connect_code = choose(cli, cli->target);
    if (cli->connect_code != EXIT_OK) {
        return NULL;
    }
    return connection_start(cli);
}

struct http *connection_http_to(struct cli *cli, const struct connection *target)
{
    connection_close(cli);
    cli->target = malloc(sizeof(*cli->target));
    if (cli->target == NULL) {
        return NULL;
    }
    *cli->target = *target;
    return connection_start(cli);
}

const char *connection_name(const struct cli *cli, char *text, size_t capacity)
{
    bool local = cli->target != NULL && cli->target->socket_path[0] != '\0';
    (void)snprintf(text, capacity, "%s%s%s", local ? "the berthd of this host (" : "",
                   local                 ? cli->target->socket_path
                   : cli->target != NULL ? cli->target->server
                                         : "berthd",
                   local ? ")" : "");
    return text;
}

void connection_close(struct cli *cli)
{
    cli->http = http_free(cli->http);
    free(cli->target);
    cli->target = NULL;
}
