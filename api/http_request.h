/* One HTTP request inside libmicrohttpd, as an exchange. Inside the room only.
 *
 * Shapes: struct http_context is what all requests of a server share; http_request_local
 * and _remote are the two daemons' handlers. A request gathers its body, becomes an
 * exchange (api/exchange.h) and sleeps (suspended) until the exchange has something to
 * say; an answer that is complete by then goes out with its length, one that is not as a
 * stream. Uploads to /v1/blobs go straight into the image store. Back-pressure: a stream
 * holds at most EXCHANGE_QUEUE_MAX bytes beyond one piece, an answer whose length its
 * head tells at most EXCHANGE_ANSWER_MAX, and all of them together at most `held_max`:
 * beyond, a stream waits and a whole answer is cut. One that ends short of its length
 * closes the connection: the client sees that it is not whole. Threads: the loop's.
 * Lifetime: until libmicrohttpd says completed and the exchange has let go.
 */
#pragma once

#include "api/router.h"
#include "base/list.h"

#include <microhttpd.h>
#include <uv.h>

struct http_context {
    uv_loop_t *loop;
    struct api *api;
    const struct control_plane *control;
    void (*wake)(void *context); /* MHD should run soon */
    void *wake_context;
    uint64_t held; /* bytes of answers that wait to be taken */
    uint64_t held_max;
    uint64_t left; /* bytes of connections that ended, since the heap was told */
    struct list requests;
    struct list connections;
};

/* About what a client takes as long as it is connected: its TLS session, MHD's memory for
 * it, a request and its exchange. */
#define HTTP_CONNECTION_BYTES (64u << 10)

/* One client's connection, between requests or with one. */
struct http_connection {
    struct list link;
    int fd;            /* MHD's */
    uint64_t since_ms; /* when it came, or its last request began or ended */
    bool busy;         /* a whole request is being answered, or an upload comes in */
    bool url_long;     /* of its request path or query are, as they came */
};

void http_context_init(struct http_context *context,
                       uv_loop_t *loop,
                       struct api *api,
                       const struct control_plane *control,
                       uint64_t held_max,
                       void (*wake)(void *context),
                       void *wake_context);
/* Cancels all exchanges and resumes all connections, so that their daemons can be
 * stopped. */
void http_context_fini(struct http_context *context);

/* MHD's NOTIFY_CONNECTION. */
void http_connection_notify(void *context,
                            struct MHD_Connection *connection,
                            void **ret_socket_context,
                            enum MHD_ConnectionNotificationCode code);
/* NULL when it is not watched. */
struct http_connection *http_connection_of(struct MHD_Connection *connection);
/* Ends connections that have not come to a whole request for so long: whoever sends a
 * byte now and then holds a place no longer than whoever sends nothing. */
void http_connections_sweep(struct http_context *context, uint64_t request_ms);
/* MHD's unescaping, but %00 and what is no %XX stay as they are: a text never ends early.
 */
size_t http_unescape(void *context, struct MHD_Connection *connection, char *text);

enum MHD_Result http_request_local(void *context,
                                   struct MHD_Connection *connection,
                                   const char *url,
                                   const char *method,
                                   const char *version,
                                   const char *upload,
                                   size_t *upload_size,
                                   void **request);
enum MHD_Result http_request_remote(void *context,
                                    struct MHD_Connection *connection,
                                    const char *url,
                                    const char *method,
                                    const char *version,
                                    const char *upload,
                                    size_t *upload_size,
                                    void **request);
void http_request_completed(void *context,
                            struct MHD_Connection *connection,
                            void **request,
                            enum MHD_RequestTerminationCode code);
