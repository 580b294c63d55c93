#include "api/http_server.h"

#include "api/api_problem.h"
#include "api/exchange.h"
#include "api/http_request.h"
#include "api/query.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/parse_number.h"

#include <microhttpd.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 128
#define SWEEPS         4 /* looks per time that a request may take to come in */

/* What MHD needs for the longest request that is taken, per connection: its head as it
 * comes, a record for each parameter and header, and what it reads beyond and writes
 * meanwhile. It clears all of it for every request, so that each KiB costs. */
#define LINE_BYTES  64   /* of the first line beside path and query */
#define RECORD_SIZE 64   /* of MHD's record, as its memory is cut */
#define SPARE       3008 /* bytes of the body that come along, and the head of the answer */
#define CONNECTION_MEMORY                                                       \
    (LINE_BYTES + EXCHANGE_PATH_MAX + EXCHANGE_QUERY_MAX + HTTP_HEADERS_BYTES + \
     (QUERY_ITEMS_MAX + HTTP_HEADERS_MAX) * RECORD_SIZE + SPARE)
_Static_assert(CONNECTION_MEMORY <= 24576, "64 connections fit a core's cache");

/* One of the two daemons, driven by the loop. */
struct listener {
    struct http_server *server;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    bool poll_open;
    bool timer_open;
    unsigned open_handles;
};

struct http_server {
    uv_loop_t *loop;
    struct http_context context;
    struct listener local;
    struct listener remote;
    struct loop_post *run; /* something was resumed: let MHD look */
    struct loop_timer *sweep;
    uint64_t request_ms;
    char *socket_path;
    bool closing;
};

/* ---- driving MHD
 * --------------------------------------------------------------------------------------
 */

static void on_timer(uv_timer_t *timer);

static void run(struct listener *listener)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms = 0;
    if (listener->daemon == NULL || listener->server->closing) {
        return;
    }
    (void)MHD_run(
        listener->daemon); /* fails only for daemons with threads of their own */
    if (MHD_get_timeout(listener->daemon, &timeout_ms) == MHD_YES) {
        uv_timer_start(&listener->timer, on_timer, timeout_ms, 0);
    } else {
        uv_timer_stop(&listener->timer);
    }
}

static void on_timer(uv_timer_t *timer)
{
    run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events; /* whatever it is, MHD finds out */
    run(poll->data);
}

static void on_run(void *context)
{
    struct http_server *server = context;
    run(&server->local);
    run(&server->remote);
}

static void on_sweep(void *context)
{
    struct http_server *server = context;
    http_connections_sweep(&server->context, server->request_ms);
}

static void server_wake(void *context)
{
    struct http_server *server = context;
    loop_post_send(server->run);
}

/* Before MHD decodes it. The request is told later (NULL: none yet). */
static void *on_url(void *context, const char *url, struct MHD_Connection *connection)
{
    struct http_connection *place = http_connection_of(connection);
    const size_t path_size = strcspn(url, "?");
    (void)context;
    if (place != NULL) {
        place->url_long =
            path_size > EXCHANGE_PATH_MAX ||
            (url[path_size] == '?' && strlen(url + path_size + 1) > EXCHANGE_QUERY_MAX);
    }
    return NULL;
}

__attribute__((format(printf, 2, 0))) static void
mhd_log(void *context, const char *format, va_list arguments)
{
    char text[256];
    (void)context;
    (void)vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    log_debug("api", "libmicrohttpd says", KV_STR("text", text));
}

static int listener_drive(struct listener *listener, struct err *err)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_loop_t *loop = listener->server->loop;
    int r = info == NULL ? -EINVAL : uv_poll_init(loop, &listener->poll, info->epoll_fd);
    if (r < 0) {
        return err_sys(err, r, "drive the HTTP server");
    }
    listener->poll.data = listener;
    listener->poll_open = true;
    uv_timer_init(loop, &listener->timer);
    listener->timer.data = listener;
    listener->timer_open = true;
    r = uv_poll_start(&listener->poll, UV_READABLE, on_poll);
    return r < 0 ? err_sys(err, r, "drive the HTTP server") : 0;
}

/* ---- listening
 * ------------------------------------------------------------------------------------------
 */

static int socket_listen(const char *path, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        return err_set(err, BERTH_EINVALID, "socket %s: the path is too long", path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_sys(err, -errno, "socket %s", path);
    }
    (void)unlink(path); /* the state folder is locked, so a socket there is a dead one */
    mode_t mask = umask(0177);
    int r =
        bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)) < 0 ? -errno : 0;
    (void)umask(mask);
    if (r == 0 && listen(fd, LISTEN_BACKLOG) < 0) {
        r = -errno;
    }
    return r < 0 ? err_sys(err, r, "listen on %s", path) : TAKE_FD(fd);
}

static int tcp_listen(const char *text, struct err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char ip[IPV4_TEXT_SIZE];
    const char *colon = strrchr(text, ':');
    uint32_t host = 0;
    uint64_t port = 0;
    const int on = 1;
    size_t size = colon != NULL ? (size_t)(colon - text) : 0;
    if (size == 0 || size >= sizeof(ip)) {
        return err_set(err, BERTH_EINVALID, "\"%s\" is no ip:port", text);
    }
    memcpy(ip, text, size);
    ip[size] = '\0';
    if (parse_ipv4(ip, &host, err) < 0 || parse_u64(colon + 1, &port, err) < 0 ||
        port > 65535) {
        return err_set(err, BERTH_EINVALID, "\"%s\" is no ip:port", text);
    }
    address.sin_addr.s_addr = htonl(host);
    address.sin_port = htons((uint16_t)port);
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)) < 0 ||
        listen(fd, LISTEN_BACKLOG) < 0) {
        return err_sys(err, -errno, "listen on %s", text);
    }
    return TAKE_FD(fd);
}

#define COMMON_OPTIONS(listen_fd)                                                        \
    MHD_OPTION_LISTEN_SOCKET, (MHD_socket)(listen_fd), MHD_OPTION_CONNECTION_LIMIT,      \
        (unsigned int)HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,               \
        (unsigned int)HTTP_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,                   \
        (size_t)CONNECTION_MEMORY, MHD_OPTION_NOTIFY_COMPLETED, http_request_completed,  \
        &server->context, MHD_OPTION_NOTIFY_CONNECTION, http_connection_notify,          \
        &server->context, MHD_OPTION_URI_LOG_CALLBACK, on_url, NULL,                     \
        MHD_OPTION_UNESCAPE_CALLBACK, http_unescape, NULL, MHD_OPTION_STRICT_FOR_CLIENT, \
        1, MHD_OPTION_EXTERNAL_LOGGER, mhd_log, NULL

static int local_start(struct http_server *server,
                       const struct http_server_config *config,
                       struct err *err)
{
    int fd = socket_listen(config->socket_path, err);
    if (fd < 0) {
        return fd;
    }
    server->local.server = server;
    server->local.daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG,
        0, NULL, NULL, http_request_local, &server->context, COMMON_OPTIONS(fd),
        MHD_OPTION_END);
    if (server->local.daemon == NULL) {
        fd_close(&fd);
        return err_set(err, BERTH_EBUG, "the HTTP server does not start");
    }
    return listener_drive(&server->local, err);
}

static int remote_start(struct http_server *server,
                        const struct http_server_config *config,
                        struct err *err)
{
    int fd = tcp_listen(config->listen_address, err);
    if (fd < 0) {
        return fd;
    }
    server->remote.server = server;
    server->remote.daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_TLS |
            MHD_USE_ERROR_LOG,
        0, NULL, NULL, http_request_remote, &server->context, COMMON_OPTIONS(fd),
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned int)HTTP_CONNECTIONS_PER_ADDRESS,
        MHD_OPTION_HTTPS_MEM_KEY, config->key_pem, MHD_OPTION_HTTPS_MEM_CERT,
        config->certificate_pem, MHD_OPTION_HTTPS_PRIORITIES,
        "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", MHD_OPTION_END);
    if (server->remote.daemon == NULL) {
        fd_close(&fd);
        return err_set(err, BERTH_EBUG,
                       "the HTTPS server does not start: key and certificate");
    }
    return listener_drive(&server->remote, err);
}

int http_server_open(uv_loop_t *loop,
                     struct api *api,
                     const struct control_plane *control,
                     const struct http_server_config *config,
                     struct http_server **ret_server,
                     struct err *err)
{
    struct http_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return err_sys(err, -ENOMEM, "open the API");
    }
    server->loop = loop;
    http_context_init(&server->context, loop, api, control,
                      config->held_max != 0 ? config->held_max : HTTP_HELD_MAX,
                      server_wake, server);
    server->socket_path = strdup(config->socket_path);
    server->run = loop_post_new(loop, on_run, server);
    server->request_ms =
        config->request_ms != 0 ? config->request_ms : HTTP_IDLE_S * 1000;
    server->sweep = loop_timer_new(loop, server->request_ms / SWEEPS,
                                   server->request_ms / SWEEPS, on_sweep, server);
    int r = server->run == NULL || server->sweep == NULL || server->socket_path == NULL
                ? err_sys(err, -ENOMEM, "open the API")
                : local_start(server, config, err);
    if (r == 0 && config->listen_address != NULL) {
        r = remote_start(server, config, err);
    }
    if (r < 0) {
        http_server_close(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

/* ---- end
 * ------------------------------------------------------------------------------------------------
 */

static void server_free(struct http_server *server)
{
    if (server->local.open_handles + server->remote.open_handles == 0) {
        free(server->socket_path);
        free(server);
    }
}

static void handle_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    listener->open_handles--;
    server_free(listener->server);
}

static void listener_close(struct listener *listener)
{
    if (listener->poll_open) {
        listener->open_handles++;
        uv_close((uv_handle_t *)&listener->poll, handle_closed);
    }
    if (listener->timer_open) {
        listener->open_handles++;
        uv_close((uv_handle_t *)&listener->timer, handle_closed);
    }
    if (listener->daemon != NULL) {
        MHD_stop_daemon(listener->daemon); /* completes every request that is open */
        listener->daemon = NULL;
    }
}

void http_server_close(struct http_server *server)
{
    if (server == NULL) {
        return;
    }
    server->closing = true;
    http_context_fini(
        &server->context); /* resumes and ends what waits: MHD wants it so */
    listener_close(&server->local);
    listener_close(&server->remote);
    server->run = loop_post_close(server->run);
    server->sweep = loop_timer_close(server->sweep);
    if (server->socket_path != NULL) {
        (void)unlink(server->socket_path); /* tidy; a stale one is replaced anyway */
    }
    server_free(server);
}
