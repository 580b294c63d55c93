/* HTTP/1.1 by libmicrohttpd on the libuv loop: a UNIX socket for root on this host, TLS
 * on TCP.
 *
 * Shapes: one struct http_server serves both listeners and makes an exchange
 * (api/exchange.h) of each request. Peers on the UNIX socket are root by SO_PEERCRED,
 * others need a bearer token. Limits: HTTP_CONNECTIONS_MAX, HTTP_CONNECTIONS_PER_ADDRESS,
 * HTTP_IDLE_S from one request's end to the next one's, EXCHANGE_BODY_MAX (blobs stream),
 * HTTP_HELD_MAX.
 * Threads: the loop's; libmicrohttpd runs
 * in external epoll mode. Errors: -errno, BERTH_EINVALID with text.
 */
#pragma once

#include "api/router.h"
#include "base/err.h"

#include <uv.h>

#define HTTP_CONNECTIONS_MAX         512
#define HTTP_CONNECTIONS_PER_ADDRESS 64
#define HTTP_IDLE_S                  75
/* Of a request: room for them there is beside the longest path and query. */
#define HTTP_HEADERS_MAX   32
#define HTTP_HEADERS_BYTES 8192
/* Of all answers that wait for their clients: four of the largest. */
#define HTTP_HELD_MAX (4ULL * EXCHANGE_ANSWER_MAX)

struct http_server;

struct http_server_config {
    const char *socket_path;    /* UNIX socket, replaced when stale, mode 0600 */
    const char *listen_address; /* "ip:port" for TLS, or NULL for none */
    const char *key_pem;        /* TLS key and certificate texts */
    const char *certificate_pem;
    uint32_t request_ms; /* for a whole request to come in; 0: HTTP_IDLE_S */
    uint64_t held_max;   /* bytes of answers that wait; 0: HTTP_HELD_MAX */
};

/* Starts listening. Config is borrowed for the call. */
int http_server_open(uv_loop_t *loop,
                     struct api *api,
                     const struct control_plane *control,
                     const struct http_server_config *config,
                     struct http_server **ret_server,
                     struct err *err);
/* Ends listeners and connections; NULL is fine. */
void http_server_close(struct http_server *server);
